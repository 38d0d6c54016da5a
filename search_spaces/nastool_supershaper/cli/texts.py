"""The text that a command reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nastool.errors import InvalidInputError
from nastool.files import is_file
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
    *,
    start: str | None = None,
    workers: Workers = ALONE,
    replace: bool = True,
) -> Corpus:
    """Tokenise the sources, or open the corpus that is there when no source is named.

    Args:
        sources: May be empty if the folder holds a corpus.
        tokenizer: Path, hub name or ``train:SIZE``; None for that of `start`.
        folder: The corpus's folder.
        sequence_length: Tokens a block.
        held_out: Fraction of the characters to hold out.
        max_tokens: Limit, or None.
        start: Model that is to read the text, or None for a new one.
        workers: The processes that tokenise together.
        replace: Whether a corpus of something else in the folder may give way.

    Raises:
        InvalidInputError: If there is no text, or not for this tokenizer.
    """
    from nastool_supershaper.data import load_tokenizer, prepare_corpus
    from nastool_supershaper.text import save_tokenizer, train_tokenizer

    if not sources:
        return _prepared(tokenizer, folder, start)
    tokenizer = tokenizer or start or "train:16000"
    if tokenizer.startswith("train:"):
        vocabulary = tokenizer.removeprefix("train:")
        if not vocabulary.isdecimal() or int(vocabulary) < 100:
            raise InvalidInputError(f"--tokenizer: expected train:SIZE >= 100, got {tokenizer!r}")
        if workers.is_first:
            save_tokenizer(train_tokenizer(sources, int(vocabulary)), folder / "tokenizer")
        workers.wait()
        loaded = load_tokenizer(folder / "tokenizer")
    else:
        loaded = load_tokenizer(tokenizer)
    with _tokenising(shown=workers.is_first) as progress:
        return prepare_corpus(
            sources,
            loaded,
            folder,
            sequence_length=sequence_length,
            held_out=held_out,
            max_tokens=max_tokens,
            progress=progress,
            workers=workers,
            replace=replace,
        )


def _prepared(tokenizer: str | None, folder: Path, start: str | None) -> Corpus:
    """Open a corpus; its ids must mean the words that the tokenizer or the model means."""
    from nastool_supershaper.data import load_corpus, load_tokenizer

    if not is_file(folder / "corpus.json"):
        raise InvalidInputError("expected text: --text, --dataset or a prepared --corpus")
    corpus = load_corpus(folder)
    if tokenizer is not None:
        if tokenizer.startswith("train:"):
            raise InvalidInputError(
                f"--tokenizer: expected text to train one, got the prepared corpus {folder}"
            )
        corpus.check_tokenizer(load_tokenizer(tokenizer), tokenizer)
    elif start is not None:
        try:
            loaded = load_tokenizer(start)
        except InvalidInputError:
            return corpus  # weights alone
        corpus.check_tokenizer(loaded, start)
    return corpus


@contextmanager
def _tokenising(shown: bool) -> Iterator[Callable[[str, int], None]]:
    """Show on a terminal how far tokenising is; how far it is to go nobody knows."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), "{task.description}", TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("Tokenising", total=None)

        def show(name: str, tokens: int) -> None:
            bar.update(task, description=f"Tokenising {escape(name)}: {tokens:,} tokens")

        yield show
