"""What a push leaves on the hub: one model, private where that was asked for."""

import re
from pathlib import Path

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("torch")

from nastool.errors import InvalidInputError, NastoolError  # noqa: E402
from nastool.files.hub import check_repository, push  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    names = ("config.json", "README.md", "model.safetensors", "onnx/model.onnx", ".lock")
    for name in names:
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text(f"new {name}")
    return tmp_path / "model"


EARLIER = (
    "README.md", "onnx/model_int8.onnx", "openvino/openvino_model.bin", "pytorch_model.bin",
    "adapter_config.json", "vocab.txt", "modeling_other.py", "1_Pooling/config.json",
)  # fmt: skip
KEPT = (".gitattributes", "LICENSE", "LICENSE.txt", "NOTES.md", "figures/front.png")


def test_one_commit_leaves_one_model(hub, folder):
    files = dict.fromkeys((*EARLIER, *KEPT), b"old")
    hub.repositories["me/model"] = {"private": False, "files": files, "sha": "2" * 40}
    assert push(folder, "me/model").endswith("me/model")
    assert hub.commits == ["me/model"]
    own = ["README.md", "config.json", "model.safetensors", "onnx/model.onnx"]
    assert sorted(files) == sorted((*own, *KEPT))
    assert {name: files[name].decode() for name in own} == {name: f"new {name}" for name in own}


def test_a_new_repository_is_as_private_as_asked(hub, folder):
    push(folder, "me/open")
    push(folder, "me/closed", private=True)
    found = {name: facts["private"] for name, facts in hub.repositories.items()}
    assert found == {"me/open": False, "me/closed": True}
    push(folder, "me/closed")
    assert hub.repositories["me/closed"]["private"]


def test_a_public_repository_gets_nothing_that_is_to_be_private(hub, folder, tmp_path):
    hub.repositories["me/model"] = {"private": False, "files": {}, "sha": "0" * 40}
    for refused in (
        lambda: push(folder, "me/model", private=True),
        lambda: check_repository("me/model", private=True),
    ):
        with pytest.raises(InvalidInputError, match="me/model is there already and public"):
            refused()
    assert hub.repositories["me/model"]["files"] == {}
    check_repository("me/other", private=True)
    check_repository("me/model", private=False)
    with pytest.raises(InvalidInputError, match="--push: "):
        check_repository("me/mo del", private=False)


def test_who_pushes_second_at_once_is_refused(hub, folder, monkeypatch):
    api = huggingface_hub.HfApi()
    commit = api.create_commit

    def overtaken(repository, *arguments, **options):
        hub.repositories[repository]["sha"] = "3" * 40
        return commit(repository, *arguments, **options)

    monkeypatch.setattr(api, "create_commit", overtaken)
    with pytest.raises(NastoolError, match=r"^cannot upload to me/model: .*the model is in "):
        push(folder, "me/model")
    assert hub.repositories["me/model"]["files"] == {}


def test_the_command_pushes_what_it_wrote(hub, nastool, supernet):
    words = ("export", "--supernet", supernet, "--shape", "16-8", "--push", "me/tiny", "--private")
    run = nastool(*words, "--to", "model")
    assert run.exit_code == 0, run.stderr
    assert re.search(r"Uploaded to http\S+/me/tiny\n", run.stderr)
    found = hub.repositories["me/tiny"]
    assert found["private"]
    written = {path.name: path.read_bytes() for path in Path("model").iterdir()}
    assert found["files"] == written
    found["private"] = False
    run = nastool(*words, "--to", "again")
    assert run.exit_code == 2
    assert "is there already and public" in run.stderr
    assert not Path("again").exists()


def test_a_hub_that_is_not_there_leaves_the_folder(hub, nastool, supernet, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi(), "create_repo", fail)
    run = nastool(
        "export", "--supernet", supernet, "--shape", "16-8", "--push", "me/tiny", "--to", "model"
    )
    assert run.exit_code == 2
    assert "cannot upload to me/tiny: no route; the model is in model" in run.stderr
    assert Path("model/model.safetensors").is_file()
