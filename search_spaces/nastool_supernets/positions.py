"""How long a text a model of transformers reads."""

from __future__ import annotations

from typing import Any

_AFTER_PADDING = frozenset(
    (
        "camembert",
        "data2vec-text",
        "ibert",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    )
)
"""Model types whose first token has the position after the number of the token for padding."""


_ANY = 1 << 31


def positions_of(config: Any) -> int:
    """Tokens of the longest text: 512 of a RoBERTa, whose table of positions has 514 rows.

    Args:
        config: Of a model of transformers, or of a supernet; one that says no length reads any.
    """
    rows = int(getattr(config, "max_position_embeddings", _ANY))
    return rows - config.pad_token_id - 1 if config.model_type in _AFTER_PADDING else rows
