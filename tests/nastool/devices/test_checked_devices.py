"""What devices say of themselves and of a pass, where it enters."""

from types import MappingProxyType

import numpy as np
import pytest

from nastool import discovery
from nastool.devices import Device, Timing, check_device
from nastool.errors import InvalidInputError, NastoolError
from nastool.plugins import load_device, register_device


def device_of(facts):
    class Mine(Device):
        def __init__(self, argument=None):
            pass

        @property
        def facts(self):
            return facts()

        def measure(self, deployment, warmup, repeats):
            return Timing(np.ones(repeats))

    return Mine


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (lambda: ["cpu"], "device Mine: facts must be by name, got list"),
        (lambda: {1: "cpu"}, "the name of a fact must be a text, got int 1"),
        (lambda: {"clock": np.float32(1)}, r"facts\['clock'\] must be a JSON value, got float32"),
        (lambda: {"clock": float("nan")}, r"facts\['clock'\] must be a JSON value, got float nan"),
        (lambda: {"by": object()}, r"facts\['by'\] must be a JSON value, got object"),
        (lambda: {}["clock"], r"device Mine failed: KeyError: 'clock' \(test_checked_devices\.py:"),
    ],
)
def test_facts_that_cannot_be_kept_are_one_line(facts, message, monkeypatch):
    monkeypatch.setattr(discovery, "_registered", {})
    register_device("mine")(device_of(facts))
    with pytest.raises(NastoolError, match=message):
        load_device("mine")


def test_facts_may_be_any_mapping_of_json_values():
    facts = MappingProxyType({"threads": 2, "versions": {"torch": "2"}, "turbo": None})
    assert check_device(device_of(lambda: facts)())._known_facts() == facts


@pytest.mark.parametrize("name", ["memory", "energy", "clock"])
def test_what_is_beside_durations_are_numbers(name):
    for wrong in ("3", -1, np.nan, np.inf, True, [3]):
        with pytest.raises(InvalidInputError, match=f"a timing's {name} must be None or a finite"):
            Timing([1.0], **{name: wrong})
    for right in (None, 0, 3.5, np.float32(3.5)):
        assert getattr(Timing([1.0], **{name: right}), name) == right
