"""Sliced checkpoints, and their shapes, as the shared code trains, measures and cuts them.

What runs are the modules of transformers themselves, with a part of their weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from nastool.space import Architecture
from nastool_supernets.corpus.targets import Targets
from nastool_supernets.genotypes import Genotype
from nastool_supernets.slicing.modeling import WHOLE, Kept, Sliced, Slices
from nastool_supernets.supernet import Prediction, SingleShape, Stages, Supernet, cross_entropies


class Running(ABC):
    """How a language model of transformers runs, part by part.

    Args:
        lm: The model.
    """

    norms_stay: ClassVar[bool] = False
    """Whether a part that does not run leaves its norm, unless the layer is left out."""

    def __init__(self, lm: PreTrainedModel) -> None:
        self.lm: Any = lm
        self._attend: Any = self.attend
        self._feed: Any = self.feed
        self._checkpointing = False
        # A run that goes on is one that never stopped: what ships keeps its dropout.
        for module in lm.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if "attention_dropout" in vars(module):  # of decoders, a number
                vars(module)["attention_dropout"] = 0.0

    @abstractmethod
    def attend(self, layer: Any, x: Tensor, slices: Slices | None, around: Any) -> Tensor:
        """What comes out of attention, (B, T, D).

        Args:
            layer: Of transformers.
            x: What it reads.
            slices: What it keeps of its heads; None where it does not run.
            around: From `around`.
        """

    @abstractmethod
    def feed(self, layer: Any, x: Tensor, slices: Slices | None) -> Tensor:
        """What comes out of the feed-forward block, (B, T, D).

        Args:
            layer: Of transformers.
            x: What it reads.
            slices: What it keeps of its channels; None where it does not run.
        """

    @property
    @abstractmethod
    def layers(self) -> Sequence[Any]:
        """The layers of transformers."""

    @abstractmethod
    def embed(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """Embed tokens, (B, T) to (B, T, D), of segments where it tells them apart."""

    @abstractmethod
    def around(self, x: Tensor, attended: Tensor | None = None) -> Any:
        """What attention needs beside hidden states, the same in all layers.

        Args:
            x: Embedded tokens, (B, T, D).
            attended: (B, T), 0 for padding; None where there is none.
        """

    @abstractmethod
    def head(self, x: Tensor) -> Tensor:
        """Logits from hidden states, (..., D) to (..., V)."""

    def prepare(self, *, compiled: bool, checkpointing: bool, graphs: int) -> None:
        """See `Net.prepare`.

        Args:
            compiled: Whether the parts are compiled.
            checkpointing: Whether they compute activations twice.
            graphs: How many sizes there are.
        """
        self._checkpointing = checkpointing
        if compiled:
            limits = torch._dynamo.config  # noqa: SLF001 - where torch keeps its limit
            limits.recompile_limit = max(limits.recompile_limit, graphs)
            self._attend = torch.compile(self.attend, dynamic=False)
            self._feed = torch.compile(self.feed, dynamic=False)

    def layer(self, index: int, x: Tensor, around: Any, kept: Kept) -> Tensor:
        """Run a layer with what it keeps; one that keeps nothing is left out."""
        if kept == (None, None):
            return x
        layer, (heads, channels) = self.layers[index], kept
        x = self._run(self._attend, layer, x, heads, around)
        return self._run(self._feed, layer, x, channels)

    def _run(self, part: Any, *given: Any) -> Tensor:
        if self._checkpointing and self.lm.training:
            return cast("Tensor", checkpoint(part, *given, use_reentrant=False))
        return cast("Tensor", part(*given))


class SlicedSupernet(Supernet):
    """A checkpoint: a genotype says what every layer keeps.

    Args:
        model: Its weights.
    """

    running_class: ClassVar[type[Running]]
    model: Sliced

    def __init__(self, model: Sliced) -> None:
        super().__init__(model, model.space)
        self.running = self.running_class(model.lm)

    @abstractmethod
    def extract(self, genotype: Genotype) -> PreTrainedModel: ...

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        # Each layer's own indices are data; the sizes are what graphs are made for.
        space = self.model.space
        graphs = 4 * sum(len(space.of(part)) for part in space.parts) + 8
        self.running.prepare(compiled=compiled, checkpointing=checkpointing, graphs=graphs)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.running.embed(input_ids)

    def kept(self, genotype: Genotype) -> list[Kept]:
        """What every layer keeps."""
        return [self.model.kept(index, genotype) for index in range(self.model.space.layers)]

    def _through(
        self, x: Tensor, genotype: Genotype, around: Any, states: list[Tensor] | None = None
    ) -> Tensor:
        for index, kept in enumerate(self.kept(genotype)):
            if index > 0 and states is not None:
                states.append(x)
            x = self.running.layer(index, x, around, kept)
        return x

    def predict(
        self, embedded: Tensor, targets: Targets, genotype: Genotype, *, states: bool = False
    ) -> Prediction:
        seen: list[Tensor] | None = [] if states else None
        x = self._through(embedded, genotype, self.running.around(embedded), seen)
        logits = self.running.head(targets.take(x))
        return Prediction(logits, cross_entropies(logits, targets.tokens), seen or ())

    def logits(self, inputs: Mapping[str, Tensor], genotype: Genotype) -> Tensor:
        x = self.running.embed(inputs["input_ids"], inputs.get("token_type_ids"))
        around = self.running.around(x, inputs.get("attention_mask"))
        return self.running.head(self._through(x, genotype, around))

    def stages(self) -> Stages:
        return _Parts(self)

    def flops(self, genotype: Genotype, blocks: int, length: int, n_targets: int) -> float:
        space = self.model.space
        head = space.macs(genotype, 1, 1) - space.macs(genotype, 1, 0)
        return 2.0 * (blocks * space.macs(genotype, length, 0) + n_targets * head)


class _Parts(Stages):
    """Two steps a layer, as many as there are genes: attention, then the feed-forward block."""

    def __init__(self, net: SlicedSupernet) -> None:
        self._net = net
        self._around: dict[tuple[int, torch.dtype], Any] = {}

    def keys(self, genotype: Genotype) -> tuple[int, ...]:
        if not self._net.running.norms_stay:
            return genotype
        # Without attention, what follows says whether its norm is there.
        return tuple(
            -1 if place % 2 == 0 and self._is_left_out(place // 2, genotype) else choice
            for place, choice in enumerate(genotype)
        )

    def _is_left_out(self, layer: int, genotype: Genotype) -> bool:
        space = self._net.model.space
        own = zip(space.parts, genotype[2 * layer : 2 * layer + 2], strict=True)
        return not any(space.of(part)[choice] for part, choice in own)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self._net.embed(input_ids)

    def step(
        self, index: int, state: Tensor, genotype: Genotype, positions: Tensor | None
    ) -> Tensor:
        place, is_feed = divmod(index, 2)
        if positions is not None:
            state = state.gather(1, positions[..., None].expand(-1, -1, state.shape[-1]))
        if self._is_left_out(place, genotype):
            return state
        heads, channels = self._net.model.kept(place, genotype)
        running = self._net.running
        layer = running.layers[place]
        if is_feed:
            return running.feed(layer, state, channels)
        return running.attend(layer, state, heads, self._surroundings(state))

    def losses(self, state: Tensor, genotype: Genotype, targets: Targets) -> Tensor:
        del genotype  # all share the head
        return cross_entropies(self._net.running.head(targets.select(state)), targets.tokens)

    def _surroundings(self, state: Tensor) -> Any:
        key = (state.shape[1], state.dtype)
        if key not in self._around:
            self._around[key] = self._net.running.around(state)
        return self._around[key]


class SlicedShape(SingleShape):
    """One shape alone: a model of transformers, or one whose layers differ.

    Args:
        model: What a supernet's `extract` returned, or a checkpoint.
        shape: Its choices.
    """

    running_class: ClassVar[type[Running]]

    def __init__(self, model: PreTrainedModel, shape: Architecture) -> None:
        super().__init__(model, shape)
        self.running = self.running_class(model)

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        graphs = 4 * len({*self.shape}) + 8
        self.running.prepare(compiled=compiled, checkpointing=checkpointing, graphs=graphs)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.running.embed(input_ids)

    def predict(
        self, embedded: Tensor, targets: Targets, genotype: Genotype, *, states: bool = False
    ) -> Prediction:
        del genotype  # it is this one
        x, around = embedded, self.running.around(embedded)
        seen: list[Tensor] = []
        for index in range(len(self.running.layers)):
            x = self.running.layer(index, x, around, (WHOLE, WHOLE))
            if states:
                seen.append(x)
        logits = self.running.head(targets.take(x))
        return Prediction(logits, cross_entropies(logits, targets.tokens), seen)
