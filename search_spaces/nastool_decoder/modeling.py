"""The weights of a supernet: a causal language model of transformers, and what slices keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from nastool.errors import InvalidInputError
from nastool_decoder.decoder_config import DecoderConfig, stock_config
from nastool_decoder.space import DecoderSpace, from_config

MOST_CHOICES = 36
"""Choices other than none that a character can tell apart."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def levels(order: Sequence[int], choices: Sequence[int]) -> str:
    """Write down which choices keep which parts.

    Args:
        order: Places of all parts, the ones that are kept longest first.
        choices: How many parts each choice other than none keeps, ascending; the last keeps all.
    """
    found = [""] * len(order)
    for rank, place in enumerate(order):
        found[place] = _DIGITS[sum(rank >= choice for choice in choices)]
    return "".join(found)


class Slices:
    """What a choice keeps of one layer; None stands for all of it, or for parts that do not run.

    Args:
        queries: Rows of the queries, and columns of attention's output.
        keys: Rows of keys and values.
        channels: Of the feed-forward block.
    """

    def __init__(
        self,
        queries: Tensor | None = None,
        keys: Tensor | None = None,
        channels: Tensor | None = None,
    ) -> None:
        rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        self._rows = {**rows, "gate_proj": channels, "up_proj": channels}
        self._columns = {"o_proj": queries, "down_proj": channels}

    def cut(self, name: str, weight: Tensor) -> Tensor:
        """What is kept of a parameter.

        Args:
            name: As `named_parameters` of the layer, or of a part of it, has it.
            weight: The whole one.
        """
        module, _, kind = name.rpartition(".")
        module = module.rpartition(".")[2]
        kept, dimension = self._rows.get(module), 0
        if module in self._columns and kind == "weight":
            kept, dimension = self._columns[module], 1
        return weight if kept is None else weight.index_select(dimension, kept)


class Decoder(PreTrainedModel):
    """A checkpoint as it was, and how its layers are sliced.

    Slices keep the order of what they keep, and the largest one touches no weight: it is the
    checkpoint bit for bit, whatever is left out first.

    Args:
        config: Sizes.
    """

    config_class = DecoderConfig
    base_model_prefix = "lm"
    config: DecoderConfig

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.space: DecoderSpace = from_config(config.to_dict())
        make: Any = AutoModelForCausalLM
        self.lm: PreTrainedModel = make.from_config(
            stock_config(config.checkpoint), attn_implementation="sdpa"
        )
        for name, parts in (("kv_levels", self.space.groups), ("ffn_levels", self.space.ffn)):
            texts = getattr(config, name)
            if len(texts) != self.space.layers or {*map(len, texts)} != {parts}:
                raise InvalidInputError(
                    f"{name} must hold {self.space.layers} texts of {parts} characters, got "
                    f"{len(texts)}"
                )
        self._kept: dict[tuple[str, int, int], Tensor] = {}

    @property
    def layers(self) -> Sequence[Any]:
        """The layers of the checkpoint."""
        return cast("Any", self.lm).model.layers

    def groups(self, layer: int, number: int) -> Slices:
        """What attention keeps with a number of key-value groups, more than none."""
        space = self.space
        kept = self._places("kv_levels", layer, number, space.kvs)
        if kept is None:
            return Slices()
        return Slices(
            _blocks(kept, space.heads // space.groups * space.head_dim),
            _blocks(kept, space.head_dim),
        )

    def channels(self, layer: int, number: int) -> Slices:
        """What the feed-forward block keeps of a size, more than none."""
        return Slices(channels=self._places("ffn_levels", layer, number, self.space.ffns))

    def _places(self, name: str, layer: int, number: int, choices: Sequence[int]) -> Tensor | None:
        """Places of the parts that are kept, ascending; None for all."""
        if number == choices[-1]:
            return None
        key = (name, layer, number)
        found = self._kept.get(key)
        if found is None or found.device != self.device:
            level = [choice for choice in choices if choice].index(number)
            text = getattr(self.config, name)[layer]
            places = [place for place, digit in enumerate(text) if int(digit, 36) <= level]
            # Made while measuring, it is used while training, too.
            with torch.inference_mode(False):
                found = self._kept[key] = torch.tensor(places, device=self.device)
        return found

    def forgotten(self) -> None:
        """Forget what slices keep: the levels have changed."""
        self._kept.clear()


def _blocks(places: Tensor, size: int) -> Tensor:
    """Rows of blocks of a size, by the places of the blocks."""
    return (places[:, None] * size + torch.arange(size, device=places.device)).flatten()
