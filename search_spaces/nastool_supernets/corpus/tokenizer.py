"""Tokenizers: loaded, looked into, trained and saved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import is_file
from nastool.files.writing import filled
from nastool_supernets.corpus.text import Source, pieces

if TYPE_CHECKING:
    import tokenizers
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_ROLES = ("pad", "unk", "cls", "sep", "mask")
_USUAL = (SPECIAL_TOKENS, ("<pad>", "<unk>", "<s>", "</s>", "<mask>"))
"""What these are called in BERTs and in RoBERTas, whose own files leave it to their classes."""

_LONG_WORD = re.compile(r"\w{100}(?=\w)")
"""Where words are cut to learn a vocabulary from, which takes time by the square of their length;
WordPiece reads none that is longer."""


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer from a folder or the hub: one like BERT's, or of a causal model.

    Args:
        name_or_path: Folder with tokenizer files, or name of a model on the hub.

    Raises:
        InvalidInputError: If there is no tokenizer, or one that neither has [CLS], [SEP] and
            [MASK] nor says where a text ends.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # AutoTokenizer would look into config.json, and does not know a supernet's.
    complete = is_file(Path(name_or_path) / "tokenizer.json")
    loader = PreTrainedTokenizerFast if complete else AutoTokenizer
    # tokenizers raises bare exceptions for damaged files, transformers of any type.
    with one_line(f"no tokenizer at {str(name_or_path)!r}", InvalidInputError):
        tokenizer = loader.from_pretrained(str(name_or_path))
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InvalidInputError(
            f"tokenizer {str(name_or_path)!r}: expected a fast one (tokenizer.json), got "
            f"{type(tokenizer).__name__}"
        )
    # Where there is a model's config.json alone, transformers makes a tokenizer without any word.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InvalidInputError(f"no tokenizer at {str(name_or_path)!r}: it has no vocabulary")
    if not any(tokenizer.special_tokens_map.values()):
        vocabulary = tokenizer.get_vocab()
        for names in _USUAL:
            if all(name in vocabulary for name in names):
                for role, name in zip(_ROLES, names, strict=True):
                    setattr(tokenizer, f"{role}_token", name)
    missing = [n for n in ("cls", "sep", "mask") if getattr(tokenizer, f"{n}_token_id") is None]
    if missing and tokenizer.eos_token_id is None:
        raise InvalidInputError(
            f"tokenizer {str(name_or_path)!r}: expected cls, sep and mask tokens, "
            f"got none for {', '.join(missing)}; or eos, for a causal model"
        )
    if tokenizer.pad_token_id is None:
        # No attention is paid to padding: any token serves.
        named = "[PAD]" in tokenizer.get_vocab()
        tokenizer.pad_token = "[PAD]" if named else tokenizer.sep_token or tokenizer.eos_token
    return tokenizer


class Marks(NamedTuple):
    """What stands around and between texts in a block: ids of tokens, one at most each.

    Args:
        begin: At the beginning of every block.
        between: Between two texts.
        end: At the end of every block.
    """

    begin: tuple[int, ...]
    between: int
    end: tuple[int, ...]


def marks_of(tokenizer: PreTrainedTokenizerFast) -> Marks:
    """What a tokenizer's models expect around texts.

    Those that learn from masked text read [CLS] text [SEP]. Causal models read a text on and on,
    after the token for its beginning where their tokenizer puts one there.

    Args:
        tokenizer: From `load_tokenizer`.
    """
    if tokenizer.mask_token_id is not None and tokenizer.cls_token_id is not None:
        sep = int(tokenizer.sep_token_id)
        return Marks((int(tokenizer.cls_token_id),), sep, (sep,))
    first = tokenizer("a")["input_ids"][:1]
    begin = () if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
    return Marks(begin if tuple(first) == begin else (), int(tokenizer.eos_token_id), ())


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Rows that a table of embeddings needs: ids may have gaps, or lie beyond their number."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def vocabulary_gaps(tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, int]]:
    """Ids below the vocabulary's size that mean nothing: the first of each gap, and the next."""
    ids = sorted({-1, *tokenizer.get_vocab().values()})
    return [(i + 1, j) for i, j in pairwise(ids) if j > i + 1]


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a tokenizer's files, tokenizer.json last: where that is, the others are.

    Args:
        tokenizer: The tokenizer.
        folder: Where to; made if it is missing.

    Raises:
        NastoolError: If they cannot be written, e.g. on a full disk.
    """
    # tokenizers reports a full disk by a bare Exception.
    with (
        one_line(f"cannot write the tokenizer to {folder}"),
        filled(folder, "tokenizer.json") as new,
    ):
        tokenizer.save_pretrained(str(new))


def train_tokenizer(
    sources: Sequence[Source], vocab_size: int, lowercase: bool = False
) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer like BERT's.

    Args:
        sources: Where the text comes from.
        vocab_size: Number of tokens, special ones included.
        lowercase: Whether to lowercase and strip accents ("uncased").
    """
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    # The trainer numbers the characters within words in the order of a hash table, another one in
    # every process, and equally frequent pairs go by number. Named first, they have an order.
    characters = _learnt_words(sources, lowercase, 0, ())
    within = sorted(word for word in characters if word.startswith("##"))
    words = _learnt_words(sources, lowercase, vocab_size, (*SPECIAL_TOKENS, *within))
    tokenizer = _word_pieces(words, lowercase)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _word_pieces(words: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
    """A tokenizer like BERT's with these words by number, without special tokens."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    return tokenizer


def _learnt_words(
    sources: Sequence[Source], lowercase: bool, size: int, first: Sequence[str]
) -> dict[str, int]:
    """What one pass over the text learns: at least all characters, after the words named first."""
    import tokenizers

    documents = (text for source in sources for text in source.documents())
    texts = (piece for document in documents for piece in pieces(document))
    tokenizer = _word_pieces({}, lowercase)
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=list(first), show_progress=False
    )
    tokenizer.train_from_iterator((_LONG_WORD.sub(r"\g<0> ", text) for text in texts), trainer)
    return tokenizer.get_vocab()
