"""The tutorials run as they stand."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = {"device": ("torch", "pandas"), "train_and_deploy": ("torch", "transformers")}


def _script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebooks = _script("notebooks")
SEEDED = ("search", "space")
"""What these print follows from their seeds, but for seconds."""


def _timeless(texts):
    return [re.sub(r"[\d.]+ s\b|\d+\.\d+$", "SECONDS", text, flags=re.MULTILINE) for text in texts]


@pytest.mark.filterwarnings("ignore")  # what a user's libraries say is not ours to fail at
@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_prints_in_the_cells_where_it_did(path, tmp_path):
    for library in NEEDED.get(path.stem, ()):
        pytest.importorskip(library)
    outputs = notebooks.run_notebook(path, tmp_path)
    kept = notebooks.kept_outputs(path)
    assert [bool(text.strip()) for text in outputs] == [bool(text.strip()) for text in kept]
    if path.stem in SEEDED:
        assert _timeless(outputs) == _timeless(kept)


def test_a_cell_that_fails_is_told_by_notebook_and_number(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 2"):
        notebooks.run_cell("!nastool search --space nowhere", "a cell", {})
    with pytest.raises(ValueError, match="expected a command of nastool"):
        notebooks.run_cell("!rm -r everything", "a cell", {})
