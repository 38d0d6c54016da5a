import gzip
import json
import zlib

import numpy as np
import pytest
from click.testing import CliRunner

from nastool import discovery
from nastool.cli.fit import fit
from nastool.errors import InvalidInputError
from nastool.objective import Direction
from nastool.plugins import load_objective, register_space
from nastool.predictors import load_predictor
from nastool.problem import Problem
from nastool.testing import Widths

WIDTHS = (60, 120, 180)
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("few_trees")  # what is tested here is the command


def rows(n=250, seed=0):
    rng = np.random.default_rng(seed)
    shapes = rng.choice(WIDTHS, (n, 5))
    return shapes, 100 - shapes @ np.array([0.1, 0.05, 0.02, 0.01, 0.2])


def write(path, shapes, values, target="perplexity"):
    header = ",".join([*(f"layer_{i + 1}" for i in range(shapes.shape[1])), target])
    lines = [",".join([*map(str, s), str(v)]) for s, v in zip(shapes, values, strict=True)]
    text = "\n".join([header, *lines]) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def run(*arguments):
    result = CliRunner().invoke(fit, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_a_table_becomes_a_predictor(tmp_path, name):
    shapes, values = rows()
    table = write(tmp_path / name, shapes, values)
    result = run(table, "--output", tmp_path / "p")
    assert result.exit_code == 0, result.output
    for word in ("R2", "Spearman", "Kendall", "RMSE"):
        assert word in result.output
    predictor, card = load_predictor(tmp_path / "p")
    distinct = len(np.unique(shapes, axis=0))
    assert card.shapes == distinct
    assert card.scores.n == round(0.3 * distinct)
    assert card.choices == (WIDTHS,) * 5
    assert card.scores.spearman > 0.9
    # What is saved was fitted on all shapes, also the held-out ones.
    assert np.abs(predictor.predict(shapes).mean - values).max() < card.scores.rmse


def test_without_a_space_the_target_is_what_the_table_has(tmp_path, monkeypatch):
    class Other(Widths):
        objectives = ("params",)

    monkeypatch.setattr(discovery, "_registered", discovery._registered.copy())
    register_space("aaa")(lambda argument=None: Other())
    table = write(tmp_path / "t.csv", *rows())
    assert run(table, "--output", tmp_path / "p").exit_code == 0
    assert load_predictor(tmp_path / "p")[1].metric == "perplexity"


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    shapes, values = rows()
    columns = {f"layer_{i + 1}": shapes[:, i] for i in range(5)} | {"perplexity": values}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert run(tmp_path / "t.parquet", "--output", tmp_path / "p").exit_code == 0


@pytest.mark.parametrize("beside", ["t.json", "t.csv.card.json"])
def test_what_was_measured_reaches_the_card(tmp_path, beside):
    table = write(tmp_path / "t.csv", *rows())
    (tmp_path / beside).write_text(json.dumps({"space": "minilm-5", "tokens": 4096}))
    run(table, "--output", tmp_path / "p", "--unit", "nats", "--metric", "loss")
    card = load_predictor(tmp_path / "p")[1]
    assert (card.space, card.source["tokens"]) == ("minilm-5", 4096)
    assert (card.unit, card.metric, card.source["target"]) == ("nats", "loss", "perplexity")


def test_a_table_in_milliseconds_makes_a_predictor_of_seconds(tmp_path):
    shapes, values = rows()
    table = write(tmp_path / "t.csv", shapes, values, "ms")
    words = ("--target", "ms", "--unit", "ms", "--model", "linear", "--output", tmp_path / "p")
    shown = run(table, *words).output
    predictor, card = load_predictor(tmp_path / "p")
    assert card.unit == "s"
    assert predictor.predict(shapes).mean == pytest.approx(values / 1000, abs=1e-6)
    assert 0 <= card.scores.rmse < 1e-6
    assert not any(line.endswith(" ms") for line in shown.split("│"))
    kept = np.loadtxt(tmp_path / "p" / "measurements.csv", delimiter=",", skiprows=1)
    assert kept[:, -1] == pytest.approx((100 - kept[:, :-1] @ [0.1, 0.05, 0.02, 0.01, 0.2]) / 1000)


def test_what_is_better_when_larger_is_maximised(tmp_path):
    shapes, values = rows()
    table = write(tmp_path / "t.csv", shapes, values, "accuracy")
    words = ("--target", "accuracy", "--model", "linear", "--output")
    run(table, *words, tmp_path / "p", "--maximize")
    space = Widths(layers=5, widths=WIDTHS)
    objective = load_objective(f"predicted[{tmp_path / 'p'}]", space)
    every = space.sample(50, RNG)
    shown = Problem(space, (objective,)).evaluate(every).objectives[:, 0]
    np.testing.assert_array_equal(shown, -objective.evaluate(every))
    run(table, *words, tmp_path / "q")
    assert load_predictor(tmp_path / "q")[1].direction is Direction.MINIMIZE
    # What is recalibrated keeps its direction.
    again = ("--target", "accuracy", "--transfer", tmp_path / "p", "--output", tmp_path / "r")
    write(table, shapes[:30], values[:30] * RNG.uniform(1, 1.1, 30), "accuracy")
    run(table, *again)
    assert load_predictor(tmp_path / "r")[1].direction is Direction.MAXIMIZE


def test_a_space_of_a_plugin_file(tmp_path):
    plugin = tmp_path / "plug.py"
    plugin.write_text(
        "from nastool.plugins import register_space\n"
        "from nastool.testing import Widths\n"
        "@register_space('fitted')\n"
        "class Fitted(Widths):\n"
        "    'Two widths.'\n"
        "    def __init__(self, argument=None):\n"
        "        super().__init__(layers=2)\n"
    )
    space = Widths(layers=2)
    lines = [",".join(map(str, [*row, sum(row)])) for row in space.decode(space.sample(60, RNG))]
    names = ",".join(gene.name for gene in space.genes)
    (tmp_path / "t.csv").write_text("\n".join([f"{names},loss", *lines]))
    words = ("--space", "fitted", "--target", "loss", "--model", "linear")
    run(tmp_path / "t.csv", *words, "--output", tmp_path / "p", "--plugin", plugin)
    assert load_predictor(tmp_path / "p")[1].genes == tuple(gene.name for gene in space.genes)


def test_failed_and_repeated_measurements(tmp_path):
    shapes, values = rows()
    _, first = np.unique(shapes, axis=0, return_index=True)
    shapes, values = shapes[first], values[first]
    shapes = np.concatenate([shapes, shapes[:1], shapes[:1]])
    values = np.concatenate([values, values[:1] + 2, [np.nan]])
    result = run(write(tmp_path / "t.csv", shapes, values), "--output", tmp_path / "p")
    assert "1 rows" in result.output
    assert load_predictor(tmp_path / "p")[1].shapes == len(first)


def test_the_seed_fixes_everything(tmp_path):
    table = write(tmp_path / "t.csv", *rows())
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(table, "--output", tmp_path / name, "--seed", seed)
    cards = [(tmp_path / n / "card.json").read_text() for n in "abc"]
    assert cards[0] == cards[1] != cards[2]


def test_a_column_can_be_a_cost(tmp_path):
    shapes, values = rows()
    table = tmp_path / "t.csv"
    names = [f"layer_{i + 1}" for i in range(5)]
    lines = [",".join(map(str, [*s, s.sum(), v])) for s, v in zip(shapes, values, strict=True)]
    table.write_text("\n".join([",".join([*names, "flops", "ms"]), *lines]))
    run(table, "--target", "ms", "--cost", "flops", "--output", tmp_path / "p")
    assert load_predictor(tmp_path / "p")[1].costs == ("flops",)
    with pytest.raises(InvalidInputError, match="flops"):
        run(table, "--target", "ms", "--cost", "params", "--output", tmp_path / "p")


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("layer_1,layer_2,perplexity\n", (), "header and"),
        ("", (), "header and"),
        ("layer_1,layer_2,loss\n1,2,3\n", (), "'perplexity'"),
        ("a,b,perplexity\n1,2,3\n", (), "layer_1"),
        ("layer_1,layer_3,perplexity\n1,2,3\n", (), "layer_1"),
        ("layer_1,layer_2,perplexity\n1,2,three\n", (), "'three'"),
        ("layer_1,layer_2,perplexity\n1,2\n", (), "line 2: expected 3 cells, got 2"),
        ("layer_1,layer_1,perplexity\n1,2,3\n", (), "'layer_1' stands twice in the header"),
        ("layer_1,layer_2,perplexity\n1,2,3\n3,4,5\n", (), "at least 3 shapes"),
        (
            "layer_1,layer_2,perplexity\n1,2,3\n3,4,5\n",
            ("--test-fraction", "0.3"),
            "at least 3 shapes",
        ),
        ("layer_1,layer_2,perplexity\n1,2,3\n", ("--model", "transfer"), "--transfer"),
        (
            "layer_1,layer_2,perplexity\n1,2,3\n",
            ("--transfer", "d", "--model", "linear"),
            "--model",
        ),
        ("layer_1,layer_2,perplexity\n1,2,nan\n", (), "finite"),
        ("layer_1,layer_2,perplexity\n1,2,3\n", ("--test-fraction", "1.5"), "--test-fraction"),
        ("layer_1,layer_2,perplexity\n1,2,3\n", ("--model", "oracle"), "xgboost"),
        (
            "layer_1,layer_2,perplexity,ms\n1,2,3,4\n",
            ("--cost", "perplexity"),
            "must be one of ms; got 'perplexity'",
        ),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, text, arguments, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InvalidInputError, match=message) as caught:
        run(tmp_path / "t.csv", "--output", tmp_path / "p", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "p").exists()


def test_names_with_brackets_are_shown_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    metric, output = "latency[/home/me/dev]", tmp_path / "p[b]"
    words = ("--model", "linear", "--metric", metric, "--output", output)
    result = run(write(tmp_path / "t.csv", *rows(40)), *words)
    assert result.exit_code == 0
    assert f"{metric}: Linear" in result.output
    assert f"Wrote {output}: " in result.output


def test_a_folder_that_cannot_be_is_named_before_fitting(tmp_path, monkeypatch):
    import nastool.predictors.fitting

    table = write(tmp_path / "t.csv", *rows())
    monkeypatch.setattr(nastool.predictors.fitting, "fit_table", None)
    for output in (table / "p", table / "deeper" / "p"):
        with pytest.raises(
            InvalidInputError, match=r"must lie in a folder, got the file .*t\.csv$"
        ):
            run(table, "--output", output)
    with pytest.raises(InvalidInputError, match="must be a new folder"):
        run(table, "--output", tmp_path)


def test_a_negative_seed_is_refused(tmp_path):
    result = run(write(tmp_path / "t.csv", *rows()), "--output", tmp_path / "p", "--seed", "-1")
    assert result.exit_code == 2
    assert "--seed" in result.output


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"\.csv"):
        run(tmp_path / "t.txt", "--output", tmp_path / "p")
    with pytest.raises(InvalidInputError, match="cannot read"):
        run(tmp_path / "t.csv", "--output", tmp_path / "p")


def test_a_damaged_gz_file_is_refused(tmp_path):
    table = write(tmp_path / "t.csv.gz", *rows())
    content = bytearray(table.read_bytes())
    content[30:60] = bytes(30)
    table.write_bytes(content)
    with pytest.raises(zlib.error):
        gzip.decompress(content)
    with pytest.raises(InvalidInputError, match=r"t\.csv\.gz: damaged"):
        run(table, "--output", tmp_path / "p")


def test_auto_reports_all_and_keeps_the_best(tmp_path, monkeypatch):
    from nastool.predictors import selection

    kinds = ("linear", "xgboost")
    monkeypatch.setattr(selection, "known_predictors", lambda: kinds)
    table = write(tmp_path / "t.csv", *rows())
    result = run(table, "--model", "auto", "--output", tmp_path / "p")
    assert all(kind in result.output for kind in kinds)
    # The table is linear in the widths.
    assert load_predictor(tmp_path / "p")[1].kind == "linear"


def test_a_known_device_helps_a_new_one(tmp_path):
    shapes, values = rows()
    run(write(tmp_path / "known.csv", shapes, values), "--output", tmp_path / "known")
    few, more = rows(12, seed=5)
    table = write(tmp_path / "new.csv", few, (more * 3 + 1) * RNG.uniform(0.999, 1.001, 12))
    run(table, "--transfer", tmp_path / "known", "--output", tmp_path / "new")
    predictor, card = load_predictor(tmp_path / "new")
    assert card.kind == "transfer"
    assert card.scores.n == card.shapes
    assert "XGBoost" in card.source["transferred_from"][0]
    assert np.corrcoef(predictor.predict(shapes).mean, values)[0, 1] > 0.99
    other = write(tmp_path / "other.csv", few[:, :3], more)
    with pytest.raises(InvalidInputError, match="layer_4"):
        run(other, "--transfer", tmp_path / "known", "--output", tmp_path / "x")


def test_what_is_recalibrated_has_not_seen_the_table(tmp_path):
    shapes, first = np.unique(rows(60)[0], axis=0, return_index=True)
    values = rows(60)[1][first]
    known = write(tmp_path / "known.csv", shapes[:40], values[:40])
    run(known, "--output", tmp_path / "known")
    arguments = ("--transfer", tmp_path / "known", "--output", tmp_path / "new")
    with pytest.raises(InvalidInputError, match="got 40 of the 40 rows"):
        run(known, *arguments)
    # A measurement that only a rounding moved, and a shape that was measured again.
    shapes = shapes[38:]
    values = np.concatenate([[values[38] * (1 + 1e-9), values[39] + 1], values[40:]])
    with pytest.raises(InvalidInputError, match=f"got 1 of the {len(shapes)} rows"):
        run(write(tmp_path / "new.csv", shapes, values), *arguments)
    assert not (tmp_path / "new").exists()
    run(write(tmp_path / "new.csv", shapes[1:], values[1:]), *arguments)
    assert (tmp_path / "new").exists()


def test_costs_are_those_of_what_is_recalibrated(tmp_path):
    shapes, values = rows(40)
    names = ",".join(f"layer_{i + 1}" for i in range(5))
    for name, power in (("known", 1), ("new", 1.2)):
        lines = [
            ",".join(map(str, [*s, s.sum(), s[0], v**power]))
            for s, v in zip(shapes, values, strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"{names},flops,first,ms", *lines]))
    ms = ("--target", "ms")
    run(tmp_path / "known.csv", *ms, "--cost", "flops", "--output", tmp_path / "known")
    arguments = (tmp_path / "new.csv", *ms, "--transfer", tmp_path / "known")
    for wrong in ("first", "nonsense"):
        with pytest.raises(InvalidInputError, match=f"expected --cost flops, .* got {wrong}"):
            run(*arguments, "--cost", wrong, "--output", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for i, costs in enumerate([(), ("--cost", "flops")]):
        assert run(*arguments, *costs, "--output", tmp_path / f"new{i}").exit_code == 0


def test_a_space_names_the_genes_and_their_choices(tmp_path, monkeypatch):
    import nastool.plugins
    from nastool.space import ChainCost, Gene, SearchSpace

    widths = (*WIDTHS, 240)

    class Small(SearchSpace):
        name = "small"
        genes = tuple(Gene(f"layer_{i + 1}", widths, ordered=True) for i in range(5))
        costs = {  # noqa: RUF012 (a property of every space)
            "params": ChainCost("params", np.array(widths), (np.add.outer(widths, widths),) * 4)
        }

    monkeypatch.setattr(nastool.plugins, "load_space", lambda text: Small())
    table = write(tmp_path / "t.csv", *rows())
    run(table, "--space", "small", "--cost", "params", "--output", tmp_path / "p")
    card = load_predictor(tmp_path / "p")[1]
    assert (card.space, card.fingerprint) == ("small", Small().fingerprint)
    assert card.choices == (widths,) * 5
    assert card.costs == ("params",)
    shapes, values = rows()
    shapes[3, 2] = 61
    with pytest.raises(InvalidInputError, match="layer_3 must be one of 60, 120, 180, 240; got 61"):
        run(write(tmp_path / "u.csv", shapes, values), "--space", "small", "--output", tmp_path)
    with pytest.raises(InvalidInputError, match="layer_5"):
        run(
            write(tmp_path / "v.csv", shapes[:, :4], values),
            *("--space", "small", "--output", tmp_path),
        )


def test_the_order_of_other_measurements_is_told(tmp_path):
    table = write(tmp_path / "a.csv", *rows())
    shapes, values = rows(40, seed=5)
    # Measured anew: what is known already would be left out.
    values = values + np.random.default_rng(1).normal(0, 0.02 * values.std(), len(values))
    same = write(tmp_path / "same.csv", shapes, values * 3 + 1)
    reverse = write(tmp_path / "reverse.csv", shapes, 200 - values)
    result = run(
        table,
        "--against",
        f"news = {same}",
        "--against",
        f"b=c={reverse}",
        "--output",
        tmp_path / "p",
    )
    assert result.exit_code == 0, result.output
    assert "Rank agreement with news 0.99" in result.output
    _, card = load_predictor(tmp_path / "p")
    news, other = card.agreements
    assert (news.source, other.source) == ("news", "b=c")
    assert news.n == other.n == len(np.unique(shapes, axis=0))
    assert news.spearman > 0.95
    assert other.spearman == pytest.approx(-news.spearman, abs=0.01)


@pytest.mark.parametrize("text", ["news", "=a.csv", "news="])
def test_what_to_hold_against_is_a_name_and_a_table(tmp_path, text):
    table = write(tmp_path / "a.csv", *rows())
    with pytest.raises(InvalidInputError, match="expected SOURCE=TABLE"):
        run(table, "--against", text, "--output", tmp_path / "p")


def test_a_table_is_not_held_against_itself(tmp_path):
    shapes, values = rows()
    table = write(tmp_path / "a.csv", shapes, values)
    order = np.random.default_rng(0).permutation(len(values))
    copy = write(tmp_path / "copy.csv", shapes[order], values[order] * 1000)
    with pytest.raises(InvalidInputError, match="news: expected other measurements"):
        run(table, "--against", f"news={copy}", "--output", tmp_path / "p")
    known = {tuple(shape) for shape in shapes.tolist()}
    others, noise = rows(40, seed=5)
    new = [row for row, shape in enumerate(others.tolist()) if tuple(shape) not in known]
    others, noise = others[new], noise[new]
    both = np.concatenate([shapes, others])
    mixed = write(tmp_path / "mixed.csv", both, np.concatenate([values, noise * 3 + 1]))
    run(table, "--against", f"news={mixed}", "--output", tmp_path / "p")
    (agreement,) = load_predictor(tmp_path / "p")[1].agreements
    assert agreement.n == len(np.unique(others, axis=0))


def test_the_name_of_a_metric_can_be_seen(tmp_path):
    table = write(tmp_path / "a.csv", *rows())
    with pytest.raises(InvalidInputError, match="--metric must have characters"):
        run(table, "--metric", "", "--output", tmp_path / "p")
