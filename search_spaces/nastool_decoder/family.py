"""Decoders of the Llama type as a family of supernets: what the shared code asks for by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError
from nastool.space import Architecture
from nastool_decoder.space import ARCHITECTURES, DecoderSpace
from nastool_supernets.slicing.family import SlicedFamily

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_decoder.modeling import Decoder as DecoderModel
    from nastool_supernets.slicing.checkpoints import Checkpoints
    from nastool_supernets.slicing.nets import SlicedShape, SlicedSupernet


class Decoder(SlicedFamily):
    """A checkpoint of the Llama type whose layers lose heads, channels, or all of them."""

    name = "decoder"
    space_class = DecoderSpace
    architectures = ARCHITECTURES
    """Types of checkpoints, and of the shapes that are cut out of them."""
    shape_type = architectures[0]
    further_types = architectures[1:]
    heads = ("causal-lm",)
    code = Path(__file__).parent / "carried" / "shaped_decoder.py"

    @property
    def model_class(self) -> type[DecoderModel]:
        from nastool_decoder.modeling import Decoder

        return Decoder

    def net_classes(self) -> tuple[type[SlicedSupernet], type[SlicedShape]]:
        from nastool_decoder.nets import DecoderShape, DecoderSupernet

        return DecoderSupernet, DecoderShape

    def carried(self) -> Mapping[str, Any]:
        from nastool_decoder.carried.shaped_decoder import MODELS

        return MODELS

    def stock(self) -> Mapping[str, Any]:
        import transformers

        from nastool_decoder.carried.shaped_decoder import ARCHITECTURES

        # Older releases of transformers lack some.
        names = [f"{name}ForCausalLM" for name in ARCHITECTURES]
        return {n: getattr(transformers, n) for n in names if hasattr(transformers, n)}

    def head_of(self, model: PreTrainedModel) -> str:
        if not type(model).__name__.endswith("ForCausalLM"):
            raise InvalidInputError(f"expected a causal language model, got {type(model).__name__}")
        return "causal-lm"

    def shape_of(self, model: PreTrainedModel) -> Architecture:
        from nastool_supernets.slicing.shapes import shape_of

        return shape_of(model, ("num_key_value_heads", "intermediate_size"))

    def load_shape(self, folder: Path) -> PreTrainedModel:
        from nastool_supernets.slicing.shapes import load_shape

        return load_shape(folder, {**self.stock(), **self.carried()}, "causal language model")

    def checkpoints(self) -> Checkpoints:
        from nastool_decoder.checkpoints import CHECKPOINTS

        return CHECKPOINTS
