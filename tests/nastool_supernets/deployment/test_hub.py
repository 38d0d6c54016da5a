"""What a push leaves on the hub: one model, private where that was asked for."""

import base64
import http.server
import json
import re
import threading
from pathlib import Path

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("torch")

from nastool.errors import InvalidInputError, NastoolError  # noqa: E402
from nastool_supernets.deployment.hub import check_repository, push  # noqa: E402


class _Hub(http.server.BaseHTTPRequestHandler):
    """Repositories in memory: what making, describing and committing ask for."""

    repositories: dict = {}  # noqa: RUF012 - set anew for each server
    commits: list = []  # noqa: RUF012

    def log_message(self, *_):
        pass

    def _answer(self, status, content, **headers):
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text)

    def _repository(self):
        name = "/".join(self.path.split("?")[0].split("/")[3:5])
        return name, self.repositories.get(name)

    def do_GET(self):
        name, found = self._repository()
        if found is None:
            return self._answer(404, {}, X_Error_Code="RepoNotFound")
        siblings = [{"rfilename": file} for file in found["files"]]
        facts = {"_id": "1", "id": name, "private": found["private"], "sha": found["sha"]}
        return self._answer(200, {**facts, "siblings": siblings, "tags": [], "downloads": 0})

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name, found = self._repository()
        if self.path.startswith("/api/repos/create"):
            asked = json.loads(text)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            url = {"url": f"https://huggingface.co/{name}"}
            if name in self.repositories:
                return self._answer(409, url)
            private = bool(asked.get("private")) or asked.get("visibility") == "private"
            self.repositories[name] = {"private": private, "files": {}, "sha": "0" * 40}
            return self._answer(200, url)
        if "/preupload/" in self.path:
            files = json.loads(text)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            return self._answer(200, {"files": modes})
        if "/commit/" in self.path:
            lines = [json.loads(line) for line in text.splitlines()]
            if lines[0]["value"].get("parentCommit") != found["sha"]:
                return self._answer(412, {"error": "the repository has changed"})
            for line in lines[1:]:
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    found["files"][line["value"]["path"]] = content
                else:
                    del found["files"][line["value"]["path"]]
            self.commits.append(name)
            return self._answer(
                200,
                {
                    "commitUrl": f"https://huggingface.co/{name}/commit/{'1' * 40}",
                    "commitOid": "1" * 40,
                },
            )
        return self._answer(200, {"errors": [], "warnings": []})


@pytest.fixture
def hub(monkeypatch):
    kind = type("Hub", (_Hub,), {"repositories": {}, "commits": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api = huggingface_hub.HfApi(f"http://127.0.0.1:{server.server_port}", token="hf_none")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield kind
    server.shutdown()
    thread.join()
    server.server_close()


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
