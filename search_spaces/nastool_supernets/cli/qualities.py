"""Options that say what models are measured on: held-out text, or examples of their task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli.options import WholeNumber, count
from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from nastool_supernets.corpus.tasks import TaskName
    from nastool_supernets.deployment.checks import Quality

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class MeasuredOn:
    """What the options ask for.

    Args:
        text: Files, folders or patterns of held-out text.
        corpus: Prepared corpus.
        examples: File of examples.
        limit: Blocks of text or examples at most.
        max_length: Tokens of an example at most.

    Raises:
        InvalidInputError: A limit of nothing.
    """

    text: tuple[str, ...] = ()
    corpus: Path | None = None
    examples: Path | None = None
    limit: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and not self:
            raise InvalidInputError("--limit: expected --text, --corpus or --examples beside it")
        if self.max_length is not None and self.examples is None:
            raise InvalidInputError("--max-length: expected --examples beside it")

    def __bool__(self) -> bool:
        return bool(self.text) or self.corpus is not None or self.examples is not None

    def quality(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Quality | None:
        """What to measure the forms of a model by, or None.

        Raises:
            InvalidInputError: The model's head cannot be measured on it, or it cannot be read.
        """
        from nastool_supernets.deployment.checks import perplexity_on_text, score_on_examples
        from nastool_supernets.family import head_of

        head = head_of(model)
        if self.text or self.corpus is not None:
            if head not in ("masked-lm", "causal-lm"):
                raise InvalidInputError(
                    f"--text and --corpus measure language models alone, got {head}"
                )
            task: TaskName = "causal-lm" if head == "causal-lm" else "masked-lm"
            if self.examples is not None:
                raise InvalidInputError("expected either --examples or text, got both")
            return perplexity_on_text(model, tokenizer, self.text, self.corpus, self.limit, task)
        if self.examples is None:
            return None
        if head in ("masked-lm", "causal-lm", "encoder"):
            raise InvalidInputError(f"--examples measures the heads of tasks, got {head}")
        return score_on_examples(model, tokenizer, self.examples, self.limit, self.max_length)


def measured_on_options(command: _F) -> _F:
    """Add what models are measured on, handed over as ``measured_on``."""

    @click.option(
        "--text",
        multiple=True,
        metavar="FILE",
        help="Held-out text to measure perplexity on: file, folder or pattern; repeatable.",
    )
    @click.option(
        "--corpus",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Prepared corpus to take the text from, what it holds out.",
    )
    @click.option(
        "--examples",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Examples of its task to measure a model on: labelled texts in a table, or questions "
        "in SQuAD's form.",
    )
    @click.option(
        "--limit", type=count, metavar="N", help="Blocks of text or examples at most. Default: all."
    )
    @click.option(
        "--max-length",
        type=WholeNumber(8),
        metavar="N",
        help="Tokens of an example at most. Default: as many as the model takes.",
    )
    @functools.wraps(command)
    def packed(
        *arguments: Any,
        text: tuple[str, ...],
        corpus: Path | None,
        examples: Path | None,
        limit: int | None,
        max_length: int | None,
        **options: Any,
    ) -> Any:
        given = MeasuredOn(text, corpus, examples, limit, max_length)
        return command(*arguments, measured_on=given, **options)

    return packed  # type: ignore[return-value]  # what click calls takes the options instead


def tokenizer_beside(given: str | None, beside: Path) -> PreTrainedTokenizerFast:
    """A tokenizer that was named, or that of a folder.

    Raises:
        InvalidInputError: There is none.
    """
    from nastool.files.reading import is_file
    from nastool_supernets.corpus.tokenizer import load_tokenizer

    if given is None and not is_file(beside / "tokenizer.json"):
        raise InvalidInputError(f"{beside} has no tokenizer.json: give one with --tokenizer")
    return load_tokenizer(given or beside)
