"""Does a subnet of the supernet tell what its shape would be worth when trained by itself?

    python benchmarks/inheritance.py SUPERNET CORPUS --output FOLDER [--trained SUPERNET]

SUPERNET is where all trainings start, e.g. a BERT whose head has been trained, CORPUS the folder of
a prepared corpus (`nastool pretrain --corpus`). Every training sees the same blocks, masks and
number of steps:

- the sandwich, and the sandwich whose largest subnet teaches the others (in-place distillation),
  which costs hardly more: held-out perplexity at five sizes;
- shapes of equal size, each trained alone from the same start: held-out perplexity beside the one
  inherited from both supernets, and from --trained, one that was trained longer; rank correlations.

The same command goes on where it was stopped.
"""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.progress import track
from rich.table import Table
from scipy.stats import kendalltau, spearmanr

from nastool.cli.output import wide_console
from nastool.space import Architecture, ChainBudget
from nastool_supernets.corpus.corpus import Corpus, fixed_masks, load_corpus
from nastool_supernets.family import net_of
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.saved import load_supernet
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.pretraining import pretrain
from nastool_supernets.training.rules import Distillation, OneShape, Sandwich, TrainingRule
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.space import from_config
from nastool_supershaper.starts import sort_hidden


class Bench:
    """Trainings from one start, on one text."""

    def __init__(self, start: Path, corpus: Corpus, folder: Path, hyper: dict[str, Any]) -> None:
        self.corpus, self.folder, self.hyper = corpus, folder, hyper
        self.start = load_supernet(start).model
        # Dimensions that matter come first, so that narrow shapes keep what the start has learnt.
        sort_hidden(self.start, corpus)
        self.ids, self.labels = fixed_masks(corpus, "held_out", hyper.pop("evaluation_blocks"), 0)

    def trained(
        self, name: str, rule: TrainingRule, distillation: Distillation | None = None
    ) -> tuple[SuperShaperForMaskedLM, float]:
        """Train from the start; returns the net, and the seconds that this took."""
        folder = self.folder / name
        model = copy.deepcopy(self.start)
        config = PretrainingConfig(
            rule=rule,
            distillation=distillation,
            evaluate_every=0,
            checkpoint_every=20,
            **self.hyper,
        )
        clock = time.perf_counter()
        masking = self.corpus.masking(config.masking_rate)
        result = pretrain(net_of(model), self.corpus.train, masking, config, folder, trackers=())
        if not result.finished:
            raise click.Abort
        note = folder / "seconds.json"
        if not note.exists():
            note.write_text(json.dumps(time.perf_counter() - clock))
        return model, float(json.loads(note.read_text()))

    def perplexities(
        self, model: SuperShaperForMaskedLM, shapes: list[Architecture]
    ) -> list[float]:
        """Held-out perplexities of shapes."""
        net = net_of(model)
        genotypes = [net.genotype(shape) for shape in shapes]
        return perplexities(net, self.ids, self.labels, genotypes).tolist()


def equal_shapes(
    model: SuperShaperForMaskedLM, size: float, n: int, seed: int
) -> tuple[list[Architecture], list[float]]:
    """Draw shapes whose parameters lie within 1% of a size; returns them and their parameters."""
    space = from_config(model.config.to_dict())
    cost = space.costs["params"]
    budget = ChainBudget(cost, 1.01 * size, 0.99 * size)
    drawn = budget.sample(n, np.random.default_rng(seed))
    shapes = [tuple(int(w) for w in a) for a in space.decode(drawn)]
    return shapes, cost.evaluate(drawn).tolist()


@click.command()
@click.argument("supernet", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("corpus", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--trained", type=click.Path(exists=True, path_type=Path), help="Another supernet.")
@click.option("--steps", default=100, help="Of every training.")
@click.option("--batch-size", default=16, help="Blocks a step.")
@click.option("--learning-rate", default=5e-4)
@click.option("--masking-rate", default=0.3)
@click.option("--distil", default=0.5, help="Share of the teacher in the loss.")
@click.option("--shapes", default=8, help="Shapes that are also trained alone.")
@click.option("--size", default=17.4e6, help="Their parameters, within 1%.")
@click.option("--evaluation-blocks", default=64)
@click.option("--seed", default=0)
@click.option("--threads", type=int, help="Default: torch's.")
def main(
    supernet: Path,
    corpus: Path,
    output: Path,
    trained: Path | None,
    distil: float,
    shapes: int,
    size: float,
    threads: int | None,
    **hyper: Any,
) -> None:
    """Compare inherited with stand-alone perplexities, and distillation with the plain sandwich."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    console, seed = wide_console(), hyper["seed"]
    hyper |= {"warmup_steps": max(1, hyper["steps"] // 6), "dtype": "float32"}
    bench = Bench(supernet, load_corpus(corpus), output, hyper)
    plain, plain_seconds = bench.trained("sandwich", Sandwich(1))
    taught, taught_seconds = bench.trained("distilled", Sandwich(1), Distillation(distil))

    widths, layers = plain.config.widths, plain.config.num_hidden_layers
    ends = np.linspace(0, len(widths) - 1, 5).round().astype(int)
    sizes = [(widths[i],) * layers for i in ends]
    table = Table("width everywhere", "sandwich", f"distilled, {distil:g}", title="Five sizes")
    both = bench.perplexities(plain, sizes), bench.perplexities(taught, sizes)
    for shape, a, b in zip(sizes, *both, strict=True):
        table.add_row(str(shape[0]), f"{a:.1f}", f"{b:.1f}")
    table.add_row("seconds", f"{plain_seconds:.0f}", f"{taught_seconds:.0f}")
    console.print(table)

    drawn, parameters = equal_shapes(plain, size, shapes, seed)
    inherited = {"sandwich": plain, "distilled": taught}
    if trained is not None:
        inherited["trained longer"] = load_supernet(trained).model
    columns = {name: bench.perplexities(model, drawn) for name, model in inherited.items()}
    alone = []
    for shape in track(drawn, "Training alone", console=console):
        model, _ = bench.trained("-".join(map(str, shape)), OneShape(shape=shape))
        alone += bench.perplexities(model, [shape])
    table = Table("shape", "params", "alone", *columns, title="Equal size")
    for i in np.argsort(alone):
        values = [f"{column[i]:.1f}" for column in columns.values()]
        name = "-".join(map(str, drawn[i]))
        table.add_row(name, f"{parameters[i] / 1e6:.2f}M", f"{alone[i]:.1f}", *values)
    for name, function in (("Spearman", spearmanr), ("Kendall", kendalltau)):
        ranks = [f"{function(alone, column).statistic:.2f}" for column in columns.values()]
        table.add_row(f"{name} with alone", "", "", *ranks)
    console.print(table)


if __name__ == "__main__":
    main()
