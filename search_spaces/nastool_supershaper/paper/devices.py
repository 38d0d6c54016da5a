"""Devices: perplexity over latency, and what predictors listen to and are worth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nastool.plots.axes import TEMPLATE, plotly
from nastool.plots.front import PALETTE
from nastool.plots.page import Panel
from nastool.plots.predictor import draw_agreement, draw_importances
from nastool.predictors.fitting import maker_of
from nastool.predictors.importance import GAIN, importances
from nastool.predictors.selection import HeldOut, held_out
from nastool_supershaper.paper.items import Item, Status, Value, missing, published, published_notes
from nastool_supershaper.paper.searching import evolved, limits, need_predictor
from nastool_supershaper.paper.sources import PERPLEXITY, Sources

_HELD_OUT = 0.3

_INSENSITIVE = 0.9
"""R2 of latency from parameters above which the shape hardly matters."""


def _need_device(sources: Sources, key: str, columns: tuple[str, ...]) -> Item:
    return missing(
        key,
        f"nastool latency measure laptop --space {sources.in_space} --device cpu\n"
        f"nastool paper {sources.argument} --to DIR --device laptop",
        "10 to 30 minutes a device",
        columns,
        reason="No device has been measured for this space.",
    )


def latencies(sources: Sources) -> Item:
    """Shapes searched under parameter limits, under latency limits, and cigars (figure 5)."""
    columns = ("device", "way", "shape", "latency_s", "perplexity", "status")
    if sources.quality is None:
        return need_predictor(sources, "5", columns)
    if not sources.devices:
        return _need_device(sources, "5", columns)
    by_params = evolved(sources, sources.params, limits(sources))
    rows: list[tuple[Value, ...]] = []
    panels, said = [], []
    for name, latency in sources.devices.items():
        seconds = latency.evaluate(by_params)
        ways = {
            "under parameter limits": by_params,
            # The same latencies, so that both ways are asked for the same.
            "under latency limits": evolved(sources, latency, [float(s) for s in seconds]),
            "cigars": sources.space.heuristics["cigar"],
        }
        figure = plotly().Figure()
        for colour, (way, genotypes) in zip(PALETTE, ways.items(), strict=False):
            along = latency.evaluate(genotypes) if len(genotypes) else np.empty(0)
            up = sources.predicted_values(genotypes)
            order = np.argsort(along, kind="stable")
            texts = [sources.space.format(genotypes[i]) for i in order]
            lines = [
                f"<br>{way}<br>perplexity {up[i]:.4g} (predicted)"
                f"<br>latency {1e3 * along[i]:.4g} ms (predicted)"
                for i in order
            ]
            figure.add_scatter(
                name=way,
                x=along[order].tolist(),
                y=up[order].tolist(),
                mode="lines+markers",
                marker={"size": 7, "color": colour},
                line={"width": 1},
                customdata=[
                    [text, line, genotypes[i].tolist()]
                    for text, line, i in zip(texts, lines, order, strict=True)
                ],
                hovertemplate="<b>%{customdata[0]}</b>%{customdata[1]}<extra></extra>",
            )
            rows += [
                (name, way, text, float(along[i]), float(up[i]), "predicted")
                for text, i in zip(texts, order, strict=True)
            ]
        figure.update_layout(
            title={"text": name},
            xaxis={"title": {"text": "latency"}, "tickformat": "~s", "ticksuffix": "s"},
            yaxis={"title": {"text": PERPLEXITY}},
            legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
            template=TEMPLATE,
        )
        panels.append(Panel(f"fig5-{name}", figure, small=True))
        said.append(f"{name}: {sources.studies[name].sensitivity}.")
    said.insert(0, insensitive({n: s.sensitivity.explained for n, s in sources.studies.items()}))
    notes = published_notes("5")
    return Item(
        "5", Status.PREDICTED, tuple(said), columns, tuple(rows), tuple(panels), notes=notes
    )


def insensitive(explained: Mapping[str, float]) -> str:
    """On which devices latency does not tell shapes apart, as a sentence.

    Args:
        explained: R2 of latency on held-out shapes from the parameter count alone, by device.
    """
    shares = {name: f"{name}: {max(0.0, share):.1%}" for name, share in explained.items()}
    flat = [text for name, text in shares.items() if explained[name] > _INSENSITIVE]
    others = [text for name, text in shares.items() if explained[name] <= _INSENSITIVE]
    if not flat:
        return f"Latency depends on shape; parameters explain of it on {', '.join(others)}."
    rest = f"; not on {', '.join(others)}" if others else ""
    return f"Latency is insensitive to shape on {', '.join(flat)} explained by parameters{rest}."


def matters(what: str, shares: Mapping[str, float], kind: str, layers: int) -> str:
    """What a predictor listens to most, as a sentence.

    Args:
        what: It predicts.
        shares: Importance by feature.
        kind: Of the importance.
        layers: Of the space.
    """
    first, second = sorted(shares.items(), key=lambda pair: -pair[1])[:2]
    numbers = f"{first[1]:.2f} and {second[1]:.2f} ({kind})"
    names = [_spoken(name, layers) for name, _ in (first, second)]
    if all(name.endswith(" layer") for name in names):
        both = " and ".join(name.removesuffix(" layer") for name in names)
        return f"The {both} layers matter most to {what}: {numbers}."
    return f"{' and '.join(names)} matter most to {what}: {numbers}."


def _spoken(feature: str, layers: int) -> str:
    """A feature as people call it: the ``first layer`` and the ``last``, others by number."""
    name, _, number = feature.rpartition("_")
    if name != "layer" or not number.isdecimal():
        return feature.replace("_", " ")
    known = {1: "first", 2: "second", 3: "third", layers - 1: "last but one", layers: "last"}
    return f"{known.get(int(number), f'{number}th')} layer"


def listens(sources: Sources) -> Item:
    """Importances of every predictor (figure 8)."""
    columns = ("of", "kind", "feature", "share")
    if sources.measured is None or sources.quality is None:
        return need_predictor(sources, "8", columns)
    data = sources.measured
    make = maker_of(sources.quality.predictor)
    table = (data.features, data.targets, data.genes)
    of = {PERPLEXITY: importances(make, *table, genes=len(data.genes), seed=sources.seed)}
    for name, study in sources.studies.items():
        own = f"latency[{name}], "
        of[name] = {
            kind.removeprefix(own): dict(share)
            for kind, share in study.importances.items()
            if kind.startswith(own)
        }
    rows: list[tuple[Value, ...]] = [
        (what, kind, feature, float(share))
        for what, kinds in of.items()
        for kind, shares in kinds.items()
        for feature, share in shares.items()
    ]
    panels, said = [], []
    for place, (what, kinds) in enumerate(of.items()):
        drawn = draw_importances(kinds, f"({'abcdefghijkl'[place % 12]}) {what}")
        panels.append(Panel(f"fig8-{place}", drawn, small=True))
        kind = GAIN if GAIN in kinds else next(iter(kinds))
        said.append(matters(what, kinds[kind], kind, sources.space.layers))
    if not sources.devices:
        said.append(f"(b) to (f) need devices: {_need_device(sources, '8', columns).command}")
    notes = published_notes("8")
    return Item(
        "8", Status.PREDICTED, tuple(said), columns, tuple(rows), tuple(panels), notes=notes
    )


def agreement(sources: Sources) -> Item:
    """Predicted against measured values of shapes held out (figure 9)."""
    columns = ("of", "shapes", "r2", "spearman", "published_r2")
    printed: list[tuple[Value, ...]] = [
        (f"{device} (published)", None, None, None, r2)
        for device, r2 in published()["9"]["r2"].items()
    ]
    held: dict[str, tuple[HeldOut, str]] = {}
    if sources.measured is not None and sources.quality is not None:
        data, make = sources.measured, maker_of(sources.quality.predictor)
        table = (data.features, data.targets, len(data.genes))
        held[PERPLEXITY] = (held_out(make, *table, _HELD_OUT, sources.seed), "")
    for name, study in sources.studies.items():
        held[f"latency[{name}]"] = (study.held_out, "s")
    if not held:
        item = need_predictor(sources, "9", columns)
        return missing("9", item.command, item.takes, columns, tuple(printed))
    rows: list[tuple[Value, ...]] = [
        (name, of.scores.n, of.scores.r2, of.scores.spearman, None)
        for name, (of, _) in held.items()
    ]
    panels = tuple(
        Panel(f"fig9-{i}", draw_agreement(of, name, unit), small=True)
        for i, (name, (of, unit)) in enumerate(held.items())
    )
    said = tuple(
        f"{n}, {of.scores.n:,} shapes held out: {of.scores}." for n, (of, _) in held.items()
    )
    if not sources.devices:
        said += (f"Latency needs devices: {_need_device(sources, '9', columns).command}",)
    return Item("9", Status.MEASURED, said, columns, (*rows, *printed), panels)
