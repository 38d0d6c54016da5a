"""Ensembles of regression trees, evaluated without the library that grew them.

`TreeEnsemble` reads the JSON that XGBoost saves and walks the trees for any features. Genes take
few values, so `TreeEnsemble.on_grid` also offers a form without walking: for every choice of a
gene a bit mask of the leaves that it leaves reachable. The AND over all genes has one bit left,
the leaf (after QuickScorer, Lucchese et al., SIGIR 2015).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nastool.errors import InvalidInputError

_IDENTITY_LINKS = frozenset(
    {"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:linear"}
)
"""Objectives whose prediction is the plain sum of the leaves."""

_CHUNK_CELLS = 1 << 15
"""Rows times words handled at once: the intermediate arrays stay in the cache."""

_TABLE_WORDS = 1 << 20
"""Words in the mask table of one group of genes: 8 MiB at most."""

_WORDS = (np.uint8, np.uint16, np.uint32, np.uint64)
"""What a word may be, the smallest first."""

Words = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    """A sum of binary regression trees; the nodes of all trees lie in flat arrays.

    An inner node j sends a row left when ``row[feature[j]] < threshold[j]``, compared in float32;
    a missing value (NaN) goes left when ``default_left[j]``.

    Args:
        feature: Column tested by each node, shape (nodes,); -1 at leaves.
        threshold: Shape (nodes,), float32; meaningless at leaves.
        left: Index of the left child among all nodes, shape (nodes,); -1 at leaves.
        right: Index of the right child, likewise.
        default_left: Where missing values go, shape (nodes,).
        value: Value of each leaf, shape (nodes,); 0 at inner nodes. All values are multiples of
            one power of two, small enough to change nothing that float32 could hold and large
            enough for every sum of them to be exact in float64, in whatever order it is taken.
        gain: Squared error that each split removed when it was grown, shape (nodes,); 0 at leaves.
        roots: Root of each tree, shape (trees,).
        offset: What the sum starts from.
        n_features: Number of columns expected.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    default_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    gain: NDArray[np.float64]
    roots: NDArray[np.int32]
    offset: float
    n_features: int

    @classmethod
    def from_json(cls, source: str | bytes | Path) -> TreeEnsemble:
        """Read a model that XGBoost saved as JSON.

        Args:
            source: The JSON itself, or a path to a file with it.

        Raises:
            InvalidInputError: Not such a model, or one with several outputs, categorical splits
                or an objective whose predictions are not sums of leaves.
        """
        text = source.read_bytes() if isinstance(source, Path) else source
        try:
            return cls._from_learner(json.loads(text)["learner"])
        except InvalidInputError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InvalidInputError(
                f"expected an XGBoost model saved as JSON, got {type(error).__name__}: {error}"
            ) from error

    @classmethod
    def _from_learner(cls, learner: dict[str, Any]) -> TreeEnsemble:
        parameters = learner["learner_model_param"]
        objective = learner["objective"]["name"]
        booster = learner["gradient_booster"]
        if objective not in _IDENTITY_LINKS:
            known = ", ".join(sorted(_IDENTITY_LINKS))
            raise InvalidInputError(
                f"the model's objective must be one of {known}, got {objective}"
            )
        if int(parameters.get("num_target", 1)) > 1 or int(parameters["num_class"]) > 1:
            raise InvalidInputError("the model must have one output, got several")
        # Of trees that were dropped at times: beside a dart's trees, since XGBoost 3.3 among them.
        weights: Sequence[float] | None = None
        if booster["name"] == "dart":
            weights = booster["weight_drop"]
            booster = booster["gbtree"]
        if booster.get("name", "gbtree") != "gbtree":
            raise InvalidInputError(f"the booster must be gbtree or dart, got {booster['name']}")
        trees = booster["model"]["trees"]
        weights = booster["model"].get("weight_drop", weights)
        if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees):
            raise InvalidInputError("the model must have one value a leaf, got vectors")
        if any(any(tree.get("split_type", ())) for tree in trees):
            raise InvalidInputError("the model must have numeric splits, got categorical ones")

        sizes = [len(tree["left_children"]) for tree in trees]
        roots = np.cumsum([0, *sizes], dtype=np.int64)[:-1]
        shift = np.repeat(roots, sizes)

        def column(name: str, dtype: Any) -> NDArray[Any]:
            joined: list[Any] = []
            for tree in trees:
                joined.extend(tree[name])
            return np.array(joined, dtype=dtype)

        left = column("left_children", np.int64)
        right = column("right_children", np.int64)
        condition = column("split_conditions", np.float32)
        leaf = left < 0
        value = np.where(leaf, condition, 0.0).astype(np.float64)
        if weights is not None:
            value *= np.repeat(np.asarray(weights, dtype=np.float64), sizes)
        n_features = int(parameters["num_feature"])
        feature = np.where(leaf, -1, column("split_indices", np.int64))
        if feature.max(initial=-1) >= n_features:
            raise InvalidInputError(
                f"splits must use features below {n_features}, got {feature.max()}"
            )
        return cls(
            feature=feature.astype(np.int32),
            threshold=condition,
            left=np.where(leaf, -1, left + shift).astype(np.int32),
            right=np.where(leaf, -1, right + shift).astype(np.int32),
            default_left=column("default_left", bool),
            value=_exactly_summable(value, len(trees)),
            gain=np.where(leaf, 0.0, column("loss_changes", np.float64)),
            roots=roots.astype(np.int32),
            offset=_base_score(parameters["base_score"]),
            n_features=n_features,
        )

    def scaled(self, middle: float, size: float) -> TreeEnsemble:
        """The same trees for targets of another scale: predictions times a size, plus a middle."""
        if (middle, size) == (0.0, 1.0):
            return self
        return replace(
            self,
            value=_exactly_summable(self.value * size, self.n_trees),
            gain=self.gain * size**2,
            offset=self.offset * size + middle,
        )

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.roots)

    @property
    def gains(self) -> NDArray[np.float64]:
        """Squared error removed by the splits on each column, shape (n_features,)."""
        inner = self.feature >= 0
        gains = np.bincount(self.feature[inner], self.gain[inner], minlength=self.n_features)
        return gains.astype(np.float64)

    @cached_property
    def levels(self) -> tuple[NDArray[np.int32], ...]:
        """Nodes by their distance from the root, over all trees, each in order of the trees."""
        found = [self.roots]
        while True:
            inner = found[-1][self.left[found[-1]] >= 0]
            if not len(inner):
                return tuple(found)
            found.append(np.stack([self.left[inner], self.right[inner]], axis=1).ravel())

    @cached_property
    def _walked(self) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
        """Tested features and children of all nodes; from a leaf one comes to it again."""
        leaf = self.feature < 0
        here = np.arange(len(leaf), dtype=np.int32)
        return (
            np.maximum(self.feature, 0).astype(np.intp),
            np.where(leaf, here, self.left),
            np.where(leaf, here, self.right),
        )

    def leaves(self, features: ArrayLike) -> NDArray[np.int32]:
        """The leaf that each row ends in, tree by tree.

        Args:
            features: Shape (n, f); NaN where missing.

        Returns:
            Node indices, shape (n, trees).
        """
        rows = self._check(features)
        complete = not np.isnan(rows).any()
        feature, left, right = self._walked
        nodes = np.broadcast_to(self.roots, (len(rows), self.n_trees)).copy()
        for _ in self.levels[1:]:
            tested = np.take_along_axis(rows, feature[nodes], axis=1)
            to_left = tested < self.threshold[nodes]
            if not complete:
                to_left = np.where(np.isnan(tested), self.default_left[nodes], to_left)
            nodes = np.where(to_left, left[nodes], right[nodes])
        return nodes

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Sum of the leaves that each row ends in.

        Args:
            features: Shape (n, f); NaN where missing.

        Returns:
            Shape (n,).

        Raises:
            InvalidInputError: A number of columns other than `n_features`.
        """
        rows = self._check(features)
        total = np.full(len(rows), self.offset)
        step = max(1, _CHUNK_CELLS // max(self.n_trees, 1))
        for start in range(0, len(rows), step):
            chunk = slice(start, start + step)
            total[chunk] += self.value[self.leaves(rows[chunk])].sum(axis=1)
        return total

    def _check(self, features: ArrayLike) -> NDArray[np.float32]:
        rows = np.asarray(features, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise InvalidInputError(
                f"features must have shape (n, {self.n_features}), got {rows.shape}"
            )
        return rows

    def on_grid(self, values: Sequence[ArrayLike]) -> GridEnsemble:
        """Specialise to features that take known values only.

        Args:
            values: For each feature the values of its choices; NaN for a missing one.

        Returns:
            The same function of choice indices instead of features.

        Raises:
            InvalidInputError: Not one non-empty list of values for each feature.
        """
        grid = [np.asarray(v, dtype=np.float32) for v in values]
        if len(grid) != self.n_features or any(v.ndim != 1 or not len(v) for v in grid):
            raise InvalidInputError(
                f"the grid must have a list of values for each of {self.n_features} features, "
                f"got shapes {[v.shape for v in grid]}"
            )
        # The nodes of a tree lie together, behind its root.
        leaves = np.sort(np.concatenate([lv[self.left[lv] < 0] for lv in self.levels]))
        starts = np.append(np.searchsorted(leaves, self.roots), len(leaves))
        inside = [self._reachable(i, v)[:, leaves] for i, v in enumerate(grid)]
        return GridEnsemble(inside, self.value[leaves], starts, self.offset)

    def _reachable(self, feature: int, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Nodes that each choice of one feature leaves reachable, shape (choices, nodes)."""
        reachable = np.ones((len(values), len(self.left)), dtype=bool)
        for level in self.levels[:-1]:
            inner = level[self.left[level] >= 0]
            here = reachable[:, inner]
            tests = self.feature[inner] == feature
            to_left = np.where(
                np.isnan(values)[:, None],
                self.default_left[inner],
                values[:, None] < self.threshold[inner],
            )
            reachable[:, self.left[inner]] = here & (to_left | ~tests)
            reachable[:, self.right[inner]] = here & ~(to_left & tests)
        return reachable


class GridEnsemble:
    """A tree ensemble as a function of genotypes.

    The leaves of a tree are numbered, a bit each in a word as small as holds the largest tree; a
    tree of more than 64 leaves takes several words. A word that holds no reachable leaf
    contributes zero, so that words add up like trees do. Neighbouring genes are merged into groups
    whose joint choices index one table of masks.

    Args:
        inside: For each gene, whether each of its choices leads to each leaf, shape (k, leaves).
        values: Of the leaves, shape (leaves,): every genotype leads to one of each tree.
        starts: Where the leaves of each tree begin and, last, end, shape (trees + 1,).
        offset: What the sum starts from.
    """

    def __init__(
        self,
        inside: Sequence[NDArray[np.bool_]],
        values: NDArray[np.float64],
        starts: NDArray[np.int64],
        offset: float,
    ) -> None:
        self.offset = offset
        self.cardinalities = np.array([len(of_gene) for of_gene in inside], dtype=np.int64)
        self._place(values, starts)
        self._group([self._packed(of_gene) for of_gene in inside])

    def _place(self, values: NDArray[np.float64], starts: NDArray[np.int64]) -> None:
        """Give every leaf its bit: word and position within the word."""
        sizes = np.diff(starts)
        largest = int(sizes.max(initial=1))
        # Small words are fetched sooner: the tables are larger than most caches.
        self._word = next((w for w in _WORDS if np.iinfo(w).bits >= largest), np.uint64)
        width = np.iinfo(self._word).bits
        words = -(-sizes // width)
        first = width * (np.cumsum(words) - words)
        self._bits = np.arange(len(values)) + np.repeat(first - starts[:-1], sizes)
        self.n_words = int(words.sum())
        # The position after the last bit stands for "no leaf of this word is reachable".
        table = np.zeros((self.n_words, width + 1))
        table[self._bits // width, self._bits % width] = values
        self._values = table.ravel()
        self._ones = np.ones(self.n_words)
        starts = np.arange(self.n_words) * (width + 1)
        # Small numbers are added sooner; every position is below the length of the values.
        self._starts = starts.astype(np.min_scalar_type(len(self._values)))

    def _packed(self, reachable: NDArray[np.bool_]) -> Words:
        """Leaves that each choice leaves reachable, (choices, leaves), as (choices, words)."""
        bits = np.zeros((len(reachable), self.n_words * np.iinfo(self._word).bits), dtype=bool)
        bits[:, self._bits] = reachable
        packed = np.packbits(bits, axis=1, bitorder="little")
        masks: Words = packed.view(np.dtype(self._word).newbyteorder("<"))
        return masks.astype(self._word, copy=False)

    def _group(self, masks: list[Words]) -> None:
        """Merge neighbouring genes while their joint table stays small."""
        limit = max(_TABLE_WORDS // max(self.n_words, 1), 1)
        self._tables: list[Words] = []
        strides = np.zeros((len(masks), len(masks)), dtype=np.int64)
        for gene, mask in enumerate(masks):
            if self._tables and len(self._tables[-1]) * len(mask) <= limit:
                joined = self._tables[-1][:, None, :] & mask[None, :, :]
                self._tables[-1] = joined.reshape(-1, self.n_words)
                strides[:, len(self._tables) - 1] *= len(mask)
            else:
                self._tables.append(mask)
            strides[gene, len(self._tables) - 1] = 1
        self._strides = np.ascontiguousarray(strides[:, : len(self._tables)])

    def predict(self, genotypes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predict choice indices.

        Args:
            genotypes: Shape (n, f), each index within its gene's choices.

        Returns:
            Shape (n,): exactly what `TreeEnsemble.predict` gives for the choices' values.
        """
        keys = genotypes.dot(self._strides)
        step = max(1, _CHUNK_CELLS // max(self.n_words, 1))
        if len(genotypes) <= step:
            return self._predict(keys)
        total = np.empty(len(genotypes))
        for start in range(0, len(genotypes), step):
            chunk = slice(start, start + step)
            total[chunk] = self._predict(keys[chunk])
        return total

    def _predict(self, keys: NDArray[np.intp]) -> NDArray[np.float64]:
        left = self._tables[0].take(keys[:, 0], axis=0)
        for group, table in enumerate(self._tables[1:], start=1):
            left &= table.take(keys[:, group], axis=0)
        # One bit at most is left: the ones below it count its position, 64 where there is none.
        left -= self._word(1)
        position = (np.bitwise_count(left) + self._starts).astype(np.intp)
        # Every partial sum is exact, so the order in which BLAS adds does not matter.
        total: NDArray[np.float64] = self._values.take(position) @ self._ones
        return total + self.offset


def _base_score(text: str | float) -> float:
    """The intercept: a number, or since XGBoost 3.1 a list with one number."""
    numbers = np.atleast_1d(np.array(json.loads(str(text)), dtype=np.float32))
    if numbers.shape != (1,):
        raise InvalidInputError(f"the model must have one base score, got {text}")
    return float(numbers[0])


def _exactly_summable(values: NDArray[np.float64], terms: int) -> NDArray[np.float64]:
    """Round to multiples of a power of two such that sums of so many terms are exact."""
    largest = float(np.abs(values).max(initial=0.0)) * max(terms, 1)
    if largest == 0.0:
        return values
    quantum = 2.0 ** (math.frexp(largest)[1] - 52)
    return np.round(values / quantum) * quantum
