"""What a campaign measured, in the ledger: verifying and searching measure none of it again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nastool.deployment import Workload
from nastool.devices import Device
from nastool.space import SearchSpace
from nastool.store import Store
from nastool.store.measurements import quantity_of
from nastool_objectives.latency.campaign import Plan, Visit
from nastool_objectives.latency.quantities import (
    DECODE,
    ENERGY,
    LATENCY,
    MEMORY,
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
