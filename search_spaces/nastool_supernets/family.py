"""A family of supernets: one architecture, found by the ``model_type`` that its folders say.

A distribution offers one by entry points of the group ``nastool.supernets``, each the class under
a model type that it saves: that of its supernets, and that of the shapes cut out of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nastool.discovery import SUPERNETS, available, find, register
from nastool.errors import InvalidInputError
from nastool.files.reading import read_json_object
from nastool.space import Architecture, SearchSpace

if TYPE_CHECKING:
    import click
    from transformers import PretrainedConfig, PreTrainedModel

    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.supernet import Net

Options = Mapping[str, Any]
"""What a family's own options of ``nastool pretrain`` were given, by name; None where nothing."""


class Family(ABC):
    """One architecture of supernets. Importing it must not import torch; its methods may."""

    name: ClassVar[str]
    """``model_type`` of its supernets, and what users type."""

    shape_type: ClassVar[str]
    """``model_type`` of the shapes that are cut out."""

    further_types: ClassVar[tuple[str, ...]] = ()
    """Other ``model_type`` of shapes, where they are of several."""

    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Sizes by name for supernets that start from random weights."""

    starts: ClassVar[tuple[str, ...]] = ()
    """Those of its options that name a model to start from, with a tokenizer beside it maybe."""

    starts_trained: ClassVar[bool] = False
    """Whether such a model brings a head that needs no training of its own first."""

    # ----------------------------------------------------------------------------------------------
    # Its nets

    @property
    @abstractmethod
    def model_class(self) -> type[PreTrainedModel]:
        """Class of its supernets' weights; its ``config_class`` reads their ``config.json``."""

    @abstractmethod
    def space(self, config: Mapping[str, Any]) -> SearchSpace:
        """Return the space of a supernet.

        Args:
            config: What its ``config.json`` holds.

        Raises:
            InvalidInputError: A size is missing or breaks a rule.
        """

    @abstractmethod
    def net(self, model: PreTrainedModel) -> Net:
        """Return one of its supernets, or a shape cut out of one, as it is trained and measured.

        Raises:
            InvalidInputError: The model is neither.
        """

    # ----------------------------------------------------------------------------------------------
    # Shapes as they ship

    heads: ClassVar[tuple[str, ...]] = ()
    """What a shape can end in; the first is what it is cut out with."""

    code: ClassVar[Path | None] = None
    """The file that a shape's folder carries along to be loaded by; None where it needs none."""

    module: ClassVar[str] = ""
    """What to import so that transformers knows the shapes without that file; empty for nothing."""

    def code_of(self, model: PreTrainedModel) -> Path | None:
        """The file that the folder of a shape carries along: `code` but for those that need none.

        Args:
            model: With any head.
        """
        del model
        return self.code

    def class_named(self, name: str) -> Any:
        """The class of shapes that a ``config.json`` names; None where there is none."""
        return getattr(import_module(self.module or "transformers"), name, None)

    def head_of(self, model: PreTrainedModel) -> str:
        """Which of `heads` a shape has.

        Raises:
            InvalidInputError: None of them.
        """
        if len(self.heads) == 1:
            return self.heads[0]
        raise InvalidInputError(f"no shape of {self.name} has a head, got {type(model).__name__}")

    def with_head(
        self, start: PreTrainedModel, head: str, labels: Sequence[str], seed: int
    ) -> PreTrainedModel:
        """Put a head on a shape; a new head has random weights.

        Args:
            start: A shape with any head.
            head: One of `heads`.
            labels: Names of the classes, for a classification.
            seed: Of the new head's weights.

        Raises:
            InvalidInputError: There is no such head, or not with these labels.
        """
        del seed
        if head != self.head_of(start) or labels:
            raise InvalidInputError(
                f"the head must be one of {', '.join(self.heads)}, without labels, got {head!r}"
            )
        return start

    def shape_of(self, model: PreTrainedModel) -> Architecture:
        """The choices that a shape was cut out by, gene by gene.

        Args:
            model: With any head.
        """
        return tuple(model.config.shape)

    def about(self, shape: str) -> tuple[str, str]:
        """What a model card says of a shape: what it is, and a sentence on it.

        Args:
            shape: Its choices, with dashes between.
        """
        return f"{self.name} of shape {shape}", f"A subnet of a {self.name} supernet"

    credit: ClassVar[str] = ""
    """A sentence that ends model cards: whose method it is."""

    def load_shape(self, folder: Path) -> PreTrainedModel:
        """Load a shape in float32, whatever its head, in evaluation mode.

        Args:
            folder: Whose ``config.json`` says `shape_type`.

        Raises:
            InvalidInputError: It is damaged.
        """
        import torch
        import transformers

        from nastool.errors import naming

        with naming(str(folder), "holds no shape that can be read", InvalidInputError):
            names = read_json_object(folder / "config.json")["architectures"]
            kind: type[PreTrainedModel] = getattr(transformers, names[0])
            return kind.from_pretrained(folder, dtype=torch.float32).eval()

    # ----------------------------------------------------------------------------------------------
    # Where training starts

    def options(self) -> Sequence[click.Option]:
        """Further options of ``nastool pretrain``: other starts, and what is done to one first."""
        return ()

    @abstractmethod
    def sized(self, size: str, options: Options, vocabulary: int) -> PretrainedConfig:
        """Return the configuration of a supernet of random weights.

        Args:
            size: One of `sizes`, or a JSON file of them.
            options: Its options.
            vocabulary: Tokens, where the sizes do not say.

        Raises:
            InvalidInputError: If there are no such sizes, or they break a rule.
        """

    def begin(self, options: Options) -> PreTrainedModel:
        """Make the supernet that one of `starts` names."""
        del options
        raise InvalidInputError(f"{self.name} starts from --size or --supernet")

    def space_before(self, options: Options) -> SearchSpace | None:
        """The space of what `begin` would make, without any weights; None where only they say it.

        Raises:
            InvalidInputError: There is no such start, or it cannot be one.
        """
        del options
        return None

    def changed(self, model: PreTrainedModel, options: Options) -> PreTrainedModel:
        """Return a supernet trained before as options change it."""
        del options
        return model

    def check(self, model: PreTrainedModel, options: Options) -> None:
        """Check that the supernet of a run that goes on is the one that options name.

        Raises:
            InvalidInputError: If it is another one.
        """
        del model, options

    def prepare(
        self, model: PreTrainedModel, options: Options, corpus: Corpus | None
    ) -> dict[str, Any]:
        """Do to a supernet what options want done before its first step.

        Args:
            model: Changed in place.
            options: Its options.
            corpus: The training text; None where a run goes on, and nothing is done.

        Returns:
            What the start is known by, as JSON.
        """
        del model, options, corpus
        return {}

    def go_on(self, model: PreTrainedModel, config: Mapping[str, Any]) -> None:
        """Take over what a run that goes on keeps beside its weights.

        Args:
            model: Made as for a new run; its weights are restored later.
            config: What ``config.json`` of the run's checkpoint holds.
        """
        del model, config

    @property
    def shape_types(self) -> tuple[str, ...]:
        """Every ``model_type`` of its shapes."""
        return (self.shape_type, *self.further_types)


def register_family(family: type[Family]) -> type[Family]:
    """Decorate a family to offer it from a file, under the model types that it saves."""
    for name in dict.fromkeys((family.name, family.shape_type, *family.further_types)):
        register(SUPERNETS, name)(family)
    return family


def families() -> tuple[Family, ...]:
    """Every family there is, once each; a broken one is an error where its folders are read."""
    found: dict[str, Family] = {}
    for plugin in available(SUPERNETS):
        try:
            family = find_family(plugin.name)
        except InvalidInputError:
            continue
        found.setdefault(family.name, family)
    return tuple(found.values())


def find_family(model_type: str) -> Family:
    """The family that saves models of a type.

    Args:
        model_type: Of its supernets or of its shapes.

    Raises:
        InvalidInputError: There is none, more than one, or it is broken.
    """
    plugin = find(SUPERNETS, model_type)
    made = _made(plugin.load())
    if not isinstance(made, Family) or model_type not in (
        made.name,
        *made.shape_types,
    ):
        raise InvalidInputError(
            f"{plugin} must be a Family that saves {model_type!r}, got {made!r}"
        )
    return made


@cache
def _made(factory: Any) -> Any:
    return factory()


def is_known(model_type: object) -> bool:
    """Whether some family saves models of a type."""
    return any(plugin.name == model_type for plugin in available(SUPERNETS))


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model by its configuration.

    Raises:
        InvalidInputError: There is none.
    """
    return find_family(config.model_type)


def net_of(model: PreTrainedModel) -> Net:
    """Return a model as it is trained and measured.

    Args:
        model: A supernet, or a shape with the head that it is pre-trained by.

    Raises:
        InvalidInputError: If it is neither.
    """
    if not is_known(model.config.model_type):
        raise InvalidInputError(
            f"expected a supernet or a language model of one shape, got {type(model).__name__}"
        )
    return family_of(model.config).net(model)


def head_of(model: PreTrainedModel) -> str:
    """Which of its family's heads a shape has.

    Raises:
        InvalidInputError: None of them, or no shape of any family.
    """
    return family_of(model.config).head_of(model)


def with_head(
    start: PreTrainedModel, head: str, labels: Sequence[str] = (), seed: int = 0
) -> PreTrainedModel:
    """Put a head on a shape; a new head has random weights.

    Args:
        start: A shape with any head.
        head: One of its family's.
        labels: Names of the classes, for a classification.
        seed: Of the new head's weights.

    Raises:
        InvalidInputError: There is no such head, or not with these labels.
    """
    return family_of(start.config).with_head(start, head, labels, seed)
