"""The devices a user has: a folder each, to be kept, sent and received.

A device's folder holds ``device.json`` (what was measured, on what, how repeatable it was),
``table.csv`` (a row an architecture), ``visits.csv`` (every single measurement of a campaign) and
``predictor/``. Nothing in it says where it lies. Some ship with nastool, as they were measured on a
day; one that a user keeps under the same name goes before them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from nastool.devices import Workload
from nastool.errors import InvalidInputError, nearest
from nastool.files.hub import fetched, is_on_hub
from nastool.files.reading import is_file, is_folder, parse_json, read_text, reading
from nastool.files.writing import write_whole, writing
from nastool.numbers import score_text
from nastool.runtime.leftovers import shipped_folder
from nastool_objectives.latency.repeatability import NoiseGate, Repeatability

CARD = "device.json"
TABLE = "table.csv"
VISITS = "visits.csv"
PREDICTOR = "predictor"

ENVIRONMENT = "NASTOOL_DEVICES"
"""Variable that names another folder of devices."""

Verdict = Literal["unfinished", "passed", "refused", "forced", "unknown"]
"""What the noise gate said; unknown where a table came without a repetition."""

_VERDICTS = ("unfinished", "passed", "refused", "forced", "unknown")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class DeviceCard:
    """What is known about a device's latencies.

    Args:
        name: The device, as in ``latency[NAME]``.
        device: What measured, as users type it; ``imported`` for a table from elsewhere.
        settings: Keyword settings of that device.
        facts: What it says about itself.
        workload: What it was given in one pass; None for a table from elsewhere.
        space: The space, as users type it.
        fingerprint: Fingerprint of that space.
        plan: Numbers of the campaign; empty for a table from elsewhere.
        verdict: What the noise gate said.
        reason: Why it refused, or would have.
        shapes: How well all shapes repeat; None where each was measured once.
        anchors: How well the anchor shapes repeat, likewise.
        gate: Thresholds that were applied.
        conditions: How a table from elsewhere was measured, as far as somebody said: the rest is
            unknown.
        date: When it was measured, as in 2026-11-26; empty where nobody says.
        remarks: What else is known, for people.

    Raises:
        InvalidInputError: A name that is no folder's, or an unknown verdict.
    """

    name: str
    device: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    workload: Workload | None
    space: str
    fingerprint: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict = "unfinished"
    reason: str = ""
    shapes: Repeatability | None = None
    anchors: Repeatability | None = None
    gate: NoiseGate = field(default_factory=NoiseGate)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""
    remarks: str = ""

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInputError(
                "a device's name must be letters, digits, '.', '_', '+' or '-', "
                f"beginning with a letter or digit, got {self.name!r}"
            )
        if self.verdict not in _VERDICTS:
            raise InvalidInputError(
                f"a verdict must be one of {', '.join(_VERDICTS)}, got {self.verdict!r}"
            )

    @property
    def load(self) -> dict[str, Any]:
        """What it was given in one pass, by name; None what nobody said."""
        if self.workload is not None:
            return dict(self.workload.as_dict())
        unknown = dict.fromkeys(("batch_size", "sequence_length"))
        return {**unknown, **self.conditions}

    @property
    def metric(self) -> str:
        """Name of the objective."""
        return f"latency[{self.name}]"

    @property
    def note(self) -> str:
        """What every output says about the noise."""
        if self.verdict == "unknown":
            return "repeatability not known"
        if self.shapes is None:
            return "FORCED past the noise gate" if self.verdict == "forced" else ""
        found = (
            f"repeats at Spearman {score_text(self.shapes.spearman, 3)}, ±{self.shapes.error:.1%}"
        )
        return f"{found}; FORCED past the noise gate" if self.verdict == "forced" else found

    def to_json(self) -> str:
        """The card as JSON text; `from_json` reads it back."""
        content = asdict(self)
        for name in ("shapes", "anchors"):
            found = getattr(self, name)
            content[name] = None if found is None else found.as_dict()
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DeviceCard:
        """Read a card.

        Raises:
            InvalidInputError: Not JSON, an entry is missing or unknown, or of the wrong type.
        """
        try:
            content = parse_json(text, CARD)
            if not isinstance(content, dict):
                raise InvalidInputError(f"expected an object, got {type(content).__name__}")
            known = {f.name for f in fields(cls)}
            # Older cards have none of these.
            content = {"conditions": {}, "date": "", "remarks": "", **content}
            if set(content) != known:
                raise InvalidInputError(
                    f"expected the entries {', '.join(sorted(known))}; "
                    f"got {', '.join(sorted(content))}"
                )
            if content["workload"] is not None:
                content["workload"] = Workload(**content["workload"])
            content["gate"] = NoiseGate(**content["gate"])
            for name in ("shapes", "anchors"):
                found = content[name]
                content[name] = None if found is None else Repeatability.from_dict(found)
            return cls(**content)
        except (TypeError, ValueError, AttributeError) as error:
            said = str(error)
            where = "" if said.startswith(CARD) else f"{CARD}: "
            raise InvalidInputError(f"{where}{said}") from error


def devices_folder(given: Path | None = None) -> Path:
    """Where devices are kept: what is given, else ``$NASTOOL_DEVICES``, else the user's data."""
    if given is not None:
        return given
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    import platformdirs  # here: no search on what ships waits for it

    return platformdirs.user_data_path("nastool", appauthor=False) / "devices"


def find_device(name: str, folder: Path | None = None) -> Path:
    """The folder of a device.

    Args:
        name: Of a device that is kept, a path to a device's folder or its ``hf://`` name, or of
            one that ships.
        folder: Where devices are kept; see `devices_folder`.

    Raises:
        InvalidInputError: There is none; the message lists those there are.
    """
    if is_on_hub(name):
        return fetched(name)
    root = devices_folder(folder)
    check_enterable(root)
    named = [root / name, shipped_devices() / name] if _NAME.fullmatch(name) else []
    for candidate in (*named[:1], Path(name), *named[1:]):
        if is_file(candidate / CARD):
            return candidate
    own, shipped = device_names(folder), device_names(shipped_devices())
    known = nearest(name, [*own, *shipped])
    if known.startswith("known"):
        known = f"known: {', '.join(own) or 'none'}; shipped: {', '.join(shipped)}"
    raise InvalidInputError(
        f"unknown device {name!r}; {known} ('nastool latency measure' and "
        "'nastool latency import' add one)"
    )


def own_device(name: str, folder: Path | None = None) -> Path:
    """The folder of a device, to write into.

    Raises:
        InvalidInputError: There is none, or it ships with nastool.
    """
    found = find_device(name, folder)
    if found.parent == shipped_devices():
        raise InvalidInputError(
            f"device {name!r} ships with nastool and stays as it is; copy {found} to change it"
        )
    return found


@cache
def shipped_devices() -> Path:
    """The folder of the devices that ship with nastool."""
    return shipped_folder(__package__, "shipped")


def device_names(folder: Path | None = None) -> list[str]:
    """Names of the devices that are kept, in alphabetical order."""
    root = devices_folder(folder)
    check_enterable(root)
    if not is_folder(root):
        return []
    with reading(root):
        return sorted(path.name for path in root.iterdir() if is_file(path / CARD))


def check_enterable(folder: Path) -> None:
    """Raise InvalidInputError unless a folder may be listed, or is not there."""
    with reading(folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.scandir(folder).close()


def read_card(folder: Path) -> DeviceCard:
    """Read the card of a device's folder.

    Raises:
        InvalidInputError: There is none, or it cannot be read.
    """
    check_enterable(folder)
    if not is_file(folder / CARD):
        raise InvalidInputError(f"expected the folder of a device, got no {CARD} in {folder}")
    text = read_text(folder / CARD)
    try:
        return DeviceCard.from_json(text)
    except ValueError as error:
        raise InvalidInputError(f"{folder}: {error}") from error


def write_card(folder: Path, card: DeviceCard) -> None:
    """Write the card into a device's folder, which is made if it is missing.

    Raises:
        WriteError: It cannot be written; an earlier one is as it was.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CARD, card.to_json())
