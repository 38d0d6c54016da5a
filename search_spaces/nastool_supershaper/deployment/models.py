"""Models that are deployed: a subnet with a head, and folders of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nastool.errors import InvalidInputError, NastoolError
from nastool_supershaper import shaped_bert
from nastool_supershaper.checkpoints import save_model
from nastool_supershaper.deployment.runtimes import one_line
from nastool_supershaper.shaped_bert import (
    ShapedBertConfig,
    ShapedBertForMaskedLM,
    ShapedBertForQuestionAnswering,
    ShapedBertForSequenceClassification,
)
from nastool_supershaper.text import vocabulary_size

HEADS = ("masked-lm", "classification", "regression", "question-answering")

CODE = Path(shaped_bert.__file__)
"""The file that an exported model carries along."""

_AUTO_MAP = {
    "AutoConfig": "ShapedBertConfig",
    "AutoModel": "ShapedBertModel",
    "AutoModelForMaskedLM": "ShapedBertForMaskedLM",
    "AutoModelForSequenceClassification": "ShapedBertForSequenceClassification",
    "AutoModelForQuestionAnswering": "ShapedBertForQuestionAnswering",
}


def with_head(
    start: PreTrainedModel, head: str, labels: Sequence[str] = (), seed: int = 0
) -> PreTrainedModel:
    """Put a task's head on a subnet; a new head has random weights.

    Args:
        start: A deployed model with any head; the pooler of one for sequences is kept in another.
        head: One of `HEADS`; masked-lm for a model that has it.
        labels: Names of the classes, for a classification.
        seed: Of the new head's weights.

    Raises:
        InvalidInputError: An unknown head, fewer than two classes, classes of another head, or
            masked-lm for a model without it.
    """
    if head not in HEADS:
        raise InvalidInputError(f"the head must be one of {', '.join(HEADS)}, got {head!r}")
    if (head == "classification") != bool(labels):
        wanted = "labels" if head == "classification" else "no labels"
        raise InvalidInputError(f"head {head} takes {wanted}, got {len(labels)}")
    if head == "masked-lm":
        if head_of(start) != head:
            raise InvalidInputError(f"expected a model with a {head} head, got {head_of(start)}")
        return start
    settings: dict[str, Any] = {}
    kind: type[PreTrainedModel] = ShapedBertForQuestionAnswering
    if head == "regression":
        labels = ("score",)
        settings = {"problem_type": "regression"}
    elif head == "classification":
        if len(set(labels)) != len(labels) or len(labels) < 2 or "" in labels:
            raise InvalidInputError(
                f"a classification needs two or more different labels, none of them empty, "
                f"got {', '.join(map(repr, labels))}"
            )
        settings = {"problem_type": "single_label_classification"}
    if labels:
        kind = ShapedBertForSequenceClassification
        settings["id2label"] = dict(enumerate(labels))
        settings["label2id"] = {label: index for index, label in enumerate(labels)}
    inherited = start.config.to_dict()
    for name in ("id2label", "label2id", "problem_type", "architectures", "dtype"):
        inherited.pop(name, None)
    config = ShapedBertConfig(**{**inherited, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    kept = ["bert"]
    if isinstance(start, ShapedBertForSequenceClassification) and labels:
        kept.append("pooler")
    for name in kept:
        model.get_submodule(name).load_state_dict(start.get_submodule(name).state_dict())
    return model.eval()


def head_of(model: PreTrainedModel) -> str:
    """Which of `HEADS` a deployed model has.

    Raises:
        InvalidInputError: None of them.
    """
    if isinstance(model, ShapedBertForMaskedLM):
        return "masked-lm"
    if isinstance(model, ShapedBertForQuestionAnswering):
        return "question-answering"
    if isinstance(model, ShapedBertForSequenceClassification):
        one = model.config.problem_type == "regression" or model.config.num_labels == 1
        return "regression" if one else "classification"
    raise InvalidInputError(
        f"expected a deployed model with a head, got {type(model).__name__}; "
        f"heads: {', '.join(HEADS)}"
    )


def load_deployed(folder: Path) -> PreTrainedModel:
    """Load a deployed model in float32, whatever its head.

    Args:
        folder: What `nastool export` or `save_pretrained` wrote.

    Raises:
        InvalidInputError: There is none.
    """
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = getattr(shaped_bert, (content.get("architectures") or ["none"])[0], None)
        if content.get("model_type") != ShapedBertConfig.model_type or kind is None:
            raise InvalidInputError(
                f"{folder}: expected a deployed model ({ShapedBertConfig.model_type}), "
                f"got {content.get('model_type')} with architectures "
                f"{content.get('architectures')}"
            )
        # What its last user wanted returned is no part of it.
        config = ShapedBertConfig.from_pretrained(
            folder, return_dict=True, output_hidden_states=False
        )
        model = kind(config)
        # Not from_pretrained: it keeps the precision of the file, which may be 16 bits.
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except InvalidInputError:
        raise
    # safetensors and torch raise their own types for a damaged or a foreign file.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidInputError(f"no deployed model can be read from {folder}: {reason}") from error
    loaded: PreTrainedModel = model.eval()
    return loaded


def save_deployed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights, configuration, the code of the model, and tokenizer.

    Args:
        model: A deployed model.
        tokenizer: Its tokenizer.
        folder: Existing folder.

    Raises:
        InvalidInputError: The tokenizer has more tokens than the model.
        NastoolError: They cannot be written, e.g. on a full disk.
    """
    if (needed := vocabulary_size(tokenizer)) > model.config.vocab_size:
        raise InvalidInputError(
            f"the tokenizer must have at most the {model.config.vocab_size} tokens of the model, "
            f"got {needed}"
        )
    model.config.auto_map = {auto: f"{CODE.stem}.{name}" for auto, name in _AUTO_MAP.items()}
    # Not OSError is what safetensors and tokenizers raise on a full disk.
    with one_line("cannot write the weights"):
        save_model(model, folder)
    # safetensors lets nobody else read what it writes.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    shutil.copyfile(CODE, folder / CODE.name)
    # How it last cut and padded texts is no part of it.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    with one_line("cannot write the tokenizer"):
        tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    # Where it was loaded from says nothing to others.
    settings = {k: v for k, v in settings.items() if k not in ("is_local", "local_files_only")}
    settings |= {
        # The class that every release of transformers knows for a tokenizer.json.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.max_position_embeddings,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write to, which becomes the target at the end or vanishes on failure.

    Args:
        target: Folder that does not exist, or is empty.

    Raises:
        InvalidInputError: It holds something, or is a file.
        NastoolError: It cannot be written.
    """
    target = Path(os.path.realpath(target))
    check_free(target)
    partial = target.with_name(f".partial.{target.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            target.rmdir()
        partial.replace(target)
    except OSError as error:
        raise NastoolError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(target: Path) -> None:
    """Check that a folder can be written to.

    Raises:
        InvalidInputError: It holds something, or is a file.
    """
    if target.is_dir() and any(target.iterdir()):
        raise InvalidInputError(f"expected an empty folder or a new one, but {target} holds files")
    if target.exists() and not target.is_dir():
        raise InvalidInputError(f"expected a folder, got the file {target}")
