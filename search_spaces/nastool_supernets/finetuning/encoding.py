"""A task as a model reads it, and its predictions as scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from transformers import EvalPrediction

from nastool_supernets.finetuning import question_answering, similarity
from nastool_supernets.finetuning.data import Answer, Example, TaskData
from nastool_supernets.finetuning.metrics import score, score_answers
from nastool_supernets.finetuning.tasks import Kind, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Rows = list[dict[str, Any]]
Score = Callable[[EvalPrediction], dict[str, float]]


@dataclass(frozen=True)
class Encoded:
    """A task as a model reads it.

    Args:
        train: Inputs with labels, an example or a piece of one each.
        dev: The same, shortest first, so that batches hold little padding.
        score: Turns the predictions for dev into metrics.
    """

    train: Rows
    dev: Rows
    score: Score


def encode(
    task: Task,
    data: TaskData,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    segments: int = 2,
) -> Encoded:
    """Tokenise a task.

    Args:
        task: The task.
        data: Its examples.
        tokenizer: The supernet's.
        max_length: Tokens of an example at most.
        segments: That the model tells apart; below two it is not told them.
    """
    if task.kind is Kind.QUESTION_ANSWERING:
        pieces = question_answering.split(data.train, tokenizer, max_length, segments)
        train = [piece.inputs for piece in pieces]
    elif task.kind is Kind.SIMILARITY:
        # The same numbers mean the same cosines in both.
        numbers = [cast("float", e.label) for e in (*data.train, *data.dev)]
        ends = min(numbers), max(numbers)
        train = similarity.rows_of(data.train, tokenizer, max_length, ends)
        dev = similarity.rows_of(data.dev, tokenizer, max_length, ends)
        return Encoded(train, *_by_length(task, dev))
    else:
        train = _rows(data.train, tokenizer, max_length, segments)
    return Encoded(train, *encode_scored(task, data.dev, tokenizer, max_length, segments))


def encode_scored(
    task: Task,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    segments: int = 2,
) -> tuple[Rows, Score]:
    """Tokenise examples to score on.

    Args:
        task: What they are, and the metrics.
        examples: The examples.
        tokenizer: The model's.
        max_length: Tokens of an example at most.
        segments: As for `encode`.

    Returns:
        Inputs with labels, shortest first, and what turns predictions for them into metrics.
    """
    if task.kind is Kind.QUESTION_ANSWERING:
        pieces = question_answering.split(examples, tokenizer, max_length, segments)
        pieces.sort(key=lambda piece: len(piece.inputs["input_ids"]))
        truth = [[a.text for a in cast("tuple[Answer, ...]", e.label)] for e in examples]

        def score_spans(output: EvalPrediction) -> dict[str, float]:
            starts, ends = cast("Any", output.predictions)
            return score_answers(question_answering.answers(examples, pieces, starts, ends), truth)

        return [piece.inputs for piece in pieces], score_spans
    return _by_length(task, _rows(examples, tokenizer, max_length, segments))


def _by_length(task: Task, rows: Rows) -> tuple[Rows, Score]:
    """Rows, shortest first, and what turns predictions for them into metrics."""
    rows.sort(key=lambda row: len(row["input_ids"]))
    is_regression = task.kind in (Kind.REGRESSION, Kind.SIMILARITY)

    def score_labels(output: EvalPrediction) -> dict[str, float]:
        logits = np.asarray(output.predictions, np.float64)
        predictions = logits[:, 0] if is_regression else logits.argmax(-1)
        labels = np.asarray(output.label_ids)
        return score(task.metrics, predictions, labels, logits.shape[-1])

    return rows, score_labels


def _rows(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    segments: int,
) -> Rows:
    columns = [list(texts) for texts in zip(*(e.texts for e in examples), strict=True)]
    # Not every tokenizer names segments by itself, and a pair needs them.
    encoded = tokenizer(
        *columns, truncation=True, max_length=max_length, return_token_type_ids=segments > 1
    )
    return [
        {**{name: values[i] for name, values in encoded.items()}, "labels": example.label}
        for i, example in enumerate(examples)
    ]
