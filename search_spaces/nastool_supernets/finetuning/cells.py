"""Cells: a shape on a task, from one start and with one seed; and how they are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nastool.space import Architecture
from nastool_supernets.finetuning.subnets import Mode
from nastool_supernets.training.rules import Distillation

_LONGEST_SHAPE = 120
"""Characters of a shape in the name of a folder."""


@dataclass(frozen=True)
class Cell:
    """One fine-tuning.

    Args:
        shape: Its choices, gene by gene.
        task: Name of the task.
        mode: Where it starts.
        seed: Seed of the head's weights and of the order of examples.
        taught: Whether it also learns from a teacher.
    """

    shape: Architecture
    task: str
    mode: Mode
    seed: int
    taught: bool = False


@dataclass(frozen=True)
class Options:
    """How cells are trained.

    Args:
        n_train: Training examples a task at most; None for all.
        n_dev: Examples to score on at most; None for all.
        overrides: Hyperparameters that replace those of every task, by name.
        grid: Whether hyperparameters are chosen from each task's grid on its dev set.
        starts: Whether tasks start from the fine-tuned models that they name.
        distillation: How students learn from their teacher; None without one.
        teachers: Folder of the teacher by task; the fine-tuned largest subnet where there is none.
        dtype: ``float32``, ``bfloat16`` or ``auto``.
        keep: Whether every fine-tuned model is kept.
    """

    n_train: int | None = None
    n_dev: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    grid: bool = False
    starts: bool = True
    distillation: Distillation | None = None
    teachers: Mapping[str, Path] = field(default_factory=dict)
    dtype: str = "auto"
    keep: bool = False


def shape_name(cell: Cell) -> str:
    """A shape as part of a folder's name, which has 255 bytes at most."""
    shape = "-".join(map(str, cell.shape))
    if len(shape) <= _LONGEST_SHAPE:
        return shape
    return f"{shape[:32]}-{hashlib.sha256(shape.encode()).hexdigest()[:16]}"
