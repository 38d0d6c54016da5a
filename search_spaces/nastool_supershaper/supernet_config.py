"""Sizes of a supernet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from nastool.errors import InvalidInputError


class SuperShaperConfig(PretrainedConfig):
    """Sizes of a supernet; the defaults are the published ones (BERT-base, cased).

    Args:
        widths: Hidden sizes a layer can take, ascending; the last one is `hidden_size`.
        trained_positions: Positions that training has seen, from the first; 0 where nobody said.

    Raises:
        InvalidInputError: If a size or the widths break a rule.
    """

    model_type = "supershaper"

    def __init__(
        self,
        vocab_size: int = 28996,
        hidden_size: int = 768,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        intermediate_size: int = 3072,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
        pad_token_id: int | None = 0,
        initializer_range: float = 0.02,
        widths: Sequence[int] = (120, 240, 360, 480, 540, 600, 768),
        trained_positions: int = 0,
        **kwargs: Any,
    ) -> None:
        sizes: dict[str, Any] = {
            "vocab_size": vocab_size,
            "hidden_size": hidden_size,
            "num_hidden_layers": num_hidden_layers,
            "num_attention_heads": num_attention_heads,
            "intermediate_size": intermediate_size,
            "max_position_embeddings": max_position_embeddings,
            "type_vocab_size": type_vocab_size,
        }
        for name, size in sizes.items():
            if not isinstance(size, int) or size < 1:
                raise InvalidInputError(f"{name}: expected a positive whole number, got {size!r}")
        self.widths = [int(width) for width in widths]
        if not self.widths or any(w <= 0 or w % num_attention_heads for w in self.widths):
            raise InvalidInputError(
                f"widths: expected positive multiples of {num_attention_heads} heads, "
                f"got {self.widths}"
            )
        if self.widths != sorted(set(self.widths)) or self.widths[-1] != hidden_size:
            raise InvalidInputError(
                f"widths: expected ascending numbers up to hidden_size={hidden_size}, "
                f"got {self.widths}"
            )
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.trained_positions = trained_positions
        # The base class takes any keyword.
        super().__init__(pad_token_id=pad_token_id, **kwargs)  # type: ignore[call-arg]

    @property
    def largest(self) -> tuple[int, ...]:
        """The shape with every layer at its full width."""
        return (self.widths[-1],) * self.num_hidden_layers

    @property
    def smallest(self) -> tuple[int, ...]:
        """The shape with every layer at its smallest width."""
        return (self.widths[0],) * self.num_hidden_layers

    def check_shape(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        """Return the shape as a tuple of ints, the largest one for None.

        Raises:
            InvalidInputError: If the shape is not one of the space.
        """
        if shape is None:
            return self.largest
        checked = tuple(int(width) for width in shape)
        if len(checked) != self.num_hidden_layers or not set(checked) <= set(self.widths):
            raise InvalidInputError(
                f"shape: expected {self.num_hidden_layers} widths out of {self.widths}, "
                f"got {list(checked)}"
            )
        return checked
