"""How long a text a model of transformers reads, and how it tells places apart."""

from __future__ import annotations

from collections.abc import Mapping
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


def rotary_before_5(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers before 5 reads of rotary embeddings; it takes defaults without a word.

    Args:
        config: A configuration as later releases write it, or any other one.
    """
    rotary = config.get("rope_parameters")
    if not isinstance(rotary, Mapping) or "rope_theta" not in rotary:
        return {}
    scaling = {name: value for name, value in rotary.items() if name != "rope_theta"}
    plain = scaling.get("rope_type", "default") == "default"
    return {"rope_theta": rotary["rope_theta"]} | ({} if plain else {"rope_scaling": scaling})
