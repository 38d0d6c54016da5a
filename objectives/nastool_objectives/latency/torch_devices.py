"""PyTorch on this machine's processor or NVIDIA GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from nastool.deployment import Deployment
from nastool.devices import Device, Timing
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool_objectives.latency import system

_ARCHITECTURES = 1 << 20
"""That one process may compile: more than any campaign measures."""


def require_torch() -> Any:
    """The module torch.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "running architectures needs torch: pip install 'nastool[train]'"
        ) from error
    return torch


class Cpu(Device):
    """PyTorch on the processor, eager or compiled.

    Args:
        argument: None; there is nothing to choose.
        threads: Threads, each on a core of its own.
        compile: Whether to compile each architecture first (`torch.compile`), which takes long.

    Raises:
        InvalidInputError: An argument, or fewer than one thread.
    """

    def __init__(
        self,
        argument: str | None = None,
        *,
        threads: int = 1,
        compile: bool = False,  # noqa: A002 - what it is called in torch
    ) -> None:
        if argument is not None:
            raise InvalidInputError(f"device cpu takes no argument, got {argument!r}")
        self.threads = checked_threads(threads)
        self.compile = compile
        self._torch = require_torch()
        self._energy = system.EnergyCounter()
        if compile:
            # Beyond a few, torch would run further ones as they are, and only warn.
            limits = self._torch._dynamo.config  # noqa: SLF001 - where torch keeps its limits
            limits.recompile_limit = limits.accumulated_recompile_limit = _ARCHITECTURES

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            **system.facts(),
            "runtime": f"PyTorch {self._torch.__version__}",
            "threads": self.threads,
            "compiled": self.compile,
        }

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        from nastool_objectives.latency.peak_memory import peak_memory

        with one_core_a_thread(self._torch, self.threads), self._torch.inference_mode():
            module = deployment.module
            if self.compile:
                module = self._torch.compile(module, dynamic=False)

            def run() -> None:
                module(**deployment.inputs)

            for _ in range(max(warmup, int(self.compile))):
                run()
            self._energy.start()
            seconds = timed(run, repeats)
            energy = self._energy.stop()
        memory = peak_memory(deployment.module, dict(deployment.inputs))
        return Timing(np.array(seconds), memory, None if energy is None else energy / repeats)


class Cuda(Device):
    """PyTorch on an NVIDIA GPU, timed by its own events.

    Args:
        argument: Number of the GPU; the first one by default.
        graphs: Whether to replay each architecture as a CUDA graph, without the host's overhead.
        dtype: Precision: ``float32``, ``float16`` or ``bfloat16``.

    Raises:
        InvalidInputError: No such GPU, or an unknown precision.
    """

    def __init__(
        self, argument: str | None = None, *, graphs: bool = False, dtype: str = "float32"
    ) -> None:
        self._torch = require_torch()
        count = self._torch.cuda.device_count() if self._torch.cuda.is_available() else 0
        index = argument or "0"
        if not index.isdecimal() or int(index) >= count:
            raise InvalidInputError(
                f"device cuda[{index}]: expected the number of one of {count} GPUs of this machine"
            )
        if dtype not in ("float32", "float16", "bfloat16"):
            raise InvalidInputError(
                f"device cuda: dtype must be float32, float16 or bfloat16, got {dtype!r}"
            )
        self.device = self._torch.device("cuda", int(index))
        self.graphs = graphs
        self.dtype = dtype

    @property
    def facts(self) -> Mapping[str, Any]:
        torch = self._torch
        return {
            **system.facts(),
            "gpu": torch.cuda.get_device_name(self.device),
            "runtime": f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}",
            "graphs": self.graphs,
            "dtype": self.dtype,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        torch = self._torch
        with _one_line(), torch.inference_mode(), torch.cuda.device(self.device):
            torch.cuda.reset_peak_memory_stats(self.device)
            module = deployment.module.to(self.device, getattr(torch, self.dtype))
            inputs = {name: t.to(self.device) for name, t in deployment.inputs.items()}

            def eager() -> None:
                module(**inputs)

            run = eager
            if self.graphs:
                # Libraries set themselves up in their first calls, which must not be captured.
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    eager()
                torch.cuda.current_stream().wait_stream(stream)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    eager()
                run = graph.replay
            for _ in range(warmup):
                run()
            torch.cuda.synchronize()
            before = self._millijoules()
            events = []
            for _ in range(repeats):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                run()
                end.record()
                # One pass at a time: queued passes would hide what starting one costs.
                end.synchronize()
                events.append((start, end))
            after = self._millijoules()
            seconds = np.array([start.elapsed_time(end) / 1e3 for start, end in events])
            memory = float(torch.cuda.max_memory_allocated(self.device))
        energy = None if before is None or after is None else (after - before) / 1e3 / repeats
        return Timing(seconds, memory, energy)

    def _millijoules(self) -> float | None:
        """What the GPU has used since its driver was loaded (NVML)."""
        try:
            import pynvml

            pynvml.nvmlInit()
            identity = str(self._torch.cuda.get_device_properties(self.device).uuid)
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        # NVML fails in types of its own where the GPU does not count its energy.
        except Exception:  # noqa: BLE001
            return None


def checked_threads(threads: int) -> int:
    """A number of threads.

    Raises:
        InvalidInputError: Below one.
    """
    if threads < 1:
        raise InvalidInputError(f"threads must be at least 1, got {threads}")
    return threads


@contextmanager
def one_core_a_thread(torch: Any, threads: int) -> Iterator[None]:
    """Give torch so many threads, on as many cores."""
    before = torch.get_num_threads()
    with system.pinned(threads):
        torch.set_num_threads(threads)
        try:
            with _one_line():
                yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn what torch says of an architecture that it cannot run into an error of nastool."""
    try:
        yield
    except RuntimeError as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise NastoolError(f"PyTorch cannot run it: {line}") from error


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of so many calls."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return seconds
