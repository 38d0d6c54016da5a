"""Running exported files, without PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import MissingDependencyError, one_line
from nastool_objectives.latency.export import completed
from nastool_objectives.latency.onnx_devices import compiled_by, port_sizes
from nastool_objectives.latency.precision import FLOAT32

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], dict[str, NDArray[Any]]]
"""One pass: inputs (B, T) by name to logits, or hidden states, by name."""

FILES = {
    "onnx": "onnx/model.onnx",
    "int8": "onnx/model_int8.onnx",
    "openvino": "openvino/openvino_model.xml",
}
"""Where each form lies in a model's folder; the names are those that Optimum looks for."""


def onnx_run(path: Path, threads: int = 1) -> Run:
    """Run an ONNX file in ONNX Runtime on the processor.

    Raises:
        NastoolError: ONNX Runtime cannot load it.
    """
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    with one_line("ONNX Runtime cannot load it"):
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    sizes = {node.name: node.shape for node in session.get_inputs()}
    outputs = [node.name for node in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        found = session.run(outputs, completed(inputs, sizes))
        return dict(zip(outputs, found, strict=True))

    return run


def openvino_run(path: Path, threads: int = 1, dtype: str = FLOAT32) -> Run:
    """Run a file of OpenVINO, or an ONNX file, in OpenVINO on the processor.

    Args:
        path: The file.
        threads: Threads of a pass.
        dtype: Precision of products, a key of `PRECISION_HINTS`.

    Raises:
        NastoolError: OpenVINO cannot load it.
    """
    with one_line("OpenVINO cannot load it"):
        compiled = compiled_by(library("openvino").Core(), path, "CPU", dtype, threads, {})
    sizes = port_sizes(compiled.inputs)

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        found = compiled(completed(inputs, sizes))
        return {port.any_name: np.array(found[port]) for port in compiled.outputs}

    return run


RUNS: Mapping[str, Callable[[Path], Run]] = {
    "onnx": onnx_run,
    "int8": onnx_run,
    "openvino": openvino_run,
}
"""What runs the file of each form."""


def library(name: str) -> Any:
    """Import what a form needs.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = "openvino" if name == "openvino" else "'nastool[export]'"
        raise MissingDependencyError(f"this form needs {name}: pip install {what}") from error


def require(form: str) -> None:
    """Check that what a form needs is installed.

    Args:
        form: A key of `FILES`.

    Raises:
        MissingDependencyError: It is not.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        library(name)
    if form == "openvino":
        library("openvino")
