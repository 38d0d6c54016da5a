"""Checkpoints of a training run: atomic, verified, in safetensors and JSON.

A checkpoint is a folder ``step-00001234`` with ``config.json`` and ``model.safetensors`` (so that
it loads like any model), ``optimizer.safetensors``, ``state.json`` and ``checksums.json``.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError, NastoolError
from nastool.files.reading import is_file, read_json_object
from nastool.files.writing import (
    digest,
    remove_leftovers,
    whole_file,
    whole_folder,
    write_whole,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from nastool_supershaper.modeling import SuperShaperForMaskedLM

_log = logging.getLogger(__name__)
_PREFIX = "step-"
_CHECKSUMS = "checksums.json"
_BESIDE = "beside.safetensors"
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


def save_checkpoint(
    folder: Path,
    step: int,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int = 2,
    beside: torch.nn.Module | None = None,
) -> Path:
    """Write a checkpoint in full or not at all, then remove all but the newest.

    Args:
        folder: Folder of the run's checkpoints.
        step: Steps done.
        model: Weights to save.
        optimizer: Moments to save.
        state: Anything else that resuming needs, as JSON.
        keep: How many checkpoints to keep.
        beside: What was trained along and is no part of the model.

    Returns:
        The checkpoint's folder.

    Raises:
        NastoolError: If it cannot be written; earlier checkpoints are untouched.
    """
    from safetensors.torch import save_file

    final = folder / f"{_PREFIX}{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Of a process that was killed: a run has one owner.
        remove_leftovers(folder)
        if final.exists():
            shutil.rmtree(final)
        with whole_folder(final) as partial:
            save_model(model, partial)
            named = dict(model.named_parameters())
            if others := _named(beside):
                weights = {n: p.detach().cpu().contiguous() for n, p in others.items()}
                save_file(weights, partial / _BESIDE)
            save_file(
                _optimizer_tensors(named | others, optimizer), partial / "optimizer.safetensors"
            )
            (partial / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
            checksums = {path.name: digest(path) for path in sorted(partial.iterdir())}
            (partial / _CHECKSUMS).write_text(json.dumps(checksums, indent=2), encoding="utf-8")
    # safetensors reports a full disk by an exception of its own.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise NastoolError(
            f"cannot write checkpoint {final}: {reason}; earlier checkpoints are kept"
        ) from error
    # Later ones are damaged: the run went on from one before them.
    kept = [path for path in _folders(folder) if path.name <= final.name][:keep]
    for path in _folders(folder):
        if path not in kept:
            shutil.rmtree(path)
    return final


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose checksums hold, or None; damaged ones are logged.

    Args:
        folder: Folder of the run's checkpoints.
    """
    for path in _folders(folder):
        reason = _damage(path)
        if reason is None:
            return Checkpoint(path, read_json_object(path / "state.json"))
        _log.warning("checkpoint %s is damaged (%s) and left out", path, reason)
    return None


def resumable_checkpoint(output: Path, resume: bool) -> Checkpoint | None:
    """Return the checkpoint that a run in a folder goes on from, or None where it starts anew.

    Args:
        output: The run's folder.
        resume: Whether it is to go on.

    Raises:
        InvalidInputError: If the folder holds a run that is not to go on, one that cannot, or a
            model that a new run would replace.
    """
    folder = output / "checkpoints"
    checkpoint = latest_checkpoint(folder)
    if checkpoint is not None:
        if not resume:
            raise InvalidInputError(
                f"{output} already holds a run at step {checkpoint.state['step']}: "
                "add --resume to go on, or give another folder"
            )
        return checkpoint
    if is_file(output / "model.safetensors"):
        raise InvalidInputError(
            f"{output} already holds a model, and no whole checkpoint to go on from: give another "
            "folder; the model can be what it starts from (--supernet)"
        )
    damaged = len(_folders(folder))
    if resume and damaged:
        raise InvalidInputError(
            f"expected a whole checkpoint to go on from, got {damaged} in {folder}, all damaged: "
            "delete that folder to start again from step 0"
        )
    return None


def load_checkpoint(
    checkpoint: Checkpoint,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    beside: torch.nn.Module | None = None,
) -> None:
    """Restore weights and moments in place, bit by bit.

    Args:
        checkpoint: From `latest_checkpoint`.
        model: Of the same sizes as the saved one.
        optimizer: Over the parameters of that model.
        beside: What is trained along; its weights are restored, too.

    Raises:
        NastoolError: If the saved weights are not those of such a model.
    """
    import torch
    from safetensors.torch import load_file

    weights = load_file(checkpoint.path / "model.safetensors")
    parameters = dict(model.named_parameters()) | _named(beside)
    if is_file(checkpoint.path / _BESIDE):
        weights |= load_file(checkpoint.path / _BESIDE)
    expected = {name: tuple(p.shape) for name, p in parameters.items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    if expected != found:
        names = sorted(n for n in expected | found if expected.get(n) != found.get(n))
        raise NastoolError(
            f"checkpoint {checkpoint.path} is of another model: it differs in {names[0]} "
            f"(expected {expected.get(names[0])}, got {found.get(names[0])})"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    for key, tensor in load_file(checkpoint.path / "optimizer.safetensors").items():
        name, _, field = key.rpartition("/")
        parameter = parameters[name]
        # The fused optimizer wants its step counters where the parameters are.
        optimizer.state[parameter][field] = tensor.to(parameter.device)


def trained_folder(folder: Path, what: str) -> Path:
    """Return the folder of a model itself, or the newest checkpoint of an unfinished run.

    Args:
        folder: Of the model, or of the run.
        what: What is expected, for the message.

    Raises:
        InvalidInputError: If there is neither, or the checkpoint is damaged.
    """
    if not is_file(folder / "model.safetensors"):
        checkpoint = latest_checkpoint(folder / "checkpoints")
        if checkpoint is None:
            raise InvalidInputError(
                f"expected a {what} (config.json, model.safetensors) or a run with checkpoints "
                f"in {folder}, found neither"
            )
        folder = checkpoint.path
    if is_file(folder / _CHECKSUMS) and (reason := _damage(folder)):
        raise InvalidInputError(f"checkpoint {folder} is damaged ({reason})")
    return folder


def load_supernet(path: str | Path) -> SuperShaperForMaskedLM:
    """Load a supernet from a model folder, or from the newest checkpoint of a run's folder.

    Args:
        path: The folder.

    Raises:
        InvalidInputError: If there is no supernet.
    """
    from safetensors.torch import load_file

    from nastool_supershaper.modeling import SuperShaperConfig, SuperShaperForMaskedLM

    folder = trained_folder(Path(path), "supernet")
    try:
        kind = read_json_object(folder / "config.json")["model_type"]
        if kind != SuperShaperConfig.model_type:
            what = " (one shape: --model)" if kind == "shaped_bert" else ""
            raise InvalidInputError(f"{folder}: expected a supershaper model, got {kind}{what}")
        model = SuperShaperForMaskedLM(SuperShaperConfig.from_pretrained(folder))
        # Not from_pretrained: it keeps the precision of the file, which may be 16 bits.
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except InvalidInputError:
        raise
    # safetensors and torch raise their own types for a damaged or a foreign file.
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidInputError(f"no supernet can be read from {folder}: {reason}") from error
    return model.eval()


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
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [type(model).__name__]
    # Where it once was loaded from may have had another precision: that of the weights counts.
    config.pop("dtype", None)
    config.pop("torch_dtype", None)
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
    weights = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters()}
    # A process killed here leaves the weights that were there, or none.
    with whole_file(folder / "model.safetensors") as file:
        file.write(save(weights, metadata={"format": "pt"}))


def _named(beside: torch.nn.Module | None) -> dict[str, torch.nn.Parameter]:
    """The parameters of what is trained along, by names that no model has."""
    if beside is None:
        return {}
    return {f"beside.{name}": parameter for name, parameter in beside.named_parameters()}


def _optimizer_tensors(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    import torch

    names: dict[torch.Tensor, str] = {p: n for n, p in parameters.items()}
    return {
        f"{names[parameter]}/{field}": torch.as_tensor(value).detach().cpu().contiguous()
        for parameter, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def _folders(folder: Path) -> list[Path]:
    """List checkpoint folders, newest first."""
    return sorted(folder.glob(f"{_PREFIX}[0-9]*"), reverse=True)


def _damage(path: Path) -> str | None:
    try:
        checksums = read_json_object(path / _CHECKSUMS)
        for name in sorted(_FILES | checksums.keys()):
            if digest(path / name) != checksums[name]:
                return f"{name} does not match its checksum"
    except InvalidInputError as error:
        return str(error)
    except KeyError as error:
        return f"{_CHECKSUMS} lacks {error}"
    return None
