"""Kill a training at random moments, resume it each time, and compare it with one never stopped.

    python benchmarks/kill_and_resume.py [--kills 20] [--output FOLDER]

The whole of `nastool pretrain` is killed by SIGKILL: while it trains a tokenizer, tokenises, makes
a step, writes a checkpoint or its log. After every fifth kill a bit of the newest checkpoint is
flipped as well; it must be noticed, and the one before be used. In the end the weights, the
optimizer's moments and the log (but for times) must be those of an uninterrupted run, bit by bit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

STEPS = 200


def write_text(path: Path) -> None:
    words = [f"{a}{b}" for a in "bcdfgklmnprst" for b in ("a", "en", "ilt", "orp", "ush")]
    generator = np.random.default_rng(0)
    path.write_text("\n\n".join(" ".join(generator.choice(words, 40)) for _ in range(400)))


def train(text: Path, output: Path) -> None:
    """What the command line does, in this process."""
    from nastool_supernets.cli.pretrain import pretrain

    options = {
        "--config": "tiny",
        "--text": str(text),
        "--tokenizer": "train:200",
        "--sequence-length": "32",
        "--held-out": "0.05",
        "--preset": "smoke",
        "--steps": str(STEPS),
        "--checkpoint-every": "3",
        "--evaluate-every": "7",
        "--distil": "0.5",
        "--dtype": "float32",
        "--peak-flops": "1e9",
        "--tracker": "none",
        "--output": str(output),
    }
    arguments = [part for option in options.items() for part in option]
    pretrain.main([*arguments, "--resume"], standalone_mode=False)


def start(text: Path, output: Path) -> int:
    """Start the command in a process of its own, forked so that the imports are paid for once."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(output.parent / "output.txt", "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        train(text, output)
        code = 0
    except BaseException as error:  # noqa: BLE001 - the parent reports it
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def flip_a_bit(output: Path, generator: random.Random) -> str | None:
    """Damage the newest checkpoint, if there is one before it to go back to."""
    folders = sorted((output / "checkpoints").glob("step-*"))
    if len(folders) < 2:
        return None
    path = folders[-1] / generator.choice(("model", "optimizer"))
    path = path.with_name(f"{path.name}.safetensors")
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)
    return folders[-1].name


def differences(one: Path, two: Path) -> list[str]:
    """Name what differs between two finished runs."""
    from safetensors.torch import load_file

    from nastool_supernets.saved import latest_checkpoint

    found = []
    newest = [latest_checkpoint(run / "checkpoints") for run in (one, two)]
    if any(x is None or x.state["step"] != STEPS for x in newest):
        return ["the last checkpoint"]
    for name in ("model.safetensors", "optimizer.safetensors"):
        a, b = (load_file(x.path / name) for x in newest if x is not None)
        if a.keys() != b.keys():
            found.append(name)
        found += [
            f"{name}: {key}"
            for key in a.keys() & b.keys()
            if a[key].numpy().tobytes() != b[key].numpy().tobytes()
        ]
    if (one / "model.safetensors").read_bytes() != (two / "model.safetensors").read_bytes():
        found.append("the model")
    lines = [[_timeless(x) for x in (run / "log.jsonl").open()] for run in (one, two)]
    if lines[0] != lines[1]:
        found.append("log.jsonl")
    return found


def _timeless(line: str) -> dict[str, Any]:
    times = ("seconds", "tokens_per_second", "utilisation")
    return {name: value for name, value in json.loads(line).items() if name not in times}


@click.command()
@click.option("--kills", default=20, show_default=True, help="How often to kill.")
@click.option("--seed", type=int, help="Of the moments. Default: another one every time.")
@click.option("--output", type=click.Path(path_type=Path), help="New folder for the runs.")
def main(kills: int, seed: int | None, output: Path | None) -> None:
    """Kill, resume and compare."""
    import nastool_supernets.cli.pretrain
    import nastool_supernets.training.pretraining  # noqa: F401 - imported before the forks

    seed = random.SystemRandom().randrange(1 << 30) if seed is None else seed
    generator = random.Random(seed)
    folder = output or Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    folder.mkdir(parents=True, exist_ok=True)
    text, whole, killed = folder / "text.txt", folder / "whole", folder / "killed"
    write_text(text)
    began = time.monotonic()
    if os.waitpid(start(text, whole), 0)[1]:
        raise SystemExit(f"the uninterrupted run failed: see {folder / 'output.txt'}")
    duration = time.monotonic() - began
    n, damaged, finished = 0, [], False
    reached: list[int] = []
    while n < kills:
        child = start(text, killed)
        # All in all as long as one run takes: it is not finished before the last kill.
        time.sleep(generator.uniform(0, 2.0 * duration / kills))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                raise SystemExit(f"a resumed run failed: see {folder / 'output.txt'}")
            finished = True
            break
        n += 1
        saved = sorted((killed / "checkpoints").glob("step-*"))
        reached.append(int(saved[-1].name.removeprefix("step-")) if saved else 0)
        if n % 5 == 0:
            damaged += [x for x in [flip_a_bit(killed, generator)] if x]
    if not finished and os.waitpid(start(text, killed), 0)[1]:
        raise SystemExit(f"the last run failed: see {folder / 'output.txt'}")
    noticed = (folder / "output.txt").read_text().count("is damaged")
    different = differences(whole, killed)
    print(
        f"seed {seed}: {n} kills in {STEPS} steps, {len(damaged)} checkpoints damaged and "
        f"{noticed} times noticed; newest checkpoint at each kill: "
        f"{', '.join(map(str, reached))}; "
        + (f"DIFFERENT: {', '.join(different)}" if different else "bit-identical")
        + f" ({folder})"
    )
    sys.exit(bool(different) or bool(damaged) > bool(noticed))


if __name__ == "__main__":
    main()
