"""Every test runs offline, on few threads, and without the plugin files of other tests."""

import os
import sys

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")


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
