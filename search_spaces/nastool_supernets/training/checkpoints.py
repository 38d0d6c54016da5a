"""Checkpoints of a training run: atomic, verified, in safetensors and JSON.

A checkpoint is a folder ``step-00001234`` with ``config.json`` and ``model.safetensors`` (so that
it loads like any model), ``optimizer.safetensors``, ``state.json`` and ``checksums.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError, NastoolError, first_line
from nastool.files.reading import is_file
from nastool.files.writing import digest, remove_leftovers, whole_folder
from nastool_supernets.saved import (
    CHECKSUMS,
    PREFIX,
    Checkpoint,
    checkpoint_folders,
    latest_checkpoint,
    parameters_of,
    save_model,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


_BESIDE = "beside.safetensors"


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

    final = folder / f"{PREFIX}{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Of a process that was killed: a run has one owner.
        remove_leftovers(folder)
        if final.exists():
            shutil.rmtree(final)
        with whole_folder(final) as partial:
            save_model(model, partial)
            named = parameters_of(model)
            if others := _named(beside):
                weights = {n: p.detach().cpu().contiguous() for n, p in others.items()}
                save_file(weights, partial / _BESIDE)
            save_file(
                _optimizer_tensors(named | others, optimizer), partial / "optimizer.safetensors"
            )
            (partial / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
            checksums = {path.name: digest(path) for path in sorted(partial.iterdir())}
            (partial / CHECKSUMS).write_text(json.dumps(checksums, indent=2), encoding="utf-8")
    # safetensors reports a full disk by an exception of its own.
    except Exception as error:
        raise NastoolError(
            f"cannot write checkpoint {final}: {first_line(error)}; earlier checkpoints are kept"
        ) from error
    # Later ones are damaged: the run went on from one before them.
    kept = [path for path in checkpoint_folders(folder) if path.name <= final.name][:keep]
    for path in checkpoint_folders(folder):
        if path not in kept:
            shutil.rmtree(path)
    return final


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
    damaged = len(checkpoint_folders(folder))
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
    parameters = parameters_of(model) | _named(beside)
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
