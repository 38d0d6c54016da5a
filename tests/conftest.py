"""Every test runs offline, on few threads, and without the plugin files of other tests."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

import nastool

SCHEMAS = Path(__file__).parent.parent / "docs" / "schemas"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
# A shell that starts tests in the background lets them ignore Ctrl-C, for which some tests wait.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
