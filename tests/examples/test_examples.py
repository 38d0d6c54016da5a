"""Every example runs as it stands, with a small budget, in an empty folder."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nastool import load_space
from nastool.predictors import Card, create_predictor, save_predictor
from nastool_supershaper.space import SuperShaperSpace

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The predictor that ships, or a small one in its place where none does yet."""
    space = load_space("supershaper")
    shipped = space.reference("perplexity")
    if shipped is not None:
        return shipped
    genotypes = space.sample(300, np.random.default_rng(0))
    features = space.features(genotypes)
    predictor = create_predictor("linear")
    predictor.fit(features, 5 + 500 / features.mean(axis=1), genes=len(space.genes))
    names = tuple(gene.name for gene in space.genes)
    card = Card(
        metric="perplexity",
        unit="",
        kind="linear",
        label="linear",
        space=space.name,
        fingerprint=space.fingerprint,
        genes=names,
        choices=tuple(gene.choices for gene in space.genes),
        features=names,
        shapes=300,
    )
    folder = tmp_path_factory.mktemp("reference")
    save_predictor(folder, predictor, card)
    return folder


@pytest.fixture
def example(reference, tmp_path, monkeypatch, capsys):
    """Runs an example and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SuperShaperSpace, "reference", lambda self, metric: reference)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        names = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out, names

    return run


def test_search(example, tmp_path):
    pytest.importorskip("pandas")
    printed, names = example("search.py", 300)
    assert "lowest perplexity:" in printed
    assert len(names["result"]) == 300
    assert (names["result"].values()["params"] <= 66e6).all()
    assert "plotly" in (tmp_path / "front.html").read_text()


def test_custom_objective(example):
    pytest.importorskip("pandas")
    printed, names = example("custom_objective.py", 300)
    assert "roughness" in printed
    front = names["result"].front()
    assert front.objectives[:, 1].min() < 1000


def test_custom_space(example):
    pytest.importorskip("pandas")
    printed, names = example("custom_space.py", 200)
    assert "signal" in printed
    assert (names["result"].values()["params"] <= 100_000).all()


def test_compare_strategies(example):
    pytest.importorskip("scipy")
    printed, names = example("compare_strategies.py", 200, 3)
    assert "best perplexity under params<=66M" in printed
    assert "random and pareto differ with p = " in printed
    assert names["comparison"].seeds == (0, 1, 2)


def test_resume_study(example):
    printed, _ = example("resume_study.py", 400)
    assert "200 evaluations were kept" in printed
    assert "as if never stopped: True" in printed
    assert "resumed: 400 evaluations" in printed


def test_optuna_sampler(example):
    optuna = pytest.importorskip("optuna")
    verbosity = optuna.logging.get_verbosity()
    printed, _ = example("optuna_sampler.py", 40)
    optuna.logging.set_verbosity(verbosity)
    assert "NastoolSampler: " in printed
    assert "NSGAIISampler: " in printed


# Runs a script for each of some arguments as if nastool were not installed; says how each ends.
WITHOUT_NASTOOL = """
import contextlib, io, json, runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("nastool"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
_, script, *folders, sentence = sys.argv
for folder in folders:
    sys.argv = [script, folder, sentence]
    printed, ending = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as error:
            ending = error.code
    print(json.dumps([ending, printed.getvalue()]))
"""


def without_nastool(example, *arguments, cwd):
    """How an example ends and what it prints, for each folder that it is given."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NASTOOL, str(EXAMPLES / example), *arguments],
        env={**os.environ, "HF_HOME": str(cwd / "cache"), "HF_HUB_OFFLINE": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_classify(tmp_path):
    torch = pytest.importorskip("torch")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    from nastool_supernets.family import with_head
    from nastool_supernets.saved import save_shape
    from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertForMaskedLM

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "a", "good", "film"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    sizes = {"vocab_size": 5, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    subnet = ShapedBertForMaskedLM(ShapedBertConfig((4, 8), **sizes))
    model = with_head(subnet, "classification", ["negative", "positive"])
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")
    save_shape(model, wrapped, tmp_path / "good")
    save_shape(subnet, wrapped, tmp_path / "masked")

    folders = ("masked", "no", "good")
    masked, missing, good = without_nastool("classify.py", *folders, "a good film", cwd=tmp_path)
    for (ending, printed), said in (
        (masked, "masked must be a classifier"),
        (missing, "no must be an exported"),
    ):
        assert ending.startswith(said)
        assert "\n" not in ending
        assert printed == ""
    ending, printed = good
    assert ending is None
    with torch.inference_mode():
        shares = model(torch.tensor([[2, 3, 4]])).logits.softmax(-1)[0].tolist()
    expected = zip(("negative", "positive"), shares, strict=True)
    assert printed.split("\n") == [*(f"{name}: {share:.1%}" for name, share in expected), ""]


def test_generate(tmp_path):
    torch = pytest.importorskip("torch")
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    from nastool_supernets.deployment import forms
    from nastool_supernets.saved import save_shape
    from tests.nastool_decoder.conftest import SIZES, checkpoint

    words = {f"w{i}": i for i in range(SIZES["vocab_size"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w2")
    model = checkpoint("llama")
    for folder in ("plain", "good"):
        (tmp_path / folder).mkdir()
        save_shape(model, wrapped, tmp_path / folder)
    forms.write("onnx", model, tmp_path / "good")
    plain, good = without_nastool("generate.py", "plain", "good", "w7 w9 w11", cwd=tmp_path)
    assert plain[0].startswith("plain must hold onnx/model.onnx")
    ids = torch.tensor([[7, 9, 11]])
    expected = model.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0].tolist()
    assert good == [None, " ".join(f"w{i}" for i in expected if i != 2) + "\n"]


def test_every_example_is_tested():
    tests = Path(__file__).read_text()
    for file in EXAMPLES.glob("*.py"):
        assert f'"{file.name}"' in tests
        assert len(file.read_text().splitlines()) < 45, f"{file.name} is too long to be read"


def test_the_page_on_python_runs(reference, tmp_path, monkeypatch):
    for library in ("optuna", "scipy"):
        pytest.importorskip(library)
    page = (EXAMPLES.parent / "docs" / "python.md").read_text()
    code = "\n".join(part.partition("```")[0] for part in page.split("```python\n")[1:])
    for large, small in (("30_000", "300"), ("10_000", "200"), ("5_000", "100"), ("(10)", "(2)")):
        assert large in code
        code = code.replace(large, small)
    code = code.replace(".show()", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SuperShaperSpace, "reference", lambda self, metric: reference)
    file = tmp_path / "page.py"
    file.write_text("import warnings\nwarnings.simplefilter('ignore')\n" + code)
    names = runpy.run_path(str(file))
    assert len(names["exported"].trials) == len(names["result"]) == 300
    assert len(names["exported"].best_trials) == len(names["result"].front())
