"""How long a text a model of transformers reads."""

from __future__ import annotations

from typing import Any

from nastool.errors import InvalidInputError

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

    Raises:
        InvalidInputError: Positions begin after the token for padding, and there is none.
    """
    rows = int(getattr(config, "max_position_embeddings", _ANY))
    if config.model_type not in _AFTER_PADDING:
        return rows
    if config.pad_token_id is None:
        raise InvalidInputError(
            f"the configuration of a {config.model_type} must say its pad_token_id, after which "
            "positions begin, got none"
        )
    return rows - int(config.pad_token_id) - 1
