"""Digests of a predictor's files: what a disk has changed since they were written is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nastool.errors import InvalidInputError
from nastool.files.reading import read_json_object, reading
from nastool.files.writing import write_whole

DIGESTS = "digests.json"
"""In the folder of a predictor: SHA-256 of each other file, by name."""


def write_digests(folder: Path) -> None:
    """Note the content of every file in a folder.

    Raises:
        WriteError: The note cannot be written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    found = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    write_whole(folder / DIGESTS, json.dumps(found, indent=2) + "\n")


def check_digests(folder: Path) -> None:
    """Check that the files of a folder are what was noted; older folders have no note.

    Raises:
        InvalidInputError: One is missing or another; names it.
    """
    note = folder / DIGESTS
    if not note.is_file():
        return
    for name, digest in read_json_object(note).items():
        path = folder / name
        if _digest(path) != digest:
            raise InvalidInputError(
                f"{path} is damaged or was changed by hand: its content is not that of its digest "
                f"in {DIGESTS}"
            )


def _digest(path: Path) -> str:
    with reading(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
