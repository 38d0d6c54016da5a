"""What families of sliced checkpoints have in common: their options, and how they start."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click

from nastool.errors import InvalidInputError
from nastool_supernets.family import Family, Options
from nastool_supernets.slicing.choices import read_choices
from nastool_supernets.slicing.space import SlicedSpace

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.slicing.checkpoints import Checkpoints
    from nastool_supernets.slicing.modeling import Sliced
    from nastool_supernets.slicing.nets import SlicedShape, SlicedSupernet
    from nastool_supernets.supernet import Net

_BLOCKS = 64
"""Blocks of the training text that importance is measured on."""


class SlicedFamily(Family):
    """Checkpoints whose layers keep a part of their weights, or are left out."""

    space_class: ClassVar[type[SlicedSpace]]
    """What its choices are a space of."""

    starts = ("from",)
    starts_trained = True

    @abstractmethod
    def checkpoints(self) -> Checkpoints:
        """What its supernets are made of."""

    @abstractmethod
    def net_classes(self) -> tuple[type[SlicedSupernet], type[SlicedShape]]:
        """How its supernets run, and its shapes."""

    @abstractmethod
    def carried(self) -> Mapping[str, Any]:
        """Classes of shapes that carry their code, by name."""

    @abstractmethod
    def stock(self) -> Mapping[str, Any]:
        """Classes of shapes that transformers has itself, by name."""

    # ----------------------------------------------------------------------------------------------
    # Its nets, and shapes as they ship

    def space(self, config: Mapping[str, Any]) -> SlicedSpace:
        return self.space_class.from_config(config)

    def net(self, model: PreTrainedModel) -> Net:
        supernet, shape = self.net_classes()
        if isinstance(model, self.model_class):
            return supernet(cast("Sliced", model))
        if (head := self.head_of(model)) != self.heads[0]:
            raise InvalidInputError(
                f"expected a supernet, or one shape that predicts words, got one with the head "
                f"{head}"
            )
        return shape(model, self.shape_of(model))

    def code_of(self, model: PreTrainedModel) -> Path | None:
        return self.code if type(model) in self.carried().values() else None

    def class_named(self, name: str) -> Any:
        return {**self.stock(), **self.carried()}.get(name)

    def about(self, shape: str) -> tuple[str, str]:
        pairs = shape.split("-")
        kept = sum(pair != ("0", "0") for pair in zip(pairs[::2], pairs[1::2], strict=False))
        what = " and ".join(part.what for part in self.space_class.parts)
        title = self.name.capitalize()
        return (
            f"{title} of {kept} layers",
            f"{kept} of {len(pairs) // 2} layers of a checkpoint; {what.lower()} {shape}",
        )

    # ----------------------------------------------------------------------------------------------
    # Where training starts

    def options(self) -> Sequence[click.Option]:
        return (
            click.Option(
                ["--from"],
                metavar="PATH_OR_HUB",
                help="Checkpoint to start from: a decoder of the Llama type (Llama, Mistral, "
                "Qwen2, Qwen3, SmolLM3), or an encoder of the BERT type (BERT, RoBERTa, "
                "XLM-RoBERTa, CamemBERT, DistilBERT).",
            ),
            *(
                click.Option(
                    [part.flag],
                    metavar="N|N,N,...",
                    help=f"{part.what} a layer can take: how many, or which. Default: 8.",
                )
                for part in self.space_class.parts
            ),
            click.Option(
                ["--no-skip"],
                is_flag=True,
                help="Let no layer do without attention or feed-forward block.",
            ),
            click.Option(
                ["--order"],
                type=click.Choice(["activation", "loss", "none"]),
                help="What smaller subnets keep: what adds most on the text (activation), what the "
                "loss depends on most (loss), or what comes first. Default: activation.",
            ),
        )

    def sized(self, size: str, options: Options, vocabulary: int) -> PretrainedConfig:
        del options, vocabulary
        raise InvalidInputError(
            f"{self.name} starts from --from or --supernet, not from random weights, got "
            f"{size!r:.100}"
        )

    def begin(self, options: Options) -> PreTrainedModel:
        return self.checkpoints().supernet(options["from"], options, skips=not options["no_skip"])

    def space_before(self, options: Options) -> SlicedSpace:
        return self.checkpoints().space(options["from"], options, skips=not options["no_skip"])

    def changed(self, model: PreTrainedModel, options: Options) -> PreTrainedModel:
        for name in (*(part.option for part in self.space_class.parts), "no_skip"):
            if options[name]:
                raise InvalidInputError(
                    f"--{name.replace('_', '-')}: expected --from beside it, got --supernet"
                )
        return model

    def check(self, model: PreTrainedModel, options: Options) -> None:
        space, skips = cast("Sliced", model).space, not options["no_skip"]
        for part in space.parts:
            own, given = space.of(part), options[part.option]
            if given is not None and read_choices(part.flag, given, own[-1], skips=skips) != own:
                raise InvalidInputError(
                    f"{part.flag}: the run has {','.join(map(str, own))}, got {given}: resume "
                    "with the same, or give another folder"
                )
            if 0 in own and not skips:
                raise InvalidInputError(
                    f"--no-skip: the run has {','.join(map(str, own))} of {part.what.lower()}: "
                    "resume with the same, or give another folder"
                )

    def prepare(
        self, model: PreTrainedModel, options: Options, corpus: Corpus | None
    ) -> dict[str, Any]:
        by = options["order"]
        # A supernet that was trained before has its order.
        if by is None and options["from"] is not None:
            by = "activation"
        if corpus is not None and by not in (None, "none"):
            import torch

            from nastool_supernets.corpus.corpus import fixed_masks
            from nastool_supernets.slicing.ordering import order

            net = self.net_classes()[0](cast("Sliced", model))
            ids, labels = fixed_masks(corpus, "train", _BLOCKS, 1, net.task)
            order(net, torch.from_numpy(ids), torch.from_numpy(labels), str(by))
        return {"order": by}

    def go_on(self, model: PreTrainedModel, config: Mapping[str, Any]) -> None:
        names = [part.levels for part in self.space_class.parts]
        # One shape alone keeps what it was cut out with.
        if names[0] in config:
            cast("Sliced", model).keep({name: config[name] for name in names})
