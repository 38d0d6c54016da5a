"""What searching is worth when a decoder is shrunk: beside the additive optimum and uniform shapes.

    python benchmarks/shrinking.py SmolLM2-135M --text heldout_news.jsonl.gz --to runs/shrinking

Feed-forward sizes alone are searched, four a layer, under upper limits on their share that is
kept. All losses are measured on the same blocks of text. The budget is in shapes, so that a busy
machine changes nothing: one-block scores once for all seeds, then as many assembled shapes a seed
as ``--shapes`` says. What is measured is kept in ``--to``: stopping is harmless, and the same
command goes on.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nastool.cli.progress import ProgressBar
from nastool.constraint import Constraint
from nastool_supernets.cli.pretrain import pretrain
from nastool_supernets.corpus.corpus import fixed_masks, load_corpus
from nastool_supernets.genotypes import Genotype, row
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.saved import load_supernet
from nastool_supernets.shrinking.campaign import TABLE, Campaign, Plan, Text, read_rows
from nastool_supernets.supernet import Supernet

CHOICES = 4
ROUNDS = 5
FIRST = 24


def net_of(source: Path, text: Path, to: Path, order: str, length: int, tokens: int) -> Supernet:
    """The checkpoint as a supernet of feed-forward sizes alone."""
    folder = to / f"net-{order}"
    if not (folder / "model.safetensors").is_file():
        words = ["--from", source, "--order", order, "--ffn-choices", CHOICES, "--kv-choices", 1]
        words += ["--no-skip", "--steps", 0, "--text", text, "--corpus", to / "corpus"]
        words += ["--sequence-length", length, "--max-tokens", tokens, "--held-out", 0.1]
        pretrain.main([*map(str, words), "--output", str(folder)], standalone_mode=False)
    return load_supernet(folder)


def bounds_of(net: Supernet, shares: tuple[float, ...]) -> list[float]:
    """Parameters with so much of the feed-forward blocks, ascending."""
    smaller, whole = np.array(net.space.largest) * 0, np.array(net.space.largest)
    least, most = net.space.costs["params"].evaluate(np.stack([smaller, whole])).tolist()
    # The smallest choice keeps a quarter.
    per_share = (most - least) / (1 - 1 / CHOICES)
    return sorted(most - (1 - share) * per_share for share in shares)


def uniform_at(net: Supernet, text: Text, bound: float) -> tuple[Genotype, float]:
    """The most even shape of a size: one choice in some layers, spread out, the next in the others.

    Returns:
        It, and its loss.
    """
    cost, space = net.space.costs["params"], net.space
    layers = [i for i, size in enumerate(space.cardinalities.tolist()) if size > 1]
    best = None
    for level in range(len(layers) * (CHOICES - 1) + 1):
        low, more = divmod(level, len(layers))
        genotype = np.array(space.largest)
        genotype[layers] = low
        raised = [layers[math.floor(i * len(layers) / more)] for i in range(more)]
        genotype[raised] += 1
        if cost.evaluate(genotype[None])[0] <= bound:
            best = row(genotype)
    if best is None:
        raise click.ClickException(f"no uniform shape has {bound:g} parameters")
    return best, float(np.log(perplexities(net, *text, [best]))[0])


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--text", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--to", required=True, type=click.Path(path_type=Path))
@click.option("--tokens", default=1024, show_default=True, help="Tokens that are measured on.")
@click.option("--check", default=512, show_default=True, help="Held-out tokens, at the end.")
@click.option("--length", default=128, show_default=True, help="Tokens a block.")
@click.option("--shapes", default=300, show_default=True, help="Assembled shapes a seed.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True)
@click.option("--share", "shares", multiple=True, type=float, default=(0.9, 0.8, 0.67))
@click.option("--order", type=click.Choice(["activation", "loss"]), default="activation")
@click.option("--max-tokens", default=60_000, show_default=True, help="Tokens that are read.")
def main(
    source: Path,
    text: Path,
    to: Path,
    tokens: int,
    check: int,
    length: int,
    shapes: int,
    seeds: tuple[int, ...],
    shares: tuple[float, ...],
    order: str,
    max_tokens: int,
) -> None:
    """Compare a searched shape with the additive optimum and a uniform one of equal size."""
    to.mkdir(parents=True, exist_ok=True)
    net = net_of(source, text, to, order, length, max_tokens)
    corpus = load_corpus(to / "corpus")
    blocks = tokens // length
    read = fixed_masks(corpus, "train", blocks, 0, net.task)
    other = fixed_masks(corpus, "held_out", check // length, 0, net.task)
    limits = bounds_of(net, shares)
    begin = time.perf_counter()
    even = [uniform_at(net, read, limit) for limit in limits]
    refined = max(1, (shapes - FIRST) // ROUNDS)
    found: dict[float, list[tuple[Genotype, float]]] = {limit: [] for limit in limits}
    additive: dict[float, tuple[Genotype, float]] = {}
    full = math.nan

    def campaign_of(name: str, seed: int) -> Campaign:
        folder = to / order / name
        folder.mkdir(parents=True, exist_ok=True)
        plan = Plan(CHOICES - 1, blocks, FIRST, ROUNDS, refined, blocks, seed)
        bounds = [Constraint("params", "<=", limits[0])]
        return Campaign(net, bounds, folder, plan, read, other, sizes=limits[1:])

    with ProgressBar("scores") as bar:
        common = campaign_of("scores", 0)
        common.told = lambda what, done, total: bar(done, total, what)
        common.score_blocks()
    for seed in seeds:
        table = to / order / f"seed-{seed}" / TABLE
        if not table.is_file():
            table.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(common.folder / TABLE, table)
        campaign = campaign_of(table.parent.name, seed)
        with ProgressBar(f"seed {seed}") as bar:
            campaign.told = lambda what, done, total, bar=bar: bar(done, total, what)
            campaign.run()
        known = read_rows(table, net.space)
        full = known[row(net.space.largest)].loss
        sizes = net.space.costs["params"].evaluate(np.array(list(known)))
        for limit in limits:
            kept = [
                (g, r.loss) for (g, r), n in zip(known.items(), sizes, strict=True) if n <= limit
            ]
            found[limit].append(min(kept, key=lambda pair: pair[1]))
            if limit not in additive:
                best = campaign.additive(limit)
                additive[limit] = best, campaign.loss(best)[0]

    measured = {shape for limit in limits for shape, _ in found[limit]}
    measured |= {shape for shape, _ in (*additive.values(), *even)} | {row(net.space.largest)}
    ordered = sorted(measured)
    losses_of = dict(zip(ordered, np.log(perplexities(net, *other, ordered)), strict=True))
    full_of = losses_of[row(net.space.largest)]

    shown = Table(
        title=f"{tokens:,} tokens, order {order}: full {math.exp(full):.2f}, "
        f"held out {math.exp(full_of):.2f}"
    )
    for name in ("FFN", "uniform", "additive", *(f"seed {s}" for s in seeds), "excess", "held out"):
        shown.add_column(name, justify="right")
    evenly_of = {limit: shape for limit, (shape, _) in zip(limits, even, strict=True)}
    for share, limit, (_, evenly) in zip(sorted(shares), limits, even, strict=True):
        losses = [loss for _, loss in found[limit]]
        excess = [(loss - full) / (evenly - full) for loss in losses]
        shown.add_row(
            f"{share:.0%}",
            *(f"{math.exp(loss):.2f}" for loss in (evenly, additive[limit][1], *losses)),
            f"{statistics.median(excess):.2f} of uniform's",
            " ".join(
                f"{math.exp(losses_of[shape]):.1f}"
                for shape in (evenly_of[limit], additive[limit][0], *(s for s, _ in found[limit]))
            ),
        )
    print(f"{time.perf_counter() - begin:.0f} s")
    Console().print(shown)


if __name__ == "__main__":
    main()
