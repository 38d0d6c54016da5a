"""Similarity of two texts by their embeddings: the mean of the hidden states of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from nastool_supernets.finetuning.data import Example

SECOND = "second_"
"""Begins the names of what the second text of a row is."""


class Siamese(nn.Module):
    """An encoder that says how near two texts are: the cosine of their embeddings.

    An embedding is the mean of the last hidden states over a text's tokens, as
    sentence-transformers makes it of a model that brings no pooling of its own.

    Args:
        encoder: A model without a head.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embeddings (B, width) of texts (B, T)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        embeddings: Tensor = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return embeddings

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Cosines of pairs, and their squared error.

        Args:
            input_ids: Of all first texts, then of all second ones, (2B, T).
            attention_mask: Likewise.
            labels: What the cosines should be, (B,).
        """
        first, second = self.embed(input_ids, attention_mask).float().chunk(2)
        cosines = F.cosine_similarity(first, second)
        loss = None if labels is None else F.mse_loss(cosines, labels.float())
        return SequenceClassifierOutput(loss=loss, logits=cosines.unsqueeze(-1))


class PairCollator:
    """Makes batches for `Siamese` of rows of two texts.

    Args:
        tokenizer: Says how to pad.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._pad = DataCollatorWithPadding(tokenizer)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """First texts, then second ones, padded together; labels once a row."""
        texts = [{"input_ids": row[f"{begin}input_ids"]} for begin in ("", SECOND) for row in rows]
        batch: dict[str, Any] = dict(self._pad(texts))
        batch["labels"] = torch.tensor([float(row["labels"]) for row in rows])
        return batch


def rows_of(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    ends: tuple[float, float],
) -> list[dict[str, Any]]:
    """Tokenise pairs, each text by itself.

    Args:
        examples: Pairs with a number each.
        tokenizer: The model's.
        max_length: Tokens of a text at most.
        ends: The numbers that stand for cosines of 0 and of 1.
    """
    low, high = ends
    sides = (
        [
            tokenizer(
                [example.texts[side] for example in examples],
                truncation=True,
                max_length=max_length,
            )["input_ids"]
            for side in (0, 1)
        ]
        if examples
        else [[], []]
    )
    return [
        {
            "input_ids": first,
            f"{SECOND}input_ids": second,
            "labels": (float(example.label) - low) / (high - low or 1.0),
        }
        for example, first, second in zip(examples, *sides, strict=True)
    ]
