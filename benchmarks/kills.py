"""Signal every long command at random moments, go on until it has finished, and compare.

    python benchmarks/kills.py [--signals 6] [--seed 0] [COMMAND...]

A command gets SIGINT, SIGTERM or SIGKILL at a moment drawn from the time that it takes undisturbed,
is started again, and at last left to finish. What it has made must be what an undisturbed one made.
Reported a command: signals sent, runs that finished, differences (aim 0), ends that were reported
wrongly (another exit code than 130, or a traceback; aim 0), processes that lived on (aim 0), and
temporary files that stayed (aim 0 but for SIGKILL amid a write, which leaves the file beside).
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

_MARK = "NASTOOL_KILLS"
_GRACE = 10.0
"""Seconds that what belongs to a dead command has to end, too."""

_DEVICE = """#!{python} -S
import os, sys, time
time.sleep(0.05)
# To a tenth of a megabyte: the names in the file depend on how many were traced before it.
size = round(os.path.getsize(sys.argv[1]), -5)
print(*[size / 1e6 * (1 + k / 1e3) for k in range(int(os.environ["NASTOOL_REPEATS"]))])
"""

_TASKS = """[mood]
kind = "sentence"
train = "train.tsv"
dev = "dev.tsv"
metrics = ["accuracy"]
"""


@dataclass(frozen=True)
class Job:
    """A command and what it makes.

    Args:
        words: After ``nastool``.
        made: What is compared, of the folder that it ran in.
        goes_on: Whether it may be started again where it has made everything.
    """

    words: str
    made: Callable[[Path], Any]
    goes_on: bool = True


@dataclass
class Tally:
    """What happened to a command."""

    signals: int = 0
    finished: int = 0
    differences: int = 0
    wrong_ends: list[str] = field(default_factory=list)
    processes: int = 0
    files: int = 0


def write_inputs(place: Path) -> None:
    """A text, a task, a device, a table and a net of toy size."""
    words = [f"{a}{b}" for a in "bcdfgklmnprst" for b in ("a", "en", "ilt", "orp", "ush")]
    rng = np.random.default_rng(0)
    (place / "text.txt").write_text(
        "\n\n".join(" ".join(rng.choice(words, 40)) for _ in range(200))
    )
    for name, n in (("train.tsv", 48), ("dev.tsv", 24)):
        rows = [f"{' '.join(rng.choice(words, 6))}\t{'bad' if k % 2 else 'good'}" for k in range(n)]
        (place / name).write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    (place / "tasks.toml").write_text(_TASKS)
    device = place / "device"
    device.write_text(_DEVICE.format(python=sys.executable))
    device.chmod(0o755)
    from nastool import load_objective, load_space

    space = load_space("supershaper:minilm-6")
    shapes = space.sample(300, rng)
    values = load_objective("perplexity", space).evaluate(shapes)
    lines = [",".join([*(gene.name for gene in space.genes), "perplexity"])]
    for shape, value in zip(space.decode(shapes), values, strict=True):
        lines.append(",".join(map(str, [*shape, f"{value:.4f}"])))
    (place / "table.csv").write_text("\n".join(lines) + "\n")
    train = "pretrain --config tiny --text text.txt --tokenizer train:200 --sequence-length 32"
    train += " --held-out 0.1 --preset smoke --steps 20 --dtype float32 --tracker none --output net"
    run("search --space supershaper:net --objective params --strategy random --budget 6"
        " --study mine", place, before=[train])  # fmt: skip


def run(words: str, place: Path, before: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command undisturbed, after others.

    Raises:
        ClickException: It fails.
    """
    for each in (*before, words):
        done = subprocess.run(
            [*command(), *each.split()], cwd=place, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise click.ClickException(f"nastool {each}: {done.stderr[-300:]}")
    return done


def command() -> list[str]:
    return [sys.executable, "-m", "nastool"]


def files_of(*names: str) -> Callable[[Path], Any]:
    """The bytes of all files in these folders, or of these files, but for what tells the time."""

    def made(place: Path) -> Any:
        found = {}
        for name in names:
            path = place / name
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file() and not file.name.startswith(".lock"):
                    found[str(file.relative_to(place))] = _timeless(file)
        return found

    return made


def _timeless(file: Path) -> Any:
    if file.suffix == ".json":
        return _without_times(json.loads(file.read_text()))
    if file.suffix == ".csv":
        with file.open(newline="") as opened:
            rows = [_without_times(row) for row in csv.DictReader(opened)]
        return sorted(rows, key=str)
    return file.read_bytes()


def _without_times(content: Any) -> Any:
    if isinstance(content, dict):
        times = ("seconds", "created", "load", "elapsed", "elapsed_s")
        return {k: _without_times(v) for k, v in content.items() if k not in times}
    if isinstance(content, list):
        return [_without_times(value) for value in content]
    return content


def shown(words: str) -> Callable[[Path], Any]:
    """What another command says, but for times."""
    return lambda place: _without_times(json.loads(run(words, place).stdout))


_SPACE = "--space supershaper:minilm-6"

JOBS = {
    "search": Job(f"search {_SPACE} --budget 40k --study s", shown("show s --format json")),
    "exact": Job(
        f"search {_SPACE} --strategy exact --max params=18M --output front.csv",
        files_of("front.csv"),
    ),
    "compare": Job(
        f"compare {_SPACE} --strategy random --strategy evolution --seeds 3 --budget 8k --jobs 2"
        " --name c --output c.csv",
        files_of("c.csv"),
    ),
    "fit": Job(
        f"fit table.csv {_SPACE} --model xgboost --output p",
        files_of("p"),
    ),
    "measure": Job(
        "measure net --text text.txt --shapes 7 --output m.csv --dtype float32",
        files_of("m.csv"),
    ),
    "latency": Job(
        f"latency measure {_SPACE} --device command:DEVICE --name d --shapes 12 --rounds 2"
        " --option format=torchscript --devices-dir devices --model linear",
        files_of("devices/d/table.csv"),
    ),
    "validate": Job(
        "validate mine --supernet net --task-file tasks.toml --shape 1 --shape 2 --epochs 2"
        " --batch-size 16 --device cpu --dtype float32 --output v.json",
        files_of("v.json"),
    ),
    "export": Job(
        "export mine --supernet net --shape 1 --to e", files_of("e"), goes_on=False
    ),
}  # fmt: skip


def marked(mark: str) -> list[int]:
    """Living processes that a command has begun."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={mark}".encode() not in (path / "environ").read_bytes().split(b"\0"):
                continue
            if (path / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(path.name))
        except OSError:
            continue
    return found


def disturbed(
    job: Job, place: Path, seconds: float, rng: random.Random, tally: Tally, signals: int
) -> None:
    """Signal a command until it has finished."""
    temporary = place / "tmp"
    temporary.mkdir()
    target = place / "e"
    for number in range(1000):
        mark = uuid.uuid4().hex
        process = subprocess.Popen(
            [*command(), *job.words.replace("DEVICE", str(place / "device")).split()],
            cwd=place,
            env={**os.environ, _MARK: mark, "TMPDIR": str(temporary)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        sent = None
        if number < signals:
            time.sleep(rng.uniform(0.1, max(0.3, 0.7 * seconds)))
            if process.poll() is None:
                sent = rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
                process.send_signal(sent)
                tally.signals += 1
        said = process.communicate()[1]
        code = process.returncode
        if "Traceback" in said or code not in (0, 130, *([-9] if sent is signal.SIGKILL else [])):
            last = (said.strip().splitlines() or ["nothing said"])[-1]
            tally.wrong_ends.append(f"{sent.name if sent else 'undisturbed'}: {code}, {last}")
        until = time.monotonic() + _GRACE
        while (left := marked(mark)) and time.monotonic() < until:
            time.sleep(0.1)
        tally.processes += len(left)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        if code == 0 or (not job.goes_on and target.exists()):
            break
        if sent is None:
            return  # it fails by itself
    tally.finished += 1
    tally.files += sum(1 for path in temporary.iterdir() if path.name.startswith("nastool"))
    tally.files += sum(1 for path in place.rglob(".*partial*"))


@click.command()
@click.argument("names", metavar="COMMAND...", nargs=-1, type=click.Choice([*JOBS]))
@click.option("--signals", default=6, show_default=True, help="Most signals to a command.")
@click.option("--rounds", default=1, show_default=True, help="Times that a command is finished.")
@click.option("--seed", default=0, show_default=True, help="Of moments and signals.")
def main(names: tuple[str, ...], signals: int, rounds: int, seed: int) -> None:
    """Signal commands and compare what they made."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # A shell's background job ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        inputs = Path(folder, "inputs")
        inputs.mkdir()
        write_inputs(inputs)
        total = Tally()
        for name in names or JOBS:
            job, tally = JOBS[name], Tally()
            whole = Path(shutil.copytree(inputs, Path(folder, f"{name}-whole")))
            begin = time.perf_counter()
            run(job.words.replace("DEVICE", str(whole / "device")), whole)
            seconds = time.perf_counter() - begin
            for number in range(rounds):
                place = Path(shutil.copytree(inputs, Path(folder, f"{name}-{number}")))
                rng = random.Random(f"{seed} {name} {number}")
                disturbed(job, place, seconds, rng, tally, signals)
                same = job.made(place) == job.made(whole)
                tally.differences += not same
                shutil.rmtree(place)
            click.echo(
                f"{name:9} {seconds:6.1f} s: {tally.signals} signals, {tally.finished} finished, "
                f"{tally.differences} differences, {len(tally.wrong_ends)} wrong ends, "
                f"{tally.processes} processes and {tally.files} files left"
            )
            for end in tally.wrong_ends:
                click.echo(f"          {end[:120]}")
            for part in ("signals", "finished", "differences", "processes", "files"):
                setattr(total, part, getattr(total, part) + getattr(tally, part))
            total.wrong_ends += tally.wrong_ends
    click.echo(
        f"all: {total.signals} signals, {total.finished} finished, {total.differences} "
        f"differences, {len(total.wrong_ends)} wrong ends, {total.processes} processes and "
        f"{total.files} files left"
    )


if __name__ == "__main__":
    main()
