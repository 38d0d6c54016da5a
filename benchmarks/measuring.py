"""Time to measure 10,000 shapes: with shared prefixes, and one by one.

    python benchmarks/measuring.py [--device cuda] [--config base] [--blocks 256] [--sample 40]

Random shapes are put in the order in which `nastool measure` takes them, and neighbours out of the
middle of that list are timed, so that they share as much as the whole list does. Three ways, in
turns, on the same masked blocks of random tokens:

- tree: ours, which computes a shared prefix once and the last layer at masked positions only;
- one by one: ours, a whole forward pass a shape;
- straightforward: transformers' BERT with sliced matrices, bottlenecks as they stand in the paper,
  the head over the whole vocabulary at every token (see training.py).

All three are checked to give the same perplexities. What the tree alone allows is counted for all
shapes. On a CPU the clock is this process's CPU time over its threads.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from training import MASKING, Clock, SlicedBert

from nastool_supernets.corpus.tasks import apply_fixed, random_generator
from nastool_supernets.family import net_of
from nastool_supernets.genotypes import Genotype, distinct
from nastool_supernets.measuring.perplexities import perplexities, share_prefixes
from nastool_supernets.runtime.precision import autocast, resolve_dtype
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.starts import read_sizes
from nastool_supershaper.supernet_config import SuperShaperConfig


def layers_computed(ordered: Sequence[Genotype]) -> int:
    """Layers to run when every shape goes on from what it shares with the one before."""
    length = len(ordered[0])
    return length + sum(
        length - next(i for i in range(length) if a[i] != b[i]) for a, b in pairwise(ordered)
    )


@click.command()
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--config", default="base", show_default=True, help="tiny, small, base or JSON file.")
@click.option("--shapes", default=10_000, show_default=True, help="Shapes of the whole task.")
@click.option("--sample", default=24, show_default=True, help="Neighbours that are timed.")
@click.option("--blocks", type=int, help="Blocks of text. Default: 8 on a CPU, else 512.")
@click.option("--length", default=128, show_default=True, help="Tokens a block.")
@click.option("--batch-size", type=int, help="Blocks at a time. Default: as `nastool measure`.")
@click.option("--rounds", default=3, show_default=True, help="Times each way is run.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32 or bfloat16.")
@click.option("--threads", type=int, help="Threads on a CPU. Default: torch's.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the numbers.")
def main(
    device: str,
    config: str,
    shapes: int,
    sample: int,
    blocks: int | None,
    length: int,
    batch_size: int | None,
    rounds: int,
    dtype: str,
    threads: int | None,
    output: Path | None,
) -> None:
    """Time the measuring of shapes."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    where = torch.device(device)
    dtype = resolve_dtype(where.type, dtype)
    blocks = blocks or (8 if where.type == "cpu" else 512)
    at_once = batch_size or (64 if where.type == "cpu" else 512)
    sizes = SuperShaperConfig(**{"vocab_size": MASKING.vocab_size, **read_sizes(config)})
    ours = SuperShaperForMaskedLM(sizes).to(where).eval()
    theirs = SlicedBert(sizes).to(where).eval()
    theirs.copy_from(ours)
    text = random_generator(0, 9, 0).integers(5, sizes.vocab_size, (blocks, length))
    masking = replace(MASKING, vocab_size=sizes.vocab_size)
    input_ids, labels = apply_fixed(text.astype(np.uint32), masking)
    n_masked = int((labels != -100).sum())

    total = min(shapes, len(sizes.widths) ** sizes.num_hidden_layers)
    net = net_of(ours)
    ordered = share_prefixes(net, distinct(net.space, total, np.random.default_rng(0)))
    middle = (len(ordered) - sample) // 2
    timed = ordered[max(0, middle) : max(0, middle) + sample]
    parts = [
        tuple(torch.from_numpy(x[i : i + at_once]).to(where) for x in (input_ids, labels))
        for i in range(0, blocks, at_once)
    ]

    def tree() -> list[float]:
        found = perplexities(net, input_ids, labels, timed, batch_size=at_once, dtype=dtype)
        return found.tolist()

    def one_by_one() -> list[float]:
        found = []
        with torch.inference_mode(), autocast(where.type, dtype):
            for genotype in timed:
                sums = [net.losses(*part, genotype).double().sum() for part in parts]
                found.append((sum(sums) / n_masked).exp().item())
        return found

    def straightforward() -> list[float]:
        found = []
        with torch.inference_mode(), autocast(where.type, dtype):
            for genotype in timed:
                theirs.set_shape([sizes.widths[choice] for choice in genotype])
                sums = [
                    theirs.bert(ids, torch.ones_like(ids), labels=y).loss.double()
                    * (y != -100).sum()
                    for ids, y in parts
                ]
                found.append((sum(sums) / n_masked).exp().item())
        return found

    ways: dict[str, Callable[[], list[float]]] = {
        "tree": tree,
        "one by one": one_by_one,
        "straightforward": straightforward,
    }
    clock, times, found = Clock(where), {name: [] for name in ways}, {}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = clock.now()
            found[name] = way()
            if turn:  # the first turn warms up
                times[name].append(clock.now() - began)
    worst = {
        name: max(abs(a / b - 1) for a, b in zip(values, found["one by one"], strict=True))
        for name, values in found.items()
    }
    if max(worst.values()) > (1e-2 if dtype == "bfloat16" else 1e-4):
        raise SystemExit(f"the ways disagree, by {worst}")

    whole = sizes.num_hidden_layers * len(ordered)
    facts = {
        "device": device,
        "config": config,
        "dtype": dtype,
        "shapes": len(ordered),
        "masked_tokens": n_masked,
        "tree_ratio": whole / layers_computed(ordered),
        "tree_ratio_of_sorted": whole / layers_computed(sorted(ordered)),
        "tree_ratio_of_sample": sizes.num_hidden_layers * len(timed) / layers_computed(timed),
    }
    table = Table(title=f"{config} on {device}, {dtype}, {blocks} blocks of {length} tokens")
    for column in ("way", "ms a shape", "against one by one", "largest difference"):
        table.add_column(column, justify="left" if column == "way" else "right")
    ways_facts = {}
    for name, seconds in times.items():
        a_shape = statistics.median(seconds) / len(timed)
        pairs = zip(times["one by one"], seconds, strict=True)
        ratio = statistics.median(one / own for one, own in pairs)
        ways_facts[name] = {"seconds_a_shape": a_shape, "speedup": ratio, "error": worst[name]}
        table.add_row(name, f"{1e3 * a_shape:,.1f}", f"{ratio:.2f}", f"{worst[name]:.1e}")
    Console().print(table)
    print(
        f"Layers: all {len(ordered):,} shapes one by one run {whole:,}, the tree 1 in "
        f"{facts['tree_ratio']:.3f} of them (sorted throughout 1 in "
        f"{facts['tree_ratio_of_sorted']:.3f}; the {len(timed)} timed ones 1 in "
        f"{facts['tree_ratio_of_sample']:.3f})"
    )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({**facts, "ways": ways_facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
