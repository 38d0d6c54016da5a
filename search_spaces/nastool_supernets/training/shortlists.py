"""What a teacher predicts of a text, kept on disk: every shape that learns from it asks it once.

All logits in 16 bits would take 98 kB a token of a vocabulary of 49,152. Kept are the most likely
tokens and their softened log-probabilities; the others share what is left, as one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from numpy.typing import NDArray
from torch import Tensor

from nastool.constraint import format_quantity
from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool.files.writing import owned, write_whole, writing

KEPT = 64
"""Tokens of a shortlist: of what is softened by 1, they hold nearly all there is."""

_CARD, _TOKENS, _LOGS, _DONE = "lessons.json", "tokens.bin", "logs.bin", "done.bin"


class Shortlist(NamedTuple):
    """Most likely tokens (n, k), and their log-probabilities after softening, (n, k)."""

    tokens: Tensor
    logs: Tensor


def shortlist(logits: Tensor, temperature: float, kept: int = KEPT) -> Shortlist:
    """The most likely tokens of predictions, (n, V).

    Args:
        logits: Of the teacher.
        temperature: That softens them.
        kept: Tokens, at most the vocabulary.
    """
    logs = F.log_softmax(logits.float() / temperature, -1)
    best = logs.topk(min(kept, logs.shape[-1]), dim=-1)
    return Shortlist(best.indices, best.values)


def shortlist_divergence(student: Tensor, told: Shortlist, temperature: float) -> Tensor:
    """Mean KL(teacher || student) of softened predictions, times T squared.

    All tokens beside the list count as one.

    Args:
        student: Logits, (n, V).
        told: Of the teacher.
        temperature: That softens both.
    """
    logs = F.log_softmax(student.float() / temperature, -1)
    own = logs.gather(-1, told.tokens)
    total = (told.logs.exp() * (told.logs - own)).sum(-1)
    if told.tokens.shape[-1] < student.shape[-1]:
        rest, own_rest = _rest(told.logs), _rest(own)
        total = total + rest.exp() * (rest - own_rest)
    return total.sum() * temperature**2 / max(1, len(student))


def _rest(logs: Tensor) -> Tensor:
    """Log of what is left of 1 beside some probabilities, (n, k) to (n,)."""
    # Rounding may leave nothing, or less.
    left = (1.0 - logs.exp().sum(-1)).clamp(min=1e-7)
    return left.log()


def _digest(block: NDArray[Any]) -> bytes:
    content = np.ascontiguousarray(block, "<u4").tobytes()
    return hashlib.blake2b(content, digest_size=16).digest()


class KeptLessons:
    """Shortlists of every block of a text, filled when they are first asked for.

    Args:
        folder: Where they are kept; several runs may share it.
        blocks: The training text, (n, length).
        known: What they depend on: the teacher, how it is softened, and its precision.
        vocabulary: Tokens there are.
        temperature: That softens the predictions.

    Raises:
        InvalidInputError: The folder holds those of another text or teacher.
    """

    def __init__(
        self,
        folder: Path,
        blocks: NDArray[Any],
        known: dict[str, Any],
        vocabulary: int,
        temperature: float,
    ) -> None:
        from nastool_supernets.corpus.identity import describe_blocks

        self._temperature, self.kept = temperature, min(KEPT, vocabulary)
        self._vocabulary = vocabulary
        self._shape = (*blocks.shape, self.kept)
        self._token = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
        card = {
            **known,
            "text": describe_blocks(blocks),
            "kept": self.kept,
            "vocabulary": vocabulary,
            "temperature": temperature,
        }
        card = json.loads(json.dumps(card))
        with owned(folder, "cache of lessons"):
            if is_file(folder / _CARD):
                self._check(folder, card)
            else:
                self._make(folder, card)
        self._tokens, self._logs, self._done = (
            np.memmap(folder / name, kind, "r+", shape=shape) for name, kind, shape in self._files()
        )
        # Blocks are known by what they hold: batches do not say their places.
        self._places = {_digest(block): place for place, block in enumerate(blocks)}

    @property
    def size(self) -> int:
        """Bytes on disk, once all of it is filled."""
        return sum(math.prod(shape) * np.dtype(kind).itemsize for _, kind, shape in self._files())

    @property
    def done(self) -> int:
        """Blocks that are filled."""
        return int(self._done.sum())

    def lesson(
        self, input_ids: Tensor, labels: Tensor, ask: Callable[[Tensor, Tensor], Tensor]
    ) -> Shortlist:
        """What the teacher predicts of a batch.

        Args:
            input_ids: Blocks of the text, (B, T).
            labels: What is to be predicted of them, -100 where nothing is, (B, T).
            ask: The teacher: logits (n, V) from ids and labels.
        """
        rows = [self._places[_digest(block)] for block in input_ids.cpu().numpy()]
        missing = [i for i, place in enumerate(rows) if not self._done[place]]
        if missing:
            own = labels[missing]
            # A vocabulary may be padded further than that of who learns: what both have counts.
            told = ask(input_ids[missing], own)[:, : self._vocabulary]
            found = shortlist(told, self._temperature, self.kept)
            wanted = (own != -100).cpu().numpy()
            tokens = np.zeros((*wanted.shape, self.kept), self._token)
            logs = np.zeros((*wanted.shape, self.kept), np.float16)
            tokens[wanted] = found.tokens.cpu().numpy()
            logs[wanted] = found.logs.cpu().numpy()
            places = [rows[i] for i in missing]
            self._tokens[places], self._logs[places] = tokens, logs
            # What is marked is whole, whenever the machine stops.
            self._tokens.flush()
            self._logs.flush()
            self._done[places] = 1
            self._done.flush()
        wanted = (labels != -100).cpu().numpy()
        device = labels.device
        return Shortlist(
            torch.from_numpy(self._tokens[rows][wanted].astype(np.int64)).to(device),
            torch.from_numpy(self._logs[rows][wanted].astype(np.float32)).to(device),
        )

    def __str__(self) -> str:
        size = format_quantity(float(self.size), "B")
        return (
            f"{self.kept} most likely tokens of {self._shape[0] * self._shape[1]:,} places, {size} "
            f"once all are kept, {self.done:,} of {self._shape[0]:,} blocks are"
        )

    def _files(self) -> tuple[tuple[str, Any, tuple[int, ...]], ...]:
        return (
            (_TOKENS, self._token, self._shape),
            (_LOGS, np.float16, self._shape),
            (_DONE, np.uint8, self._shape[:1]),
        )

    def _check(self, folder: Path, card: dict[str, Any]) -> None:
        found = read_json_object(folder / _CARD)
        if found.get("dtype") == "auto":  # older ones say what was asked for
            found["dtype"] = card["dtype"]
        different = sorted(name for name in card if found.get(name) != card[name])
        if different:
            raise InvalidInputError(
                f"--teacher-cache: {folder} holds lessons of another {different[0]}: give another "
                "folder, or remove it"
            )
        for name, kind, shape in self._files():
            size = math.prod(shape) * np.dtype(kind).itemsize
            if not is_file(folder / name) or (folder / name).stat().st_size != size:
                raise InvalidInputError(
                    f"--teacher-cache: {folder / name} must hold {size:,} bytes: remove the folder"
                )

    def _make(self, folder: Path, card: dict[str, Any]) -> None:
        for name, kind, shape in self._files():
            with writing(folder / name), (folder / name).open("wb") as file:
                # Blocks that nobody asks for take no space.
                file.truncate(math.prod(shape) * np.dtype(kind).itemsize)
        write_whole(folder / _CARD, json.dumps(card, indent=2) + "\n")
