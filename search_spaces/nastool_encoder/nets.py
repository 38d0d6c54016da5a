"""An encoder as a supernet, and its shapes: how they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel

from nastool_encoder.architectures import Block, kind_of
from nastool_encoder.modeling import Encoder
from nastool_encoder.shapes import cut_out
from nastool_supernets.genotypes import Genotype
from nastool_supernets.slicing.modeling import Slices, run_sliced
from nastool_supernets.slicing.nets import Running, SlicedShape, SlicedSupernet


class _Running(Running):
    norms_stay = True

    def __init__(self, lm: PreTrainedModel) -> None:
        self._kind = kind_of(lm.config)
        super().__init__(lm)

    def attend(self, layer: Any, x: Tensor, slices: Slices | None, around: Tensor | None) -> Tensor:
        return _normalised(self._kind.attention, layer, x, slices, around)

    def feed(self, layer: Any, x: Tensor, slices: Slices | None) -> Tensor:
        return _normalised(self._kind.feed, layer, x, slices)

    @property
    def layers(self) -> Sequence[Any]:
        return cast("Sequence[Any]", self.lm.base_model.get_submodule(self._kind.layers))

    def embed(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        # Some have no segments.
        named = {} if segments is None else {"token_type_ids": segments}
        return cast("Tensor", self.lm.base_model.embeddings(input_ids=input_ids, **named))

    def around(self, x: Tensor, attended: Tensor | None = None) -> Tensor | None:
        del x
        if attended is None or bool(attended.all()):
            return None
        return attended.bool()[:, None, None, :]

    def head(self, x: Tensor) -> Tensor:
        for name in self._kind.head:
            x = self.lm.get_submodule(name)(x)
        return x


def _normalised(block: Block, layer: Any, x: Tensor, slices: Slices | None, *given: Any) -> Tensor:
    """Run a part of a layer; of one that does not run its norm is left."""
    if slices is None:
        return cast("Tensor", layer.get_submodule(block.norm)(x))
    found = x
    for name in block.modules:
        found = run_sliced(layer.get_submodule(name), slices, name, found, *given)
        if given:  # attention, and what it has seen where
            found, given = found[0], ()
    return cast("Tensor", layer.get_submodule(block.norm)(found + x))


class EncoderSupernet(SlicedSupernet):
    """An encoder: a genotype says which heads and channels every layer keeps."""

    running_class = _Running
    model: Encoder

    def extract(self, genotype: Genotype) -> PreTrainedModel:
        return cut_out(self.model, self.architecture(genotype), self.kept(genotype))

    def group_of(self, parameter: str) -> str:
        return "body" if parameter.startswith(f"lm.{self.model.lm.base_model_prefix}.") else "head"


class EncoderShape(SlicedShape):
    """One shape alone: a model of transformers, or one whose layers differ."""

    running_class = _Running
