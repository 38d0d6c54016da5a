"""What a training starts from: known before any text is read, as far as it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from nastool.cli.config import OpenCommand
from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import is_file, is_folder, read_json_object
from nastool_supernets.family import Family, families, find_family
from nastool_supernets.positions import positions_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from nastool.space import Architecture
    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.saved import Checkpoint
    from nastool_supernets.supernet import Net, Supernet
    from nastool_supernets.training.teaching import Lessons


class TrainingCommand(OpenCommand):
    """A command with the options of all families behind its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *family_options()]


def family_options() -> list[click.Option]:
    """The further options of all families; one that several have in common is there once.

    Raises:
        InvalidInputError: Two families mean something else by the same one.
    """
    owners: dict[str, tuple[str, click.Option]] = {}
    options: list[click.Option] = []
    for family in families():
        for option in family.options():
            known = [owners.setdefault(flag, (family.name, option)) for flag in option.opts]
            for flag, (other, first) in zip(option.opts, known, strict=True):
                if first.to_info_dict() != option.to_info_dict():
                    raise InvalidInputError(
                        f"option {flag} must be of one family of supernets, got {other} and "
                        f"{family.name}"
                    )
            if all(first is option for _, first in known):
                options.append(option)
    return options


@dataclass(frozen=True)
class Start:
    """What options name to start from.

    Args:
        size: Name of sizes, or a JSON file of them, for random weights.
        supernet: Folder of a supernet trained before.
        options: What the options of all families were given.
        shape_text: The one shape to train; None for the supernet.
        family_name: The family; None for what the other options say.
    """

    size: str | None
    supernet: str | None
    options: Mapping[str, Any]
    shape_text: str | None = None
    family_name: str | None = None

    def check(self, saved: Checkpoint | None) -> None:
        """Check that one start is named, or none where a run goes on.

        Args:
            saved: The checkpoint of a run that goes on.
        """
        starts = {name: self.options.get(name) for f in families() for name in f.starts}
        starts |= {"size": self.size, "supernet": self.supernet}
        named = [name for name, given in starts.items() if given is not None]
        if len(named) > 1 or (not named and saved is None):
            *others, last = (f"--{name}" for name in starts)
            raise InvalidInputError(
                f"expected exactly one of {', '.join(others)} and {last}, got {len(named)}"
            )
        if saved is not None and self.shape_text is not None and self.saved_shape(saved) is None:
            raise InvalidInputError(
                "--shape: the run trains a supernet: give another folder (the supernet can be "
                "what the shape starts from: --supernet)"
            )

    def family(self, saved: Checkpoint | None) -> Family:
        """The family that is trained.

        Raises:
            InvalidInputError: Nothing says which, or what does is contradicted.
        """
        family = self._family(saved)
        own = {option.name for option in family.options()}
        for other in families():
            for option in other.options():
                if option.name not in own and _is_given(self.options.get(str(option.name))):
                    raise InvalidInputError(
                        f"{option.opts[0]}: expected a {other.name} net, got {family.name}"
                    )
        if self.family_name not in (None, family.name):
            raise InvalidInputError(
                f"--family: expected {family.name}, which the net is of, got {self.family_name}"
            )
        return family

    def _family(self, saved: Checkpoint | None) -> Family:
        from nastool_supernets.saved import trained_folder

        if saved is not None or self.supernet is not None:
            folder = saved.path if saved else trained_folder(Path(str(self.supernet)), "supernet")
            return find_family(str(read_json_object(folder / "config.json").get("model_type")))
        if self.family_name is not None:
            return find_family(self.family_name)
        known = families()
        for name in dict.fromkeys(name for family in known for name in family.starts):
            if (model := self.options.get(name)) is not None:
                candidates = [family for family in known if name in family.starts]
                if len(candidates) == 1:
                    return candidates[0]
                return _of_type(candidates, name, str(model))
        having = [family for family in known if self.size in family.sizes]
        # A file of sizes may be of any family that starts from random weights.
        having = having or [family for family in known if family.sizes] or [*known]
        if len(having) != 1:
            raise InvalidInputError(
                f"--family: expected one of {', '.join(family.name for family in having)}, got none"
            )
        return having[0]

    @property
    def model(self) -> str | None:
        """The model that is named, which may have a tokenizer beside it."""
        named = (self.options.get(name) for family in families() for name in family.starts)
        return next((str(name) for name in named if name is not None), self.supernet)

    @property
    def is_trained(self) -> bool:
        """Whether the model that is named brings a head that was trained."""
        named = (f for f in families() for n in f.starts if self.options[n] is not None)
        return self.supernet is not None or any(family.starts_trained for family in named)

    def saved_shape(self, saved: Checkpoint | None) -> Architecture | None:
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

    def open(self, saved: Checkpoint | None) -> tuple[PreTrainedModel | None, Architecture | None]:
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
            family = self.family(saved)
            if self.size is None:
                net = self._named_net(family)
                config = net.config
            else:
                net, config = None, family.sized(self.size, self.options, 1)
        except InvalidInputError as error:
            raise _going_on(error, saved) from error
        if self.shape_text is not None:
            wanted = _parse_shape(self.shape_text, family, config)
            if shape not in (None, wanted):
                raise _other_shape(shape, self.shape_text)
            shape = wanted
        return net, shape

    def prepared(
        self,
        opened: PreTrainedModel | None,
        saved: Checkpoint | None,
        shape: Architecture | None,
        corpus: Corpus,
    ) -> tuple[Net, dict[str, Any]]:
        """Make the net that training starts from, or that a run that goes on is checked with.

        Args:
            opened: From `open`.
            saved: The checkpoint of a run that goes on.
            shape: The one shape to train; None for the supernet.
            corpus: The training text.

        Returns:
            The net, and what its start is known by.
        """
        from nastool_supernets.family import net_of
        from nastool_supernets.measuring.perplexities import model_fingerprint
        from nastool_supernets.training.config import RANDOM_START

        family = self.family(saved)
        if self.model is None and self.size is None and opened is not None:
            origin = family.prepare(opened, self.options, None)
            return net_of(opened), {name: value for name, value in origin.items() if value}
        model = opened
        origin = {}
        if model is None:
            config = family.sized(str(self.size), self.options, corpus.card["vocab_size"])
            model = cast("Any", family.model_class)(config)
            origin = {"start": RANDOM_START}
        origin["weights at the start"] = model_fingerprint(model)
        if saved is not None:
            family.go_on(model, read_json_object(saved.path / "config.json"))
        origin |= family.prepare(model, self.options, corpus if saved is None else None)
        net = cast("Supernet", net_of(model))
        if shape is None:
            return net, origin
        return net_of(net.extract(net.genotype(shape))), origin

    def _named_net(self, family: Family) -> PreTrainedModel:
        """The supernet that options name, as they change it."""
        from nastool_supernets.saved import load_supernet

        if self.supernet is None:
            return family.begin(self.options)
        model = load_supernet(self.supernet).model
        # Older nets do not say what they were trained on.
        known = getattr(model.config, "trained_positions", 0)
        model.config.trained_positions = known or positions_of(model.config)
        return family.changed(model, self.options)

    def _saved_net(self, saved: Checkpoint, shape: Architecture | None) -> PreTrainedModel:
        """The net of a run that goes on, which no option names again."""
        from nastool_supernets.saved import load_shape, load_supernet

        family = self.family(saved)
        kind = read_json_object(saved.path / "config.json").get("model_type")
        if shape is None or kind == family.name:
            model = load_supernet(saved.path).model
            family.check(model, self.options)
            return model
        for option in family.options():
            # What is done before the first step is noted with the run.
            if _is_given(self.options[str(option.name)]) and not option.is_flag:
                raise InvalidInputError(
                    f"{option.opts[0]}: the run trains one shape, which has none"
                )
        return load_shape(saved.path)


def _of_type(candidates: Sequence[Family], start: str, model: str) -> Family:
    """Which of the families that start alike a model is of, by the type that it says.

    Args:
        candidates: The families.
        start: The option that names the model.
        model: A folder, or a model on the hub.

    Raises:
        InvalidInputError: None, or there is no such model.
    """
    from transformers import PretrainedConfig

    if is_folder(Path(model)) and not is_file(Path(model) / "config.json"):
        raise InvalidInputError(
            f"--{start}: expected a checkpoint of transformers, but {Path(model) / 'config.json'} "
            "does not exist"
        )
    with one_line(f"--{start}: no checkpoint of transformers at {model}", InvalidInputError):
        kind = PretrainedConfig.get_config_dict(model)[0].get("model_type")
    for family in candidates:
        if kind in family.shape_types:
            return family
    known = ", ".join(kind for family in candidates for kind in family.shape_types)
    raise InvalidInputError(
        f"--{start}: expected a model of type {known}, got {model}, which is of type {kind}"
    )


def _is_given(value: object) -> bool:
    return value is not None and value is not False


def _other_shape(shape: Architecture | None, text: str | None) -> InvalidInputError:
    return InvalidInputError(
        f"--shape: the run trains {'-'.join(map(str, shape or ()))}, got {text}: resume with the "
        "same, or give another folder"
    )


def _going_on(error: InvalidInputError, saved: Checkpoint | None) -> InvalidInputError:
    if saved is None:
        return error
    return InvalidInputError(f"{error}; a run that goes on needs no start to be named")


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

    if text is None:
        raise InvalidInputError(
            "--study: expected --shape beside it: widths, a row, knee or a bound"
        )
    with open_store(storage, create=False) as store:
        result = load_result(store, study, stored_problem(store.load(study).summary))
    space = result.problem.space
    return space.format(named_shape(text, space, result)[0])


def _parse_shape(text: str, family: Family, config: PretrainedConfig) -> Architecture:
    """Read the one shape that an option names.

    Args:
        text: Choices such as ``240-180-...``, ``smallest`` or ``largest``.
        family: Of the supernet that it is a shape of.
        config: Its sizes.

    Raises:
        InvalidInputError: If it is none of the supernet's.
    """
    from nastool_supernets.finetuning.picks import named_shape

    space = family.space(config.to_dict())
    return space.decode(named_shape(text, space, None))[0]


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
    from nastool_supernets.corpus.tokenizer import load_tokenizer, vocabulary_size

    if net is not None and (length or 0) > (longest := positions_of(net.config)):
        raise InvalidInputError(
            f"--sequence-length: expected at most {longest} tokens, as many as the net has "
            f"positions, got {length}"
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
