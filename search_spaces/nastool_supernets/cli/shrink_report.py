"""What ``nastool shrink`` says at the end: the front, what was chosen, and how to try it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli.cost import duration
from nastool.constraint import format_quantity
from nastool.files.reading import read_json_object
from nastool.files.tables import csv_text
from nastool.files.writing import write_whole

if TYPE_CHECKING:
    from nastool_supernets.cli.serving import Serving
    from nastool_supernets.genotypes import Genotype
    from nastool_supernets.shrinking.blocks import Costs
    from nastool_supernets.shrinking.campaign import Campaign, Front
    from nastool_supernets.supernet import Supernet


def write_front(file: Path, net: Supernet, front: Front, known: Costs) -> None:
    """Write the front as a table: costs, measured perplexities, and which one is chosen."""
    costs = list(known)
    values = [known[name].evaluate(front.genotypes).tolist() for name in costs]
    rows = []
    for i, shape in enumerate(net.space.texts(front.genotypes)):
        losses = (front.losses[i], front.checked[i], front.predicted[i])
        rows.append(
            [
                shape,
                # Counts in full, however large.
                *(int(its[i]) if float(its[i]).is_integer() else its[i] for its in values),
                *(f"{_perplexity(loss):.6g}" for loss in losses),
                int(i == front.chosen),
            ]
        )
    header = ["shape", *costs, "perplexity", "held_out_perplexity", "predicted", "chosen"]
    write_whole(file, csv_text(header, rows))


def show(net: Supernet, front: Front, campaign: Campaign, minutes_of: dict[str, float]) -> None:
    """Print the front, what it stands beside, and what the predictions are worth."""
    from nastool_supernets.genotypes import row

    bound = campaign.bounds[0]
    largest = row(net.space.largest)
    whole_loss, whole_check = campaign.loss(largest)
    cost = campaign.costs[bound.metric]
    full = float(cost.evaluate(net.space.largest[None])[0])

    def line(name: str, size: float, loss: float, check: float, predicted: float | None) -> None:
        said = "" if predicted is None else f"{_perplexity(predicted):>11,.2f}"
        click.echo(
            f"{name:<18}{format_quantity(size, cost.unit):>12}{size / full:>7.0%}"
            f"{_perplexity(loss):>12,.2f}{_perplexity(check):>12,.2f}{said}"
        )

    click.echo(
        f"{'':<18}{bound.metric:>12}{'share':>7}{'perplexity':>12}{'held out':>12}  predicted"
    )
    for i in range(len(front.genotypes)):
        name = "chosen" if i == front.chosen else "front"
        losses = front.losses[i], front.checked[i], front.predicted[i]
        line(name, front.costs[i], *losses)
    for name, other in (("additive optimum", front.additive), ("best uniform", front.uniform)):
        if other is not None:
            line(name, _size(cost, other), *campaign.loss(other), None)
    line("whole", full, whole_loss, whole_check, None)
    if front.scores is not None:
        off = _perplexity(front.scores.rmse) - 1
        click.echo(
            f"Perplexities are measured; as predicted before, they were off by {off:.1%} "
            f"(root mean square of {front.scores.n} shapes), {front.scores}"
        )
    click.echo(f"Optimum of the last fit within the bounds: {front.certificate}")
    spent = ", ".join(f"{what} {duration(t)}" for what, t in minutes_of.items() if t >= 0.5)
    if spent:
        click.echo(f"Time: {spent}", err=True)
    click.echo(f"Chosen: {net.space.format(front.genotypes[front.chosen])}")


def show_latency(net: Supernet, front: Front, serving: Serving) -> None:
    """Print what the chosen shape was measured to take, where a latency is bounded."""
    from nastool_supernets.genotypes import row

    chosen = serving.measure(net.space, row(front.genotypes[front.chosen]))
    whole = serving.measure(net.space, row(net.space.largest))
    for part, seconds in chosen.items():
        was = format_quantity(whole[part], "s")
        click.echo(f"{part}: {format_quantity(seconds, 's')} (whole {was}) on {serving.where}")


def _perplexity(loss: float) -> float:
    """What a loss is of a token; infinite where a prediction is beyond all floats."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _size(cost: Any, genotype: Genotype) -> float:
    import numpy as np

    return float(cost.evaluate(np.array([genotype]))[0])


def try_line(net: Supernet, model: Path) -> str:
    """A command that tries the model."""
    from nastool_supernets.corpus.tokenizer import load_tokenizer

    task = "text-generation" if net.task == "causal-lm" else "fill-mask"
    config = read_json_object(model / "config.json")
    trust = ", trust_remote_code=True" if "auto_map" in config else ""
    start = "Once upon a time"
    if task == "fill-mask":
        start = f"Paris is the {load_tokenizer(model).mask_token} of France."
    return (
        f"Try it: python -c \"from transformers import pipeline; print(pipeline('{task}', "
        f"'{model}'{trust})('{start}'))\""
    )
