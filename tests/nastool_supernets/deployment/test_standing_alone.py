"""Exports in the processes of others: each by its own code, wherever it is saved again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from nastool.cli.main import main  # noqa: E402
from nastool_supernets.corpus.tokenizer import load_tokenizer  # noqa: E402
from nastool_supernets.family import with_head  # noqa: E402
from nastool_supernets.finetuning.similarity import Siamese  # noqa: E402
from nastool_supernets.saved import load_shape, load_supernet, save_shape  # noqa: E402
from nastool_supershaper.family import SuperShaper  # noqa: E402
from nastool_supershaper.shaped_bert import ShapedBertConfig, ShapedBertModel  # noqa: E402

LATER = """
_before = ShapedBertForMaskedLM.forward
def _after(self, *args, **inputs):
    output = _before(self, *args, **inputs)
    output.logits = output.logits * 0 + 7
    return output
ShapedBertForMaskedLM.forward = _after
"""

# Where nastool cannot be imported: two versions in turn and in threads, embeddings, and folders of
# each head.
STRANGER = """
import json, sys
from concurrent.futures import ThreadPoolExecutor

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("nastool"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import torch
import transformers

def runs_later(name, trusted=True):
    load = transformers.AutoModelForMaskedLM.from_pretrained
    model = load(name, trust_remote_code=trusted).eval()
    with torch.inference_mode():
        return bool((model(torch.ones(1, 4, dtype=torch.long)).logits == 7).all())

found = [runs_later(name) for name in ("older", "newer", "older", "newer")]
with ThreadPoolExecutor(4) as pool:
    found += pool.map(runs_later, ("newer", "older") * 2)
try:
    runs_later("older", False)
except ValueError as error:
    found.append("trust_remote_code" in str(error))
tokenizer = transformers.AutoTokenizer.from_pretrained("encoder", trust_remote_code=True)
inputs = tokenizer(["the film was good", "we like it"], padding=True, return_tensors="pt")
model = transformers.AutoModel.from_pretrained("encoder", trust_remote_code=True).eval()
with torch.inference_mode():
    hidden = model(**inputs)[0]
pipe = transformers.pipeline("feature-extraction", model="encoder", trust_remote_code=True)
print(json.dumps([found, hidden.tolist(), pipe("we like it")]))

names = ("MaskedLM", "SequenceClassification", "QuestionAnswering")
out = []
for name, folder in zip(names, sys.argv[1:], strict=True):
    auto = getattr(transformers, f"AutoModelFor{name}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    inputs = tokenizer("we like it", "not this film", return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    out.append([sorted(inputs), [value.tolist() for value in output.values()]])
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def folders(supernet, tmp_path_factory):
    """Two exports, of which the newer one carries code that answers seven."""
    place = tmp_path_factory.mktemp("exports")
    subnet = load_supernet(supernet).model.extract((8, 8)).eval()
    tokenizer = load_tokenizer(supernet)
    for name in ("older", "newer"):
        (place / name).mkdir()
        save_shape(subnet, tokenizer, place / name)
    with (place / "newer" / "shaped_bert.py").open("a") as file:
        file.write(LATER)
    (place / "encoder").mkdir()
    save_shape(with_head(subnet, "encoder"), tokenizer, place / "encoder")
    return place


@pytest.fixture(scope="module")
def heads(supernet, exported, tmp_path_factory):
    """Folders that the command exported, one of each head."""
    place = tmp_path_factory.mktemp("heads")
    command = ("export", "--supernet", supernet, "--shape", "16-8", "--to")
    for name, more in (("lm", ()), ("qa", ("--head", "question-answering"))):
        words = [*map(str, (*command, place / name)), *more]
        run = CliRunner().invoke(main, words, prog_name="nastool")
        assert run.exit_code == 0, run.stderr
    return [str(folder) for folder in (place / "lm", exported[0], place / "qa")]


@pytest.fixture
def here(folders, tmp_path, monkeypatch):
    """In the folder of exports, with a place of its own for code that is trusted."""
    monkeypatch.chdir(folders)
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "code")
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def runs_later(folder, **options):
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, **options).eval()
    with torch.inference_mode():
        return bool((model(torch.ones(1, 4, dtype=torch.long)).logits == 7).all())


@pytest.fixture(scope="module")
def stranger(folders, heads, tmp_path_factory):
    """What a process says in which nastool cannot be imported, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, *heads],
        cwd=folders,
        env={
            **os.environ,
            "HF_HOME": str(tmp_path_factory.mktemp("cache")),
            "HF_HUB_OFFLINE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[-2:]]


def test_two_versions_in_one_process_each_run_their_own_code(folders, stranger):
    found, hidden, piped = stranger[0]
    assert found == [*[False, True] * 2, *[True, False] * 2, True]
    inputs = load_tokenizer(folders / "encoder")(
        ["the film was good", "we like it"], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = load_shape(folders / "older").bert(**inputs).last_hidden_state
    torch.testing.assert_close(torch.tensor(hidden), expected, atol=1e-5, rtol=1e-4)
    length = len(piped[0])
    torch.testing.assert_close(torch.tensor(piped[0]), expected[1, :length], atol=1e-5, rtol=1e-4)


def test_a_folder_loads_where_nastool_is_not_installed(heads, stranger):
    for folder, (taken, outputs) in zip(heads, stranger[1], strict=True):
        assert taken == ["attention_mask", "input_ids", "token_type_ids"]
        inputs = load_tokenizer(folder)("we like it", "not this film", return_tensors="pt")
        with torch.inference_mode():
            expected = load_shape(Path(folder))(**inputs)
        for got, wanted in zip(outputs, expected.values(), strict=True):
            torch.testing.assert_close(torch.tensor(got), wanted, atol=1e-5, rtol=1e-4)


def test_sentence_transformers_encodes_as_before_export(here, folders, supernet):
    """The subnet in memory, the exported folder, and what sentence-transformers saves of it."""
    library = pytest.importorskip("sentence_transformers")
    texts = ["the film was good", "we like it", "a film", "the film was good and we like it too"]
    tokenizer = load_tokenizer(supernet)
    encoder = with_head(load_supernet(supernet).model.extract((8, 8)).eval(), "encoder")
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        before = Siamese(encoder).embed(inputs["input_ids"], inputs["attention_mask"])
    model = library.SentenceTransformer("encoder", trust_remote_code=True, device="cpu")
    after = model.encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    cosines = torch.nn.functional.cosine_similarity(before[:1], before)
    torch.testing.assert_close(model.similarity(after[:1], after)[0], cosines, atol=1e-4, rtol=0)
    model.save(str(here / "again"))
    again = library.SentenceTransformer(str(here / "again"), trust_remote_code=True, device="cpu")
    assert torch.equal(again.encode(texts, convert_to_tensor=True), after)


def test_where_nastool_is_there_a_folder_runs_its_code_only_when_asked(here):
    for name, later in (("older", False), ("newer", True), ("older", False)):
        assert runs_later(name, trust_remote_code=True) == later
        assert not runs_later(name, trust_remote_code=False)
        assert not runs_later(name)
    config = transformers.AutoConfig.for_model("shaped_bert", shape=[12], hidden_size=24)
    assert type(config) is ShapedBertConfig
    assert type(transformers.AutoModel.from_config(config)) is ShapedBertModel


def test_saved_again_a_model_carries_the_code_that_it_ran(here, folders):
    load = transformers.AutoModelForMaskedLM.from_pretrained
    for name in ("older", "newer"):
        half = load(name, dtype=torch.float16, trust_remote_code=True)
        half.save_pretrained(here / name)
        code = (folders / name / "shaped_bert.py").read_bytes()
        assert (here / name / "shaped_bert.py").read_bytes() == code
        assert runs_later(here / name, trust_remote_code=True) == (name == "newer")
    half, whole = load_shape(here / "older"), load_shape(folders / "older")
    for ours, theirs in zip(half.parameters(), whole.parameters(), strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs.half().float())


def test_what_nastool_loads_carries_its_code_when_saved(here, folders):
    load_shape(folders / "older").save_pretrained(here / "again")
    assert (here / "again" / "shaped_bert.py").read_bytes() == SuperShaper.code.read_bytes()
    auto = transformers.AutoModelForSequenceClassification
    head = auto.from_pretrained(here / "again", trust_remote_code=True)
    assert type(head).__module__.startswith("transformers_modules.again")
    head.save_pretrained(here / "head")
    content = json.loads((here / "head" / "config.json").read_text())
    assert content["architectures"] == ["ShapedBertForSequenceClassification"]
    assert content["auto_map"]["AutoModelForMaskedLM"] == "shaped_bert.ShapedBertForMaskedLM"


def test_onnx_of_an_encoder_has_the_names_that_others_look_for(nastool, supernet):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = nastool(
        "export", "--supernet", supernet, "--shape", "16-8", "--to", "model", "--head", "encoder",
        "--int8", "--format", "json",
    )  # fmt: skip
    assert run.exit_code == 0, run.stderr
    rows = {row["form"]: row for row in json.loads(run.stdout)["rows"]}
    assert rows["onnx"]["difference"]["largest"] < 1e-4
    assert rows["onnx"]["difference"]["spread"] > 1e-3
    session = runtime.InferenceSession("model/onnx/model.onnx")
    names = [node.name for node in session.get_inputs()]
    assert sorted(names) == ["attention_mask", "input_ids", "token_type_ids"]
    assert [node.name for node in session.get_outputs()] == ["last_hidden_state"]
    card = Path("model/README.md").read_text()
    assert "pipeline_tag: feature-extraction" in card
    assert "last_hidden_state" in card
    bench = ("bench", "model", "--baseline", "none", "--sequence-length", "8", "--no-memory")
    assert nastool(*bench, "--rounds", "1", "--repeats", "1").exit_code == 0
    for words, message in (
        (("--text", "x.txt"), "measure language models alone, got encoder"),
        (("--examples", "x.tsv"), "--examples measures the heads of tasks, got encoder"),
    ):
        run = nastool("export", "--model", "model", "--to", "again", *words)
        assert run.exit_code == 2
        assert message in run.stderr


def test_a_fine_tuned_model_gives_its_encoder(nastool, exported):
    run = nastool("export", "--model", exported[0], "--head", "encoder", "--to", "encoder")
    assert run.exit_code == 0, run.stderr
    tuned, encoder = load_shape(exported[0]), load_shape(Path("encoder"))
    for name, weights in encoder.named_parameters():
        assert torch.equal(weights, tuned.bert.get_parameter(name))
    run = nastool("export", "--model", exported[0], "--head", "masked-lm", "--to", "other")
    assert run.exit_code == 2
    assert "--model brings its shape, head and labels along" in run.stderr
