"""What a form of a model takes: bytes on disk, and bytes of memory while it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nastool.devices import Workload
from nastool.errors import NastoolError
from nastool.files.reading import read_json_object
from nastool.runtime.leftovers import started
from nastool_objectives.latency.export import weights_beside
from nastool_objectives.latency.padding import MULTIPLES, NONE
from nastool_objectives.latency.precision import FLOAT32

_FILES = {
    "torch": ("model.safetensors",),
    "onnx": ("onnx/model.onnx",),
    "int8": ("onnx/model_int8.onnx",),
    "openvino": ("openvino/openvino_model.xml", "openvino/openvino_model.bin"),
}

_STATUS = Path("/proc/self/status")
_PASSES = 3

_PATIENCE = 3600.0
"""Seconds that a model may take to be loaded and run."""

_MOST = 1 << 16
"""Bytes that are read of what its process prints."""


def bytes_of(folder: Path, form: str) -> int:
    """Size on disk of one form of a model.

    Args:
        folder: The model's folder.
        form: ``torch``, ``onnx``, ``int8`` or ``openvino``.
    """
    files = [folder / name for name in _FILES[form]]
    files += [beside for file in files if (beside := weights_beside(file)).is_file()]
    return sum(file.stat().st_size for file in files)


def forms_in(folder: Path) -> list[str]:
    """Forms that a model's folder holds."""
    return [
        form for form, names in _FILES.items() if all((folder / name).is_file() for name in names)
    ]


def peak_memory(
    folder: Path,
    form: str,
    workload: Workload,
    threads: int = 1,
    padding: str = NONE,
    dtype: str = FLOAT32,
) -> int | None:
    """Most resident memory that a model adds to a process while it runs, in bytes.

    A fresh process imports what the form needs, loads the model and runs a few passes; counted is
    what its resident memory grew by since the imports, at the highest point of the passes. Weights
    that are read straight from the file are counted once they have been touched.

    Args:
        folder: The model's folder.
        form: ``torch``, ``onnx``, ``int8`` or ``openvino``.
        workload: What a pass is given.
        threads: Threads of a pass.
        padding: What layers are padded to in PyTorch; files are as they are.
        dtype: Precision that PyTorch or OpenVINO computes in.

    Returns:
        None where the system does not say (other than Linux), or does not let a process reset it.

    Raises:
        NastoolError: It cannot be run.
    """
    if not _STATUS.is_file():
        return None
    sizes = (workload.batch_size, workload.sequence_length, threads)
    words = [sys.executable, "-m", __name__, str(folder), form, padding, dtype, *map(str, sizes)]
    with started(words, {**os.environ, "OMP_NUM_THREADS": str(threads)}) as process:
        output, errors = process.collect(_PATIENCE, _MOST, _MOST)
    if process.exit_code != 0:
        last = (errors.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise NastoolError(f"the memory of {form} in {folder} cannot be measured: {last}")
    found = output.decode().split()[-1]
    return None if found == str(None) else int(found)


def _measure(
    folder: Path, form: str, padding: str, dtype: str, batch_size: int, length: int, threads: int
) -> int | None:
    """What `peak_memory` asks its process for."""
    config = read_json_object(folder / "config.json")
    ids = np.random.default_rng(0).integers(config["vocab_size"], size=(batch_size, length))
    inputs = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }
    if form == "torch":
        import torch

        from nastool_supernets.deployment.forms import torch_run
        from nastool_supernets.deployment.models import load_model, model_class

        torch.set_num_threads(threads)
        # Its code is imported on first use.
        model_class(folder)
        # A first product allocates what every model shares.
        torch.ones(8, 8) @ torch.ones(8, 8)
        before = _resident("VmRSS")
        model: Any = load_model(folder)
        if padding != NONE:
            model = model.padded(widths=MULTIPLES[padding])
        run = torch_run(model.to(getattr(torch, dtype)))
    elif form == "openvino":
        import openvino

        from nastool_supernets.deployment.runtimes import openvino_run

        openvino.Core()
        before = _resident("VmRSS")
        run = openvino_run(folder / _FILES[form][0], threads, dtype)
    else:
        import onnxruntime  # noqa: F401 - what it takes by itself is not the model's

        from nastool_supernets.deployment.runtimes import onnx_run

        before = _resident("VmRSS")
        run = onnx_run(folder / _FILES[form][0], threads)
    # Loading may hold the weights twice for a moment; running is what lasts.
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return None
    for _ in range(_PASSES):
        run(inputs)
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == field:
            return int(value.split()[0]) * 1024
    raise NastoolError(f"expected {field} in {_STATUS}")


if __name__ == "__main__":
    _folder, _form, _padding, _dtype, *_sizes = sys.argv[1:]
    sys.stdout.write(f"{_measure(Path(_folder), _form, _padding, _dtype, *map(int, _sizes))}\n")
