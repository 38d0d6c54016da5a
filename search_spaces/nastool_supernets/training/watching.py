"""What ``nastool watch`` shows of a training run."""

from __future__ import annotations

from pathlib import Path

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool.plots.page import Head
from nastool.plots.progress import Watched
from nastool_supernets.training.trajectories import (
    read_log,
    read_trajectories,
    trajectories_sections,
)

LOG = "log.jsonl"


def watched(folder: Path) -> Watched | None:
    """A training run as it is; None where the folder holds none.

    Args:
        folder: That `nastool pretrain` writes.

    Raises:
        InvalidInputError: Its log cannot be read, or holds nothing yet.
    """
    log, card = folder / LOG, folder / "run.json"
    if not is_file(log):
        if is_file(card):
            raise InvalidInputError(f"{folder}: expected a run that has logged a step, got none")
        return None
    lines = read_log(log)
    if not lines:
        raise InvalidInputError(f"{folder}: expected a run that has logged a step, got none")
    last, model = lines[-1], folder / "model.safetensors"
    # Weights that are older than the log are those of an earlier end.
    ended = is_file(model) and model.stat().st_mtime >= log.stat().st_mtime
    config = read_json_object(card).get("config", {}) if is_file(card) else {}
    steps = config.get("steps") if isinstance(config, dict) else None
    done = f"{last.get('step', 0):,}"
    if isinstance(steps, int) and not ended:
        done += f" of {steps:,}"
    facts: dict[str, str | float] = {
        "state": "finished" if ended else "running, or killed",
        "steps": done,
        "tokens": f"{last['tokens']:,}",
    }
    for name, key in (("seconds", "seconds"), ("tokens per second", "tokens_per_second")):
        if key in last:
            facts[name] = f"{last[key]:,.0f}"
    if "learning_rate" in last:
        facts["learning rate"] = f"{last['learning_rate']:.3g}"
    data = read_trajectories([folder])
    losses = ", ".join(f"{curve.name} {curve.values[-1]:.3f}" for curve in data.losses)
    return Watched(
        Head(folder.resolve().name, facts),
        trajectories_sections(data),
        f"step {done}, loss {losses}",
        ended,
    )
