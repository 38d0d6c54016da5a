"""How fast and how large each form of deployed models is, beside the models they replace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from nastool.devices import Deployment, Device, Workload, timing_of
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError, one_line
from nastool.files.reading import read_json_object
from nastool.plugins import load_device
from nastool_objectives.latency.onnx_devices import UnfitError, check_decoder
from nastool_objectives.latency.padding import NONE
from nastool_objectives.latency.precision import FLOAT32
from nastool_supernets.deployment import forms
from nastool_supernets.deployment.checks import Quality
from nastool_supernets.deployment.models import BASELINES, load_model, task_of
from nastool_supernets.deployment.runtimes import FILES, RUNS, Run, openvino_run
from nastool_supernets.deployment.sizes import bytes_of, forms_in, peak_memory
from nastool_supernets.positions import positions_of

Progress = Callable[[int, int, str], None]
"""Called with the steps done, of all, and what is being done."""

COMPILED = "torch.compile"

_DEVICES = {
    "torch": "cpu",
    COMPILED: "cpu",
    "onnx": "onnxruntime",
    "int8": "onnxruntime",
    "openvino": "openvino",
}
"""What runs each form."""

_OF_ANY_PRECISION = ("torch", "openvino")
"""Forms whose runtime is told which precision to compute in."""


@dataclass(frozen=True)
class Plan:
    """How often everything is measured.

    Args:
        rounds: Turns, each through all forms of all models in a new random order.
        repeats: Timed passes of a form in a round.
        warmup: Passes before them.
        memory: Whether to measure memory, in a process for each form.
        seed: Of the order.

    Raises:
        InvalidInputError: A number is too small.
    """

    rounds: int = 5
    repeats: int = 5
    warmup: int = 2
    memory: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("repeats", 1), ("warmup", 0)):
            if getattr(self, name) < least:
                raise InvalidInputError(
                    f"{name} must be at least {least}, got {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Candidate:
    """One form of one model, ready to be measured.

    Args:
        model: Name of the model.
        form: Name of the form.
        folder: The model's folder.
        device: What runs it.
        deployment: What it runs.
        padding: What the device pads it to; ``none`` for files, which are as they are.
        dtype: What the device computes in, where the form does not say it.
    """

    model: str
    form: str
    folder: Path
    device: Device
    deployment: Deployment
    padding: str = NONE
    dtype: str = FLOAT32


@dataclass(frozen=True)
class Row:
    """What was measured of one form of one model.

    Args:
        model: Name of the model.
        form: Name of the form.
        parameters: Weights of the model.
        disk: Bytes on disk.
        median: Seconds of a pass, over all rounds.
        p90: 90th percentile of them.
        spread: How far the rounds' medians lie apart, relative to `median`.
        throughput: Texts a second.
        memory: Most resident memory that running adds to a process, in bytes; None where not known.
        padding: What layers were padded to; the additional weights are no parameters, but memory.
        dtype: What it computed in.
        quality: What it scored, by metric; empty where that was not measured.
        next_token: Seconds of a pass over one more token of every text, median over all rounds;
            None where nothing is kept of texts.
    """

    model: str
    form: str
    parameters: int
    disk: int
    median: float
    p90: float
    spread: float
    throughput: float
    memory: int | None
    padding: str = NONE
    dtype: str = FLOAT32
    quality: Mapping[str, float] = field(default_factory=dict)
    next_token: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values, units in the names."""
        renamed = {"disk": "disk_B", "median": "median_s", "p90": "p90_s", "memory": "memory_B"}
        renamed |= {"throughput": "texts_per_s", "next_token": "next_token_s"}
        found = {renamed.get(key, key): value for key, value in asdict(self).items()}
        scores = {name: v if math.isfinite(v) else None for name, v in self.quality.items()}
        return found | {"quality": scores}

    @property
    def shown_form(self) -> str:
        """The form for people, with its precision and its padding."""
        dtype = "" if self.dtype in (FLOAT32, self.form) else f", {self.dtype}"
        padded = "" if self.padding == NONE else f", padded to {self.padding}"
        return f"{self.form}{dtype}{padded}"


def candidates(
    folder: Path,
    name: str,
    workload: Workload,
    *,
    threads: int = 1,
    compiled: bool = False,
    dtypes: Sequence[str] = (FLOAT32,),
    pad: str = NONE,
    skip: Callable[[str], None] = lambda _: None,
) -> list[Candidate]:
    """List the forms of a model.

    Args:
        folder: The model's folder.
        name: What to call it.
        workload: What a pass is given.
        threads: Threads of a pass.
        compiled: Whether to measure PyTorch compiled, too.
        dtypes: Precisions to measure PyTorch and OpenVINO in; other files are as they are.
        pad: What PyTorch pads layers to; ``auto`` for what is fastest here.
        skip: Called with the reason where a form lacks its runtime here.

    Raises:
        InvalidInputError: There is no model, its texts are shorter than the workload's, or a
            precision that is none.
    """
    model = load_model(folder)
    held = forms_in(folder)
    if not held:
        raise InvalidInputError(f"expected weights in {folder / 'model.safetensors'}")
    longest = positions_of(model.config)
    if workload.sequence_length > longest:
        raise InvalidInputError(
            f"the sequence length must be at most {longest} for {name}, "
            f"got {workload.sequence_length}"
        )
    found = []
    for form in held:
        deployment = forms.as_deployment(
            model, workload, folder / FILES[form] if form in FILES else None
        )
        shown_as = (form, COMPILED) if form == "torch" and compiled else (form,)
        precisions = dtypes if form in _OF_ANY_PRECISION else (FLOAT32,)
        for shown, dtype in product(shown_as, precisions):
            settings: dict[str, Any] = {"threads": threads}
            if shown == COMPILED:
                settings["compile"] = True
            if dtype != FLOAT32:
                settings["dtype"] = dtype
            padding = NONE
            if form == "torch" and pad != NONE:
                padding = forms.chosen_padding(model, pad, _DEVICES[shown], settings, workload)
                settings["pad"] = padding
            try:
                if form == "openvino" and deployment.exported is not None:
                    check_decoder(dtype, threads)
                device = load_device(_DEVICES[shown], settings)
            except (MissingDependencyError, UnfitError) as error:
                skip(f"{name}, {shown} is left out: {error}")
                continue
            found.append(Candidate(name, shown, folder, device, deployment, padding, dtype))
    return found


def measure(
    measured: Sequence[Candidate],
    plan: Plan,
    threads: int = 1,
    progress: Progress = lambda *_: None,
    qualities: Mapping[Path, Quality] | None = None,
) -> list[Row]:
    """Time all candidates in turns, weigh them, and score those that can be.

    Args:
        measured: Forms of models.
        plan: How often.
        threads: Threads of a pass, for memory; devices have their own.
        progress: Called before every step.
        qualities: What the forms of a folder are measured by; other folders are not scored.

    Returns:
        A row for each, in their order.

    Raises:
        NastoolError: One of them cannot be run.
    """
    rng = np.random.default_rng(plan.seed)
    seconds: list[list[NDArray[np.float64]]] = [[] for _ in measured]
    after: list[list[NDArray[np.float64]]] = [[] for _ in measured]
    scored = [one for one in measured if one.folder in (qualities or {})]
    total = plan.rounds * len(measured) + len(measured) * plan.memory + len(scored)
    step = 0
    for _ in range(plan.rounds):
        for index in rng.permutation(len(measured)).tolist():
            one = measured[index]
            progress(step, total, f"timing {one.model}, {one.form}")
            try:
                timing = timing_of(one.device, one.deployment, plan.warmup, plan.repeats)
            except NastoolError as error:
                raise NastoolError(f"{one.model}, {one.form}: {error}") from error
            seconds[index].append(timing.seconds)
            if timing.following is not None:
                after[index].append(timing.following)
            step += 1
    rows = []
    for one, turns, tokens in zip(measured, seconds, after, strict=True):
        form = "torch" if one.form == COMPILED else one.form
        workload, memory = one.deployment.workload, None
        if plan.memory:
            progress(step, total, f"weighing {one.model}, {one.form}")
            step += 1
            # A compiled model brings its compiler along: that is not the memory of a deployment.
            if one.form != COMPILED:
                memory = peak_memory(one.folder, form, workload, threads, one.padding, one.dtype)
        quality: Mapping[str, float] = {}
        if qualities and one.folder in qualities:
            progress(step, total, f"scoring {one.model}, {one.form}")
            step += 1
            quality = qualities[one.folder].measure(_run_of(one, form, threads))
        medians = np.array([np.median(turn) for turn in turns])
        passes = np.concatenate(turns)
        median = float(np.median(passes))
        rows.append(
            Row(
                model=one.model,
                form=one.form,
                parameters=sum(p.numel() for p in one.deployment.module.parameters()),
                disk=bytes_of(one.folder, form),
                median=median,
                p90=float(np.quantile(passes, 0.9)),
                spread=float(medians.max() - medians.min()) / median,
                throughput=workload.batch_size / median,
                memory=memory,
                padding=one.padding,
                dtype=form if form == "int8" else one.dtype,
                quality=quality,
                next_token=float(np.median(np.concatenate(tokens))) if tokens else None,
            )
        )
    return rows


def _run_of(one: Candidate, form: str, threads: int) -> Run:
    """What runs a form on inputs of any size; padding and compiling change no output."""
    if form == "torch":
        return forms.torch_run(load_model(one.folder).to(getattr(torch, one.dtype)))
    if form == "openvino":
        return openvino_run(one.folder / FILES[form], threads, one.dtype)
    return RUNS[form](one.folder / FILES[form])


def has_head(name: str, task: str) -> bool:
    """Whether a baseline can have a head.

    Args:
        name: One of `BASELINES`.
        task: What `task_of` says.
    """
    return hasattr(transformers, f"{BASELINES[name][1]}{task}")


def write_baseline(name: str, like: Path, wanted: Sequence[str], folder: Path) -> None:
    """Write a baseline with random weights and the head of another model.

    Args:
        name: One of `BASELINES`.
        like: Folder of the model whose head it gets.
        wanted: Forms to make of it: ``torch`` and keys of `runtimes.FILES`.
        folder: Existing folder.

    Raises:
        InvalidInputError: An unknown baseline, or one without such a head.
        NastoolError: A form cannot be made.
    """
    if name not in BASELINES:
        raise InvalidInputError(f"a baseline must be one of {', '.join(BASELINES)}, got {name!r}")
    other = read_json_object(like / "config.json")
    make_config, prefix = BASELINES[name]
    config = make_config(num_labels=len(other.get("id2label") or (0, 1)))
    task = task_of(like)
    if not has_head(name, task):
        raise InvalidInputError(f"there is no {name} {task}: leave it out with --baseline")
    kind = getattr(transformers, f"{prefix}{task}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).eval()
    # safetensors raises a type of its own on a full disk.
    with one_line(f"cannot write {name}"):
        model.save_pretrained(folder)
    for form in forms.with_onnx(wanted):
        forms.write(form, model, folder)
