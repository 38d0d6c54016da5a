"""Scores of predictions: those of GLUE by scikit-learn and scipy, SQuAD's by its official rules."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nastool.errors import MissingDependencyError


def score(
    metrics: Sequence[str],
    predictions: NDArray[np.float64],
    labels: NDArray[np.float64],
    n_classes: int,
) -> dict[str, float]:
    """Score a classification or a regression.

    Args:
        metrics: Names of metrics, see `tasks.METRICS`.
        predictions: Classes or numbers, (n,).
        labels: The same, true, (n,).
        n_classes: Classes that the task has. F1 is that of class 1 of two, else the mean over
            those that labels hold.

    Returns:
        Values by name; a correlation with something constant is 0.

    Raises:
        MissingDependencyError: scikit-learn or scipy is not installed.
    """
    return {
        name: _f1(predictions, labels, n_classes)
        if name == "f1"
        else _SCORES[name](predictions, labels)
        for name in metrics
    }


def require(metrics: Sequence[str]) -> None:
    """Check that what metrics are computed with is installed.

    Args:
        metrics: Names of metrics.

    Raises:
        MissingDependencyError: scikit-learn or scipy is not installed.
    """
    for name in metrics:
        if name in _LIBRARIES:
            _needed(_LIBRARIES[name])


def _accuracy(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    return float(np.mean(predictions == labels))


def _f1(predictions: NDArray[np.float64], labels: NDArray[np.float64], n_classes: int) -> float:
    f1_score = _needed("sklearn.metrics").f1_score
    few = n_classes <= 2
    choice = {"average": "binary"} if few else {"average": "macro", "labels": np.unique(labels)}
    return float(f1_score(labels, predictions, zero_division=0.0, **choice))


def _matthews(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    return float(_needed("sklearn.metrics").matthews_corrcoef(labels, predictions))


def _correlation(name: str) -> Callable[[NDArray[np.float64], NDArray[np.float64]], float]:
    def correlate(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(getattr(_needed("scipy.stats"), name)(predictions, labels).statistic)

    return correlate


_SCORES: Mapping[str, Callable[[NDArray[np.float64], NDArray[np.float64]], float]] = {
    "accuracy": _accuracy,
    "matthews": _matthews,
    "pearson": _correlation("pearsonr"),
    "spearman": _correlation("spearmanr"),
}

_LIBRARIES: Mapping[str, str] = {
    "f1": "sklearn.metrics",
    "matthews": "sklearn.metrics",
    "pearson": "scipy.stats",
    "spearman": "scipy.stats",
}


def _needed(module: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - libraries without types
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"scoring tasks needs {module.partition('.')[0]}: pip install 'nastool[fit-cpu]'"
        ) from error


# --------------------------------------------------------------------------------------------------
# SQuAD v1.1

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower the case; remove punctuation, articles and superfluous spaces (SQuAD v1.1)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction is one of the answers after normalisation, else 0."""
    return float(normalise_answer(prediction) in map(normalise_answer, answers))


def answer_f1(prediction: str, answers: Sequence[str]) -> float:
    """Overlap of words between the prediction and the answer that is nearest to it."""
    return max(_overlap(normalise_answer(prediction), normalise_answer(a)) for a in answers)


def _overlap(prediction: str, answer: str) -> float:
    words, expected = prediction.split(), answer.split()
    common = (Counter(words) & Counter(expected)).total()
    return 2 * common / (len(words) + len(expected)) if common else 0.0


def score_answers(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Score answers to questions by the rules of SQuAD v1.1.

    Args:
        predictions: One a question.
        answers: All answers that are right, question by question.
    """
    pairs = list(zip(predictions, answers, strict=True))
    return {
        "exact_match": float(np.mean([exact_match(*pair) for pair in pairs])),
        "f1": float(np.mean([answer_f1(*pair) for pair in pairs])),
    }
