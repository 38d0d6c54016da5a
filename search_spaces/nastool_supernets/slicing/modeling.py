"""The weights of a sliced checkpoint: a model of transformers, and what slices of it keep."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from nastool.errors import InvalidInputError
from nastool_supernets.genotypes import Genotype
from nastool_supernets.slicing.choices import levels, places
from nastool_supernets.slicing.config import SlicedConfig, stock_config
from nastool_supernets.slicing.space import Part, SlicedSpace


class Slices:
    """What a choice keeps of a part of one layer.

    Args:
        rows: By the end of a module's name, rows of its weight and of its bias that are kept.
        columns: The same for columns of its weight.
    """

    def __init__(
        self, rows: Mapping[str, Tensor] | None = None, columns: Mapping[str, Tensor] | None = None
    ) -> None:
        self._rows, self._columns = dict(rows or {}), dict(columns or {})

    def cut(self, name: str, weight: Tensor) -> Tensor:
        """What is kept of a parameter.

        Args:
            name: As `named_parameters` of the layer has it.
            weight: The whole one.
        """
        module, _, kind = name.rpartition(".")
        for end, kept in self._rows.items():
            if f".{module}".endswith(f".{end}"):
                return weight.index_select(0, kept)
        for end, kept in self._columns.items():
            if kind == "weight" and f".{module}".endswith(f".{end}"):
                return weight.index_select(1, kept)
        return weight


WHOLE = Slices()
"""All of a part."""

Kept = tuple[Slices | None, Slices | None]
"""What a layer keeps of attention and of its feed-forward block; None for what does not run."""


def run_sliced(module: Any, slices: Slices, path: str, *given: Any, **named: Any) -> Any:
    """Run a module of a layer with a part of its weights; whole ones are not touched.

    Args:
        module: The module.
        slices: What it keeps.
        path: Its name in the layer.
        given: What it reads.
        named: The same, by name.
    """
    if slices is WHOLE:
        return module(*given, **named)
    own = module.named_parameters()
    cut = {name: slices.cut(f"{path}.{name}", weight) for name, weight in own}
    return functional_call(module, cut, given, named)


def blocks_of(kept: Tensor, size: int) -> Tensor:
    """Rows of blocks of a size, by the places of the blocks."""
    return (kept[:, None] * size + torch.arange(size, device=kept.device)).flatten()


class Sliced(PreTrainedModel):
    """A checkpoint as it was, and how its layers are sliced.

    Slices keep the order of what they keep, and the largest one touches no weight: it is the
    checkpoint bit for bit, whatever is left out first.

    Args:
        config: Sizes.

    Raises:
        InvalidInputError: The configuration is damaged.
    """

    base_model_prefix = "lm"
    config: SlicedConfig

    space_class: ClassVar[type[SlicedSpace]]
    """What its choices are a space of."""

    auto: ClassVar[Any]
    """What makes the checkpoint's model of its configuration."""

    def __init__(self, config: SlicedConfig) -> None:
        super().__init__(config)
        self.space = self.space_class.from_config(config.to_dict())
        self.lm: PreTrainedModel = self.auto.from_config(
            stock_config(config.checkpoint), attn_implementation="sdpa"
        )
        for part in self.space.parts:
            texts, pieces = getattr(config, part.levels), getattr(self.space, part.most)
            if len(texts) != self.space.layers or {*map(len, texts)} != {pieces}:
                raise InvalidInputError(
                    f"{part.levels} must hold {self.space.layers} texts of {pieces} characters, "
                    f"got {len(texts)}"
                )
            # In some order, so that every choice keeps as many pieces as it says.
            expected = sorted(levels(range(pieces), [size for size in self.space.of(part) if size]))
            if damaged := [text for text in texts if sorted(text) != expected]:
                raise InvalidInputError(
                    f"{part.levels} must hold the characters of {''.join(expected)!r:.80} in some "
                    f"order, got {damaged[0]!r:.80}"
                )
        self._kept: dict[tuple[str, int, int], Tensor] = {}

    @property
    @abstractmethod
    def layers(self) -> Sequence[Any]:
        """The layers of the checkpoint."""

    @abstractmethod
    def ends(self, layer: Any) -> tuple[Any, Any]:
        """The projections by which attention and the feed-forward block of a layer end."""

    @abstractmethod
    def slices_of(self, part: Part, kept: Tensor) -> Slices:
        """What a part keeps by the places of its pieces."""

    def kept(self, layer: int, genotype: Genotype) -> Kept:
        """What a layer of a subnet keeps of both parts."""
        own = zip(self.space.parts, genotype[2 * layer : 2 * layer + 2], strict=True)
        attention, feed = (self._kept_of(layer, part, choice) for part, choice in own)
        return attention, feed

    def _kept_of(self, layer: int, part: Part, choice: int) -> Slices | None:
        sizes = self.space.of(part)
        if not sizes[choice]:
            return None
        if choice == len(sizes) - 1:
            return WHOLE
        key = (part.gene, layer, choice)
        found = self._kept.get(key)
        if found is None or found.device != self.device:
            text = getattr(self.config, part.levels)[layer]
            # Made while measuring, it is used while training, too.
            with torch.inference_mode(False):
                found = torch.tensor(places(text, sizes[choice], sizes), device=self.device)
            self._kept[key] = found
        return self.slices_of(part, found)

    def keep(self, levels: Mapping[str, Sequence[str]]) -> None:
        """Let smaller subnets keep other pieces.

        Args:
            levels: Texts of all layers by part, as the configuration holds them.
        """
        for name, texts in levels.items():
            setattr(cast("Any", self.config), name, list(texts))
        self._kept.clear()
