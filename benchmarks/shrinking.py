"""What searching is worth when a decoder is shrunk: beside the additive optimum and uniform shapes.

    python benchmarks/shrinking.py SmolLM2-135M --text heldout_news.jsonl.gz \
        --other wikipedia_articles.jsonl.gz --to runs/shrinking --minutes 60

Feed-forward sizes alone are searched, four a layer, under upper limits on their share that is
kept. All losses are measured on the same blocks of text. ``--minutes`` is what a search has, with
the one-block scores, which all seeds share; a timed probe turns it into a number of shapes once, so
that a machine that becomes busy later changes nothing. Two rounds more, upon what all seeds know,
then make the front. All that is measured is kept in ``--to``: stopping is harmless, and the same
command goes on where it stopped, seed by seed; a folder that is finished only prints.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nastool import pareto
from nastool.cli.cost import duration
from nastool.cli.progress import ProgressBar
from nastool.constraint import Constraint
from nastool.devices import Workload, timing_of
from nastool.files.reading import is_file, read_json_object
from nastool.files.writing import owned, write_whole
from nastool.plugins import load_device
from nastool_supernets.cli.pretrain import pretrain
from nastool_supernets.cli.supernets import move
from nastool_supernets.cli.texts import named_sources, open_corpus
from nastool_supernets.corpus.corpus import fixed_masks, load_corpus
from nastool_supernets.genotypes import Genotype, row
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.saved import load_supernet
from nastool_supernets.shrinking.blocks import one_block_changes
from nastool_supernets.shrinking.campaign import FIRST, Campaign, Plan, Text
from nastool_supernets.shrinking.measured import TABLE, Row, read_rows, write_rows
from nastool_supernets.shrinking.planning import SHARED, probe
from nastool_supernets.supernet import Supernet

CHOICES = 4
ROUNDS = 8
FIRST_SHAPES = 24
FRONT_ROUNDS, FRONT_SHAPES = 2, 24
PAUSES = 3
"""Turns that timed shapes take."""


class Kept:
    """Numbers of a run, kept in a file as soon as they are known.

    Args:
        file: Where.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.content: dict[str, Any] = read_json_object(file) if is_file(file) else {}

    def write(self) -> None:
        write_whole(self.file, json.dumps(self.content, indent=1) + "\n")

    def took(self, what: str, seconds: float) -> None:
        """Add to the time that something took, over all runs of the command."""
        minutes = self.content.setdefault("minutes", {})
        minutes[what] = minutes.get(what, 0.0) + seconds / 60
        self.write()


class Losses:
    """Losses of shapes on texts, each measured once.

    Args:
        net: Whose.
        texts: By name.
        kept: Where they are kept.
    """

    def __init__(self, net: Supernet, texts: dict[str, Text], kept: Kept) -> None:
        self.net, self.texts, self.kept = net, texts, kept

    def of(self, name: str, shapes: Sequence[Genotype]) -> list[float]:
        known = self.kept.content.setdefault(name, {})
        keys = self.net.space.texts(np.array(shapes, dtype=np.int64))
        missing = {k: g for k, g in zip(keys, shapes, strict=True) if k not in known}
        if missing:
            found = np.log(perplexities(self.net, *self.texts[name], list(missing.values())))
            known.update(zip(missing, found.tolist(), strict=True))
            self.kept.write()
        return [known[key] for key in keys]


def net_of(source: Path, text: Path, to: Path, order: str, options: dict[str, Any]) -> Supernet:
    """The checkpoint as a supernet of feed-forward sizes alone."""
    folder = to / f"net-{order}"
    if not is_file(folder / "model.safetensors"):
        words = ["--from", source, "--order", order, "--ffn-choices", CHOICES, "--kv-choices", 1]
        words += ["--no-skip", "--steps", 0, "--text", text, "--corpus", to / "corpus"]
        words += ["--sequence-length", options["length"], "--max-tokens", options["max_tokens"]]
        words += ["--held-out", 0.1]
        if options["device"]:
            words += ["--device", options["device"]]
        pretrain.main([*map(str, words), "--output", str(folder)], standalone_mode=False)
    return load_supernet(folder)


def texts_of(net: Supernet, to: Path, options: dict[str, Any]) -> dict[str, Text]:
    """What is searched by, what is held out of it, and blocks of the other text."""
    blocks, check = (options[name] // options["length"] for name in ("tokens", "check"))
    corpus = load_corpus(to / "corpus")
    found = {
        "searched": fixed_masks(corpus, "train", blocks, 0, net.task),
        "held out": fixed_masks(corpus, "held_out", check, 0, net.task),
    }
    if options["other"] is not None:
        sources = named_sources((str(options["other"]),), (), "text", streaming=False)
        size = options["length"], 0.1, options["max_tokens"]
        other = open_corpus(
            sources, str(to / f"net-{options['order']}"), to / "corpus-other", *size
        )
        found["other"] = fixed_masks(other, "train", check, 0, net.task)
    return found


def uniform_at(net: Supernet, bound: float) -> Genotype:
    """The most even shape of a size: one choice in some layers, the next, spread out, in others."""
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
    return best


class Search:
    """Campaigns on one net, of several seeds, and what they share.

    Args:
        net: The supernet.
        texts: See `texts_of`.
        folder: Of all that is kept.
        options: Of the command.
    """

    def __init__(
        self, net: Supernet, texts: dict[str, Text], folder: Path, options: dict[str, Any]
    ) -> None:
        self.net, self.texts, self.folder, self.options = net, texts, folder, options
        folder.mkdir(parents=True, exist_ok=True)
        self.kept = Kept(folder / "kept.json")
        self.losses = Losses(net, texts, Kept(folder / "losses.json"))
        cost = net.space.costs["params"]
        ends = np.stack([np.zeros_like(net.space.largest), net.space.largest])
        least, self.most = cost.evaluate(ends).tolist()
        # The smallest choice keeps a quarter.
        self.per_share = (self.most - least) / (1 - 1 / CHOICES)
        self.limits = sorted(self.limit(share) for share in options["shares"])
        self.blocks = len(texts["searched"][0])

    def limit(self, share: float) -> float:
        """Parameters with so much of the feed-forward blocks."""
        return self.most - (1 - share) * self.per_share

    def shapes(self) -> int:
        """Shapes that a seed assembles: as many as its minutes are believed to be enough for."""
        if self.options["shapes"]:
            return int(self.options["shapes"])
        known = self.kept.content
        if "pace" not in known:
            known["pace"] = probe(self.net, self.texts["searched"])
            self.kept.write()
        scored = len(one_block_changes(self.net.space)) * SHARED
        seconds = 60 * self.options["minutes"]
        return max(3 * FIRST_SHAPES, int(seconds / (known["pace"] * self.blocks) - scored))

    def campaign(self, name: str, plan: Plan, sizes: Sequence[float] = ()) -> Campaign:
        """One that shows and notes what it does."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        read, check = self.texts["searched"], self.texts["held out"]
        bounds = [Constraint("params", "<=", self.limits[0])]
        return Campaign(self.net, bounds, folder, plan, read, check, sizes=sizes)

    def watched(self, campaign: Campaign, name: str, bar: ProgressBar) -> None:
        """Let a campaign tell how far it is, and add up the time of its phases."""
        last = [time.perf_counter()]

        def told(what: str, done: int, total: int) -> None:
            now = time.perf_counter()
            if done:
                self.kept.took(f"{name}: {what.partition(' ')[0] if done else what}", now - last[0])
            last[0] = now
            bar(done, total, what)

        campaign.told = told

    def plan(self, seed: int) -> Plan:
        refined = max(1, (self.shapes() - FIRST_SHAPES) // ROUNDS)
        return Plan(CHOICES - 1, self.blocks, FIRST_SHAPES, ROUNDS, refined, 0, seed)

    def score_blocks(self) -> Campaign:
        campaign = self.campaign("scores", self.plan(0))
        with ProgressBar("scores") as bar:
            self.watched(campaign, "scores", bar)
            campaign.score_blocks()
        return campaign

    def search(self, seed: int) -> Campaign:
        """All rounds of a seed, those that are missing."""
        name = f"seed-{seed}"
        scores = read_rows(self.folder / "scores" / TABLE, self.net.space)
        file = self.folder / name / TABLE
        if not is_file(file):
            file.parent.mkdir(exist_ok=True)
            write_rows(file, self.net.space, scores)
        campaign = self.campaign(name, self.plan(seed), self.limits[1:])
        with ProgressBar(name) as bar:
            self.watched(campaign, name, bar)
            campaign.measure()
        return campaign

    def front(self, seeds: Sequence[int]) -> Campaign:
        """A front between the least limit and the whole net, upon what all seeds measured."""
        name, space = "-".join(("front", *map(str, seeds))), self.net.space
        file = self.folder / name / TABLE
        if not is_file(file):
            known: dict[Genotype, Row] = {}
            for seed in seeds:
                for genotype, its in read_rows(self.folder / f"seed-{seed}" / TABLE, space).items():
                    round_ = min(its.round, FIRST)
                    known.setdefault(genotype, Row(round_, its.predicted, its.loss))
            file.parent.mkdir(exist_ok=True)
            write_rows(file, space, known)
        plan = Plan(CHOICES - 1, self.blocks, FIRST_SHAPES, FRONT_ROUNDS, FRONT_SHAPES, 0)
        campaign = self.campaign(name, plan)
        with ProgressBar("front") as bar:
            self.watched(campaign, "front", bar)
            campaign.measure()
        return campaign


def best_within(campaign: Campaign, limit: float) -> Genotype:
    """The measured shape of the least loss under a limit."""
    known = read_rows(campaign.folder / TABLE, campaign.space)
    sizes = campaign.space.costs["params"].evaluate(np.array(list(known)))
    kept = [(r.loss, g) for (g, r), n in zip(known.items(), sizes, strict=True) if n <= limit]
    return min(kept)[1]


def front_of(campaign: Campaign, least: float) -> list[Genotype]:
    """What is not dominated of all measured shapes of a size or more, ascending."""
    known = read_rows(campaign.folder / TABLE, campaign.space)
    shapes = np.array(list(known), dtype=np.int64)
    sizes = campaign.space.costs["params"].evaluate(shapes)
    points = np.stack([sizes, [its.loss for its in known.values()]], axis=1)
    best = np.flatnonzero(pareto.non_dominated(points))
    floor = sizes[best][sizes[best] <= least].max(initial=0.0)
    best = best[sizes[best] >= floor]
    return [row(shapes[place]) for place in best[np.argsort(sizes[best], kind="stable")]]


def latencies(
    search: Search, shapes: Sequence[Genotype], threads: int
) -> dict[str, list[tuple[float, float]]]:
    """Median and ninetieth percentile of a pass, by part of serving and shape; they take turns."""
    device = search.net.model.device
    on_gpu = device.type == "cuda"
    name = f"cuda[{device.index or 0}]" if on_gpu else "cpu"
    runner = load_device(name, {"dtype": "bfloat16"} if on_gpu else {"threads": threads})
    workload = Workload(1, search.options["length"])
    seen: dict[str, list[list[float]]] = {
        part: [[] for _ in shapes] for part in ("prefill", "decode")
    }
    for _ in range(PAUSES):
        for place, shape in enumerate(shapes):
            deployed = search.net.space.deploy(np.array(shape), workload)
            timing = timing_of(runner, deployed, 2, 15)
            seen["prefill"][place] += timing.seconds.tolist()
            if timing.following is not None:
                seen["decode"][place] += timing.following.tolist()
    return {
        part: [(float(np.median(its)), float(np.quantile(its, 0.9))) for its in found]
        for part, found in seen.items()
        if all(found)
    }


def table_of(title: str, *columns: str) -> Table:
    shown = Table(title=title)
    for name in columns:
        shown.add_column(name, justify="right")
    return shown


def several(losses: Sequence[float]) -> str:
    return " ".join(f"{math.exp(loss):.2f}" for loss in losses)


def show_limits(search: Search, campaigns: dict[int, Campaign]) -> list[Table]:
    """Uniform, additive and searched shapes under every limit, on every text."""
    whole = row(search.net.space.largest)
    first = next(iter(campaigns.values()))
    rows = {
        limit: [
            uniform_at(search.net, limit),
            first.additive(limit),
            *(best_within(campaign, limit) for campaign in campaigns.values()),
        ]
        for limit in search.limits
    }
    tables = []
    for text in search.texts:
        title = f"{text}: the whole net {several(search.losses.of(text, [whole]))}"
        shown = table_of(title, "FFN", "uniform", "additive", "seeds", "excess of uniform's")
        for limit, shapes in rows.items():
            even, additive, *found = search.losses.of(text, shapes)
            (base,) = search.losses.of(text, [whole])
            excess = statistics.median([(loss - base) / (even - base) for loss in found])
            share = 1 - (search.most - limit) / search.per_share
            cells = f"{share:.0%}", several([even]), several([additive]), several(found)
            shown.add_row(*cells, f"{excess:.2f}" if even > base else "-")
        tables.append(shown)
    proofs = table_of(
        f"Optimum of the last fit, proven over {search.net.space.size:.3g} shapes",
        *("FFN", "seed", "predicted", "seconds", "gap"),
    )
    for seed, campaign in campaigns.items():
        for limit in search.limits:
            outcome, share = campaign.proven(limit), 1 - (search.most - limit) / search.per_share
            proof = outcome.certificate
            said = several([proof.best]), f"{proof.seconds:.2f}", f"{proof.gap:g}"
            proofs.add_row(f"{share:.0%}", str(seed), *said)
    return [*tables, proofs]


def show_front(search: Search, campaign: Campaign, threads: int) -> list[Table]:
    """The front beside uniform and additive shapes of equal size; how two of it are served."""
    space = search.net.space
    shapes = front_of(campaign, search.limits[0])
    sizes = space.costs["params"].evaluate(np.array(shapes)).tolist()
    shown = table_of(
        f"The front, {len(shapes)} measured points: itself, uniform and additive of equal size",
        *("parameters", "share", *search.texts),
    )
    of_size = [
        (shape, uniform_at(search.net, size), campaign.additive(size))
        for shape, size in zip(shapes, sizes, strict=True)
    ]
    for three, size in zip(of_size, sizes, strict=True):
        cells = (several(search.losses.of(text, three)) for text in search.texts)
        shown.add_row(f"{size / 1e6:.1f}M", f"{size / search.most:.0%}", *cells)
    served = [space.largest, shapes[0], shapes[len(shapes) // 2]]
    known = search.kept.content
    names = [space.format(np.array(shape)) for shape in served]
    if known.get("served", {}).get("shapes") != names:
        measured = latencies(search, [row(np.array(shape)) for shape in served], threads)
        known["served"] = {"shapes": names, "seconds": measured}
        search.kept.write()
    speeds = table_of(
        f"Served, batch 1, {threads} threads", "parameters", "part", "tokens/s", "median", "p90"
    )
    for part, its in known["served"]["seconds"].items():
        for shape, (median, late) in zip(served, its, strict=True):
            size = float(space.costs["params"].evaluate(np.array(shape)[None])[0])
            tokens = search.options["length"] if part == "prefill" else 1
            times = f"{1e3 * median:.1f} ms", f"{1e3 * late:.1f} ms"
            speeds.add_row(f"{size / 1e6:.1f}M", part, f"{tokens / median:,.0f}", *times)
    return [shown, speeds]


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--text", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--other", type=click.Path(path_type=Path, exists=True), help="Text of another kind.")
@click.option("--to", required=True, type=click.Path(path_type=Path))
@click.option("--minutes", default=60.0, show_default=True, help="Of a seed, scores included.")
@click.option("--shapes", type=int, help="Assembled shapes a seed, in place of minutes.")
@click.option("--tokens", default=1024, show_default=True, help="Tokens that are measured on.")
@click.option("--check", default=2048, show_default=True, help="Tokens of each further text.")
@click.option("--length", default=128, show_default=True, help="Tokens a block.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True)
@click.option("--share", "shares", multiple=True, type=float, default=(0.9, 0.8, 0.67))
@click.option("--order", type=click.Choice(["activation", "loss"]), default="activation")
@click.option("--max-tokens", default=60_000, show_default=True, help="Tokens that are read.")
@click.option("--threads", default=1, show_default=True, help="Threads that latency is of.")
@click.option("--device", help="As torch names it. Default: cuda if there is one, else cpu.")
def main(source: Path, text: Path, to: Path, **options: Any) -> None:
    """Compare searched shapes with the additive optimum and uniform ones of equal size."""
    began = time.perf_counter()
    to.mkdir(parents=True, exist_ok=True)
    with owned(to, "run"):
        net = net_of(source, text, to, options["order"], options)
        move(net.model, options["device"])
        search = Search(net, texts_of(net, to, options), to / options["order"], options)
        if "minutes" not in search.kept.content:
            search.kept.took("import", time.perf_counter() - began)
        print(f"{search.shapes()} assembled shapes a seed, on {options['tokens']:,} tokens")
        search.score_blocks()
        campaigns, console = {}, Console(width=120)
        for seed in options["seeds"]:
            campaigns[seed] = search.search(seed)
            for table in show_limits(search, campaigns):
                console.print(table)
        for table in show_front(search, search.front(options["seeds"]), options["threads"]):
            console.print(table)
        minutes = table_of(
            f"{duration(time.perf_counter() - began)} in this call", "phase", "minutes"
        )
        for phase, its in search.kept.content["minutes"].items():
            minutes.add_row(phase, f"{its:.1f}")
        console.print(minutes)


if __name__ == "__main__":
    main()
