"""The supernet and its shapes as the shared code trains, measures and cuts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nastool_supernets.corpus.targets import Targets
from nastool_supernets.genotypes import Genotype
from nastool_supernets.supernet import (
    Prediction,
    SingleShape,
    Stages,
    Supernet,
    check_captures,
    cross_entropies,
)
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.shaped_bert import ShapedBertForMaskedLM
from nastool_supershaper.space import from_config


class SuperShaperSupernet(Supernet):
    """The supernet: a genotype says which of the widths every layer takes.

    Args:
        model: Its weights.
    """

    model: SuperShaperForMaskedLM

    def __init__(self, model: SuperShaperForMaskedLM) -> None:
        super().__init__(model, from_config(model.config.to_dict()))
        self._widths = tuple(model.config.widths)

    def widths(self, genotype: Genotype) -> tuple[int, ...]:
        """Width of every layer."""
        return tuple(self._widths[choice] for choice in genotype)

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        if compiled:
            self.model.compile_layers()
        self.model.supershaper.gradient_checkpointing = checkpointing

    def capture(self, blocks: int, length: int, dtype: str) -> None:
        check_captures(self.model.device)
        self.model.supershaper.capture(blocks, length, dtype)

    def embed(self, input_ids: Tensor) -> Tensor:
        return self.model.supershaper.embed(input_ids)

    def predict(
        self, embedded: Tensor, targets: Targets, genotype: Genotype, *, states: bool = False
    ) -> Prediction:
        kept: list[Tensor] | None = [] if states else None
        widths = self.widths(genotype)
        logits, losses = self.model.predict_masked(embedded, targets, widths, states=kept)
        return Prediction(logits, losses, kept or ())

    def stages(self) -> Stages:
        return _Layers(self)

    def extract(self, genotype: Genotype) -> ShapedBertForMaskedLM:
        return self.model.extract(self.widths(genotype))

    def logits(self, inputs: Mapping[str, Tensor], genotype: Genotype) -> Tensor:
        logits: Tensor = self.model(**inputs, shape=self.widths(genotype)).logits
        return logits

    def flops(self, genotype: Genotype, blocks: int, length: int, n_targets: int) -> float:
        return forward_flops(self.model.config, self.widths(genotype), blocks, length, n_targets)

    def group_of(self, parameter: str) -> str:
        return "bottleneck" if "bottleneck" in parameter else super().group_of(parameter)


class _Layers(Stages):
    """A step a layer; the bottlenecks between two are merged once for all shapes."""

    def __init__(self, net: SuperShaperSupernet) -> None:
        self._net, self._backbone = net, net.model.supershaper
        self._merged = self._backbone.merge_bottlenecks()

    def keys(self, genotype: Genotype) -> tuple[int, ...]:
        return genotype

    def embed(self, input_ids: Tensor) -> Tensor:
        return self._net.embed(input_ids)

    def step(
        self, index: int, state: Tensor, genotype: Genotype, positions: Tensor | None
    ) -> Tensor:
        layer, widths = self._backbone.layers[index], self._net.widths(genotype)
        width = widths[index]
        if index == 0:
            x = layer.enter(state, width)
        else:
            weight, bias = self._merged[index - 1]
            x = F.linear(state, weight[:width, : widths[index - 1]], bias[:width])
        # Past `__call__`: a layer compiled for training is not compiled again for these sizes.
        return layer.forward(x, width, None, positions)

    def losses(self, state: Tensor, genotype: Genotype, targets: Targets) -> Tensor:
        hidden = self._backbone.layers[-1].leave(state, self._net.widths(genotype)[-1])
        return self._net.model.head_losses(targets.select(hidden), targets.tokens)


class ShapedBertNet(SingleShape):
    """One shape alone, its bottlenecks merged.

    Args:
        model: What a supernet's `extract` returned.
    """

    model: ShapedBertForMaskedLM
    _checkpointing = False

    def __init__(self, model: ShapedBertForMaskedLM) -> None:
        super().__init__(model, tuple(model.config.shape))
        self._run: Any = type(model.bert.layers[0]).forward

    def prepare(self, *, compiled: bool, checkpointing: bool) -> None:
        self._checkpointing = checkpointing
        if compiled:
            limits = torch._dynamo.config  # noqa: SLF001 - where torch keeps its limit
            # A graph for each pair of neighbouring widths.
            needed = 4 * len(self.model.bert.layers)
            limits.recompile_limit = max(limits.recompile_limit, needed)
            self._run = torch.compile(self._run, dynamic=False)

    def embed(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.model.bert.embeddings(input_ids)
        return embedded

    def predict(
        self, embedded: Tensor, targets: Targets, genotype: Genotype, *, states: bool = False
    ) -> Prediction:
        del genotype  # it is this one
        bert, hidden = self.model.bert, embedded
        kept: list[Tensor] = []
        for layer in bert.layers:
            if self._checkpointing and self.model.training:
                hidden = checkpoint(self._run, layer, hidden, None, use_reentrant=False)
            else:
                hidden = self._run(layer, hidden, None)
            if states:
                kept.append(hidden)
        logits = self.model.head(
            bert.final_bottleneck(targets.take(hidden)), bert.embeddings.words.weight
        )
        return Prediction(logits, cross_entropies(logits, targets.tokens), kept)

    def flops(self, genotype: Genotype, blocks: int, length: int, n_targets: int) -> float:
        del genotype
        return forward_flops(self.model.config, self.state_sizes(), blocks, length, n_targets)

    def group_of(self, parameter: str) -> str:
        return "bottleneck" if "bottleneck" in parameter else super().group_of(parameter)

    def state_sizes(self) -> list[int]:
        return list(self.model.config.shape)


def forward_flops(
    config: Any, shape: Sequence[int], blocks: int, length: int, n_masked: int
) -> float:
    """Count what a subnet's forward pass must compute, two operations a multiplication.

    Counted are the matrix products of the merged subnet, at masked positions only where no others
    are needed (the last layer's queries and feed-forward, the head): nothing that padding,
    recomputing or unmerged bottlenecks add.

    Args:
        config: Sizes of the supernet, or of the shape.
        shape: Width of every layer.
        blocks: Blocks of the batch.
        length: Tokens a block.
        n_masked: Masked tokens of the batch.
    """
    size, inner = config.hidden_size, config.intermediate_size
    tokens = blocks * length
    total = sum(tokens * before * after for before, after in pairwise((size, *shape)))
    for index, width in enumerate(shape):
        asked = n_masked if index == len(shape) - 1 else tokens
        # Keys and values; scores and their sums; queries, output projection and feed-forward.
        total += tokens * 2 * width**2
        total += asked * 2 * length * width
        total += asked * (2 * width**2 + 2 * width * inner)
    total += n_masked * (shape[-1] * size + size**2 + size * config.vocab_size)
    return 2.0 * total
