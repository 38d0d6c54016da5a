"""What holds of the packages as a whole: whose names are whose, and what the core may know."""

import ast
import functools
import re

import pytest

from tests.sources import ROOT, SHELVES, modules, parsed, trees

USERS = ("tests", "benchmarks", "examples", "integrations")
DOORS = {
    "nastool.integrations.optuna",  # what users of Optuna import, and they only
    "nastool_supershaper.shaped_bert",  # the models that exports carry, known to transformers
}
"""Modules, beside packages, that collect what others define and say so in ``__all__``."""


@functools.cache
def defined(module):
    """Names that a module binds at its top level otherwise than by importing them."""
    names = set()
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def is_door(module):
    return module in DOORS or modules()[module].name == "__init__.py"


def test_no_module_hands_on_the_names_of_another():
    found = []

    def look(file, tree):
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.module not in modules():
                continue
            if is_door(node.module):
                continue
            names = {alias.name for alias in node.names} - defined(node.module)
            found.extend(
                f"{file.relative_to(ROOT)}: {name} is not {node.module}'s own"
                for name in names
                if f"{node.module}.{name}" not in modules()
            )

    for module, file in modules().items():
        look(file, trees()[module])
    for folder in USERS:
        for file in (ROOT / folder).rglob("*.py"):
            look(file, parsed(file))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", sorted(DOORS))
def test_doors_say_what_they_hand_on(module):
    bound = [
        node.value
        for node in trees()[module].body
        if isinstance(node, ast.Assign)
        and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
    ]
    assert len(bound) == 1
    assert ast.literal_eval(bound[0])


MOST_LINES = 500
"""Of a module: what grows beyond is two rooms."""


@pytest.mark.parametrize("package", SHELVES)
def test_no_module_is_too_long_to_be_read(package):
    lengths = {
        module: len(file.read_text(encoding="utf-8").splitlines())
        for module, file in modules().items()
        if module.partition(".")[0] == package
    }
    assert {module: lines for module, lines in lengths.items() if lines > MOST_LINES} == {}


def imports_of(module):
    """Modules that a module imports when it runs, also late; not those that only types name."""
    found = set()
    collect_imports(trees()[module], found)
    return (found & modules().keys()) - {module}


def collect_imports(node, found):
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.If) and "TYPE_CHECKING" in ast.unparse(inner.test):
            continue
        if isinstance(inner, ast.ImportFrom) and inner.module:
            for alias in inner.names:
                whole = f"{inner.module}.{alias.name}"
                found.add(whole if whole in modules() else inner.module)
        collect_imports(inner, found)


def test_no_module_leads_back_to_itself():
    left = {module: imports_of(module) for module in modules()}
    # Without circles, some module imports none of those that are left.
    while ready := {module for module, needed in left.items() if not needed & left.keys()}:
        left = {module: needed for module, needed in left.items() if module not in ready}
    assert not left, f"in circles, or above one: {sorted(left)}"


@pytest.mark.parametrize("package", ["nastool", "nastool_supernets"])
def test_the_map_names_every_room(package):
    rooms = {
        f"{entry.name}/" if entry.is_dir() else entry.name
        for entry in (SHELVES[package] / package).iterdir()
        if not entry.name.startswith("_") and (entry.is_dir() or entry.suffix == ".py")
    }
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = page.split(f"## Rooms of `{package}`")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([^`]+)`", "".join(cells))) == rooms


ONE_PLACE = {
    "files and folders give way whole": (
        r"\.rename\(|\bos\.(replace|rename)\(|shutil\.move|\.replace\([^()'\",=]+\)",
        {"nastool.files.writing"},
    ),
    "tables are written as CSV": (r"\bcsv\.(writer|DictWriter)\b", {"nastool.files.tables"}),
    "libraries are quiet": (
        r"catch_warnings|logging\.disable\(|logging\.set_verbosity", {"nastool.runtime.quiet"}
    ),
    "an error of a library is one line": (
        r"str\(error\).*splitlines\(\)\[0\]", {"nastool.errors"}
    ),
    "temporary folders vanish even after a kill": (
        r"tempfile\.(mk|Temp|Named)", {"nastool.runtime.leftovers"}
    ),
    "bounds hold up to a violation of 0": (
        r"violation\([^()]*\) <= 0|violations <= 0", {"nastool.constraint", "nastool.evaluations"}
    ),
    "violations are added up": (
        r"(maximum|max)\(\w*violation|violations?\(?[^\n]*\.sum\(", {"nastool.evaluations"}
    ),
    "a front is what falls": (
        r"minimum\.accumulate",
        # The best so far, of one run; and limits over a grid of two costs.
        {"nastool.pareto.dominance", "nastool.comparison.traces", "nastool.exact.joint_sweep"},
    ),
    "a front has every point once": (r"unique\([^\n]*non_dominated", {"nastool.pareto.dominance"}),
}  # fmt: skip
"""What is done in one way, and the modules where: a second way would be mended only half."""


@pytest.mark.parametrize("rule", ONE_PLACE)
def test_what_is_done_in_one_place(rule):
    pattern, homes = ONE_PLACE[rule]
    found = {
        module
        for module, file in modules().items()
        if re.search(pattern, file.read_text(encoding="utf-8"))
    }
    assert found == homes
