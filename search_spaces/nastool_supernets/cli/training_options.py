"""The hyperparameters that options of ``nastool pretrain`` name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nastool.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from nastool_supernets.corpus.tasks import Blocks
    from nastool_supernets.supernet import Net
    from nastool_supernets.training.config import PretrainingConfig
    from nastool_supernets.training.rules import Distillation, TrainingRule
    from nastool_supernets.training.shortlists import KeptLessons


_USUAL = "laptop"
_SCALED = ("warmup_steps", "head_steps")
_TAUGHT = ("distillation", "distil_hidden")


def configuration(
    preset: str | None, overrides: dict[str, Any], saved: Mapping[str, Any] | None = None
) -> PretrainingConfig:
    """Return a preset with some values replaced, or those of a run that goes on.

    The head stage and the warm-up are at most a tenth of the steps where only the steps are given:
    a short run must not end before its schedule has begun.

    Args:
        preset: Its name; None for the usual one, or for what the run has.
        overrides: Values by name; those of None count as not given.
        saved: What a run that goes on was described by, whose values hold where none is given.
    """
    from nastool_supernets.training.config import PretrainingConfig
    from nastool_supernets.training.rules import OneShape

    given = {name: value for name, value in overrides.items() if value is not None}
    config = _preset(preset or _USUAL)
    if saved is not None:
        then = PretrainingConfig.of(saved)
        if preset is None:
            return replace(then, **given)
        # Of a preset's values those that the steps decide are the run's.
        kept = [*_SCALED, *_TAUGHT] if isinstance(then.rule, OneShape) else _SCALED
        given |= {name: getattr(then, name) for name in kept if name not in given}
    elif "steps" in given:
        for name in _SCALED:
            given.setdefault(name, min(getattr(config, name), given["steps"] // 10))
        if "head_learning_rate" in given and overrides.get("head_steps") is None:
            given["head_steps"] = max(1, given["head_steps"])
    return replace(config, **given)


def training_rule(
    preset: str | None, name: str | None, random_shapes: int | None, sampling: str | None
) -> TrainingRule | None:
    """Return the rule that the options name, or None where they name nothing.

    Args:
        preset: Name of the preset, whose kind of rule holds where none is named.
        name: sandwich, random or largest.
        random_shapes: Random subnets a step.
        sampling: uniform, size-aware or runs.
    """
    from nastool_supernets.training.rules import (
        LargestOnly,
        RandomOnly,
        Runs,
        Sampling,
        Sandwich,
        SizeAware,
        Uniform,
    )

    if name is None and random_shapes is None and sampling is None:
        return None
    rules = {"sandwich": Sandwich, "random": RandomOnly, "largest": LargestOnly}
    kind = type(_preset(preset or _USUAL).rule) if name is None else rules[name]
    settings: dict[str, Any] = {}
    if random_shapes is not None:
        settings["n_random"] = random_shapes
    if sampling is not None:
        drawn: dict[str, Sampling] = {
            "uniform": Uniform(),
            "size-aware": SizeAware(),
            "runs": Runs(),
        }
        settings["sampling"] = drawn[sampling]
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
    from nastool_supernets.training.rules import Distillation

    if mix is None:
        if temperature is not None:
            raise InvalidInputError("--temperature: expected --distil beside it")
        return None
    return Distillation(mix) if temperature is None else Distillation(mix, temperature)


def teaching(
    mix: float | None,
    temperature: float | None,
    hidden: float | None,
    teacher: str | None,
    *,
    is_saved: bool,
) -> tuple[Distillation | None, float | None]:
    """Return how one shape learns from its teacher, as options say.

    Args:
        mix: Share of the teacher's predictions in the loss; 0 for none, None for half.
        temperature: Softens both predictions.
        hidden: Weight of how far hidden states are from the teacher's.
        teacher: Its folder; None for no teacher.
        is_saved: Whether a run goes on, whose way holds where none is given.

    Raises:
        InvalidInputError: If there is none to learn from, or nothing to learn.
    """
    from nastool_supernets.training.rules import Distillation

    given = {"--distil": mix, "--temperature": temperature, "--distil-hidden": hidden}
    if teacher is None:
        for option, value in given.items():
            if value is not None:
                raise InvalidInputError(f"{option}: expected --teacher beside it")
        return None, None
    if is_saved and mix is None and temperature is None:
        return None, hidden
    if mix == 0:
        if not hidden:
            raise InvalidInputError("--distil: expected a share above 0, or --distil-hidden")
        return None, hidden
    distilled = Distillation() if mix is None else Distillation(mix)
    if temperature is not None:
        distilled = replace(distilled, temperature=temperature)
    return distilled, hidden


def _preset(name: str) -> PretrainingConfig:
    from nastool.discovery import PRESETS, available
    from nastool_supernets.training.presets import preset

    known = [plugin.name for plugin in available(PRESETS)]
    if name not in known:
        raise InvalidInputError(f"--preset: expected one of {', '.join(known)}, got {name!r}")
    return preset(name)


def kept_lessons(
    folder: Path, config: PretrainingConfig, blocks: Blocks, net: Net, origin: Mapping[str, Any]
) -> KeptLessons:
    """What a teacher predicts of a text, kept in a folder.

    Args:
        folder: The folder.
        config: Of the training.
        blocks: The training text.
        net: Who learns.
        origin: What the teacher is known by.

    Raises:
        InvalidInputError: What it predicts differs every time, or more than that is learnt from.
    """
    from nastool_supernets.runtime.precision import resolve_dtype
    from nastool_supernets.training.shortlists import KeptLessons

    if net.task != "causal-lm":
        raise InvalidInputError(
            "--teacher-cache: expected a shape that predicts the next token, got one that masks: "
            "what its teacher predicts differs with every mask"
        )
    if config.distillation is None or config.distil_hidden:
        raise InvalidInputError(
            "--teacher-cache: expected --distil without --distil-hidden: hidden states are not kept"
        )
    # What it comes to here, as a run that goes on has it.
    dtype = resolve_dtype(net.model.device.type, config.dtype)
    known = {"teacher": origin["teacher"], "dtype": dtype}
    vocabulary = int(net.model.config.vocab_size)
    return KeptLessons(folder, blocks, known, vocabulary, config.distillation.temperature)


def presets_told() -> str:
    """What there is, told without importing it."""
    from nastool.discovery import PRESETS, available

    return "; ".join(f"{each.name} ({each.summary.rstrip('.')})" for each in available(PRESETS))
