"""Super pre-training: trajectories, what bottlenecks learn, and what slicing is worth."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, read_json_object
from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Panel
from nastool.predictors.evaluation import spearman
from nastool_supernets.training.config import RANDOM_START
from nastool_supershaper.paper.items import Item, Status, Value, missing, published, published_notes
from nastool_supershaper.paper.sources import Sources

_RESAMPLES = 1_000
"""Draws of a bootstrap interval."""

_FEW = 3
"""Shapes below which a correlation means nothing."""


def trajectories(sources: Sources) -> Item:
    """Loss and perplexity over training (figure 2); two runs compare their sampling rules."""
    from nastool_supernets.training.trajectories import draw_curves, draw_losses, read_trajectories

    runs = [run for run in sources.runs if not _is_one_shape(run)]
    if not runs:
        return missing(
            "2",
            f"nastool pretrain --supernet {sources.weights} --text TEXT --preset short --output "
            f"sandwich\nnastool pretrain --supernet {sources.weights} --text TEXT --preset short "
            f"--rule random --output random\nnastool paper {sources.argument} --to DIR "
            "--run sandwich --run random",
            "about 10 minutes a run of a small net on two cores",
            ("run", "subnet", "quantity", "tokens", "value"),
        )
    data = read_trajectories(runs)
    panels = [Panel("fig2a", _titled(draw_losses(data), "(a) Training loss"), small=True)]
    kinds = (("b", "smallest"), ("c", "random"), ("d", "largest"))
    for letter, role in kinds:
        curves = [c for c in data.perplexities if c.name.startswith(role)]
        if curves:
            title = f"({letter}) Perplexity, {role}"
            drawn = draw_curves(curves, title, "perplexity", logarithmic=True)
            panels.append(Panel(f"fig2{letter}", drawn, small=True))
    findings = []
    ends = {(c.run, c.name): float(c.values[-1]) for c in data.perplexities}
    names = list(dict.fromkeys(c.run for c in data.perplexities))
    for run in names:
        listed = ", ".join(f"{n} {v:,.1f}" for (r, n), v in ends.items() if r == run)
        findings.append(f"{run}: perplexity at the end: {listed}.")
    for one, two in itertools.pairwise(names):
        for role in ("largest", "smallest"):
            if (one, role) in ends and (two, role) in ends:
                ratio = ends[two, role] / ends[one, role]
                findings.append(f"The {role} ends {ratio:.2f} times as high in {two} as in {one}.")
    rows: list[tuple[Value, ...]] = [
        (c.run, c.name, what, float(t), float(v))
        for what, part in (("loss", data.losses), ("perplexity", data.perplexities))
        for c in part
        for t, v in zip(c.tokens, c.values, strict=True)
    ]
    note = (
        ()
        if len(names) > 1
        else ("one run: a second one, --rule random, would stand beside it: --run",)
    )
    columns = ("run", "subnet", "quantity", "tokens", "value")
    notes = (*note, *published_notes("2"))
    item = Item("2", Status.MEASURED, tuple(findings), columns, tuple(rows), tuple(panels))
    return replace(item, notes=notes)


def _titled(figure: Any, title: str) -> Any:
    figure.update_layout(title={"text": title})
    return figure


def diagonals(sources: Sources, key: str) -> Item:
    """Softmax of the bottlenecks' principal diagonals: of the first layer (3a), or all (7)."""
    columns = ("layer", "bottleneck", "entry", "softmax")
    if sources.net is None:
        return missing(
            key,
            f"nastool paper NET --to DIR --only {key}",
            "seconds, with the weights of the net",
            columns,
            reason="Only measurements of this net are here, no weights.",
        )
    values = _softmaxes(sources.net)
    layers = len(values["input"])
    shown = 1 if key == "3a" else layers
    widths = sources.space.widths
    findings = []
    chance = (len(widths) - 1) / (widths[-1] - 1)
    for side, of in values.items():
        explained = [_banded(row, widths) for row in of[:shown]]
        listed = f"{min(explained):.0%} to {max(explained):.0%}" if shown > 1 else ""
        findings.append(
            f"The bands between {'/'.join(map(str, widths))} explain "
            f"{listed or f'{explained[0]:.0%}'} of the variance of the {side} diagonal"
            f"{'s' * (shown > 1)}; of entries in any order it would be {chance:.1%}."
        )
    panels = _lines(values, widths) if key == "3a" else _heat(values, widths)
    rows: list[tuple[Value, ...]] = [
        (layer, side, entry, float(f"{value:.5g}"))
        for side, of in values.items()
        for layer, row in enumerate(of[:shown], 1)
        for entry, value in enumerate(row, 1)
    ]
    item = Item(key, Status.MEASURED, tuple(findings), columns, tuple(rows), panels)
    return replace(item, notes=published_notes(key))


def _softmaxes(net: Path) -> dict[str, Floats]:
    """Of each side, (L, D)."""
    from nastool_supernets.saved import load_supernet
    from nastool_supershaper.layers import SuperShaperLayer

    layers = [m for m in load_supernet(net).model.modules() if isinstance(m, SuperShaperLayer)]
    found = {}
    for side in ("input", "output"):
        diagonal = np.array(
            [
                getattr(layer, f"{side}_bottleneck").weight.detach().diagonal().double().numpy()
                for layer in layers
            ]
        )
        powers = np.exp(diagonal - diagonal.max(axis=1, keepdims=True))
        found[side] = powers / powers.sum(axis=1, keepdims=True)
    return found


def _banded(row: Floats, widths: tuple[int, ...]) -> float:
    """Share of the variance between bands of neighbouring widths."""
    total = float(row.var())
    if total == 0:
        return 0.0
    bands = np.searchsorted(widths, np.arange(len(row)), side="right")
    means = np.array([row[bands == band].mean() for band in bands])
    return float(means.var()) / total


def _lines(values: Mapping[str, Floats], widths: tuple[int, ...]) -> tuple[Panel, ...]:
    figure = plotly().Figure()
    for colour, (side, of) in zip(PALETTE, values.items(), strict=False):
        figure.add_scatter(
            name=side, y=of[0].tolist(), mode="lines", line={"color": colour, "width": 1}
        )
    for width in widths[:-1]:
        figure.add_vline(width, line_dash="dash", line_width=1, line_color="#94a3b8")
    figure.update_layout(
        title={"text": ""},
        xaxis={"title": {"text": "entry of the diagonal"}},
        yaxis={"title": {"text": "softmax"}, "tickformat": "~g"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    return (Panel("fig3a", figure),)


def _heat(values: Mapping[str, Floats], widths: tuple[int, ...]) -> tuple[Panel, ...]:
    panels = []
    for side, of in values.items():
        figure = plotly().Figure()
        # Of each layer relative to an even share: layers differ in level.
        figure.add_heatmap(
            z=[[float(f"{v:.4g}") for v in row] for row in of * of.shape[1]],
            y=[f"layer {i}" for i in range(1, len(of) + 1)],
            colorscale="Viridis",
            zmin=float(np.quantile(of * of.shape[1], 0.01)),
            zmax=float(np.quantile(of * of.shape[1], 0.99)),
            colorbar={"title": {"text": "× even"}, "thickness": 12},
            hovertemplate="%{y}, entry %{x}: %{z:.4g} times an even share<extra></extra>",
        )
        for width in widths[:-1]:
            figure.add_vline(width - 0.5, line_dash="dot", line_width=1, line_color="#ffffff")
        figure.update_layout(
            title={"text": f"{side.capitalize()} bottlenecks"},
            xaxis={"title": {"text": "entry of the diagonal"}, "showgrid": False},
            yaxis={"showgrid": False},
            template=TEMPLATE,
        )
        panels.append(Panel(f"fig7-{side}", figure, small=True))
    return tuple(panels)


def _is_one_shape(run: Path) -> bool:
    path = run / "config.json"
    return is_file(path) and "shape" in read_json_object(path)


def _is_from_scratch(run: Path) -> bool:
    """Whether a run trained one shape from random weights and without a teacher."""
    if not _is_one_shape(run) or not is_file(run / "run.json"):
        return False
    origin = read_json_object(run / "run.json").get("origin")
    return (
        isinstance(origin, dict)
        and origin.get("start") == RANDOM_START
        and ("teacher" not in origin)
    )


def _scratch(sources: Sources) -> dict[tuple[int, ...], float]:
    """Perplexity of shapes trained from random weights, by genotype."""
    from nastool_supernets.training.trajectories import read_trajectories

    space, found = sources.space, dict[tuple[int, ...], float]()
    for run in filter(_is_from_scratch, sources.runs):
        shape = "-".join(map(str, read_json_object(run / "config.json")["shape"]))
        curves = read_trajectories([run]).perplexities
        if curves:
            genotype = tuple(space.parse(shape)[0].tolist())
            # Of several runs of a shape the best one says how good it can be.
            best = float(min(curve.values[-1] for curve in curves))
            found[genotype] = min(best, found.get(genotype, np.inf))
    for report in sources.reports:
        for entry in report.get("pretraining", ()):
            if entry["mode"] == "scratch" and entry["perplexities"]:
                genotype = tuple(space.parse(entry["shape"])[0].tolist())
                found[genotype] = float(min(entry["perplexities"]))
    return found


def scratch_values(sources: Sources, genotypes: Any) -> Floats:
    """G_scratch (n,) of shapes (n, L); NaN where nobody trained one."""
    known = _scratch(sources)
    return np.array([known.get(tuple(g.tolist()), np.nan) for g in genotypes])


def proxy(sources: Sources) -> Item:
    """G_direct against G_scratch, with the interval of their correlation (figure 3b)."""
    columns = ("shape", "direct", "scratch", "published_direct", "published_scratch")
    printed = _printed(sources)
    known = _scratch(sources)
    genotypes = np.array(sorted(known), np.int64).reshape(-1, sources.space.layers)
    direct = sources.direct_values(genotypes)
    scratch = np.array([known[tuple(g)] for g in genotypes.tolist()])
    both = np.isfinite(direct)
    ours: list[tuple[Value, ...]] = [
        (sources.space.format(g), float(d), float(s), None, None)
        for g, d, s in zip(genotypes[both], direct[both], scratch[both], strict=True)
    ]
    said = []
    if printed:
        values = np.array([row[3:] for row in printed], np.float64)
        rho, low, high = correlation(values[:, 0], values[:, 1], sources.seed)
        said.append(
            f"The {len(printed)} shapes that the paper prints have Spearman {rho:.3f} "
            f"({low:.2f} to {high:.2f} holds 95% of resamples)."
        )
    if both.sum() < _FEW:
        if len(known):
            said.insert(
                0,
                f"{len(known)} shapes are trained from scratch, and {both.sum()} of them are also "
                f"measured as slices of the supernet; a correlation needs {_FEW}.",
            )
        item = missing(
            "3b",
            f"nastool pretrain --shape SHAPE --size {sources.weights}/config.json --corpus "
            f"{sources.weights}/corpus --output scratch/1\nnastool measure {sources.weights} "
            f"--shapes 0 --shapes-from SHAPES.csv --output {sources.weights}/shapes.csv\n"
            f"nastool paper {sources.argument} --to DIR --run scratch",
            f"minutes to hours a shape, at least {_FEW} shapes; measuring takes seconds",
            columns,
            (*ours, *printed),
        )
        return replace(item, findings=tuple(said))
    rho, low, high = correlation(direct[both], scratch[both], sources.seed)
    said.insert(
        0,
        f"Over {both.sum()} shapes, perplexity sliced from the supernet ranks perplexity trained "
        f"from scratch with Spearman {rho:.3f} ({low:.2f} to {high:.2f} holds 95% of resamples); "
        f"published {published()['3b']['spearman']}.",
    )
    figure = plotly().Figure()
    figure.add_scatter(
        x=direct[both].tolist(),
        y=scratch[both].tolist(),
        text=[str(row[0]) for row in ours],
        mode="markers",
        marker={"size": 8, "color": PALETTE[0]},
        hovertemplate="<b>%{text}</b><br>direct %{x:.4g}<br>scratch %{y:.4g}<extra></extra>",
    )
    figure.update_layout(
        title={"text": ""},
        xaxis={"title": {"text": "sliced (measured)"}},
        yaxis={"title": {"text": "from scratch (measured)"}},
        template=TEMPLATE,
    )
    rows, panels = (*ours, *printed), (Panel("fig3b", figure),)
    item = Item("3b", Status.MEASURED, tuple(said), columns, rows, panels)
    return replace(item, notes=published_notes("3b"))


def _printed(sources: Sources) -> list[tuple[Value, ...]]:
    """The ten shapes of which the paper prints both perplexities."""
    from nastool_supershaper.families import published_scratch, published_shapes

    del sources
    scratch = published_scratch()
    return [
        ("-".join(map(str, s.widths)), None, None, s.perplexity, scratch[name])
        for name, s in published_shapes().items()
        if name in scratch
    ]


def correlation(one: Floats, two: Floats, seed: int) -> tuple[float, float, float]:
    """Spearman's rank correlation with the interval that holds 95% of bootstrap resamples."""
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(len(one), size=len(one))
        value = spearman(one[rows], two[rows])
        if np.isfinite(value):
            draws.append(value)
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    return spearman(one, two), float(low), float(high)


def inherited(sources: Sources) -> Item:
    """Steps saved and score gained by weights of the supernet (figure 3c)."""
    columns = ("shape", "params", "steps_partial", "steps_scratch", "saved_times", "gain")
    steps: dict[str, dict[str, float]] = {}
    gains: dict[str, float] = {}
    for report in sources.reports:
        for entry in report.get("pretraining", ()):
            if entry.get("steps_to_target"):
                steps.setdefault(entry["shape"], {})[entry["mode"]] = entry["steps_to_target"]
        for entry in report.get("gains", ()):
            if entry["mode"] == "partial":
                gains[entry["shape"]] = entry["gain"]
    both = {s: m for s, m in steps.items() if {"partial", "scratch"} <= set(m)}
    shapes = sorted({*both, *gains}, key=lambda s: _size(sources, s))
    if not shapes:
        return missing(
            "3c",
            f"nastool validate STUDY --supernet {sources.weights} --mode partial --mode scratch "
            f"--text TEXT --tasks sst2 --format json --output validation.json\nnastool paper "
            f"{sources.argument} --to DIR --validation validation.json",
            "minutes to hours a shape",
            columns,
        )
    rows: list[tuple[Value, ...]] = []
    for shape in shapes:
        of = both.get(shape, {})
        saved = of["scratch"] / of["partial"] if of else None
        size = _size(sources, shape)
        rows.append((shape, size, of.get("partial"), of.get("scratch"), saved, gains.get(shape)))
    said = []
    saved_times = [float(row[4]) for row in rows if row[4] is not None]
    low, high = published()["3c"]["savings"]
    if saved_times:
        said.append(
            f"Inherited weights reach the perplexity of training from scratch in "
            f"{min(saved_times):.1f} to {max(saved_times):.1f} times fewer steps "
            f"(published {low} to {high})."
        )
    if gains:
        said.append(
            f"They gain {min(gains.values()):+.1f} to {max(gains.values()):+.1f} points "
            f"(published up to {published()['3c']['gain']:+.0f})."
        )
    figure = plotly().Figure()
    sizes = [float(row[1] or 0) for row in rows]
    figure.add_bar(
        name="times fewer steps",
        x=[row[0] for row in rows],
        y=[row[4] for row in rows],
        marker={"color": PALETTE[0]},
    )
    figure.add_scatter(
        name="points gained",
        x=[row[0] for row in rows],
        y=[row[5] for row in rows],
        yaxis="y2",
        mode="markers",
        marker={"color": PALETTE[4], "size": 9},
    )
    figure.update_layout(
        title={"text": ""},
        xaxis={"title": {"text": f"shapes, {min(sizes) / 1e6:.0f}M to {max(sizes) / 1e6:.0f}M"}},
        yaxis={"title": {"text": "times fewer steps"}},
        yaxis2={"title": {"text": "points gained"}, "overlaying": "y", "side": "right"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        template=TEMPLATE,
    )
    item = Item("3c", Status.MEASURED, tuple(said), columns, tuple(rows), (Panel("fig3c", figure),))
    return replace(item, notes=published_notes("3c"))


def _size(sources: Sources, shape: str) -> float:
    try:
        genotype = sources.space.parse(shape)
    except InvalidInputError as error:
        raise InvalidInputError(f"a fine-tuning report of another space: {error}") from error
    return float(sources.params.evaluate(genotype)[0])
