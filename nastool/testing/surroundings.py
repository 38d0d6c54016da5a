"""What a plugin shares with the rest of the program, and what it must not depend on."""

# ruff: noqa: S101 - a suite of tests asserts; nothing here runs outside of pytest
from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from typing import Any

import numpy as np
import pytest


@contextmanager
def global_generators_kept() -> Iterator[None]:
    """Fail where the global random numbers of NumPy or Python are drawn from or seeded within."""
    # They may stand where whoever seeds them puts them.
    np.random.random()  # noqa: NPY002 - it is these that are looked after
    random.random()
    before = _global_generators()
    yield
    assert _global_generators() == before, (
        "the global random state was changed: draw from a numpy.random.Generator of one's own"
    )


def _global_generators() -> tuple[bytes, str, object]:
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002 - it is looked at, not drawn from
    return numpys["state"]["key"].tobytes(), repr(numpys), random.getstate()


def check_fingerprint_elsewhere(suite: Any, plugin: Any) -> None:
    """Fail unless another process, with other hashes of texts, finds the same fingerprint.

    It makes the plugin as the suite does, or is sent it where the suite cannot be sent there.

    Args:
        suite: Has `make`.
        plugin: Made by it; its fingerprint is not known yet.
    """
    lines = []
    for sent in (suite, plugin):
        try:
            content = bytes(reduction.ForkingPickler.dumps(sent))
        except Exception as error:  # noqa: BLE001 - what is not picklable raises anything
            lines.append(f"{type(error).__name__}: {error}")
            continue
        found = _ask(content, sent is suite, {type(suite).__module__, type(plugin).__module__})
        if isinstance(found, list):
            here = plugin.fingerprint
            assert found == [here], f"the fingerprint is {here} here and {found[0]} elsewhere"
            return
        lines.append(found)
    pytest.skip(f"define the suite and its plugin at the top level of a file: {lines[0]}")


def _ask(content: bytes, makes: bool, names: set[str]) -> list[str] | str:
    """The fingerprint that another process finds, in a list, or why there is none."""
    question = {
        "path": sys.path,
        "modules": {name: getattr(sys.modules[name], "__file__", None) for name in sorted(names)},
        "makes": makes,
        "content": base64.b64encode(content).decode(),
    }
    # Texts have other hashes there, and sets of them another order.
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(  # noqa: S603 - this Python and this module
        [sys.executable, "-c", f"from {__name__} import _answer; _answer()"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _answer() -> None:
    """What the other process does."""
    question = json.load(sys.stdin)
    sys.path[:] = question["path"]
    for name, file in question["modules"].items():
        try:
            importlib.import_module(name)
        except ImportError:
            # pytest and `--plugin` load files that cannot be imported by their names.
            spec = importlib.util.spec_from_file_location(name, file)
            if spec is None or spec.loader is None:
                raise
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
    sent = reduction.ForkingPickler.loads(base64.b64decode(question["content"]))
    made = sent.make() if question["makes"] else sent
    sys.stdout.write("\n" + json.dumps([made.fingerprint]) + "\n")
