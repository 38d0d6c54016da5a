"""Successive halving over text: the same front for fewer tokens."""

import csv
import json

import numpy as np
import pytest

from nastool import pareto
from nastool.errors import InvalidInputError
from nastool.recipes.fidelity import parse_fidelity, split_settings
from nastool_supernets.measuring.fidelity import halve
from tests.supershaped import tiny_net

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

    found = halve(costs, len(BLOCKS), measure, always=(5, 7))
    last = np.flatnonzero(np.isfinite(found[-1]))
    counts = np.isfinite(found).sum(axis=1).tolist()
    assert front(costs, values[-1], last) == front(costs, values[-1], np.arange(300))
    assert {5, 7} <= set(last.tolist())
    for rung in range(3):
        rows = np.concatenate([rows for k, rows in asked if k == rung])
        assert len(rows) == len(set(rows.tolist())) == counts[rung]
    assert counts[0] == 300 > counts[1] >= counts[2]
    saved = 1 - sum(n * b for n, b in zip(counts, BLOCKS, strict=True)) / 300 / 256
    assert saved > 0.1
    said = parse_fidelity("blocks=16,64,256").said(counts)
    assert said.endswith(f"{counts[2]} on 256; {saved:.0%} of the tokens saved")
    said = parse_fidelity("blocks=1,2").said([12, 12])
    assert said == "Shapes by blocks: 12 on 1, 12 on 2; 50% more tokens than all at once"


def test_few_shapes_and_values_that_are_none_end_too():
    costs = np.array([1.0, 2.0, 3.0])
    values = np.array([[3.0, np.inf, 1.0], [3.0, np.nan, 1.0]])
    found = halve(costs, 2, lambda rung, rows: values[rung, rows])
    # What failed on few blocks is on no front.
    assert found.tolist() == [[3, np.inf, 1], [3, pytest.approx(np.nan, nan_ok=True), 1]]
    same = halve(costs, 2, lambda _, rows: np.full(len(rows), 2.0))
    assert np.isfinite(same[0]).all()


@pytest.mark.parametrize(
    "text", ["", "16,64", "blocks", "blocks=16", "blocks=64,16", "blocks=16,x", "=1,2", "a b=1,2"]
)
def test_blocks_must_ascend(text):
    with pytest.raises(InvalidInputError, match="--fidelity: expected two or more numbers"):
        parse_fidelity(text)
    read = parse_fidelity("blocks=16, 64,1k")
    assert (str(read), str(read.cheaper)) == ("blocks=16,64,1000", "blocks=16,64")


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
        (["--fidelity", "tokens=2,4"], "expected blocks=N,N,..., got 'tokens=2,4'"),
    ):
        wrong = run(*options, "--output", "wrong.csv")
        assert wrong.exit_code == 2
        assert said in wrong.output
        assert not (tmp_path / "wrong.csv").exists()


@pytest.mark.parametrize(
    ("text", "bare", "settings"),
    [
        ("net,blocks=16", "net", {"blocks": "16"}),
        ("my, net,text=a, b=c.txt,blocks=16", "my, net", {"text": "a, b=c.txt", "blocks": "16"}),
        ("net,x=1,text=a", "net,x=1", {"text": "a"}),
        ("net,blocks=1,blocks=2", "net,blocks=1", {"blocks": "2"}),
        ("net,x=1", "net,x=1", {}),
    ],
)
def test_settings_in_brackets_may_have_commas(text, bare, settings):
    found = f"measured_perplexity[{bare}]", settings
    assert split_settings(f"measured_perplexity[{text}]") == found


def test_a_search_goes_on_to_more_with_what_may_be_on_the_front(tmp_path, monkeypatch, toy_net):
    from click.testing import CliRunner

    import nastool
    from nastool.cli.main import main

    monkeypatch.chdir(tmp_path)
    net, text = toy_net
    metric = f"measured_perplexity[{net},text={text},dtype=float32%s]"
    base = ["--space", f"supershaper[{net}]", "--strategy", "random", "--seed", "1"]
    base += ["--objective", "params", "--max", "params=20k"]

    def run(blocks, *options):
        arguments = ["search", *base, "--objective", metric % blocks, *options]
        return CliRunner().invoke(main, arguments)

    def rows(name):
        with open(name) as file:
            return {
                row["shape"]: float(row[f"measured_perplexity[{net}]"])
                for row in csv.DictReader(file)
            }

    steps = ("--fidelity", "blocks=2,4,8", "--study", "few", "--budget", "40")
    few = run("", *steps, "--output", "few.csv")
    assert few.exit_code == 0, few.output
    whole = run(",blocks=8", "--budget", "40", "--storage", "none", "--output", "all.csv")
    assert whole.exit_code == 0, whole.output
    assert rows("few.csv") == pytest.approx(rows("all.csv"), rel=1e-6)

    shown = CliRunner().invoke(main, ["show", "few", "--format", "json"])
    assert shown.exit_code == 0, shown.output
    said = json.loads(shown.stdout)
    assert said["fidelity"].startswith("Shapes by blocks: 40 on 2, ")
    assert said["fidelity"].startswith("Shapes by blocks: 40 on 2, ")
    studies = CliRunner().invoke(main, ["studies", "--format", "json"])
    names = {study["name"]: study["evaluations"] for study in json.loads(studies.stdout)["studies"]}
    assert names.keys() == {"few", "few-blocks-4", "few-blocks-2"}
    assert 40 == names["few-blocks-2"] >= names["few-blocks-4"] >= names["few"] >= 12

    again = run("", *steps, "--output", "again.csv")
    assert again.exit_code == 0, again.output
    assert rows("again.csv") == rows("few.csv")
    more = run("", *steps[:-1], "60")
    assert more.exit_code == 0, more.output
    assert "60 on 2" in more.output
    recipe = CliRunner().invoke(main, ["show", "few", "--recipe"])
    assert 'fidelity = "blocks=2,4,8"' in recipe.stdout

    found = nastool.search(
        f"supershaper[{net}]",
        [metric % "", "params"],
        max={"params": "20k"},
        strategy="random",
        budget=40,
        seed=1,
        store="sqlite:///python.db",
        fidelity="blocks=2,4,8",
    )
    assert len(found.front()) == len(rows("few.csv"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fidelity", "blocks=4,2"], "expected two or more numbers"),
        (["--fidelity", "parts=2,4"], "expected one objective with a setting 'parts'"),
        (["--fidelity", "blocks=2,4", "--storage", "none"], "expected a --storage"),
        (["--fidelity", "blocks=2,4", "--time", "1h"], "expected no --time beside it"),
        (["--fidelity", "blocks=2,4", "--from", "x.csv"], "expected no --from beside it"),
    ],
)
def test_steps_that_mean_nothing_are_refused(tmp_path, monkeypatch, options, said):
    from click.testing import CliRunner

    from nastool.cli.main import main

    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["search", "--space", "supershaper", *options])
    assert found.exit_code == 2
    assert said in found.output
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def toy_net(tmp_path_factory):
    """A net of random weights with 343 shapes, and a text."""
    pytest.importorskip("torch")
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer
    from nastool_supernets.saved import save_model

    folder = tmp_path_factory.mktemp("fidelity")
    text = folder / "words.txt"
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    text.write_text("".join(" ".join(rng.choice(words, 60)) + ".\n\n" for _ in range(40)))
    tokenizer = train_tokenizer(text_files([text]), 200)
    model = tiny_net(
        vocab_size=len(tokenizer),
        num_hidden_layers=3,
        max_position_embeddings=64,
        widths=(2, 4, 6, 8, 10, 12, 16),
    )
    net = folder / "net"
    net.mkdir()
    save_model(model, net)
    tokenizer.save_pretrained(net)
    return net, text
