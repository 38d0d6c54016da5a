"""What a training starts from: known before any text is read, as far as it can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool_supernets.cli.supernets import (
    check_net,
    new_supernet,
    sized_config,
    sort_hidden,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.training.checkpoints import Checkpoint
    from nastool_supernets.training.rules import Shape
    from nastool_supernets.training.teaching import Lessons
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.supernet_config import SuperShaperConfig


@dataclass(frozen=True)
class Start:
    """What options name to start from.

    Args:
        bert: Path or hub name of a BERT.
        size: Name of sizes, or a JSON file of them, for random weights.
        supernet: Folder of a supernet trained before.
        widths: Hidden sizes a layer can take, with commas between; None for the usual ones.
        layers: Layers to grow to; None to leave it.
        reorder: Whether the hidden dimensions are sorted first.
        shape_text: The one shape to train; None for the supernet.
    """

    bert: str | None
    size: str | None
    supernet: str | None
    widths: str | None
    layers: int | None
    reorder: bool
    shape_text: str | None = None

    def check(self, saved: Checkpoint | None) -> None:
        """Check that one start is named, or none where a run goes on.

        Args:
            saved: The checkpoint of a run that goes on.
        """
        named = [s for s in (self.bert, self.size, self.supernet) if s is not None]
        if len(named) > 1 or (not named and saved is None):
            raise InvalidInputError(
                f"expected exactly one of --bert, --config and --supernet, got {len(named)}"
            )
        if saved is not None and self.shape_text is not None and self.saved_shape(saved) is None:
            raise InvalidInputError(
                "--shape: the run trains a supernet: give another folder (the supernet can be "
                "what the shape starts from: --supernet)"
            )

    @property
    def model(self) -> str | None:
        """The model that is named, which may have a tokenizer beside it."""
        return self.bert or self.supernet

    @property
    def _names(self) -> tuple[str | None, str | None, str | None, str | None, int | None]:
        return self.bert, self.size, self.supernet, self.widths, self.layers

    def saved_shape(self, saved: Checkpoint | None) -> Shape | None:
        """The shape that a run trains alone; None where it trains a supernet, or is none."""
        rule = {} if saved is None else saved.state["config"].get("rule", {})
        return tuple(rule["shape"]) if "shape" in rule else None

    def saved_teacher(self, saved: Checkpoint | None) -> str | None:
        """The folder that a run's teacher lay in; None where it has none."""
        found = None if saved is None else saved.state.get("origin", {}).get("teacher_folder")
        return None if found is None else str(found)

    def is_one_shape(self, saved: Checkpoint | None) -> bool:
        """Whether one shape is trained alone."""
        return self.shape_text is not None or self.saved_shape(saved) is not None

    def open(self, saved: Checkpoint | None) -> tuple[PreTrainedModel | None, Shape | None]:
        """Read what there is before the text.

        Args:
            saved: The checkpoint of a run that goes on.

        Returns:
            The net, or None where its weights are drawn once the vocabulary is known; and the one
            shape to train, or None for a supernet.

        Raises:
            InvalidInputError: If there is no such start, or it has no such shape.
        """
        shape = self.saved_shape(saved)
        if self.model is None and self.size is None and saved is not None:
            if shape is not None and self.shape_text not in (None, "-".join(map(str, shape))):
                raise _other_shape(shape, self.shape_text)
            return self._saved_net(saved, shape), shape
        try:
            if self.size is None:
                net = new_supernet(*self._names, None)
                config = cast("SuperShaperConfig", net.config)
            else:
                net, config = None, sized_config(self.size, self.widths, 1)
                if self.layers is not None:
                    raise InvalidInputError(
                        "--layers: expected --bert or --supernet beside it, got --config"
                    )
        except InvalidInputError as error:
            raise _going_on(error, saved) from error
        if self.shape_text is not None:
            wanted = _parse_shape(self.shape_text, config)
            if shape not in (None, wanted):
                raise _other_shape(shape, self.shape_text)
            shape = wanted
        return net, shape

    def prepared(
        self,
        opened: PreTrainedModel | None,
        saved: Checkpoint | None,
        shape: Shape | None,
        corpus: Corpus,
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """Make the net that training starts from, or that a run that goes on is checked with.

        Args:
            opened: From `open`.
            saved: The checkpoint of a run that goes on.
            shape: The one shape to train; None for the supernet.
            corpus: The training text.

        Returns:
            The net, and what its start is known by.
        """
        from nastool_supernets.measuring.perplexities import model_fingerprint

        if self.model is None and self.size is None and opened is not None:
            return opened, {"reorder": True} if self.reorder else {}
        try:
            net = cast("SuperShaperForMaskedLM", opened or new_supernet(*self._names, corpus))
        except InvalidInputError as error:
            raise _going_on(error, saved) from error
        origin = {"weights at the start": model_fingerprint(net), "reorder": self.reorder}
        if self.reorder and saved is None:
            sort_hidden(net, corpus)
        return (net if shape is None else net.extract(shape)), origin

    def _saved_net(self, saved: Checkpoint, shape: Shape | None) -> PreTrainedModel:
        """The net of a run that goes on, which no option names again."""
        from nastool_supernets.deployment.models import load_deployed
        from nastool_supernets.training.checkpoints import load_supernet

        if shape is None or "widths" in read_json_object(saved.path / "config.json"):
            net = load_supernet(saved.path)
            check_net(net, self.widths, self.layers)
            return net
        for option, given in (("--widths", self.widths), ("--layers", self.layers)):
            if given is not None:
                raise InvalidInputError(f"{option}: the run trains one shape, which has none")
        return load_deployed(saved.path)


def _other_shape(shape: Shape | None, text: str | None) -> InvalidInputError:
    return InvalidInputError(
        f"--shape: the run trains {'-'.join(map(str, shape or ()))}, got {text}: resume with the "
        "same, or give another folder"
    )


def _going_on(error: InvalidInputError, saved: Checkpoint | None) -> InvalidInputError:
    if saved is None:
        return error
    return InvalidInputError(f"{error}; a run that goes on needs no --bert, --config or --supernet")


def shape_of_study(study: str, storage: str, text: str | None) -> str:
    """Widths of the shape that a text names with a study: a row of its front, or its knee.

    Args:
        study: Its name.
        storage: Where it is kept.
        text: What ``--shape`` says.

    Raises:
        InvalidInputError: There is no such study, or the text names none of its shapes.
    """
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result
    from nastool_supernets.finetuning.picks import named_shape
    from nastool_supershaper.space import SuperShaperSpace

    if text is None:
        raise InvalidInputError("--study: expected --shape beside it: widths, a row or knee")
    with open_store(storage, create=False) as store:
        result = load_result(store, study, stored_problem(store.load(study).summary))
    space = result.problem.space
    if not isinstance(space, SuperShaperSpace):
        raise InvalidInputError(f"--study: expected one of shapes, got one of {space.name}")
    return space.format(named_shape(text, space, result)[0])


def _parse_shape(text: str, config: SuperShaperConfig) -> Shape:
    """Read the one shape that an option names.

    Args:
        text: Widths such as ``240-180-...``, ``smallest`` or ``largest``.
        config: Sizes of the supernet that it is a shape of.

    Raises:
        InvalidInputError: If it is none of the supernet's.
    """
    from nastool_supernets.finetuning.picks import named_shape
    from nastool_supershaper.space import from_config

    space = from_config(config.to_dict())
    return tuple(int(width) for width in space.decode(named_shape(text, space, None))[0])


def check_reading(
    net: PreTrainedModel | None, lesson: Lessons | None, tokenizer: str | None, length: int | None
) -> None:
    """Check before text is tokenised that a net, and its teacher, can read it.

    Args:
        net: The net; None for one that takes the text's vocabulary.
        lesson: Its teacher, if it has one.
        tokenizer: Path or hub name of what will read the text; None, or ``train:SIZE``, for a new
            one.
        length: Tokens a block; None for the usual ones.

    Raises:
        InvalidInputError: If it cannot.
    """
    from nastool_supernets.corpus.text import load_tokenizer, vocabulary_size

    if net is not None and (length or 0) > net.config.max_position_embeddings:
        raise InvalidInputError(
            f"--sequence-length: expected at most {net.config.max_position_embeddings} tokens, as "
            f"many as the net has positions, got {length}"
        )
    if tokenizer is None or tokenizer.startswith("train:"):
        if lesson is not None:
            raise InvalidInputError(
                f"--teacher: expected the teacher's tokenizer for the text (--tokenizer "
                f"{lesson.folder}), got a new one"
            )
        return
    loaded = load_tokenizer(tokenizer)
    if net is not None and (needed := vocabulary_size(loaded)) > net.config.vocab_size:
        raise InvalidInputError(
            f"the model's vocabulary must hold the tokenizer's {needed} tokens, got "
            f"{net.config.vocab_size}"
        )
    if lesson is not None:
        lesson.check(loaded)


def known_tokenizer(
    named: str | None, start: str | None, output: Path, corpus: Path, is_saved: bool
) -> str | None:
    """Return the tokenizer of a run that goes on: its options need not name it again.

    Args:
        named: What the options name, if anything.
        start: Model that training starts from, if any.
        output: The run's folder.
        corpus: The corpus's folder.
        is_saved: Whether the run has a checkpoint; without one it may yet start from another model.
    """
    is_given = named is not None and not (is_saved and named.startswith("train:"))
    if is_given or (start is not None and not is_saved):
        return named
    for folder in (output, corpus / "tokenizer") if is_saved else (output,):
        if is_file(folder / "tokenizer.json"):
            return str(folder)
    return named
