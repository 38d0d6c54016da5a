"""One builder for every page: text, tables and figures in a file of its own, dark and light.

A page needs no network: styles, scripts and the drawing library are in it, each once. Its scripts
and styles are the files ``page*.js`` and ``page.css`` beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from nastool.errors import MissingDependencyError
from nastool.plots.axes import Axis
from nastool.space import SearchSpace

if TYPE_CHECKING:
    import plotly.graph_objects as go

SCRIPTS = ("page.js", "page_tables.js", "page_shapes.js", "page_objectives.js", "page_start.js")
"""In the order in which they are run, as one script."""

_ABOVE = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}
"""Where a legend stands that no figure has placed."""


@dataclass(frozen=True)
class Text:
    """Paragraphs under a heading.

    Args:
        paragraphs: One after the other.
        heading: Its heading; empty for none.
        command: A line to copy into a shell; empty for none.
    """

    paragraphs: tuple[str, ...] = ()
    heading: str = ""
    command: str = ""

    def html(self) -> str:
        """The text as HTML."""
        command = f"<pre><code>{escape(self.command)}</code></pre>" if self.command else ""
        return _heading(self.heading) + _paragraphs(self.paragraphs, "") + command


@dataclass(frozen=True)
class Head:
    """The head of a page.

    Args:
        title: Of the page and of the browser's window.
        facts: What to say about it, by label.
        warnings: What must not be overlooked, each with what it is called.
        sources: Where every number comes from, a line each.
    """

    title: str
    facts: Mapping[str, str | float] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()
    sources: tuple[str, ...] = ()

    def html(self) -> str:
        """The head as HTML."""
        facts = "".join(
            f"<span><b>{escape(label)}</b> {escape(_fact(value))}</span>"
            for label, value in self.facts.items()
        )
        warnings = "".join(
            f'<p class="proxy">{f"<b>{escape(name)}</b> " if name else ""}{escape(text)}</p>'
            for name, text in self.warnings
        )
        return (
            f"<h1>{escape(self.title)}</h1>\n"
            + (f'<div class="facts">{facts}</div>\n' if facts else "")
            + warnings
            + _paragraphs(self.sources, "sources")
        )


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: What is shown.
        value: What it is sorted by and written to a CSV file as; the text itself by default.
        note: Small, below the text.
        mark: Small, behind the text.
        colour: Of a square before the text; empty for none.
    """

    text: str
    value: str | float | None = None
    note: str = ""
    mark: str = ""
    colour: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it is no number."""
        return self.value is None or isinstance(self.value, str)

    def html(self, attributes: str = "") -> str:
        """The cell as HTML.

        Args:
            attributes: Of its column, each after a space.
        """
        value = self.text if self.value is None else self.value
        known = escape(value if isinstance(value, str) else repr(value))
        square = f'<i style="background:{self.colour}"></i>' if self.colour else ""
        # Lists of settings break where their parts end; numbers do not.
        text = escape(self.text).replace(",", ",<wbr>" if self.is_text else ",")
        mark = f" <sup>{escape(self.mark)}</sup>" if self.mark else ""
        note = f"<small>{escape(self.note)}</small>" if self.note else ""
        return f'<td{attributes} data-value="{known}">{square}{text}{mark}{note}</td>'


@dataclass(frozen=True)
class Table:
    """A table that is sorted by a click on a heading and saved as CSV.

    Args:
        name: Its id, and the name of its file.
        columns: Headings.
        rows: A cell for each column.
        heading: Above it.
        notes: How to read it, below it.
        members: Whether its rows are the shapes of the page, in their order.
        words: Whether its cells are words rather than numbers, which wrap and stand left.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heading: str = ""
    notes: tuple[str, ...] = ()
    members: bool = False
    words: bool = False

    def html(self) -> str:
        """The table as HTML."""
        # Words stand left, as they are read.
        kinds = [
            ' class="text"' * all(row[place].is_text for row in self.rows)
            for place in range(len(self.columns))
        ]
        head = "".join(
            f'<th scope="col"{kind}><button>{escape(c)}</button></th>'
            for c, kind in zip(self.columns, kinds, strict=True)
        )
        rows = "".join(
            (f'<tr data-member="{i}">' if self.members else "<tr>")
            + "".join(map(Cell.html, row, kinds))
            + "</tr>"
            for i, row in enumerate(self.rows)
        )
        style = "members" if self.members else "words" if self.words else "numbers"
        label = escape(self.heading or self.name)
        return (
            f'<div class="bar">{_heading(self.heading)}'
            f'<button class="save" data-table="{self.name}">CSV</button></div>'
            f'<div class="scroll {style}" tabindex="0" role="region" aria-label="{label}">'
            f'<table id="{self.name}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>" + _paragraphs(self.notes, "sources")
        )


@dataclass(frozen=True, eq=False)
class Panel:
    """A figure of a page.

    Args:
        name: Its id.
        figure: Drawn; its heading becomes the page's, for text there wraps.
        notes: What to say above it; by default the figure's own second line.
        columns: What a click on each column of a heat map selects.
        choice: Metrics that its axes can show, by name, where there are more than two.
        brushes: Whether its ranges hide rows of the table of shapes.
        small: Whether two such figures stand side by side where there is room.
    """

    name: str
    figure: go.Figure
    notes: tuple[str, ...] | None = None
    columns: tuple[dict[str, Any], ...] = ()
    choice: tuple[Axis, ...] = ()
    brushes: bool = False
    small: bool = False

    def html(self) -> str:
        """The place of the figure as HTML; scripts draw it."""
        title = self.figure.layout.title
        notes = self.notes
        if notes is None:
            notes = (title.subtitle.text,) if title.subtitle.text else ()
        label = escape(title.text or self.name)
        tools = f'<div class="tools" id="{self.name}-tools"></div>'
        return (
            f'<section class="panel{" small" if self.small else ""}">'
            + _heading(title.text or "")
            + _paragraphs(notes, "subtitle")
            + (tools if self.choice or self.brushes else "")
            + f'<div class="figure" id="{self.name}" role="figure" aria-label="{label}"></div>'
            "</section>"
        )


@dataclass(frozen=True)
class Member:
    """A shape of a page: a row of its table, and what a click on it shows.

    Args:
        study: Name of its study; empty where there is one.
        text: The shape as text.
        genotype: Indices of the choices.
        values: Metrics in base units.
        formatted: The same for people.
        lines: What is said of it.
    """

    study: str
    text: str
    genotype: tuple[int, ...]
    values: tuple[float, ...]
    formatted: tuple[str, ...]
    lines: tuple[str, ...]


Section = Text | Head | Table | Panel


def document(
    head: Head,
    sections: Sequence[Section],
    space: SearchSpace | None = None,
    members: Sequence[Member] = (),
    refresh: float = 0,
) -> str:
    """A whole page as HTML.

    Args:
        head: Its head.
        sections: From top to bottom.
        space: Of the shapes that can be selected; None for a page without shapes.
        members: The rows of its table of shapes.
        refresh: Seconds after which the page looks whether it has been written anew; 0 for never.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    panels = [section for section in sections if isinstance(section, Panel)]
    content = {
        "figures": [_drawn(panel) for panel in panels],
        "genes": [{"name": g.name, "choices": list(g.choices)} for g in space.genes]
        if space
        else [],
        "members": [
            {
                "text": row.text,
                "genotype": row.genotype,
                "lines": [*row.lines, *([f"found by {row.study}"] if row.study else [])],
            }
            for row in members
        ],
        "columns": {panel.name: panel.columns for panel in panels if panel.columns},
        "refresh": refresh,
    }
    main = "\n".join(("<main>", *_flow(sections), "</main>"))
    if space:
        aside = '<aside id="shape" aria-label="Selected shape" aria-live="polite"></aside>'
        main = f'<div class="beside">{main}\n{aside}</div>'
    return _page(head, main, content)


def _flow(sections: Iterable[Section]) -> Iterable[str]:
    """The sections' HTML; small panels that follow each other share a grid."""
    open_grid = False
    for section in sections:
        small = isinstance(section, Panel) and section.small
        if small != open_grid:
            yield '<div class="grid">' if small else "</div>"
            open_grid = small
        yield section.html()
    if open_grid:
        yield "</div>"


def _drawn(panel: Panel) -> dict[str, Any]:
    figure = json.loads(panel.figure.to_json())
    # Headings are the page's, and so are colours: text wraps there, colours follow its theme.
    layout = {k: v for k, v in figure["layout"].items() if k not in ("title", "template")}
    # Beside a figure there is no room in a narrow window.
    layout.setdefault("legend", _ABOVE)
    return {
        "id": panel.name,
        "figure": {"data": figure["data"], "layout": layout},
        "choice": [
            {"name": axis.name, "label": axis.label, "layout": axis.ticks} for axis in panel.choice
        ],
        "brushes": panel.brushes,
    }


def _heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>\n" if text else ""


def _paragraphs(texts: Iterable[str], style: str) -> str:
    """Each line of each text as a paragraph; ``<br>`` of a figure's text is a line's end, too."""
    lines = [line for text in texts for line in text.replace("<br>", "\n").splitlines() if line]
    kind = f' class="{style}"' if style else ""
    return f"<div{kind}>{''.join(f'<p>{escape(line)}</p>' for line in lines)}</div>" * bool(lines)


def _fact(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if float(value).is_integer() else f"{value:,.2f}"


def _page(head: Head, body: str, content: dict[str, Any]) -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError("figures need plotly: pip install plotly") from error
    # No sign that could end the script element survives in the data.
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    # Not as files: the package may lie in an archive.
    here = resources.files("nastool.plots")
    style, early, *scripts = (
        here.joinpath(name).read_text(encoding="utf-8")
        for name in ("page.css", "page_theme.js", *SCRIPTS)
    )
    library = f"<script>{get_plotlyjs()}</script>\n" if content["figures"] else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(head.title)}</title>\n<style>\n{style}</style>\n"
        f"<script>\n{early}</script>\n</head>\n<body>\n"
        '<header><button id="theme" type="button"></button></header>\n'
        f"{head.html()}\n{body}\n"
        f'<script type="application/json" id="page-data">{data}</script>\n'
        f"{library}<script>\n{''.join(scripts)}</script>\n</body>\n</html>"
    )
