"""Searching: fronts, cigars, templates, and how far from the best shape how much is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nastool.arrays import Floats
from nastool.constraint import Constraint
from nastool.errors import NastoolError
from nastool.objective import Objective
from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.front import CLOUD, PALETTE
from nastool.plots.page import Panel
from nastool.predictors.evaluation import spearman
from nastool.problem import Problem
from nastool.space import Genotypes
from nastool.study import Study
from nastool_supershaper.families import published_scratch, published_shapes
from nastool_supershaper.paper.items import Item, Status, Value, missing, published, published_notes
from nastool_supershaper.paper.sources import Sources
from nastool_supershaper.paper.training import scratch_values

EVOLUTION = "evolution:paper"
OURS = "pareto"

PAPER_BUDGET = 30_000
"""The paper's: 300 generations of 100."""

_LIMITS = 8
"""Limits of the sweep, from the paper's 40M to 110M or as evenly within another space."""


@dataclass(frozen=True, eq=False)
class Group:
    """Shapes of one origin.

    Args:
        name: What they are.
        genotypes: Shape (n, L).
        params: Shape (n,).
        perplexity: Shape (n,).
        measured: Whether it is measured.
    """

    name: str
    genotypes: Genotypes
    params: Floats
    perplexity: Floats
    measured: bool = False


def need_predictor(sources: Sources, key: str, columns: tuple[str, ...]) -> Item:
    """An item without a predictor of perplexity."""
    return missing(
        key,
        f"nastool measure {sources.weights} --text TEXT --shapes 3000 --output perplexity.csv\n"
        f"nastool fit perplexity.csv --space {sources.in_space} --output perplexity\n"
        f"nastool paper {sources.argument} --to DIR --table perplexity.csv --predictor perplexity",
        "about 10 minutes for a small net on two cores",
        columns,
    )


def limits(sources: Sources) -> list[float]:
    """Limits of the parameter count: the paper's, or as evenly spread over another space."""
    low, high = (sources.space.costs["params"].minimum[0], sources.space.costs["params"].maximum[0])
    paper = np.linspace(40e6, 110e6, _LIMITS)
    if low < paper[0] < high and paper[-1] < high:
        return [float(limit) for limit in paper]
    return [float(limit) for limit in np.linspace(low, high, _LIMITS + 2)[1:-1]]


def evolved(
    sources: Sources, by: Objective, bounds: list[float], low: float = -np.inf
) -> Genotypes:
    """The best shape by the paper's evolution under each limit (k, L); infeasible ones left out."""
    assert sources.quality is not None  # noqa: S101  # callers ask first
    found = []
    for bound in bounds:
        wanted = [Constraint(by.name, "<=", bound)]
        wanted += [Constraint(by.name, ">=", low)] if np.isfinite(low) else []
        others = () if by.name in sources.space.costs else (by,)
        try:
            problem = Problem(sources.space, (sources.quality,), tuple(wanted), others)
            study = Study(problem, EVOLUTION, seed=sources.seed)
            found.append(study.run(sources.budget or PAPER_BUDGET).best().genotypes[0])
        except NastoolError:
            continue
    return np.array(found, np.int64).reshape(-1, sources.space.layers)


def _group(sources: Sources, name: str, genotypes: Genotypes) -> Group:
    params = sources.params.evaluate(genotypes)
    order = np.argsort(params, kind="stable")
    return Group(name, genotypes[order], params[order], sources.predicted_values(genotypes[order]))


def groups(sources: Sources) -> list[Group]:
    """Everything that figure 4 draws."""
    assert sources.quality is not None  # noqa: S101  # callers ask first
    found = []
    if sources.measured is not None and len(sources.measured):
        genotypes = sources.measured_genotypes
        params = sources.params.evaluate(genotypes)
        found.append(Group("measured", genotypes, params, sources.measured.targets, measured=True))
    found.append(_group(sources, EVOLUTION, evolved(sources, sources.params, limits(sources))))
    problem = Problem(sources.space, (sources.quality, sources.params))
    budget = min(sources.budget or PAPER_BUDGET, PAPER_BUDGET)
    front = Study(problem, OURS, seed=sources.seed).run(budget).front().genotypes
    found.append(_group(sources, OURS, front))
    heuristics = sources.space.heuristics
    found.append(_group(sources, "cigars", heuristics["cigar"]))
    if "published_cigar" in heuristics:
        found.append(_group(sources, "published cigars", heuristics["published_cigar"]))
    return found


def fronts(sources: Sources) -> Item:
    """The measured cloud, the paper's evolution, cigars, and our search beside it (figure 4)."""
    columns = ("origin", "shape", "params", "perplexity", "status")
    if sources.quality is None:
        return need_predictor(sources, "4", columns)
    drawn = groups(sources)
    figure = plotly().Figure()
    rows: list[tuple[Value, ...]] = []
    for colour, group in zip(("#94a3b8", *PALETTE), drawn, strict=False):
        kept = np.arange(len(group.params))
        if len(kept) > CLOUD:
            kept = np.sort(np.random.default_rng(0).choice(kept, CLOUD, replace=False))
        texts = [sources.space.format(g) for g in group.genotypes]
        kind = "measured" if group.measured else "predicted"
        lines = [
            f"<br>{group.name}<br>perplexity {v:.4g} ({kind})<br>params {p / 1e6:.2f}M (computed)"
            for v, p in zip(group.perplexity, group.params, strict=True)
        ]
        style = {"size": 3, "opacity": 0.35} if group.measured else {"size": 7}
        figure.add_scatter(
            name=f"{group.name} ({len(texts):,})",
            x=group.params[kept].tolist(),
            y=group.perplexity[kept].tolist(),
            mode="lines+markers" if group.name == OURS else "markers",
            marker={**style, "color": colour},
            line={"width": 1},
            customdata=[[texts[i], lines[i], group.genotypes[i].tolist()] for i in kept],
            hovertemplate="<b>%{customdata[0]}</b>%{customdata[1]}<extra></extra>",
        )
        # Measured tables have files of their own: here what was found, and what was drawn.
        rows += [
            (group.name, texts[i], float(group.params[i]), float(group.perplexity[i]), kind)
            for i in (kept if not group.measured else kept[:0])
        ]
    figure.update_layout(
        title={"text": ""},
        xaxis={"title": {"text": "params"}, "tickformat": "~s"},
        yaxis={"title": {"text": "perplexity"}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hovermode="closest",
        template=TEMPLATE,
    )
    by_name = {group.name: group for group in drawn}
    return Item(
        "4",
        Status.PREDICTED,
        _front_findings(by_name),
        columns,
        tuple(rows),
        (Panel("fig4", figure),),
        notes=published_notes("4"),
    )


def _front_findings(found: dict[str, Group]) -> tuple[str, ...]:
    said = []
    if cloud := found.get("measured"):
        near = np.abs(cloud.params / np.median(cloud.params) - 1) <= 0.01
        low, high = cloud.perplexity[near].min(), cloud.perplexity[near].max()
        said.append(
            f"{len(cloud.params):,} shapes are measured; among the {near.sum():,} within 1% of "
            f"{np.median(cloud.params) / 1e6:.1f}M parameters perplexity goes from {low:,.4g} to "
            f"{high:,.4g}."
        )
    ours, paper = found[OURS], found[EVOLUTION]
    for name, other in found.items():
        if name in ("measured", OURS):
            continue
        gaps = [
            value / ours.perplexity[ours.params <= size].min() - 1
            for size, value in zip(other.params, other.perplexity, strict=True)
            if (ours.params <= size).any()
        ]
        if gaps:
            said.append(
                f"{name}: {np.median(gaps):+.2%} predicted perplexity beside the best that {OURS} "
                f"finds at the same size (less is better; median of {len(gaps)} shapes, "
                f"{min(gaps):+.2%} to {max(gaps):+.2%})."
            )
    if not len(paper.params):
        said.append("The paper's evolution found nothing within its limits.")
    return tuple(said)


def cigars(sources: Sources) -> Item:
    """The cigar family as pictures (figure 6)."""
    columns = ("family", "shape", "params", "perplexity", "status")
    heuristics = sources.space.heuristics
    names = [n for n in ("cigar", "published_cigar") if n in heuristics]
    rows: list[tuple[Value, ...]] = []
    panels = []
    for name in names:
        genotypes = heuristics[name]
        params = sources.params.evaluate(genotypes)
        values = sources.predicted_values(genotypes)
        rows += [
            (
                name.replace("_", " "),
                sources.space.format(g),
                float(p),
                float(v) if np.isfinite(v) else None,
                "predicted" if np.isfinite(v) else "computed",
            )
            for g, p, v in zip(genotypes, params, values, strict=True)
        ]
        figure = plotly().Figure()
        widths = np.array(sources.space.widths)
        figure.add_heatmap(
            z=widths[genotypes].T.tolist(),
            x=[f"{p / 1e6:.1f}M" for p in params],
            y=[f"layer {i}" for i in range(1, sources.space.layers + 1)],
            colorscale="Viridis",
            zmin=int(widths[0]),
            zmax=int(widths[-1]),
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "width"}, "thickness": 12},
            hovertemplate="%{x}, %{y}: %{z}<extra></extra>",
        )
        figure.update_layout(
            title={"text": name.replace("_", " ").capitalize() + "s"},
            xaxis={"title": {"text": "params"}, "showgrid": False, "type": "category"},
            yaxis={"showgrid": False},
            template=TEMPLATE,
        )
        texts = [str(row[1]) for row in rows[-len(genotypes) :]]
        columns_of = tuple(
            {"text": text, "genotype": g.tolist(), "lines": [f"params {p / 1e6:.2f}M (computed)"]}
            for text, g, p in zip(texts, genotypes, params, strict=True)
        )
        panels.append(Panel(f"fig6-{name}", figure, columns=columns_of, small=True))
    sizes = sources.params.evaluate(heuristics["cigar"]) / 1e6
    said = (
        (
            f"The rules give {len(sizes)} cigars of {sizes.min():.1f}M to {sizes.max():.1f}M "
            "parameters in this space."
        ),
    )
    status = Status.PREDICTED if sources.quality else Status.MEASURED
    return Item("6", status, said, columns, tuple(rows), tuple(panels))


def templates(sources: Sources) -> Item:
    """Every template: parameters, sliced and from scratch (table 6)."""
    columns = (
        "shape_name", "shape", "params", "direct", "status", "scratch",
        "published_direct", "published_scratch",
    )  # fmt: skip
    heuristics = sources.space.heuristics
    printed = {n: s for n, s in published_shapes().items() if s.source == "table 6"}
    if "published" in heuristics:
        names, genotypes = list(printed), heuristics["published"]
    else:
        from nastool_supershaper.families import TEMPLATES

        names, genotypes = list(TEMPLATES), heuristics["templates"]
    measured = sources.measured_values(genotypes)
    predicted = sources.predicted_values(genotypes)
    direct = np.where(np.isfinite(measured), measured, predicted)
    scratch = scratch_values(sources, genotypes)
    known_scratch = published_scratch()
    rows: list[tuple[Value, ...]] = []
    for i, name in enumerate(names):
        there = np.isfinite(direct[i])
        kind = "measured" if np.isfinite(measured[i]) else "predicted" if there else "missing"
        rows.append(
            (
                name.replace("_", " "),
                sources.space.format(genotypes[i]),
                float(sources.params.evaluate(genotypes[i : i + 1])[0]),
                float(direct[i]) if there else None,
                kind,
                float(scratch[i]) if np.isfinite(scratch[i]) else None,
                printed[name].perplexity,
                known_scratch.get(name),
            )
        )
    if not np.isfinite(direct).any():
        return missing(
            "table6",
            need_predictor(sources, "table6", columns).command,
            "about 10 minutes for a small net on two cores",
            columns,
            tuple(rows),
        )
    there = np.isfinite(direct)
    theirs = np.array([printed[name].perplexity for name in names], np.float64)[there]
    best, worst = names[int(np.nanargmin(direct))], names[int(np.nanargmax(direct))]
    said = (
        (
            f"{best.replace('_', ' ')} is the best ({np.nanmin(direct):,.4g}), "
            f"{worst.replace('_', ' ')} the worst ({np.nanmax(direct):,.4g})."
        ),
        (
            f"The order agrees with the published one with Spearman "
            f"{spearman(direct[there], theirs):.2f} over {there.sum()} shapes."
        ),
    )
    status = Status.MEASURED if np.isfinite(measured).all() else Status.PREDICTED
    note = ("scratch: trained one by one, see figure 3b",) if not np.isfinite(scratch).any() else ()
    return Item("table6", status, said, columns, tuple(rows), notes=note)


def distances(sources: Sources) -> Item:
    """Difference of shapes against difference in perplexity, by size (table 7)."""
    columns = (
        "range", "optimum", "perplexity", "networks", "spearman", "pearson",
        "published_networks", "published_spearman", "published_pearson",
    )  # fmt: skip
    if sources.quality is None or sources.measured is None:
        return need_predictor(sources, "table7", columns)
    widths = np.array(sources.space.widths, np.float64)
    genotypes, targets = sources.measured_genotypes, sources.measured.targets
    params = sources.params.evaluate(genotypes)
    rows: list[tuple[Value, ...]] = []
    for (low, high), printed in _bands(sources):
        inside = (params >= low) & (params <= high)
        best = evolved(sources, sources.params, [high], low)
        label = f"{low / 1e6:.1f} to {high / 1e6:.1f}M"
        theirs = tuple(printed[3:]) if printed else (None, None, None)
        if not len(best) or inside.sum() < 3:
            rows.append((label, None, None, int(inside.sum()), None, None, *theirs))
            continue
        value = sources.measured_values(best)[0]
        value = float(value if np.isfinite(value) else sources.predicted_values(best)[0])
        apart = np.linalg.norm(widths[genotypes[inside]] - widths[best[0]], axis=1)
        worse = np.abs(targets[inside] - value)
        pearson = float(np.corrcoef(apart, worse)[0, 1]) if np.ptp(apart) else float("nan")
        rho = spearman(apart, worse)
        text = sources.space.format(best[0])
        rows.append((label, text, value, int(inside.sum()), rho, pearson, *theirs))
    known = [(float(r[4]), float(r[5])) for r in rows if r[4] is not None and r[5] is not None]
    if not known:
        item = need_predictor(sources, "table7", columns)
        return missing("table7", item.command, item.takes, columns, tuple(rows))
    rho, pearson = np.array(known).T
    said = (
        f"The farther from the best shape, the worse: Spearman {rho.min():.2f} to {rho.max():.2f}, "
        f"Pearson {pearson.min():.2f} to {pearson.max():.2f} over {len(known)} ranges of sizes "
        "(published 0.47 to 0.80 and 0.52 to 0.83)."
        if rho.min() > 0
        else f"Distance to the best shape tells little here: Spearman {rho.min():.2f} to "
        f"{rho.max():.2f} over {len(known)} ranges of sizes (published 0.47 to 0.80).",
    )
    return Item(
        "table7",
        Status.PREDICTED,
        said,
        columns,
        tuple(rows),
        notes=(
            "distance: ||S1 - S2|| of the widths; the optimum is that of the paper's evolution",
        ),
    )


def _bands(sources: Sources) -> list[tuple[tuple[float, float], list[Value] | None]]:
    """Ranges of parameter counts: the paper's, or as wide relative to size in another space."""
    rows = published()["table7"]["rows"]
    top = sources.space.costs["params"].maximum[0]
    if len(limits(sources)) == _LIMITS and limits(sources)[0] == 40e6:
        return [((low * 1e6, high * 1e6), row) for row in rows for low, high in (row[2],)]
    sizes = sources.params.evaluate(sources.measured_genotypes)
    middles = np.quantile(sizes, np.linspace(0.1, 0.9, 5))
    return [((float(m - top / 100), float(m + top / 100)), None) for m in middles]
