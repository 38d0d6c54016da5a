"""Many processes on one store: eager writers on SQLite, first openers on PostgreSQL.

Each round starts that many processes at the same moment on a new database. A writer makes a study
of its own and commits to it as fast as it can; an opener opens the store, which makes the tables,
and begins a study. Printed are errors, and how long a commit or an opening took.

    python benchmarks/store_contention.py --processes 16 --rounds 20
    python benchmarks/store_contention.py --postgresql postgresql://postgres@127.0.0.1:5432
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nastool.errors import NastoolError
from nastool.store import Batch, open_store

_COMMITS = 25
"""Of each writer in a round."""


def _batch(first: int, n: int = 100) -> Batch:
    numbers = np.arange(first, first + n)
    genotypes = np.stack([numbers % 7] * 12, axis=1)
    return Batch(genotypes, np.stack([numbers / 3, numbers / 7], axis=1), numbers / 100.0)


def _write(url: str, name: str) -> list[float]:
    seconds = []
    with open_store(url) as store:
        key = store.create_study(name, {}, {})
        for number in range(_COMMITS):
            begin = time.perf_counter()
            store.commit(key, 100 * number, _batch(100 * number), {"told": number}, 1.0)
            seconds.append(time.perf_counter() - begin)
    return seconds


def _open(url: str, name: str) -> list[float]:
    begin = time.perf_counter()
    with open_store(url) as store:
        store.create_study(name, {}, {})
    return [time.perf_counter() - begin]


def _one(
    work: Callable[[str, str], list[float]], url: str, name: str, gate: Any, said: Any
) -> None:
    gate.wait()
    try:
        said.put((work(url, name), None))
    except NastoolError as error:
        said.put(([], str(error)))
    except Exception as error:  # noqa: BLE001 - what no user should see is counted, too
        said.put(([], f"{type(error).__name__}: {error}"))


def _round(
    work: Callable[[str, str], list[float]], url: str, processes: int
) -> tuple[list[list[float]], list[str]]:
    context = multiprocessing.get_context("fork")
    gate, said = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_one, args=(work, url, f"study {k}", gate, said))
        for k in range(processes)
    ]
    for worker in workers:
        worker.start()
    answers = [said.get() for _ in workers]
    for worker in workers:
        worker.join()
    with open_store(url) as store:
        kept = len(store.list_studies())
    errors = [error for _, error in answers if error]
    if kept + len(errors) != processes:
        errors.append(f"{kept} studies kept by {processes} processes")
    return [seconds for seconds, _ in answers], errors


@contextmanager
def _postgresql(server: str) -> Iterator[str]:
    import psycopg
    from sqlalchemy import make_url

    name = f"contention_{uuid.uuid4().hex[:8]}"
    url = make_url(server)

    def execute(statement: str) -> None:
        admin = url.set(drivername="postgresql", database="postgres")
        text = admin.render_as_string(hide_password=False)
        with psycopg.connect(text, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]  # a name of our own making

    execute(f"CREATE DATABASE {name}")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder) / 'studies.db'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--postgresql", metavar="URL", help="a server where databases can be made")
    options = parser.parse_args()
    work = _open if options.postgresql else _write
    what = "openings on PostgreSQL" if options.postgresql else "commits on SQLite"
    waits: list[float] = []
    spans: list[float] = []
    errors: list[str] = []
    for _ in range(options.rounds):
        place = _postgresql(options.postgresql) if options.postgresql else _sqlite()
        with place as url:
            each, failed = _round(work, url, options.processes)
        waits += [second for seconds in each for second in seconds]
        totals = [sum(seconds) for seconds in each if seconds]
        spans.append(max(totals) / min(totals) if totals else float("nan"))
        errors += failed
    median, late, longest = np.quantile(waits, [0.5, 0.99, 1.0]) if waits else [float("nan")] * 3
    print(f"{options.processes} processes, {options.rounds} rounds: {len(waits):,} {what}")
    print(f"errors: {len(errors)}" + (f", e.g. {errors[0]}" if errors else ""))
    print(f"seconds: median {median:.4f}, 99% {late:.3f}, longest {longest:.3f}")
    print(f"slowest process of a round over its fastest: median {np.median(spans):.2f}")


if __name__ == "__main__":
    main()
