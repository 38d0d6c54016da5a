"""Models as they lie in folders, to be measured: our own, and the BERTs that they replace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import PretrainedConfig, PreTrainedModel

from nastool.errors import InvalidInputError
from nastool.files.reading import read_json_object
from nastool_supernets.family import find_family, is_known
from nastool_supernets.saved import load_shape

BASELINES: dict[str, tuple[Callable[..., PretrainedConfig], str]] = {
    "bert-base": (transformers.BertConfig, "Bert"),
    "distilbert": (transformers.DistilBertConfig, "DistilBert"),
}
"""Configuration of each baseline, published sizes by default, and the prefix of its models."""


def load_model(folder: Path) -> PreTrainedModel:
    """Load a model for measuring: a deployed one, or one that its family starts from.

    Args:
        folder: What `export`, `write_baseline` or `save_pretrained` wrote.

    Raises:
        InvalidInputError: There is none.
    """
    model_class(folder)  # refuses what is none
    return load_shape(folder)


def model_class(folder: Path) -> type[PreTrainedModel]:
    """Class of the model in a folder.

    Raises:
        InvalidInputError: There is no model, or one that is not measured here.
    """
    content = _content(folder)
    try:
        name = str(content["architectures"][0])
    except (LookupError, TypeError) as error:
        raise InvalidInputError(
            f"expected the folder of a model that 'nastool export' wrote, got {folder}, whose "
            "config.json names no architecture"
        ) from error
    found, type_ = None, content.get("model_type")
    if is_known(type_) and type_ in (family := find_family(str(type_))).shape_types:
        found = family.class_named(name)
    if found is None:
        raise InvalidInputError(
            f"expected the folder of a model that 'nastool export' wrote, or of a BERT, RoBERTa "
            f"or DistilBERT, but {folder} holds a {name}"
        )
    kind: type[PreTrainedModel] = found
    return kind


def task_of(folder: Path) -> str:
    """What a model is for, as transformers has it, e.g. ``ForMaskedLM``.

    Raises:
        InvalidInputError: There is no model, or one that is not measured here.
    """
    name = model_class(folder).__name__
    return name[max(0, *map(name.find, ("For", "Model"))) :]


def _content(folder: Path) -> dict[str, Any]:
    try:
        return read_json_object(folder / "config.json")
    except InvalidInputError as error:
        raise InvalidInputError(
            f"expected the folder of a model that 'nastool export' wrote, got {folder}: {error}"
        ) from error
