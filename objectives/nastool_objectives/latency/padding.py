"""Which padded form of an architecture a device runs: one by name, or the fastest of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from nastool.devices import Deployment
from nastool.errors import InvalidInputError

NONE = "none"
AUTO = "auto"
PADDINGS = (NONE, "8", "64", AUTO)
"""What users may ask for."""

MULTIPLES: Mapping[str, int] = {"8": 8, "64": 64}
"""Multiples that layers are padded to: what GPUs' products in 16 bits take, and what tiles hold."""

_TURNS = 3
_WORTH = 0.02
"""Share of the time that a padded form must save: it takes more memory."""


def checked_padding(device: str, padding: str) -> str:
    """The name of a padding, or ``auto``.

    Raises:
        InvalidInputError: Neither.
    """
    if padding not in PADDINGS:
        raise InvalidInputError(
            f"device {device}: pad must be one of {', '.join(PADDINGS)}, got {padding!r}"
        )
    return padding


def padding_facts(padding: str) -> dict[str, str]:
    """What a device says about its padding; nothing where there is none, as always before."""
    return {} if padding == NONE else {"padding": padding}


def named(padding: str) -> str | None:
    """A padding as a timing has it."""
    return None if padding == NONE else padding


def padded(
    deployment: Deployment, padding: str, probe: Callable[[Deployment], float]
) -> tuple[str, Deployment]:
    """The form of an architecture that a device runs.

    Args:
        deployment: As it is stored; one that is a file already, or that knows no padded forms, is
            run as it is.
        padding: See `checked_padding`.
        probe: Seconds of a pass; called in turns on several forms where they are to be compared.

    Returns:
        The name of the form's padding, and the form.
    """
    forms = {NONE: deployment}
    if deployment.padded is not None and deployment.file is None:
        for name, multiple in MULTIPLES.items():
            if padding in (name, AUTO):
                form = replace(deployment, module=deployment.padded(multiple), padded=None)
                # Sizes that all are multiples already: the same net.
                if _weights(form.module) != _weights(deployment.module):
                    forms[name] = form
    if padding != AUTO:
        name = padding if padding in forms else NONE
        return name, forms[name]
    if len(forms) == 1:
        return NONE, deployment
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(_TURNS):
        for name, form in forms.items():
            seconds[name].append(probe(form))
    name = fastest({name: median(turns) for name, turns in seconds.items()})
    return name, forms[name]


def fastest(seconds: Mapping[str, float]) -> str:
    """The padding to choose, by what a pass takes with each; none where little is gained."""
    least = _WORTH * seconds[NONE]
    return min(seconds, key=lambda name: seconds[name] + least * (name != NONE))


def _weights(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
