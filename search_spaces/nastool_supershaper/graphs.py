"""CUDA graphs of a supernet's layers: each layer at each width is one launch forward, one backward.

The kernels of a narrow layer are over sooner than a CPU has launched them, and a step of the
sandwich runs thousands: a graph launches all of a layer's at once. What a graph reads and writes
lies where it lay when it was captured. The bottlenecks between two layers, of which there are as
many as pairs of widths, run by themselves from one's buffer to the other's; gradients are added to
buffers that stay.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from nastool_supershaper.carried.shaped_bert import ShapedBertLayer
from nastool_supershaper.layers import SuperShaperLayer

_WARM_UP = 2
"""Passes before a capture, in which libraries choose their kernels."""


class LayerGraphs:
    """Graphs of all layers but the last, whose size depends on what is masked.

    Args:
        layers: All layers of the supernet.
        config: Its sizes.
        blocks: Blocks of a batch.
        length: Tokens of a block.
        dtype: In which matrix products run: ``float32`` or ``bfloat16``.
        backend: What torch.compile makes the kernels by, as it names it, a graph a width for all
            layers; None for torch's own.
    """

    def __init__(
        self,
        layers: Sequence[SuperShaperLayer],
        config: Any,
        blocks: int,
        length: int,
        dtype: str,
        backend: str | None = None,
    ) -> None:
        device, kind = layers[0].query.weight.device, getattr(torch, dtype)
        self.key = (blocks, length, dtype)
        self._shape = (blocks, length, config.hidden_size)
        self._dtype, self._device = kind, device.type
        # What every layer reads and makes; the gradients of both are of one layer at a time.
        *self._states, self._gradients = [
            [torch.zeros(math.prod(self._shape), dtype=kind, device=device) for _ in range(2)]
            for _ in layers
        ]
        sizes = {width: _sizes(config, width) for width in config.widths}
        names = sizes[config.hidden_size]
        weights = [{name: layer.get_parameter(name) for name in names} for layer in layers[:-1]]
        # Every weight, it in the format of products, and where its gradients are summed.
        own = {
            p: (p.detach().to(kind), torch.zeros_like(p))
            for named in weights
            for p in named.values()
        }
        self._bottlenecks = _Bottlenecks(layers, kind)
        parts = [*((p, *beside) for p, beside in own.items()), *self._bottlenecks.parts]
        self._sums = [(p, total) for p, _, total in parts]
        self._casts = [
            (cast, p.detach()) for p, cast, _ in parts if cast.data_ptr() != p.data_ptr()
        ]
        self.attach()
        self._forward: dict[tuple[int, int], Callable[[], None]] = {}
        self._backward: dict[tuple[int, int], Callable[[], None]] = {}
        run, add = _running(layers[0]), _add
        if backend is not None:
            # Not dynamic: a graph with the width as a variable would be one slow graph for all.
            run = torch.compile(run, backend=backend, dynamic=False)
            add = torch.compile(add, backend=backend, dynamic=False)
        gc.collect()
        for index, named in enumerate(weights):
            # A layer has one width at a time: its graphs share the memory of their activations.
            capture = _Capture(device)
            for width in config.widths:
                cut = {n: [x[sizes[width][n]] for x in own[p]] for n, p in named.items()}
                passes = _Passes(run, add, cut, width, self._places(index, width))
                for _ in range(_WARM_UP):
                    capture.warm_up(passes.forward, passes.backward)
                self._forward[index, width] = capture(passes.forward)
                self._backward[index, width] = capture(passes.backward)

    def attach(self) -> None:
        """Let the parameters' gradients be summed where the graphs sum them, from zero."""
        for parameter, total in self._sums:
            parameter.grad = total.zero_()

    def fit(self, embedded: Tensor) -> bool:
        """Whether a pass over these embeddings is one that was captured."""
        kind = torch.float32
        if torch.is_autocast_enabled(self._device):
            kind = torch.get_autocast_dtype(self._device)
        return (
            embedded.requires_grad
            and torch.is_grad_enabled()
            and tuple(embedded.shape) == self._shape
            and kind == self._dtype
            and len(self._forward) > 0
        )

    def run(self, x: Tensor, shape: Sequence[int], states: list[Tensor] | None = None) -> Tensor:
        """Run all layers but the last, (B, T, h) to (B, T, h).

        What is returned lies in a buffer that the next pass overwrites.

        Args:
            x: What the first of them reads.
            shape: Width of every layer.
            states: Gets what is handed on between them, (B, T, D) each; None where nobody asks, so
                that every two bottlenecks can be one map.
        """
        x, *between = _Replay.apply(x, self, tuple(shape[:-1]), states is None)
        if states is not None:
            states += between
        return x

    def replay(
        self, x: Tensor, widths: Sequence[int], merged: bool
    ) -> tuple[Tensor, Sequence[_Maps]]:
        """Run the forward graphs, and the maps between them."""
        if self._casts:
            # All at once: layer by layer, it would be hundreds of small kernels.
            casts, weights = zip(*self._casts, strict=True)
            torch._foreach_copy_(casts, weights)
        *first, last = maps = self._bottlenecks.maps(merged)
        for index, width in enumerate(widths):
            reads, made, *_ = self._places(index, width)
            if index == 0:
                reads.copy_(x)
            else:
                for leaving in first:
                    x = leaving.run(x, self._shape[-1])
                last.run(x, width, reads)
            self._forward[index, width]()
            x = made
        return x, maps

    def replay_backward(
        self,
        gradient: Tensor,
        widths: Sequence[int],
        maps: Sequence[_Maps],
        beside: Sequence[Tensor | None],
    ) -> Tensor:
        """Run all of it backwards, which adds the gradients of weights.

        Args:
            gradient: Of what the last of the layers made.
            widths: Those of the pass.
            maps: From the same pass.
            beside: What else is known of the gradients of the states between layers.
        """
        *_, asked = self._places(-1, widths[-1])
        asked.copy_(gradient)
        for index in reversed(range(len(widths))):
            self._backward[index, widths[index]]()
            gradient = self._places(index, widths[index])[2]
            if index > 0:
                for entering in maps[1:]:
                    gradient = entering.run_backward(gradient)
                    if (other := beside[index - 1]) is not None:
                        gradient += other
                maps[0].run_backward(gradient, self._places(index, widths[index - 1])[3])
        self._bottlenecks.add(maps)
        return gradient

    def _places(self, index: int, width: int) -> list[Tensor]:
        """What a layer reads and makes at a width, and the gradients of both, (B, T, h) each."""
        size = (*self._shape[:2], width)
        return [x[: math.prod(size)].view(size) for x in (*self._states[index], *self._gradients)]


class _Bottlenecks:
    """Those between layers that are captured, stacked: weights (n, D, D) and biases (n, D).

    Args:
        layers: All layers.
        dtype: In which products run.
    """

    def __init__(self, layers: Sequence[SuperShaperLayer], dtype: torch.dtype) -> None:
        leaving = [layer.output_bottleneck for layer in layers[:-2]]
        entering = [layer.input_bottleneck for layer in layers[1:-1]]
        groups = [
            [end.get_parameter(name) for end in ends]
            for ends in (leaving, entering)
            for name in ("weight", "bias")
        ]
        like = [*layers[0].input_bottleneck.parameters()] * 2
        self._cast = [x.new_zeros(len(leaving), *x.shape, dtype=dtype) for x in like]
        self._totals = [x.new_zeros(len(leaving), *x.shape) for x in like]
        # Every one of them, it in that format, and where its gradients are summed.
        self.parts = [
            part
            for stacks in zip(groups, self._cast, self._totals, strict=True)
            for part in zip(*stacks, strict=True)
        ]

    def maps(self, merged: bool) -> Sequence[_Maps]:
        """What is between layers in one pass: a map, or two with a state between them.

        The inner dimension of a product is D at every shape, so that the map of two widths is its
        leading rows and columns.
        """
        self._read = [cast.detach().requires_grad_() for cast in self._cast]
        leaving, leaving_bias, entering, entering_bias = self._read
        if not merged:
            return _Maps(leaving, leaving_bias), _Maps(entering, entering_bias)
        with torch.enable_grad():
            bias = (entering @ leaving_bias[..., None]).squeeze(-1) + entering_bias
            return (_Maps(entering @ leaving, bias),)

    def add(self, maps: Sequence[_Maps]) -> None:
        """Add the gradients of a pass."""
        outputs = [x for one in maps for x in (one.weight, one.bias)]
        gradients = [x for one in maps for x in one.gradients]
        torch._foreach_add_(self._totals, torch.autograd.grad(outputs, self._read, gradients))


class _Maps:
    """A linear map after every layer but the last, in one pass, from the first one on.

    Args:
        weight: (n, D, D), whose leading rows and columns are used.
        bias: (n, D).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.gradients = torch.zeros_like(weight), torch.zeros_like(bias)
        self.read: list[Tensor] = []

    def run(self, x: Tensor, width: int, out: Tensor | None = None) -> Tensor:
        """Run the next map, (B, T, h) to (B, T, width)."""
        index, flat = len(self.read), x.flatten(0, 1)
        self.read.append(x)
        weight, bias = self.weight[index, :width, : x.shape[-1]], self.bias[index, :width]
        out = None if out is None else out.flatten(0, 1)
        return torch.addmm(bias, flat, weight.T, out=out).unflatten(0, x.shape[:2])

    def run_backward(self, gradient: Tensor, out: Tensor | None = None) -> Tensor:
        """Run the last one backwards that was not yet, (B, T, width) to (B, T, h)."""
        x, flat = self.read.pop(), gradient.flatten(0, 1)
        part = (len(self.read), slice(flat.shape[-1]), slice(x.shape[-1]))
        of_weight, of_bias = self.gradients
        torch.mm(flat.T, x.flatten(0, 1), out=of_weight[part])
        torch.sum(flat, 0, out=of_bias[part[:2]])
        out = None if out is None else out.flatten(0, 1)
        return torch.mm(flat, self.weight[part], out=out).unflatten(0, x.shape[:2])


class _Passes:
    """What is captured of a layer at a width.

    Args:
        run: Computes any layer, with the weights that it is given.
        add: Adds gradients to the parts of others.
        parts: By name the parts of its weights that such a layer reads, in the number format of
            the products, and where their gradients are added.
        width: Its width.
        places: What it reads, where it leaves what it makes, and the gradients of both.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, Tensor], Tensor, int], Tensor],
        add: Callable[[list[Tensor], list[Tensor]], None],
        parts: Mapping[str, Sequence[Tensor]],
        width: int,
        places: Sequence[Tensor],
    ) -> None:
        self._run, self._add, self._parts, self._width = run, add, parts, width
        reads, self._made, *self._gradients = places
        self._reads = reads.requires_grad_()
        self._weights: dict[str, Tensor] = {}
        self._output: Tensor | None = None

    def forward(self) -> None:
        with torch.enable_grad(), _products_in(self._reads):
            self._weights = {
                name: weight.detach().requires_grad_() for name, (weight, _) in self._parts.items()
            }
            self._output = self._run(self._weights, self._reads, self._width)
        with torch.no_grad():
            self._made.copy_(self._output)

    def backward(self) -> None:
        if self._output is None:
            return
        asked = [self._reads, *self._weights.values()]
        first, *others = torch.autograd.grad(self._output, asked, self._gradients[1])
        self._output, self._weights = None, {}
        with torch.no_grad():
            self._gradients[0].copy_(first)
            self._add([total for _, total in self._parts.values()], others)


def _running(layer: SuperShaperLayer) -> Callable[[Mapping[str, Tensor], Tensor, int], Tensor]:
    """What computes any layer, with weights that it is given."""

    def run(weights: Mapping[str, Tensor], x: Tensor, width: int) -> Tensor:
        computed: Tensor = functional_call(layer, dict(weights), (x, width, None))
        return computed

    return run


def _add(totals: list[Tensor], gradients: list[Tensor]) -> None:
    """Add gradients to parts of weights' gradients; compiled, all by a few kernels."""
    torch._foreach_add_(totals, gradients)


def _products_in(state: Tensor) -> AbstractContextManager[Any]:
    """The context in which a training pass runs; nothing that is cast in it outlives a capture."""
    if state.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(state.device.type, state.dtype, cache_enabled=False)


def _sizes(config: Any, width: int) -> Mapping[str, tuple[slice, ...]]:
    """The parts of a layer's weights that are used at a width, by name."""
    with torch.device("meta"):
        layer = ShapedBertLayer(config, config.hidden_size, width)
    return {
        name: tuple(slice(size) for size in weight.shape)
        for name, weight in layer.named_parameters()
        if not name.startswith("bottleneck.")
    }


class _Capture:
    """Captures on a stream, into memory, of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = torch.cuda.graph_pool_handle()

    def warm_up(self, *parts: Callable[[], None]) -> None:
        """Run what is going to be captured."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for part in parts:
                part()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def __call__(self, part: Callable[[], None]) -> Callable[[], None]:
        """Return what runs the kernels that a part would launch."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self._device)
        # Not `torch.cuda.graph`, which collects all garbage before every capture.
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool)
            try:
                part()
            finally:
                graph.capture_end()
        return graph.replay


class _Replay(torch.autograd.Function):
    """All captured layers as one differentiable operation."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, graphs: LayerGraphs, widths: Sequence[int], merged: bool
    ) -> tuple[Tensor, ...]:
        made, maps = graphs.replay(x, widths, merged)
        ctx.set_materialize_grads(False)
        ctx.passed = (graphs, widths, maps)
        states = [] if merged else maps[-1].read
        return made.detach(), *(state.detach() for state in states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        graphs, widths, maps = ctx.passed
        gradient, *beside = gradients
        # What is returned is read before it is written again.
        return graphs.replay_backward(gradient, widths, maps, beside), None, None, None
