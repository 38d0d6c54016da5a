"""Answers as spans of a context: long contexts in overlapping pieces, and logits to answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool_supernets.finetuning.data import Answer, Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_LONGEST_QUESTION, _LONGEST_ANSWER = 64, 30
"""Tokens; longer questions are cut, longer answers never given (Devlin et al., 2019)."""

_SHORTEST = 20
"""Tokens of a piece at least: half for the question, and more context than pieces share."""

_CANDIDATES = 20
"""Starts and ends that are combined in each piece."""


@dataclass(frozen=True)
class Piece:
    """A question with a piece of its context, as a model reads it.

    Args:
        example: Number of the example.
        inputs: What the tokenizer returns, with start_positions and end_positions.
        offsets: First and last character of every token of the context, (length, 2); -1 outside.
    """

    example: int
    inputs: dict[str, Any]
    offsets: NDArray[np.int64]


def split(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    segments: int = 2,
) -> list[Piece]:
    """Tokenise questions with their contexts, in pieces that overlap by a quarter of the length.

    A piece that does not hold the whole first answer has its start and end at the first token.

    Args:
        examples: Question and context each, with the answers that are right.
        tokenizer: A fast one.
        max_length: Tokens of a piece at most.
        segments: That the model tells apart; below two it is not told them.

    Raises:
        InvalidInputError: Fewer tokens than a piece needs.
    """
    check_length(max_length)
    longest_question = min(_LONGEST_QUESTION, max_length // 2)
    questions = [_cut(example.texts[0], tokenizer, longest_question) for example in examples]
    encoded = tokenizer(
        questions,
        [example.texts[1] for example in examples],
        truncation="only_second",
        max_length=max_length,
        stride=min(128, max_length // 4),
        return_token_type_ids=segments > 1,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    owners = encoded.pop("overflow_to_sample_mapping")
    all_offsets = encoded.pop("offset_mapping")
    pieces = []
    for row, (owner, offsets) in enumerate(zip(owners, all_offsets, strict=True)):
        of_context = np.array([part == 1 for part in encoded.sequence_ids(row)])
        places = np.where(of_context[:, None], np.asarray(offsets, np.int64), -1)
        answers = cast("tuple[Answer, ...]", examples[owner].label)
        start, end = _locate(places, answers[0])
        inputs = {name: values[row] for name, values in encoded.items()}
        inputs |= {"start_positions": start, "end_positions": end}
        pieces.append(Piece(owner, inputs, places))
    return pieces


def check_length(max_length: int) -> None:
    """Check that pieces of so many tokens can be cut.

    Raises:
        InvalidInputError: Fewer tokens than a piece needs.
    """
    if max_length < _SHORTEST:
        raise InvalidInputError(
            f"question answering needs at least {_SHORTEST} tokens an example, got {max_length}"
        )


def _cut(question: str, tokenizer: PreTrainedTokenizerFast, longest: int) -> str:
    offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
    places = offsets["offset_mapping"]
    return question if len(places) <= longest else question[: places[longest - 1][1]]


def _locate(places: NDArray[np.int64], answer: Answer) -> tuple[int, int]:
    """First and last token of an answer, or twice the first token where it is not in the piece."""
    first, last = answer.start, answer.start + len(answer.text)
    inside = places[:, 0] >= 0
    starts = np.flatnonzero(inside & (places[:, 0] <= first) & (places[:, 1] > first))
    ends = np.flatnonzero(inside & (places[:, 0] < last) & (places[:, 1] >= last))
    return (int(starts[0]), int(ends[-1])) if len(starts) and len(ends) else (0, 0)


def answers(
    examples: Sequence[Example],
    pieces: Sequence[Piece],
    start_logits: Iterable[NDArray[np.floating[Any]]],
    end_logits: Iterable[NDArray[np.floating[Any]]],
) -> list[str]:
    """Return the best span of every context.

    Args:
        examples: What was asked.
        pieces: From `split`.
        start_logits: A row a piece, as long as the piece or longer.
        end_logits: The same for ends.

    Returns:
        Text of the context for each example; empty where no span is possible.
    """
    best = [-np.inf] * len(examples)
    found = [""] * len(examples)
    for piece, of_start, of_end in zip(pieces, start_logits, end_logits, strict=True):
        tokens = np.flatnonzero(piece.offsets[:, 0] >= 0)
        starts = tokens[np.argsort(-of_start[tokens], kind="stable")[:_CANDIDATES]]
        ends = tokens[np.argsort(-of_end[tokens], kind="stable")[:_CANDIDATES]]
        lengths = ends[None, :] - starts[:, None] + 1
        scores = np.where(
            (lengths >= 1) & (lengths <= _LONGEST_ANSWER),
            of_start[starts][:, None].astype(np.float64) + of_end[ends][None, :],
            -np.inf,
        )
        if scores.size == 0 or scores.max() <= best[piece.example]:
            continue
        i, j = np.unravel_index(int(scores.argmax()), scores.shape)
        best[piece.example] = float(scores[i, j])
        begin, finish = piece.offsets[starts[i], 0], piece.offsets[ends[j], 1]
        found[piece.example] = examples[piece.example].texts[1][begin:finish]
    return found
