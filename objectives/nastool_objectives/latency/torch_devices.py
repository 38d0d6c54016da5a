"""PyTorch on this machine's processor or NVIDIA GPU."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from nastool.devices import Deployment, Device, Timing
from nastool.errors import InvalidInputError, MissingDependencyError, one_line
from nastool_objectives.latency import system
from nastool_objectives.latency.nvml import Gpu, energy_of
from nastool_objectives.latency.padding import (
    NONE,
    checked_padding,
    named,
    padded,
    padding_facts,
)
from nastool_objectives.latency.precision import FLOAT32, checked_dtype

_ARCHITECTURES = 1 << 20
"""That one process may compile: more than any campaign measures."""

_PROBED = 3
"""Passes that tell how fast a padded form is."""

_GRAIN = 0.01
"""Seconds that the passes of one reading of a GPU's clock take together, at least."""

_MOST_PASSES = 100
"""Passes of one reading, at most."""


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
        dtype: Precision: ``float32``, ``float16`` or ``bfloat16``.
        pad: Multiple that layers are padded to: ``8``, ``64``, ``none``, or ``auto`` for the
            fastest.

    Raises:
        InvalidInputError: An argument, fewer than one thread, an unknown precision, or an unknown
            padding.
    """

    times_following = True

    def __init__(
        self,
        argument: str | None = None,
        *,
        threads: int = 1,
        compile: bool = False,  # noqa: A002 - what it is called in torch
        dtype: str = FLOAT32,
        pad: str = NONE,
    ) -> None:
        if argument is not None:
            raise InvalidInputError(f"device cpu takes no argument, got {argument!r}")
        self.threads = checked_threads(threads)
        self.compile = compile
        self.dtype = checked_dtype("cpu", dtype)
        self.pad = checked_padding("cpu", pad)
        self._torch = require_torch()
        self._energy = system.EnergyCounter()
        if compile:
            _compile_many(self._torch)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            **system.facts(),
            "runtime": f"PyTorch {self._torch.__version__}",
            "threads": self.threads,
            "compiled": self.compile,
            **({} if self.dtype == FLOAT32 else {"dtype": self.dtype}),
            **padding_facts(self.pad),
        }

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        from nastool_objectives.latency.peak_memory import peak_memory

        with one_core_a_thread(self._torch, self.threads), self._torch.inference_mode():
            padding, form = padded(deployment, self.pad, self._probe)
            form = self._cast(form)
            run = self._run(form)
            for _ in range(max(warmup, int(self.compile))):
                run()
            self._energy.start()
            seconds = timed(run, repeats)
            energy = system.energy_a_pass(self._energy.stop(), seconds)
        memory = peak_memory(form.module, dict(form.inputs))
        return Timing(np.array(seconds), memory, energy, padding=named(padding))

    def _cast(self, form: Deployment) -> Deployment:
        """What it runs in the precision of the device; itself where that is its own."""
        if self.dtype == FLOAT32:
            return form
        return _moved(self._torch, form, "cpu", self.dtype)

    def _run(self, form: Deployment) -> Callable[[], object]:
        module = form.module
        if self.compile:
            module = self._torch.compile(module, dynamic=False)
        return lambda: module(**form.inputs)

    def _probe(self, form: Deployment) -> float:
        run = self._run(self._cast(form))
        run()
        return min(timed(run, _PROBED))


class Cuda(Device):
    """PyTorch on an NVIDIA GPU, timed by its own events.

    Args:
        argument: Number of the GPU; the first one by default.
        graphs: Whether to replay each architecture as a CUDA graph, without the host's overhead.
        compile: Whether to compile each architecture first (`torch.compile`), which takes long.
        dtype: Precision: ``float32``, ``float16`` or ``bfloat16``.
        pad: Multiple that layers are padded to: ``8``, ``64``, ``none``, or ``auto`` for the
            fastest.
        energy: Whether to measure energy, which takes up to a second more.

    Raises:
        InvalidInputError: No such GPU, an unknown precision, or an unknown padding.
    """

    times_following = True

    def __init__(
        self,
        argument: str | None = None,
        *,
        graphs: bool = False,
        compile: bool = False,  # noqa: A002 - what it is called in torch
        dtype: str = FLOAT32,
        pad: str = "8",
        energy: bool = True,
    ) -> None:
        self._torch = require_torch()
        count = self._torch.cuda.device_count() if self._torch.cuda.is_available() else 0
        index = argument or "0"
        if not index.isdecimal() or int(index) >= count:
            raise InvalidInputError(
                f"device cuda[{index}]: expected the number of one of {count} GPUs of this machine"
            )
        self.device = self._torch.device("cuda", int(index))
        self.graphs = graphs
        self.compile = compile
        self.dtype = checked_dtype("cuda", dtype)
        self.pad = checked_padding("cuda", pad)
        self.energy = energy
        if compile:
            _compile_many(self._torch)

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
            **({"compiled": True} if self.compile else {}),
            **padding_facts(self.pad),
        }

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        torch = self._torch
        with _refused(), torch.inference_mode(), torch.cuda.device(self.device):
            padding, form = padded(deployment, self.pad, self._probe)
            torch.cuda.reset_peak_memory_stats(self.device)
            run = self._run(form)
            for _ in range(warmup):
                run()
            first = self._passes(run, 1)
            # So many that the clock's grain, and what the host does between passes, is small.
            passes = max(1, min(_MOST_PASSES, math.ceil(_GRAIN / first)))
            seconds = np.array([self._passes(run, passes) for _ in range(repeats)])
            gpu = self._gpu
            clock, throttled = gpu.clock(), gpu.throttled()
            memory = float(torch.cuda.max_memory_allocated(self.device))
            energy = None
            if self.energy:
                energy = energy_of(lambda: self._passes(run, 1), gpu.joules)
        return Timing(seconds, memory, energy, clock, throttled, named(padding))

    @cached_property
    def _gpu(self) -> Gpu:
        return Gpu(str(self._torch.cuda.get_device_properties(self.device).uuid))

    def _run(self, form: Deployment) -> Callable[[], object]:
        """A pass on the GPU, of weights and inputs that lie there."""
        torch = self._torch
        form = _moved(torch, form, self.device, self.dtype)
        module, inputs = form.module, form.inputs
        if self.compile:
            module = torch.compile(module, dynamic=False)

        def eager() -> None:
            module(**inputs)

        if not self.graphs:
            return eager
        # Libraries set themselves up in their first calls, which must not be captured.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            eager()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            eager()

        def replay() -> None:
            graph.replay()

        return replay

    def _passes(self, run: Callable[[], object], passes: int) -> float:
        """Mean seconds of passes, one at a time: queued ones would hide what starting one costs."""
        torch = self._torch
        total = 0.0
        for _ in range(passes):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            total += start.elapsed_time(end) / 1e3
        return total / passes

    def _probe(self, form: Deployment) -> float:
        run = self._run(form)
        run()
        return min(self._passes(run, 1) for _ in range(_PROBED))


def _moved(torch: Any, form: Deployment, device: Any, dtype: str) -> Deployment:
    """A copy with weights and inputs elsewhere; what is copied stays as it was."""
    kind = getattr(torch, dtype)
    memo: dict[int, Any] = {}
    if isinstance(form.module, torch.nn.Module):
        # Known to the copier, they are not copied here first.
        for weights in form.module.parameters():
            memo[id(weights)] = torch.nn.Parameter(weights.to(device, kind), requires_grad=False)
    module = copy.deepcopy(form.module, memo).to(device, kind)
    inputs = {
        name: given.to(device, kind if given.is_floating_point() else given.dtype)
        for name, given in form.inputs.items()
    }
    return replace(form, module=module, inputs=inputs)


def _compile_many(torch: Any) -> None:
    """Let one process compile more architectures than torch would."""
    # Beyond a few, torch would run further ones as they are, and only warn.
    limits = torch._dynamo.config  # noqa: SLF001 - where torch keeps its limits
    limits.recompile_limit = limits.accumulated_recompile_limit = _ARCHITECTURES


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
            with _refused():
                yield
        finally:
            torch.set_num_threads(before)


def _refused() -> AbstractContextManager[None]:
    """Turns what torch says of an architecture that it cannot run into an error of nastool."""
    return one_line("PyTorch cannot run it", of=RuntimeError)


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of so many calls."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return seconds
