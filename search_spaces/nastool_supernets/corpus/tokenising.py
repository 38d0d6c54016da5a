"""Tokenising: documents packed into blocks, by all processes at once, and resumable.

Every process takes its share of every source and appends blocks to files of its own; the first one
puts them together. From time to time a process notes how far it is, so that hours of tokenising
survive being stopped; the notes are removed with the parts once the corpus is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from nastool.errors import InvalidInputError, NastoolError
from nastool.files.reading import read_json_object
from nastool.files.writing import write_whole
from nastool_supernets.corpus.text import Source, pieces
from nastool_supernets.corpus.tokenizer import Marks, marks_of
from nastool_supernets.runtime.parallel import Workers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KINDS = ("train", "held_out")

_PIECES_AT_ONCE = 256
_CHARACTERS_AT_ONCE = 1 << 20
_DOCUMENTS_A_NOTE = 1 << 15


@dataclass(frozen=True)
class HeldOut:
    """Which documents are held out, by the hash of their text.

    Args:
        hashes: Of single documents, whatever source they come from.
        fraction: Of the documents of the sources that are read only once.
    """

    hashes: frozenset[int]
    fraction: float

    @classmethod
    def choose(cls, sources: Sequence[Source], fraction: float) -> HeldOut:
        """Take from every source the first documents by hash that make up the fraction.

        A streamed source is read only once; its documents go by a threshold on the hash.

        Args:
            sources: Where the text comes from.
            fraction: Of every source's characters.
        """
        hashes: set[int] = set()
        for source in sources:
            if fraction and not source.streaming:
                hashes |= _first_hashes(source, fraction)
        return cls(frozenset(hashes), fraction)

    def holds(self, source: Source, text: str) -> bool:
        """Return whether a document of the source is held out."""
        key = _document_hash(text)
        return key in self.hashes or (source.streaming and key < self.fraction * 2**64)


def tokenise_share(
    sources: Sequence[Source],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    request: dict[str, Any],
    held_out: HeldOut,
    dtype: np.dtype[Any],
    workers: Workers,
    progress: Callable[[str, int], None] | None = None,
) -> None:
    """Tokenise this process's share of every source, or the rest of it.

    Args:
        sources: Where the text comes from.
        tokenizer: From `load_tokenizer`.
        folder: The corpus's folder.
        request: What was asked for; notes of another request are not gone on from.
        held_out: The documents that are not for training.
        dtype: Of the token ids on disk.
        workers: The processes that share the sources.
        progress: Called with the source's name and this process's tokens of it so far.
    """
    length, limit = request["sequence_length"], request["max_tokens"]
    note_path = _note_path(folder, workers.rank)
    task = {"request": request, "processes": workers.count}
    note: dict[str, Any] = {
        **task,
        "finished": False,
        "documents": [[0, 0] for _ in sources],
        "tokens": [0] * len(sources),
        "blocks": [0, 0],
        "pending": [[], []],
    }
    old = _read_note(note_path)
    if old is not None and all(old.get(name) == value for name, value in task.items()):
        note = old
        if note["finished"]:
            return
    else:
        # Stopped before its first note, this leaves no note of other parts beside its own.
        note_path.unlink(missing_ok=True)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    marks = marks_of(tokenizer)
    with ExitStack() as stack:
        packers = [
            stack.enter_context(
                _Packer(_part_path(folder, kind, workers.rank), length, marks, dtype, *begun)
            )
            for kind, *begun in zip(KINDS, note["blocks"], note["pending"], strict=True)
        ]

        def write_note(finished: bool) -> None:
            for packer in packers:
                packer.sync()
            note["blocks"] = [packer.n_blocks for packer in packers]
            note["pending"] = [packer.pending for packer in packers]
            note["finished"] = finished
            write_whole(note_path, json.dumps(note))

        def is_full() -> bool:
            return limit is not None and packers[0].n_blocks * length * workers.count >= limit

        for i, source in enumerate(sources):
            if is_full():
                break
            documents, noted = note["documents"][i], sum(note["documents"][i])
            rest = islice(source.documents(workers.rank, workers.count), noted, None)
            is_held, is_begun = False, False
            for group in _groups(_pieces(rest)):
                encodings = backend.encode_batch_fast(
                    [piece.text for piece in group], add_special_tokens=False
                )
                for piece, encoding in zip(group, encodings, strict=True):
                    if piece.begins is not None:
                        is_held, is_begun = held_out.holds(source, piece.begins), False
                    packers[is_held].add(encoding.ids, begins=not is_begun)
                    is_begun = is_begun or bool(encoding.ids)
                    note["tokens"][i] += len(encoding.ids)
                    documents[is_held] += piece.ends
                    if piece.ends and is_full():
                        break
                if progress is not None:
                    progress(source.name, note["tokens"][i])
                if is_full():
                    break
                # Within a document there is nothing to go on from.
                if group[-1].ends and sum(documents) - noted >= _DOCUMENTS_A_NOTE:
                    noted = sum(documents)
                    write_note(finished=False)
        write_note(finished=True)


def count_parts(
    sources: Sequence[Source], folder: Path, request: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[int]]:
    """Count what the parts of all processes hold.

    Args:
        sources: Where the text came from.
        folder: The corpus's folder.
        request: What was asked for.

    Returns:
        Counts of every source, and the blocks of training and held-out text.
    """
    notes = [_read_note(_note_path(folder, 0))]
    count = notes[0]["processes"] if notes[0] else 0
    notes += [_read_note(_note_path(folder, rank)) for rank in range(1, count)]
    done = [note for note in notes if note and note["finished"] and note["request"] == request]
    if not done or len(done) != count:
        raise NastoolError(
            f"{folder}: expected the tokenised parts of {count} processes, got {len(done)}; "
            "all processes must see the same folder"
        )
    blocks = [sum(note["blocks"][k] for note in done) for k in range(len(KINDS))]
    counts = [
        {
            "name": source.name,
            "train_documents": sum(note["documents"][i][0] for note in done),
            "held_out_documents": sum(note["documents"][i][1] for note in done),
            "tokens": sum(note["tokens"][i] for note in done),
        }
        for i, source in enumerate(sources)
    ]
    return counts, blocks


def join_parts(
    folder: Path, kind: str, n: int, length: int, dtype: np.dtype[Any], target: Path
) -> None:
    """Put the parts of all processes together.

    Args:
        folder: The corpus's folder.
        kind: ``train`` or ``held_out``.
        n: Blocks in all parts.
        length: Tokens a block.
        dtype: Of the token ids on disk.
        target: File that is written.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (n, length),
    }
    # Parts of an earlier attempt by more processes may lie there, too.
    count = (_read_note(_note_path(folder, 0)) or {})["processes"]
    with open(target, "wb") as whole:
        np.lib.format.write_array_header_1_0(whole, header)
        for rank in range(count):
            with open(_part_path(folder, kind, rank), "rb") as part:
                shutil.copyfileobj(part, whole, 1 << 22)
        whole.flush()
        os.fsync(whole.fileno())


def remove_parts(folder: Path, rank: int | None = None) -> None:
    """Remove parts and notes, those of earlier attempts included.

    Args:
        folder: The corpus's folder.
        rank: Only those of one process.
    """
    for path in folder.glob(".part-*" if rank is None else f".part-{rank}.*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class _Piece(NamedTuple):
    """A document or a part of one, the document itself where it begins, and whether it ends."""

    text: str
    begins: str | None
    ends: bool


class _Packer:
    """Pack documents into blocks, between their marks, and append these to a file."""

    def __init__(
        self,
        path: Path,
        length: int,
        marks: Marks,
        dtype: np.dtype[Any],
        n_blocks: int = 0,
        pending: Iterable[int] = (),
    ) -> None:
        self._length, self._marks, self._dtype = length, marks, dtype
        self.n_blocks, self.pending = n_blocks, list(pending)
        self._file = open(path, "r+b" if n_blocks else "wb")  # noqa: SIM115 - closed by __exit__
        # What was written after the note goes.
        end = n_blocks * length * dtype.itemsize
        self._file.truncate(end)
        self._file.seek(end)

    def add(self, tokens: Sequence[int], *, begins: bool) -> None:
        # Data sets of lines have many empty ones: separators alone are nothing to learn from.
        if not tokens:
            return
        if self.pending and begins:
            self.pending.append(self._marks.between)
        self.pending.extend(tokens)
        begin, end = len(self._marks.begin), self._length - len(self._marks.end)
        body = end - begin
        n = len(self.pending) // body
        if n:
            blocks = np.empty((n, self._length), self._dtype)
            blocks[:, :begin], blocks[:, end:] = self._marks.begin, self._marks.end
            blocks[:, begin:end] = np.array(self.pending[: n * body], self._dtype).reshape(n, body)
            self._file.write(blocks.tobytes())
            self.pending = self.pending[n * body :]
            self.n_blocks += n

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _note_path(folder: Path, rank: int) -> Path:
    return folder / f".part-{rank}.json"


def _part_path(folder: Path, kind: str, rank: int) -> Path:
    return folder / f".part-{rank}.{kind}"


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        return read_json_object(path)
    except InvalidInputError:
        return None


def _document_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _first_hashes(source: Source, fraction: float) -> set[int]:
    lengths: dict[int, int] = {}
    for text in source.documents():
        key = _document_hash(text)
        lengths[key] = lengths.get(key, 0) + len(text)
    wanted, taken = fraction * sum(lengths.values()), 0
    chosen: set[int] = set()
    for key in sorted(lengths):
        if taken >= wanted or len(chosen) + 1 >= len(lengths):
            break
        chosen.add(key)
        taken += lengths[key]
    return chosen


def _pieces(documents: Iterable[str]) -> Iterator[_Piece]:
    for document in documents:
        begins: str | None = document
        rest = pieces(document)
        following = next(rest)
        for text in rest:
            yield _Piece(following, begins, ends=False)
            following, begins = text, None
        yield _Piece(following, begins, ends=True)


def _groups(items: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    group: list[_Piece] = []
    length = 0
    for item in items:
        group.append(item)
        length += len(item.text)
        if len(group) == _PIECES_AT_ONCE or length >= _CHARACTERS_AT_ONCE:
            yield group
            group, length = [], 0
    if group:
        yield group
