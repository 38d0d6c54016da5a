"""Shapes of a sliced checkpoint as they ship: cutting them out, and reading their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from nastool.errors import InvalidInputError, one_line
from nastool.files.reading import read_json_object
from nastool.runtime.quiet import quiet
from nastool.space import Architecture
from nastool_supernets.slicing.modeling import Kept, Sliced


def pairs_of(shape: Sequence[Any]) -> list[tuple[int, int]]:
    """Sizes of attention and of the feed-forward block of every layer."""
    return [(int(a), int(b)) for a, b in zip(shape[::2], shape[1::2], strict=True)]


def make(config: Any, auto: Any, carried: Any = None) -> PreTrainedModel:
    """Make a shape with random weights, without touching anybody's random numbers.

    Args:
        config: Its configuration.
        auto: Makes what transformers has a model for.
        carried: Class of a model that transformers does not have, in place of `auto`.
    """
    with torch.random.fork_rng(devices=[]):
        made: PreTrainedModel = (
            auto.from_config(config, attn_implementation="sdpa")
            if carried is None
            else carried(config)
        )
    return made


def cut_out(
    model: Sliced, made: PreTrainedModel, kept: Sequence[Kept], layers: str, feed: Sequence[str]
) -> PreTrainedModel:
    """Give a shape the weights that it keeps.

    Args:
        model: The supernet's weights.
        made: The shape, with any weights, on any device.
        kept: What every layer keeps.
        layers: What names of parameters in layers begin with.
        feed: What names in the feed-forward block begin with, within a layer.
    """
    target: Any = made
    target = target.to(model.device, model.dtype)
    indices = [index for index, pair in enumerate(kept) if pair != (None, None)]
    for name, parameter in target.named_parameters():
        if name.startswith(layers):
            place, _, inner = name.removeprefix(layers).partition(".")
            index = indices[int(place)]
            part = kept[index][inner.startswith(tuple(feed))]
            weight = model.layers[index].get_parameter(inner)
            source = weight if part is None else part.cut(inner, weight)
        else:
            source = model.lm.get_parameter(name)
        parameter.data = source.detach().clone()
    cut: PreTrainedModel = target.requires_grad_(True).train(model.training)
    return cut


def shape_of(model: PreTrainedModel, whole: tuple[str, str]) -> Architecture:
    """Sizes of the parts of every layer of the net that a shape was cut out of.

    Args:
        model: A shape, or any model of an architecture of ours, which is its own net.
        whole: What its configuration calls the sizes of a layer.
    """
    config: Any = model.config
    if (shape := getattr(config, "shape", None)) is not None:
        return tuple(shape)
    return tuple(getattr(config, name) for name in whole) * int(config.num_hidden_layers)


def load_shape(
    folder: Path, kinds: Mapping[str, Any], what: str, unused: Sequence[str] = ()
) -> PreTrainedModel:
    """Load a shape, or a checkpoint, in float32 and in evaluation mode, by nastool's own code.

    Args:
        folder: Its folder.
        kinds: Classes by the names that configurations have for them.
        what: What it is, for messages.
        unused: What names of weights begin with that checkpoints may have beside those of a model.

    Raises:
        InvalidInputError: It is damaged, or no such model.
    """
    content = read_json_object(folder / "config.json")
    names = content.get("architectures")
    kind: Any = kinds.get(str(names[0])) if isinstance(names, list) and names else None
    if kind is None:
        raise InvalidInputError(f"{folder}: expected a {what}, got architectures {names}")
    # Of layers that differ, transformers warns of what its own checks read.
    what_fails = one_line(f"no model can be read from {folder}", InvalidInputError)
    with what_fails, quiet("transformers"):
        loaded, loading = kind.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
        )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        beside = tuple(unused) if problem == "unexpected_keys" else ()
        if left := [n for n in map(str, loading.get(problem) or ()) if not n.startswith(beside)]:
            raise InvalidInputError(
                f"{folder}: the weights have {problem.replace('_', ' ')}: {min(left)}"
            )
    shape: PreTrainedModel = loaded.eval()
    return shape
