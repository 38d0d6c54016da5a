"""What a decoder's smaller subnets lose by what they keep: orders beside each other.

    python benchmarks/orders.py SmolLM2-135M --text heldout_news.jsonl.gz --to runs/orders

The checkpoint becomes a supernet once for every order (feed-forward sizes in four steps, key-value
groups one by one); the same shapes are measured on held-out text. The nets stay in ``--to``.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nastool.files.reading import is_file
from nastool_decoder.space import DecoderSpace
from nastool_supernets.cli.pretrain import pretrain
from nastool_supernets.corpus.corpus import fixed_masks, load_corpus
from nastool_supernets.genotypes import Genotype, row
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.saved import load_supernet

ORDERS = ("none", "activation", "loss")
CHOICES = 4
RANDOM = 4


def shapes_of(space: DecoderSpace) -> dict[str, Genotype]:
    """Regular shapes, and some at random."""
    layers, groups, ffn = space.layers, len(space.kvs) - 1, len(space.ffns) - 1
    places = np.arange(layers)
    second, third = places % 2, places % 3 == 1

    def shape(fewer_groups: object, less_ffn: object) -> Genotype:
        columns = [
            np.broadcast_to(groups - np.asarray(fewer_groups, dtype=np.int64), layers),
            np.broadcast_to(ffn - np.asarray(less_ffn, dtype=np.int64), layers),
        ]
        return row(np.maximum(np.stack(columns, axis=1), 0).ravel())

    found = {
        "whole": shape(0, 0),
        "3/4 of the FFN in every other layer": shape(0, second),
        "3/4 of the FFN": shape(0, 1),
        "1/2 of the FFN in every other layer": shape(0, 2 * second),
        "one group less in every third layer": shape(third, 0),
        "one group less in every other layer": shape(second, 0),
    }
    rng = np.random.default_rng(0)
    for number in range(RANDOM):
        fewer = rng.random(layers) < 0.15
        found[f"random {number + 1}"] = shape(fewer, rng.choice(3, layers, p=[0.6, 0.3, 0.1]))
    return found


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option("--text", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--to", required=True, type=click.Path(path_type=Path))
@click.option("--length", default=128, show_default=True, help="Tokens a block.")
@click.option("--blocks", default=8, show_default=True, help="Held-out blocks.")
@click.option("--max-tokens", default=60_000, show_default=True, help="Tokens that are read.")
@click.option("--device", default="cpu", show_default=True)
def main(
    source: Path, text: Path, to: Path, length: int, blocks: int, max_tokens: int, device: str
) -> None:
    """Measure the same shapes of one checkpoint in every order."""
    shown = Table(title=f"Perplexity on {blocks * length:,} held-out tokens")
    columns: list[list[str]] = []
    names: list[str] = []
    for order in ORDERS:
        folder, begin = to / order, time.process_time()
        if not is_file(folder / "model.safetensors"):
            words = ["--from", source, "--order", order, "--ffn-choices", CHOICES, "--no-skip"]
            words += ["--steps", 0, "--text", text, "--corpus", to / "corpus", "--device", device]
            words += ["--sequence-length", length, "--max-tokens", max_tokens, "--held-out", 0.1]
            pretrain.main([*map(str, words), "--output", str(folder)], standalone_mode=False)
            print(f"{order}: {time.process_time() - begin:.0f} s of processor time to import")
        net = load_supernet(folder)
        net.model.to(device)
        assert isinstance(net.space, DecoderSpace)
        shapes = shapes_of(net.space)
        held_out = fixed_masks(load_corpus(to / "corpus"), "held_out", blocks, 0, net.task)
        found = perplexities(net, *held_out, list(shapes.values()))
        sizes = net.space.costs["params"].evaluate(np.array(list(shapes.values())))
        names, columns = list(shapes), columns or [[f"{size / 1e6:.1f}M" for size in sizes]]
        columns.append([f"{value:,.1f}" for value in found])
    for name in ("shape", "parameters", *ORDERS):
        shown.add_column(name, justify="left" if name == "shape" else "right")
    for cells in zip(names, *columns, strict=True):
        shown.add_row(*cells)
    Console().print(shown)


if __name__ == "__main__":
    main()
