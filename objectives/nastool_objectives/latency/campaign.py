"""Measuring many architectures on a device, so that the numbers can be compared.

A device drifts: it warms up, others use it. So every architecture is visited several times, once a
round, in a new random order each round, and a few anchors are visited all the time. Rounds of the
first half against rounds of the second half say how well the measurement repeats.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nastool.devices import Device, Timing, Workload, timing_of
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError
from nastool.files.reading import is_file, read_table, read_text
from nastool.files.tables import csv_text
from nastool.files.writing import owned, write_whole, writing
from nastool.space import Genotypes, SearchSpace
from nastool_objectives.latency import sampling, system
from nastool_objectives.latency.elsewhere import Elsewhere, Timed
from nastool_objectives.latency.known import Known, read_known
from nastool_objectives.latency.quantities import LATENCY
from nastool_objectives.latency.repeatability import NoiseGate

Progress = Callable[[int, int], None]
"""Called after every visit with the number of visits so far and of all."""

_HOPELESS = 3
"""Visits at the start of a campaign of which one at least must succeed."""

_COLUMNS = (
    "visit",
    "round",
    "row",
    "passes_s",
    "memory_B",
    "energy_J",
    "clock_Hz",
    "load",
    "error",
    "throttled",
    "padding",
    "following_s",
)
_HEADER = ",".join(_COLUMNS) + "\n"


@dataclass(frozen=True)
class Plan:
    """The numbers of a campaign.

    Args:
        shapes: Architectures beside the anchors.
        anchors: Anchors, at least 2; spaces of few choices have fewer.
        rounds: Visits of each architecture, at least 2.
        warmup: Passes before the timed ones of a visit.
        repeats: Timed passes of a visit.
        anchor_every: Visits after which an anchor follows.
        choose: ``spread`` over all sizes, or the most ``informative`` ones, for few shapes.
        seed: Fixes which architectures are drawn and the order of the visits.

    Raises:
        InvalidInputError: A number is too small, or an unknown choice.
    """

    shapes: int = 300
    anchors: int = 5
    rounds: int = 4
    warmup: int = 2
    repeats: int = 3
    anchor_every: int = 10
    choose: Literal["spread", "informative"] = "spread"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "shapes": 1, "anchors": 2, "rounds": 2, "warmup": 0, "repeats": 1,
            "anchor_every": 1, "seed": 0,
        }  # fmt: skip
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                text = name.replace("_", " ")
                raise InvalidInputError(
                    f"{text} must be at least {lowest}, got {getattr(self, name)}"
                )
        if self.choose not in ("spread", "informative"):
            raise InvalidInputError(
                f"shapes must be chosen 'spread' or 'informative', got {self.choose!r}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Its numbers by name."""
        return asdict(self)

    def architectures(self, space: SearchSpace) -> tuple[Genotypes, int]:
        """What is measured.

        Returns:
            Genotypes (n, d), anchors first, and the number of anchors.
        """
        rng = np.random.default_rng([self.seed, 0])
        fixed = sampling.anchors(space, self.anchors)
        choose = sampling.spread if self.choose == "spread" else sampling.informative
        return np.concatenate([fixed, choose(space, self.shapes, rng, fixed)]), len(fixed)

    def order(
        self, n: int, n_anchors: int, skipped: Sequence[int] = (), *, late: bool = False
    ) -> NDArray[np.int64]:
        """The visits in order, shape (visits, 2): round and row of the architecture.

        Args:
            n: Number of architectures, anchors included.
            n_anchors: How many of them are anchors; they come first.
            skipped: Rows that are not visited.
            late: Visit those after all, from the end of the first round on.
        """
        rng = np.random.default_rng([self.seed, 1])
        visits: list[tuple[int, int]] = []
        for number in range(self.rounds):
            rest = rng.permutation(np.arange(n_anchors, n))
            left_out = np.isin(rest, skipped)
            if not late:
                parts = [rest[~left_out]]
            else:
                parts = [rest] if number else [rest[~left_out], rest[left_out]]
            visits += [(number, row) for part in parts for row in self._turn(part, n_anchors, rng)]
        return np.array(visits, dtype=np.int64)

    def _turn(self, rest: NDArray[np.int64], n_anchors: int, rng: np.random.Generator) -> list[int]:
        """Architectures with anchors between them."""
        times = max(n_anchors, len(rest) // self.anchor_every)
        # Whole turns through the anchors, so that each is visited about equally often.
        turns = [rng.permutation(n_anchors) for _ in range(-(-times // n_anchors))]
        due = np.concatenate(turns)[:times]
        places = np.floor((np.arange(times) + 1) * len(rest) / times).astype(np.int64)
        return [int(row) for row in np.insert(rest, places, due)]


@dataclass(frozen=True)
class Visit:
    """One visit of an architecture.

    Args:
        round: Number of the round.
        row: Number of the architecture.
        timing: What the device said; None where it failed.
        clock: Clock of what ran it in Hz, None where it is not known.
        load: Load of the machine, likewise.
        error: Why it failed; empty where it did not.
    """

    round: int
    row: int
    timing: Timing | None
    clock: float | None = None
    load: float | None = None
    error: str = ""


def run(
    space: SearchSpace,
    device: Device,
    workload: Workload,
    plan: Plan,
    visits_path: Path,
    progress: Progress | None = None,
    gate: NoiseGate | None = None,
) -> list[Visit]:
    """Run a campaign, or go on with it.

    What was known when it began, see `nastool_objectives.latency.known`, is not visited.

    Args:
        space: Whose architectures are measured.
        device: What they run on.
        workload: What they are given in one pass.
        plan: What is measured how often.
        visits_path: File that every visit is written to at once; what is there is not repeated.
        progress: Called after every visit.
        gate: What architectures that are known already must fulfil to be believed.

    Returns:
        All visits, in order.

    Raises:
        InvalidInputError: The file holds another campaign, or another process measures it.
        NastoolError: The first visits all failed.
    """
    with owned(visits_path.parent, "campaign"):
        return _run(space, device, workload, plan, visits_path, progress, gate or NoiseGate())


def _run(
    space: SearchSpace,
    device: Device,
    workload: Workload,
    plan: Plan,
    visits_path: Path,
    progress: Progress | None,
    gate: NoiseGate,
) -> list[Visit]:
    genotypes, n_anchors = plan.architectures(space)
    known = read_known(visits_path.parent)
    order = _order(plan, known, len(genotypes), n_anchors)
    visits = _resume(visits_path, order)
    with writing(visits_path):
        file = visits_path.open("a", encoding="utf-8", newline="")
    with file:
        while True:
            if known is not None and known.agrees is None and len(visits) == _first_round(order):
                known = known.judged(latencies_of(visits), gate)
                known.write(visits_path.parent)
                order = _order(plan, known, len(genotypes), n_anchors)
            if len(visits) == len(order):
                break
            number = len(visits)
            turn, row = order[number].tolist()
            visit = _visit(space, device, workload, plan, genotypes[row], (turn, row))
            visits.append(visit)
            with writing(visits_path):
                file.write(_line(number, visit))
                file.flush()
                os.fsync(file.fileno())
            _check_hope(visits)
            if progress is not None:
                progress(len(visits), len(order))
    # As they were written, so that going on after a stop changes no digit.
    return read_visits(visits_path)


def _order(plan: Plan, known: Known | None, n: int, n_anchors: int) -> NDArray[np.int64]:
    """The visits in order; what is not decided yet counts as known."""
    if known is None:
        return plan.order(n, n_anchors)
    return plan.order(n, n_anchors, known.skipped, late=known.agrees is False)


def _first_round(order: NDArray[np.int64]) -> int:
    return int((order[:, 0] == 0).sum())


def latencies_of(visits: Sequence[Visit]) -> dict[int, list[float]]:
    """Seconds of a pass by architecture, one for every visit that did not fail."""
    found: dict[int, list[float]] = {}
    for visit in visits:
        if visit.timing is not None:
            found.setdefault(visit.row, []).append(LATENCY.of(visit.timing))
    return found


def _visit(
    space: SearchSpace,
    device: Device,
    workload: Workload,
    plan: Plan,
    genotype: NDArray[np.int64],
    place: tuple[int, int],
) -> Visit:
    try:
        timed = timed_visit(space, device, workload, plan, genotype)
    except (InvalidInputError, MissingDependencyError):
        raise
    except NastoolError as error:
        return Visit(*place, None, system.clock(), system.load(), " ".join(str(error).split()))
    return Visit(*place, timed.timing, timed.clock, timed.load, timed.error)


def timed_visit(
    space: SearchSpace,
    device: Device,
    workload: Workload,
    plan: Plan,
    genotype: NDArray[np.int64],
) -> Timed:
    """Time one architecture, here or where the device is.

    Args:
        space: Of the architecture.
        device: What it runs on.
        workload: What it is given in one pass.
        plan: How many passes a visit has.
        genotype: Shape (d,).

    Raises:
        NastoolError: It cannot be run here.
    """
    if isinstance(device, Elsewhere):
        return device.visit(genotype, workload, plan.warmup, plan.repeats)
    timing = timing_of(device, space.deploy(genotype, workload), plan.warmup, plan.repeats)
    clock = system.clock() if timing.clock is None else timing.clock
    return Timed(timing, clock, system.load())


def _check_hope(visits: list[Visit]) -> None:
    if len(visits) >= _HOPELESS and not any(visit.timing for visit in visits):
        raise NastoolError(
            f"all of the first {len(visits)} visits failed, the last one with: {visits[-1].error}"
        )


def _line(number: int, visit: Visit) -> str:
    timing = visit.timing
    cells = [
        number,
        visit.round,
        visit.row,
        _passes(timing.seconds) if timing else "",
        timing.memory if timing else None,
        timing.energy if timing else None,
        visit.clock,
        visit.load,
        visit.error,
        timing.throttled if timing else None,
        timing.padding if timing else None,
        _passes(timing.following) if timing and timing.following is not None else None,
    ]
    return csv_text((), [cells])


def _passes(seconds: NDArray[np.float64]) -> str:
    return " ".join(f"{s:.9g}" for s in seconds)


def _resume(path: Path, order: NDArray[np.int64]) -> list[Visit]:
    """Visits that are there; a last line that a kill cut short is taken away."""
    if not is_file(path) or "\n" not in (text := read_text(path)):
        write_whole(path, _HEADER)
        return []
    whole = text[: text.rindex("\n") + 1]
    if whole != text:
        write_whole(path, whole)
    visits = read_visits(path)
    if not whole.startswith(_HEADER):
        # Begun before there were all of the columns.
        lines = (_line(number, visit) for number, visit in enumerate(visits))
        write_whole(path, _HEADER + "".join(lines))
    places = np.array([(visit.round, visit.row) for visit in visits]).reshape(-1, 2)
    if len(places) > len(order) or not np.array_equal(places, order[: len(places)]):
        raise InvalidInputError(
            f"{path.parent.name} holds another campaign; take another name, or remove its folder"
        )
    return visits


def read_visits(path: Path) -> list[Visit]:
    """Read the visits of a campaign.

    Raises:
        InvalidInputError: It is no such file.
    """
    visits = []
    for row in read_table(path):
        try:
            visits.append(_parse(row.cells))
        except (KeyError, ValueError) as error:
            raise InvalidInputError(
                f"{path}, line {row.line}: no visit of a campaign: {error}"
            ) from error
    return visits


def _parse(row: Mapping[str, str]) -> Visit:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    seconds = np.array([float(word) for word in row["passes_s"].split()])
    clock, load = number("clock_Hz"), number("load")
    timing = None
    if len(seconds):
        # Older files have neither; an empty cell is nothing held back, or nobody knows.
        held_back, padding = row.get("throttled") or None, row.get("padding") or None
        memory, energy = number("memory_B"), number("energy_J")
        following = np.array([float(word) for word in (row.get("following_s") or "").split()])
        after = following if len(following) else None
        timing = Timing(seconds, memory, energy, None, held_back, padding, after)
    return Visit(int(row["round"]), int(row["row"]), timing, clock, load, row["error"])
