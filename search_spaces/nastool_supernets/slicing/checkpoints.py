"""Checkpoints of transformers that supernets start from: reading them, and what all need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import is_file, is_folder
from nastool.quiet import quiet
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
    if getattr(config, "quantization_config", None) is not None:
        raise InvalidInputError(
            f"--from: the weights must be plain numbers, got {path}, which is quantised: give the "
            "checkpoint that it was made from"
        )
    return config


def read_model(path: str, auto: Any, what: str) -> PreTrainedModel:
    """Read a checkpoint with all its weights, in single precision.

    Args:
        path: A folder, or a model on the hub.
        auto: What makes a model of its configuration.
        what: What it is, for messages.

    Raises:
        InvalidInputError: There is no such model, or some of its weights are missing.
    """
    logging.disable_progress_bar()
    # What is missing is said below.
    with (
        quiet("transformers"),
        one_line(f"--from: no {what} can be read from {path}", InvalidInputError),
    ):
        lm, loading = auto.from_pretrained(
            path, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
    for problem in ("missing_keys", "mismatched_keys"):
        if loading.get(problem):
            first = min(map(str, loading[problem]))
            raise InvalidInputError(
                f"--from: expected the weights of a {what} in {path}, got none for {first}"
            )
    model: PreTrainedModel = lm
    return model


def skeleton(path: str, config: Any, auto: Any, what: str) -> Any:
    """The modules of a checkpoint without its weights, by its configuration.

    Args:
        path: Where it is from.
        config: From `read_config`.
        auto: What makes a model of it.
        what: What it is, for messages.

    Raises:
        InvalidInputError: No model is made of it.
    """
    with (
        one_line(f"--from: no {what} can be read from {path}", InvalidInputError),
        torch.random.fork_rng(devices=[]),
        torch.device("meta"),
    ):
        return auto.from_config(config)


def chosen(
    space: type[SlicedSpace], most: Mapping[str, int], given: Mapping[str, str | None], skips: bool
) -> dict[str, Any]:
    """The sizes that parts can take.

    Args:
        space: Whose parts.
        most: Sizes of whole layers by the name that parts have for them.
        given: What options say, by the parts' options; see `read_choices`.
        skips: Whether parts can do without.

    Raises:
        InvalidInputError: There are no such sizes.
    """
    return {
        part.choices: read_choices(
            part.flag, given.get(part.option), int(most[part.most]), skips=skips
        )
        for part in space.parts
    }


def supernet_of(kind: type[Net], lm: PreTrainedModel, sizes: Mapping[str, Any]) -> Net:
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
