"""What ships trained for the paper's space is the mean of two nets, as the script makes it."""

import csv
import gzip
import json
import math
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

import nastool_supershaper
from nastool.errors import InvalidInputError
from nastool_supershaper.families import published_shapes

REFERENCE = Path(nastool_supershaper.__file__).parent / "reference"
SHIPPED = REFERENCE / "supershaper"
NETS = ("first_net.csv.gz", "second_net.csv.gz")


def perplexities(path):
    with gzip.open(path, "rt") as file:
        return {tuple(map(int, row[:-1])): float(row[-1]) for row in list(csv.reader(file))[1:]}


@pytest.fixture(scope="module")
def average():
    sys.path.insert(0, str(REFERENCE))
    try:
        import average

        yield average.main
    finally:
        sys.path.remove(str(REFERENCE))


def test_the_table_is_the_geometric_mean_of_nets_trained_apart():
    first, second = (perplexities(SHIPPED / name) for name in NETS)
    both = first.keys() & second.keys()
    expected = {shape: math.sqrt(first[shape] * second[shape]) for shape in both}
    assert perplexities(SHIPPED / "perplexity.csv.gz") == pytest.approx(expected, rel=1e-12)
    assert len(both) == 4655


def test_the_table_orders_the_ten_published_shapes_like_the_paper():
    table = perplexities(SHIPPED / "perplexity.csv.gz")
    ten = [shape for shape in published_shapes().values() if shape.source == "table 6"]
    ours = [table[tuple(shape.widths)] for shape in ten]
    assert spearmanr(ours, [shape.perplexity for shape in ten]).statistic == pytest.approx(
        0.939, abs=0.001
    )


def test_the_script_makes_what_ships(average, tmp_path):
    made = tmp_path / "perplexity.csv.gz"
    nets = [str(SHIPPED / name) for name in NETS]
    done = CliRunner().invoke(average, ["supershaper", *nets, "--output", str(made)])
    assert done.exit_code == 0, done.output
    assert done.output == "4,655 shapes, 298.2 to 508.2\n"
    # Logarithms differ in their last bit from one kind of processor to another.
    assert perplexities(made) == pytest.approx(perplexities(SHIPPED / made.name), rel=1e-14)
    card = f"{made.name}.card.json"
    assert json.loads((tmp_path / card).read_text()) == json.loads((SHIPPED / card).read_text())


def test_nets_that_were_measured_on_other_tokens_have_no_mean(average, tmp_path):
    nets = [str(SHIPPED / name) for name in ("first_net.csv.gz", "perplexity_news.csv.gz")]
    output = tmp_path / "perplexity.csv.gz"
    done = CliRunner().invoke(average, ["supershaper", *nets, "--output", str(output)])
    assert isinstance(done.exception, InvalidInputError)
    assert "nets must be measured alike, but text is not: " in str(done.exception)
    assert not output.exists()
