"""Perplexity measured on a supernet, as an objective: to verify fronts, or to search by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, MissingDependencyError
from nastool.objective import Kind, Objective, Provenance
from nastool.space import Genotypes, SearchSpace
from nastool_supernets.genotypes import Genotype, rows

if TYPE_CHECKING:
    from nastool_supernets.supernet import Supernet

_METRIC = "measured_perplexity"


@dataclass(frozen=True)
class Opening:
    """What a measured perplexity is made from, so that workers make it themselves.

    Args:
        folder: Of the supernet.
        text: Held-out text files; what training held out where there are none.
        text_field: Name of the text column.
        corpus: Prepared corpus to take it from.
        blocks: Blocks of text; all of them if None.
        mask_seed: Seed of the masks.
        dtype: As of `MeasuredPerplexity`.
        batch_size: Blocks at a time; what suits the device if None.
        device: Torch device; the worker's own if None.
    """

    folder: str
    text: tuple[str, ...] = ()
    text_field: str = "text"
    corpus: str | None = None
    blocks: int | None = None
    mask_seed: int = 0
    dtype: str = "auto"
    batch_size: int | None = None
    device: str | None = None

    def open(self, fingerprint: str, name: str) -> MeasuredPerplexity:
        """Load the supernet and the text, and check that they are those that were meant.

        Args:
            fingerprint: Of what was meant.
            name: The metric's name.

        Raises:
            InvalidInputError: They are not there, or are others here.
        """
        from nastool_supernets.corpus.masked_text import masked_text
        from nastool_supernets.runtime.parallel import own_device
        from nastool_supernets.saved import load_supernet

        net = load_supernet(Path(self.folder))
        model: Any = net.model
        model.to(own_device(self.device))
        input_ids, labels, names = masked_text(
            Path(self.folder),
            net.model.config,
            self.text,
            text_field=self.text_field,
            corpus=None if self.corpus is None else Path(self.corpus),
            blocks=self.blocks,
            mask_seed=self.mask_seed,
            task=net.task,
        )
        source = f"supernet {Path(self.folder).name} on {', '.join(names)}"
        made = MeasuredPerplexity(
            net, input_ids, labels, source, name, batch_size=self.batch_size, dtype=self.dtype
        )
        if made.fingerprint != fingerprint:
            raise InvalidInputError(
                f"{name} must be the same on a worker as where it was asked for, got another "
                "fingerprint: are supernet, text, device and dtype the same there?"
            )
        return made


class MeasuredPerplexity(Objective):
    """Perplexity of subnets on fixed masked text.

    Args:
        net: The supernet.
        input_ids: What it reads, shape (n, length).
        labels: What it is to predict, -100 where nothing, shape (n, length).
        source: What was measured on what, for people.
        name: The metric's name as users type it.
        batch_size: Blocks at a time; what suits the device if None.
        dtype: ``float32``, ``bfloat16`` or ``auto``.
        opening: What workers make it from; without one it travels with its weights.

    Raises:
        InvalidInputError: The text has positions that the supernet was not trained on.
    """

    def __init__(
        self,
        net: Supernet,
        input_ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        source: str,
        name: str = _METRIC,
        *,
        batch_size: int | None = 64,
        dtype: str = "auto",
        opening: Opening | None = None,
    ) -> None:
        from nastool_supernets.corpus.masked_text import check_length

        check_length(net.model.config, input_ids.shape[1], source)
        self.space = net.space
        self._net = net
        self._input_ids, self._labels = input_ids, labels
        self._source = source
        self._name = name
        self._batch_size = batch_size
        self._dtype = dtype
        self._opening = opening

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self._opening is None:
            return super().__reduce_ex__(protocol)
        return Opening.open, (self._opening, self.fingerprint, self._name)

    @property
    def name(self) -> str:
        return self._name

    @property
    def provenance(self) -> Provenance:
        masked = int((self._labels != -100).sum())
        return Provenance(Kind.MEASURED, f"{self._source}, {masked:,} masked tokens")

    @property
    def precision(self) -> str:
        """What it computes in, as its fingerprint has it."""
        from nastool_supernets.runtime.precision import resolve_dtype

        return resolve_dtype(self._net.model.device.type, self._dtype)

    @cached_property
    def fingerprint(self) -> str:
        from nastool_supernets.measuring.perplexities import model_fingerprint

        digest = hashlib.sha256(self.space.fingerprint.encode())
        content = [model_fingerprint(self._net.model), self.precision]
        digest.update(json.dumps(content).encode())
        for array in (self._input_ids, self._labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def order(self, genotypes: Genotypes) -> NDArray[np.int64]:
        """Those that begin alike side by side: they share their work."""
        from nastool_supernets.measuring.perplexities import share_prefixes

        chosen = rows(self.space.canonicalize(self.space.validate(genotypes)))
        places: dict[Genotype, list[int]] = {}
        for place, genotype in enumerate(chosen):
            places.setdefault(genotype, []).append(place)
        ordered = [place for g in share_prefixes(self._net, list(places)) for place in places[g]]
        return np.array(ordered, dtype=np.int64)

    def evaluate(self, genotypes: Genotypes) -> NDArray[np.float64]:
        if not len(genotypes):
            return np.empty(0)
        chosen = rows(self.space.canonicalize(self.space.validate(genotypes)))
        return self.measured(self._net, self._input_ids, self._labels, chosen)

    def measured(
        self,
        net: Supernet,
        input_ids: NDArray[np.int64],
        labels: NDArray[np.int64],
        genotypes: Sequence[Genotype],
    ) -> NDArray[np.float64]:
        """Perplexity of subnets, shape (len(genotypes),).

        Args:
            net: The supernet.
            input_ids: What it reads, shape (n, length).
            labels: What it is to predict, -100 where nothing, shape (n, length).
            genotypes: The subnets.
        """
        from nastool_supernets.measuring.perplexities import perplexities

        return perplexities(
            net, input_ids, labels, genotypes, batch_size=self._batch_size, dtype=self._dtype
        )


_Kind = TypeVar("_Kind", bound=MeasuredPerplexity)


def create(
    space: SearchSpace,
    argument: str | None = None,
    *,
    supernet: str | None = None,
    text: Sequence[str] = (),
    blocks: int | None = None,
    mask_seed: int = 0,
    dtype: str = "auto",
) -> MeasuredPerplexity:
    """Perplexity measured on a supernet: ``measured_perplexity[SUPERNET]``.

    Args:
        space: The supernet's space, or one of the same sizes.
        argument: Folder of the supernet.
        supernet: The same; goes before the argument.
        text: Held-out text files; what training held out by default.
        blocks: Blocks of text to measure on; all by default.
        mask_seed: Seed of the masks.
        dtype: ``float32``, ``bfloat16`` or ``auto``.

    Raises:
        InvalidInputError: No supernet there, one of another space, or no text.
        MissingDependencyError: What training needs is not installed.
    """
    if dtype == "int8":
        raise InvalidInputError(
            f"{_METRIC} is of float32 or bfloat16, got dtype int8: int8_perplexity[SUPERNET] is of "
            "what ships in 8 bits"
        )
    return of_folder(
        MeasuredPerplexity, _METRIC, space, supernet or argument, text, blocks, mask_seed, dtype
    )


def of_folder(
    kind: type[_Kind],
    metric: str,
    space: SearchSpace,
    supernet: str | None,
    text: Sequence[str],
    blocks: int | None,
    mask_seed: int,
    dtype: str = "auto",
) -> _Kind:
    """A perplexity of what lies in a supernet's folder.

    Args:
        kind: What is made.
        metric: What it is called before the brackets.
        space: The supernet's space, or one of the same sizes.
        supernet: Its folder.
        text: Held-out text files; what training held out if there are none.
        blocks: Blocks of text to measure on; all if None.
        mask_seed: Seed of the masks.
        dtype: What it computes in.

    Raises:
        InvalidInputError: No supernet there, one of another space, or no text.
        MissingDependencyError: What training needs is not installed.
    """
    if not supernet:
        raise InvalidInputError(f"{metric} needs the folder of a supernet: {metric}[SUPERNET]")
    folder = Path(supernet)
    try:
        from nastool_supernets.corpus.masked_text import masked_text
        from nastool_supernets.saved import load_supernet

        net = load_supernet(folder)
    except ImportError as error:
        raise MissingDependencyError(
            f"measuring needs {error.name or 'torch'}: pip install 'nastool[train]'"
        ) from error
    if space.fingerprint != net.space.fingerprint:
        raise InvalidInputError(
            f"{folder} is a supernet of space {net.space.name}, got {space.name}"
        )
    input_ids, labels, names = masked_text(
        folder, net.model.config, tuple(text), blocks=blocks, mask_seed=mask_seed, task=net.task
    )
    source = f"supernet {folder.resolve().name} on {', '.join(names)}"
    return kind(net, input_ids, labels, source, f"{metric}[{folder}]", dtype=dtype)
