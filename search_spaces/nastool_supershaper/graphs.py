"""CUDA graphs of a supernet's layers: each layer at each width is one launch forward, one backward.

The kernels of a narrow layer are over sooner than a CPU has launched them, and a step of the
sandwich runs thousands: a graph launches all of a layer's at once. What a graph reads and writes
lies where it lay when it was captured, so that layers hand each other buffers, and gradients are
added to buffers that stay.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nastool_supershaper.carried.shaped_bert import ShapedBertLayer

if TYPE_CHECKING:
    from nastool_supershaper.modeling import SuperShaperLayer

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
        weight = layers[0].query.weight
        kind, device = getattr(torch, dtype), weight.device
        self.key = (blocks, length, dtype)
        self._shape = (blocks, length, weight.shape[0])
        self._dtype, self._device = kind, device.type
        # Before and after every layer: what it reads and hands on, and the gradients of that.
        self._states = [
            torch.zeros(self._shape, dtype=kind, device=device).requires_grad_() for _ in layers
        ]
        self._gradients = [torch.zeros_like(state) for state in self._states]
        captured = [p for layer in layers[:-1] for p in layer.parameters()]
        self._sums = [(p, torch.zeros_like(p)) for p in captured]
        self.attach()
        # Cast all at once before every pass: layer by layer, it would be hundreds of small kernels.
        self._weights = [p.detach() for p in captured]
        self._cast = [w.to(kind) for w in self._weights]
        cast: dict[Tensor, Tensor] = dict(zip(captured, self._cast, strict=True))
        self._forward: dict[tuple[int, int], Callable[[], None]] = {}
        self._backward: dict[tuple[int, int], Callable[[], None]] = {}
        run = _between(layers[0], backend)
        gc.collect()
        for index, layer in enumerate(layers[:-1]):
            # A layer has one width at a time: its graphs share the memory of their activations.
            capture = _Capture(device)
            for width in config.widths:
                passes = _Passes(
                    run,
                    layer,
                    cast,
                    width,
                    _sizes(config, width),
                    (self._states[index], self._states[index + 1]),
                    (self._gradients[index], self._gradients[index + 1]),
                )
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
        )

    def run(
        self, embedded: Tensor, shape: Sequence[int], states: list[Tensor] | None = None
    ) -> Tensor:
        """Run all layers but the last between their bottlenecks, (B, T, D) to (B, T, D).

        What is returned lies in a buffer that the next pass overwrites.

        Args:
            embedded: What the first layer reads.
            shape: Width of every layer.
            states: Gets a copy of what every one of them hands on; None where nobody asks.
        """
        if self._dtype != torch.float32:
            torch._foreach_copy_(self._cast, self._weights)
        hidden = embedded
        for index, width in enumerate(shape[:-1]):
            hidden = _Replay.apply(hidden, self, index, width)
            if states is not None:
                states.append(hidden.clone())
        return hidden

    def replay(self, index: int, width: int, hidden: Tensor) -> Tensor:
        """Run a layer's forward graph."""
        self._fill(self._states[index], hidden)
        self._forward[index, width]()
        return self._states[index + 1].detach()

    def replay_backward(self, index: int, width: int, gradient: Tensor) -> Tensor:
        """Run a layer's backward graph, which adds the gradients of its weights."""
        self._fill(self._gradients[index + 1], gradient)
        self._backward[index, width]()
        return self._gradients[index].detach()

    @staticmethod
    def _fill(buffer: Tensor, values: Tensor) -> None:
        if values.data_ptr() != buffer.data_ptr():
            buffer.copy_(values)


class _Passes:
    """What is captured of a layer at a width.

    Its weights are the parts that such a layer reads, in the number format of the products, and
    their gradients are added straight to where they belong.

    Args:
        run: Computes any layer, with the weights that it is given.
        layer: The layer.
        cast: Its weights in that format.
        width: Its width.
        sizes: The sizes of its weights at that width, by name.
        states: What it reads, and where it leaves what the next one reads.
        gradients: Those of both, in the same order.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, Tensor], Tensor, int], Tensor],
        layer: SuperShaperLayer,
        cast: Mapping[Tensor, Tensor],
        width: int,
        sizes: Mapping[str, Sequence[int]],
        states: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
    ) -> None:
        self._run, self._width = run, width
        self._states, self._gradients = states, gradients
        named = dict(layer.named_parameters())
        self._parts = {
            f"layer.{name}": (weight, tuple(slice(size) for size in sizes[name]), cast[weight])
            for name, weight in named.items()
        }
        self._weights: dict[str, Tensor] = {}
        self._output: Tensor | None = None

    def forward(self) -> None:
        reads, hands_on = self._states
        with torch.enable_grad(), _products_in(reads):
            self._weights = {
                name: weight[part].detach().requires_grad_()
                for name, (_, part, weight) in self._parts.items()
            }
            self._output = self._run(self._weights, reads, self._width)
        with torch.no_grad():
            hands_on.copy_(self._output)

    def backward(self) -> None:
        if self._output is None:
            return
        asked = [self._states[0], *self._weights.values()]
        first, *others = torch.autograd.grad(self._output, asked, self._gradients[1])
        self._output, self._weights = None, {}
        with torch.no_grad():
            self._gradients[0].copy_(first)
            for (weight, part, _), gradient in zip(self._parts.values(), others, strict=True):
                if weight.grad is not None:
                    weight.grad[part].add_(gradient)


class _Between(nn.Module):
    """A layer between its bottlenecks, (B, T, D) to (B, T, D)."""

    def __init__(self, layer: SuperShaperLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: Tensor, width: int) -> Tensor:
        return self.layer.leave(self.layer(self.layer.enter(hidden, width), width, None), width)


def _between(
    layer: SuperShaperLayer, backend: str | None
) -> Callable[[Mapping[str, Tensor], Tensor, int], Tensor]:
    """What computes any layer between its bottlenecks, compiled where a backend is named."""
    module = _Between(layer)

    def run(weights: Mapping[str, Tensor], hidden: Tensor, width: int) -> Tensor:
        computed: Tensor = functional_call(module, dict(weights), (hidden, width))
        return computed

    if backend is None:
        return run
    # Not dynamic: a graph with the width as a variable would be one slow graph for all.
    compiled: Callable[[Mapping[str, Tensor], Tensor, int], Tensor] = torch.compile(
        run, backend=backend, dynamic=False
    )
    return compiled


def _products_in(state: Tensor) -> AbstractContextManager[Any]:
    """The context in which a training pass runs; nothing that is cast in it outlives a capture."""
    if state.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(state.device.type, state.dtype, cache_enabled=False)


def _sizes(config: Any, width: int) -> Mapping[str, Sequence[int]]:
    """The sizes of a layer's weights at a width, by name."""
    size = config.hidden_size
    with torch.device("meta"):
        layer = ShapedBertLayer(config, size, width)
        bottlenecks = {
            "input_bottleneck": nn.Linear(size, width),
            "output_bottleneck": nn.Linear(width, size),
        }
    beside = {
        f"{name}.{part}": weight.shape
        for name, bottleneck in bottlenecks.items()
        for part, weight in bottleneck.named_parameters()
    }
    return {name: weight.shape for name, weight in layer.named_parameters()} | beside


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
    """A layer's graphs as one differentiable operation."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, graphs: LayerGraphs, index: int, width: int) -> Tensor:
        ctx.place, ctx.dtype = (graphs, index, width), hidden.dtype
        return graphs.replay(index, width, hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        graphs, index, width = ctx.place
        found = graphs.replay_backward(index, width, gradients[0])
        # What is read last is kept by its reader; all else is read before it is written again.
        return found.to(ctx.dtype, copy=index == 0), None, None, None
