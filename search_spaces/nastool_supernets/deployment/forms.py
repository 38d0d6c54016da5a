"""Making the forms a deployed model runs in: PyTorch, ONNX, ONNX in 8 bits, OpenVINO."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from nastool.errors import NastoolError
from nastool_supernets.deployment.runtimes import FILES, Arrays, Run, library, one_line

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

OPSET = 18
"""Operator set of the files: old enough for the runtimes on phones, with LayerNormalization."""


def input_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of the inputs that a model takes; one that tells no segments apart takes none."""
    taken = inspect.signature(model.forward).parameters
    one = getattr(model.config, "type_vocab_size", 2) < 2
    return tuple(
        name for name in INPUTS if name in taken and not (one and name == "token_type_ids")
    )


def torch_run(model: PreTrainedModel) -> Run:
    """Run a model in PyTorch.

    Args:
        model: On the CPU, in evaluation mode.
    """
    names = input_names(model)

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            output = model(**{name: torch.from_numpy(inputs[name]) for name in names})
        return {name: output[name].numpy() for name in _outputs(output)}

    return run


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
            head, become the outputs.
        path: File to write.

    Raises:
        MissingDependencyError: The exporter is not installed.
        NastoolError: The model cannot be exported.
    """
    onnx = library("onnx")
    library("onnxscript")
    names = input_names(model)
    # Larger than 1 both ways: a size of 1 would be taken for one that never changes.
    inputs = {name: torch.ones(2, 8, dtype=torch.long) for name in names}
    longest = int(model.config.max_position_embeddings)
    sizes = {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("length", min=1, max=longest),
    }
    with one_line("cannot export to ONNX"), _quietly(), torch.no_grad():
        outputs = _outputs(model(**inputs))
        program = torch.onnx.export(
            _Tuple(model, outputs),
            kwargs=inputs,
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=dict.fromkeys(names, sizes),
            verbose=False,
        )
        if program is None:
            raise NastoolError("cannot export to ONNX: the exporter returned nothing")
        file = program.model_proto
        _strip(file.graph)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(file, str(path))


def write_int8(onnx_file: Path, path: Path) -> None:
    """Quantise an ONNX file: weights to 8 bits channel by channel, activations as they come.

    Args:
        onnx_file: What `write_onnx` wrote.
        path: File to write.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        NastoolError: It cannot be quantised.
    """
    library("onnx")
    library("onnxruntime")
    with one_line("cannot quantise"), _quietly():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        path.parent.mkdir(parents=True, exist_ok=True)
        quantize_dynamic(onnx_file, path, per_channel=True, weight_type=QuantType.QInt8)


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
    with one_line("cannot convert to OpenVINO"), _quietly():
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(openvino.convert_model(str(onnx_file)), path, compress_to_fp16=False)


class _Tuple(nn.Module):
    """A model whose output is a tuple, under a signature that can be exported."""

    def __init__(self, model: nn.Module, outputs: list[str]) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        output = self.model(**inputs)
        return tuple(output[name] for name in self.outputs)


def _outputs(output: Any) -> list[str]:
    """Names of what a model computes: logits, or hidden states where it has no head."""
    return [name for name in output if name.endswith("logits")] or ["last_hidden_state"]


def _strip(graph: Any) -> None:
    """Remove the exporter's notes: half a megabyte, with the paths of whoever exported."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporters' advice to developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
