"""Keep a supernet's weights in 16 bits: what is measured then is what is kept.

    python halve.py SUPERNET TARGET

Eight bits are too few: rows of the weights hold outliers.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from nastool.errors import NastoolError
from nastool.files.reading import is_file, read_text
from nastool.files.writing import check_free, whole_folder, write_whole
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer
from nastool_supernets.saved import load_supernet, save_model

CARDS = ("run.json", "log.jsonl")
"""What a run says of itself, which goes along."""


@click.command()
@click.argument("supernet", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def main(supernet: Path, target: Path) -> None:
    """Write a supernet with weights of 16 bits."""
    check_free(target)
    model = load_supernet(supernet).model
    model.half()
    for name, weights in model.named_parameters():
        if not bool(torch.isfinite(weights).all()):
            raise NastoolError(f"{name} does not fit into 16 bits")
    with whole_folder(target) as folder:
        save_model(model, folder)
        save_tokenizer(load_tokenizer(supernet), folder)
        for card in CARDS:
            if is_file(supernet / card):
                write_whole(folder / card, read_text(supernet / card))
    click.echo(f"{sum(p.numel() for p in model.parameters()):,} parameters in 16 bits: {target}")


if __name__ == "__main__":
    main()
