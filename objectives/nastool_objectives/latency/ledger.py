"""A campaign and the ledger: what it measured is kept there, what is there it need not measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nastool.arrays import Floats
from nastool.devices import Device, Workload, timing_of
from nastool.errors import NastoolError
from nastool.space import Genotypes, SearchSpace
from nastool.store import Store
from nastool.store.ledger import quantity_of
from nastool_objectives.latency.campaign import Plan, Visit, latencies_of
from nastool_objectives.latency.known import WITNESSES, Known
from nastool_objectives.latency.quantities import (
    DECODE,
    ENERGY,
    LATENCY,
    MEMORY,
    QUANTITIES,
    instrument,
)
from nastool_objectives.latency.tables import LatencyTable


def keep_campaign(
    store: Store,
    space: SearchSpace,
    device: Device,
    workload: Workload,
    plan: Plan,
    visits: Sequence[Visit],
    table: LatencyTable,
) -> None:
    """Put latency, energy and memory of every architecture into the ledger.

    Args:
        store: Has the ledger.
        space: Whose architectures were measured.
        device: What they ran on.
        workload: What it was given in one pass.
        plan: Of the campaign.
        visits: All of them.
        table: What they say together.
    """
    by = instrument(device.facts, workload, plan.warmup, plan.repeats)
    rows = [visit.row for visit in visits if visit.timing is not None]
    counts = np.bincount(rows)
    # The table has those that ran, in order.
    counts = counts[counts > 0]
    genotypes = space.canonicalize(table.genotypes)
    columns = {
        LATENCY: table.latency,
        ENERGY: table.energy,
        MEMORY: table.memory,
        DECODE: table.decode,
    }
    for quantity, values in columns.items():
        if values is None:
            continue
        noise = table.spread if quantity == LATENCY else None
        for count in np.unique(counts).tolist():
            chosen = counts == count
            store.add_measurements(
                space.fingerprint,
                quantity_of(by, quantity.name),
                genotypes[chosen],
                values[chosen],
                noise=None if noise is None else noise[chosen],
                repeats=count,
            )


def recall(
    store: Store,
    folder: Path,
    space: SearchSpace,
    device: Device,
    workload: Workload,
    plan: Plan,
) -> None:
    """Write what the ledger knows of a campaign that is about to begin into its folder.

    Known is of what the ledger has all that the device says, from as many visits as the campaign
    makes. Where too few are known to save a visit nothing is written.

    Args:
        store: Has the ledger.
        folder: Of the device.
        space: Whose architectures are measured.
        device: What they run on.
        workload: What it is given in one pass.
        plan: Of the campaign.
    """
    genotypes, n_anchors = plan.architectures(space)
    by = instrument(device.facts, workload, plan.warmup, plan.repeats)
    canonical = space.canonicalize(genotypes[n_anchors:])
    columns = [
        store.measurements(space.fingerprint, quantity_of(by, q.name), canonical, plan.rounds)
        for q in QUANTITIES
    ]
    if np.isfinite(columns[QUANTITIES.index(LATENCY)]).sum() <= WITNESSES:
        return
    try:
        timing = timing_of(device, space.deploy(genotypes[0], workload), plan.warmup, plan.repeats)
    except NastoolError:
        return  # the campaign says what is wrong
    said = np.isfinite([quantity.of(timing) for quantity in QUANTITIES])
    values = np.stack(columns, axis=1)
    rows = np.flatnonzero(np.isfinite(values[:, said]).all(axis=1))
    if len(rows) > WITNESSES:
        rows = np.random.default_rng([plan.seed, 2]).permutation(rows)
        Known(rows + n_anchors, values[rows]).write(folder)


def with_known(
    table: LatencyTable, known: Known, genotypes: Genotypes, visits: Sequence[Visit]
) -> LatencyTable:
    """A campaign's table with what was known beside what was measured.

    Args:
        table: Of the visits.
        known: When the campaign began.
        genotypes: Of the campaign, shape (n, d).
        visits: All of them.
    """
    found = known.witnessed(latencies_of(visits))
    again = f"{min(len(known.rows), WITNESSES)} that were measured again: {found}"
    if not known.agrees:
        note = f"what was known of {len(known.rows):,} shapes does not repeat; {again}"
        return replace(table, note=_lines(table.note, note))
    rows = known.rows[WITNESSES:]
    values = dict(zip((q.name for q in QUANTITIES), known.values[WITNESSES:].T, strict=True))
    unknown = np.full(len(rows), np.nan)

    def longer(column: Floats | None, more: Floats = unknown) -> Floats | None:
        return None if column is None else np.concatenate([column, more])

    return replace(
        table,
        genotypes=np.concatenate([table.genotypes, genotypes[rows]]),
        latency=np.concatenate([table.latency, values["latency"]]),
        halves=longer(table.halves, np.full((len(rows), 2), np.nan)),
        p90=longer(table.p90),
        spread=longer(table.spread),
        memory=longer(table.memory, values["memory"]),
        energy=longer(table.energy, values["energy"]),
        decode=longer(table.decode, values[DECODE.name]),
        note=_lines(table.note, f"{len(rows):,} shapes as measured before; {again}"),
    )


def _lines(*texts: str) -> str:
    return "\n".join(text for text in texts if text)
