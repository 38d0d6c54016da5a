"""Export: a folder that runs anywhere, checked form by form before it appears."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nastool.devices import Workload
from nastool.errors import NastoolError
from nastool.files.writing import whole_folder, write_whole
from nastool_objectives.latency.export import NEW_KEPT
from nastool_objectives.latency.padding import MULTIPLES, NONE
from nastool_supernets.deployment import forms
from nastool_supernets.deployment.caches import in_two_parts
from nastool_supernets.deployment.card import model_card
from nastool_supernets.deployment.checks import (
    Quality,
    compare,
    random_batches,
    tolerance_of,
)
from nastool_supernets.deployment.report import Difference, ExportReport, FormReport, Origin
from nastool_supernets.deployment.runtimes import FILES, RUNS, Arrays, require
from nastool_supernets.deployment.sizes import bytes_of
from nastool_supernets.family import family_of
from nastool_supernets.positions import positions_of
from nastool_supernets.saved import load_shape, save_shape

Progress = Callable[[str], None]
"""Called with what is being done."""


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    target: Path,
    origin: Origin,
    wanted: Sequence[str] = (),
    *,
    merging: Difference | None = None,
    quality: Quality | None = None,
    tolerance: float | None = None,
    pad: str = NONE,
    dtype: str = "float32",
    progress: Progress = lambda _: None,
) -> ExportReport:
    """Write a model's folder in all wanted forms, or nothing at all.

    Args:
        model: A deployed model on the CPU, in evaluation mode.
        tokenizer: Its tokenizer.
        target: New or empty folder.
        origin: What the model card says about it.
        wanted: Keys of `FILES`; any of them brings ONNX along, which it is made from.
        merging: How the merged subnet differs from its supernet, where that was measured.
        quality: What to measure PyTorch and the 8-bit form by.
        tolerance: Largest difference from PyTorch of the forms in full precision, as a share of the
            spread of the outputs; None for `tolerance_of` the model.
        pad: What layers of all forms but PyTorch's are padded to; ``auto`` for what ONNX Runtime
            runs fastest on this processor.
        dtype: Of the weights that are written: ``float32``, ``bfloat16`` or ``float16``. All forms
            are made and measured of them, in float32.
        progress: Called before each step.

    Raises:
        InvalidInputError: The folder holds something, or the tokenizer does not fit.
        MissingDependencyError: What a form needs is not installed.
        NastoolError: A form cannot be made, or differs from PyTorch.
    """
    tolerance = tolerance_of(model) if tolerance is None else tolerance
    ordered = forms.with_onnx(wanted)
    for form in ordered:
        require(form)
    with whole_folder(target) as folder:
        progress("writing model and tokenizer")
        save_shape(_rounded(model, dtype), tokenizer, folder)
        # From here on, what was written is what is measured and converted.
        model = load_shape(folder)
        reference = forms.torch_run(model)
        rows = [
            FormReport(
                "torch",
                "model.safetensors",
                bytes_of(folder, "torch"),
                quality={} if quality is None else quality.measure(reference),
            )
        ]
        batches = random_batches(model)
        padding = _padding(model, pad) if ordered else NONE
        # Only where it runs: what is kept, counted and trained on are the weights as they are.
        running: Any = model
        if padding != NONE:
            running = running.padded(widths=MULTIPLES[padding])
        for form in ordered:
            progress(f"writing and checking {form}")
            run = RUNS[form](forms.write(form, running, folder))
            difference = compare(reference, run, batches)
            # Eight bits change a model; what is no number is broken all the same.
            limit = math.inf if form == "int8" else tolerance
            check_difference(f"{form} and PyTorch", difference, limit)
            if any(name.startswith(NEW_KEPT) for name in run(batches[0])):
                parts = compare(reference, in_two_parts(run), _of_two_tokens(batches))
                check_difference(f"{form}, reading on, and PyTorch", parts, limit)
            value = quality.measure(run) if quality is not None and form == "int8" else {}
            size = bytes_of(folder, form)
            rows.append(FormReport(form, FILES[form], size, difference, value, padding))
        report = ExportReport(
            family_of(model.config).shape_of(model),
            sum(parameter.numel() for parameter in model.parameters()),
            merging,
            "" if quality is None else quality.on,
            tuple(rows),
        )
        write_whole(folder / "README.md", model_card(model, origin, report))
    return report


def _rounded(model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    """A model's weights in another precision; itself where that is its own.

    Raises:
        NastoolError: A weight is too large for it.
    """
    wanted: torch.dtype = getattr(torch, dtype)
    if model.dtype == wanted:
        return model
    rounded: PreTrainedModel = copy.deepcopy(model).to(wanted)  # type: ignore[arg-type]
    if not all(bool(p.isfinite().all()) for p in rounded.parameters()):
        raise NastoolError(f"the weights must fit into {dtype}, but one is too large for it")
    return rounded


def _of_two_tokens(batches: Sequence[Arrays]) -> list[Arrays]:
    """Those batches of texts that can be read in two parts."""
    return [inputs for inputs in batches if inputs["input_ids"].shape[1] > 1]


def _padding(model: PreTrainedModel, pad: str) -> str:
    """What ``auto`` stands for, or any other padding as it is."""
    size = Workload(1, min(128, positions_of(model.config)))
    return forms.chosen_padding(model, pad, "onnxruntime", {}, size)


def check_difference(what: str, difference: Difference, tolerance: float) -> None:
    """Refuse two forms of a model that differ by more than rounding.

    Args:
        what: The two forms.
        difference: Between their outputs.
        tolerance: Largest difference, as a share of the spread of the outputs.

    Raises:
        NastoolError: They do.
    """
    # Written so that NaN does not pass.
    if not difference.largest <= tolerance * difference.spread:
        raise NastoolError(
            f"{what} must agree within {tolerance:g} of the spread of their outputs, which is "
            f"{difference.spread:.3g}, but they differ by {difference.largest:.3g}; "
            "nothing was written"
        )
