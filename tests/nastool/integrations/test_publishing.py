"""What is published on the hub comes back whole under its hf:// name."""

import shutil

import pytest

pytest.importorskip("huggingface_hub")

from click.testing import CliRunner

from nastool import load_objective, load_space
from nastool.cli.main import main
from nastool.errors import InvalidInputError, NastoolError
from nastool.files.hub import fetched
from nastool.integrations.publishing import publish
from nastool.predictors.base import load_predictor
from nastool.store import open_store


def run(*arguments):
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def predictor():
    space = load_space("supershaper")
    return load_objective("perplexity", space).folder


def test_a_predictor_predicts_the_same_under_its_name(hub, predictor):
    space = load_space("supershaper")
    rows = space.sample(50, __import__("numpy").random.default_rng(0))
    publish(predictor, "me/perplexity")
    text = hub.repositories["me/perplexity"]["files"]["README.md"].decode()
    assert "nastool search" in text
    assert "hf://me/perplexity" in text
    there = load_objective("perplexity:hf://me/perplexity", space)
    ours = load_objective("perplexity", space)
    assert (there.evaluate(rows) == ours.evaluate(rows)).all()
    # What an option has made a path of lost a stroke.
    from pathlib import Path

    assert load_predictor(Path("hf://me/perplexity"))[1] == load_predictor(predictor)[1]


def test_a_study_is_shown_as_it_was_and_alone(hub, here):
    search = ["search", "--space", "supershaper", "--budget", "300", "--max", "params=66M"]
    run(*search, "--study", "mine")
    run(*search, "--study", "other", "--seed", "1")
    run("push", "mine", "me/mine")
    assert set(hub.repositories["me/mine"]["files"]) == {"README.md", "nastool.db", "study.toml"}
    shown = run("show", "mine", "--format", "csv")
    assert run("show", "mine", "--format", "csv", "--storage", "hf://me/mine") == shown
    with open_store("hf://me/mine") as store:
        assert store.names() == ["mine"]
        with pytest.raises(NastoolError, match=r"readonly|only be read"):
            store.delete("mine")
    # The recipe runs the same search.
    recipe = here / "study.toml"
    recipe.write_bytes(hub.repositories["me/mine"]["files"]["study.toml"])
    run("run", recipe, "--storage", "sqlite:///again.db")
    with open_store("sqlite:///again.db") as store:
        (name,) = store.names()
    assert run("show", name, "--format", "csv", "--storage", "sqlite:///again.db") == shown


def test_a_device_goes_and_comes(hub):
    pytest.importorskip("nastool_objectives")
    from nastool_objectives.latency.registry import find_device, read_card

    folder = find_device("h100")
    publish(folder, "me/h100")
    assert "NVIDIA" in hub.repositories["me/h100"]["files"]["README.md"].decode()
    assert read_card(find_device("hf://me/h100")) == read_card(folder)
    space = load_space("supershaper")
    rows = space.sample(20, __import__("numpy").random.default_rng(0))
    ours = load_objective("latency[h100]", space).evaluate(rows)
    assert (load_objective("latency[hf://me/h100]", space).evaluate(rows) == ours).all()


def test_what_is_nothing_is_refused_in_one_line(hub, here):
    (here / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="expected a folder with one of predictor"):
        publish(here / "empty", "me/empty")
    run("search", "--space", "supershaper", "--budget", "100", "--study", "there")
    with pytest.raises(InvalidInputError, match="absent"):
        publish("absent", "me/absent")
    assert hub.repositories == {}
    with pytest.raises(InvalidInputError, match=r"hf://USER/NAME"):
        fetched("hf://alone")
    with pytest.raises(InvalidInputError, match="cannot fetch hf://me/nothing"):
        fetched("hf://me/nothing")
    publish("there", "me/there")
    with pytest.raises(InvalidInputError, match="must hold the folder deep"):
        fetched("hf://me/there/deep")
    with pytest.raises(InvalidInputError, match="public"):
        publish("there", "me/there", private=True)


def test_what_a_tracker_noted_of_user_and_machine_stays_at_home(hub, predictor, tmp_path):
    folder = shutil.copytree(predictor, tmp_path / "trained")
    (folder / "wandb" / "run-1").mkdir(parents=True)
    (folder / "wandb" / "run-1" / "debug.log").write_text("host, user, paths")
    publish(folder, "me/trained")
    files = hub.repositories["me/trained"]["files"]
    assert "card.json" in files
    assert not [name for name in files if "wandb" in name]


def test_the_hub_says_why_it_refuses(hub, predictor, monkeypatch):
    with pytest.raises(InvalidInputError, match=r"hub: there is none of this name, or it is priv"):
        fetched("hf://me/nothing")
    publish(predictor, "me/perplexity")
    answers = {
        (404, "RevisionNotFound", None): "it has no such revision",
        (403, "GatedRepo", None): "ask for access on its page",
        (400, None, "first\nsecond"): "Bad request: first second",
        (409, None, "a lock is held"): r"409 Conflict.*: a lock is held",
    }
    for (status, code, said), told in answers.items():

        def answer(self, status=status, code=code, said=said):
            headers = {"X_Error_Code": code} if code else {}
            return self._answer(status, {"error": said} if said else {}, **headers)

        monkeypatch.setattr(hub, "do_GET", answer)
        with pytest.raises(InvalidInputError, match=rf"hf://me/perplexity from the hub: .*{told}"):
            fetched("hf://me/perplexity@main2")
        with pytest.raises(
            NastoolError, match=rf"^cannot upload to me/perplexity: .*{told}[^\n]*$"
        ):
            publish(predictor, "me/perplexity")
