"""Search spaces: which architectures exist.

A space is a tuple of genes, each with a finite tuple of choices. An architecture is one choice
per gene; a *genotype* is the row of indices of the choices taken. Genotypes travel in batches.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.attributes import attribute
from nastool.choices import Choice, as_array, check_name, check_text, members, plain_choice
from nastool.devices import Deployment, Workload
from nastool.errors import InvalidInputError
from nastool.space.branches import Branch, Branching, Cost
from nastool.space.chain import Count

Genotypes = NDArray[np.int64]
"""Shape (n, d): row i holds, gene by gene, the index of the choice taken."""

Architecture = tuple[Choice, ...]


_ENUMERABLE = 2**18
"""Spaces up to this size are gone through to count their architectures."""

_ROUNDS = 100
"""Rounds of draws after which canonical forms count as too rare to be drawn alone."""


@dataclass(frozen=True)
class Gene:
    """One decision of a space.

    Args:
        name: Unique within the space, e.g. ``layer_1``.
        choices: At least one, without repetition; as text free of commas and white space. Any
            sequence of finite numbers or texts, NumPy's included; kept as a tuple of Python's own.
        ordered: Whether neighbouring choices are similar (widths are, operator names are not).

    Raises:
        InvalidInputError: No name, no choices, repeated ones, or one that cannot be written down.
    """

    name: str
    choices: tuple[Choice, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        check_name("a gene's name", self.name)
        what = f"gene {self.name!r}"
        choices = tuple(plain_choice(choice, what) for choice in members(self.choices, what))
        object.__setattr__(self, "name", str(self.name))
        object.__setattr__(self, "choices", choices)
        object.__setattr__(self, "ordered", bool(self.ordered))
        if not choices:
            raise InvalidInputError(f"{what} must have at least one choice, got none")
        texts = [str(choice) for choice in choices]
        if min(len(set(choices)), len(set(texts))) != len(choices):
            known: set[object] = set()
            for choice, text in zip(choices, texts, strict=True):
                if choice in known or text in known:
                    raise InvalidInputError(f"{what}: choices must be distinct, got {text} twice")
                known |= {choice, text}
        for text in texts:
            if "," in text or text.split() != [text]:
                raise InvalidInputError(
                    f"{what}: a choice must be free of commas and white space, got {text!r}"
                )
            if not text.isprintable():
                raise InvalidInputError(
                    f"{what}: a choice must have characters that can be seen, got {text!r}"
                )

    @property
    def is_numeric(self) -> bool:
        """Whether every choice is a number."""
        return all(isinstance(choice, (int, float)) for choice in self.choices)


@dataclass(frozen=True)
class Misfit:
    """Choices that a kind of device runs slower than their size lets expect.

    Args:
        device: The kind of device, for people.
        choices: Of the genes.
        reason: What they miss there, and why.
    """

    device: str
    choices: tuple[Choice, ...]
    reason: str


class SearchSpace(ABC):
    """The set of architectures a study chooses from.

    A subclass defines `name` and `genes`, as attributes of the class or of instances or as
    properties; everything else has a default that a space overrides when it knows better.
    `nastool.testing.SearchSpaceConformance` checks an implementation.
    """

    @attribute
    @abstractmethod
    def name(self) -> str:
        """Short identifier shown to users."""

    @attribute
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """The decisions, in order."""

    @attribute
    def branches(self) -> Sequence[Branch]:
        """One for each setting of the genes that decide whether others make a difference.

        None by default, where no gene does. With them `canonicalize`, `count` and `sample` know
        which genotypes are one architecture, and a cost may differ from branch to branch.
        """
        return ()

    @attribute
    def costs(self) -> Mapping[str, Cost]:
        """Exact costs, by metric name: sums of terms in neighbouring genes.

        A `ConditionalCost` is one such sum for each of the space's branches.
        """
        return {}

    @attribute
    def objectives(self) -> Sequence[str]:
        """What is optimised where nothing else is said, as users type it, e.g. ``params``.

        None by default: then it is the first of the exact costs, if there is one.
        """
        return ()

    @attribute
    def measurers(self) -> Mapping[str, str]:
        """What measures a metric that is predicted: objectives by metric, as users type them.

        Where nothing is said, it is the objective of the metric's name after ``measured_``.
        """
        return {}

    @attribute
    def heuristics(self) -> Mapping[str, Genotypes]:
        """Named hand-crafted families, each of shape (n, d)."""
        return {}

    @attribute
    def misfits(self) -> tuple[Misfit, ...]:
        """Choices whose architectures are slow for their size, as far as the space knows."""
        return ()

    def published(self, metric: str) -> Mapping[str, tuple[Genotypes, NDArray[np.float64]]]:
        """What is published of a metric: predictors of it are held against the order of these.

        Args:
            metric: Name of the metric, e.g. ``perplexity``.

        Returns:
            By source, genotypes of shape (n, d) and their values of shape (n,).
        """
        del metric
        return {}

    def reference(self, metric: str) -> Path | None:
        """Folder of the predictor that ships for a metric on this space.

        Args:
            metric: Name of the metric, e.g. ``perplexity``.

        Returns:
            A folder that `nastool.predictors.load_predictor` reads, or None.
        """
        del metric
        return None

    def deploy(self, genotype: NDArray[np.int64], workload: Workload) -> Deployment:
        """Build one architecture as it ships, with random weights and inputs: to be timed.

        Args:
            genotype: Shape (d,).
            workload: What it is given in one pass.

        Raises:
            InvalidInputError: The space does not know how, or the workload is too large for it.
            MissingDependencyError: A package that building needs is not installed.
        """
        del genotype, workload
        raise InvalidInputError(f"space {self.name} must define `deploy` to be run on a device")

    @cached_property
    def branching(self) -> Branching | None:
        """The branches taken together; None where there are none."""
        return Branching(self.cardinalities, self.branches) if self.branches else None

    def canonicalize(self, genotypes: Genotypes) -> Genotypes:
        """Map equivalent genotypes to one representative, (n, d) to (n, d).

        By default every gene that is idle in its branch gets its first choice.
        """
        return genotypes if self.branching is None else self.branching.canonicalize(genotypes)

    @cached_property
    def cardinalities(self) -> NDArray[np.int64]:
        """Number of choices of each gene, shape (d,)."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)

    @cached_property
    def smallest(self) -> NDArray[np.int64]:
        """The first choice of every gene, shape (d,)."""
        return np.zeros(len(self.genes), dtype=np.int64)

    @cached_property
    def largest(self) -> NDArray[np.int64]:
        """The last choice of every gene, shape (d,)."""
        return self.cardinalities - 1

    @cached_property
    def free(self) -> NDArray[np.int64]:
        """Places of the genes with more than one choice, shape (k,)."""
        return np.flatnonzero(self.cardinalities > 1)

    @cached_property
    def _unsigned_cardinalities(self) -> NDArray[np.uint64]:
        return np.asarray(self._most).astype(np.uint64)

    @cached_property
    def size(self) -> int:
        """Number of genotypes, exact at any size."""
        return math.prod(len(gene.choices) for gene in self.genes)

    @property
    def has_own_forms(self) -> bool:
        """Whether equivalent genotypes are only known by asking `canonicalize`."""
        return type(self).canonicalize is not SearchSpace.canonicalize

    @cached_property
    def count(self) -> Count:
        """Number of architectures, equivalent genotypes counted once.

        Exact, unless the space has canonical forms of its own and is too large to go through.
        """
        if not self.has_own_forms:
            number = self.size if self.branching is None else self.branching.size
            return Count(number, number)
        if self.size > _ENUMERABLE:
            return Count(1, self.size)
        number = len(set(self.keys(self.canonicalize(self.enumerate()))))
        return Count(number, number)

    def enumerate(self) -> Genotypes:
        """Every genotype of a (small) space, shape (size, d)."""
        shape = tuple(self.cardinalities.tolist())
        return np.stack(np.unravel_index(np.arange(self.size), shape), axis=1).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest that changes when the name, a gene, a choice or a branch changes."""
        content: list[Any] = [
            self.name,
            [[g.name, list(g.choices), g.ordered] for g in self.genes],
        ]
        if self.branches:
            content.append([[sorted(b.chosen.items()), sorted(b.idle)] for b in self.branches])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def validate(self, genotypes: ArrayLike) -> Genotypes:
        """Check indices against the space.

        Args:
            genotypes: Integers of shape (n, d).

        Returns:
            The same values as int64.

        Raises:
            InvalidInputError: Wrong shape or dtype, or an index out of range.
        """
        array = as_array("genotypes must be rows of one length", genotypes)
        if array.ndim != 2 or array.shape[1] != len(self.genes):
            raise InvalidInputError(
                f"genotypes of {self.name} must have shape (n, {len(self.genes)}), "
                f"got {array.shape}"
            )
        if array.size and array.dtype.kind not in "iu":
            raise InvalidInputError(f"genotypes must be integers, got {array.dtype}")
        array = array.astype(np.int64, copy=False)
        # As unsigned numbers negative ones are larger than any index.
        above = array.view(np.uint64) >= self._unsigned_cardinalities
        if np.count_nonzero(above):
            row, column = np.argwhere((array < 0) | (array >= self.cardinalities))[0]
            raise InvalidInputError(
                f"gene {self.genes[column].name!r} must be an index below "
                f"{self.cardinalities[column]}, got {array[row, column]}"
            )
        return array

    def decode(self, genotypes: ArrayLike) -> list[Architecture]:
        """Turn genotypes (n, d) into n tuples of choices."""
        rows = self.validate(genotypes).tolist()
        return [
            tuple(gene.choices[index] for gene, index in zip(self.genes, row, strict=True))
            for row in rows
        ]

    def encode(self, architectures: Iterable[Sequence[Choice]]) -> Genotypes:
        """Turn tuples of choices into genotypes (n, d).

        Raises:
            InvalidInputError: Wrong length, or a choice that its gene does not have.
        """
        rows = []
        for architecture in architectures:
            if len(architecture) != len(self.genes):
                raise InvalidInputError(
                    f"an architecture of {self.name} must have {len(self.genes)} choices, "
                    f"got {len(architecture)}"
                )
            row = []
            for gene, index, choice in zip(self.genes, self._indices, architecture, strict=True):
                try:
                    place = index.get(choice)
                except TypeError:  # what is not hashable, such as a list, is no choice either
                    place = None
                if place is None:
                    known = ", ".join(map(str, gene.choices))
                    raise InvalidInputError(f"{gene.name} must be one of {known}, got {choice!r}")
                row.append(place)
            rows.append(row)
        return np.array(rows, dtype=np.int64).reshape(-1, len(self.genes))

    @cached_property
    def _indices(self) -> tuple[dict[Choice, int], ...]:
        """Index of every choice, gene by gene."""
        return tuple({choice: i for i, choice in enumerate(g.choices)} for g in self.genes)

    @cached_property
    def _by_text(self) -> tuple[dict[str, Choice], ...]:
        """Every choice by its text, gene by gene."""
        return tuple({str(choice): choice for choice in gene.choices} for gene in self.genes)

    @cached_property
    def _values(self) -> NDArray[np.float64]:
        """Feature value of every choice, shape (d, max cardinality); index where not numeric."""
        table = np.full((len(self.genes), int(self.cardinalities.max())), np.nan)
        for row, gene in zip(table, self.genes, strict=True):
            numbers = gene.choices if gene.is_numeric else range(len(gene.choices))
            row[: len(gene.choices)] = np.array(list(numbers), dtype=np.float64)
        return table

    def features(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """What predictors see: each gene's numeric choice (or its index), shape (n, d)."""
        return self._values[np.arange(len(self.genes)), genotypes]

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw n architectures independently and uniformly, shape (n, d).

        Of a space with canonical forms of its own all genotypes are equally likely unless these
        forms are at least one in a hundred of them.
        """
        if self.branching is not None:
            return self.branching.sample(n, rng)
        drawn = self.draw(n, rng)
        if not self.has_own_forms or not n:
            return drawn
        # What is its own canonical form, and nothing else, is drawn as often as its likes.
        kept = drawn[(self.canonicalize(drawn) == drawn).all(axis=1)]
        for _ in range(_ROUNDS):
            if len(kept) >= n:
                break
            drawn = self.draw(max(2 * n, 64), rng)
            kept = np.concatenate([kept, drawn[(self.canonicalize(drawn) == drawn).all(axis=1)]])
        filled: Genotypes = np.concatenate([kept, self.draw(n, rng)])[:n]
        return filled

    def draw(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw n genotypes independently and uniformly, equivalent ones too, shape (n, d)."""
        shape = n, len(self.genes)
        drawn: Genotypes = rng.integers(0, self._most, size=shape, dtype=np.int64)
        return drawn

    @cached_property
    def _most(self) -> int | NDArray[np.int64]:
        """Choices of every gene, as one number where all have as many: the same draws, sooner."""
        sizes = self.cardinalities
        return int(sizes[0]) if len(sizes) and (sizes == sizes[0]).all() else sizes

    def keys(self, genotypes: Genotypes) -> list[Any]:
        """Hashable identity of each row: an int where the space fits in 63 bits, else bytes."""
        if self.size < 2**63:
            # For the few rows of a batch sooner than with @.
            numbers: list[int] = genotypes.dot(self._strides).tolist()
            return numbers
        return [row.tobytes() for row in np.ascontiguousarray(genotypes)]

    @cached_property
    def _strides(self) -> NDArray[np.int64]:
        reversed_strides = np.cumprod(np.append(1, self.cardinalities[:0:-1]), dtype=np.int64)
        return np.ascontiguousarray(reversed_strides[::-1])

    def format(self, genotype: NDArray[np.int64]) -> str:
        """One architecture as text; `parse` reads it back.

        Args:
            genotype: Shape (d,).

        Returns:
            Choices joined by dashes, by commas where a choice has a dash of its own.
        """
        return self._separator.join(map(str, self.decode([genotype])[0]))

    def texts(self, genotypes: Genotypes) -> list[str]:
        """What `format` makes of each row (n, d): how tables, files and messages name a shape."""
        if type(self).format is not SearchSpace.format:
            return [self.format(genotype) for genotype in genotypes]
        return [self._separator.join(map(str, choices)) for choices in self.decode(genotypes)]

    @cached_property
    def _separator(self) -> str:
        return "," if self._dashed else "-"

    @cached_property
    def _dashed(self) -> bool:
        return any("-" in str(choice) for gene in self.genes for choice in gene.choices)

    def parse(self, text: str) -> Genotypes:
        """Read one architecture from text with choices separated by dashes, commas or spaces.

        Args:
            text: What `format` returns; dashes separate only where no choice has one.

        Returns:
            A genotype of shape (1, d).

        Raises:
            InvalidInputError: A choice is unknown or the number of choices is wrong.
        """
        spaced = check_text("an architecture", text).replace(",", " ")
        words = spaced.replace("-", "-" if self._dashed else " ").split()
        if len(words) != len(self.genes):
            raise InvalidInputError(
                f"an architecture of {self.name} must have {len(self.genes)} choices, "
                f"got {len(words)} in {text!r:.200}"
            )
        return self.encode([[by.get(w, w) for by, w in zip(self._by_text, words, strict=True)]])
