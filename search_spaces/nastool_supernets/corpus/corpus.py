"""From text to a corpus: packed token blocks for training, and held-out ones.

A corpus is a folder: ``train.npy`` and ``held_out.npy`` (one block of ``sequence_length`` token ids
a row, no padding), ``tokenizer/`` and ``corpus.json``, the card, with what was asked for and a
digest of every file. It is replaced by new files, never within them: who has the old ones open goes
on reading these.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError
from nastool.files.reading import is_file, read_json_object, reading
from nastool.files.writing import digest, filled, write_whole
from nastool_supernets.corpus.identity import (
    describe_source,
    describe_tokenizer,
    old_tokenizer_fingerprint,
    source_differences,
    tokenizer_fingerprint,
)
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.next_tokens import NextTokens
from nastool_supernets.corpus.tasks import (
    Blocks,
    Task,
    TaskName,
    apply_fixed,
)
from nastool_supernets.corpus.text import Source
from nastool_supernets.corpus.tokenising import (
    KINDS,
    HeldOut,
    count_parts,
    join_parts,
    remove_parts,
    tokenise_share,
)
from nastool_supernets.corpus.tokenizer import (
    load_tokenizer,
    save_tokenizer,
    vocabulary_gaps,
    vocabulary_size,
)
from nastool_supernets.runtime.parallel import ALONE, Workers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)
_CARD = "corpus.json"
_TOKENIZER = "tokenizer/tokenizer.json"
_FIELDS = ("request", "sources", "vocab_size", "mask_id", "special_ids")
_FORMAT = 2
PATIENCE = 2 * 24 * 3600.0
"""Seconds to wait for another process that prepares the same corpus."""


@dataclass(frozen=True)
class Corpus:
    """Packed blocks of training and held-out text with the tokenizer's special tokens.

    Args:
        folder: Where the corpus lies.
        train: Blocks, (n, sequence_length).
        held_out: Blocks of documents that are not in train, (m, sequence_length).
        card: Sources, counts, vocabulary size, ids of special tokens.
    """

    folder: Path
    train: Blocks
    held_out: Blocks
    card: dict[str, Any]

    @property
    def tokenizer_path(self) -> Path:
        """Folder of the tokenizer's files."""
        return self.folder / "tokenizer"

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Load the tokenizer that the text was read with.

        Raises:
            InvalidInputError: Another process has replaced the corpus since it was opened.
        """
        loaded = load_tokenizer(self.tokenizer_path)
        request = self.card["request"]
        if "format" in request and tokenizer_fingerprint(loaded) != request["tokenizer"]:
            raise InvalidInputError(
                f"another process has replaced the corpus {self.folder} meanwhile: give this one "
                "a folder of its own"
            )
        return loaded

    def masking(self, rate: float = 0.15) -> Masking:
        """Return the masking rule for this corpus's vocabulary.

        Raises:
            InvalidInputError: Its tokenizer is one of a causal model.
        """
        if self.card["mask_id"] is None:
            raise InvalidInputError(
                f"{self.folder}: expected the text of a tokenizer with cls, sep and mask tokens, "
                "got that of a causal model"
            )
        return Masking(
            mask_id=self.card["mask_id"],
            special_ids=tuple(self.card["special_ids"]),
            vocab_size=self.card["vocab_size"],
            gaps=tuple((start, end) for start, end in self.card.get("vocabulary_gaps", ())),
            rate=rate,
        )

    def task(self, name: TaskName) -> Task:
        """Return what a net is to predict of this corpus's blocks."""
        if name == "causal-lm":
            return NextTokens(self.card["vocab_size"])
        return self.masking()

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
        """Check that the text was tokenised with a vocabulary.

        Args:
            tokenizer: Has the vocabulary.
            name: Whose it is, for the message.

        Raises:
            InvalidInputError: If it was another one: the ids would mean other words.
        """
        own = describe_tokenizer(load_tokenizer(self.tokenizer_path))
        other = describe_tokenizer(tokenizer)
        if different := [part for part, found in own.items() if other[part] != found]:
            raise InvalidInputError(
                f"{self.folder} was tokenised with another {', '.join(different)} than that of "
                f"{name}: prepare a corpus with that one"
            )


def load_corpus(folder: str | Path, *, verify: bool = True) -> Corpus:
    """Open a prepared corpus; the blocks are memory maps.

    Args:
        folder: What `prepare_corpus` wrote.
        verify: Whether to read all of it once, and compare it with the digests in its card.

    Raises:
        InvalidInputError: If the folder holds no complete corpus, or a damaged one.
    """
    folder = Path(folder)
    try:
        card = read_json_object(folder / _CARD)
        with reading(folder):
            train = np.load(folder / "train.npy", mmap_mode="r", allow_pickle=False)
            held_out = np.load(folder / "held_out.npy", mmap_mode="r", allow_pickle=False)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"no prepared corpus in {folder} ({error}); --text FILE, or text=FILE in the "
            "brackets of an objective, brings text of your own"
        ) from error
    if missing := [name for name in _FIELDS if name not in card]:
        raise InvalidInputError(f"{folder / _CARD}: expected {', '.join(missing)}, got none")
    for name, expected in card.get("digests", {}).items() if verify else ():
        if digest(folder / name) != expected:
            if read_json_object(folder / _CARD) != card:
                return load_corpus(folder)  # another process has just replaced it
            raise InvalidInputError(
                f"{folder / name} is damaged: it does not match the digest in {_CARD}; prepare "
                "the corpus again, in another folder"
            )
    return Corpus(folder, train, held_out, card)


def fixed_masks(
    corpus: Corpus,
    part: str,
    n_blocks: int | None,
    seed: int,
    task: TaskName = "masked-lm",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask evenly spaced blocks of a corpus once.

    Args:
        corpus: The corpus.
        part: ``train`` or ``held_out``.
        n_blocks: Number of blocks; None takes all.
        seed: Seed of the masks.
        task: What is to be predicted.

    Returns:
        Input ids and labels, (n, length).

    Raises:
        InvalidInputError: Fewer blocks than one.
    """
    blocks = corpus.train if part == "train" else corpus.held_out
    if n_blocks is not None and n_blocks < 1:
        raise InvalidInputError(f"the number of blocks must be at least 1, got {n_blocks}")
    if n_blocks is not None and n_blocks < len(blocks):
        blocks = blocks[np.linspace(0, len(blocks) - 1, n_blocks).astype(np.int64)]
    return apply_fixed(blocks, corpus.task(task), seed)


def prepare_corpus(
    sources: Sequence[Source],
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    *,
    sequence_length: int = 128,
    held_out: float = 0.01,
    max_tokens: int | None = None,
    progress: Callable[[str, int], None] | None = None,
    workers: Workers = ALONE,
    replace: bool = True,
) -> Corpus:
    """Tokenise sources into a corpus folder, or open it if it already holds exactly this.

    Stopped at any moment and called again, it goes on. Several processes share the documents; the
    order of the blocks then depends on their number.

    The held-out documents are chosen by the hash of their text, source by source; a document
    whose text is held out in one source is left out of training in every other one.

    Args:
        sources: Where the text comes from.
        tokenizer: From `load_tokenizer`.
        folder: Where the corpus goes.
        sequence_length: Tokens a block, [CLS] and [SEP] included where there are such.
        held_out: Fraction of the characters of every source to hold out, in [0, 1).
        max_tokens: Stop when the training blocks hold so many tokens; None takes everything.
        progress: Called with the source's name and this process's tokens of it so far.
        workers: The processes that tokenise together; each calls this with the same arguments.
        replace: Whether a corpus of something else in the folder may give way.

    Raises:
        InvalidInputError: If an argument is out of range, the text fills not one block, or there
            is a corpus of something else that may not give way.
        NastoolError: If the corpus cannot be written, e.g. on a full disk.
    """
    if sequence_length < 8:
        raise InvalidInputError(f"sequence_length must be at least 8, got {sequence_length}")
    if not 0 <= held_out < 1:
        raise InvalidInputError(f"held_out must be in [0, 1), got {held_out}")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"max_tokens must be at least 1, got {max_tokens}")
    if not sources:
        raise InvalidInputError("expected at least one source of text, got none")
    folder = Path(folder)
    request = {
        "format": _FORMAT,
        "sources": [describe_source(source) for source in sources],
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "sequence_length": sequence_length,
        "held_out": held_out,
        "max_tokens": max_tokens,
    }
    # Who only takes what is complete needs no lock.
    corpus = _held_corpus(folder, request, tokenizer, workers, replace)
    if corpus is None:
        with workers.owning(folder, "corpus", PATIENCE, _log.warning):
            # Another process may have prepared it meanwhile.
            corpus = _held_corpus(folder, request, tokenizer, workers, replace, _log.warning)
            if corpus is None:
                _prepare(sources, tokenizer, folder, request, workers, progress)
                # Before the next owner may replace it.
                corpus = load_corpus(folder, verify=workers.is_first)
                workers.wait()
            elif workers.is_first:
                remove_parts(folder)  # of a process killed after the card was written
    return corpus


def _held_corpus(
    folder: Path,
    request: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    workers: Workers,
    replace: bool,
    say: Callable[[str], None] | None = None,
) -> Corpus | None:
    """The corpus in the folder where it is the one that is asked for, on every process or none."""
    found = _open_same(folder, request, tokenizer, workers, replace, say)
    if not workers.first_says(found is not None):
        return None
    return found or load_corpus(folder, verify=False)


def _open_same(
    folder: Path,
    request: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    workers: Workers,
    replace: bool,
    say: Callable[[str], None] | None = None,
) -> Corpus | None:
    """Open the corpus in the folder if it is the one that is asked for.

    The first process says what gives way.

    Raises:
        InvalidInputError: It holds another one, which may not give way.
    """
    if not is_file(folder / _CARD):
        return None
    try:
        corpus = load_corpus(folder, verify=workers.is_first)
    except InvalidInputError as error:
        if say and workers.is_first:
            say(f"the corpus is prepared anew: {error}")
        return None
    different = _differences(corpus.card["request"], request, tokenizer)
    if different and not replace:
        raise InvalidInputError(
            f"{folder} holds a corpus of something else ({'; '.join(different)}): ask for the "
            "same, or give another folder"
        )
    if different and say and workers.is_first:
        say(f"{folder} holds another corpus ({'; '.join(different)}) and gets a new one")
    return None if different else corpus


def _prepare(
    sources: Sequence[Source],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    request: dict[str, Any],
    workers: Workers,
    progress: Callable[[str, int], None] | None,
) -> None:
    """Tokenise into parts; what the folder holds gives way once all of them are whole."""
    vocab_size = vocabulary_size(tokenizer)
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    try:
        chosen = HeldOut.choose(sources, request["held_out"])
        tokenise_share(sources, tokenizer, folder, request, chosen, dtype, workers, progress)
        workers.wait()
        if workers.is_first:
            counts, blocks = count_parts(sources, folder, request)
            if not blocks[0]:
                remove_parts(folder)
                raise InvalidInputError(
                    f"the training text fills no block of {request['sequence_length']} tokens: "
                    "give more text, a smaller held-out fraction or a shorter sequence"
                )
            masks = tokenizer.mask_token_id
            card = {
                "request": request,
                "sources": counts,
                "train_blocks": blocks[0],
                "held_out_blocks": blocks[1],
                "vocab_size": vocab_size,
                "mask_id": None if masks is None else int(masks),
                "special_ids": sorted(int(i) for i in tokenizer.all_special_ids),
            }
            if gaps := vocabulary_gaps(tokenizer):
                card["vocabulary_gaps"] = gaps
            # A folder without a card is no corpus.
            with filled(folder, _CARD) as new:
                length = request["sequence_length"]
                for kind, n in zip(KINDS, blocks, strict=True):
                    join_parts(folder, kind, n, length, dtype, new / f"{kind}.npy")
                save_tokenizer(tokenizer, new / "tokenizer")
                files = [*(f"{kind}.npy" for kind in KINDS), _TOKENIZER]
                card["digests"] = {name: digest(new / name) for name in files}
                write_whole(new / _CARD, json.dumps(card, indent=2) + "\n")
            remove_parts(folder)
    except InvalidInputError:
        # Such text cannot be gone on with.
        remove_parts(folder, workers.rank)
        raise
    except OSError as error:
        raise NastoolError(
            f"tokenising into {folder} stopped: {error}; the same command goes on"
        ) from error
    workers.wait()


def _differences(
    then: dict[str, Any], now: dict[str, Any], tokenizer: PreTrainedTokenizerFast
) -> list[str]:
    """Say in what two requests for a corpus differ."""
    if "format" not in then:
        # Older versions noted less: of files no field, and of tokenizers no model.
        sources = then["sources"]
        if len(sources) == len(now["sources"]):
            pairs = zip(sources, now["sources"], strict=True)
            sources = [old | _assumed(new) for old, new in pairs]
        same = then["tokenizer"] == old_tokenizer_fingerprint(tokenizer)
        then = {**then, "sources": sources}
        if same:
            then["tokenizer"] = now["tokenizer"]
    found = source_differences(then["sources"], now["sources"])
    if then["tokenizer"] != now["tokenizer"]:
        found.append("another tokenizer")
    for name in ("sequence_length", "held_out", "max_tokens"):
        if then.get(name) != now[name]:
            found.append(f"{name}={then.get(name)}, not {now[name]}")
    return found


def _assumed(source: dict[str, Any]) -> dict[str, Any]:
    """What an older version did not note: the usual field, the files as they are."""
    assumed = {"text_field": "text"} if "text_field" in source else {}
    return assumed | ({"files": source["files"]} if "files" in source else {})
