"""What encoders of the BERT type differ in: names of their classes, sizes and modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Block(NamedTuple):
    """One of the two parts of a layer, by names of its modules within the layer.

    What they compute is added to what the first one read, and normalised.

    Args:
        modules: Those that run, one after the other.
        rows: Linear maps whose rows are what the part can lose.
        columns: The one whose columns are.
        norm: What comes after the sum.
    """

    modules: tuple[str, ...]
    rows: tuple[str, ...]
    columns: str
    norm: str


class Kind(NamedTuple):
    """An architecture of transformers.

    Args:
        classes: What names of its classes begin with.
        head: Modules of the masked-LM head, one after the other.
        ffn: What its configuration calls the feed-forward size of its layers.
        layers: Where the encoder has its layers.
        attention: Their first part.
        feed: Their second one.
    """

    classes: str
    head: tuple[str, ...]
    ffn: str = "intermediate_size"
    layers: str = "encoder.layer"
    attention: Block = Block(
        ("attention.self", "attention.output.dense"),
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.output.dense",
        "attention.output.LayerNorm",
    )
    feed: Block = Block(
        ("intermediate", "output.dense"),
        ("intermediate.dense",),
        "output.dense",
        "output.LayerNorm",
    )


KINDS: Mapping[str, Kind] = {
    "bert": Kind("Bert", ("cls",)),
    "roberta": Kind("Roberta", ("lm_head",)),
    "xlm-roberta": Kind("XLMRoberta", ("lm_head",)),
    "camembert": Kind("Camembert", ("lm_head",)),
    "distilbert": Kind(
        "DistilBert",
        ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
        ffn="hidden_dim",
        layers="transformer.layer",
        attention=Block(
            ("attention",),
            ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
            "attention.out_lin",
            "sa_layer_norm",
        ),
        feed=Block(("ffn",), ("ffn.lin1",), "ffn.lin2", "output_layer_norm"),
    ),
}
"""By the model type of the checkpoints that supernets are made of, and of their shapes."""


def kind_of(config: Any) -> Kind:
    """The architecture of a checkpoint, or of a shape, by its configuration."""
    return KINDS[config.model_type]
