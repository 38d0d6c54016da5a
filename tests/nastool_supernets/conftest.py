"""A family of supernets from a file, as a stranger would offer it."""

import sys
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy_family.py"


@pytest.fixture(scope="module")
def toy():
    """The module of the toy family, registered for the time of a file of tests."""
    pytest.importorskip("transformers")
    from nastool.discovery import load_file

    load_file(TOY)
    return next(
        module
        for module in sys.modules.values()
        if getattr(module, "__file__", None) == str(TOY) and hasattr(module, "ToySupernet")
    )
