"""What every predictor is, and how one is kept on disk.

A predictor lives in a folder: the files of its kind (JSON or npz, never pickle) and `card.json`,
which says what was measured, on what, and how well the predictor fits.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import BadZipFile

import numpy as np

from nastool import notebook
from nastool.arrays import Floats
from nastool.choices import Choice, check_name
from nastool.constraint import format_quantity
from nastool.discovery import PREDICTORS, available, find
from nastool.errors import InvalidInputError
from nastool.files.hub import fetched
from nastool.files.reading import is_file, parse_json, read_text, reading
from nastool.files.writing import (
    replaced_folder,
    whole_folder,
    write_whole,
)
from nastool.objective import Direction, RankAgreement
from nastool.predictors.conformal import Widths
from nastool.predictors.digests import check_digests, write_digests
from nastool.predictors.evaluation import Scores
from nastool.predictors.region import Region
from nastool.space import Genotypes

if TYPE_CHECKING:
    from nastool.predictors.separable import Separable
    from nastool.predictors.tables import Measurements


CARD = "card.json"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """Predicted values of a batch.

    Args:
        mean: Shape (n,), in the unit of the target.
        std: Standard deviation, shape (n,), or None where the predictor does not know it.
    """

    mean: Floats
    std: Floats | None = None

    def __len__(self) -> int:
        return len(self.mean)


class GridForm(Protocol):
    """A predictor's mean as a function of genotypes."""

    def predict(self, genotypes: Genotypes) -> Floats:
        """Predict choice indices (n, f), to (n,)."""


class Predictor(ABC):
    """A function from features to a measured quantity, learned from a table.

    Features are a matrix (n, f): first a column for each gene (its numeric choice, else its
    index), then any exact costs such as the parameter count.
    """

    kind: str
    """Name in the entry-point group ``nastool.predictors`` and in cards."""

    label: str
    """What people call it."""

    def __repr__(self) -> str:
        return f"<Predictor {self.kind}: {self.label}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: its kind and its settings; a card says what it is worth."""
        settings: dict[str, object] = {}
        for name, value in vars(self).items():
            if isinstance(value, Mapping):
                settings |= value
            elif isinstance(value, str | int | float | tuple):
                settings[name] = value
        kept = {
            name.replace("_", " "): value
            for name, value in settings.items()
            if not name.startswith("_") and name not in ("kind", "label")
        }
        return notebook.shown(repr(self).strip("<>"), kept)

    @abstractmethod
    def fit(self, features: Floats, targets: Floats, *, genes: int | None = None) -> None:
        """Learn from measurements.

        Args:
            features: Shape (n, f).
            targets: Shape (n,).
            genes: How many leading columns are genes; all of them by default.

        Raises:
            InvalidInputError: Shapes that do not match, or values that are not finite.
            MissingDependencyError: A package that fitting needs is not installed.
        """

    @abstractmethod
    def predict(self, features: Floats) -> Prediction:
        """Predict rows of shape (n, f)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the fitted state into an existing folder."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Become what `save` wrote."""

    def on_grid(self, values: Sequence[Floats]) -> GridForm | None:
        """A faster form for features that only take known values.

        Args:
            values: For each feature, the values that its choices stand for.

        Returns:
            The mean as a function of choice indices; None where nothing is faster than `predict`.
        """
        del values
        return None

    def separable(self, values: Sequence[Floats]) -> Separable | None:
        """The mean as a sum of one term a gene, which the exact search knows how to search.

        Args:
            values: For each gene, the values that its choices stand for.

        Returns:
            None where the mean is no such sum.
        """
        del values
        return None


LARGEST = 1e100
"""Targets beyond it overflow where their squares are summed."""

_DIGITS = 1e-10
"""Spread of targets, relative to their size, below which rounding decides how they rank."""


def standard(targets: Floats) -> tuple[Floats, float, float]:
    """Targets (n,) around 0 and of spread 1, with the middle and the spread they had."""
    middle = float(targets.mean())
    size = float(targets.std()) or 1.0
    return (targets - middle) / size, middle, size


def check_training_data(
    features: Floats, targets: Floats, genes: int | None
) -> tuple[Floats, Floats, int]:
    """Validate what a predictor is fitted on; return it as float64 with the number of genes.

    Args:
        features: Shape (n, f), the columns of genes first.
        targets: Shape (n,), n >= 2.
        genes: How many leading columns are genes; None for all.

    Raises:
        InvalidInputError: Other shapes, what is not finite, or targets of which hardly a digit
            differs.
    """
    features = np.asarray(features, dtype=np.float64)
    targets = np.asarray(targets, dtype=np.float64)
    if features.ndim != 2 or targets.shape != features.shape[:1] or len(targets) < 2:
        raise InvalidInputError(
            "fitting needs features (n, f) and targets (n,) with n >= 2, "
            f"got shapes {features.shape} and {targets.shape}"
        )
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise InvalidInputError("fitting needs finite features and targets, got NaN or infinity")
    largest = float(np.abs(targets).max())
    spread = float(np.ptp(targets))
    if largest > LARGEST or 0 < spread < _DIGITS * largest:
        raise InvalidInputError(
            f"targets must be at most {LARGEST:g} and differ in their first ten digits, got "
            f"{targets.min():.12g} to {targets.max():.12g}"
        )
    columns = features.shape[1]
    if genes is not None and not 0 <= genes <= columns:
        raise InvalidInputError(f"genes must lie between 0 and {columns} columns, got {genes}")
    return features, targets, columns if genes is None else genes


@dataclass(frozen=True)
class Card:
    """Where a predictor comes from and what it is worth.

    Args:
        metric: What it predicts, e.g. ``perplexity`` or ``latency[pixel7]``.
        unit: Unit of the predicted values; empty for plain numbers.
        kind: Kind of predictor, e.g. ``xgboost``.
        label: What people call that kind, e.g. ``XGBoost``.
        space: Name of the space that the measured shapes belong to.
        fingerprint: Fingerprint of that space; empty where it is not known.
        genes: Names of the genes, in order.
        choices: For each gene the choices it was fitted on.
        features: Names of the columns, genes first, then costs.
        shapes: Number of shapes it was fitted on.
        scores: Agreement on held-out shapes; None where nothing was held out.
        interval: Half-width that holds 90% of new measurements over all; None where not calibrated.
        widths: Half-widths by predicted value; None where they are not known to differ.
        region: What its table holds; None where that is not known.
        optimism: By which share of the predicted value the best of many predictions is likely
            worse; None where that is not known.
        agreements: How alike other measurements order architectures.
        source: What was measured and on what: free text and numbers by name.
        direction: Which way is better.

    Raises:
        InvalidInputError: An entry is empty or does not fit the others.
    """

    metric: str
    unit: str
    kind: str
    label: str
    space: str
    fingerprint: str
    genes: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    features: tuple[str, ...]
    shapes: int
    scores: Scores | None = None
    interval: float | None = None
    widths: Widths | None = None
    region: Region | None = None
    optimism: float | None = None
    agreements: tuple[RankAgreement, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    direction: Direction = Direction.MINIMIZE

    def __post_init__(self) -> None:
        for name in ("metric", "kind", "label", "space"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InvalidInputError(f"card: {name} must be a non-empty text, got {value!r}")
        if len(self.genes) != len(self.choices) or not all(self.choices):
            raise InvalidInputError(
                f"card: expected at least one choice for each of {len(self.genes)} genes, "
                f"got choices of {len(self.choices)} genes"
            )
        if self.features[: len(self.genes)] != self.genes:
            raise InvalidInputError("card: the features must begin with the genes, in order")
        if self.shapes < 1:
            raise InvalidInputError(f"card: shapes must be at least 1, got {self.shapes}")
        if self.interval is not None and not self.interval >= 0:
            raise InvalidInputError(f"card: interval must be >= 0, got {self.interval}")

    @property
    def by(self) -> str:
        """What predicts, e.g. ``XGBoost on 3,000 shapes of minilm-12``."""
        return f"{self.label} on {self.shapes:,} shapes of {self.space}"

    @property
    def error(self) -> str:
        """How far off it is, e.g. ``held-out R2 0.98, Spearman 0.98``; empty if not known."""
        return f"held-out {self.scores}" if self.scores else ""

    def __str__(self) -> str:
        return f"{self.by}, {self.error}" if self.error else self.by

    def _repr_html_(self) -> str:
        """What a notebook shows: what is predicted, how well, and from what."""
        facts: dict[str, object] = {
            "by": self.by,
            "held out": f"{self.scores}, {self.scores.n:,} shapes" if self.scores else "",
            "interval": ""
            if self.interval is None
            else f"±{format_quantity(self.interval, self.unit)} holds 90% of new measurements",
            "features": ", ".join(self.features),
        }
        agreements = [notebook.note(str(agreement)) for agreement in self.agreements]
        return notebook.shown(f"Predictor of {self.metric}", facts, *agreements)

    def half_widths(self, predictions: Floats) -> Floats | None:
        """Half-widths of 90% intervals around predictions, (n,) to (n,); None if not known."""
        if self.widths is not None:
            return self.widths.at(predictions)
        return None if self.interval is None else np.full(len(predictions), self.interval)

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the features that are not genes."""
        return self.features[len(self.genes) :]

    def to_json(self) -> str:
        """The card as JSON text; `from_json` reads it back."""
        content = asdict(self)
        content["source"] = dict(self.source)
        content["direction"] = self.direction.value
        content["scores"] = self.scores.as_dict() if self.scores else None
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card.

        Raises:
            InvalidInputError: Not JSON, an entry is missing or unknown, or of the wrong type.
        """
        content = parse_json(text, "card")
        known = {f.name for f in fields(cls)}
        if isinstance(content, dict):
            # Older cards have none.
            later = {"widths": None, "region": None, "optimism": None, "agreements": ()}
            content = {"direction": Direction.MINIMIZE.value, **later, **content}
        if not isinstance(content, dict) or set(content) != known:
            got = ", ".join(sorted(content)) if isinstance(content, dict) else repr(content)
            raise InvalidInputError(f"card: expected {', '.join(sorted(known))}; got {got}")
        try:
            content["direction"] = Direction(content["direction"])
            content["genes"] = tuple(content["genes"])
            content["features"] = tuple(content["features"])
            content["choices"] = tuple(tuple(c) for c in content["choices"])
            scores = content["scores"]
            if scores is not None:
                scores = {k: math.nan if v is None else v for k, v in scores.items()}
                content["scores"] = Scores(**scores)
            for name, of in (("widths", Widths), ("region", Region)):
                if content[name] is not None:
                    content[name] = of.from_dict(content[name])
            content["agreements"] = tuple(RankAgreement(**a) for a in content["agreements"])
            return cls(**content)
        except InvalidInputError:
            raise
        except (TypeError, AttributeError, ValueError, KeyError) as error:
            raise InvalidInputError(f"card: {error}") from error


def known_predictors() -> tuple[str, ...]:
    """Kinds that `create_predictor` knows, in alphabetical order."""
    return tuple(dict.fromkeys(plugin.name for plugin in available(PREDICTORS)))


def create_predictor(kind: str) -> Predictor:
    """An unfitted predictor with default settings.

    Args:
        kind: A built-in kind, or a name in the entry-point group ``nastool.predictors``.

    Raises:
        InvalidInputError: Unknown kind; the message lists the known ones. Or a plugin that two
            distributions offer, that cannot be loaded, or that makes something else.
    """
    plugin = find(PREDICTORS, kind)
    made: Predictor = plugin.make(Predictor)
    named = getattr(made, "kind", None)
    if named != kind and named not in known_predictors():
        # Its folders are read by that name; a known one is that of what it makes, renamed.
        raise InvalidInputError(f"{plugin} must have kind = {kind!r}, got {named!r:.80}")
    check_name(f"{plugin}: its label", getattr(made, "label", None))
    signature = inspect.signature(made.fit)
    try:
        signature.bind(None, None, genes=None)
    except TypeError as error:
        raise InvalidInputError(
            f"{plugin}: fit must take (features, targets, *, genes), got one that takes {signature}"
        ) from error
    return made


def means_of(predictor: Predictor, features: Floats) -> Floats:
    """What a predictor that nobody has checked says of rows (n, f), shape (n,).

    Raises:
        InvalidInputError: It returned something else.
    """
    made: object = predictor.predict(features)
    got = f"shape {np.shape(made.mean)}" if isinstance(made, Prediction) else type(made).__name__
    if not isinstance(made, Prediction) or np.shape(made.mean) != (len(features),):
        raise InvalidInputError(
            f"predictor {predictor.kind} must return a Prediction with means of shape "
            f"({len(features)},), got {got}"
        )
    return made.mean


def check_folder(folder: str | Path) -> Path:
    """Check that `save_predictor` may write a folder; fitting may take long.

    Args:
        folder: Of a predictor.

    Returns:
        Its absolute path.

    Raises:
        InvalidInputError: It holds something else, or lies in a file.
    """
    target = Path(os.path.realpath(folder))
    with reading(folder):
        inside = next(parent for parent in target.parents if parent.exists())
        if not inside.is_dir():
            raise InvalidInputError(f"{folder} must lie in a folder, got the file {inside}")
        is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
        if not is_free and not (target / CARD).is_file():
            raise InvalidInputError(
                f"{folder} must be a new folder or one with a predictor, got something else"
            )
    if not os.access(inside, os.W_OK | os.X_OK):
        raise InvalidInputError(f"{folder} must lie where one may write, got {inside}")
    return target


def save_predictor(
    folder: str | Path, predictor: Predictor, card: Card, data: Measurements | None = None
) -> None:
    """Write a predictor and its card; a reader sees the old folder or the new, never a mixture.

    Args:
        folder: Made if missing; replaced if it holds a predictor.
        predictor: Fitted.
        card: Of the same kind.
        data: What it was fitted on, to be kept beside it so that it can be refitted with more.

    Raises:
        InvalidInputError: See `check_folder`, or the card is of another kind.
        WriteError: It cannot be written; an earlier predictor is as it was.
    """
    if card.kind != predictor.kind:
        raise InvalidInputError(f"card must be of kind {predictor.kind!r}, got {card.kind!r}")
    target = check_folder(folder)
    with (replaced_folder if is_file(target / CARD) else whole_folder)(target) as new:
        predictor.save(new)
        write_whole(new / CARD, card.to_json())
        if data is not None:
            from nastool.predictors.tables import TABLE

            write_whole(new / TABLE, data.to_csv())
        write_digests(new)


def load_predictor(folder: str | Path) -> tuple[Predictor, Card]:
    """Read what `save_predictor` wrote.

    Raises:
        InvalidInputError: No predictor there, or one that cannot be read.
    """
    path = fetched(folder)
    if not is_file(path / CARD):
        raise InvalidInputError(f"{path} must be a folder with a predictor, got no {CARD} there")
    check_digests(path)
    text = read_text(path / CARD)
    try:
        card = Card.from_json(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path / CARD}: {error}") from error
    predictor = create_predictor(card.kind)
    with reading(f"the predictor in {path}"):
        try:
            predictor.load(path)
        except (KeyError, TypeError, IndexError, BadZipFile) as error:
            raise InvalidInputError(f"{path}: cannot read the predictor: {error}") from error
    _LOG.debug("read the %s of %s", card.kind, path)
    return predictor, card
