"""What is measured of exported models, and in which order."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.devices import Deployment, Device, Timing, Workload  # noqa: E402  # noqa: E402
from nastool.errors import (  # noqa: E402
    InvalidInputError,
    MissingDependencyError,
    NastoolError,
)
from nastool.plugins import load_device  # noqa: E402
from nastool_supernets.deployment import bench, models, sizes  # noqa: E402
from nastool_supernets.deployment.runtimes import FILES  # noqa: E402
from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertModel  # noqa: E402


class Clock(Device):
    """Takes as long as it is told, and notes when it was asked."""

    def __init__(self, name, turns, log):
        self.name, self.turns, self.log = name, iter(turns), log

    @property
    def facts(self):
        return {"clock": "imaginary"}

    def measure(self, deployment, warmup, repeats):
        self.log.append(self.name)
        return Timing(np.array(next(self.turns)))


def test_forms_take_turns_and_all_passes_count(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(123))
    log = []
    turns = {
        "a": [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [1.0, 1.0, 9.0]],
        "b": [[0.5], [0.5], [0.5]],
        "c": [[2.0]] * 3,
    }
    deployment = Deployment(torch.nn.Linear(2, 3), {}, Workload(4, 5))
    found = [
        bench.Candidate(name, "torch", tmp_path, Clock(name, seconds, log), deployment)
        for name, seconds in turns.items()
    ]
    rows = bench.measure(found, bench.Plan(rounds=3, memory=False))
    rounds = [log[i : i + 3] for i in range(0, 9, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1
    first, second, _ = rows
    assert [row.model for row in rows] == ["a", "b", "c"]
    assert (first.median, first.disk, first.parameters, first.memory) == (2.0, 123, 9, None)
    assert first.p90 == pytest.approx(np.quantile([1, 2, 3, 2, 3, 4, 1, 1, 9], 0.9))
    # Medians of the rounds: 2, 3 and 1.
    assert first.spread == pytest.approx((3 - 1) / 2)
    assert (second.spread, second.throughput) == (0.0, 8.0)


def test_the_order_depends_on_the_seed_alone(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    logs = []
    for seed in (0, 0, 1):
        log = []
        logs.append(log)
        deployment = Deployment(torch.nn.Identity(), {}, Workload())
        found = [
            bench.Candidate(n, "torch", tmp_path, Clock(n, [[1.0]] * 4, log), deployment)
            for n in "abcd"
        ]
        bench.measure(found, bench.Plan(rounds=4, memory=False, seed=seed))
    assert logs[0] == logs[1] != logs[2]


def test_every_form_of_a_folder_is_measured(nastool, exported, checked_json):
    folder, report = exported
    run = nastool(
        "bench", folder, "--baseline", "none", "--rounds", "2", "--repeats", "2", "--no-memory",
        "--batch-size", "3", "--sequence-length", "7", "--format", "json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    content = checked_json(run.stdout)
    assert [row["form"] for row in content["models"]] == ["torch", "onnx", "int8"]
    assert content["facts"]["batch_size"] == 3
    sizes_by_form = {row["form"]: row["bytes"] for row in report["rows"]}
    for row in content["models"]:
        assert row["model"] == "tiny"
        assert row["parameters"] == report["parameters"]
        assert row["disk_B"] == sizes_by_form[row["form"]]
        assert 0 < row["median_s"] <= row["p90_s"] < 10
        assert row["texts_per_s"] == pytest.approx(3 / row["median_s"])


def test_pytorch_in_half_the_bits_stands_beside_and_is_scored_as_it_runs(
    nastool, exported, tmp_path, checked_json
):
    pytest.importorskip("onnxruntime")
    folder, text = exported[0], "a good film"
    examples = tmp_path / "dev.tsv"
    examples.write_text(f"sentence\tlabel\n{text}\t0\na bad film\t1\n")
    run = nastool(
        "bench", folder, "--baseline", "none", "--rounds", "1", "--repeats", "1",
        "--sequence-length", "4", "--dtype", "float32", "--dtype", "bfloat16",
        "--examples", examples, "--format", "json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    content = checked_json(run.stdout)
    found = [(row["form"], row["dtype"]) for row in content["models"]]
    assert found[:3] == [("torch", "float32"), ("torch", "bfloat16"), ("onnx", "float32")]
    assert found[3:] == [("int8", "int8")]
    assert "dtype" not in content["facts"]
    [model] = [one for one in bench.candidates(folder, "tiny", Workload(1, 4), dtypes=["bfloat16"])
               if one.form == "torch"]  # fmt: skip
    inputs = dict(transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="np"))
    expected = models.load_model(folder).to(torch.bfloat16)(
        **{name: torch.from_numpy(values) for name, values in inputs.items()}
    )
    got = bench._run_of(model, "torch", 1)(inputs)
    assert got["logits"].dtype == np.float32
    np.testing.assert_array_equal(got["logits"], expected.logits.detach().float().numpy())


def test_a_form_without_its_runtime_is_left_out(exported, monkeypatch):
    real = bench.load_device

    def load(text, settings):
        if text == "onnxruntime":
            raise MissingDependencyError("install it")
        return real(text, settings)

    monkeypatch.setattr(bench, "load_device", load)
    skipped = []
    found = bench.candidates(exported[0], "tiny", Workload(1, 4), skip=skipped.append)
    assert [one.form for one in found] == ["torch"]
    assert skipped == [f"tiny, {form} is left out: install it" for form in ("onnx", "int8")]


def test_formats(nastool, exported, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # no terminal: rows stay whole
    arguments = [exported[0], "--baseline", "none", "--rounds", "1", "--repeats", "1",
                 "--no-memory", "--sequence-length", "4"]  # fmt: skip
    table = nastool("bench", *arguments)
    assert table.exit_code == 0, table.stderr
    assert table.stdout.splitlines()[0].split()[-3:] == ["p90", "spread", "texts/s"]
    assert table.stdout.splitlines()[1].split()[:2] == ["tiny", "torch"]
    assert "sequence length 4" in table.stdout
    rows = list(csv.DictReader(nastool("bench", *arguments, "--format", "csv").stdout.splitlines()))
    assert [row["form"] for row in rows] == ["torch", "onnx", "int8"]
    assert all(float(row["median_s"]) > 0 for row in rows)


def test_every_form_of_a_model_is_scored(nastool, exported, tmp_path):
    pytest.importorskip("onnxruntime")
    folder, examples = exported[0], tmp_path / "dev.tsv"
    examples.write_text("sentence\tlabel\na good film\t0\na bad film\t1\ni like it\t0\n")
    arguments = ["--rounds", "1", "--repeats", "1", "--no-memory", "--sequence-length", "4"]
    run = nastool(
        "bench", folder, "--baseline", "none", *arguments, "--examples", examples,
        "--plot", "forms.html", "--format", "json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    content = json.loads(run.stdout)
    assert content["facts"]["scored on"].startswith("3 examples of dev.tsv")
    scores = {row["form"]: row["quality"]["accuracy"] for row in content["models"]}
    # What the same file says in plain transformers is what stands beside the form.
    model = models.load_model(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [line.split("\t") for line in examples.read_text().splitlines()[1:]]
    right = [
        int(model(**tokenizer(text, return_tensors="pt")).logits.argmax()) == int(label)
        for text, label in rows
    ]
    assert scores["torch"] == scores["onnx"] == pytest.approx(np.mean(right))
    page = Path("forms.html").read_text()
    assert 'id="quality-0"' in page
    assert "Latency over accuracy" in page
    assert "tiny" in page


def test_what_was_not_scored_is_a_line_of_its_own(tmp_path):
    from nastool_supernets.deployment.pictures import bench_page, draw_quality

    ours = {"parameters": 9, "disk": 8, "p90": 1.5, "spread": 0.1, "throughput": 1.0}
    rows = [
        bench.Row("a", "torch", median=1.0, memory=None, quality={"accuracy": 0.8}, **ours),
        bench.Row("a", "int8", median=0.5, memory=None, quality={"accuracy": 0.7}, **ours),
        bench.Row("bert-base", "torch", median=1.2, memory=None, **ours),
    ]
    figure = draw_quality(rows, "accuracy")
    line, other = figure.data
    assert list(line.x) == [0.7, 0.8]  # by latency
    assert list(line.text) == ["int8", "torch"]
    assert (other.name, list(other.y)) == ("bert-base, torch", [1.2, 1.2, 1.2])
    page = bench_page(rows, {"threads": 1, "load": None})
    assert "<b>load</b> not known" in page
    # Memory that nobody measured has no picture.
    assert 'id="memory"' not in page
    assert 'id="quality-0"' not in bench_page(rows[2:], {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "5"), "--limit: expected --text, --corpus or --examples beside it"),
        (("--max-length", "9"), "--max-length: expected --examples beside it"),
        (("--tokenizer", "x"), "--tokenizer: expected --text, --corpus or --examples beside it"),
        (("--plot", "x.png"), "--plot: must end in .html, got 'x.png'"),
        (
            ("--text", "x.txt"),
            "measure language models alone, got classification",
        ),
        (("--examples", "no.tsv"), "--examples: "),
    ],
)
def test_what_cannot_be_scored_is_one_line(nastool, exported, arguments, message):
    run = nastool("bench", exported[0], "--baseline", "none", "--sequence-length", "4", *arguments)
    assert run.exit_code == 2
    assert message in run.stderr


def test_files_are_run_as_they_are(exported, monkeypatch):
    """What is timed as 8 bits is the file with 8 bits, not the module exported anew."""
    pytest.importorskip("onnxruntime")
    folder, _ = exported
    import onnxruntime

    opened = []
    real = onnxruntime.InferenceSession

    def session(path, *arguments, **options):
        opened.append(Path(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    [_, _, eight] = bench.candidates(folder, "tiny", Workload(1, 4))
    load_device("onnxruntime").measure(eight.deployment, 0, 1)
    assert opened == [folder / FILES["int8"]]


def test_baselines_get_the_head_and_the_forms(exported, tmp_path, monkeypatch):
    folder, _ = exported
    tiny = {
        "bert-base": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
        "distilbert": {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12},
    }
    for name, (config, prefix) in list(models.BASELINES.items()):
        small = {"vocab_size": 30, "max_position_embeddings": 16, **tiny[name]}
        monkeypatch.setitem(
            models.BASELINES,
            name,
            (lambda config=config, small=small, **given: config(**small, **given), prefix),
        )
    (tmp_path / "bert").mkdir()
    bench.write_baseline("bert-base", folder, ["torch", "torch.compile"], tmp_path / "bert")
    [bert] = bench.candidates(tmp_path / "bert", "bert", Workload(1, 4))
    assert type(bert.deployment.module) is transformers.BertForSequenceClassification
    assert bert.deployment.module.config.num_labels == 2
    (tmp_path / "distil").mkdir()
    bench.write_baseline("distilbert", folder, ["torch", "onnx"], tmp_path / "distil")
    found = bench.candidates(tmp_path / "distil", "distil", Workload(2, 4))
    assert [one.form for one in found] == ["torch", "onnx"]
    # DistilBERT has no segments.
    assert list(found[1].deployment.inputs) == ["input_ids", "attention_mask"]
    assert all(row.median > 0 for row in bench.measure(found, bench.Plan(1, 1, 0, memory=False)))


def test_memory_is_that_of_a_process_of_its_own(exported):
    if not Path("/proc/self/status").is_file():
        pytest.skip("needs /proc")
    small, large = (
        sizes.peak_memory(exported[0], "onnx", Workload(batch, 20)) for batch in (1, 512)
    )
    # The logits are few, but 512 texts have 10,240 tokens of 32 numbers in each inner layer.
    assert 0 < small < large < 2e9
    assert large - small > 10_240 * 32 * 4


def test_a_compiled_model_is_a_form_of_its_own(exported):
    found = bench.candidates(exported[0], "tiny", Workload(1, 4), compiled=True)
    assert [one.form for one in found] == ["torch", "torch.compile", "onnx", "int8"]
    assert [one.device.facts.get("compiled") for one in found] == [False, True, None, None]


def test_what_fails_is_named(tmp_path):
    class Broken(Clock):
        def measure(self, deployment, warmup, repeats):
            raise NastoolError("PyTorch cannot run it: no compiler")

    deployment = Deployment(torch.nn.Identity(), {}, Workload())
    found = [bench.Candidate("a", "torch.compile", tmp_path, Broken("", [], []), deployment)]
    with pytest.raises(NastoolError, match=r"^a, torch\.compile: PyTorch cannot run it: no"):
        bench.measure(found, bench.Plan(memory=False))


def test_a_bert_of_ones_own_is_measured_beside(nastool, exported, tmp_path):
    sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=16)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    run = nastool(
        "bench", exported[0], "bert", "--baseline", "none", "--rounds", "1", "--repeats", "1",
        "--no-memory", "--sequence-length", "4", "--format", "json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    rows = json.loads(run.stdout)["models"]
    assert [(row["model"], row["form"]) for row in rows][-1] == ("bert", "torch")
    assert models.task_of(exported[0]) == models.task_of(tmp_path / "bert")
    model = transformers.BertForSequenceClassification.from_pretrained("bert")
    torch.save(model.state_dict(), "bert/pytorch_model.bin")
    (tmp_path / "bert" / "model.safetensors").unlink()
    run = nastool("bench", "bert", "--baseline", "none")
    assert run.exit_code == 2
    assert "expected weights in bert/model.safetensors" in run.stderr
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"damaged")
    run = nastool("bench", "bert", "--baseline", "none")
    assert run.exit_code == 2
    assert run.stderr.startswith("Error: no model can be read from bert: ")


def test_what_cannot_be_measured_is_one_line(nastool, exported, supernet, tmp_path):
    run = nastool("bench", tmp_path)
    assert run.exit_code == 2
    assert f"expected the folder of a model that 'nastool export' wrote, got {tmp_path}" in (
        run.stderr
    )
    run = nastool("bench", supernet)
    assert run.exit_code == 2
    assert f"RoBERTa or DistilBERT, but {supernet} holds a SuperShaperForMaskedLM" in run.stderr
    run = nastool("bench", exported[0], "--sequence-length", "21")
    assert run.exit_code == 2
    assert "the sequence length must be at most 20 for tiny, got 21" in run.stderr
    run = nastool("bench", exported[0], "--baseline", "none", "--baseline", "bert-base")
    assert run.exit_code == 2
    with pytest.raises(InvalidInputError, match="rounds must be at least 1, got 0"):
        bench.Plan(rounds=0)
    with pytest.raises(InvalidInputError, match="a baseline must be one of bert-base, distilbert"):
        bench.write_baseline("gpt", exported[0], [], tmp_path)


def test_padded_layers_are_run_and_not_counted(exported):
    pytest.importorskip("onnxruntime")
    plain, padded = (
        bench.measure(
            bench.candidates(exported[0], "tiny", Workload(1, 4), pad=pad),
            bench.Plan(rounds=1, repeats=1, memory=False),
        )
        for pad in ("none", "64")
    )
    assert [row.padding for row in plain] == ["none"] * 3
    assert [row.padding for row in padded] == ["64", "none", "none"]  # files are as they are
    assert [row.parameters for row in padded] == [row.parameters for row in plain]
    [chosen, *_] = bench.candidates(exported[0], "tiny", Workload(1, 4), pad="auto")
    assert chosen.padding in ("none", "8", "64")


def test_what_padding_holds_is_weighed(tmp_path):
    config = ShapedBertConfig((12,) * 12, vocab_size=30, hidden_size=12, intermediate_size=4096)
    ShapedBertModel(config).save_pretrained(tmp_path)
    padded = sizes.peak_memory(tmp_path, "torch", Workload(1, 8), padding="64")
    if padded is not None:
        # Of 12 to 64 wide, 4096 inside: 12 layers x 2 products x 64 x 4 KiB x 4 B, and what
        # passes take. Unpadded it is 18 MB.
        assert padded > 30e6
