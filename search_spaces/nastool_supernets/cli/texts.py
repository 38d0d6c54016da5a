"""The text that a command reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool_supernets.runtime.parallel import ALONE, Workers

if TYPE_CHECKING:
    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.corpus.text import Source


_LENGTH, _HELD_OUT = 128, 0.01


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
    from nastool_supernets.corpus.text import HubDataset, text_files

    return [
        *text_files(text, text_field),
        *(HubDataset.parse(d, text_field=text_field, streaming=streaming) for d in dataset),
    ]


def open_corpus(
    sources: list[Source],
    tokenizer: str | None,
    folder: Path,
    sequence_length: int | None,
    held_out: float | None,
    max_tokens: int | None,
    *,
    start: str | None = None,
    workers: Workers = ALONE,
    replace: bool = True,
    text_field: str | None = None,
) -> Corpus:
    """Tokenise the sources, or open the corpus that is there when no source is named.

    Args:
        sources: May be empty if the folder holds a corpus.
        tokenizer: Path, hub name or ``train:SIZE``; None for that of `start`.
        folder: The corpus's folder.
        sequence_length: Tokens a block; None for those of the corpus that may not give way, or 128.
        held_out: Fraction of the characters to hold out; None likewise, or a hundredth.
        max_tokens: Limit, or None.
        start: Model that is to read the text, or None for a new one.
        workers: The processes that tokenise together.
        replace: Whether a corpus of something else in the folder may give way.
        text_field: Field that is named, to be that of a corpus where no source is.

    Raises:
        InvalidInputError: If there is no text, or not for this tokenizer.
    """
    from nastool_supernets.corpus.corpus import PATIENCE, prepare_corpus
    from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

    if not sources:
        named = {
            "sequence_length": sequence_length,
            "held_out": held_out,
            "max_tokens": max_tokens,
            "text_field": text_field,
        }
        return _prepared(tokenizer, folder, start, named, workers)
    there = {} if replace else _request(folder)
    sequence_length = sequence_length or there.get("sequence_length", _LENGTH)
    held_out = there.get("held_out", _HELD_OUT) if held_out is None else held_out
    max_tokens = max_tokens or there.get("max_tokens")
    tokenizer = tokenizer or start or "train:16000"
    if tokenizer.startswith("train:"):
        vocabulary = tokenizer.removeprefix("train:")
        if not vocabulary.isdecimal() or int(vocabulary) < 100:
            raise InvalidInputError(f"--tokenizer: expected train:SIZE >= 100, got {tokenizer!r}")
        if workers.count == 1:
            loaded = train_tokenizer(sources, int(vocabulary))
        else:
            # Beside the corpus that is there, which another command may yet be refused for.
            with workers.owning(folder, "corpus", PATIENCE):
                shared = folder / ".part-trained"
                if workers.is_first:
                    save_tokenizer(train_tokenizer(sources, int(vocabulary)), shared)
                workers.wait()
                loaded = load_tokenizer(shared)
                workers.wait()
                if workers.is_first:
                    shutil.rmtree(shared)
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


def _request(folder: Path) -> dict[str, Any]:
    """What the corpus in a folder was asked for; empty where there is none."""
    if not is_file(folder / "corpus.json"):
        return {}
    request = read_json_object(folder / "corpus.json").get("request", {})
    return request if isinstance(request, dict) else {}


def _prepared(
    tokenizer: str | None,
    folder: Path,
    start: str | None,
    named: Mapping[str, Any],
    workers: Workers,
) -> Corpus:
    """Open a corpus; its ids must mean the words that the tokenizer or the model means.

    Its blocks must be what the options name.
    """
    from nastool_supernets.corpus.corpus import load_corpus
    from nastool_supernets.corpus.tokenizer import load_tokenizer

    if not is_file(folder / "corpus.json"):
        raise InvalidInputError("expected text: --text, --dataset or a prepared --corpus")
    corpus = load_corpus(folder, verify=workers.is_first)
    request = dict(corpus.card["request"])
    # Files of other kinds than the named field's have none.
    fields = {source.get("text_field") for source in request["sources"]} - {None}
    request["text_field"] = ", ".join(sorted(fields)) or None
    for name, value in named.items():
        if value is not None and request.get(name) != value:
            option = "--" + name.replace("_", "-")
            raise InvalidInputError(
                f"{option}: the prepared corpus {folder} has {name}={request.get(name)}, got "
                f"{value}: name the text to prepare another, or leave the option out"
            )
    if workers.is_first:
        texts = ", ".join(str(source["name"]) for source in corpus.card["sources"])
        click.echo(
            f"No text is named: taking the corpus {folder}, prepared before from {texts} "
            f"({len(corpus.train):,} blocks of {corpus.train.shape[1]} tokens)",
            err=True,
        )
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
    """Show how far tokenising is; how far it is to go nobody knows."""
    from nastool.cli.progress import ProgressBar

    with ProgressBar("tokenising") if shown else nullcontext() as bar:

        def show(name: str, tokens: int) -> None:
            if bar is not None:
                bar(tokens, None, f"tokenising {name}, tokens")

        yield show
