"""The page of all items, and a CSV file for each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nastool.files.writing import write_whole, writing
from nastool.plots.page import Cell, Head, Section, Table, document
from nastool_supershaper.paper import devices, searching, training, tuning
from nastool_supershaper.paper.items import TITLES, Item
from nastool_supershaper.paper.sources import Sources

PAGE = "index.html"

MAKERS: Mapping[str, Callable[[Sources], Item]] = {
    "2": training.trajectories,
    "3a": lambda sources: training.diagonals(sources, "3a"),
    "3b": training.proxy,
    "3c": training.inherited,
    "4": searching.fronts,
    "5": devices.latencies,
    "6": searching.cigars,
    "7": lambda sources: training.diagonals(sources, "7"),
    "8": devices.listens,
    "9": devices.agreement,
    "table1": tuning.table1,
    "table4": tuning.table4,
    "table5": tuning.table5,
    "table6": searching.templates,
    "table7": searching.distances,
    "table8": tuning.table8,
}
"""What makes each item, by its key."""


def make_items(
    sources: Sources, keys: Sequence[str], on_item: Callable[[Item, float], None] | None = None
) -> list[Item]:
    """Make items.

    Args:
        sources: What there is.
        keys: Which ones.
        on_item: Called with each and the seconds that it took.
    """
    found = []
    for key in keys:
        start = time.perf_counter()
        item = MAKERS[key](sources)
        if on_item:
            on_item(item, time.perf_counter() - start)
        found.append(item)
    return found


def write_paper(sources: Sources, items: Sequence[Item], folder: Path) -> Path:
    """Write the page and the CSV files.

    Args:
        sources: What the items were made of.
        items: Made by `make_items`.
        folder: Made where it is missing; files of other names in it stay.

    Returns:
        The page.

    Raises:
        WriteError: It cannot be written.
        MissingDependencyError: plotly is not installed.
    """
    text = paper_page(sources, items)
    make_folder(folder)
    for item in items:
        write_whole(folder / item.file, item.csv())
    write_whole(folder / PAGE, text)
    return folder / PAGE


def make_folder(folder: Path) -> None:
    """Make the folder that a page is to be written into.

    Raises:
        WriteError: It cannot be made, or is a file.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def paper_page(sources: Sources, items: Sequence[Item]) -> str:
    """The page as HTML.

    Args:
        sources: What the items were made of.
        items: Made by `make_items`.
    """
    count = Counter(item.status.value for item in items)
    facts: dict[str, str | float] = {
        "space": sources.space.name,
        "measured shapes": len(sources.measured) if sources.measured else "none",
        "devices": ", ".join(sources.devices) or "none",
        "runs": ", ".join(run.name for run in sources.runs) or "none",
        "fine-tunings": len(sources.reports) or "none",
        "seed": sources.seed,
        "evaluations a search": sources.budget or searching.PAPER_BUDGET,
        **count,
    }
    known = [f"perplexity: {sources.quality.provenance}"] if sources.quality else []
    known += [f"latency[{n}]: {device.provenance}" for n, device in sources.devices.items()]
    # What the proxy says must not be overlooked, as on every page.
    proxy = sources.quality.provenance.proxy if sources.quality else ""
    warnings = (("Proxy.", f"perplexity: {proxy}"),) if proxy else ()
    head = Head(
        f"SuperShaper, item by item: {Path(sources.name).name}", facts, warnings, tuple(known)
    )
    overview = Table(
        "overview",
        ("item", "what", "status", "finding", "file"),
        tuple(
            (
                Cell(item.label, str(place).zfill(2)),
                Cell(TITLES[item.key]),
                Cell(item.status.value),
                Cell(item.findings[0] if item.findings else ""),
                # One word, which does not break at its hyphens.
                Cell(item.file.replace("-", "\u2011"), item.file),
            )
            for place, item in enumerate(items)
        ),
        "All items",
        notes=(
            (
                "measured: every number of it was measured; predicted: some come from a predictor; "
                "missing: it needs what is not there, and says which command makes it."
            ),
        ),
        words=True,
    )
    sections: list[Section] = [overview]
    for item in items:
        sections += item.sections()
    selects = any(item.key in ("4", "5", "6") and item.panels for item in items)
    return document(head, sections, sources.space if selects else None)
