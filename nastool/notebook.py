"""What notebooks show of an object: a few facts, a small picture, a small table.

Plain HTML and SVG without scripts, in the notebook's own colours: it is also there where a notebook
is only read, and costs a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

ROWS = 10
"""Of a table at most."""

CLOUD = 400
"""Points of a cloud at most."""

_WIDTH, _HEIGHT, _LEFT, _FOOT = 420, 220, 52, 34

_STYLE = "text-align:left;padding:1px 12px 1px 0;vertical-align:top"


def shown(title: str, facts: Mapping[str, object], *parts: str) -> str:
    """An object as HTML.

    Args:
        title: What it is.
        facts: What to say about it, by label; empty ones are left out.
        parts: HTML below them.
    """
    rows = "".join(
        f'<tr><th style="{_STYLE}">{escape(label)}</th>'
        f'<td style="{_STYLE}">{escape(str(value))}</td></tr>'
        for label, value in facts.items()
        if value not in ("", None)
    )
    table = f"<table>{rows}</table>" if rows else ""
    return f"<div><b>{escape(title)}</b>{table}{''.join(parts)}</div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """A table as HTML.

    Args:
        columns: Headings.
        rows: Texts.
        note: Below it; empty for none.
    """
    head = "".join(f'<th style="{_STYLE}">{escape(column)}</th>' for column in columns)
    cells = ("".join(f'<td style="{_STYLE}">{escape(cell)}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    below = f"<small>{escape(note)}</small>" if note else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def note(text: str) -> str:
    """A line of small print as HTML."""
    return f"<div><small>{escape(text)}</small></div>"


def scatter(
    front: Sequence[tuple[float, float, str]],
    cloud: Sequence[tuple[float, float]],
    labels: tuple[str, str],
    ends: tuple[tuple[str, str], tuple[str, str]],
) -> str:
    """Points as a picture, those of a front over those of a cloud.

    Args:
        front: Where each lies, and what it says under the mouse; at least one.
        cloud: Where the others lie.
        labels: Of the horizontal and of the vertical axis.
        ends: Lowest and highest value of each axis, for people.
    """
    places = [*((x, y) for x, y, _ in front), *cloud]
    xs, ys = [x for x, _ in places], [y for _, y in places]
    low = (min(xs), min(ys))
    extent = ((max(xs) - low[0]) or 1.0, (max(ys) - low[1]) or 1.0)
    right, bottom = _WIDTH - 12, _HEIGHT - _FOOT

    def place(x: float, y: float) -> tuple[str, str]:
        across = _LEFT + 8 + (right - _LEFT - 16) * (x - low[0]) / extent[0]
        down = bottom - 8 - (bottom - 20) * (y - low[1]) / extent[1]
        return f"{across:.1f}", f"{down:.1f}"

    points = "".join(
        '<circle cx="{}" cy="{}" r="1.5" fill="currentColor" opacity=".2"/>'.format(*place(x, y))
        for x, y in cloud
    )
    for x, y, text in front:
        across, down = place(x, y)
        points += (
            f'<circle cx="{across}" cy="{down}" r="3" fill="#3b82f6">'
            f"<title>{escape(text)}</title></circle>"
        )
    words = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{escape(text)}</text>'
        for x, y, anchor, text, more in (
            (_LEFT + 8, bottom + 13, "start", ends[0][0], ""),
            (right, bottom + 13, "end", ends[0][1], ""),
            ((_LEFT + right) / 2, bottom + 28, "middle", labels[0], ""),
            (_LEFT - 6, bottom - 4, "end", ends[1][0], ""),
            (_LEFT - 6, 16, "end", ends[1][1], ""),
            (0, 0, "middle", labels[1], f' transform="translate(10 {bottom / 2}) rotate(-90)"'),
        )
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="{escape(labels[1])} over {escape(labels[0])}" '
        'style="display:block;max-width:100%;font:11px sans-serif" fill="currentColor">'
        f'<path d="M{_LEFT} 8V{bottom}H{right}" fill="none" stroke="currentColor" opacity=".4"/>'
        f"{points}{words}</svg>"
    )
