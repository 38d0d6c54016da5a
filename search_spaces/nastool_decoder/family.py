"""Decoders of the Llama type as a family of supernets: what the shared code asks for by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from nastool.errors import InvalidInputError
from nastool.space import Architecture
from nastool_decoder.space import ARCHITECTURES, DecoderSpace, from_config
from nastool_supernets.family import Family, Options

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from nastool_decoder.modeling import Decoder as DecoderModel
    from nastool_supernets.corpus.corpus import Corpus
    from nastool_supernets.supernet import Net

_BLOCKS = 64
"""Blocks of the training text that importance is measured on."""


class Decoder(Family):
    """A checkpoint of the Llama type whose layers lose heads, channels, or all of them."""

    name = "decoder"
    architectures = ARCHITECTURES
    """Types of checkpoints, and of the shapes that are cut out of them."""
    shape_type = architectures[0]
    further_types = architectures[1:]
    starts = ("from",)
    starts_trained = True
    heads = ("causal-lm",)
    code = Path(__file__).parent / "carried" / "shaped_decoder.py"

    @property
    def model_class(self) -> type[DecoderModel]:
        from nastool_decoder.modeling import Decoder

        return Decoder

    def space(self, config: Mapping[str, Any]) -> DecoderSpace:
        return from_config(config)

    def net(self, model: PreTrainedModel) -> Net:
        from nastool_decoder.modeling import Decoder
        from nastool_decoder.nets import DecoderShape, DecoderSupernet

        if isinstance(model, Decoder):
            return DecoderSupernet(model)
        self.head_of(model)
        return DecoderShape(model)

    def code_of(self, model: PreTrainedModel) -> Path | None:
        return self.code if type(model) in self._carried().values() else None

    def class_named(self, name: str) -> Any:
        import transformers

        return self._carried().get(name) or getattr(transformers, name, None)

    def _carried(self) -> Mapping[str, Any]:
        from nastool_decoder.carried.shaped_decoder import MODELS

        return MODELS

    def head_of(self, model: PreTrainedModel) -> str:
        if not type(model).__name__.endswith("ForCausalLM"):
            raise InvalidInputError(f"expected a causal language model, got {type(model).__name__}")
        return "causal-lm"

    def shape_of(self, model: PreTrainedModel) -> Architecture:
        from nastool_decoder.shapes import shape_of

        return shape_of(model)

    def load_shape(self, folder: Path) -> PreTrainedModel:
        from nastool_decoder.shapes import load_shape

        return load_shape(folder)

    def about(self, shape: str) -> tuple[str, str]:
        pairs = shape.split("-")
        kept = sum(pair != ("0", "0") for pair in zip(pairs[::2], pairs[1::2], strict=False))
        said = f"groups and feed-forward sizes {shape}"
        return (
            f"Decoder of {kept} layers",
            f"{kept} of {len(pairs) // 2} layers of a decoder; {said}",
        )

    def options(self) -> Sequence[click.Option]:
        return (
            click.Option(
                ["--from"],
                metavar="PATH_OR_HUB",
                help="Decoder checkpoint to start from: Llama, Mistral, Qwen2, Qwen3 or SmolLM3.",
            ),
            click.Option(
                ["--ffn-choices"],
                metavar="N|F,F,...",
                help="Feed-forward sizes a layer can take: how many, or which. Default: 8.",
            ),
            click.Option(
                ["--kv-choices"],
                metavar="N|K,K,...",
                help="Key-value groups a layer can take: how many, or which. Default: 8.",
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
            f"decoder starts from --from or --supernet, not from random weights, got {size!r:.100}"
        )

    def begin(self, options: Options) -> PreTrainedModel:
        from nastool_decoder.checkpoints import from_checkpoint

        return from_checkpoint(
            options["from"],
            options["ffn_choices"],
            options["kv_choices"],
            skips=not options["no_skip"],
        )

    def space_before(self, options: Options) -> DecoderSpace:
        from nastool_decoder.checkpoints import space_of

        return space_of(
            options["from"],
            options["ffn_choices"],
            options["kv_choices"],
            skips=not options["no_skip"],
        )

    def changed(self, model: PreTrainedModel, options: Options) -> PreTrainedModel:
        for name in ("ffn_choices", "kv_choices", "no_skip"):
            if options[name]:
                raise InvalidInputError(
                    f"--{name.replace('_', '-')}: expected --from beside it, got --supernet"
                )
        return model

    def check(self, model: PreTrainedModel, options: Options) -> None:
        from nastool_decoder.checkpoints import choices

        space, skips = cast("DecoderModel", model).space, not options["no_skip"]
        for name, own in (("ffn_choices", space.ffns), ("kv_choices", space.kvs)):
            option = f"--{name.replace('_', '-')}"
            if options[name] is None:
                continue
            if choices(option, options[name], own[-1], skips=skips) != own:
                raise InvalidInputError(
                    f"{option}: the run has {','.join(map(str, own))}, got {options[name]}: resume "
                    "with the same, or give another folder"
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

            from nastool_decoder.ordering import order
            from nastool_supernets.corpus.corpus import fixed_masks

            ids, labels = fixed_masks(corpus, "train", _BLOCKS, 1, "causal-lm")
            tensors = torch.from_numpy(ids), torch.from_numpy(labels)
            order(cast("DecoderModel", model), *tensors, str(by))
        return {"order": by}

    def go_on(self, model: PreTrainedModel, config: Mapping[str, Any]) -> None:
        if "kv_levels" not in config:
            return  # one shape alone: it keeps what it was cut out with
        own = cast("DecoderModel", model)
        own.config.kv_levels = list(config["kv_levels"])
        own.config.ffn_levels = list(config["ffn_levels"])
        own.forgotten()
