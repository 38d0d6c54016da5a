"""What tests of the core share: none of it needs more than the core does."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import numpy as np
import pytest

MISSING = re.compile(r"(?:needs |No module named '|could not import ')([a-z_]+)")
EXTRAS = ("numba", "optuna", "pandas", "pyarrow", "pymoo", "scipy", "sklearn", "xgboost")


class Tensor:
    """What refuses to be an array, as tensors do that have a gradient or lie on a GPU."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("use detach() first")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Leave out what fails because of an extra that is not installed, and says so."""
    report = yield
    if report.failed:
        said = "\n".join([report.longreprtext, *(text for _, text in report.sections)])
        for name in {*MISSING.findall(said)} & {*EXTRAS}:
            if importlib.util.find_spec(name) is None:
                report.outcome = "skipped"
                report.longrepr = (str(item.path), item.location[1] or 0, f"needs {name}")
    return report


@pytest.fixture(scope="session")
def uniformity():
    """How likely counts lie as far apart as they do if all are equally likely; no scipy needed."""

    def chance(counts):
        mean, freedom = float(np.mean(counts)), len(counts) - 1
        statistic = float(((np.asarray(counts) - mean) ** 2 / mean).sum())
        # Wilson and Hilferty: the cube root of a chi-square variable is close to normal.
        spread = 2 / (9 * freedom)
        deviation = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
        return math.erfc(deviation / math.sqrt(2)) / 2

    return chance


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory):
    """URL of a server where databases can be made: that of NASTOOL_TEST_POSTGRESQL, or our own."""
    pytest.importorskip("psycopg")
    if url := os.environ.get("NASTOOL_TEST_POSTGRESQL"):
        yield url
        return
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("NASTOOL_TEST_POSTGRESQL is not set, and initdb and pg_ctl are not on PATH")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        pytest.skip("NASTOOL_TEST_POSTGRESQL is not set, and root cannot start PostgreSQL")
    folder = tmp_path_factory.mktemp("postgresql")
    sockets = Path("/tmp") / f"nastool-{uuid.uuid4().hex[:8]}"  # paths of sockets must be short
    sockets.mkdir(mode=0o700)
    data = str(folder / "data")
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run(["initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"], **quiet)
        options = f"-c listen_addresses= -c unix_socket_directories={sockets} -c fsync=off"
        log = str(folder / "log")
        subprocess.run(["pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start"], **quiet)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(sockets, ignore_errors=True)
        pytest.skip(f"PostgreSQL does not start here: {error}")
    yield f"postgresql://postgres@/postgres?host={sockets}"
    subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture
def postgresql(postgresql_server):
    """URL of a new database, which is dropped at the end."""
    import psycopg
    from sqlalchemy import make_url

    url = make_url(postgresql_server)
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = url.set(drivername="postgresql").render_as_string(hide_password=False)

    def execute(statement: str) -> None:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(statement)

    execute(f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    execute(f"DROP DATABASE {name} WITH (FORCE)")
