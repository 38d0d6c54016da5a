"""Runtimes that take an architecture as an ONNX file: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nastool.devices import Deployment, Device, Timing
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError, one_line
from nastool.runtime.leftovers import temporary_folder
from nastool_objectives.latency import system
from nastool_objectives.latency.export import KEPT, completed, export_onnx
from nastool_objectives.latency.padding import (
    NONE,
    checked_padding,
    named,
    padded,
    padding_facts,
)
from nastool_objectives.latency.precision import FLOAT32, PRECISION_HINTS, checked_dtype
from nastool_objectives.latency.quantisation import quantise
from nastool_objectives.latency.torch_devices import checked_threads, timed

_PROBED = 3
"""Passes that tell how fast a padded form is."""


class UnfitError(NastoolError):
    """A runtime would not live through an architecture."""


class OnnxRuntime(Device):
    """ONNX Runtime on the processor.

    Args:
        argument: None; there is nothing to choose.
        threads: Threads, each on a core of its own.
        int8: Whether weights have 8 bits, and products are of integers.
        pad: Multiple that layers are padded to: ``8``, ``64``, ``none``, or ``auto`` for the
            fastest.

    A deployment that is a file already runs as it is.

    Raises:
        InvalidInputError: An argument, fewer than one thread, or an unknown padding.
        MissingDependencyError: onnxruntime is not installed.
    """

    times_following = True

    def __init__(
        self,
        argument: str | None = None,
        *,
        threads: int = 1,
        int8: bool = False,
        pad: str = NONE,
    ) -> None:
        if argument is not None:
            raise InvalidInputError(f"device onnxruntime takes no argument, got {argument!r}")
        self.threads = checked_threads(threads)
        self.int8 = int8
        self.pad = checked_padding("onnxruntime", pad)
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError(
                "device onnxruntime needs the package: pip install 'nastool[export]'"
            ) from error
        self._runtime = onnxruntime
        self._energy = system.EnergyCounter()
        self._files = _Files()

    @property
    def facts(self) -> Mapping[str, Any]:
        runtime = f"ONNX Runtime {self._runtime.__version__}"
        return {
            **system.facts(),
            "runtime": runtime,
            "threads": self.threads,
            **({"dtype": "int8"} if self.int8 else {}),
            **padding_facts(self.pad),
        }

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        runs: dict[int, tuple[Deployment, Callable[[], object]]] = {}

        def run_of(form: Deployment) -> Callable[[], object]:
            # A file takes long to write: once for all turns.
            if id(form) not in runs:
                runs[id(form)] = (form, self._run(form))
            return runs[id(form)][1]

        def probe(form: Deployment) -> float:
            return min(timed(run_of(form), _PROBED))

        # Its threads inherit the cores of the one that makes the session.
        with system.pinned(self.threads):
            padding, form = padded(deployment, self.pad, probe)
            run = run_of(form)
            # It raises types of its own for what it cannot load or run.
            with one_line("ONNX Runtime cannot run it"):
                return _timing(run, warmup, repeats, self._energy, padding)

    def _run(self, form: Deployment) -> Callable[[], object]:
        """A pass of a session of its own."""
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with self._files.of(form, int8=self.int8) as path, one_line("ONNX Runtime cannot run it"):
            session = self._runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            inputs = _arrays(form, {node.name: node.shape for node in session.get_inputs()})
        return lambda: session.run(None, inputs)


class OpenVino(Device):
    """OpenVINO on the processor, in its latency mode.

    Args:
        argument: OpenVINO's name of what to run on; ``CPU`` by default.
        threads: Threads.
        dtype: Precision of products: ``float32``, ``float16`` or ``bfloat16``.

    Raises:
        InvalidInputError: OpenVINO knows no such device, fewer than one thread, or an unknown
            precision.
        MissingDependencyError: openvino is not installed.
    """

    times_following = True

    def __init__(
        self, argument: str | None = None, *, threads: int = 1, dtype: str = FLOAT32
    ) -> None:
        self.threads = checked_threads(threads)
        self.dtype = checked_dtype("openvino", dtype)
        try:
            import openvino
        except ImportError as error:
            raise MissingDependencyError(
                "device openvino needs the package: pip install openvino"
            ) from error
        self._module = openvino
        self._core = openvino.Core()
        self.target = argument or "CPU"
        known = list(self._core.available_devices)
        if self.target not in known:
            raise InvalidInputError(
                f"device openvino[{self.target}]: expected one of {', '.join(known)}"
            )
        self._energy = system.EnergyCounter()
        self._files = _Files()

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            **system.facts(),
            "target": str(self._core.get_property(self.target, "FULL_DEVICE_NAME")),
            "runtime": f"OpenVINO {self._module.__version__}",
            "threads": self.threads,
            "dtype": self.dtype,
        }

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if self.target == "CPU":
            settings["NUM_STREAMS"] = 1
        refused = one_line("OpenVINO cannot run it", of=RuntimeError)
        with self._files.of(deployment) as path, system.pinned(self.threads), refused:
            compiled = compiled_by(
                self._core, path, self.target, self.dtype, self.threads, settings
            )
            inputs = _arrays(deployment, port_sizes(compiled.inputs))
            request = compiled.create_infer_request()
            return _timing(lambda: request.infer(inputs), warmup, repeats, self._energy)


class _Files:
    """Architectures as files: their own, or made for now.

    That of a decoder stays until the next one, for reading a text and one more token run it both.
    """

    def __init__(self) -> None:
        self._kept = ExitStack()
        self._module: Callable[[], Any] = lambda: None
        self._path = Path()
        weakref.finalize(self, self._kept.close)

    @contextmanager
    def of(self, deployment: Deployment, *, int8: bool = False) -> Iterator[Path]:
        """The file of an architecture, within this block."""
        exported = deployment.exported
        if deployment.file is not None:
            yield deployment.file
        elif exported is None:
            with temporary_folder() as folder:
                yield _written(deployment, folder, int8=int8)
        else:
            if self._module() is not exported.module:
                self._module = lambda: None  # until there is its file
                self._kept.close()
                folder = self._kept.enter_context(temporary_folder())
                self._path = _written(exported, folder, int8=int8)
                self._module = weakref.ref(exported.module)
            yield self._path


def _written(deployment: Deployment, folder: Path, *, int8: bool) -> Path:
    """An architecture's file, new in a folder."""
    path, small = folder / "model.onnx", folder / "model_int8.onnx"
    export_onnx(deployment, path)
    if not int8:
        return path
    quantise(path, small)
    return small


def compiled_by(
    core: Any, path: Path, target: str, dtype: str, threads: int, settings: Mapping[str, Any]
) -> Any:
    """Compile a file with OpenVINO.

    Args:
        core: Of OpenVINO.
        path: The file.
        target: OpenVINO's name of what to run on.
        dtype: Precision of products, a key of `PRECISION_HINTS`.
        threads: Threads of a pass, on the processor.
        settings: Others, by OpenVINO's names.

    Raises:
        UnfitError: It might end the process.
    """
    model = core.read_model(str(path))
    if any(port.any_name.startswith(KEPT) for port in model.inputs):
        check_decoder(dtype, threads)
    # By itself OpenVINO computes in fewer bits wherever its target can.
    settings = {**settings, "INFERENCE_PRECISION_HINT": PRECISION_HINTS[dtype]}
    if target == "CPU":
        settings["INFERENCE_NUM_THREADS"] = threads
    return core.compile_model(model, target, settings)


def check_decoder(dtype: str, threads: int) -> None:
    """Check that OpenVINO lives through a decoder.

    Its release 2026.4 divides by zero in 16 bits on one thread of a processor with AMX.

    Raises:
        UnfitError: It might not.
    """
    if dtype != FLOAT32 and threads == 1:
        raise UnfitError(f"OpenVINO needs two threads at least for decoders in {dtype}")


def port_sizes(ports: Iterable[Any]) -> dict[str, list[Any]]:
    """What a compiled model of OpenVINO takes: sizes by name, None for what is of any size."""
    return {
        port.any_name: [
            size.get_length() if size.is_static else None for size in port.partial_shape
        ]
        for port in ports
    }


def _arrays(deployment: Deployment, sizes: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The inputs that the exported file still has, as arrays."""
    given = (deployment.exported or deployment).inputs
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    return completed(arrays, sizes)


def _timing(
    run: Callable[[], object],
    warmup: int,
    repeats: int,
    counter: system.EnergyCounter,
    padding: str = NONE,
) -> Timing:
    for _ in range(warmup):
        run()
    counter.start()
    seconds = timed(run, repeats)
    each = system.energy_a_pass(counter.stop(), seconds)
    return Timing(np.array(seconds), None, each, padding=named(padding))
