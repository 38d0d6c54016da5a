"""Encoders of the BERT type as a family of supernets: what the shared code asks for by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError
from nastool.space import Architecture
from nastool_encoder.space import ARCHITECTURES, EncoderSpace
from nastool_supernets.family import Options
from nastool_supernets.slicing.family import SlicedFamily

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_encoder.modeling import Encoder as EncoderModel
    from nastool_supernets.slicing.nets import SlicedShape, SlicedSupernet


class Encoder(SlicedFamily):
    """A checkpoint of the BERT type whose layers lose heads, channels, or all of them."""

    name = "encoder"
    space_class = EncoderSpace
    shape_type = ARCHITECTURES[0]
    heads = ("masked-lm",)
    code = Path(__file__).parent / "carried" / "sliced_bert.py"

    @property
    def model_class(self) -> type[EncoderModel]:
        from nastool_encoder.modeling import Encoder

        return Encoder

    def net_classes(self) -> tuple[type[SlicedSupernet], type[SlicedShape]]:
        from nastool_encoder.nets import EncoderShape, EncoderSupernet

        return EncoderSupernet, EncoderShape

    def carried(self) -> Mapping[str, Any]:
        from nastool_encoder.carried.sliced_bert import MODELS

        return MODELS

    def head_of(self, model: PreTrainedModel) -> str:
        if not type(model).__name__.endswith("ForMaskedLM"):
            raise InvalidInputError(f"expected a masked language model, got {type(model).__name__}")
        return "masked-lm"

    def shape_of(self, model: PreTrainedModel) -> Architecture:
        from nastool_supernets.slicing.shapes import shape_of

        return shape_of(model, ("num_attention_heads", "intermediate_size"))

    def load_shape(self, folder: Path) -> PreTrainedModel:
        from nastool_supernets.slicing.shapes import load_shape

        return load_shape(folder, self.carried(), ("ForMaskedLM",), "masked language model")

    def read(self, source: str, choices: Options, *, skips: bool) -> EncoderModel:
        from nastool_encoder.checkpoints import from_checkpoint

        return from_checkpoint(source, choices, skips=skips)

    def space_of(self, source: str, choices: Options, *, skips: bool) -> EncoderSpace:
        from nastool_encoder.checkpoints import space_of

        return space_of(source, choices, skips=skips)
