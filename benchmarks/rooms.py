"""Lines a package, and arrows between the rooms of the shelves: who imports whom.

A room is a folder or a module of a package, without `__init__.py`. An arrow is a pair of rooms of
which one imports the other, wherever in the file that is written.

    python benchmarks/rooms.py [ROOT]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

SHELVES = {
    "nastool": ".",
    "nastool_supernets": "search_spaces",
    "nastool_supershaper": "search_spaces",
    "nastool_decoder": "search_spaces",
    "nastool_encoder": "search_spaces",
    "nastool_objectives": "objectives",
}


def files(root: Path, package: str) -> list[Path]:
    """The Python files of a package; none where it is not there."""
    return sorted((root / SHELVES[package] / package).rglob("*.py"))


def room(module: str) -> str:
    """The package and the first name below it."""
    return ".".join(module.split(".")[:2])


def arrows(root: Path, package: str) -> tuple[set[str], set[tuple[str, str]]]:
    """Rooms of a package, and the arrows between them."""
    shelf = root / SHELVES[package]
    named = {".".join(f.relative_to(shelf).with_suffix("").parts): f for f in files(root, package)}
    modules = {name: file for name, file in named.items() if name != f"{package}.__init__"}
    rooms = {room(name) for name in modules}
    found = set()
    for name, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                targets = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                continue
            found |= {(room(name), room(target)) for target in targets}
    return rooms, {(a, b) for a, b in found if a != b and b in rooms}


def main(root: Path) -> None:
    print("| package | lines | rooms | arrows |\n| --- | ---: | ---: | ---: |")
    for package in SHELVES:
        if own := files(root, package):
            lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in own)
            rooms, found = arrows(root, package)
            print(f"| `{package}` | {lines:,} | {len(rooms)} | {len(found)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
