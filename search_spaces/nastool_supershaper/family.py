"""SuperShaper as a family of supernets: what the shared code asks for by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from nastool.errors import InvalidInputError
from nastool_supernets.family import Family, Options
from nastool_supernets.heads import HEADS, head_named, put_head
from nastool_supershaper.named import SIZES
from nastool_supershaper.space import SuperShaperSpace, from_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.supernet import Net
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.supernet_config import SuperShaperConfig


class SuperShaper(Family):
    """BERT with a hidden size of its own in every layer."""

    name = "supershaper"
    shape_type = "shaped_bert"
    starts = ("bert",)
    sizes = SIZES
    heads = HEADS
    code = Path(__file__).parent / "carried" / "shaped_bert.py"
    module = "nastool_supershaper.shaped_bert"
    credit = (
        "The method is that of *SuperShaper: Task-Agnostic Super Pre-training of BERT Models with "
        "Variable Hidden Dimensions*."
    )

    @property
    def model_class(self) -> type[SuperShaperForMaskedLM]:
        from nastool_supershaper.modeling import SuperShaperForMaskedLM

        return SuperShaperForMaskedLM

    def space(self, config: Mapping[str, Any]) -> SuperShaperSpace:
        return from_config(config)

    def net(self, model: PreTrainedModel) -> Net:
        from nastool_supershaper.modeling import SuperShaperForMaskedLM
        from nastool_supershaper.nets import ShapedBertNet, SuperShaperSupernet
        from nastool_supershaper.shaped_bert import ShapedBertForMaskedLM

        if isinstance(model, SuperShaperForMaskedLM):
            return SuperShaperSupernet(model)
        if isinstance(model, ShapedBertForMaskedLM):
            return ShapedBertNet(model)
        raise InvalidInputError(
            "expected a supernet or a masked language model of one shape, got "
            f"{type(model).__name__}"
        )

    def head_of(self, model: PreTrainedModel) -> str:
        from nastool_supershaper.shaped_bert import MODELS

        return head_named(model, MODELS.values())

    def with_head(
        self, start: PreTrainedModel, head: str, labels: Sequence[str], seed: int
    ) -> PreTrainedModel:
        from nastool_supershaper.shaped_bert import MODELS

        kinds = {name.removeprefix("ShapedBert"): kind for name, kind in MODELS.items()}
        return put_head(start, head, labels, seed, kinds)

    def about(self, shape: str) -> tuple[str, str]:
        layers = shape.count("-") + 1
        return (
            f"BERT of shape {shape}",
            f"A BERT of {layers} layers whose hidden size differs from layer to layer ({shape})",
        )

    def load_shape(self, folder: Path) -> PreTrainedModel:
        from nastool_supershaper.shapes import load_shape

        return load_shape(folder)

    def options(self) -> Sequence[click.Option]:
        return (
            click.Option(["--bert"], metavar="PATH_OR_HUB", help="BERT checkpoint to start from."),
            click.Option(
                ["--widths"],
                metavar="W,W,...",
                help="Hidden sizes a layer can take. Default: those of what it starts from.",
            ),
            click.Option(
                ["--layers"],
                type=click.IntRange(min=1),
                help="Grow a pretrained model to so many layers. Default: its own.",
            ),
            click.Option(
                ["--reorder"], is_flag=True, help="First sort the hidden dimensions by importance."
            ),
        )

    def sized(self, size: str, options: Options, vocabulary: int) -> SuperShaperConfig:
        from nastool_supershaper.starts import sized_config

        if options["layers"] is not None:
            raise InvalidInputError("--layers: expected --bert or --supernet beside it, got --size")
        return sized_config(size, options["widths"], vocabulary)

    def begin(self, options: Options) -> PreTrainedModel:
        from nastool_supershaper.modeling import SuperShaperForMaskedLM
        from nastool_supershaper.starts import grown, parse_widths

        widths = None if options["widths"] is None else parse_widths(options["widths"])
        model = SuperShaperForMaskedLM.from_bert(options["bert"], widths=widths)
        return grown(model, options["layers"])

    def changed(self, model: PreTrainedModel, options: Options) -> PreTrainedModel:
        from nastool_supershaper.starts import grown

        if options["widths"] is not None:
            raise InvalidInputError("--widths: expected --bert or --size beside it, got --supernet")
        return grown(cast("SuperShaperForMaskedLM", model), options["layers"])

    def check(self, model: PreTrainedModel, options: Options) -> None:
        from nastool_supershaper.starts import check_net

        check_net(cast("SuperShaperForMaskedLM", model), options["widths"], options["layers"])

    def prepare(
        self, model: PreTrainedModel, options: Options, corpus: Corpus | None
    ) -> dict[str, Any]:
        from nastool_supershaper.starts import sort_hidden

        if options["reorder"] and corpus is not None:
            sort_hidden(cast("SuperShaperForMaskedLM", model), corpus)
        return {"reorder": options["reorder"]}
