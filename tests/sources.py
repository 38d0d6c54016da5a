"""The source of the packages, parsed once for all tests that read it."""

import ast
import functools
import gc
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHELVES = {
    "nastool": ROOT,
    "nastool_supernets": ROOT / "search_spaces",
    "nastool_supershaper": ROOT / "search_spaces",
    "nastool_decoder": ROOT / "search_spaces",
    "nastool_encoder": ROOT / "search_spaces",
    "nastool_objectives": ROOT / "objectives",
}


@functools.cache
def modules():
    """The file of every module, by its name."""
    found = {}
    for package, shelf in SHELVES.items():
        for file in sorted((shelf / package).rglob("*.py")):
            name = ".".join(file.relative_to(shelf).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = file
    return found


@functools.cache
def trees():
    """The syntax tree of every module, by its name."""
    # Millions of objects that stay: to look for garbage among them takes longer than to parse.
    gc.disable()
    try:
        return {name: parsed(file) for name, file in modules().items()}
    finally:
        gc.freeze()
        gc.enable()


def parsed(file):
    return ast.parse(file.read_text(encoding="utf-8"))
