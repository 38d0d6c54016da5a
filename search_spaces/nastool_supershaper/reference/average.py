"""Make one table of those of several nets: of each shape that all measured, the geometric mean.

    python average.py SPACE TABLE TABLE ... --output TABLE

That is exp of the mean loss of nets that were trained apart, on the same masked tokens. What one
run has by chance the others have not, as with several seeds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from nastool import load_space
from nastool.errors import InvalidInputError
from nastool.files.reading import read_json_object
from nastool.files.writing import write_whole
from nastool_supernets.measuring.tables import read_table, write_table

ALIKE = ("text", "part", "blocks", "masked_tokens", "mask_seed", "vocabulary")
"""What cards must say alike: losses on other tokens have no mean."""


@click.command()
@click.argument("space_name", metavar="SPACE")
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path))
def main(space_name: str, tables: tuple[Path, ...], output: Path) -> None:
    """Write the table of several nets, with a card of what they have in common and of each."""
    space = load_space(space_name)
    cards = [read_json_object(_card(table)) for table in tables]
    for name in ALIKE:
        said = [f"{card.get(name)!r} of {table}" for table, card in zip(tables, cards, strict=True)]
        if any(card.get(name) != cards[0].get(name) for card in cards):
            raise InvalidInputError(
                f"nets must be measured alike, but {name} is not: {', '.join(said)}"
            )
    values = [read_table(table, space) for table in tables]
    shapes = set.intersection(*map(set, values))
    means = {s: float(np.exp(np.mean([np.log(table[s]) for table in values]))) for s in shapes}
    write_table(output, space, means)
    write_whole(_card(output), json.dumps(_described(tables, cards), indent=2) + "\n")
    click.echo(f"{len(means):,} shapes, {min(means.values()):.1f} to {max(means.values()):.1f}")


def _described(tables: tuple[Path, ...], cards: list[dict[str, Any]]) -> dict[str, Any]:
    """What the nets have in common, and what each has alone, by the name of its table."""
    shared = {k: v for k, v in cards[0].items() if all(card.get(k) == v for card in cards)}
    own = [{k: v for k, v in card.items() if k not in shared} for card in cards]
    return {
        "perplexity": "geometric mean over the nets, each trained on its own",
        **shared,
        "nets": {table.name: card for table, card in zip(tables, own, strict=True)},
    }


def _card(table: Path) -> Path:
    return table.with_name(f"{table.name}.card.json")


if __name__ == "__main__":
    main()
