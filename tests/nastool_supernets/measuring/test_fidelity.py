"""Successive halving over text: the same front for fewer tokens."""

import csv

import numpy as np
import pytest

from nastool import pareto
from nastool.errors import InvalidInputError
from nastool_supernets.measuring.fidelity import halve, parse_fidelity

BLOCKS = (16, 64, 256)


def noisy(seed, n=300):
    """Costs, and perplexities on each number of blocks: what text they are on shifts all alike."""
    rng = np.random.default_rng(seed)
    costs = rng.uniform(13, 24, n).round(2)
    true = np.log(60 + 600 * np.exp((13 - costs) / 3)) + rng.gamma(2, 0.08, n)
    shifts = [(0.1 * rng.standard_normal() + 0.03 * rng.standard_normal(n)) for _ in BLOCKS]
    pairs = zip(shifts, BLOCKS, strict=True)
    return costs, np.exp([true + shift / np.sqrt(b / 16) for shift, b in pairs])


def front(costs, values, rows):
    points = np.stack([costs[rows], values[rows]], axis=1)
    return set(rows[pareto.non_dominated(points)].tolist())


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_that_of_measuring_all_on_all(seed):
    costs, values = noisy(seed)
    asked = []

    def measure(rung, rows):
        asked.append((rung, rows))
        return values[rung, rows]

    found = halve(costs, BLOCKS, measure, always=(5, 7))
    last = np.flatnonzero(np.isfinite(found.values[-1]))
    assert front(costs, values[-1], last) == front(costs, values[-1], np.arange(300))
    assert {5, 7} <= set(last.tolist())
    for rung in range(3):
        rows = np.concatenate([rows for k, rows in asked if k == rung])
        assert len(rows) == len(set(rows.tolist())) == found.counts[rung]
    assert found.counts[0] == 300 > found.counts[1] >= found.counts[2]
    read = sum(n * b for n, b in zip(found.counts, BLOCKS, strict=True))
    assert found.saved == pytest.approx(1 - read / 300 / 256)
    assert found.saved > 0.1


def test_few_shapes_and_values_that_are_none_end_too():
    costs = np.array([1.0, 2.0, 3.0])
    values = np.array([[3.0, np.inf, 1.0], [3.0, np.nan, 1.0]])
    found = halve(costs, (1, 2), lambda rung, rows: values[rung, rows])
    assert found.counts == [3, 3]
    same = halve(costs, (1, 2), lambda _, rows: np.full(len(rows), 2.0))
    assert same.counts[0] == 3


@pytest.mark.parametrize(
    "text", ["", "16,64", "blocks", "blocks=16", "blocks=64,16", "blocks=16,x", "tokens=1,2"]
)
def test_blocks_must_ascend(text):
    with pytest.raises(InvalidInputError, match="--fidelity: expected two or more numbers"):
        parse_fidelity(text)
    assert parse_fidelity("blocks=16, 64,1k") == (16, 64, 1000)


def test_the_command_measures_what_may_be_on_the_front(tmp_path, monkeypatch, toy_net):
    from click.testing import CliRunner

    from nastool.cli.main import main

    monkeypatch.chdir(tmp_path)
    net, text = toy_net
    base = ["measure", str(net), "--text", str(text), "--shapes", "40", "--dtype", "float32"]

    def run(*options):
        return CliRunner().invoke(main, [*base, *options])

    few = run("--fidelity", "blocks=2,4,8", "--output", "few.csv")
    assert few.exit_code == 0, few.output
    assert "Shapes by blocks: 42 on 2, " in few.stderr
    assert "% of the tokens saved" in few.stderr
    assert run("--blocks", "8", "--storage", "none", "--output", "all.csv").exit_code == 0
    texts = [(tmp_path / name).read_text() for name in ("few.csv", "all.csv")]
    tables = [list(csv.reader(text.splitlines())) for text in texts]
    known = {tuple(row[:-1]): float(row[-1]) for row in tables[1][1:]}
    rows = {tuple(row[:-1]): float(row[-1]) for row in tables[0][1:]}
    assert {("2",) * 3, ("16",) * 3} <= rows.keys() <= known.keys()
    for shape, value in rows.items():
        assert value == pytest.approx(known[shape], rel=1e-6)
    again = run("--fidelity", "blocks=2,4,8", "--output", "few.csv")
    assert again.exit_code == 0, again.output
    for options, said in (
        (["--fidelity", "blocks=2,4", "--blocks", "3"], "expected no --blocks beside it"),
        (["--fidelity", "blocks=2,99k"], "blocks there are, got 99000"),
        (["--fidelity", "blocks=2"], "expected two or more numbers"),
    ):
        wrong = run(*options, "--output", "wrong.csv")
        assert wrong.exit_code == 2
        assert said in wrong.output
        assert not (tmp_path / "wrong.csv").exists()


@pytest.fixture(scope="module")
def toy_net(tmp_path_factory):
    """A net of random weights with 343 shapes, and a text."""
    torch = pytest.importorskip("torch")
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer
    from nastool_supernets.saved import save_model
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.supernet_config import SuperShaperConfig

    folder = tmp_path_factory.mktemp("fidelity")
    text = folder / "words.txt"
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    text.write_text("".join(" ".join(rng.choice(words, 60)) + ".\n\n" for _ in range(40)))
    tokenizer = train_tokenizer(text_files([text]), 200)
    torch.manual_seed(0)
    config = SuperShaperConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        widths=(2, 4, 6, 8, 10, 12, 16),
        initializer_range=0.3,
    )
    net = folder / "net"
    net.mkdir()
    save_model(SuperShaperForMaskedLM(config), net)
    tokenizer.save_pretrained(net)
    return net, text
