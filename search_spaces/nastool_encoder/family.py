"""Encoders of the BERT type as a family of supernets: what the shared code asks for by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.space import Architecture
from nastool_encoder.architectures import KINDS, kind_of
from nastool_encoder.space import EncoderSpace
from nastool_supernets.heads import ENDS, HEADS, head_named, put_head
from nastool_supernets.slicing.family import SlicedFamily

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_encoder.modeling import Encoder as EncoderModel
    from nastool_supernets.slicing.checkpoints import Checkpoints
    from nastool_supernets.slicing.nets import SlicedShape, SlicedSupernet

_FURTHER = ("ForTokenClassification", "ForMultipleChoice", "ForNextSentencePrediction")
"""What names of models end with that are timed, and have none of the heads."""

_UNUSED = (
    "bert.pooler.",
    "roberta.pooler.",
    "cls.seq_relationship.",
    "bert.embeddings.position_ids",
    "roberta.embeddings.position_ids",
)
"""Weights that checkpoints have beside those of masked language modelling."""


class Encoder(SlicedFamily):
    """A checkpoint of the BERT type whose layers lose heads, channels, or all of them."""

    name = "encoder"
    space_class = EncoderSpace
    shape_type = next(iter(KINDS))
    further_types = tuple(KINDS)[1:]
    heads = HEADS
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

    def stock(self) -> Mapping[str, Any]:
        import transformers

        names = [f"{kind.classes}{end}" for kind in KINDS.values() for end in (*ENDS, *_FURTHER)]
        return {name: getattr(transformers, name) for name in names if hasattr(transformers, name)}

    def head_of(self, model: PreTrainedModel) -> str:
        return head_named(model, [*self.stock().values(), *self.carried().values()])

    def with_head(
        self, start: PreTrainedModel, head: str, labels: Sequence[str], seed: int
    ) -> PreTrainedModel:
        carried = self.carried()
        kinds, begin = self.stock(), kind_of(start.config).classes
        if type(start) in carried.values():
            kinds, begin = carried, f"Sliced{begin}"
        by_end = {name.removeprefix(begin): kind for name, kind in kinds.items()}
        return put_head(start, head, labels, seed, by_end)

    def shape_of(self, model: PreTrainedModel) -> Architecture:
        from nastool_supernets.slicing.shapes import shape_of

        return shape_of(model, ("num_attention_heads", kind_of(model.config).ffn))

    def load_shape(self, folder: Path) -> PreTrainedModel:
        from nastool_supernets.slicing.shapes import load_shape

        kinds = {**self.stock(), **self.carried()}
        # What it was pre-trained with beside: the next sentence, which nothing of ours predicts.
        kinds["BertForPreTraining"] = kinds["BertForMaskedLM"]
        return load_shape(folder, kinds, "encoder of the BERT type", _UNUSED)

    def checkpoints(self) -> Checkpoints:
        from nastool_encoder.checkpoints import CHECKPOINTS

        return CHECKPOINTS
