import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nastool.cli.main import main
from nastool.errors import InvalidInputError
from nastool_supershaper.paper.devices import insensitive, matters
from nastool_supershaper.paper.items import TITLES, Status, chosen
from nastool_supershaper.paper.pages import MAKERS, make_items, paper_page
from nastool_supershaper.paper.searching import limits
from nastool_supershaper.paper.sources import find_sources
from nastool_supershaper.paper.training import _banded, correlation
from tests.supershaped import tiny_net

WIDTHS = (120, 240, 360, 480, 540, 600, 768)
QUICK = ("2", "3b", "3c", "6", "9", "table1", "table4", "table5", "table6", "table8")


def report(folder, **changes):
    """What fine-tuning two shapes wrote."""

    def entry(shape, mode, score):
        return {"shape": shape, "mode": mode, "scores": {"sst2": {"accuracy": {"mean": score}}}}

    small, large = "-".join(["120"] * 12), "-".join(["768"] * 12)
    content = {
        "tasks": [{"name": "sst2"}],
        "shapes": [entry(large, "partial", 91.5), entry(small, "partial", 80.0)],
        "pretraining": [
            {"shape": small, "mode": "partial", "steps_to_target": 100, "perplexities": [9.0]},
            {"shape": small, "mode": "scratch", "steps_to_target": 400, "perplexities": [12, 8]},
        ],
        "gains": [{"shape": small, "mode": "partial", "gain": 2.5}],
        "departures": ["at most 100 training examples"],
        **changes,
    }
    path = folder / "validation.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def full():
    """What ships of the paper's own space, with searches cut short."""
    return find_sources("supershaper", devices=["h100"], budget=200)


@pytest.fixture(scope="module")
def items(full):
    return {item.key: item for item in make_items(full, QUICK)}


def test_every_item_of_the_paper_has_a_maker():
    assert set(MAKERS) == set(TITLES)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3a,table6", ("3a", "table6")),
        ("Fig. 4", ("4",)),
        ("figure 2(b)", ("2",)),
        ("8f", ("8",)),
        ("Table 7, 3c", ("3c", "table7")),
    ],
)
def test_items_are_named_as_people_write_them(text, found):
    assert chosen((text,)) == found
    assert chosen(()) == tuple(TITLES)


@pytest.mark.parametrize("text", ["10", "table2", "3", "x"])
def test_unknown_items_are_refused(text):
    with pytest.raises(InvalidInputError, match=f"got '{text}'; known: 2, 3a"):
        chosen((text,))


def test_templates_stand_beside_the_published_ones(full, items):
    rows = {row[0]: dict(zip(items["table6"].columns, row, strict=True))
            for row in items["table6"].rows}  # fmt: skip
    triangle = rows["lower triangle"]
    assert (triangle["published_direct"], triangle["published_scratch"]) == (7.31, 4.67)
    assert triangle["params"] == pytest.approx(64e6, rel=0.01)
    # The shipped table has every shape with a name.
    assert items["table6"].status is Status.MEASURED
    genotype = full.space.parse(triangle["shape"])
    assert triangle["direct"] == full.measured_values(genotype)[0]


def test_what_needs_training_is_missing_and_says_what_makes_it(items):
    for key in ("3b", "3c", "table1", "table4", "table5", "table8"):
        item = items[key]
        assert item.status is Status.MISSING
        assert item.command.startswith("nastool ")
        assert item.takes
    names = [row[0] for row in items["table1"].rows]
    assert "NAS-BERT*" in names
    assert "DynaBERT†" in names
    # Printed numbers are there all the same: ten shapes with both perplexities.
    assert len(items["3b"].rows) == 10


def test_trajectories_are_those_of_the_run_that_ships(items):
    item = items["2"]
    assert item.status is Status.MEASURED
    assert [panel.name for panel in item.panels][:2] == ["fig2a", "fig2b"]
    ends = [row for row in item.rows if row[1] == "largest" and row[2] == "perplexity"]
    assert f"largest {ends[-1][4]:,.1f}" in item.findings[0]


def test_fine_tunings_fill_the_tables(tmp_path):
    sources = find_sources("supershaper", devices=["h100"], reports=[report(tmp_path)])
    found = {item.key: item for item in make_items(sources, ("3c", "table1", "table4", "table8"))}
    assert {item.status for item in found.values()} == {Status.MEASURED}
    (row,) = found["3c"].rows
    assert dict(zip(found["3c"].columns, row, strict=True))["saved_times"] == 4
    assert "4.0 to 4.0 times" in found["3c"].findings[0]
    ours = [r for r in found["table1"].rows if "ours" in str(r[0])]
    assert [r[found["table1"].columns.index("sst2")] for r in ours] == [80.0, 91.5]
    assert "ours: at most 100 training examples" in found["table1"].notes
    # The small shape is no rival of BERT-base.
    assert sum("ours" in str(r[0]) for r in found["table4"].rows) == 1
    assert [r[1] for r in found["table8"].rows[-2:]] == [1.0, pytest.approx(0.286, abs=1e-3)]


def test_a_report_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"validation\.json: expected what 'nastool valid"):
        find_sources("supershaper", reports=[report(tmp_path, shapes=None)])


def test_scratch_runs_are_ranked_against_slices(full):
    rng = np.random.default_rng(0)
    direct = np.linspace(300, 400, 30)
    rho, low, high = correlation(direct, direct + rng.normal(0, 5, 30), seed=0)
    assert low < rho < high
    assert rho > 0.9
    assert correlation(direct, direct, 0)[0] == 1


def run_of(folder, shape, perplexity, **origin):
    """A finished training of one shape."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"shape": shape}))
    (folder / "run.json").write_text(json.dumps({"origin": origin}))
    record = {"step": 1, "tokens": 9, "loss": {"subnet": 2.0}, "perplexity": {"subnet": perplexity}}
    (folder / "log.jsonl").write_text(json.dumps(record) + "\n")


def test_shapes_trained_from_scratch_stand_beside_their_slices(full, tmp_path):
    # Cigars, from small to large: all of them were measured.
    shapes = full.space.decode(full.space.heuristics["cigar"][[2, 9, 15, 21]])
    for place, shape in enumerate(shapes):
        run_of(tmp_path / str(place), shape, 90.0 - 10 * place, start="random weights")
    # A second run of a shape that ended worse, one that inherited weights, one that was taught.
    run_of(tmp_path / "again", shapes[0], 95.0, start="random weights")
    run_of(tmp_path / "partial", [540] * 12, 1.0)
    run_of(tmp_path / "taught", [600] * 12, 1.0, start="random weights", teacher="x")
    sources = find_sources("supershaper", devices=["h100"], runs=[tmp_path])
    (item,) = make_items(sources, ["3b"])
    assert item.status is Status.MEASURED
    ours = [row for row in item.rows if row[1] is not None]
    genotypes = np.array([full.space.parse(row[0])[0] for row in ours])
    assert [row[2] for row in ours] == [90, 80, 70, 60]
    assert [row[1] for row in ours] == full.measured_values(genotypes).tolist()
    assert "Over 4 shapes" in item.findings[0]
    assert "Spearman 1.000" in item.findings[0]
    # Two are too few to be ranked, and the page says which part is missing.
    (item,) = make_items(
        find_sources("supershaper", devices=["h100"], runs=[tmp_path / "1", tmp_path / "2"]), ["3b"]
    )
    assert item.status is Status.MISSING
    assert item.findings[0].startswith("2 shapes are trained from scratch, and 2 of them")


def test_the_ledger_knows_slices_that_no_table_has(tmp_path):
    pytest.importorskip("torch")
    from nastool.plugins import load_objective
    from nastool.store import open_store
    from nastool.store.ledger import keep_values
    from nastool_supernets.corpus.corpus import prepare_corpus
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer
    from nastool_supernets.saved import save_model

    text, net = tmp_path / "text.txt", tmp_path / "net"
    text.write_text("\n\n".join("a bad film and a good book" for _ in range(40)))
    tokenizer = train_tokenizer(text_files([text]), 60)
    net.mkdir()
    save_model(tiny_net(vocab_size=len(tokenizer)), net)
    tokenizer.save_pretrained(net)
    prepare_corpus(text_files([text]), tokenizer, net / "corpus", sequence_length=8, held_out=0.2)
    storage = f"sqlite:///{tmp_path / 'kept.db'}"
    sources = find_sources(str(net), storage=storage)
    genotypes = np.array([[0, 1], [2, 2], [1, 1]])
    assert np.isnan(sources.direct_values(genotypes)).all()  # there is no such store
    objective = load_objective(f"measured_perplexity:{net}", sources.space)
    with open_store(storage) as store:
        keep_values(store, sources.space, objective, genotypes[:2], np.array([7.0, 5.0]))
    np.testing.assert_equal(sources.direct_values(genotypes), [7.0, 5.0, np.nan])
    assert not (tmp_path / "nastool.db").exists()


def test_bands_of_a_diagonal_are_told_from_noise():
    edges = np.searchsorted(WIDTHS, np.arange(768), side="right").astype(float)
    assert _banded(edges, WIDTHS) == pytest.approx(1)
    assert _banded(np.random.default_rng(0).normal(size=768), WIDTHS) < 0.05
    assert _banded(np.ones(768), WIDTHS) == 0


def test_findings_are_sentences_with_numbers():
    shares = {"layer_12": 0.40, "layer_1": 0.07, "layer_5": 0.01}
    assert matters("perplexity", shares, "gain", 12) == (
        "The last and first layers matter most to perplexity: 0.40 and 0.07 (gain)."
    )
    assert matters("latency[x]", {"params": 0.9, "layer_4": 0.1}, "gain", 12) == (
        "params and 4th layer matter most to latency[x]: 0.90 and 0.10 (gain)."
    )
    assert insensitive({"gtx1080ti": 0.993, "h100": 0.011}) == (
        "Latency is insensitive to shape on gtx1080ti: 99.3% explained by parameters; not on "
        "h100: 1.1%."
    )
    assert insensitive({"h100": -0.2}) == (
        "Latency depends on shape; parameters explain of it on h100: 0.0%."
    )


def test_limits_are_the_papers_in_its_space_and_within_others(full):
    assert limits(full) == [40e6 + 10e6 * i for i in range(8)]
    small = find_sources("minilm-6")
    cost = small.space.costs["params"]
    assert all(cost.minimum[0] < limit < cost.maximum[0] for limit in limits(small))


def test_the_page_holds_every_item_and_escapes_nothing_away(full, items):
    text = paper_page(full, list(items.values()))
    for item in items.values():
        assert f"{item.label.capitalize()}: {TITLES[item.key]}" in text
    data = json.loads(
        re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text)[1]
    )
    assert data["columns"]["fig6-cigar"][0]["genotype"] == [0] * 12


def test_the_command_makes_a_page_and_a_table_an_item(tmp_path):
    net = str(Path("examples/minilm-6").resolve())
    words = ["paper", net, "--to", str(tmp_path / "a" / "b"), "--budget", "200"]
    done = CliRunner().invoke(main, [*words, "--only", "3a,4,5,table6,table7"])
    assert done.exit_code == 0, done.output
    written = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert written == [
        "figure-3a.csv", "figure-4.csv", "figure-5.csv", "index.html", "table-6.csv", "table-7.csv",
    ]  # fmt: skip
    with open(tmp_path / "a" / "b" / "figure-3a.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 384
    inputs = [float(row["softmax"]) for row in rows if row["bottleneck"] == "input"]
    assert sum(inputs) == pytest.approx(1, abs=1e-3)
    # No device has been measured for the small net.
    assert re.search(r"figure 5 +missing .*nastool latency measure", done.output)


def test_a_file_in_the_place_of_the_folder_is_refused_before_any_search(tmp_path):
    (tmp_path / "file").write_text("mine")
    done = CliRunner().invoke(main, ["paper", "minilm-6", "--to", str(tmp_path / "file")])
    assert done.exit_code == 2
    assert (tmp_path / "file").read_text() == "mine"
    done = CliRunner().invoke(main, ["paper", "nothing-here", "--to", str(tmp_path / "x")])
    assert done.exit_code == 2
    assert not (tmp_path / "x").exists()
