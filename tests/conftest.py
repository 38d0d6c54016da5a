"""Every test runs offline, on few threads, and without the plugin files of other tests."""

import base64
import gc
import hashlib
import http.server
import json
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy

import nastool

SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
# No test asserts a time, nor does hypothesis for it.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")
# A shell that starts tests in the background lets them ignore Ctrl-C, for which some tests wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What is imported and parsed while tests are collected stays: there is no garbage among it.
gc.disable()


def pytest_collection_finish():
    """Keep what was imported out of every collection of garbage: training asks for many.

    And look for garbage more seldom than by default, which takes a tenth of the tests' time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk():
    """What tests write survives a kill, and need not survive a loss of power."""

    def careless(connection, *_):
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    # Not where it connects: there a store says how careful it is.
    sqlalchemy.event.listen(sqlalchemy.Engine, "checkout", careless)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "checkout", careless)


@pytest.fixture(autouse=True, scope="module")
def _no_plugin_files():
    """Forget what a file of tests loaded with `--plugin`: names of different files would clash."""
    yield
    discovery = sys.modules.get("nastool.discovery")
    if discovery is None:
        return
    for name in [name for name in sys.modules if name.startswith("nastool_plugin_")]:
        del sys.modules[name]
        for key in [key for key in discovery._registered if key[2] == name]:
            del discovery._registered[key]


@pytest.fixture(scope="module")
def few_trees():
    """Forty trees instead of three hundred, where what is tested is not how well trees predict."""
    from nastool.predictors.boosted_trees import BoostedTrees

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(BoostedTrees.__init__, "__defaults__", (40, 4, 0.3, 0))
        yield


@pytest.fixture
def checked_json():
    """Reads a JSON output and holds it against the schema that it names."""
    jsonschema = pytest.importorskip("jsonschema")

    def read(text):
        content = json.loads(text)
        name = content["schema"].removeprefix("nastool/")
        schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(content, schema, jsonschema.Draft202012Validator)
        assert content["version"] == nastool.__version__
        return content

    return read


class FakeHub(http.server.BaseHTTPRequestHandler):
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

    def do_HEAD(self):
        self.do_GET()

    def _file(self):
        """A file as the hub serves it: its name behind the revision."""
        owner, name, _, _, *inside = self.path.split("?")[0].strip("/").split("/")
        found = self.repositories.get(f"{owner}/{name}", {"files": {}})
        content = found["files"].get("/".join(inside))
        if content is None:
            return self._answer(404, {}, X_Error_Code="EntryNotFound")
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"' + hashlib.sha1(content).hexdigest() + '"')
        self.send_header("X-Repo-Commit", found["sha"])
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    def do_GET(self):
        if "/resolve/" in self.path:
            return self._file()
        name, found = self._repository()
        if found is None:
            return self._answer(404, {}, X_Error_Code="RepoNotFound")
        if "/tree/" in self.path:
            files = found["files"].items()
            tree = [
                {"type": "file", "path": path, "size": len(content), "oid": "1"}
                for path, content in files
            ]
            return self._answer(200, tree)
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
def hub(monkeypatch, tmp_path_factory):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    kind = type("Hub", (FakeHub,), {"repositories": {}, "commits": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api = huggingface_hub.HfApi(f"http://127.0.0.1:{server.server_port}", token="hf_none")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield kind
    server.shutdown()
    thread.join()
    server.server_close()
