"""`nastool validate` on a tiny supernet: scores, starts, resuming, reports."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.stats import spearmanr
from transformers import BertConfig, BertForSequenceClassification

from nastool import __version__ as nastool_version
from nastool import executors
from nastool.cli.main import main
from nastool.errors import NastoolError
from nastool.files.writing import owned
from nastool.store import open_store
from nastool_supernets.cli import crew
from nastool_supernets.corpus.corpus import load_corpus, prepare_corpus
from nastool_supernets.corpus.text import text_files
from nastool_supernets.corpus.tokenizer import load_tokenizer, train_tokenizer
from nastool_supernets.family import with_head
from nastool_supernets.finetuning import subnets, workbench
from nastool_supernets.finetuning.cost import seconds_of, steps_of
from nastool_supernets.finetuning.tasks import read_task_file
from nastool_supernets.finetuning.training import DivergedError
from nastool_supernets.saved import load_supernet, save_model

QUICK = ("--epochs", "2", "--batch-size", "16", "--learning-rate", "0.005")
QUICK += ("--device", "cpu", "--dtype", "float32")


@pytest.fixture
def nastool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASTOOL_STORAGE", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: CliRunner().invoke(main, arguments, prog_name="nastool")


@pytest.fixture(scope="session")
def searched(supernet, tmp_path_factory):
    """A store of a study of all nine shapes of the supernet, measured."""
    file = tmp_path_factory.mktemp("searched") / "nastool.db"
    objectives = ("--objective", f"measured_perplexity:{supernet}", "--objective", "params")
    space = ("--space", f"supershaper:{supernet}", "--strategy", "random", "--budget", "9")
    kept = ("--storage", f"sqlite:///{file}", "--study", "mine")
    run = CliRunner().invoke(main, ["search", *space, *objectives, *kept], prog_name="nastool")
    assert run.exit_code == 0, run.output
    return file


@pytest.fixture
def study(nastool, searched, tmp_path):
    """A copy of its own of the study of all nine shapes."""
    for file in searched.parent.glob(f"{searched.name}*"):  # with its journals
        shutil.copyfile(file, tmp_path / file.name)
    return "mine"


@pytest.fixture
def validate(nastool, study, supernet, task_file):
    def run(*arguments, quick=QUICK):
        files = ("--supernet", str(supernet), "--task-file", str(task_file))
        return nastool("validate", study, *files, *quick, *arguments)

    return run


def found(run):
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout)


def timeless(content):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in content["shapes"]]


def test_every_kind_of_task_is_scored_and_learnt(validate, tmp_path, checked_json):
    more = ("--epochs", "6", "--batch-size", "8")
    run = validate("--shape", "16-16", "--format", "json", *more)
    content = found(run)
    assert checked_json(run.stdout) == content
    assert [task["name"] for task in content["tasks"]] == ["mood", "same", "grade", "answers"]
    (row,) = content["shapes"]
    assert set(row["scores"]["mood"]) == {"accuracy", "f1"}
    assert row["scores"]["mood"]["accuracy"]["mean"] > 90
    assert set(row["scores"]["same"]) == {"accuracy"}
    assert set(row["scores"]["grade"]) == {"spearman"}
    assert set(row["scores"]["answers"]) == {"exact_match", "f1"}
    firsts = [next(iter(metrics.values()))["mean"] for metrics in row["scores"].values()]
    assert row["average"] == pytest.approx(np.mean(firsts))
    assert content["published"] == []
    # The regression starts from the pairs, whose model is kept for it.
    assert [path.name[:5] for path in (tmp_path / "nastool-models").iterdir()] == ["same_"]


def test_shapes_and_seeds(validate, tmp_path):
    more = ("--pick", "3", "--seeds", "2", "--tasks", "mood", "--train-examples", "32")
    content = found(validate(*more, "--epochs", "1", "--format", "json", "--plot", "page.html"))
    params = [row["params"] for row in content["shapes"]]
    assert len(params) == 3
    assert params == sorted(params)
    for row in content["shapes"]:
        mood = row["scores"]["mood"]["accuracy"]
        assert len(mood["values"]) == 2
        assert mood["mean"] == pytest.approx(np.mean(mood["values"]))
        assert mood["deviation"] == pytest.approx(np.std(mood["values"], ddof=1))
    assert set(content["correlations"]["direct"]) == {"mood", "average"}
    # The same numbers in the picture: means with the deviation of the seeds.
    page = (tmp_path / "page.html").read_text()
    figures = json.loads(re.search(r'id="page-data">(.*?)</script>', page)[1])["figures"]
    assert [figure["id"] for figure in figures] == ["score-0", "promise"]
    (points,) = figures[0]["figure"]["data"]
    moods = [row["scores"]["mood"]["accuracy"] for row in content["shapes"]]
    assert points["x"] == params
    assert points["y"] == pytest.approx([mood["mean"] for mood in moods])
    assert points["error_y"]["array"] == pytest.approx([mood["deviation"] for mood in moods])
    assert f"rank correlation direct {content['correlations']['direct']['mood']:+.2f}" in page


def test_shapes_have_names(validate):
    more = ("--tasks", "mood", "--train-examples", "16", "--max-steps", "1", "--format", "json")
    # Within a bound that binds nothing the best is the first row.
    named = [w for n in ("smallest", "largest", "1", "params>=1") for w in ("--shape", n)]
    content = found(validate(*named, *more))
    shapes = [row["shape"] for row in content["shapes"]]
    assert shapes[0] == "4-4"
    assert shapes[-1] == "16-16"
    # The study's front begins with one of them or a third.
    assert len(shapes) in (2, 3)
    run = validate("--shape", "1000", *more)
    assert run.exit_code == 2
    assert "--shape: expected the number of a row from 1 to" in run.stderr


def test_what_will_be_done_is_said_beforehand(validate, tmp_path, monkeypatch):
    arguments = ("--shape", "4-8", "--tasks", "mood,grade", "--seeds", "2")
    arguments += ("--epochs", "1", "--train-examples", "16", "--dev-examples", "8")

    def kept():
        # A database that was read loses its journals when it is closed.
        return {path for path in tmp_path.rglob("*") if not path.name.startswith("nastool.db")}

    before = kept()
    said = "Fine-tuning 1 shape on 2 tasks from 1 start with 2 seeds: 4 scores"
    # The grades start from models of the pairs, one a shape and seed.
    plan = validate(*arguments, "--dry-run")
    assert (plan.exit_code, plan.stdout) == (0, "")
    more = f"{said}, 0 of them kept already, 2 more models to start or learn from: about "
    assert plan.stderr.startswith(more)
    assert plan.stderr.endswith(" here\n")
    assert kept() == before
    found(validate(*arguments, "--tasks", "mood", "--format", "json"))
    assert f"{said}, 2 of them kept already, 2 more" in validate(*arguments, "--dry-run").stderr
    run = validate(*arguments, "--format", "json")
    # So few steps are not worth timing.
    first = f"{said}, 2 of them kept already, 2 more models to start or learn from\n"
    assert run.stderr.startswith(first)
    monkeypatch.setattr(workbench, "fine_tune", None)
    assert validate(*arguments, "--dry-run").stderr == f"{said}, 4 of them kept already\n"


def test_further_training_is_named_beforehand(validate, tmp_path):
    arguments = ("--shape", "4-8", "--tasks", "mood", "--mode", "partial", "--mode", "direct")
    plan = validate(*arguments, "--pretrain-steps", "4", "--train-examples", "1", "--dry-run")
    assert plan.exit_code == 0, plan.output
    said = "Fine-tuning 1 shape on 1 task from 2 starts with 1 seed: 2 scores, 0 of them kept "
    assert plan.stderr.startswith(f"{said}already, besides the further training of 1 subnet: about")
    assert not (tmp_path / "nastool-models").exists()


def test_the_time_told_grows_with_the_examples(supernet, tokenizer, task_file, monkeypatch):
    tasks = read_task_file(task_file, {})
    options = workbench.Options(overrides={"epochs": 3, "batch_size": 4})
    net = load_supernet(supernet)
    bench = workbench.Workbench(net, tokenizer, tasks, None, Path("models"), options=options)
    cells = [workbench.Cell((4, 8), "mood", subnets.Mode.DIRECT, seed) for seed in range(2)]
    # A second to begin with, three hundredths to train on an example, one to score one.
    monkeypatch.setattr(bench, "timed", lambda cell, n: 1 + 0.04 * n)
    assert steps_of(bench, cells) == 2 * 3 * 64 / 4
    assert seconds_of(bench, cells) == pytest.approx(2 * (1 + 3 * (0.03 * 64 + 0.01 * 32)))


def test_the_same_command_answers_at_once(validate, monkeypatch):
    arguments = ("--pick", "knee", "--tasks", "mood", "--format", "json")
    first = found(validate(*arguments))
    monkeypatch.setattr(workbench, "fine_tune", None)
    assert found(validate(*arguments)) == first


def test_stopping_after_any_cell_changes_nothing(validate, monkeypatch, tmp_path):
    arguments = ("--shape", "4-8", "--tasks", "grade,same,mood", "--seeds", "2", "--format", "json")
    arguments += ("--epochs", "1", "--train-examples", "16", "--dev-examples", "8")
    for file in tmp_path.glob("nastool.db*"):
        shutil.copyfile(file, tmp_path / file.name.replace("nastool", "other"))
    real, calls = workbench.fine_tune, []

    def killed(*positional, **named):
        if len(calls) in (1, 4):
            calls.append("killed")
            raise KeyboardInterrupt
        calls.append("done")
        return real(*positional, **named)

    monkeypatch.setattr(workbench, "fine_tune", killed)
    assert validate(*arguments).exit_code == 130
    assert validate(*arguments).exit_code == 130
    stopped = timeless(found(validate(*arguments)))
    assert calls.count("done") == 6  # no finished cell was trained again
    monkeypatch.setattr(workbench, "fine_tune", real)
    other = ("--storage", "sqlite:///other.db", "--models", "others")
    assert timeless(found(validate(*arguments, *other))) == stopped


def test_other_settings_are_other_cells(validate, monkeypatch):
    calls = []
    real = workbench.fine_tune
    monkeypatch.setattr(workbench, "fine_tune", lambda *a, **k: calls.append(1) or real(*a, **k))
    base = ("--shape", "4-4", "--tasks", "mood", "--train-examples", "16")
    more = ((), ("--batch-size", "8"), ("--dev-examples", "8"), ("--mode", "scratch"))
    more += (("--group-by-length",), ())
    for options in more:
        assert validate(*base, *options).exit_code == 0
    assert len(calls) == 5


def test_steps_at_most_are_not_more_epochs(validate):
    base = ("--shape", "4-4", "--tasks", "mood", "--train-examples", "32", "--format", "json")
    assert timeless(found(validate(*base, "--max-steps", "99"))) == timeless(found(validate(*base)))


def test_models_are_kept_of_what_is_known(validate, tmp_path):
    base = ("--shape", "4-4", "--tasks", "mood", "--train-examples", "16", "--format", "json")
    first = found(validate(*base))
    assert not (tmp_path / "nastool-models").exists()
    assert timeless(found(validate(*base, "--keep"))) == timeless(first)
    assert len(list((tmp_path / "nastool-models").iterdir())) == 1


def test_a_loss_that_is_not_finite_is_refused(validate):
    run = validate("--shape", "4-4", "--tasks", "mood", quick=(*QUICK, "--learning-rate", "1e30"))
    assert run.exit_code == 2
    assert "task mood: the loss became nan" in run.stderr


def test_broken_data_show_before_any_training(nastool, study, supernet, task_file, monkeypatch):
    """Those of the task that another one starts from, too."""
    monkeypatch.setattr(workbench, "fine_tune", None)
    tasks = task_file.with_name("more.toml")
    tasks.write_text(
        task_file.read_text() + "[rte]\ntrain = 'pairs_train.jsonl'\ndev = 'pairs_dev.jsonl'\n"
        "texts = ['one', 'two']\nlabel = 'same'\n"
    )
    arguments = ("--supernet", str(supernet), "--task-file", str(tasks), "--shape", "4-4", *QUICK)
    run = nastool("validate", study, *arguments, "--tasks", "mood,rte", "--glue", str(supernet))
    assert run.exit_code == 2, run.output
    assert "task mnli: cannot load train of data set" in run.stderr


def test_further_training_and_random_weights(validate, monkeypatch, tmp_path):
    arguments = ("--shape", "8-8", "--tasks", "mood", "--format", "json", "--pretrain-steps", "6")
    arguments += ("--mode", "direct", "--mode", "partial", "--mode", "scratch")
    arguments += ("--pretrain-batch-size", "4", "--pretrain-learning-rate", "0.01")
    content = found(validate(*arguments))
    assert [row["mode"] for row in content["shapes"]] == ["direct", "partial", "scratch"]
    assert [gain["mode"] for gain in content["gains"]] == ["direct", "partial"]
    partial, scratch = content["pretraining"]
    assert partial["steps"] == list(range(7))
    (predicted,) = (v for k, v in content["shapes"][0].items() if k.startswith("measured_perpl"))
    # The study measured in what is fast on this processor, which may be bfloat16.
    assert partial["perplexities"][0] == pytest.approx(predicted, rel=2e-3)
    assert partial["perplexities"][-1] < partial["perplexities"][0]
    assert scratch["target"] == min(scratch["perplexities"])
    assert scratch["perplexities"][scratch["steps_to_target"]] == scratch["target"]
    kept = {path.name.rpartition("_")[0] for path in (tmp_path / "nastool-models").iterdir()}
    assert kept == {"pretrained_partial_8-8", "pretrained_scratch_8-8"}
    monkeypatch.setattr(workbench, "fine_tune", None)
    monkeypatch.setattr(workbench.Pretraining, "run", None)
    again = found(validate(*arguments, "--target-perplexity", "1"))
    assert again["shapes"] == content["shapes"]
    assert [entry["steps_to_target"] for entry in again["pretraining"]] == [None, None]


def test_teachers(validate, tmp_path):
    base = ("--shape", "4-4", "--tasks", "mood", "--format", "json")
    taught = found(validate(*base, "--distil", "1", "--temperature", "4"))
    (teacher,) = (tmp_path / "nastool-models").iterdir()
    assert teacher.name.startswith("mood_direct_16-16_0_")
    given = found(
        validate(*base, "--distil", "1", "--temperature", "4", "--teacher", f"mood={teacher}")
    )
    assert timeless(given) == timeless(taught)
    config = json.loads((teacher / "config.json").read_text())
    config |= {"id2label": {"0": "good", "1": "bad"}, "label2id": {"good": 0, "bad": 1}}
    (teacher / "config.json").write_text(json.dumps(config))
    run = validate(*base, "--distil", "1", "--teacher", f"mood={teacher}")
    assert run.exit_code == 2
    assert "expected labels in the order bad, good, got good, bad" in run.stderr


def test_a_teacher_without_its_head_is_refused(validate, supernet, tmp_path):
    subnet = load_supernet(supernet).model.extract((16, 16))
    save_model(subnet, tmp_path)
    run = validate(
        "--shape", "4-4", "--tasks", "mood", "--distil", "1", "--teacher", f"mood={tmp_path}"
    )
    assert run.exit_code == 2, run.output
    assert "with the head of task mood, got ShapedBertForMaskedLM" in run.stderr
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    run = validate(
        "--shape", "4-4", "--tasks", "mood", "--distil", "1", "--teacher", f"mood={tmp_path}"
    )
    assert run.exit_code == 2, run.output
    assert f"no fine-tuned model can be read from {tmp_path}" in run.stderr


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"max_position_embeddings": 8}, "expected one that reads 64 tokens, got 8: lower"),
        ({"type_vocab_size": 1}, "task same has two texts, got a model that tells none apart"),
    ],
)
def test_a_teacher_that_cannot_read_the_examples_is_refused(validate, tmp_path, sizes, message):
    sizes = {"max_position_embeddings": 64, "type_vocab_size": 2, **sizes}
    small = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=200, num_hidden_layers=1, **small, **sizes)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "teacher")
    teacher = f"same={tmp_path / 'teacher'}"
    run = validate("--shape", "4-4", "--tasks", "same", "--distil", "1", "--teacher", teacher)
    assert run.exit_code == 2, run.output
    assert message in run.stderr


def test_the_store_knows_what_a_grid_chose(validate, monkeypatch, tmp_path, task_file):
    tasks = read_task_file(task_file, {})
    tasks["mood"] = replace(tasks["mood"], grid={"batch_size": (32, 8), "weight_decay": (0.0, 0.1)})
    monkeypatch.setattr("nastool_supernets.finetuning.tasks.read_task_file", lambda *_: tasks)
    real = workbench.fine_tune

    def fine_tune(model, task, encoded, tokenizer, settings, *more, **named):
        if settings.batch_size == 32:
            raise DivergedError("too much")
        outcome = real(model, task, encoded, tokenizer, settings, *more, **named)
        return replace(outcome, scores=dict.fromkeys(outcome.scores, settings.weight_decay))

    monkeypatch.setattr(workbench, "fine_tune", fine_tune)
    base = ("--shape", "4-4", "--tasks", "mood", "--train-examples", "16", "--format", "json")
    base += ("--grid", "--learning-rate", "0.005", "--epochs", "1", "--device", "cpu")
    run = validate(*base, quick=())
    (row,) = found(run)["shapes"]
    assert row["chosen"] == {"mood": [{"batch_size": 8, "weight_decay": 0.1}]}
    assert "epoch 1, batch size 8, weight decay 0.1" in run.stderr
    monkeypatch.setattr(workbench, "fine_tune", None)
    assert found(validate(*base, quick=()))["shapes"] == [row]


def test_what_a_run_lacks_shows_before_any_training(validate, monkeypatch):
    monkeypatch.setattr(workbench, "fine_tune", None)
    run = validate("--tasks", "mood,answers", "--max-length", "16")
    assert run.exit_code == 2
    assert "question answering needs at least 20 tokens an example, got 16" in run.stderr
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    run = validate("--tasks", "mood,grade")
    assert run.exit_code == 2
    assert "scoring tasks needs scipy: pip install 'nastool[fit-cpu]'" in run.stderr


def test_text_of_another_vocabulary_is_refused(validate, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("".join(f"one two three number {i} . " * 9 + "\n\n" for i in range(30)))
    sources = text_files([file])
    tokenizer = train_tokenizer(sources, 80)
    prepare_corpus(sources, tokenizer, tmp_path / "text", sequence_length=32, held_out=0.2)
    base = ("--shape", "4-4", "--tasks", "mood", "--mode", "partial", "--pretrain-steps", "1")
    run = validate(*base, "--corpus", str(tmp_path / "text"))
    assert run.exit_code == 2, run.output
    assert "was tokenised with another vocabulary than that of" in run.stderr


def test_text_is_tokenised_for_the_supernet_once(validate, supernet, tmp_path, monkeypatch):
    text = (supernet.parent / "text.txt").read_text()
    file = tmp_path / "own.txt"
    file.write_text(text * 5)
    base = ("--shape", "4-4", "--tasks", "mood", "--mode", "partial", "--pretrain-steps", "1")
    base += ("--format", "json")
    own = (*base, "--text", str(file), "--models", str(tmp_path / "models"))
    content = found(validate(*own))
    corpus = load_corpus(tmp_path / "models" / "corpus")
    corpus.check_tokenizer(load_tokenizer(supernet), str(supernet))
    assert corpus.train.shape[1] == 64  # as many tokens as the supernet has positions
    assert len(corpus.held_out)
    monkeypatch.setattr(workbench, "fine_tune", None)
    assert found(validate(*own)) == content
    assert found(validate(*base, "--corpus", str(corpus.folder))) == content


def test_pretraining_has_the_precision_asked_for(validate, monkeypatch):
    seen = []
    monkeypatch.setattr(subnets.Pretraining, "run", lambda self, *_: seen.append(self.config.dtype))
    base = ("--shape", "4-4", "--tasks", "mood", "--mode", "partial", "--pretrain-steps", "1")
    validate(*base)
    validate(*base, quick=(*QUICK[:-1], "bfloat16"))
    assert seen == ["float32", "bfloat16"]


def test_rows_of_a_ranking(nastool, supernet, task_file):
    search = ("--space", f"supershaper:{supernet}", "--objective", "params", "--strategy", "random")
    assert nastool("search", *search, "--budget", "9", "--study", "ranked").exit_code == 0
    shown = nastool("show", "ranked", "--format", "json")
    rows = [row["shape"] for row in json.loads(shown.stdout)["architectures"]]
    base = ("validate", "ranked", "--task-file", str(task_file), "--tasks", "mood", *QUICK)
    base += ("--train-examples", "8", "--format", "json")
    for number in (1, 4, 9):
        content = found(nastool(*base, "--shape", str(number)))
        assert content["shapes"][0]["shape"] == rows[number - 1]


def test_what_the_study_has_not_measured_is_measured_once(
    nastool, supernet, task_file, monkeypatch
):
    measured = ("--objective", f"measured_perplexity:{supernet}", "--objective", "params")
    search = ("--space", f"supershaper:{supernet}", "--strategy", "random", *measured)
    limit = ("--constraint", "params<=5k", "--budget", "2", "--study", "few")
    run = nastool("search", *search, *limit)
    assert run.exit_code == 0, run.output
    base = ("validate", "few", "--task-file", str(task_file), "--tasks", "mood", *QUICK)
    base += ("--train-examples", "8", "--format", "json", "--shape", "largest")
    first = found(nastool(*base))
    assert first["shapes"][0][first["quality"]] > 1
    monkeypatch.setattr("nastool_supernets.measuring.perplexities.perplexities", None)
    assert found(nastool(*base)) == first


def test_kept_models_load_with_auto_classes(validate, tmp_path):
    run = validate("--shape", "4-16", "--tasks", "mood", "--keep", "--format", "json")
    content = found(run)
    (folder,) = (tmp_path / "nastool-models").glob("mood*")
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.id2label == {0: "bad", 1: "good"}
    batch = load_tokenizer(folder)(["a lovely film", "a dull film"], return_tensors="pt")
    assert "token_type_ids" in batch
    described = json.loads((folder / "tokenizer.json").read_text())
    assert (described["truncation"], described["padding"]) == (None, None)
    assert model(**batch).logits.shape == (2, 2)
    assert content["shapes"][0]["shape"] == "4-16"


def embedded(model, tokenizer, texts):
    """Embeddings as sentence-transformers makes them: the mean over a text's tokens."""
    batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    return (states * mask).sum(1) / mask.sum(1)


def test_scores_are_drawn_by_seed(validate, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = ("--tasks", "mood", "--shape", "4-16", "--seeds", "2", "--epochs", "1")
    content = found(validate(*options, "--tracker", "tensorboard", "--format", "json"))
    folder = tmp_path / "nastool-runs" / "mine-validation" / "tensorboard"
    drawn = EventAccumulator(str(folder)).Reload().Scalars("mood/accuracy/4-16-direct")
    assert [event.step for event in drawn] == [0, 1]
    values = [100 * event.value for event in drawn]
    assert values == pytest.approx(content["shapes"][0]["scores"]["mood"]["accuracy"]["values"])


@pytest.mark.parametrize("trains", [False, True])
def test_embeddings_are_scored_by_the_order_of_pairs(
    nastool, study, supernet, task_file, tmp_path, checked_json, trains
):
    train = f'train = "{task_file.parent / "pairs_train.jsonl"}"' if trains else ""
    (tmp_path / "sts.toml").write_text(
        f"""
[sts]
kind = "similarity"
{train}
dev = "{task_file.parent / "pairs_dev.jsonl"}"
texts = ["one", "two"]
label = "grade"
"""
    )
    files = ("--supernet", str(supernet), "--task-file", "sts.toml", "--tasks", "sts", *QUICK)
    told = nastool("validate", study, *files, "--shape", "8-16", "--dry-run").output
    assert "Fine-tuning 1 shape on 1 task from 1 start with 1 seed" in told
    run = nastool("validate", study, *files, "--shape", "8-16", "--keep", "--format", "json")
    assert checked_json(run.stdout)["tasks"][0]["kind"] == "similarity"
    (row,) = found(run)["shapes"]
    (folder,) = (tmp_path / "nastool-models").glob("sts*")
    assert nastool("export", "--model", str(folder), "--to", "encoder").exit_code == 0
    from transformers import AutoModel

    tokenizer = load_tokenizer(folder)
    tuned = AutoModel.from_pretrained(folder)
    deployed = AutoModel.from_pretrained("encoder", trust_remote_code=True)
    lines = (task_file.parent / "pairs_dev.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    cosines = []
    for model in (tuned, deployed):
        sides = [embedded(model, tokenizer, [r[side] for r in rows]) for side in ("one", "two")]
        cosines.append(torch.nn.functional.cosine_similarity(*sides).numpy())
    np.testing.assert_allclose(*cosines, atol=1e-6)
    expected = spearmanr(cosines[0].round(6), [r["grade"] for r in rows]).statistic
    score = row["scores"]["sts"]["spearman"]["mean"]
    assert score == pytest.approx(100 * expected, abs=1)
    if not trains:
        # The subnet as it is cut out.
        cut = with_head(load_supernet(supernet).model.extract((8, 16)), "encoder")
        np.testing.assert_allclose(
            embedded(cut.eval(), tokenizer, ["a lovely film"]),
            embedded(tuned, tokenizer, ["a lovely film"]),
            atol=1e-6,
        )


def test_a_kept_model_tells_its_export_what_it_scored(validate, nastool, tmp_path):
    import huggingface_hub

    content = found(validate("--shape", "4-16", "--tasks", "mood", "--keep", "--format", "json"))
    (folder,) = (tmp_path / "nastool-models").glob("mood*")
    assert nastool("export", "--model", str(folder), "--to", "model").exit_code == 0
    results = huggingface_hub.ModelCard.load("model/README.md").data.eval_results
    scores = content["shapes"][0]["scores"]["mood"]
    assert {one.metric_type: 100 * one.metric_value for one in results} == {
        name: pytest.approx(score["mean"]) for name, score in scores.items()
    }
    assert {one.dataset_name for one in results} == {"mood (dev, 32 examples)"}


def test_models_that_cannot_be_kept_are_refused_before_training(validate, tmp_path, monkeypatch):
    def fine_tune(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr("nastool_supernets.finetuning.workbench.fine_tune", fine_tune)
    (tmp_path / "file").touch()
    for words in (("--tasks", "mood", "--keep"), ("--tasks", "grade"), ("--tasks", "same,grade")):
        run = validate("--shape", "4-16", *words, "--models", "file/models")
        assert run.exit_code == 2
        assert "cannot write file/models: Not a directory" in run.output
    with owned(tmp_path, "folder"):
        run = validate("--shape", "4-16", "--tasks", "mood", "--keep", "--models", str(tmp_path))
    assert run.exit_code == 2
    assert f"folder of models {tmp_path} is in use by process" in run.output


def test_scores_outlive_models_that_could_not_be_kept(validate, monkeypatch):
    def full(*_):
        raise NastoolError("cannot write the weights: No space left on device")

    base = ("--shape", "4-16", "--format", "json", "--tasks")
    with monkeypatch.context() as patched:
        patched.setattr("nastool_supernets.finetuning.workbench.save_shape", full)
        run = validate(*base, "mood", "--keep")
        assert run.exit_code == 2
        assert "1 of the models could not be kept, their scores are; the first: " in run.stderr
        assert "No space left on device" in run.stderr
        scored = json.loads(run.stdout)
        # What another task starts from is needed: that one ends, its scores stay.
        assert validate(*base, "grade").exit_code == 2
    with monkeypatch.context() as patched:
        patched.setattr("nastool_supernets.finetuning.workbench.fine_tune", None)
        assert found(validate(*base, "mood")) == scored
        assert found(validate(*base, "same"))["shapes"][0]["scores"]["same"]
    assert found(validate(*base, "mood", "--keep"))["shapes"]


def test_a_net_of_one_segment_is_tuned_on_all_kinds_and_exported(nastool, supernet, task_file):
    net = load_supernet(supernet).model
    config = type(net.config)(**{**net.config.to_dict(), "type_vocab_size": 1})
    weights = net.state_dict()
    weights["supershaper.embeddings.segments.weight"] = torch.ones(1, 16)
    one = type(net)(config)
    one.load_state_dict(weights)
    Path("one").mkdir()
    save_model(one, Path("one"))
    load_tokenizer(supernet).save_pretrained("one")
    search = ("--space", "supershaper:one", "--objective", "params", "--objective", "macs")
    assert nastool("search", *search, "--study", "one", "--budget", "9").exit_code == 0
    base = ("validate", "one", "--task-file", str(task_file), "--shape", "4-16", "--keep")
    content = found(nastool(*base, *QUICK, "--train-examples", "8", "--format", "json"))
    assert set(content["shapes"][0]["scores"]) == {"mood", "same", "grade", "answers"}
    (folder,) = Path("nastool-models").glob("same*")
    batch = load_tokenizer(folder)("a lovely film", "a dull film", return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}
    pytest.importorskip("onnxscript")
    rows = Path("pairs.tsv")
    rows.write_text("one\ttwo\tlabel\na film\ta book\t0\na song\ta tale\t1\n")
    words = ("--model", str(folder), "--examples", str(rows), "--onnx", "--to", "model")
    run = nastool("export", *words)
    assert run.exit_code == 0, run.output
    session = pytest.importorskip("onnxruntime").InferenceSession("model/onnx/model.onnx")
    assert [node.name for node in session.get_inputs()] == ["input_ids", "attention_mask"]


def test_glue_comes_with_the_published_rows(nastool, study, supernet, tmp_path, monkeypatch):
    """A folder of the hub's form stands in for the hub; its classes have names."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    glue = tmp_path / "glue"
    glue.mkdir()
    lines = ["---", "configs:"]
    classes = datasets.ClassLabel(names=["entailment", "not_entailment"])
    columns = {"mnli": ("premise", "hypothesis"), "rte": ("sentence1", "sentence2")}
    for name, texts in columns.items():
        dev = "validation_matched" if name == "mnli" else "validation"
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in ("train", dev):
            rows = [
                {**dict.fromkeys(texts, f"a {word} film"), "label": label, "idx": label}
                for label, word in enumerate(("lovely", "dull"))
            ]
            file = f"{name}_{split}.parquet"
            kinds = {**dict.fromkeys(texts, datasets.Value("string")), "label": classes}
            features = datasets.Features({**kinds, "idx": datasets.Value("int32")})
            datasets.Dataset.from_list(rows * 8, features=features).to_parquet(str(glue / file))
            lines += [f"  - split: {split}", f"    path: {file}"]
    (glue / "README.md").write_text("\n".join([*lines, "---", ""]))
    arguments = ("--supernet", str(supernet), "--shape", "8-8", "--glue", str(glue), *QUICK)
    run = nastool("validate", study, *arguments, "--tasks", "rte", "--plot", "page.html")
    assert run.exit_code == 0, run.output
    page = (tmp_path / "page.html").read_text()
    figures = json.loads(re.search(r'id="page-data">(.*?)</script>', page)[1])["figures"]
    (scores,) = (figure["figure"]["data"] for figure in figures)
    mine, table1 = scores
    assert mine["customdata"][0][0] == "8-8"
    place = table1["text"].index("SuperShaper")
    assert (table1["x"][place], table1["y"][place]) == (63e6, 79.1)
    assert "<b>Otherwise than published.</b> epochs 2;" in page
    assert 'id="published"' in page
    (ours,) = (line for line in run.stdout.splitlines() if line.startswith("8-8"))
    assert "direct" in ours
    (published,) = (line for line in run.stdout.splitlines() if line.startswith("SuperShaper  "))
    assert published.split()[-2:] == ["63M", "79.1"]
    assert (
        "otherwise than published: epochs 2; batch size 16; learning rate 0.005; max length 64; "
        "data from elsewhere" in run.stdout
    )
    # RTE starts from MNLI although nobody asked for its score.
    assert "to start or learn from: mnli, direct, 8-8, seed 0: accuracy" in run.stderr
    assert "minutes of fine-tuning (without what they start or learn from)" in run.stdout
    given = ("--distil", "1", "--teacher", f"rte={tmp_path}", "--teacher", f"mnli={tmp_path}")
    assert "got ShapedBert" not in nastool("validate", study, *arguments, *given).stderr
    other = nastool("validate", study, *arguments, "--tasks", "rte", "--teacher", "qqp=.", *given)
    assert "--teacher: expected TASK=DIR with TASK one of rte, mnli, got 'qqp=.'" in other.stderr
    (kept,) = (tmp_path / "nastool-models").iterdir()
    assert kept.name.startswith("mnli")
    assert json.loads((kept / "config.json").read_text())["id2label"] == {
        "0": "entailment",
        "1": "not_entailment",
    }


def test_formats(validate, tmp_path):
    base = ("--pick", "3", "--tasks", "mood", "--train-examples", "8")
    table = validate(*base)
    assert table.exit_code == 0, table.output
    assert "rank correlation of measured_perplexity with scores, direct: mood" in table.stdout
    assert "mood accuracy/F1" in table.stdout
    assert validate(*base, "--output", "found.csv").exit_code == 0
    header, *rows = (tmp_path / "found.csv").read_text().splitlines()
    assert header.startswith("shape,mode,params,measured_perplexity")
    assert header.endswith("mood f1,mood f1 deviation,average,seconds")
    assert len(rows) == 3


def test_the_store_knows_what_was_validated(validate, study):
    from nastool.store import open_store

    content = found(validate("--shape", "4-4", "--tasks", "mood", "--format", "json"))
    with open_store() as store:
        kept = store.annotation(study, "validation")
    # What is read by other programs says what it is, too.
    assert {**kept, "schema": "nastool/validation", "version": nastool_version} == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pick", "some"), "--pick: expected a number of at least 1 or 'knee', got 'some'"),
        (("--tasks", "nothing"), "--tasks: unknown task 'nothing'; known: mnli"),
        (
            ("--shape", "largst"),
            "smallest, largest, knee, a bound on a metric, got 'largst'",
        ),
        (("--shape", "4-5"), "--shape: layer_2 must be one of 4, 8, 16, got '5'"),
        (("--pretrain-steps", "5"), "expected --mode partial or scratch"),
        (("--mode", "partial", "--pretrain-steps", "0"), "expected at least 1 for partial"),
        (("--target-perplexity", "9"), "--target-perplexity: expected --pretrain-steps"),
        (("--corpus", "text"), "--corpus: expected --pretrain-steps"),
        (("--text", "text.txt"), "--text: expected --pretrain-steps"),
        (("--text", "text.txt", "--corpus", "text"), "expected --text or --corpus, got both"),
        (("--mode", "partial", "--text", "text.txt"), "text.txt"),
        (("--temperature", "2"), "--temperature: expected --distil"),
        (("--distil", "2"), "mix must be in (0, 1], got 2.0"),
        (("--distil", "0.5", "--teacher", "mood"), "--teacher: expected TASK=DIR"),
        (("--distil", "0.5", "--teacher", "mood=none"), "no such folder: none"),
        (("--device", "typewriter"), "--device: cannot use 'typewriter'"),
        (("--dtype", "float8"), "dtype must be one of"),
        (("--output", "no/such.csv"), "folder 'no' must exist"),
    ],
)
def test_wrong_input_is_one_line(validate, arguments, message):
    quick = tuple(part for part in QUICK if part not in ("cpu", "float32", "--device", "--dtype"))
    run = validate(*arguments, quick=quick)
    assert run.exit_code == 2, run.output
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_supernet_of_another_space_is_refused(nastool, supernet):
    arguments = ("--objective", "perplexity", "--objective", "params", "--budget", "20")
    nastool("search", "--space", "supershaper", *arguments, "--study", "other")
    run = nastool("validate", "other", "--supernet", str(supernet))
    assert run.exit_code == 2
    assert "is a supernet of space" in run.stderr


def test_the_supernet_is_the_one_that_the_space_names(nastool, study, supernet, task_file):
    arguments = ("--task-file", str(task_file), "--tasks", "mood", "--train-examples", "8")
    arguments += ("--format", "json", "--shape", "4-4", *QUICK)
    content = found(nastool("validate", study, *arguments))
    named = found(nastool("validate", study, "--supernet", str(supernet), *arguments))
    assert content["supernet"] == supernet.name
    assert content == named  # seconds too: nothing was trained again
    search = ("--objective", "params", "--strategy", "random", "--budget", "2", "--study", "other")
    nastool("search", "--space", "supershaper:layers=2,widths=4/8,heads=2,ffn=8", *search)
    run = nastool("validate", "other", *arguments)
    assert run.exit_code == 2
    assert "which names no supernet: give one with --supernet DIR" in run.stderr


FORKED = """
import multiprocessing
import torch
from concurrent.futures import ProcessPoolExecutor

def pool():
    # A worker that is a fork has imported all there is; threads of torch's do not outlive that.
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(2, fork, torch.set_num_threads, (1,))
"""


def test_workers_reach_what_this_process_does(validate, monkeypatch, tmp_path):
    (tmp_path / "forked_pool.py").write_text(FORKED)
    monkeypatch.syspath_prepend(tmp_path)
    sent = []

    def called(executor, function, calls):
        sent.extend(calls)
        return executors.called(executor, function, calls)

    monkeypatch.setattr(crew, "called", called)
    with open_store("sqlite:///nastool.db") as store, open_store("sqlite:///other.db") as other:
        store.copy("mine", other)
    options = ("--tasks", "mood", "--shape", "smallest", "--seeds", "2", "--format", "json")
    options += ("--train-examples",)
    here = found(validate(*options, "32"))
    elsewhere = ("--executor", "futures[forked_pool:pool]", "--storage", "sqlite:///other.db")
    there = found(validate(*options, "32", *elsewhere))
    assert len(sent) == 2
    assert timeless(there) == timeless(here)
    assert "2 of them kept already" in validate(*options, "32", *elsewhere).stderr
    assert len(sent) == 2
