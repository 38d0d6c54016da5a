"""Bounds of ``nastool shrink`` on latency: believed with a margin, measured at last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.constraint import Constraint, format_quantity
from nastool.errors import InfeasibleError, InvalidInputError, one_line
from nastool.files.reading import is_file, read_json_object
from nastool.files.writing import write_whole

if TYPE_CHECKING:
    from nastool.devices import Device, Workload
    from nastool.space import ChainCost, SearchSpace
    from nastool_supernets.genotypes import Genotype
    from nastool_supernets.shrinking.serving import Served

LATENCIES = ("latency", "latency.prefill", "latency.decode")
"""What ``--max`` bounds on the device; the first two are one."""

FILE = "latency.json"

_SHARE = 0.1
"""Of the minutes, after which latencies are not timed once more."""

_SETTINGS = ("device", "batch_size", "context", "threads")


@dataclass
class Serving:
    """Latencies of a run's shapes.

    Args:
        settings: What is served where: device, batch size, context and threads.
        file: Where it is kept what was timed.
        served: What is believed of all shapes; None where nothing is bounded.
        measured: What was measured of single shapes, by shape and part of serving.
        space: Fingerprint of what was timed, as it is known before weights are read.
    """

    settings: dict[str, Any]
    file: Path
    served: Served | None = None
    measured: dict[str, dict[str, float]] | None = None
    space: str = ""

    @classmethod
    def of(
        cls,
        space: SearchSpace | None,
        bounds: Sequence[Constraint],
        to: Path,
        settings: dict[str, Any],
    ) -> Serving:
        """Time what is not known yet.

        Args:
            space: Whose shapes are served; None where its weights must be read first.
            bounds: Some of them on latencies, maybe.
            to: Folder of the run.
            settings: Of the run.

        Raises:
            InvalidInputError: No shape can be run there, or no next token is timed.
        """
        from nastool_supernets.shrinking.serving import (
            check_served,
            time_shapes,
            time_space,
        )

        wanted = [bound for bound in bounds if bound.metric in LATENCIES]
        if not wanted:
            return cls({}, to / FILE)
        if space is None:
            raise InvalidInputError(
                f"--max: {wanted[0].metric} needs a family that knows its space before its weights"
            )
        for bound in wanted:
            if bound.unit != "s":
                raise InvalidInputError(
                    f"--max: {bound.metric} is a time such as 20ms, got {bound.bound:g}{bound.unit}"
                )
        served = {name: settings[name] for name in _SETTINGS}
        made = cls(served, to / FILE, None, {}, space.fingerprint)
        made._read(space)
        if made.served is None:
            from nastool.cli.progress import ProgressBar

            its = made.device, made.workload(space)
            # What is not timed there is told by one shape, before all others take their time.
            parts = time_shapes(space, *its, space.smallest[None])
            for bound in wanted:
                check_served(parts, bound.metric, space, made.settings["device"])
            with ProgressBar("timing") as bar:
                seconds = _SHARE * 60 * settings["minutes"]
                made.served = time_space(space, *its, bar, seconds)
            made._keep()
        for bound in wanted:
            check_served(made.served.terms, bound.metric, space, made.settings["device"])
        made._tell(space)
        return made

    @cached_property
    def device(self) -> Device:
        """What shapes run on."""
        from nastool.plugins import load_device

        name, _, number = str(self.settings["device"]).partition(":")
        if name == "cpu":
            return load_device("cpu", {"threads": self.settings["threads"]})
        # As it is served there.
        return load_device(f"{name}[{number or 0}]", {"dtype": "bfloat16"})

    def workload(self, space: SearchSpace) -> Workload:
        """What shapes are given."""
        from nastool.devices import Workload

        del space
        return Workload(self.settings["batch_size"], self.settings["context"])

    def costs(self, space: SearchSpace) -> dict[str, ChainCost]:
        """Latencies by metric, as sums over genes; none where none is bounded."""
        return {} if self.served is None else self.served.costs(space)

    def believed(self, bounds: Sequence[Constraint]) -> list[Constraint]:
        """Bounds on what is believed, so that what is measured keeps the given ones."""
        from nastool_supernets.shrinking.serving import part_of

        return [
            replace(bound, bound=bound.bound / (1 + self.served.errors[part_of(bound.metric)]))
            if self.served is not None and bound.metric in LATENCIES
            else bound
            for bound in bounds
        ]

    def check(self, space: SearchSpace, bounds: Sequence[Constraint]) -> None:
        """Check that a shape keeps bounds, by what is believed.

        Raises:
            InfeasibleError: None does.
            InvalidInputError: They are on something that nobody knows.
        """
        from nastool_supernets.shrinking.blocks import check_feasible

        believed = self.believed(bounds)
        try:
            check_feasible(space, believed, {**space.costs, **self.costs(space)})
        except InfeasibleError as error:
            said = ", ".join(map(str, bounds))
            margin = " with what it may be off by" if believed != list(bounds) else ""
            raise InfeasibleError(f"no shape of {space.name} keeps {said}{margin}") from error

    def keeps(self, space: SearchSpace, bounds: Sequence[Constraint], genotype: Genotype) -> bool:
        """Whether a shape keeps the bounds on latencies, measured on the device."""
        from nastool_supernets.shrinking.serving import part_of

        wanted = [bound for bound in bounds if bound.metric in LATENCIES]
        found = self.measure(space, genotype) if wanted else {}
        return all(found[part_of(bound.metric)] <= bound.bound for bound in wanted)

    def measure(self, space: SearchSpace, genotype: Genotype) -> dict[str, float]:
        """Seconds of a shape by part of serving, measured once; none where none is bounded."""
        import numpy as np

        from nastool_supernets.shrinking.serving import time_shapes

        if self.served is None or self.measured is None:
            return {}
        shape = space.format(np.array(genotype))
        if shape not in self.measured:
            seconds = time_shapes(
                space, self.device, self.workload(space), np.array([genotype], dtype=np.int64)
            )
            self.measured[shape] = {part: float(its[0]) for part, its in seconds.items()}
            self._keep()
        return self.measured[shape]

    @property
    def where(self) -> str:
        """What is served where, for people."""
        its = self.settings
        is_cpu = str(its["device"]).partition(":")[0] == "cpu"
        threads = f", {its['threads']} threads" if is_cpu else ", bfloat16"
        return f"{its['device']}{threads}, batch {its['batch_size']}, context {its['context']}"

    def _tell(self, space: SearchSpace) -> None:
        if self.served is None:
            return
        for metric, cost in self.served.costs(space).items():
            part = metric.partition(".")[2]
            if not part:
                continue
            low, high = (
                format_quantity(float(cost.evaluate(g[None])[0]), "s")
                for g in (space.smallest, space.largest)
            )
            click.echo(
                f"{metric}: {low} to {high} on {self.where}; what is believed of a shape is up to "
                f"{self.served.errors[part]:.0%} too low",
                err=True,
            )

    def _read(self, space: SearchSpace) -> None:
        """Take up what was timed before with the same settings."""
        import numpy as np

        from nastool_supernets.shrinking.serving import Served

        known = read_json_object(self.file) if is_file(self.file) else {}
        # Older files do not say whose shapes they are of.
        of_space = known.get("space", self.space) == self.space
        if known.get("settings") != self.settings or not of_space:
            return
        damaged = f"{self.file}: expected latencies, remove it to time them again"
        foreign = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
        with one_line(damaged, InvalidInputError, foreign):
            parts = {part: float(known["errors"][part]) for part in known["terms"]}
            served = Served(known["terms"], parts)
            for cost in served.costs(space).values():
                cost.evaluate(np.stack([space.smallest, space.largest]))
            self.measured = {
                shape: {part: float(its[part]) for part in parts}
                for shape, its in known["measured"].items()
            }
            self.served = served

    def _keep(self) -> None:
        if self.served is None:
            return
        content = {
            "settings": self.settings,
            "space": self.space,
            "facts": dict(self.device.facts),
            **asdict(self.served),
            "measured": self.measured,
        }
        write_whole(self.file, json.dumps(content, indent=2) + "\n")
