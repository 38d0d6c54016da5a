"""What holds of the packages as a whole: whose names are whose, and what the core may know."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHELVES = {
    "nastool": ROOT,
    "nastool_supernets": ROOT / "search_spaces",
    "nastool_supershaper": ROOT / "search_spaces",
    "nastool_objectives": ROOT / "objectives",
}
USERS = ("tests", "benchmarks", "examples", "integrations")
DOORS = {
    "nastool.integrations.optuna",  # what users of Optuna import, and they only
    "nastool_supershaper.shaped_bert",  # the models that exports carry, known to transformers
}
"""Modules, beside packages, that collect what others define and say so in ``__all__``."""


@functools.cache
def modules():
    found = {}
    for package, shelf in SHELVES.items():
        for file in sorted((shelf / package).rglob("*.py")):
            name = ".".join(file.relative_to(shelf).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = file
    return found


@functools.cache
def tree(file):
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def defined(module):
    """Names that a module binds at its top level otherwise than by importing them."""
    names = set()
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def is_door(module):
    return module in DOORS or modules()[module].name == "__init__.py"


def test_no_module_hands_on_the_names_of_another():
    users = [file for folder in USERS for file in (ROOT / folder).rglob("*.py")]
    found = []
    for file in [*modules().values(), *users]:
        for node in ast.walk(tree(file)):
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
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", sorted(DOORS))
def test_doors_say_what_they_hand_on(module):
    bound = [
        node.value
        for node in tree(modules()[module]).body
        if isinstance(node, ast.Assign)
        and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
    ]
    assert len(bound) == 1
    assert ast.literal_eval(bound[0])
