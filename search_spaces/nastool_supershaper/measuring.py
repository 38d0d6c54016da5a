"""Perplexity of many subnets on fixed masked text.

Shapes are walked as a tree of prefixes: two shapes that agree in their first k layers share the
hidden states of those layers. The numbers are bit by bit those of measuring one shape at a time,
and up to rounding those of whole forward passes.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError
from nastool_supershaper.data import write_text_atomically
from nastool_supershaper.parallel import ALONE, Workers
from nastool_supershaper.precision import autocast, resolve_dtype
from nastool_supershaper.training_rules import Shape, random_shape

if TYPE_CHECKING:
    from torch import Tensor

    from nastool_supershaper.modeling import SuperShaperForMaskedLM


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
        from nastool_supershaper.masked_positions import MaskedPositions

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

    Returns:
        The table's path.

    Raises:
        InvalidInputError: If the table holds measurements of something else.
    """
    path = Path(table_path)
    columns = [*(f"layer_{i + 1}" for i in range(model.config.num_hidden_layers)), "perplexity"]
    if not path.name.endswith((".csv", ".csv.gz", ".parquet")):
        raise InvalidInputError(f"the table must end with .csv, .csv.gz or .parquet, got {path}")
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
    if workers.is_first:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"cannot make folder {path.parent}: {error}") from error
        done = _open_table(path, full_card, columns)
        # What other processes had measured when they were stopped.
        for part in _parts(path):
            done |= _open_table(part, full_card, columns)
        write_text_atomically(_card_path(path), json.dumps(full_card, indent=2) + "\n")
        if done:
            write_table(path, done)
    workers.wait()
    done = _open_table(path, full_card, columns)
    workers.wait()
    wanted = set(shapes)
    todo = share_prefixes([shape for shape in dict.fromkeys(shapes) if shape not in done])
    share = workers.share(len(todo))
    total = len(wanted & set(done)) + len(share)
    mine = path if workers.is_first else path.with_name(f".part-{workers.rank}.{path.name}")
    for start in range(share.start, share.stop, chunk_size):
        chunk = todo[start : min(start + chunk_size, share.stop)]
        values = perplexities(model, input_ids, labels, chunk, batch_size=batch_size, dtype=dtype)
        done.update(zip(chunk, values.tolist(), strict=True))
        write_text_atomically(_card_path(mine), json.dumps(full_card, indent=2) + "\n")
        write_table(mine, done)
        if progress is not None:
            progress(MeasuringProgress(len(wanted & set(done)), total))
    workers.wait()
    if workers.is_first:
        parts = _parts(path)
        for part in parts:
            done |= _open_table(part, full_card, columns)
        if parts:
            write_table(path, done)
        for part in parts:
            part.unlink()
            _card_path(part).unlink()
    workers.wait()
    return path


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
        frame = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path)
        shapes = frame[[c for c in frame.columns if c.startswith("layer_")]].to_numpy(np.int64)
        return shapes, frame["perplexity"].to_numpy(np.float64)
    # EOFError and zlib.error: a .gz file that is cut short or damaged.
    except (OSError, ValueError, KeyError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"{path} is no table of measurements: {error}") from error


def write_table(path: Path, values: dict[Shape, float]) -> None:
    """Replace a table atomically, sorted by shape.

    Args:
        path: A file that ends with .csv, .csv.gz or .parquet.
        values: Perplexity by shape.

    Raises:
        NastoolError: If it cannot be written; the old table stays.
    """
    import pandas

    shapes = sorted(values)
    frame = pandas.DataFrame(
        np.asarray(shapes, np.int64), columns=[f"layer_{i + 1}" for i in range(len(shapes[0]))]
    )
    frame["perplexity"] = [values[s] for s in shapes]
    partial = path.with_name(f".partial.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            frame.to_parquet(partial, index=False)
        else:
            frame.to_csv(partial, index=False)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NastoolError(f"cannot write {path}: {error}; the table before is kept") from error


def read_shapes(path: str | Path, n_layers: int) -> list[Shape]:
    """Read shapes from a CSV file with columns layer_1 ... layer_L (others are ignored).

    Args:
        path: The file.
        n_layers: Layers of the supernet.

    Raises:
        InvalidInputError: If a column is missing or a width is no integer.
    """
    names = [f"layer_{i + 1}" for i in range(n_layers)]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [tuple(int(row[name]) for name in names) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InvalidInputError(
            f"{path}: expected a CSV file with integer columns layer_1 ... layer_{n_layers}, "
            f"got {type(error).__name__}: {error}"
        ) from error


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


def _open_table(path: Path, card: dict[str, Any], columns: list[str]) -> dict[Shape, float]:
    if not path.exists():
        return {}
    card_path = _card_path(path)
    try:
        old = json.loads(card_path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{path} exists without a readable card {card_path.name}: {error}; "
            "give another name or remove it"
        ) from error
    keys = ("supernet_fingerprint", "text_fingerprint", "dtype")
    different = [key for key in keys if old.get(key) != card[key]]
    if different:
        raise InvalidInputError(
            f"{path} holds measurements with another {', '.join(different)}; "
            "give another name or remove it"
        )
    measured = read_measured(path)
    n_layers = {len(shape) for shape in measured}
    if n_layers - {len(columns) - 1}:
        raise InvalidInputError(f"{path}: expected {len(columns) - 1} layers, got {n_layers}")
    return {shape: value for shape, value in measured.items() if not math.isnan(value)}
