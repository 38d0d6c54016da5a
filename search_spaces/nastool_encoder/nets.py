"""An encoder as a supernet, and its shapes: how they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel

from nastool_encoder.shapes import cut_out
from nastool_supernets.genotypes import Genotype
from nastool_supernets.slicing.modeling import Slices, run_sliced
from nastool_supernets.slicing.nets import Running, SlicedShape, SlicedSupernet


class _Running(Running):
    norms_stay = True

    @staticmethod
    def attend(layer: Any, x: Tensor, slices: Slices | None, around: Tensor | None) -> Tensor:
        end = layer.attention.output
        if slices is None:
            return cast("Tensor", end.LayerNorm(x))
        found = run_sliced(layer.attention.self, slices, "attention.self", x, around)[0]
        return cast("Tensor", run_sliced(end, slices, "attention.output", found, x))

    @staticmethod
    def feed(layer: Any, x: Tensor, slices: Slices | None) -> Tensor:
        if slices is None:
            return cast("Tensor", layer.output.LayerNorm(x))
        inner = run_sliced(layer.intermediate, slices, "intermediate", x)
        return cast("Tensor", run_sliced(layer.output, slices, "output", inner, x))

    @property
    def layers(self) -> Sequence[Any]:
        return cast("Sequence[Any]", self.lm.base_model.encoder.layer)

    def embed(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        found = self.lm.base_model.embeddings(input_ids=input_ids, token_type_ids=segments)
        return cast("Tensor", found)

    def around(self, x: Tensor, attended: Tensor | None = None) -> Tensor | None:
        del x
        if attended is None or bool(attended.all()):
            return None
        return attended.bool()[:, None, None, :]

    def head(self, x: Tensor) -> Tensor:
        logits: Tensor = self.lm.cls(x)
        return logits


class EncoderSupernet(SlicedSupernet):
    """An encoder: a genotype says which heads and channels every layer keeps."""

    running_class = _Running

    def extract(self, genotype: Genotype) -> PreTrainedModel:
        return cut_out(self.model, self.architecture(genotype), self.kept(genotype))

    def group_of(self, parameter: str) -> str:
        return "head" if ".cls." in parameter else "body"


class EncoderShape(SlicedShape):
    """One shape alone: a model of transformers, or one whose layers differ."""

    running_class = _Running
