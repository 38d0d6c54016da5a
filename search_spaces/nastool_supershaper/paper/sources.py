"""What the items are made of: a net, its runs, tables, devices and fine-tunings, found or named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError, NastoolError
from nastool.files.reading import is_file, is_folder, read_json_object, reading
from nastool.objective import evaluate
from nastool.plugins import load_space
from nastool.predicted import PredictedObjective
from nastool.predictors.tables import Measurements, read_measurements
from nastool.problem import CostObjective
from nastool.space import Genotypes
from nastool_supershaper.space import SuperShaperSpace

if TYPE_CHECKING:
    from nastool_objectives.latency.device_study import DeviceStudy


PERPLEXITY = "perplexity"

_LOGS = ("log.jsonl", "log.jsonl.gz")


@dataclass(frozen=True, eq=False)
class Sources:
    """Everything that is there.

    Args:
        space: Of the net.
        name: Of the net.
        net: Folder with its weights; None where only measurements are there.
        runs: Folders with logs of training.
        table: Measured perplexities; None where there are none.
        predictor: Folder of the predictor; None where there is none.
        devices: Latency by device.
        reports: What fine-tunings found, each as `nastool validate --format json` writes it.
        budget: Evaluations of each search; None for the paper's own.
        seed: Fixes searches and draws.
        storage: Store whose ledger knows what else was measured; None for none.
    """

    space: SuperShaperSpace
    name: str
    net: Path | None = None
    runs: tuple[Path, ...] = ()
    table: Path | None = None
    predictor: Path | None = None
    devices: Mapping[str, PredictedObjective] = field(default_factory=dict)
    reports: tuple[Mapping[str, Any], ...] = ()
    budget: int | None = None
    seed: int = 0
    storage: str | None = None

    @property
    def argument(self) -> str:
        """The net as a word of a command line."""
        return str(self.net or self.name)

    @property
    def weights(self) -> str:
        """The net's folder as a word of a command line; a placeholder where it is not here."""
        return str(self.net) if self.net else "NET"

    @property
    def in_space(self) -> str:
        """The space as a word of a command line."""
        return f"supershaper:{self.net}" if self.net else self.space.name

    @cached_property
    def params(self) -> CostObjective:
        """The parameter count."""
        return CostObjective(self.space.costs["params"], self.space)

    @cached_property
    def quality(self) -> PredictedObjective | None:
        """Predicted perplexity."""
        if self.predictor is None:
            return None
        return PredictedObjective(self.space, self.predictor, PERPLEXITY)

    @cached_property
    def measured(self) -> Measurements | None:
        """The table of perplexities."""
        if self.table is None:
            return None
        return read_measurements(self.table, PERPLEXITY, self.space)

    @cached_property
    def measured_genotypes(self) -> Genotypes:
        """Shapes of the table, (n, L)."""
        data = self.measured
        if data is None:
            return np.empty((0, self.space.layers), np.int64)
        return np.searchsorted(self.space.widths, data.features[:, : self.space.layers])

    def measured_values(self, genotypes: Genotypes) -> Floats:
        """Measured perplexities (n,) of shapes (n, L); NaN where the table has none."""
        data = self.measured
        if data is None:
            return np.full(len(genotypes), np.nan)
        keys = self.space.keys(self.measured_genotypes)
        known = dict(zip(keys, data.targets.tolist(), strict=True))
        return np.array([known.get(key, np.nan) for key in self.space.keys(genotypes)])

    def direct_values(self, genotypes: Genotypes) -> Floats:
        """Perplexities (n,) of slices of the supernet, from the table or the ledger; else NaN."""
        values = self.measured_values(genotypes)
        lacking = np.isnan(values)
        if lacking.any() and self.net is not None and self.storage is not None:
            values[lacking] = _ledger_values(self.storage, self.net, self.space, genotypes[lacking])
        return values

    def predicted_values(self, genotypes: Genotypes) -> Floats:
        """Predicted perplexities (n,) of shapes (n, L); NaN without a predictor."""
        if self.quality is None or not len(genotypes):
            return np.full(len(genotypes), np.nan)
        return evaluate(self.quality, genotypes).values

    @cached_property
    def studies(self) -> dict[str, DeviceStudy]:
        """The study of each device."""
        from nastool_objectives.latency.device_study import study_device

        if self.quality is None:
            return {}
        budget = min(self.budget or 2_000, 2_000)
        return {
            name: study_device(
                self.space, self.quality, latency, budget=budget, seed=self.seed, seeds=1
            )
            for name, latency in self.devices.items()
        }


def find_sources(
    net: str,
    *,
    runs: Sequence[Path] = (),
    table: Path | None = None,
    predictor: Path | None = None,
    devices: Sequence[str] = (),
    reports: Sequence[Path] = (),
    budget: int | None = None,
    seed: int = 0,
    storage: str | None = None,
) -> Sources:
    """Find what is there of a net; what is named goes first.

    Args:
        net: Folder of a supernet, or the name of one that ships, such as ``supershaper``.
        runs: Folders of training runs, or folders of such folders; by default the net's own.
        table: Measured perplexities; by default in the net's folder, or those that ship.
        predictor: Folder of a predictor, likewise.
        devices: Names of devices; by default every one with a table for this space.
        reports: JSON files of `nastool validate`; by default those in the net's folder.
        budget: Evaluations of each search; None for the paper's own.
        seed: Fixes searches and draws.
        storage: Store whose ledger knows what else was measured; None, or one that is not there,
            knows nothing.

    Raises:
        InvalidInputError: There is no such net, or what was named is not what it must be.
    """
    folder = Path(net) if is_folder(Path(net)) else None
    text = "supershaper" if net == "supershaper" and folder is None else f"supershaper:{net}"
    space = load_space(text)
    if not isinstance(space, SuperShaperSpace):
        raise InvalidInputError(f"expected a supernet of SuperShaper, got {net}")
    shipped = space.reference(PERPLEXITY)
    places = [place for place in (folder, shipped.parent if shipped else None) if place]
    if not runs:
        runs = [p for p in places if _is_run(p)][:1]
    if predictor is None:
        named = (place / name for place in places for name in (PERPLEXITY, "predictor"))
        predictor = next((path for path in named if is_file(path / "card.json")), None)
    if table is None:
        names = ("perplexity.csv", "perplexity.csv.gz", "shapes.csv", "shapes.csv.gz")
        found = (place / name for place in places for name in names)
        table = next((path for path in found if is_file(path)), None)
    if not reports and folder is not None:
        reports = sorted(folder.glob("validation*.json"))
    return Sources(
        space,
        net,
        folder,
        tuple(one for run in runs for one in _runs_in(run)),
        table,
        predictor,
        _devices(space, devices),
        tuple(_report(path) for path in reports),
        budget,
        seed,
        storage,
    )


def _is_run(folder: Path) -> bool:
    return any(is_file(folder / log) for log in _LOGS)


def _runs_in(folder: Path) -> list[Path]:
    """The folder of a run, or those that lie in a folder."""
    if _is_run(folder) or not is_folder(folder):
        return [folder]
    with reading(folder):
        return sorted(path for path in folder.iterdir() if _is_run(path)) or [folder]


def _ledger_values(
    storage: str, net: Path, space: SuperShaperSpace, genotypes: Genotypes
) -> Floats:
    """What the ledger knows of slices (n, L) of a supernet, on the text that it held out."""
    from nastool.plugins import load_objective
    from nastool.store import open_store
    from nastool.store.ledger import known_values

    try:
        objective = load_objective(f"measured_{PERPLEXITY}:{net}", space)
        with open_store(storage, create=False) as store:
            return known_values(store, space, objective, space.canonicalize(genotypes))
    except NastoolError:
        # No text that was held out, or no store: then there is nothing to look up.
        return np.full(len(genotypes), np.nan)


def _devices(space: SuperShaperSpace, names: Sequence[str]) -> dict[str, PredictedObjective]:
    from nastool_objectives.latency.objective import create
    from nastool_objectives.latency.registry import device_names, find_device, shipped_devices

    if names:
        return {
            name: create(space, str(find_device(name).resolve()), f"latency[{name}]")
            for name in names
        }
    found = {}
    for name in dict.fromkeys((*device_names(), *device_names(shipped_devices()))):
        # A device of another space, or one that is not fitted yet, is no device of this net.
        try:
            found[name] = create(space, str(find_device(name).resolve()), f"latency[{name}]")
        except InvalidInputError:
            continue
    return found


def _report(path: Path) -> Mapping[str, Any]:
    content = read_json_object(path)
    if not isinstance(content.get("shapes"), list) or not isinstance(content.get("tasks"), list):
        raise InvalidInputError(
            f"{path}: expected what 'nastool validate --format json' writes, got no shapes or tasks"
        )
    return content
