"""Named families of shapes: the published ones, the templates and the cigar family.

The cigar algorithm (SuperShaper, section 4): build a reference shape, scale every width linearly,
round down to the grid in the layers that matter least and up in the others. Families here hold
every shape that some scale gives, so any parameter count finds its nearest member.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nastool.space import Genotypes

if TYPE_CHECKING:
    from nastool_supershaper.space import SuperShaperSpace

PUBLISHED_WIDTHS = (120, 240, 360, 480, 540, 600, 768)
"""Widths of the paper's space (SuperShaper, section 3.1)."""

TEMPLATES = (
    "lower_triangle",
    "upper_triangle",
    "rectangle",
    "diamond",
    "inverted_diamond",
    "bottle",
    "inverted_bottle",
)
"""The hand-made shapes that the paper compares (appendix, table 6)."""

CIGAR_REFERENCE = "cigar_61"
"""The published member at 60-65M, from which scaling gives six of the nine (docs/heuristics.md)."""

_ROUNDED_DOWN = (2, 3, 4)
"""Early middle layers of the twelve. The paper says 2-5, but no published member rounds layer 5
down: with 2-5 its own reference reproduces three of the nine instead of six."""

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class PublishedShape:
    """A shape printed in the paper.

    Args:
        source: Table or figure.
        name: Identifier.
        params: Parameter count in millions, as printed.
        perplexity: Perplexity of the shape sliced from the supernet; None where not printed.
        widths: Shape (12,).
    """

    source: str
    name: str
    params: float
    perplexity: float | None
    widths: tuple[int, ...]


@lru_cache(maxsize=1)
def published_shapes() -> Mapping[str, PublishedShape]:
    """The ten shapes of table 6 and the nine of the cigar family, by name."""
    return {
        row["name"]: PublishedShape(
            row["source"],
            row["name"],
            float(row["params_m"]),
            float(row["perplexity_direct"]) if row["perplexity_direct"] else None,
            tuple(int(row[f"layer_{i}"]) for i in range(1, 13)),
        )
        for row in _published_rows()
    }


def published_scratch() -> dict[str, float]:
    """Perplexity of the printed shapes trained from scratch (table 6), by name."""
    known = {row["name"]: row["perplexity_scratch"] for row in _published_rows()}
    return {name: float(value) for name, value in known.items() if value}


def _published_rows() -> Iterator[dict[str, str]]:
    # Not as a file: the package may lie in an archive.
    text = resources.files(__package__).joinpath("published_shapes.csv").read_text("utf-8")
    return csv.DictReader(x for x in text.splitlines() if not x.startswith("#"))


def families(space: SuperShaperSpace) -> dict[str, Genotypes]:
    """Every named family of a space.

    Returns:
        ``cigar`` by growing size and ``templates`` for any space; ``published`` (table 6) and
        ``published_cigar`` where there are twelve layers of seven widths, by genotype.
    """
    found = {"cigar": cigar_family(space), "templates": templates(space)}
    if space.layers == 12 and len(space.widths) == len(PUBLISHED_WIDTHS):
        for key, source in (("published", "table 6"), ("published_cigar", "figure 6")):
            names = [s.name for s in published_shapes().values() if s.source == source]
            found[key] = np.stack([_published_indices(name) for name in names])
    return found


def templates(space: SuperShaperSpace) -> Genotypes:
    """The templates of the paper, in the order of `TEMPLATES`.

    The published profiles are resampled to the space's depth and number of widths; on twelve
    layers of seven widths they are the published shapes.

    Returns:
        Shape (7, layers).
    """
    top = len(PUBLISHED_WIDTHS) - 1
    profiles = np.stack([_published_indices(name) for name in TEMPLATES]) / top
    resampled = np.stack([np.interp(_depths(space.layers), _depths(12), row) for row in profiles])
    scaled = resampled * (len(space.widths) - 1)
    return np.floor(scaled + 0.5).astype(np.int64)


def cigar_family(space: SuperShaperSpace) -> Genotypes:
    """Every shape of the cigar algorithm, by growing size, (n, layers)."""
    return scaled_family(space, *cigar_rule(space))


def scaled_family(
    space: SuperShaperSpace, reference: NDArray[np.int64], rounds_down: NDArray[np.bool_]
) -> Genotypes:
    """Scale a reference shape linearly and round it to the grid, for every scale.

    Args:
        space: Gives the grid.
        reference: Genotype, shape (layers,).
        rounds_down: Layers that round down to the next width, shape (layers,); the others up.

    Returns:
        The distinct shapes by growing scale, (n, layers).
    """
    widths = np.array(space.widths, dtype=np.float64)
    base = widths[reference]
    # Between two scales at which some layer hits the grid, nothing changes.
    hits = np.sort(np.divide.outer(widths, base), axis=None)
    scales = np.sort(np.concatenate([[hits[0] / 2], hits, (hits[1:] + hits[:-1]) / 2]))
    scaled = scales[:, None] * base
    down = np.searchsorted(widths, scaled * (1 + _TOLERANCE), side="right") - 1
    up = np.searchsorted(widths, scaled * (1 - _TOLERANCE), side="left")
    shapes = np.where(rounds_down, down, up).clip(0, len(widths) - 1)
    changed = np.append(True, np.any(shapes[1:] != shapes[:-1], axis=1))
    return shapes[changed].astype(np.int64)


def _published_indices(name: str) -> NDArray[np.int64]:
    indices = {width: i for i, width in enumerate(PUBLISHED_WIDTHS)}
    return np.array([indices[w] for w in published_shapes()[name].widths], dtype=np.int64)


def _depths(layers: int) -> NDArray[np.float64]:
    return np.linspace(0.0, 1.0, layers)


def cigar_rule(space: SuperShaperSpace) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The published reference and rounding, resampled to a space's depth and hidden size."""
    nearest = np.floor(_depths(space.layers) * 11 + 0.5).astype(np.int64)
    published = np.array(published_shapes()[CIGAR_REFERENCE].widths) / PUBLISHED_WIDTHS[-1]
    wanted = published[nearest] * space.hidden
    reference = np.abs(np.subtract.outer(wanted, np.array(space.widths))).argmin(axis=1)
    return reference.astype(np.int64), np.isin(nearest + 1, _ROUNDED_DOWN)
