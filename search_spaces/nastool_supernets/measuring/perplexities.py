"""Perplexity of many subnets on fixed masked text.

Shapes are walked as a tree of prefixes: two shapes that agree in their first k layers share the
hidden states of those layers. The numbers are bit by bit those of measuring one shape at a time,
and up to rounding those of whole forward passes.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object, reading
from nastool.files.reading import read_table as read_rows
from nastool.files.writing import whole_file, write_whole
from nastool_supernets.corpus.corpus import PATIENCE
from nastool_supernets.corpus.masked_text import check_length
from nastool_supernets.runtime.parallel import ALONE, Workers
from nastool_supernets.runtime.precision import autocast, resolve_dtype
from nastool_supernets.training.rules import Shape, random_shape

if TYPE_CHECKING:
    from torch import Tensor

    from nastool_supershaper.modeling import SuperShaperForMaskedLM


_log = logging.getLogger(__name__)

_COMPARED = {
    "supernet_fingerprint": ("supernet", "widths"),
    "text_fingerprint": ("text", "blocks", "tokens", "mask_seed"),
    "dtype": ("dtype",),
}
"""What tables must share, and what of their cards says it in words."""

_SUBTREES = 64
"""At least so many subtrees of prefixes are measured in the order that was asked for."""


@dataclass(frozen=True)
class MeasuringProgress:
    """What has been measured so far.

    Args:
        done: Shapes with a value, those of earlier runs included.
        total: Shapes asked for; of several processes, those of this one and the earlier ones.
    """

    done: int
    total: int


def sample_shapes(
    widths: Sequence[int], n_layers: int, n: int, seed: int = 0, exclude: Sequence[Shape] = ()
) -> list[Shape]:
    """Draw different shapes uniformly; a longer list starts with the shorter one.

    Args:
        widths: Widths a layer can have.
        n_layers: Layers of the supernet.
        n: Number of shapes.
        seed: Seed.
        exclude: Shapes that are not to be drawn.

    Raises:
        InvalidInputError: If the space holds fewer shapes.
    """
    if n > len(widths) ** n_layers - len(set(exclude)):
        raise InvalidInputError(
            f"the space holds {len(widths) ** n_layers} shapes, {len(set(exclude))} of them "
            f"taken; expected at most what is left, got {n}"
        )
    generator = np.random.default_rng(seed)
    taken = set(exclude)
    shapes: list[Shape] = []
    while len(shapes) < n:
        shape = random_shape(tuple(widths), n_layers, generator)
        if shape not in taken:
            taken.add(shape)
            shapes.append(shape)
    return shapes


def perplexities(
    model: SuperShaperForMaskedLM,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    shapes: Sequence[Shape],
    *,
    batch_size: int | None = None,
    dtype: str = "float32",
) -> NDArray[np.float64]:
    """Measure shapes on masked text: exp of the mean cross-entropy over the masked tokens.

    Args:
        model: The supernet.
        input_ids: Masked tokens, (n, length).
        labels: Original tokens where masked, -100 elsewhere, (n, length).
        shapes: Width of every layer, shape by shape; any order, repetitions allowed.
        batch_size: Blocks at a time; it bounds the memory and may change the last digits. None
            takes what suits the device: a GPU needs large products to be busy with small widths.
        dtype: ``float32``, ``bfloat16`` or ``auto`` (what is fast here).

    Returns:
        Perplexities, (n_shapes,), in the order of the shapes.
    """
    import torch

    ordered = sorted(set(shapes))
    position = {shape: i for i, shape in enumerate(ordered)}
    was_training = model.training
    model.eval()
    device = model.device
    batch_size = batch_size or (512 if device.type == "cuda" else 64)
    # Added up on the device: reading a number back would stop it after every shape.
    losses = torch.zeros(len(ordered), dtype=torch.float64, device=device)
    try:
        with torch.inference_mode():
            tree = _PrefixTree(model)
            with autocast(device.type, dtype):
                for start in range(0, len(input_ids), batch_size):
                    stop = start + batch_size
                    ids = torch.as_tensor(input_ids[start:stop], device=device)
                    targets = torch.as_tensor(labels[start:stop], device=device)
                    for i, of_batch in enumerate(tree.losses(ids, targets, ordered)):
                        losses[i] += of_batch.double().sum()
    finally:
        model.train(was_training)
    n_masked = int((labels != -100).sum())
    # A subnet may be untrained or broken: inf is then the honest value.
    with np.errstate(over="ignore"):
        values = np.exp(losses.cpu().numpy() / n_masked)
    return np.asarray([values[position[shape]] for shape in shapes], dtype=np.float64)


class _PrefixTree:
    """Shapes in lexicographic order as a walk down a tree; a node holds (B, T, h_i).

    The bottlenecks between two layers are merged once for all shapes.
    """

    def __init__(self, model: SuperShaperForMaskedLM) -> None:
        self._model = model
        self._merged = model.supershaper.merge_bottlenecks()

    def losses(
        self, input_ids: Tensor, labels: Tensor, ordered: Sequence[Shape]
    ) -> Iterator[Tensor]:
        """Yield shape by shape the losses (n_masked,) on one batch, (B, T)."""
        from nastool_supernets.corpus.masked_positions import MaskedPositions

        model = self._model
        masked = MaskedPositions.of(labels)
        embedded = model.supershaper.embed(input_ids)
        path: list[Tensor] = []
        previous: Shape = ()
        for shape in ordered:
            # The last layer runs at masked positions only, and no two shapes share it.
            depth = 0
            while depth < len(path) and previous[depth] == shape[depth]:
                depth += 1
            del path[depth:]
            for index in range(depth, len(shape) - 1):
                path.append(self._run_layer(index, embedded, path, shape, None))
            hidden = self._run_layer(len(shape) - 1, embedded, path, shape, masked.positions)
            hidden = model.supershaper.layers[-1].leave(hidden, shape[-1])
            yield model.head_losses(masked.select(hidden), masked.targets)
            previous = shape

    def _run_layer(
        self,
        index: int,
        embedded: Tensor,
        path: Sequence[Tensor],
        shape: Shape,
        positions: Tensor | None,
    ) -> Tensor:
        import torch

        layer, width = self._model.supershaper.layers[index], shape[index]
        if index == 0:
            x = layer.enter(embedded, width)
        else:
            weight, bias = self._merged[index - 1]
            x = torch.nn.functional.linear(
                path[index - 1], weight[:width, : shape[index - 1]], bias[:width]
            )
        # Past `__call__`: a layer compiled for training is not compiled again for these sizes.
        return layer.forward(x, width, None, positions)


# --------------------------------------------------------------------------------------------------
# Tables


def measure(
    model: SuperShaperForMaskedLM,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    shapes: Sequence[Shape],
    table_path: str | Path,
    *,
    card: dict[str, Any] | None = None,
    batch_size: int | None = None,
    dtype: str = "float32",
    chunk_size: int = 64,
    progress: Callable[[MeasuringProgress], None] | None = None,
    workers: Workers = ALONE,
    max_time: float | None = None,
) -> Path:
    """Measure shapes into a table; shapes that the table already holds are not measured again.

    The table has the columns layer_1 ... layer_L and perplexity. Beside it lies a card
    (``TABLE.card.json``) with what was measured on what; a table is only ever continued with the
    same supernet, text, masks and precision.

    Args:
        model: The supernet.
        input_ids: Masked tokens, (n, length).
        labels: Original tokens where masked, -100 elsewhere, (n, length).
        shapes: Width of every layer, shape by shape.
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

    Returns:
        The table's path.

    Raises:
        InvalidInputError: If the table holds measurements of something else, or the blocks are
            longer than those that the supernet was trained on.
    """
    path = Path(table_path)
    if not path.name.endswith((".csv", ".csv.gz", ".parquet")):
        raise InvalidInputError(f"the table must end with .csv, .csv.gz or .parquet, got {path}")
    check_length(model.config, input_ids.shape[1], "the supernet")
    end = None if max_time is None else time.monotonic() + max_time
    dtype = resolve_dtype(model.device.type, dtype)
    full_card = {
        **(card or {}),
        "supernet_fingerprint": model_fingerprint(model),
        "text_fingerprint": _array_fingerprint(input_ids, labels),
        "blocks": len(input_ids),
        "tokens": int(input_ids.size),
        "masked_tokens": int((labels != -100).sum()),
        "dtype": dtype,
    }

    def values(shapes: Sequence[Shape]) -> list[float]:
        found = perplexities(model, input_ids, labels, shapes, batch_size=batch_size, dtype=dtype)
        return [float(value) for value in found]

    # A table of something else is refused before a lock is written beside it.
    _open_table(path, full_card, model.config.num_hidden_layers)
    with workers.owning(path, "table", PATIENCE, _log.warning, is_file=True):
        table = _Table(path, full_card, model.config.num_hidden_layers, workers)
        first = (model.config.largest, model.config.smallest)
        table.fill(shapes, values, chunk_size, first, end, progress)
    return path


class _Table:
    """A table that several processes fill, each its share."""

    def __init__(self, path: Path, card: dict[str, Any], n_layers: int, workers: Workers) -> None:
        self._path, self._card, self._n_layers, self._workers = path, card, n_layers, workers
        if workers.is_first:
            done = self._read(path)
            # What other processes had measured when they were stopped.
            for part in _parts(path):
                done |= self._read(part)
            self._write(path, done)
        workers.wait()
        self._done = self._read(path)
        workers.wait()

    def _read(self, path: Path) -> dict[Shape, float]:
        return _open_table(path, self._card, self._n_layers)

    def _write(self, path: Path, values: dict[Shape, float]) -> None:
        write_whole(_card_path(path), json.dumps(self._card, indent=2) + "\n")
        if values:
            write_table(path, values)

    def fill(
        self,
        shapes: Sequence[Shape],
        measured: Callable[[Sequence[Shape]], list[float]],
        chunk_size: int,
        first: Sequence[Shape],
        end: float | None,
        progress: Callable[[MeasuringProgress], None] | None,
    ) -> None:
        """Measure what is missing.

        Args:
            shapes: What is asked for.
            measured: Gives the perplexities of shapes.
            chunk_size: Shapes between two writes.
            first: What comes first where the time is limited.
            end: When to stop, by the monotonic clock.
            progress: Called after every chunk.
        """
        workers, done, wanted = self._workers, self._done, set(shapes)
        todo = share_prefixes([shape for shape in dict.fromkeys(shapes) if shape not in done])
        share = workers.share(len(todo))
        total = len(wanted & set(done)) + len(share)
        mine = self._path
        if not workers.is_first:
            mine = mine.with_name(f".part-{workers.rank}.{mine.name}")
        rest = todo[share.start : share.stop]
        if end is not None:
            rest.sort(key=lambda shape: shape not in first)
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
            done.update(zip(chunk, measured(chunk), strict=True))
            if end is not None:
                pace = (time.monotonic() - began) / len(chunk)
            self._write(mine, done)
            if progress is not None:
                progress(MeasuringProgress(len(wanted & set(done)), total))
        workers.wait()
        if workers.is_first:
            parts = _parts(self._path)
            for part in parts:
                done |= self._read(part)
            if parts:
                self._write(self._path, done)
            for part in parts:
                part.unlink()
                _card_path(part).unlink()
        workers.wait()


def share_prefixes(shapes: Sequence[Shape]) -> list[Shape]:
    """Put shapes that begin alike side by side.

    Sorting all of them would share most, but the table of a run that stops early would then hold
    narrow first layers only. So whole subtrees follow one another in the order in which their first
    shapes were asked for: of 10,000 random shapes in 12 layers, the tree then computes 80,400
    layers instead of 120,000 (79,800 if all were sorted).

    Args:
        shapes: Different shapes, in the order in which they were asked for.
    """
    if not shapes:
        return []
    depth = 1
    while len({shape[:depth] for shape in shapes}) < _SUBTREES and depth < len(shapes[0]) - 1:
        depth += 1
    subtrees: dict[Shape, list[Shape]] = {}
    for shape in shapes:
        subtrees.setdefault(shape[:depth], []).append(shape)
    return [shape for subtree in subtrees.values() for shape in sorted(subtree)]


def read_measured(path: str | Path) -> dict[Shape, float]:
    """Read a table of measurements as perplexity by shape.

    Args:
        path: What `measure` wrote.
    """
    shapes, values = read_table(path)
    return dict(zip(map(tuple, shapes.tolist()), values.tolist(), strict=True))


def read_table(path: str | Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read a table of measurements.

    Args:
        path: What `measure` wrote.

    Returns:
        Shapes (n, n_layers) and perplexities (n,).

    Raises:
        InvalidInputError: If it is no such table.
    """
    import pandas

    path = Path(path)
    try:
        with reading(path):
            read = pandas.read_parquet if path.suffix == ".parquet" else pandas.read_csv
            frame = read(path)
            shapes = frame[[c for c in frame.columns if c.startswith("layer_")]].to_numpy(np.int64)
            return shapes, frame["perplexity"].to_numpy(np.float64)
    except (InvalidInputError, KeyError) as error:
        raise InvalidInputError(f"{path} is no table of measurements: {error}") from error


def write_table(path: Path, values: dict[Shape, float]) -> None:
    """Replace a table atomically, sorted by shape.

    Args:
        path: A file that ends with .csv, .csv.gz or .parquet.
        values: Perplexity by shape.

    Raises:
        WriteError: If it cannot be written; the old table stays.
    """
    import pandas

    shapes = sorted(values)
    frame = pandas.DataFrame(
        np.asarray(shapes, np.int64), columns=[f"layer_{i + 1}" for i in range(len(shapes[0]))]
    )
    frame["perplexity"] = [values[s] for s in shapes]
    with whole_file(path) as file:
        if path.suffix == ".parquet":
            frame.to_parquet(file, index=False)
        else:
            packed = "gzip" if path.suffix == ".gz" else None
            frame.to_csv(file, index=False, mode="wb", compression=packed)


def read_shapes(path: str | Path, n_layers: int) -> list[Shape]:
    """Read shapes from a CSV file with columns layer_1 ... layer_L (others are ignored).

    Args:
        path: The file.
        n_layers: Layers of the supernet.

    Raises:
        InvalidInputError: If a column is missing or a width is no integer; names the line.
    """
    names = [f"layer_{i + 1}" for i in range(n_layers)]
    shapes = []
    for row in read_rows(Path(path)):
        try:
            shapes.append(tuple(int(row.cells[name]) for name in names))
        except (KeyError, ValueError) as error:
            raise InvalidInputError(
                f"{path}, line {row.line}: expected integer columns layer_1 ... layer_{n_layers}, "
                f"got {type(error).__name__}: {error}"
            ) from error
    return shapes


def model_fingerprint(model: SuperShaperForMaskedLM) -> str:
    """Return a hash of a model's weights.

    Args:
        model: Any model.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


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


def _open_table(path: Path, card: dict[str, Any], n_layers: int) -> dict[Shape, float]:
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
    measured = read_measured(path)
    found = {len(shape) for shape in measured}
    if found - {n_layers}:
        raise InvalidInputError(f"{path}: expected {n_layers} layers, got {found}")
    return {shape: value for shape, value in measured.items() if not math.isnan(value)}
