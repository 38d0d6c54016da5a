"""The ledger of measurements: what was measured once, for every study and command to use.

A value is found by the space, what measured it and the genotype. What measures several things at
once keeps each under a name of its own, `quantity_of`. Beside the value stands how far its repeats
lay apart and how many there were: more of them take the place of fewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nastool.arrays import Floats
from nastool.objective import Objective
from nastool.space import Genotypes, SearchSpace

if TYPE_CHECKING:
    from nastool.store.base import Store


def known_values(
    store: Store | None, space: SearchSpace, objective: Objective, genotypes: Genotypes
) -> Floats:
    """What the ledger knows of genotypes, shape (n,); NaN where it knows nothing.

    Args:
        store: None knows nothing.
        space: Of the genotypes.
        objective: What would measure them.
        genotypes: Canonical, shape (n, d).
    """
    if store is None:
        return np.full(len(genotypes), np.nan)
    key, identity = objective.ledger, objective.fingerprint
    values = store.measurements(space.fingerprint, key, genotypes, objective.repeats)
    if key != identity and np.isnan(values).any():
        # As older stores have it.
        former = store.measurements(space.fingerprint, identity, genotypes)
        values = np.where(np.isnan(values), former, values)
    return values


def keep_values(
    store: Store | None,
    space: SearchSpace,
    objective: Objective,
    genotypes: Genotypes,
    values: Floats,
) -> None:
    """Put what an objective measured into the ledger.

    Args:
        store: None keeps nothing.
        space: Of the genotypes.
        objective: What measured them.
        genotypes: Canonical, shape (n, d).
        values: Shape (n,); what is not finite, where measuring failed, is left out.
    """
    if store is not None and len(genotypes):
        # What is infinite counts as failed wherever it is used.
        finite = np.where(np.isfinite(values), values, np.nan)
        store.add_measurements(
            space.fingerprint, objective.ledger, genotypes, finite, repeats=objective.repeats
        )


def quantity_of(instrument: str, quantity: str) -> str:
    """Key of one of the things that an instrument measures at once.

    Args:
        instrument: Its fingerprint.
        quantity: E.g. ``latency`` or ``energy``.
    """
    return f"{instrument}/{quantity}"
