"""What shapes of ``nastool shrink`` learn from the whole net, and whether they keep their order."""

from __future__ import annotations

import io
import math
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli.cost import announce
from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_table
from nastool.files.tables import csv_text
from nastool.files.writing import write_whole

if TYPE_CHECKING:
    from nastool_supernets.genotypes import Genotype
    from nastool_supernets.shrinking.campaign import Campaign
    from nastool_supernets.training.pace import Pace

RANKING, FOLDER, LESSONS = "recovery.csv", "ranking", "lessons"
"""What a folder holds of it."""

RANKED = 8

_PROBED = 4
"""Blocks a step of the probe."""

_COLUMNS = ("shape", "perplexity", "recovered_perplexity", "steps")


def train(arguments: Sequence[str]) -> Pace | None:
    """Run ``nastool pretrain``, whatever it says going to stderr.

    Returns:
        With ``--dry-run`` what was measured of its pace.

    Raises:
        KeyboardInterrupt: A signal stopped it; called again, it goes on.
    """
    from nastool_supernets.cli.pretrain import pretrain

    with redirect_stdout(sys.stderr):
        found: Pace | int | None = pretrain.main(list(arguments), standalone_mode=False)
    # Of a command that ends early, click returns the exit code.
    if isinstance(found, int):
        raise KeyboardInterrupt("what is finished is kept; the same command goes on")
    return found


@dataclass(frozen=True)
class Recovery:
    """How shapes learn from the whole net.

    Args:
        net: Folder of the net.
        corpus: Folder of the text.
        lessons: Folder that keeps what the net predicts; None where that differs every time.
        seed: Of the order of the text: the same for all shapes.
        device: Torch device; None for the usual one.
    """

    net: Path
    corpus: Path
    lessons: Path | None
    seed: int
    device: str | None

    def run(self, shape: str, output: Path, steps: int) -> None:
        """Let a shape learn, or go on; where it has learnt, that ends at once."""
        arguments = self._arguments(shape, output, steps)
        if self.lessons is not None:
            arguments += ["--teacher-cache", str(self.lessons)]
        if any((output / "checkpoints").glob("step-*")):
            arguments.append("--resume")
        train(arguments)

    def probe(self, shape: str, scratch: Path, steps: int) -> float:
        """Seconds that learning takes, by some steps of it that are forgotten.

        Args:
            shape: Of about the size that will learn.
            scratch: A folder that is there for that time.
            steps: Of the learning.
        """
        from nastool_supernets.cli.training_options import configuration

        config = replace(configuration(None, {"steps": steps}), head_steps=0)
        # A few blocks say what many take; what is said of them is not what will be done.
        words = [*self._arguments(shape, scratch, steps), "--batch-size", str(_PROBED), "--dry-run"]
        try:
            with redirect_stderr(io.StringIO()):
                pace = train(words)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if pace is None:
            return 0.0
        return replace(pace, step=pace.step * config.batch_size / _PROBED).seconds(config)

    def _arguments(self, shape: str, output: Path, steps: int) -> list[str]:
        arguments = ["--steps", str(steps), "--output", str(output), "--corpus", str(self.corpus)]
        arguments += ["--supernet", str(self.net), "--shape", shape, "--teacher", str(self.net)]
        arguments += ["--seed", str(self.seed)]
        return arguments if self.device is None else [*arguments, "--device", self.device]


def announce_recovery(
    campaign: Campaign, recovery: Recovery, scratch: Path, steps: int, rank_steps: int
) -> None:
    """Say what learning will take, on top of the minutes for measuring.

    Args:
        campaign: Whose shapes learn.
        recovery: How.
        scratch: A folder for the time of the probe.
        steps: Of the chosen shape.
        rank_steps: Of each of those that are ranked.
    """
    import numpy as np

    longest = max(steps, rank_steps)
    if not longest:
        return
    shape = campaign.space.format(np.array(campaign.typical()))
    seconds = recovery.probe(shape, scratch, longest) * (steps + RANKED * rank_steps) / longest
    parts = [f"{steps:,} steps of the chosen shape"] if steps else []
    parts += [f"{rank_steps:,} steps of each of {RANKED} shapes"] if rank_steps else []
    announce(f"Recovery, beside --minutes: {' and '.join(parts)}", seconds)


def rank_recovered(campaign: Campaign, recovery: Recovery, to: Path, steps: int) -> None:
    """Let some shapes within the bounds learn alike; say whether they keep their order.

    Args:
        campaign: That measured them.
        recovery: How they learn.
        to: Folder of the run; what was done before is not done again.
        steps: Of each shape.
    """
    import numpy as np

    from nastool.cli.progress import ProgressBar
    from nastool.predictors.evaluation import rank_agreement

    shapes = campaign.spread(RANKED)
    names = campaign.space.texts(np.array(shapes, dtype=np.int64))
    known = _read(to / RANKING, steps)
    with ProgressBar("recovering") as bar:
        for number, (name, genotype) in enumerate(zip(names, shapes, strict=True)):
            bar(number, len(names))
            if name in known:
                continue
            output = to / FOLDER / f"{number + 1}"
            recovery.run(name, output, steps)
            known[name] = campaign.loss(genotype)[1], _loss_of(output, campaign)
            _write(to / RANKING, known, steps)
            # A net each: what counts of it is known now.
            shutil.rmtree(output)
    pairs = [known[name] for name in names]
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    found = rank_agreement("after recovery", before, after)
    place = sorted(after).index(after[int(np.argmin(before))]) + 1
    said = "too few shapes within the bounds differ" if found is None else f"Spearman {found}"
    click.echo(
        f"Order before and {steps} steps of distillation later, on held-out text: {said}; the best "
        f"one before is number {place} of {len(pairs)} then"
    )


def _loss_of(folder: Path, campaign: Campaign) -> float:
    from nastool_supernets.family import net_of
    from nastool_supernets.measuring.perplexities import perplexities
    from nastool_supernets.saved import load_shape

    net = net_of(load_shape(folder))
    net.model.to(campaign.net.model.device)  # type: ignore[arg-type] # torch's stubs want its own
    ids, labels = (part[: campaign.plan.check] for part in campaign.check)
    whole: Genotype = ()
    return math.log(float(perplexities(net, ids, labels, [whole])[0]))


def _read(file: Path, steps: int) -> dict[str, tuple[float, float]]:
    """Losses before and after by shape, of recoveries that took as long."""
    if not is_file(file):
        return {}
    found = {}
    for line in read_table(file):
        cells = line.cells
        try:
            if int(cells["steps"]) == steps:
                found[cells["shape"]] = (
                    math.log(float(cells[_COLUMNS[1]])),
                    math.log(float(cells[_COLUMNS[2]])),
                )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{file}, line {line.line}: no recovered shape: {error}"
            ) from error
    return found


def _write(file: Path, known: dict[str, tuple[float, float]], steps: int) -> None:
    rows = (
        [shape, *(f"{math.exp(loss):.10g}" for loss in losses), steps]
        for shape, losses in known.items()
    )
    write_whole(file, csv_text(_COLUMNS, rows))
