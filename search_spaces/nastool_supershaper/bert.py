"""Weights of any BERT checkpoint under the supernet's names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, BertForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from nastool.errors import InvalidInputError

_NAMES = {
    "embeddings.word_embeddings": "embeddings.words",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.segments",
    "embeddings.LayerNorm": "embeddings.norm",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
    "cls.predictions.transform.dense": "head.transform",
    "cls.predictions.transform.LayerNorm": "head.norm",
    "cls.predictions": "head",
}


def load_bert(bert: str | PreTrainedModel) -> tuple[PretrainedConfig, dict[str, Tensor]]:
    """Read a BERT's configuration, and its weights by the names of the supernet.

    Args:
        bert: A local folder, a hub id, or a BERT model of transformers.

    Returns:
        The configuration, and the weights in single precision: embeddings, layers, and the masked
        language modelling head if there is one.

    Raises:
        InvalidInputError: If this is no BERT encoder with exact GELU.
    """
    if isinstance(bert, str):
        model, missing = _read(bert)
    else:
        model, missing = bert, set()
    config = model.config
    if config.model_type != "bert" or config.hidden_act != "gelu" or config.is_decoder:
        raise InvalidInputError(
            f"expected a BERT encoder with exact GELU, got {config.model_type} "
            f"with {getattr(config, 'hidden_act', None)}"
        )
    weights = {}
    for name, value in model.state_dict().items():
        target = _translate(name)
        if target is not None and name not in missing:
            weights[target] = value.float()
    return config, weights


def _read(name_or_path: str) -> tuple[PreTrainedModel, set[str]]:
    """Load a checkpoint; say which weights it lacks."""
    try:
        config = AutoConfig.from_pretrained(name_or_path)
        if config.model_type != "bert":
            raise InvalidInputError(
                f"expected a BERT checkpoint, got {name_or_path!r}, a {config.model_type}"
            )
        with _quiet_transformers():
            loaded: Any = BertForMaskedLM.from_pretrained(
                name_or_path, dtype=torch.float32, output_loading_info=True
            )
    except OSError as error:
        raise InvalidInputError(
            f"expected a folder or a hub id with a BERT checkpoint, got {name_or_path!r}"
        ) from error
    model, info = loaded
    return model, set(info["missing_keys"])


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the report on weights a checkpoint lacks: here a missing head is no surprise."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _translate(name: str) -> str | None:
    """Translate a name of transformers' BERT; None for what the supernet does not have."""
    module, _, kind = name.removeprefix("bert.").rpartition(".")
    if module.startswith("encoder.layer."):
        index, _, rest = module.removeprefix("encoder.layer.").partition(".")
        return f"supershaper.layers.{index}.{_NAMES[rest]}.{kind}"
    if module not in _NAMES:
        return None
    new = f"{_NAMES[module]}.{kind}"
    return new if new.startswith("head.") else f"supershaper.{new}"
