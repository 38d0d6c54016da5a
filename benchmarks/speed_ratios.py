"""How fast searching, exact search, measuring and training are beside another checkout: ratios.

    python benchmarks/speed_ratios.py OTHER [--rounds 5]

Each is a command that is run twice, for little and for much work; the difference of processor
times is what the work costs, whatever imports and others cost. The two checkouts take turns,
and the lowest time of each command counts. A ratio above 1 says that this checkout is faster.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import tomllib
import uuid
from pathlib import Path

import click

HERE = Path(__file__).parents[1]
TRAIN = (
    "pretrain --config tiny --text text.txt --tokenizer train:400 --sequence-length 64 --corpus "
    "corpus --preset smoke --dtype float32 --tracker none --evaluate-every 1000000"
)
TASKS = {
    "searching, 28,000 evaluations": (
        "search --space supershaper --strategy evolution --storage none --budget {}", 2_000, 30_000
    ),
    "exact search, with its imports": (
        "search --space supershaper --strategy exact --storage none --max params={}M", 0, 66
    ),
    "measuring, 150 shapes": (
        "measure {net} --text text.txt --blocks 2 --shapes {} --output {}.csv --dtype float32",
        10,
        160,
    ),
    "training, 60 steps": (TRAIN + " --steps {} --output run{}", 10, 70),
}  # fmt: skip


def environment(root: Path, folder: Path) -> dict[str, str]:
    """Variables under which a checkout is what is installed, with its own entry points."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    info = folder / f"nastool-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: nastool\nVersion: {project['version']}\n"
    )
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(groups) + "\n")
    paths = [folder, root, root / "search_spaces", root / "objectives"]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def seconds(words: str, folder: Path, env: dict[str, str]) -> float:
    """Processor time of a command."""
    command = [sys.executable, "-m", "nastool", *words.split()]
    # A store of its own each time: what is known would not be measured again.
    env = env | {"NASTOOL_STORAGE": f"sqlite:///{uuid.uuid4().hex}.db"}
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said = process.stderr.read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"{words}: {said}")
    return usage.ru_utime + usage.ru_stime


@click.command()
@click.argument("other", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=5, show_default=True, help="Of each command.")
def main(other: Path, rounds: int) -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above)
        checkouts = {"other": other.resolve(), "this": HERE}
        envs = {name: environment(root, folder / name) for name, root in checkouts.items()}
        nets = {name: root / "examples" / "minilm-6" for name, root in checkouts.items()}
        rng = random.Random(0)
        words = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "en", "il") for c in ("", "m", "t")]
        text = "\n\n".join(" ".join(rng.choices(words, k=60)) for _ in range(600))
        for name in envs:
            (folder / name / "text.txt").write_text(text)
        print("| what | other, s | this, s | ratio |\n| --- | ---: | ---: | ---: |")
        for what, (command, little, much) in TASKS.items():
            times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in envs}
            for number in range(rounds):
                for name, env in envs.items():
                    for n, found in zip((little, much), times[name], strict=True):
                        words_of = command.format(n, f"{n}-{number}", net=nets[name])
                        found.append(seconds(words_of, folder / name, env) if n else 0.0)
            best = {name: min(more) - min(less) for name, (less, more) in times.items()}
            ratio = best["other"] / best["this"]
            print(
                f"| {what} | {best['other']:.2f} | {best['this']:.2f} | {ratio:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
