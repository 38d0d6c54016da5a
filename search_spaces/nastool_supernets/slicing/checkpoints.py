"""Checkpoints of transformers that supernets start from: reading them, and what all need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import is_file, is_folder
from nastool.runtime.quiet import quiet
from nastool_supernets.family import Options
from nastool_supernets.slicing.choices import levels, read_choices
from nastool_supernets.slicing.modeling import Sliced
from nastool_supernets.slicing.space import SlicedSpace

_FORGOTTEN = ("_name_or_path", "dtype", "torch_dtype", "transformers_version", "auto_map")
"""What a configuration says of the files that it was read from."""

Net = TypeVar("Net", bound=Sliced)


def read_config(path: str, architectures: Sequence[str]) -> Any:
    """Read the configuration of a checkpoint.

    Args:
        path: A folder, or a model on the hub.
        architectures: Model types that can be sliced.

    Raises:
        InvalidInputError: There is none, or one that cannot be sliced whatever its layers are.
    """
    folder = Path(path)
    if is_folder(folder) and not is_file(folder / "config.json"):
        raise InvalidInputError(
            f"--from: expected a checkpoint of transformers, but {folder / 'config.json'} does "
            "not exist"
        )
    with one_line(f"--from: no checkpoint of transformers at {path}", InvalidInputError):
        config: Any = AutoConfig.from_pretrained(path)
    if config.model_type not in architectures:
        raise InvalidInputError(
            f"--from: expected a model of type {', '.join(architectures)}, got {path}, which is of "
            f"type {config.model_type}"
        )
    if getattr(config, "sliced_layers", None) is not None:
        raise InvalidInputError(
            f"--from: expected a checkpoint whose layers are alike, got {path}, a shape that was "
            "cut out of one: give the checkpoint, or its supernet"
        )
    if getattr(config, "quantization_config", None) is not None:
        raise InvalidInputError(
            f"--from: the weights must be plain numbers, got {path}, which is quantised: give the "
            "checkpoint that it was made from"
        )
    return config


@dataclass(frozen=True)
class Checkpoints(Generic[Net]):
    """Checkpoints of one family, of which its supernets are made.

    Args:
        what: What they are, for messages.
        kind: Class of the supernets.
        auto: What makes a model of a configuration.
        config: Reads the configuration of a checkpoint, and refuses what cannot be sliced.
        sizes: Sizes of a space but for its choices, and those of the parts of a whole layer, by
            the configuration and the modules.
    """

    what: str
    kind: type[Net]
    auto: Any
    config: Callable[[str], Any]
    sizes: Callable[[Any, Any], tuple[dict[str, int], tuple[int, int]]]

    def supernet(self, path: str, choices: Options, *, skips: bool = True) -> Net:
        """Make a supernet whose largest subnet is a checkpoint, bit for bit.

        Args:
            path: A folder, or a model on the hub.
            choices: For each part how many sizes it can have, or these with commas between, by
                the name of its option; None for eight.
            skips: Whether layers can do without a part, or without both.

        Raises:
            InvalidInputError: There is no such model, or one that cannot be sliced.
        """
        config = self.config(path)
        lm = self._read(path)
        tied = lm.get_output_embeddings().weight is lm.get_input_embeddings().weight
        return _supernet_of(self.kind, lm, self._chosen(config, lm, choices, skips, tied))

    def space(self, path: str, choices: Options, *, skips: bool = True) -> SlicedSpace:
        """The space of what `supernet` would make, by its configuration alone; see there."""
        config = self.config(path)
        with (
            one_line(self._unread(path), InvalidInputError),
            torch.random.fork_rng(devices=[]),
            torch.device("meta"),
        ):
            lm = self.auto.from_config(config)
        sizes = self._chosen(config, lm, choices, skips, config.tie_word_embeddings)
        return self.kind.space_class(**sizes)

    def _chosen(
        self, config: Any, lm: Any, choices: Options, skips: bool, tied: bool
    ) -> dict[str, Any]:
        """All sizes of the space."""
        sizes, whole = self.sizes(config, lm)
        return {
            **sizes,
            "tied": int(bool(tied)),
            **{
                part.choices: read_choices(part.flag, choices.get(part.option), most, skips=skips)
                for part, most in zip(self.kind.space_class.parts, whole, strict=True)
            },
        }

    def _read(self, path: str) -> Any:
        """A checkpoint with all its weights, in single precision."""
        logging.disable_progress_bar()
        # What is missing is said below.
        with quiet("transformers"), one_line(self._unread(path), InvalidInputError):
            lm, loading = self.auto.from_pretrained(
                path, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
            )
        for problem in ("missing_keys", "mismatched_keys"):
            if loading.get(problem):
                first = min(map(str, loading[problem]))
                raise InvalidInputError(
                    f"--from: expected the weights of a {self.what} in {path}, got none for {first}"
                )
        return lm

    def _unread(self, path: str) -> str:
        return f"--from: no {self.what} can be read from {path}"


def _supernet_of(kind: type[Net], lm: PreTrainedModel, sizes: Mapping[str, Any]) -> Net:
    """Make the supernet of a checkpoint, whose smaller subnets keep what comes first.

    Args:
        kind: Its class.
        lm: The checkpoint.
        sizes: Those of its space.
    """
    space = kind.space_class(**sizes)
    kept = {k: v for k, v in lm.config.to_dict().items() if k not in _FORGOTTEN}
    own = {
        part.levels: [
            levels(range(getattr(space, part.most)), [size for size in space.of(part) if size])
        ]
        * space.layers
        for part in space.parts
    }
    config_class: Any = kind.config_class
    # What the checkpoint was trained on reaches as far as its positions.
    config = config_class(checkpoint=kept, sizes=sizes, trained_positions=sizes["positions"], **own)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = kind(config)
    model.lm = lm
    return model.eval()
