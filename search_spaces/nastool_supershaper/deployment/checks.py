"""Whether two forms of a model say the same, and how good each of them is."""

from __future__ import annotations

import csv
import gzip
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nastool.errors import InvalidInputError
from nastool.predictors.evaluation import spearman
from nastool_supershaper.data import fixed_masks, load_corpus, prepare_corpus
from nastool_supershaper.deployment.forms import torch_run
from nastool_supershaper.deployment.models import head_of
from nastool_supershaper.deployment.report import Difference
from nastool_supershaper.deployment.runtimes import Arrays, Run
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.shaped_bert import ShapedBertForMaskedLM
from nastool_supershaper.text import text_files

TOLERANCE = 1e-4
"""Largest difference of two logits that rounding may make."""

_BATCH = 8
"""Texts of a pass while quality is measured."""

_LABEL = "label"


@dataclass(frozen=True)
class Quality:
    """How good a model is, as any of its forms can be asked.

    Args:
        metric: Name of the number.
        on: What it is measured on, for people.
        measure: Returns it.
    """

    metric: str
    on: str
    measure: Callable[[Run], float]


def random_batches(model: PreTrainedModel, seed: int = 0) -> list[Arrays]:
    """Random tokens in batches of several sizes, the last text of each padded, in two segments.

    Args:
        model: Says the vocabulary and the longest text.
        seed: Of the tokens.
    """
    longest = int(model.config.max_position_embeddings)
    rng = np.random.default_rng(seed)
    batches: list[Arrays] = []
    for size, length in ((1, 1), (1, 7), (3, 33), (2, 128), (1, longest)):
        length = min(length, longest)
        ids = rng.integers(model.config.vocab_size, size=(size, length))
        mask = np.ones_like(ids)
        mask[-1, length - length // 3 :] = 0
        segments = np.broadcast_to(np.arange(length) > length // 2, ids.shape).astype(np.int64)
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
    for inputs in batches:
        expected, found = reference(inputs), other(inputs)
        for name, values in expected.items():
            # NaN must not pass for agreement: np.max hands it on.
            difference = np.abs(found[name].astype(np.float64) - values)
            largest = float(np.maximum(largest, difference.max()))
            total += float(difference.sum())
            count += difference.size
    sizes = [inputs["input_ids"].shape for inputs in batches]
    return Difference(largest, total / count, tuple((b, length) for b, length in sizes))


def merging_difference(net: SuperShaperForMaskedLM, subnet: ShapedBertForMaskedLM) -> Difference:
    """Compare a shape of a supernet with the subnet that `extract` made of it.

    Args:
        net: The supernet.
        subnet: The shape with its bottlenecks merged (SuperShaper, appendix C).
    """

    def unmerged(inputs: Arrays) -> dict[str, NDArray[Any]]:
        tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with torch.inference_mode():
            return {"logits": net(**tensors, shape=subnet.config.shape).logits.numpy()}

    return compare(unmerged, torch_run(subnet), random_batches(subnet))


def masked_perplexity(run: Run, input_ids: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Perplexity at masked tokens: exp of the mean cross-entropy.

    Args:
        run: A masked language model.
        input_ids: Masked tokens, (n, length).
        labels: Original tokens where masked, -100 elsewhere, (n, length).
    """
    loss, count = 0.0, 0
    for start in range(0, len(input_ids), _BATCH):
        ids = np.asarray(input_ids[start : start + _BATCH])
        targets = labels[start : start + _BATCH]
        masked = targets != -100
        logits = run(_full(ids))["logits"][masked].astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = logits[np.arange(len(logits)), targets[masked]]
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
) -> Quality:
    """Perplexity of a masked language model on held-out text, masked once.

    Args:
        model: Says the vocabulary and the longest text.
        tokenizer: Its tokenizer.
        text: Files, folders or patterns; empty where there is a corpus.
        corpus: Prepared corpus; what it holds out, or else all of it.
        blocks: Blocks of text to measure on; None for all.

    Raises:
        InvalidInputError: Both or neither of text and corpus, or one of another vocabulary.
    """
    if bool(text) == (corpus is not None):
        raise InvalidInputError("expected either --text or --corpus")
    if corpus is not None:
        opened = load_corpus(corpus)
        if opened.card["vocab_size"] > model.config.vocab_size:
            raise InvalidInputError(
                f"--corpus: expected at most {model.config.vocab_size} tokens, "
                f"got a vocabulary of {opened.card['vocab_size']}"
            )
        part = "held_out" if len(opened.held_out) else "train"
        ids, labels = fixed_masks(opened, part, blocks, 0)
        if ids.shape[1] > model.config.max_position_embeddings:
            raise InvalidInputError(
                f"--corpus: expected blocks of at most {model.config.max_position_embeddings} "
                f"tokens, got {ids.shape[1]}"
            )
        names = [source["name"] for source in opened.card["sources"]]
    else:
        sources = text_files(text)
        names = [source.name for source in sources]
        length = min(128, int(model.config.max_position_embeddings))
        with tempfile.TemporaryDirectory() as folder:
            opened = prepare_corpus(
                list(sources), tokenizer, Path(folder), sequence_length=length, held_out=0.0
            )
            ids, labels = fixed_masks(opened, "train", blocks, 0)
    shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} sources"
    on = f"{int((labels != -100).sum()):,} masked tokens of {shown}"
    return Quality("perplexity", on, lambda run: masked_perplexity(run, ids, labels))


def score_on_examples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path, limit: int | None
) -> Quality:
    """Accuracy of a classification, or rank correlation of a regression, on labelled texts.

    Args:
        model: With a head for sequences.
        tokenizer: Its tokenizer.
        path: Tab-separated file, perhaps .gz, with a header: one or two columns of text, then a
            column ``label`` with names or numbers of classes, or scores.
        limit: Examples at most, from the top; None for all.

    Raises:
        InvalidInputError: It is no such file, or has a label that the model does not have.
    """
    texts, words = _read_examples(path, limit)
    longest = int(model.config.max_position_embeddings)
    regression = head_of(model) == "regression"
    scores = _scores(words, path) if regression else np.empty(0)
    classes = np.empty(0, np.int64) if regression else _classes(words, model, path)

    def batches() -> Iterator[Arrays]:
        for start in range(0, len(texts), _BATCH):
            columns = zip(*texts[start : start + _BATCH], strict=True)
            encoded = tokenizer(
                *(list(column) for column in columns),
                padding=True,
                truncation=True,
                max_length=longest,
                return_token_type_ids=True,
                return_tensors="np",
            )
            yield {name: value.astype(np.int64) for name, value in encoded.items()}

    def measure(run: Run) -> float:
        logits = np.concatenate([run(inputs)["logits"] for inputs in batches()])
        if regression:
            return spearman(logits[:, 0].astype(np.float64), scores)
        return float((logits.argmax(axis=1) == classes).mean())

    on = f"{len(texts):,} examples of {path.name}"
    return Quality("Spearman" if regression else "accuracy", on, measure)


def _full(ids: NDArray[np.int64]) -> Arrays:
    ids = ids.astype(np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


def _read_examples(path: Path, limit: int | None) -> tuple[list[list[str]], list[str]]:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            # Sentences hold quotation marks that mean nothing here.
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"--examples: cannot read {path}: {error}") from error
    header = rows[0] if rows else []
    column = header.index(_LABEL) if _LABEL in header else 0
    if column not in (1, 2):
        raise InvalidInputError(
            f"--examples: expected one or two columns of text, then {_LABEL!r}, in {path}, "
            f"got {', '.join(header) or 'nothing'}"
        )
    short = [number for number, row in enumerate(rows, 1) if len(row) <= column]
    if short or len(rows) < 2:
        where = f"line {short[0]}" if short else "no examples"
        raise InvalidInputError(f"--examples: {path} is cut short: {where}")
    kept = rows[1:] if limit is None else rows[1 : limit + 1]
    return [row[:column] for row in kept], [row[column] for row in kept]


def _scores(words: list[str], path: Path) -> NDArray[np.float64]:
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        raise InvalidInputError(f"--examples: expected numbers as labels in {path}") from error


def _classes(words: list[str], model: PreTrainedModel, path: Path) -> NDArray[np.int64]:
    names: dict[str, int] = dict(cast("dict[str, int]", model.config.label2id))
    number_of = {**{str(number): number for number in names.values()}, **names}
    unknown = sorted(set(words) - set(number_of))
    if unknown:
        raise InvalidInputError(
            f"--examples: expected labels {', '.join(names)} or their numbers in {path}, "
            f"got {unknown[0]!r}"
        )
    return np.array([number_of[word] for word in words], dtype=np.int64)
