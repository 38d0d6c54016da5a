"""Numbers in the documentation say where they come from."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
    *sorted((ROOT / "search_spaces").rglob("README.md")),
]
NUMBERS = 4
"""From so many cells with a measured number on, a table is one of results."""

MEASURED = re.compile(r"(?<![\w.-])-?\d+\.\d+(?![\w.])|(?<![\w.-])\d{2,3},\d{3}(?!\d)")
COMMAND = re.compile(r"`[^`]+`|\[[^\]]+\]\(")
SOURCE = "Source: "


def tables(text: str) -> list[tuple[int, str, str]]:
    """Line, text, and what follows up to the next table or heading, of every table."""
    lines = text.split("\n")
    starts = [
        i
        for i, line in enumerate(lines)
        if line.startswith("|") and (i == 0 or not lines[i - 1].startswith("|"))
    ]
    found = []
    for start in starts:
        end = start
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        after = end
        while after < len(lines) and not lines[after].startswith(("|", "#", "```")):
            after += 1
        found.append((start + 1, "\n".join(lines[start:end]), " ".join(lines[end:after])))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_table_of_results_names_command_machine_versions_and_date(page):
    missing = []
    for line, table, after in tables(page.read_text(encoding="utf-8")):
        if len(MEASURED.findall(table)) < NUMBERS:
            continue
        _, found, source = after.partition(SOURCE)
        source = source.split("  ")[0]
        parts = {
            "a line that begins with 'Source: '": bool(found),
            "a command in backticks, or a reference": bool(COMMAND.search(source)),
            "a machine": bool(re.search(r"\bcores?\b|GPU|H[12]00|published|closed form", source)),
            "versions": bool(re.search(r"\b[A-Za-z]+ \d+(\.\d+)+|published|closed form", source)),
            "a date": bool(re.search(r"20\d\d-\d\d-\d\d|published|closed form", source)),
        }
        lacking = [what for what, there in parts.items() if not there]
        if lacking:
            missing.append(f"{page.name}:{line} lacks {', '.join(lacking)}")
    assert not missing, "\n".join(missing)
