"""The text that a command reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.errors import InvalidInputError
from nastool_supershaper.parallel import ALONE, Workers

if TYPE_CHECKING:
    from nastool_supershaper.data import Corpus, Source


def named_sources(
    text: tuple[str, ...], dataset: tuple[str, ...], text_field: str, streaming: bool
) -> list[Source]:
    """Return the sources that options name.

    Args:
        text: Files, folders or patterns.
        dataset: NAME or NAME:CONFIG.
        text_field: Name of the text column.
        streaming: Read data sets while they download.
    """
    from nastool_supershaper.text import HubDataset, text_files

    return [
        *text_files(text, text_field),
        *(HubDataset.parse(d, text_field=text_field, streaming=streaming) for d in dataset),
    ]


def open_corpus(
    sources: list[Source],
    tokenizer: str | None,
    folder: Path,
    sequence_length: int,
    held_out: float,
    max_tokens: int | None,
    workers: Workers = ALONE,
) -> Corpus:
    """Tokenise the sources, or open the corpus that is there when no source is named.

    Args:
        sources: May be empty if the folder holds a corpus.
        tokenizer: Path, hub name, ``train:SIZE`` or None.
        folder: The corpus's folder.
        sequence_length: Tokens a block.
        held_out: Fraction of the characters to hold out.
        max_tokens: Limit, or None.
        workers: The processes that tokenise together.
    """
    from nastool_supershaper.data import load_corpus, load_tokenizer, prepare_corpus
    from nastool_supershaper.text import save_tokenizer, train_tokenizer

    if not sources:
        if not (folder / "corpus.json").is_file():
            raise InvalidInputError("expected text: --text, --dataset or a prepared --corpus")
        return load_corpus(folder)
    tokenizer = tokenizer or "train:16000"
    if tokenizer.startswith("train:"):
        vocabulary = tokenizer.removeprefix("train:")
        if not vocabulary.isdigit() or int(vocabulary) < 100:
            raise InvalidInputError(f"--tokenizer: expected train:SIZE >= 100, got {tokenizer!r}")
        if workers.is_first:
            save_tokenizer(train_tokenizer(sources, int(vocabulary)), folder / "tokenizer")
        workers.wait()
        loaded = load_tokenizer(folder / "tokenizer")
    else:
        loaded = load_tokenizer(tokenizer)
    with click.progressbar(
        length=len(sources), label="Tokenising", hidden=not workers.is_first
    ) as bar:
        seen: set[str] = set()

        def progress(name: str, tokens: int) -> None:
            del tokens
            if name not in seen:
                seen.add(name)
                bar.update(1)

        return prepare_corpus(
            sources,
            loaded,
            folder,
            sequence_length=sequence_length,
            held_out=held_out,
            max_tokens=max_tokens,
            progress=progress,
            workers=workers,
        )
