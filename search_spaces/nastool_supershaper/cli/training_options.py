"""The hyperparameters that options of ``nastool pretrain`` name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from nastool_supershaper.pretraining_config import PretrainingConfig
    from nastool_supershaper.training_rules import Distillation, TrainingRule


def configuration(preset: str, overrides: dict[str, Any]) -> PretrainingConfig:
    """Return a preset with some values replaced.

    Args:
        preset: Its name.
        overrides: Values by name; those of None count as not given.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    # A short run named by --steps alone must not be all warm-up.
    config = _preset(preset)
    if "steps" in given and "warmup_steps" not in given:
        given["warmup_steps"] = min(config.warmup_steps, given["steps"] // 10)
    return replace(config, **given)


def training_rule(
    preset: str, name: str | None, random_shapes: int | None, sampling: str | None
) -> TrainingRule | None:
    """Return the rule that the options name, or None where they name nothing.

    Args:
        preset: Name of the preset, whose kind of rule holds where none is named.
        name: sandwich, random or largest.
        random_shapes: Random subnets a step.
        sampling: uniform or size-aware.
    """
    from nastool_supershaper.training_rules import (
        LargestOnly,
        RandomOnly,
        Sandwich,
        SizeAware,
        Uniform,
    )

    if name is None and random_shapes is None and sampling is None:
        return None
    rules = {"sandwich": Sandwich, "random": RandomOnly, "largest": LargestOnly}
    kind = type(_preset(preset).rule) if name is None else rules[name]
    settings: dict[str, Any] = {}
    if random_shapes is not None:
        settings["n_random"] = random_shapes
    if sampling is not None:
        settings["sampling"] = SizeAware() if sampling == "size-aware" else Uniform()
    if kind is LargestOnly and settings:
        option = "--random-shapes" if random_shapes is not None else "--sampling"
        raise InvalidInputError(f"{option}: expected a rule with random subnets")
    return kind(**settings)


def distillation(mix: float | None, temperature: float | None) -> Distillation | None:
    """Return the distillation that the options name, or None.

    Args:
        mix: Share of the teacher in the loss.
        temperature: Softens both predictions.
    """
    from nastool_supershaper.training_rules import Distillation

    if mix is None:
        if temperature is not None:
            raise InvalidInputError("--temperature: expected --distil beside it")
        return None
    return Distillation(mix) if temperature is None else Distillation(mix, temperature)


def _preset(name: str) -> PretrainingConfig:
    from nastool_supershaper.pretraining_config import PRESETS

    if name not in PRESETS:
        raise InvalidInputError(f"--preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
