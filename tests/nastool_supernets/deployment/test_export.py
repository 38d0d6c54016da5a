"""Exported folders: what is in them, where they load, and that they are whole or not there."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.errors import InvalidInputError, NastoolError  # noqa: E402
from nastool_supernets.corpus.tokenizer import load_tokenizer  # noqa: E402
from nastool_supernets.deployment import export as exporting  # noqa: E402
from nastool_supernets.deployment import forms  # noqa: E402
from nastool_supernets.family import head_of, with_head  # noqa: E402
from nastool_supernets.saved import load_shape, load_supernet  # noqa: E402
from nastool_supershaper.family import SuperShaper  # noqa: E402


@pytest.fixture
def export(nastool, supernet):
    def run(*arguments, shape="16-8", to="model"):
        return nastool("export", "--supernet", supernet, "--shape", shape, "--to", to, *arguments)

    return run


def test_auto_classes_load_it_with_the_plugin(export, supernet):
    run = export()
    assert run.exit_code == 0, run.stderr
    model = transformers.AutoModelForMaskedLM.from_pretrained("model").eval()
    net = load_supernet(supernet).model
    ids = torch.arange(5, 20).view(3, 5)
    with torch.inference_mode():
        expected = net(ids, shape=(16, 8)).logits
        torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert "Merged against the supernet: largest difference" in run.stdout
    assert sorted(path.name for path in Path("model").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "shaped_bert.py", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_the_card_says_what_it_is(exported):
    folder, report = exported
    card = (folder / "README.md").read_text()
    header = huggingface_hub.ModelCard(card).data
    assert header.license == "cc-by-4.0: own"
    assert header.pipeline_tag == "text-classification"
    assert header.tags[:2] == ["supershaper", "custom_code"]
    assert f"{report['parameters']:,} parameters" in card
    assert "cut out of supernet tiny-net" in card
    assert "fine-tuned before use" in card
    assert "| params |" in card
    assert "computed (closed form)" in card
    assert "AutoModelForSequenceClassification" in card
    for row in report["rows"]:
        assert f"| {row['form']} | {row['file']} |" in card
        assert (folder / row["file"]).stat().st_size == row["bytes"]
    weights = sum(p.numel() for p in load_shape(folder).parameters())
    assert weights == report["parameters"]


def test_quality_is_that_of_the_examples(exported):
    folder, report = exported
    model, tokenizer = load_shape(folder), load_tokenizer(folder)
    sentences = [
        "the film was good", "we like it", 'a "boring" movie', "this was not a great film i watch",
    ]  # fmt: skip
    with torch.inference_mode():
        chosen = [
            model(**tokenizer(s, return_tensors="pt")).logits.argmax().item() for s in sentences
        ]
    hits = sum(a == b for a, b in zip(chosen, [1, 1, 0, 0], strict=True))
    quality = {row["form"]: row["quality"] for row in report["rows"]}
    assert report["measured_on"] == "4 examples of films.tsv, at most 20 tokens each"
    assert quality["torch"] == {"accuracy": hits / 4}
    assert quality["onnx"] == {}
    assert quality["int8"]["accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0)


def test_perplexity_is_measured_on_text(export, supernet, tmp_path, checked_json):
    (tmp_path / "held_out.txt").write_text("the film was good\n\nwe like it not this movie\n" * 30)
    run = export("--text", "held_out.txt", "--limit", "3", "--format", "json")
    assert run.exit_code == 0, run.stderr
    report = checked_json(run.stdout)
    assert "masked tokens of held_out.txt" in report["measured_on"]
    [row] = report["rows"]
    assert 1 < row["quality"]["perplexity"] < 1e6
    assert f"| {row['quality']['perplexity']:.4g} |" in Path("model/README.md").read_text()


def test_text_of_another_vocabulary_is_refused(export, supernet, tmp_path):
    """As many tokens, other words: perplexity would be that of noise."""
    from nastool_supernets.corpus.corpus import prepare_corpus
    from nastool_supernets.corpus.text import text_files

    (tmp_path / "text.txt").write_text("the film was good\n\nwe like it not this movie\n" * 30)
    content = json.loads((supernet / "tokenizer.json").read_text())
    words = content["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(content))
    for file in supernet.glob("tokenizer_config.json"):
        (tmp_path / "other" / file.name).write_text(file.read_text())
    for name, status in ((supernet, 0), (tmp_path / "other", 2)):
        corpus = tmp_path / f"corpus{status}"
        sources = list(text_files(["text.txt"]))
        prepare_corpus(sources, load_tokenizer(name), corpus, sequence_length=16, held_out=0.0)
        run = export("--corpus", corpus, to=f"model{status}")
        assert run.exit_code == status, run.stderr
    assert "another vocabulary than that of the model" in run.stderr
    assert not (tmp_path / "model2").exists()


def test_answers_are_measured_in_every_form(export, tmp_path, monkeypatch):
    for library in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    context = "the film was good . we like it ."
    answer = {"text": "film", "answer_start": 4}
    questions = [{"id": "1", "question": "was it", "answers": [answer]}] * 3
    content = {"data": [{"paragraphs": [{"context": context, "qas": questions}]}]}
    (tmp_path / "asked.json").write_text(json.dumps(content))
    base = ("--head", "question-answering", "--examples", "asked.json", "--limit", "2")
    run = export(*base, "--int8", "--format", "json")
    assert run.exit_code == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["measured_on"] == "2 examples of asked.json, at most 20 tokens each"
    quality = {row["form"]: row["quality"] for row in report["rows"]}
    for form in ("torch", "int8"):
        assert quality[form].keys() == {"exact_match", "f1"}
        assert all(0 <= value <= 1 for value in quality[form].values())
    assert quality["onnx"] == {}
    monkeypatch.setenv("COLUMNS", "40")  # no terminal: rows stay whole
    table = export(*base, to="again").stdout
    assert table.splitlines()[0].endswith("mean diff.  exact match  f1")
    assert "exact match, f1 on 2 examples of asked.json" in table
    assert "Measured: exact match, f1 on 2 examples" in Path("again/README.md").read_text()


def test_a_model_that_was_fine_tuned_is_packed_again(nastool, exported, supernet):
    folder, _ = exported
    run = nastool("export", "--model", folder, "--to", "again")
    assert run.exit_code == 0, run.stderr
    before, after = load_shape(folder), load_shape(Path("again"))
    assert after.config.id2label == {0: "negative", 1: "positive"}
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new), name
    card = Path("again/README.md").read_text()
    assert "fine-tuned before use" not in card
    assert "packed from the model tiny" in card


def test_a_model_of_16_bits_loads_in_the_precision_that_was_measured(nastool, exported):
    """Transformers takes the precision that config.json names, whatever that of the weights."""
    folder, _ = exported
    auto = transformers.AutoModelForSequenceClassification
    half = auto.from_pretrained(folder, dtype=torch.float16, return_dict=False)
    half.save_pretrained("half")
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained("half")
    run = nastool("export", "--model", "half", "--to", "again")
    assert run.exit_code == 0, run.stderr
    model = auto.from_pretrained("again")
    assert model.dtype == torch.float32
    assert torch.equal(model.classifier.weight, half.classifier.weight.float())


@pytest.mark.parametrize("head", SuperShaper.heads)
def test_every_head_is_found_again(supernet, head):
    subnet = load_supernet(supernet).model.extract((8, 16))
    labels = ["a", "b", "c"] if head == "classification" else []
    models = [with_head(subnet, head, labels, seed) for seed in (1, 1, 2)]
    assert all(head_of(model) == head for model in models)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in models]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2]) == (head in ("masked-lm", "encoder"))
    assert models[0].base_model.state_dict().keys() == subnet.bert.state_dict().keys()
    if head == "regression":
        assert models[0].config.num_labels == 1


def test_the_pooler_goes_along_to_another_head_for_sequences(supernet):
    subnet = load_supernet(supernet).model.extract((8, 16))
    first = with_head(subnet, "classification", ["a", "b", "c"], seed=1)
    second = with_head(first, "regression", seed=2)
    assert torch.equal(first.pooler.weight, second.pooler.weight)
    assert second.classifier.out_features == second.config.num_labels == 1
    assert not torch.equal(
        with_head(subnet, "regression", seed=2).pooler.weight, second.pooler.weight
    )
    with pytest.raises(InvalidInputError, match="a masked-lm head, got regression"):
        with_head(second, "masked-lm")


class TestFromAStudy:
    @pytest.fixture
    def study(self, nastool, supernet):
        run = nastool(
            "search", "--space", f"supershaper:{supernet}", "--objective", "params",
            "--objective", "macs", "--max", "params=9000", "--strategy", "random", "--budget", "9",
            "--study", "mine",
        )  # fmt: skip
        assert run.exit_code == 0, run.stderr
        front = nastool("show", "mine", "--format", "json").stdout
        return json.loads(front)["architectures"]

    def test_a_row_of_its_front(self, nastool, study):
        run = nastool("export", "mine", "--shape", "1", "--to", "model", "--format", "json")
        assert run.exit_code == 0, run.stderr
        shape = "-".join(map(str, json.loads(run.stdout)["shape"]))
        assert shape == study[0]["shape"]
        card = Path("model/README.md").read_text()
        assert "the study *mine* found the shape" in card
        assert "| macs |" in card

    def test_a_shape_that_it_did_not_evaluate(self, nastool, study):
        run = nastool("export", "mine", "--shape", "24-24", "--to", "model")
        assert run.exit_code == 0, run.stderr
        assert "| params |" in Path("model/README.md").read_text()

    def test_the_knee(self, nastool, study):
        run = nastool("export", "mine", "--shape", "knee", "--to", "model", "--format", "json")
        shape = "-".join(map(str, json.loads(run.stdout)["shape"]))
        assert shape in [row["shape"] for row in study]

    def test_the_best_within_a_bound(self, nastool, study):
        bound = f"params<={study[0]['params']}"
        run = nastool("export", "mine", "--shape", bound, "--to", "model", "--format", "json")
        # The least of all is the only one on a front of two costs that grow together.
        assert "-".join(map(str, json.loads(run.stdout)["shape"])) == study[0]["shape"]

    def test_a_row_beyond_the_front(self, nastool, study):
        run = nastool("export", "mine", "--shape", "99", "--to", "model")
        assert run.exit_code == 2
        assert f"a row from 1 to {len(study)}, got 99" in run.stderr

    def test_another_supernet_is_refused(self, nastool, supernet):
        run = nastool(
            "search", "--space", "supershaper:layers=2,widths=12/24,ffn=8", "--objective", "params",
            "--strategy", "random", "--budget", "2", "--study", "other",
        )  # fmt: skip
        assert run.exit_code == 0, run.stderr
        run = nastool("export", "other", "--shape", "1", "--to", "model")
        assert run.exit_code == 2
        assert "names no supernet: give one with --supernet DIR" in run.stderr
        run = nastool("export", "other", "--shape", "1", "--to", "model", "--supernet", supernet)
        assert run.exit_code == 2
        assert "is a supernet of" in run.stderr


def test_what_fails_half_way_leaves_nothing(export, monkeypatch, tmp_path):
    pytest.importorskip("onnxscript")

    def fail(model, path):
        assert any(tmp_path.glob(".model.partial-*/model.safetensors"))
        raise NastoolError("cannot export to ONNX: no such operator")

    monkeypatch.setattr(forms, "write_onnx", fail)
    run = export("--onnx")
    assert run.exit_code == 2
    assert "no such operator" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(export, tmp_path):
    resource = pytest.importorskip("resource")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Larger than config.json, smaller than the weights.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, usual[1]))
    try:
        run = export()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert run.exit_code == 2
    assert "Error: cannot write the weights: " in run.stderr
    assert "too large" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(export, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    run = export()
    assert run.exit_code == 2
    assert run.stderr.startswith("Error: expected an empty folder or a new one, but model holds")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]
    (tmp_path / "model" / "mine.txt").unlink()
    assert export().exit_code == 0


def test_merging_that_changes_the_model_is_refused(export, tmp_path):
    run = export("--tolerance", "1e-12")
    assert run.exit_code == 2
    assert "the merged shape and the supernet must agree within 1e-12" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--head", "classification"], "head classification takes labels, got 0"),
        (["--labels", "2"], "head masked-lm takes no labels, got 2"),
        (["--head", "classification", "--labels", "a,a"], "two or more different labels"),
        (["--head", "classification", "--labels", "a,b,"], "none of them empty, got 'a', 'b', ''"),
        (["--head", "question-answering", "--text", "x.txt"], "measure language models alone"),
        (["--examples", "x.tsv"], "--examples measures the heads of tasks, got masked-lm"),
        (["--limit", "3"], "--limit: expected --text, --corpus or --examples beside it"),
        (["--max-length", "9", "--text", "x.txt"], "--max-length: expected --examples"),
        (["--head", "regression", "--examples", "x.tsv"], "--examples: cannot read x.tsv"),
        (["--text", "none.txt"], "expected text files"),
        (["--tokenizer", "nowhere"], "no tokenizer at 'nowhere'"),
        (["--model", "x"], "only one origin"),
        (["--private"], "--private: expected --push beside it"),
        (["--text", "x.txt", "--examples", "x.tsv"], "either --examples or text, got both"),
    ],
)
def test_what_does_not_fit_is_one_line(export, tmp_path, arguments, message):
    run = export(*arguments)
    assert run.exit_code == 2
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "library", "install"),
    [
        ("--openvino", "openvino", "pip install openvino"),
        ("--int8", "onnxscript", "pip install 'nastool[export]'"),
    ],
)
def test_what_is_not_installed_is_named_first(export, monkeypatch, form, library, install):
    if library == "openvino":
        pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, library, None)
    run = export(form)
    assert run.exit_code == 2
    assert run.stderr.strip().endswith(f"this form needs {library}: {install}")


def test_a_difference_that_is_not_a_number_is_refused():
    difference = exporting.Difference(float("nan"), 0.0, ())
    with pytest.raises(NastoolError, match="must agree within"):
        exporting.check_difference("a and b", difference, 1e-4)


def test_a_difference_counts_against_the_spread_of_the_outputs():
    exporting.check_difference("a and b", exporting.Difference(0.05, 0.0, (), 1000.0), 1e-4)
    with pytest.raises(NastoolError, match=r"which is 0\.01, but they differ by 5e-05"):
        exporting.check_difference("a and b", exporting.Difference(5e-5, 0.0, (), 0.01), 1e-4)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", lambda content: content[:40], "config.json: no JSON"),
        ("config.json", lambda _: b"[" * 100_000, "config.json: nested too deeply"),
        ("config.json", lambda _: b"[]", "config.json: expected an object"),
        ("config.json", lambda _: b'{"architectures": 3}', "expected a deployed model"),
        (
            "config.json",
            lambda content: content.replace(b'"shape": [', b'"shape": [8, 8, 8, '),
            "expected the weights of 5 layers as in config.json, got 2",
        ),
        (
            "config.json",
            lambda content: content.replace(b'"vocab_size": 40', b'"vocab_size": 40000000000'),
            "model.safetensors: expected",
        ),
        ("config.json", lambda c: c.replace(b'_heads": 2', b'_heads": 0'), "describes no deployed"),
        ("model.safetensors", lambda content: content[:-9], "no weights can be read from"),
        ("model.safetensors", lambda _: b"version https://git-lfs", "no weights can be read from"),
        (
            "model.safetensors",
            lambda content: content[:-4] + b"\0\0\xc0\x7f",
            "holds NaN or infinite weights",
        ),
        (
            "model.safetensors",
            lambda content: content.replace(b"qa_outputs.bias", b"qa_outputs.bits"),
            "model.safetensors lacks the weights qa_outputs.bias",
        ),
        ("scores.json", lambda _: b"{}", "scores.json: expected a dataset and scores"),
        ("config.json", None, "cannot read model/config.json: No such file"),
        ("model.safetensors", None, "no weights can be read from model/model.safetensors"),
    ],
)
def test_a_damaged_model_is_one_line(nastool, export, file, change, message):
    assert export("--head", "question-answering").exit_code == 0
    path = Path("model", file)
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes() if path.is_file() else b""))
    run = nastool("export", "--model", "model", "--to", "again")
    assert run.exit_code == 2
    assert message in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not Path("again").exists()


def test_files_have_the_mode_that_the_umask_leaves(export):
    before = os.umask(0o027)
    try:
        assert export().exit_code == 0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path("model").iterdir()}
    assert set(modes.values()) == {0o640}
    assert Path("model").stat().st_mode & 0o777 == 0o750


def test_the_current_folder_is_filled_and_left_alone_where_it_holds_files(
    export, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run = export(to=".")
    assert run.exit_code == 0, run.stderr
    assert load_shape(tmp_path / "here").config.shape == [16, 8]
    before = sorted(Path().iterdir())
    run = export(to=".")
    assert run.exit_code == 2
    assert "holds files" in run.stderr
    assert sorted(Path().iterdir()) == before


def test_what_a_fine_tuned_model_scored_is_in_the_header_of_the_card(nastool, exported):
    from nastool_supernets.finetuning.scores import write_scores

    shutil.copytree(exported[0], "tuned")
    write_scores(Path("tuned"), "films (dev, 4 examples)", {"accuracy": 0.75, "f1": float("inf")})
    run = nastool("export", "--model", "tuned", "--to", "again")
    assert run.exit_code == 0, run.stderr
    card = huggingface_hub.ModelCard.load("again/README.md").data
    [found] = card.eval_results
    assert (found.metric_type, found.metric_value) == ("accuracy", 0.75)
    assert found.dataset_name == "films (dev, 4 examples)"
    assert found.task_type == "text-classification"
    assert not Path("again/scores.json").exists()
    [measured] = huggingface_hub.ModelCard.load(exported[0] / "README.md").data.eval_results
    assert measured.metric_type == "accuracy"
    assert measured.dataset_name.startswith("4 examples of films.tsv")
    assert measured.metric_value == exported[1]["rows"][0]["quality"]["accuracy"]


def test_padded_forms_agree_and_what_is_kept_is_not_padded(export):
    for library in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(library)
    assert export(to="plain").exit_code == 0
    run = export("--onnx", "--pad", "8", "--format", "json", to="padded")
    assert run.exit_code == 0, run.stderr
    found = json.loads(run.stdout)
    assert [row["padding"] for row in found["rows"]] == ["none", "8"]
    assert (
        Path("padded/model.safetensors").read_bytes()
        == Path("plain/model.safetensors").read_bytes()
    )
    assert "onnx, padded to 8" in Path("padded/README.md").read_text()
    import onnx

    graph = onnx.load("padded/onnx/model.onnx").graph
    products = [list(t.dims) for t in graph.initializer if "MatMul" in t.name]
    assert products
    assert all(size % 8 == 0 for dims in products for size in dims[:2] if size > 8)
    run = export("--pad", "8", to="other")
    assert run.exit_code == 2
    assert "--pad: expected --onnx, --int8 or --openvino beside it" in run.stderr
