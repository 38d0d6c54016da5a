"""Shapes measured by one process and by workers: time that passes, and processor time.

Three ways in turns, each into a table of its own and with no ledger: one process with one thread,
one process with a thread for every processor, and as many workers as are asked for. Printed
are the median times of the rounds and what the workers win; beside other work on the machine the
ratio of processor times tells what would be won without: so many workers, divided by what they take
more.

    python benchmarks/measure_workers.py --text held_out.txt --blocks 16
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NET = Path(__file__).parents[1] / "examples" / "minilm-6"


def _measured(command: list[str], threads: int | None) -> tuple[float, float]:
    """Seconds that pass and processor seconds of a command, what it starts included."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    if threads is not None:
        environment |= dict.fromkeys(names, str(threads))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, check=True, env=environment, stdout=quiet, stderr=quiet)
    taken = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--supernet", type=Path, default=NET)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--shapes", type=int, default=300)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ways: dict[str, tuple[list[str], int | None]] = {
        "one process, one thread": ([], 1),
        "one process, all threads": ([], None),
        f"{arguments.workers} workers": (["--executor", f"processes:{arguments.workers}"], None),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    tables = set()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for place, (name, (options, threads)) in enumerate(ways.items()):
                table = Path(folder, f"{number}-{place}.csv")
                command = [sys.executable, "-m", "nastool", "measure", str(arguments.supernet)]
                command += ["--text", str(arguments.text), "--shapes", str(arguments.shapes)]
                command += ["--blocks", str(arguments.blocks), "--device", "cpu"]
                command += ["--storage", "none", "--output", str(table), *options]
                found[name].append(_measured(command, threads))
                tables.add(len(table.read_text().splitlines()))
                taken, processor = found[name][-1]
                print(f"{name}: {taken:.1f} s, {processor:.1f} s of processors", flush=True)
    if len(tables) != 1:
        raise SystemExit(f"the ways measured different numbers of shapes: {sorted(tables)}")
    times = {name: statistics.median(t for t, _ in pairs) for name, pairs in found.items()}
    used = {name: statistics.median(p for _, p in pairs) for name, pairs in found.items()}
    one, threaded, workers = ways
    print(
        f"{workers}: {times[one] / times[workers]:.2f} times as fast as {one}, "
        f"{times[threaded] / times[workers]:.2f} times as {threaded}; "
        f"{arguments.workers * used[one] / used[workers]:.2f} by processor time"
    )


if __name__ == "__main__":
    main()
