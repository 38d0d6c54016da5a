"""Making the forms a deployed model runs in: PyTorch, ONNX, ONNX in 8 bits, OpenVINO."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nastool.devices import Deployment, Workload, timing_of
from nastool.errors import one_line
from nastool.files.writing import writing
from nastool.plugins import load_device
from nastool.runtime.quiet import quiet
from nastool_objectives.latency.export import export_onnx, output_names
from nastool_objectives.latency.padding import AUTO, NONE
from nastool_objectives.latency.quantisation import quantise
from nastool_supernets.deployment.caches import Continuing, continuing, kept_sizes
from nastool_supernets.deployment.runtimes import FILES, Arrays, Run, library
from nastool_supernets.positions import positions_of

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def input_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the inputs that a model takes; one that tells no segments apart takes none."""
    taken = inspect.signature(model.forward).parameters
    one = getattr(model.config, "type_vocab_size", 1) < 2
    return tuple(
        name for name in INPUTS if name in taken and not (one and name == "token_type_ids")
    )


def torch_run(model: PreTrainedModel) -> Run:
    """Run a model in PyTorch.

    Args:
        model: On the CPU, in evaluation mode. What it says in fewer bits comes out in float32.
    """
    names = input_names(model)

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            output = model(**{name: torch.from_numpy(inputs[name]) for name in names})
        return {name: output[name].float().numpy() for name in output_names(output)}

    return run


def chosen_padding(
    model: PreTrainedModel, padding: str, device: str, settings: Mapping[str, Any], size: Workload
) -> str:
    """The padding that ``auto`` stands for, for a model on a device; any other one as it is.

    Args:
        model: On the CPU, in evaluation mode; one that is not ours is never padded.
        padding: One of `nastool_objectives.latency.padding.PADDINGS`.
        device: Name of a device that pads.
        settings: Its other settings.
        size: What a pass is given.
    """
    if not hasattr(model, "padded"):
        return NONE
    if padding != AUTO:
        return padding
    made = load_device(device, {**settings, "pad": AUTO})
    return timing_of(made, as_deployment(model, size), 1, 1).padding or NONE


def as_deployment(model: PreTrainedModel, size: Workload, file: Path | None = None) -> Deployment:
    """A model with random inputs, as devices run it.

    Args:
        model: On the CPU, in evaluation mode.
        size: What a pass is given.
        file: The same model as a file, to be run instead.
    """
    shape = (size.batch_size, size.sequence_length)
    ids = torch.randint(model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    # Full texts: padding would be work for some runtimes and none for others.
    values = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    taken = input_names(model)
    inputs = {key: value for key, value in zip(INPUTS, values, strict=True) if key in taken}
    padded = getattr(model, "padded", None)
    made = None if padded is None else lambda multiple: padded(widths=multiple)
    following = exported = None
    if sizes := kept_sizes(model):
        module = Continuing(model)
        exported = continuing(module, sizes, size, 0, size.sequence_length)
        following = continuing(module, sizes, size, size.sequence_length, 1)
        following = replace(following, file=file)
    return Deployment(model, inputs, size, file, made, following, exported)


def with_onnx(wanted: Iterable[str]) -> list[str]:
    """Order the forms to write so that ONNX, which all others are made from, comes first.

    Args:
        wanted: Names of forms; ``torch`` and others that need no file of their own are left out.
    """
    wanted = set(wanted) & set(FILES)
    return [form for form in FILES if wanted and (form == "onnx" or form in wanted)]


def write(form: str, model: PreTrainedModel, folder: Path) -> Path:
    """Write one form of a model, and return its file.

    Args:
        form: A key of `FILES`; all but ``onnx`` are made from the ONNX file in the folder.
        model: On the CPU, in evaluation mode.
        folder: The model's folder.

    Raises:
        MissingDependencyError: What the form needs is not installed.
        NastoolError: The form cannot be made.
    """
    path, onnx_file = folder / FILES[form], folder / FILES["onnx"]
    if form == "onnx":
        write_onnx(model, path)
    elif form == "int8":
        write_int8(onnx_file, path)
    else:
        write_openvino(onnx_file, path)
    return path


def write_onnx(model: PreTrainedModel, path: Path) -> None:
    """Write a model as ONNX, for batches and lengths of any size, weights in the same file.

    Args:
        model: On the CPU, in evaluation mode; its logits, or the hidden states of one without
            head, become the outputs. A decoder takes keys and values of what it has read, and
            gives those of all that it has read then.
        path: File to write.

    Raises:
        MissingDependencyError: The exporter is not installed.
        NastoolError: The model cannot be exported.
    """
    size = Workload(2, min(8, positions_of(model.config)))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    deployment = as_deployment(model, size)
    export_onnx(deployment.exported or deployment, path)


def write_int8(onnx_file: Path, path: Path) -> None:
    """Write an ONNX file that `write_onnx` wrote in 8 bits; see `quantise`, also for errors."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    quantise(onnx_file, path)


def write_openvino(onnx_file: Path, path: Path) -> None:
    """Convert an ONNX file for OpenVINO, in float32.

    Args:
        onnx_file: What `write_onnx` wrote.
        path: File to write, ``.xml``; the weights go beside it.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        NastoolError: It cannot be converted.
    """
    openvino = library("openvino")
    with one_line("cannot convert to OpenVINO"), quiet(warning=Warning):
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(openvino.convert_model(str(onnx_file)), path, compress_to_fp16=False)
