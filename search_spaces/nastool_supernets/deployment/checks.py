"""Whether two forms of a model say the same, and how good each of them is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from nastool.errors import InvalidInputError
from nastool_supernets.corpus.corpus import load_corpus
from nastool_supernets.corpus.masked_text import mask_corpus, mask_files
from nastool_supernets.corpus.tasks import TaskName
from nastool_supernets.deployment.forms import input_names, torch_run
from nastool_supernets.deployment.report import Difference
from nastool_supernets.deployment.runtimes import Arrays, Run
from nastool_supernets.family import head_of
from nastool_supernets.finetuning.data import Example, read_rows, to_examples
from nastool_supernets.finetuning.encoding import encode_scored
from nastool_supernets.finetuning.tasks import Files, Kind, Task
from nastool_supernets.genotypes import Genotype
from nastool_supernets.positions import positions_of
from nastool_supernets.supernet import Supernet

TOLERANCE = 1e-4
"""Largest difference of two outputs that rounding may make, as a share of their spread."""

TOLERANCE_OF_DECODERS = 1e-3
"""That of decoders, whose few large activations are summed with the others, in many layers."""

_ROUNDING = 64 * float(np.finfo(np.float32).eps)
"""What rounding may make of the largest output, however little outputs differ from each other."""

_LONGEST = 1024
"""Tokens of the longest text that forms are compared on, where more are possible."""

_BATCH = 8
"""Texts of a pass while quality is measured."""

_LABEL = "label"

_NUMBERS = ("", "id", "idx", "index")
"""Columns that number the examples."""


@dataclass(frozen=True)
class Quality:
    """How good a model is, as any of its forms can be asked.

    Args:
        on: What it is measured on, for people.
        measure: Returns metrics by name.
    """

    on: str
    measure: Callable[[Run], Mapping[str, float]]


def tolerance_of(model: PreTrainedModel) -> float:
    """Largest difference of two outputs of a model that rounding may make."""
    return TOLERANCE_OF_DECODERS if head_of(model) == "causal-lm" else TOLERANCE


def random_batches(model: PreTrainedModel) -> list[Arrays]:
    """Random tokens in batches of several sizes, the last text of each padded, in two segments.

    A model that tells no segments apart gets one.

    Args:
        model: Says the vocabulary and the longest text.
    """
    longest = min(positions_of(model.config), _LONGEST)
    rng = np.random.default_rng(0)
    batches: list[Arrays] = []
    for size, length in ((1, 1), (1, 7), (3, 33), (2, 128), (1, longest)):
        length = min(length, longest)
        ids = rng.integers(model.config.vocab_size, size=(size, length))
        mask = np.ones_like(ids)
        mask[-1, length - length // 3 :] = 0
        segmented = getattr(model.config, "type_vocab_size", 1) > 1
        second = (np.arange(length) > length // 2) & segmented
        segments = np.broadcast_to(second, ids.shape).astype(np.int64)
        batches.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": segments})
    return batches


def compare(reference: Run, other: Run, batches: Sequence[Arrays]) -> Difference:
    """Compare two forms of a model on the same inputs.

    Args:
        reference: What the other one should compute.
        other: The other one.
        batches: Inputs by name, each (B, T).
    """
    largest, total, count = 0.0, 0.0, 0
    sums, squares, highest = 0.0, 0.0, 0.0
    for inputs in batches:
        expected, found = reference(inputs), other(inputs)
        for name, values in expected.items():
            values = values.astype(np.float64)
            # NaN must not pass for agreement: np.max hands it on.
            difference = np.abs(found[name].astype(np.float64) - values)
            largest = float(np.maximum(largest, difference.max()))
            total += float(difference.sum())
            count += difference.size
            sums += float(values.sum())
            squares += float((values**2).sum())
            highest = max(highest, float(np.abs(values).max()))
    spread = math.sqrt(max(0.0, squares / count - (sums / count) ** 2))
    sizes = [inputs["input_ids"].shape for inputs in batches]
    return Difference(
        largest,
        total / count,
        tuple((b, length) for b, length in sizes),
        max(spread, _ROUNDING / TOLERANCE * highest),
    )


def merging_difference(net: Supernet, genotype: Genotype, subnet: PreTrainedModel) -> Difference:
    """Compare a shape of a supernet with the subnet that `extract` made of it.

    Args:
        net: The supernet.
        genotype: The shape.
        subnet: What was cut out, on the CPU.
    """
    names = input_names(subnet)

    # What is computed where there is no text means nothing.
    def real(logits: NDArray[Any], inputs: Arrays) -> dict[str, NDArray[Any]]:
        return {"logits": logits[inputs["attention_mask"].astype(bool)]}

    def sliced(inputs: Arrays) -> dict[str, NDArray[Any]]:
        tensors = {name: torch.from_numpy(inputs[name]) for name in names}
        with torch.inference_mode():
            return real(net.logits(tensors, genotype).numpy(), inputs)

    cut_out = torch_run(subnet)
    return compare(
        sliced, lambda inputs: real(cut_out(inputs)["logits"], inputs), random_batches(subnet)
    )


def perplexity_of(run: Run, input_ids: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Perplexity at what is to be predicted: exp of the mean cross-entropy.

    Args:
        run: A language model.
        input_ids: What it reads, (n, length).
        labels: What it is to predict, -100 where nothing, (n, length).
    """
    loss, count = 0.0, 0
    for start in range(0, len(input_ids), _BATCH):
        ids = np.asarray(input_ids[start : start + _BATCH])
        targets = labels[start : start + _BATCH]
        for all_logits, wanted in zip(run(_full(ids))["logits"], targets, strict=True):
            # A text at a time: vocabularies are large.
            logits = all_logits[wanted != -100].astype(np.float64)
            logits -= logits.max(axis=-1, keepdims=True, initial=-np.inf)
            chosen = logits[np.arange(len(logits)), wanted[wanted != -100]]
            loss += float((np.log(np.exp(logits).sum(axis=-1)) - chosen).sum())
            count += len(logits)
    # A model may be untrained or broken: inf is then the honest value.
    with np.errstate(over="ignore"):
        return float(np.exp(loss / count))


def perplexity_on_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    text: Sequence[str],
    corpus: Path | None,
    blocks: int | None,
    task: TaskName = "masked-lm",
) -> Quality:
    """Perplexity of a language model on held-out text, masked once where it predicts masks.

    Args:
        model: Says the vocabulary and the longest text.
        tokenizer: Its tokenizer.
        text: Files, folders or patterns; empty where there is a corpus.
        corpus: Prepared corpus; what it holds out, or else all of it.
        blocks: Blocks of text to measure on; None for all.
        task: What the model predicts.

    Raises:
        InvalidInputError: Both or neither of text and corpus, or one that it cannot read.
    """
    if bool(text) == (corpus is not None):
        raise InvalidInputError("expected either --text or --corpus")
    if corpus is not None:
        opened = load_corpus(corpus)
        found = mask_corpus(opened, tokenizer, model.config, "the model", blocks, task=task)
    else:
        found = mask_files(text, tokenizer, model.config, "the model", blocks=blocks, task=task)
    ids, labels, names = found
    shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} sources"
    kind = "masked" if task == "masked-lm" else "predicted"
    on = f"{int((labels != -100).sum()):,} {kind} tokens of {shown}"
    return Quality(on, lambda run: {"perplexity": perplexity_of(run, ids, labels)})


def score_on_examples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    path: Path,
    limit: int | None,
    max_length: int | None = None,
) -> Quality:
    """Score of a model for a task on labelled examples, as `nastool validate` has it.

    Accuracy of a classification, Spearman's correlation of a regression, exact match and F1 of
    answers to questions.

    Args:
        model: Says the labels and the longest text.
        tokenizer: Its tokenizer.
        path: File that `read_rows` reads: one or two columns of text, then a column ``label`` with
            names or numbers of classes, or scores; or questions in SQuAD's form.
        limit: Examples at most, from the top; None for all.
        max_length: Tokens of an example at most; None for as many as the model takes.

    Raises:
        InvalidInputError: It is no such file, or has a label that the model does not have.
    """
    longest = positions_of(model.config)
    longest = min(longest, max_length or longest)
    try:
        task, examples = _read_examples(model, path, limit)
        segments = int(getattr(model.config, "type_vocab_size", 1))
        rows, score = encode_scored(task, examples, tokenizer, longest, segments)
    except InvalidInputError as error:
        raise InvalidInputError(f"--examples: {error}") from error
    collate = DataCollatorWithPadding(tokenizer, return_tensors="np")

    def measure(run: Run) -> dict[str, float]:
        found: dict[str, list[NDArray[Any]]] = {}
        for start in range(0, len(rows), _BATCH):
            inputs = collate(rows[start : start + _BATCH])
            for name, values in run(cast("Arrays", inputs)).items():
                found.setdefault(name, []).extend(values)
        if task.kind is Kind.QUESTION_ANSWERING:
            spans: Any = (found["start_logits"], found["end_logits"])
            return score(EvalPrediction(spans, np.empty(0)))
        labels = np.array([row["labels"] for row in rows])
        return score(EvalPrediction(np.stack(found["logits"]), labels))

    on = f"{len(examples):,} examples of {path.name}, at most {longest} tokens each"
    return Quality(on, measure)


def _full(ids: NDArray[np.int64]) -> Arrays:
    ids = ids.astype(np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


def _read_examples(
    model: PreTrainedModel, path: Path, limit: int | None
) -> tuple[Task, tuple[Example, ...]]:
    """Examples of what a model's head is for."""
    rows = read_rows(path)[:limit]
    if not rows:
        raise InvalidInputError(f"{path} must hold examples, got none")
    head, source = head_of(model), Files((), (path,))
    if head == "question-answering":
        task = Task(path.name, Kind.QUESTION_ANSWERING, source)
        return task, to_examples(task, rows)
    columns = list(rows[0])
    before = columns[: columns.index(_LABEL)] if _LABEL in columns else []
    texts = tuple(column for column in before if column not in _NUMBERS)
    if len(texts) not in (1, 2):
        raise InvalidInputError(
            f"expected one or two columns of text, then {_LABEL!r}, in {path}, "
            f"got {', '.join(columns)}"
        )
    if head == "regression":
        task = Task(path.name, Kind.REGRESSION, source, texts)
        return task, to_examples(task, rows)
    task = Task(path.name, Kind.SENTENCE if len(texts) == 1 else Kind.PAIR, source, texts)
    id2label = cast("dict[int, str]", model.config.id2label)
    names = [id2label[number] for number in sorted(id2label)]
    words, numbers = {str(row.get(_LABEL)) for row in rows}, [*map(str, range(len(names)))]
    # Names may be numbers themselves: those of stars, say.
    numbered = words <= set(numbers) and words.isdisjoint(names)
    return task, to_examples(task, rows, numbers if numbered else names)
