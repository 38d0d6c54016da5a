import importlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nastool

HEAVY = (
    "torch", "transformers", "datasets", "tokenizers", "xgboost", "sklearn", "scipy", "pandas",
    "optuna", "pymoo", "numba",
)  # fmt: skip
ROOT = Path(__file__).parents[2]
GROUPS = (
    "search_spaces", "objectives", "strategies", "predictors", "devices", "supernets", "measuring",
    "presets", "publications", "watched", "commands",
)  # fmt: skip
ENTRY_POINTS = [
    point
    for group in GROUPS
    for point in importlib.metadata.entry_points(group=f"nastool.{group}")
    if point.dist is not None and point.dist.name == "nastool"
]


def modules_after(statement):
    """Names of all modules loaded by a fresh interpreter that runs a statement."""
    code = f"{statement}\nimport sys\nprint('\\nmodules', *sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.rpartition("modules ")[2].split())


def test_importing_the_package_is_light():
    loaded = modules_after("import nastool")
    assert "nastool" in loaded
    assert not loaded & {*HEAVY, "sqlalchemy", "plotly"}


def test_help_loads_no_heavy_library():
    loaded = modules_after(
        "import sys\n"
        "sys.argv = ['nastool', '--help']\n"
        "from nastool.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert "nastool.cli.main" in loaded
    assert not loaded & set(HEAVY)


def test_the_core_works_where_torch_is_not_installed(tmp_path):
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted((ROOT / "nastool").rglob("*.py"))
        # Adapters, which import what they adapt.
        if "integrations" not in file.parts and file.name != "__main__.py"
    ]
    code = f"""
import importlib, sys
for name in ("torch", "transformers", "datasets", "tokenizers", "accelerate", "safetensors"):
    sys.modules[name] = None
for name in {modules}:
    importlib.import_module(name)
from nastool import load_space, search
from nastool.testing import Formula, Widths
space = Widths()
found = search(space, [Formula("badness", lambda rows: -rows.sum(axis=1)), "params"], budget=60)
assert len(found.front()) > 3, found
from nastool.cli.main import main
sys.argv = ["nastool", "search", "--space", "supershaper", "--budget", "200", "--storage", "none"]
main()
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert "200 evaluations" in run.stdout


@pytest.mark.parametrize("name", [name for name in nastool.__all__ if name != "__version__"])
def test_public_names_exist_and_say_what_they_are(name):
    assert getattr(nastool, name).__doc__


def test_unknown_public_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = nastool.Nothing
    assert set(nastool.__all__) <= set(dir(nastool))


def test_the_version_is_that_of_the_distribution():
    assert nastool.__version__ == importlib.metadata.version("nastool")


@pytest.mark.parametrize("point", ENTRY_POINTS, ids=lambda p: f"{p.group}:{p.name}")
def test_entry_points_load(point):
    assert callable(point.load())


def test_entry_points_are_those_of_the_project_file():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        (group, name, target)
        for group, points in project["entry-points"].items()
        for name, target in points.items()
    }
    assert {(p.group, p.name, p.value) for p in ENTRY_POINTS} == declared


def test_imports_run_one_way():
    linter = shutil.which("lint-imports", path=Path(sys.executable).parent)
    if linter is None:
        pytest.skip("import-linter is not installed")
    run = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
