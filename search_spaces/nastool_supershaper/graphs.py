"""CUDA graphs of a supernet's layers: each layer at each width is one launch forward, one backward.

The kernels of a narrow layer are over sooner than a CPU has launched them, and a step of the
sandwich runs thousands: a graph launches all of a layer's at once. What a graph reads and writes
lies where it lay when it was captured, so that layers hand each other buffers, and gradients are
added to buffers that stay.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nastool_supershaper.modeling import SuperShaperLayer

_WARM_UP = 2
"""Passes before a capture, in which libraries choose their kernels."""


class LayerGraphs:
    """Graphs of all layers but the last, whose size depends on what is masked.

    Args:
        layers: All layers of the supernet.
        widths: The widths that a layer can take.
        blocks: Blocks of a batch.
        length: Tokens of a block.
        dtype: In which matrix products run: ``float32`` or ``bfloat16``.
    """

    def __init__(
        self,
        layers: Sequence[SuperShaperLayer],
        widths: Sequence[int],
        blocks: int,
        length: int,
        dtype: str,
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
        self._sums = [(p, torch.zeros_like(p)) for layer in layers[:-1] for p in layer.parameters()]
        self.attach()
        self._forward: dict[tuple[int, int], Callable[[], None]] = {}
        self._backward: dict[tuple[int, int], Callable[[], None]] = {}
        gc.collect()
        for index, layer in enumerate(layers[:-1]):
            # A layer has one width at a time: its graphs share the memory of their activations.
            capture = _Capture(device)
            for width in widths:
                passes = _Passes(self, index, layer, width)
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

    def pass_of(self, index: int, layer: SuperShaperLayer, width: int) -> Tensor:
        """Compute a layer's output from what is to be read there."""
        # Weights that were cast for one pass must not be taken for those of a later one.
        with (
            nullcontext()
            if self._dtype == torch.float32
            else torch.autocast(self._device, self._dtype, cache_enabled=False)
        ):
            return layer.leave(layer(layer.enter(self._states[index], width), width, None), width)

    def hand_on(self, index: int, output: Tensor) -> None:
        """Put a layer's output where the next one reads it."""
        with torch.no_grad():
            self._states[index + 1].copy_(output)

    def add_up(self, index: int, layer: SuperShaperLayer, output: Tensor) -> None:
        """Add the gradients of a layer's weights, and put those of its input in their place."""
        weights = list(layer.parameters())
        first, *others = torch.autograd.grad(
            output, [self._states[index], *weights], self._gradients[index + 1]
        )
        with torch.no_grad():
            self._gradients[index].copy_(first)
            for parameter, gradient in zip(weights, others, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(gradient)


class _Passes:
    """What is captured of a layer at a width."""

    def __init__(
        self, graphs: LayerGraphs, index: int, layer: SuperShaperLayer, width: int
    ) -> None:
        self._graphs, self._index, self._layer, self._width = graphs, index, layer, width
        self._output: Tensor | None = None

    def forward(self) -> None:
        with torch.enable_grad():
            self._output = self._graphs.pass_of(self._index, self._layer, self._width)
        self._graphs.hand_on(self._index, self._output)

    def backward(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            self._graphs.add_up(self._index, self._layer, output)


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
