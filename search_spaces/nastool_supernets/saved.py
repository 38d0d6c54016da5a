"""Folders of supernets, of shapes and of runs: what makes one whole, reading and writing them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nastool.errors import InvalidInputError, first_line, one_line
from nastool.files.hub import fetched
from nastool.files.reading import is_file, is_folder, read_json_object
from nastool.files.writing import digest, whole_file, write_whole
from nastool_supernets.corpus.tokenizer import vocabulary_size
from nastool_supernets.family import families, find_family, is_known
from nastool_supernets.positions import positions_of, rotary_before_5

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from nastool_supernets.supernet import Supernet

_log = logging.getLogger(__name__)

PREFIX = "step-"
"""What names of checkpoints begin with."""

CHECKSUMS = "checksums.json"
"""File in a checkpoint with the digests of the others."""

_FILES = frozenset(("config.json", "model.safetensors", "optimizer.safetensors", "state.json"))


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk.

    Args:
        path: Its folder.
        state: The JSON state that was saved with it.
    """

    path: Path
    state: dict[str, Any]


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose checksums hold, or None; damaged ones are logged.

    Args:
        folder: Folder of the run's checkpoints.
    """
    for path in checkpoint_folders(folder):
        reason = _damage(path)
        if reason is None:
            return Checkpoint(path, read_json_object(path / "state.json"))
        _log.warning("checkpoint %s is damaged (%s) and left out", path, reason)
    return None


def trained_folder(folder: Path, what: str) -> Path:
    """Return the folder of a model itself, or the newest checkpoint of an unfinished run.

    Args:
        folder: Of the model, or of the run.
        what: What is expected, for the message.

    Raises:
        InvalidInputError: If there is neither, or the checkpoint is damaged.
    """
    folder = fetched(folder)
    if not is_file(folder / "model.safetensors"):
        checkpoint = latest_checkpoint(folder / "checkpoints")
        if checkpoint is None:
            raise InvalidInputError(
                f"expected a {what} (config.json, model.safetensors) or a run with checkpoints "
                f"in {folder}, found neither"
            )
        folder = checkpoint.path
    if is_file(folder / CHECKSUMS) and (reason := _damage(folder)):
        raise InvalidInputError(f"checkpoint {folder} is damaged ({reason})")
    return folder


def load_supernet(path: str | Path) -> Supernet:
    """Load a supernet from a model folder, or from the newest checkpoint of a run's folder.

    Args:
        path: The folder.

    Raises:
        InvalidInputError: If there is no supernet.
    """
    from safetensors.torch import load_file

    folder = trained_folder(Path(path), "supernet")
    try:
        kind = read_json_object(folder / "config.json")["model_type"]
        if not is_known(kind):
            raise InvalidInputError(f"{folder}: expected a supernet, got a model of type {kind}")
        family = find_family(kind)
        if kind != family.name:
            raise InvalidInputError(
                f"{folder}: expected a {family.name} model, got {kind} (one shape: --model)"
            )
        model_class: Any = family.model_class
        model: PreTrainedModel = model_class(model_class.config_class.from_pretrained(folder))
        # Not from_pretrained: it keeps the precision of the file, which may be 16 bits.
        _load_weights(model, load_file(folder / "model.safetensors"))
    except InvalidInputError:
        raise
    # safetensors and torch raise their own types for a damaged or a foreign file.
    except Exception as error:
        raise InvalidInputError(
            f"no supernet can be read from {folder}: {first_line(error)}"
        ) from error
    return cast("Supernet", family.net(model.eval()))


def load_shape(folder: str | Path) -> PreTrainedModel:
    """Load a shape in float32, whatever its head, by nastool's own code.

    Args:
        folder: What `nastool export` or `save_pretrained` wrote, or a run of `nastool pretrain
            --shape`, finished or not.

    Raises:
        InvalidInputError: There is none, or it is damaged.
    """
    folder = fetched(folder)
    if is_folder(folder / "checkpoints"):
        folder = trained_folder(folder, "model")
    content = read_json_object(folder / "config.json")
    kind = content.get("model_type")
    if not is_known(kind) or kind not in (family := find_family(str(kind))).shape_types:
        types = (name for family in families() for name in family.shape_types)
        known = ", ".join(dict.fromkeys(types))
        raise InvalidInputError(
            f"{folder}: expected a deployed model ({known}), got {kind} with architectures "
            f"{content.get('architectures')}"
        )
    return family.load_shape(folder)


def save_config(model: PreTrainedModel, folder: Path) -> None:
    """Write ``config.json``, and the code of a model that carries its own.

    Args:
        model: Whose it is.
        folder: Existing folder.
    """
    from transformers.dynamic_module_utils import custom_object_save

    if getattr(model.config, "_auto_class", None) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        custom_object_save(model.config, str(folder))
    elif getattr(model, "_auto_class", None) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        # transformers takes a configuration as well as a dictionary, whatever it says.
        custom_object_save(model, str(folder), config=cast("Any", model.config))
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [type(model).__name__]
    # Where it once was loaded from may have had another precision: that of the weights counts.
    config.pop("dtype", None)
    config.pop("torch_dtype", None)
    config |= rotary_before_5(config)
    write_whole(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``; tied weights are written once.

    Args:
        model: Model to save, in the precision it has.
        folder: Existing folder.

    Raises:
        WriteError: They cannot be written.
    """
    from safetensors.torch import save

    save_config(model, folder)
    weights = {n: p.detach().cpu().contiguous() for n, p in parameters_of(model).items()}
    # A process killed here leaves the weights that were there, or none.
    with whole_file(folder / "model.safetensors") as file:
        file.write(save(weights, metadata={"format": "pt"}))


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model, tied ones once: by the name that transformers looks for on disk.

    Args:
        model: Of transformers, or one that holds such a model.
    """
    tied = {
        f"{place}.{name}".removeprefix(".")
        for place, module in model.named_modules()
        for name in getattr(module, "_tied_weights_keys", None) or ()
    }
    names: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        # The first one is what others are tied to, unless a model's head stands before its body.
        if names.setdefault(parameter, name) in tied and name not in tied:
            names[parameter] = name
    return {name: parameter for parameter, name in names.items()}


def save_shape(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights, configuration, the code of the model, and tokenizer.

    The code comes with the configuration, as whenever transformers saves such a model.

    Args:
        model: A shape, with any head.
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
    # Not OSError is what safetensors and tokenizers raise on a full disk.
    with one_line("cannot write the weights"):
        save_model(model, folder)
    # How it last cut and padded texts is no part of it.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    with one_line("cannot write the tokenizer"):
        tokenizer.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = read_json_object(file)
    # Where it was loaded from says nothing to others.
    settings = {k: v for k, v in settings.items() if k not in ("is_local", "local_files_only")}
    settings |= {
        # The class that every release of transformers knows for a tokenizer.json.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions_of(model.config),
        "model_input_names": list(inputs_of(model.config)),
    }
    write_whole(file, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def inputs_of(config: Any) -> tuple[str, ...]:
    """Names of a model's inputs; one that tells no segments apart is given none.

    Args:
        config: Of a deployed model, or of a supernet.
    """
    if getattr(config, "type_vocab_size", 1) < 2:
        return ("input_ids", "attention_mask")
    return ("input_ids", "token_type_ids", "attention_mask")


def checkpoint_folders(folder: Path) -> list[Path]:
    """List checkpoint folders, newest first."""
    return sorted(folder.glob(f"{PREFIX}[0-9]*"), reverse=True)


def _damage(path: Path) -> str | None:
    try:
        checksums = read_json_object(path / CHECKSUMS)
        for name in sorted(_FILES | checksums.keys()):
            if digest(path / name) != checksums[name]:
                return f"{name} does not match its checksum"
    except InvalidInputError as error:
        return str(error)
    except KeyError as error:
        return f"{CHECKSUMS} lacks {error}"
    return None


def _load_weights(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Load all weights of a model; tied ones are written, and so expected, once."""
    found = model.load_state_dict(weights, strict=False)
    if missing := sorted(parameters_of(model).keys() & {*found.missing_keys}):
        raise ValueError(f"the weights lack {missing[0]}")
    if found.unexpected_keys:
        raise ValueError(f"the weights have {found.unexpected_keys[0]} left over")
