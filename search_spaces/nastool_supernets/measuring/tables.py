"""Tables of measured perplexities: a row a shape, and a card beside them."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.executors import Executor, Work
from nastool.files.reading import is_file, read_json_object, reading
from nastool.files.reading import read_table as read_rows
from nastool.files.writing import whole_file, write_whole
from nastool.space import SearchSpace
from nastool.store import Store
from nastool.store.ledger import keep_values, known_values
from nastool_supernets.corpus.corpus import PATIENCE
from nastool_supernets.corpus.masked_text import check_length
from nastool_supernets.corpus.tasks import IGNORED_LABEL
from nastool_supernets.genotypes import Genotype, rows
from nastool_supernets.measuring.objective import MeasuredPerplexity, Opening
from nastool_supernets.measuring.perplexities import model_fingerprint, perplexities, share_prefixes
from nastool_supernets.runtime.parallel import ALONE, Workers
from nastool_supernets.runtime.precision import resolve_dtype
from nastool_supernets.supernet import Supernet

_log = logging.getLogger(__name__)

_WRITE_SECONDS = 5.0
"""Seconds between two writes of a table that workers fill; the store has what came since."""

_COMPARED = {
    "supernet_fingerprint": ("supernet", "space"),
    "text_fingerprint": ("text", "blocks", "tokens", "mask_seed"),
    "dtype": ("dtype",),
}
"""What tables must share, and what of their cards says it in words."""


@dataclass(frozen=True)
class MeasuringProgress:
    """What has been measured so far.

    Args:
        done: Shapes with a value, those of earlier runs included.
        total: Shapes asked for; of several processes, those of this one and the earlier ones.
    """

    done: int
    total: int


def measure(
    net: Supernet,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    genotypes: Sequence[Genotype],
    table_path: str | Path,
    *,
    card: dict[str, Any] | None = None,
    batch_size: int | None = None,
    dtype: str = "float32",
    chunk_size: int = 64,
    progress: Callable[[MeasuringProgress], None] | None = None,
    workers: Workers = ALONE,
    max_time: float | None = None,
    store: Store | None = None,
    executor: Executor | None = None,
    opening: Opening | None = None,
) -> Path:
    """Measure subnets into a table; what it or the store already holds is not measured again.

    The table has a column a gene, with its choices, and the column perplexity. Beside it lies a
    card (``TABLE.card.json``) with what was measured on what; a table is only ever continued with
    the same supernet, text, masks and precision.

    Args:
        net: The supernet.
        input_ids: What it reads, (n, length).
        labels: What it is to predict, -100 where nothing, (n, length).
        genotypes: Canonical ones of its space.
        table_path: A file that ends with .csv, .csv.gz or .parquet.
        card: More facts for the card, e.g. names of text and supernet, seed of the masks.
        batch_size: Blocks at a time; None takes what suits the device.
        dtype: ``float32``, ``bfloat16`` or ``auto`` (what is fast here).
        chunk_size: Shapes between two writes of the table.
        progress: Called after every chunk, with what this process knows of.
        workers: The processes that share the shapes; each calls this with the same arguments and
            keeps a table of its own until all are done.
        max_time: Seconds in which it is to end, with the shapes that it came to, the largest and
            the smallest first; None takes as long as all of them need.
        store: Has the ledger that is read and written; of several processes only the first has one.
        executor: Where shapes are measured; in this process by default.
        opening: What its workers make the supernet and the text from.

    Returns:
        The table's path.

    Raises:
        InvalidInputError: If the table holds measurements of something else, or the blocks are
            longer than those that the supernet was trained on.
    """
    path = Path(table_path)
    if not path.name.endswith((".csv", ".csv.gz", ".parquet")):
        raise InvalidInputError(f"the table must end with .csv, .csv.gz or .parquet, got {path}")
    check_length(net.model.config, input_ids.shape[1], "the supernet")
    end = None if max_time is None else time.monotonic() + max_time
    dtype = resolve_dtype(net.model.device.type, dtype)
    full_card = {
        **(card or {}),
        "supernet_fingerprint": model_fingerprint(net.model),
        "text_fingerprint": _array_fingerprint(input_ids, labels),
        "blocks": len(input_ids),
        "tokens": int(input_ids.size),
        "masked_tokens": int((labels != IGNORED_LABEL).sum()),
        "dtype": dtype,
    }

    def values(genotypes: Sequence[Genotype]) -> list[float]:
        found = perplexities(net, input_ids, labels, genotypes, batch_size=batch_size, dtype=dtype)
        return [float(value) for value in found]

    # A table of something else is refused before a lock is written beside it.
    _open_table(path, full_card, net.space)
    objective = MeasuredPerplexity(
        net, input_ids, labels, "the supernet", batch_size=batch_size, dtype=dtype, opening=opening
    )
    ledger = _Ledger(store, objective)
    with workers.owning(path, "table", PATIENCE, _log.warning, is_file=True):
        table = _Table(path, full_card, net.space, workers, ledger, genotypes)
        wanted = share_prefixes(net, list(dict.fromkeys(genotypes)))
        first = tuple(net.followed().values())
        if executor is not None:
            table.fill_by(executor, wanted, first, end, progress)
        else:
            table.fill(wanted, values, chunk_size, first, end, progress)
    return path


@dataclass(frozen=True)
class _Ledger:
    """What a store knows of the perplexity of genotypes; nothing without a store."""

    store: Store | None
    objective: MeasuredPerplexity

    def known(self, genotypes: Sequence[Genotype]) -> dict[Genotype, float]:
        """What has been measured before, by whatever command."""
        if self.store is None or not genotypes:
            return {}
        space = self.objective.space
        values = known_values(self.store, space, self.objective, np.array(genotypes))
        found = zip(genotypes, values.tolist(), strict=True)
        return {genotype: value for genotype, value in found if not math.isnan(value)}

    def keep(self, values: Mapping[Genotype, float]) -> None:
        """Add to it."""
        if self.store is not None and values:
            space, numbers = self.objective.space, np.array(list(values.values()))
            keep_values(self.store, space, self.objective, np.array(list(values)), numbers)


class _Table:
    """A table that several processes fill, each its share."""

    def __init__(
        self,
        path: Path,
        card: dict[str, Any],
        space: SearchSpace,
        workers: Workers,
        ledger: _Ledger,
        wanted: Sequence[Genotype],
    ) -> None:
        self._path, self._card, self._space, self._workers = path, card, space, workers
        self._ledger = ledger
        if workers.is_first:
            done = self._read(path)
            # What other processes had measured when they were stopped.
            for part in _parts(path):
                done |= self._read(part)
            ledger.keep(done)
            done |= ledger.known([genotype for genotype in wanted if genotype not in done])
            self._write(path, done)
        workers.wait()
        self._done = self._read(path)
        workers.wait()

    def _read(self, path: Path) -> dict[Genotype, float]:
        return _open_table(path, self._card, self._space)

    def _write(self, path: Path, values: dict[Genotype, float]) -> None:
        write_whole(_card_path(path), json.dumps(self._card, indent=2) + "\n")
        if values:
            write_table(path, self._space, values)

    def fill(
        self,
        genotypes: Sequence[Genotype],
        measured: Callable[[Sequence[Genotype]], list[float]],
        chunk_size: int,
        first: Sequence[Genotype],
        end: float | None,
        progress: Callable[[MeasuringProgress], None] | None,
    ) -> None:
        """Measure what is missing.

        Args:
            genotypes: What is asked for, each once, in the order of measuring.
            measured: Gives their perplexities.
            chunk_size: Shapes between two writes.
            first: What comes first where the time is limited.
            end: When to stop, by the monotonic clock.
            progress: Called after every chunk.
        """
        workers, done, wanted = self._workers, self._done, set(genotypes)
        todo = [genotype for genotype in genotypes if genotype not in done]
        share = workers.share(len(todo))
        total = len(wanted & set(done)) + len(share)
        mine = self._path
        if not workers.is_first:
            mine = mine.with_name(f".part-{workers.rank}.{mine.name}")
        rest = todo[share.start : share.stop]
        if end is not None:
            rest.sort(key=lambda genotype: genotype not in first)
        pace = 0.0
        while rest:
            size = chunk_size
            if end is not None:
                began = time.monotonic()
                # The first shapes tell how long one takes.
                size = min(size, int((end - began) / pace) if pace else len(first))
                if size < 1 or began >= end:
                    break
            chunk, rest = rest[:size], rest[size:]
            new = dict(zip(chunk, measured(chunk), strict=True))
            done |= new
            if end is not None:
                pace = (time.monotonic() - began) / len(chunk)
            self._write(mine, done)
            self._ledger.keep(new)
            if progress is not None:
                progress(MeasuringProgress(len(wanted & set(done)), total))
        workers.wait()
        if workers.is_first:
            parts = _parts(self._path)
            for part in parts:
                done |= self._read(part)
            if parts:
                self._write(self._path, done)
                self._ledger.keep(done)
            for part in parts:
                part.unlink()
                _card_path(part).unlink()
        workers.wait()

    def fill_by(
        self,
        executor: Executor,
        genotypes: Sequence[Genotype],
        first: Sequence[Genotype],
        end: float | None,
        progress: Callable[[MeasuringProgress], None] | None,
    ) -> None:
        """Have workers measure what is missing; what comes is written every few seconds.

        Args:
            executor: Where.
            genotypes: What is asked for, each once.
            first: What comes first where the time is limited.
            end: When to stop, by the monotonic clock; what is under way then is left.
            progress: Called as values come.
        """
        objective, wanted = self._ledger.objective, set(genotypes)
        rest = [genotype for genotype in genotypes if genotype not in self._done]
        if end is not None:
            rest.sort(key=lambda genotype: genotype not in first)
        written = time.monotonic()
        work = Work(executor, objective)
        try:
            work.add(range(len(rest)), np.array(rest, dtype=np.int64))
            while work and (end is None or time.monotonic() < end):
                new = {
                    rest[int(row)]: float(value)
                    for chunk in work.collect()
                    for row, value in zip(chunk.rows, chunk.values, strict=True)
                    if math.isfinite(value)
                }
                self._done |= new
                self._ledger.keep(new)
                if time.monotonic() - written > _WRITE_SECONDS:
                    self._write(self._path, self._done)
                    written = time.monotonic()
                if progress is not None:
                    progress(MeasuringProgress(len(wanted & set(self._done)), len(wanted)))
        finally:
            work.close()
            self._write(self._path, self._done)


def read_table(path: str | Path, space: SearchSpace) -> dict[Genotype, float]:
    """Read a table of measurements as perplexity by genotype.

    Args:
        path: What `measure` wrote.
        space: Whose shapes it holds.

    Raises:
        InvalidInputError: If it is no such table.
    """
    import pandas

    path = Path(path)
    names = [gene.name for gene in space.genes]
    try:
        with reading(path):
            read = pandas.read_parquet if path.suffix == ".parquet" else pandas.read_csv
            frame = read(path)
            cells = frame[names].astype(object).to_numpy().tolist()
            values = frame["perplexity"].to_numpy(np.float64).tolist()
            return dict(zip(rows(space.encode(cells)), values, strict=True))
    except (InvalidInputError, KeyError) as error:
        raise InvalidInputError(f"{path} is no table of measurements: {error}") from error


def write_table(path: Path, space: SearchSpace, values: dict[Genotype, float]) -> None:
    """Replace a table atomically, sorted by shape.

    Args:
        path: A file that ends with .csv, .csv.gz or .parquet.
        space: Says what genotypes stand for.
        values: Perplexity by genotype.

    Raises:
        WriteError: If it cannot be written; the old table stays.
    """
    import pandas

    genotypes = sorted(values)
    names = [gene.name for gene in space.genes]
    frame = pandas.DataFrame(space.decode(genotypes), columns=names)
    frame["perplexity"] = [values[genotype] for genotype in genotypes]
    with whole_file(path) as file:
        if path.suffix == ".parquet":
            frame.to_parquet(file, index=False)
        else:
            packed = "gzip" if path.suffix == ".gz" else None
            frame.to_csv(file, index=False, mode="wb", compression=packed)


def read_shapes(path: str | Path, space: SearchSpace) -> list[Genotype]:
    """Read shapes from a CSV file with a column a gene (others are ignored).

    Args:
        path: The file.
        space: Whose shapes they are.

    Raises:
        InvalidInputError: If a column is missing or a cell is no choice of its gene; names the
            line.
    """
    genes = space.genes
    choices = [{str(choice): index for index, choice in enumerate(g.choices)} for g in genes]
    shapes = []
    for line in read_rows(Path(path)):
        shape = []
        for gene, known in zip(genes, choices, strict=True):
            cell = line.cells.get(gene.name)
            if cell not in known:
                raise InvalidInputError(
                    f"{path}, line {line.line}: expected one of {', '.join(known)} in the column "
                    f"{gene.name}, got {'no such column' if cell is None else repr(cell)}"
                )
            shape.append(known[cell])
        shapes.append(tuple(shape))
    return shapes


def _array_fingerprint(*arrays: NDArray[np.int64]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _card_path(path: Path) -> Path:
    return path.with_name(path.name + ".card.json")


def _parts(path: Path) -> list[Path]:
    """The tables of the other processes that share a table."""
    return list(path.parent.glob(f".part-*.{glob.escape(path.name)}"))


def _open_table(path: Path, card: dict[str, Any], space: SearchSpace) -> dict[Genotype, float]:
    if not is_file(path):
        return {}
    try:
        old = read_json_object(_card_path(path))
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{path} exists without a readable card ({error}); give another name or remove it"
        ) from error
    different = []
    for key, names in _COMPARED.items():
        if old.get(key) != card[key]:
            facts = [
                f"{n}={old.get(n)}, not {card.get(n)}" for n in names if old.get(n) != card.get(n)
            ]
            different.append(f"another {key}" + (f" ({'; '.join(facts)})" if facts else ""))
    if different:
        raise InvalidInputError(
            f"{path} holds measurements with {', '.join(different)}; give another name or remove it"
        )
    measured = read_table(path, space)
    return {shape: value for shape, value in measured.items() if not math.isnan(value)}
