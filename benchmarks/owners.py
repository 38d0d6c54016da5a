"""Start two processes at once on one folder, many times: one result must come of it.

    python benchmarks/owners.py [--rounds 20] [--seed N]

Kinds of folder: a run (the same `pretrain --resume` twice), a corpus (the same text twice, and
other text at the same time), the target of an export, and a campaign of latencies. The second
process starts within a fifth of a second; in every third round the first one is killed on the way
and started again. Counted are deaths without a line (a traceback, a signal, an unknown exit code),
mixtures (a result that is neither process's own, a log line twice, a text that changes under its
reader) and work lost (no process has a result); the aim is 0 of each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import click
import numpy as np

STEPS = 40


@dataclass
class Count:
    """What went wrong in the rounds of one kind of folder."""

    deaths: int = 0
    mixtures: int = 0
    lost: int = 0
    refused: int = 0
    taken_over: int = 0


def start(work: Callable[[], None], errors: Path) -> int:
    """Fork, so that the imports are paid for once; nastool's own errors are exit code 2."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(errors, "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from nastool.errors import NastoolError

        try:
            work()
            code = 0
        except NastoolError as error:
            print("Error:", *str(error).split(), file=sys.stderr, flush=True)
            code = 2
    except BaseException as error:  # noqa: BLE001 - counted by the parent
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        sys.stderr.flush()
        os._exit(code)


def pair(
    works: list[Callable[[], None]], folder: Path, count: Count, rng: random.Random, kill: bool
) -> list[int]:
    """Run two works at once; return their exit codes."""
    errors = [folder / f"{i}.err" for i in range(2)]
    children = [start(works[0], errors[0])]
    time.sleep(rng.uniform(0, 0.2))
    children.append(start(works[1], errors[1]))
    finished = False
    if kill:
        time.sleep(rng.uniform(0.05, 0.6))
        os.kill(children[0], signal.SIGKILL)
        # It may have been done just before.
        finished = os.waitpid(children[0], 0)[1] == 0
        children[0] = start(works[0], errors[0])
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    said = [path.read_text() if path.exists() else "" for path in errors]
    count.deaths += sum(code not in (0, 2) for code in codes)
    pairs = zip(codes, said, strict=True)
    count.deaths += sum(code == 2 and "Error:" not in text for code, text in pairs)
    count.refused += sum(code == 2 for code in codes)
    count.taken_over += sum(text.count("Taking over") for text in said)
    count.lost += not finished and 0 not in codes
    return codes


def write_text(path: Path, seed: int) -> Path:
    """Write paragraphs of made-up words."""
    words = [f"{a}{b}" for a in "bcdfgklmnprst" for b in ("a", "en", "ilt", "orp", "ush")]
    generator = np.random.default_rng(seed)
    path.write_text("\n\n".join(" ".join(generator.choice(words, 40)) for _ in range(200)))
    return path


def train(corpus: Path, output: Path) -> None:
    """What `nastool pretrain --resume` does, in this process."""
    from nastool_supernets.cli.pretrain import pretrain

    words = f"--config tiny --preset smoke --steps {STEPS} --checkpoint-every 5 --dtype float32"
    words += f" --peak-flops 1e9 --tracker none --corpus {corpus} --output {output} --resume"
    pretrain.main(words.split(), standalone_mode=False)


def runs(folder: Path, rounds: int, rng: random.Random) -> Count:
    """The same run, twice at once."""
    from nastool_supernets.corpus.corpus import prepare_corpus
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer

    count = Count()
    sources = text_files([write_text(folder / "text.txt", 0)])
    corpus = folder / "corpus"
    prepare_corpus(sources, train_tokenizer(sources, 200), corpus, sequence_length=32)
    start(lambda: train(corpus, folder / "alone"), folder / "alone.err")
    os.wait()
    expected = (folder / "alone" / "model.safetensors").read_bytes()
    for i in range(rounds):
        place = folder / str(i)
        place.mkdir()
        output = place / "run"
        work = lambda output=output: train(corpus, output)  # noqa: E731
        pair([work, work], place, count, rng, kill=i % 3 == 2)
        log = output / "log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        steps = [json.loads(line)["step"] for line in lines]
        model = output / "model.safetensors"
        whole = model.exists() and model.read_bytes() == expected
        count.mixtures += not whole or steps != list(range(1, STEPS + 1))
    return count


def corpora(folder: Path, rounds: int, rng: random.Random) -> Count:
    """One folder for a corpus: the same text twice, and in every other round another text."""
    from nastool_supernets.corpus.corpus import load_corpus, prepare_corpus
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer

    count = Count()
    texts = [text_files([write_text(folder / f"{n}.txt", n)]) for n in range(2)]
    words = train_tokenizer([*texts[0], *texts[1]], 200)
    own = [
        np.array(prepare_corpus(t, words, folder / f"own{n}", sequence_length=32).train)
        for n, t in enumerate(texts)
    ]
    for i in range(rounds):
        place = folder / str(i)
        place.mkdir()

        def work(which: int, place: Path = place) -> None:
            found = prepare_corpus(texts[which], words, place / "c", sequence_length=32).train
            for _ in range(20):
                if not np.array_equal(found, own[which]):
                    (place / "mixed").touch()
                time.sleep(0.01)

        both = [0, 0] if i % 2 else [0, 1]
        pair([lambda n=n: work(n) for n in both], place, count, rng, kill=i % 3 == 2)
        left = np.array(load_corpus(place / "c").train)
        count.mixtures += (place / "mixed").exists() or not any(
            np.array_equal(left, own[n]) for n in both
        )
    return count


def exports(folder: Path, rounds: int, rng: random.Random) -> Count:
    """One target for two exports of different shapes."""
    from nastool.files.writing import whole_folder
    from nastool_supernets.corpus.text import text_files
    from nastool_supernets.corpus.tokenizer import train_tokenizer
    from nastool_supernets.saved import save_shape
    from nastool_supershaper.modeling import SuperShaperForMaskedLM
    from nastool_supershaper.supernet_config import SuperShaperConfig

    count = Count()
    words = train_tokenizer(text_files([write_text(folder / "text.txt", 0)]), 200)
    sizes = {"vocab_size": 200, "hidden_size": 48, "num_hidden_layers": 2, "widths": (16, 48)}
    sizes |= {"num_attention_heads": 4, "intermediate_size": 96}
    net = SuperShaperForMaskedLM(SuperShaperConfig(**sizes))
    subnets = [net.extract(shape) for shape in ((16, 16), (48, 48))]

    def work(which: int, target: Path) -> None:
        with whole_folder(target) as partial:
            save_shape(subnets[which], words, partial)

    own = []
    for n in range(2):
        work(n, folder / f"own{n}")
        own.append(_contents(folder / f"own{n}"))
    for i in range(rounds):
        place = folder / str(i)
        place.mkdir()
        target = place / "out"
        works = [lambda n=n, target=target: work(n, target) for n in range(2)]
        pair(works, place, count, rng, kill=i % 3 == 2)
        count.mixtures += not target.is_dir() or _contents(target) not in own
    return count


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def campaigns(folder: Path, rounds: int, rng: random.Random) -> Count:
    """The same campaign, twice at once, on a device that answers at once."""
    from nastool.devices import Device, Timing, Workload
    from nastool.plugins import load_space
    from nastool_objectives.latency.campaign import Plan, run

    class Clock(Device):
        name = "clock"
        facts: ClassVar[dict[str, object]] = {}

        def measure(self, deployment: object, warmup: int, repeats: int) -> Timing:
            del deployment, warmup
            time.sleep(0.005)
            return Timing(np.full(repeats, 0.001))

    count = Count()
    space = load_space("supershaper:minilm-6")
    plan = Plan(shapes=20, rounds=2, repeats=1)
    for i in range(rounds):
        place = folder / str(i)
        (place / "device").mkdir(parents=True)
        visits = place / "device" / "visits.csv"
        work = lambda visits=visits: run(space, Clock(), Workload(), plan, visits) and None  # noqa: E731
        pair([work, work], place, count, rng, kill=i % 3 == 2)
        lines = visits.read_text().splitlines()[1:]
        numbers = [int(line.split(",")[0]) for line in lines]
        genotypes, anchors = plan.architectures(space)
        n = len(plan.order(len(genotypes), anchors))
        count.mixtures += numbers != list(range(n))
    return count


@click.command()
@click.option("--rounds", default=20, show_default=True, help="Of every kind of folder.")
@click.option("--seed", type=int, help="Of the moments. Default: another one every time.")
@click.option("--kind", "kinds", multiple=True, help="run, corpus, export, campaign. Default: all.")
def main(rounds: int, seed: int | None, kinds: tuple[str, ...]) -> None:
    """Start two at once, and count what goes wrong."""
    import torch

    import nastool_supernets.cli.pretrain
    import nastool_supernets.training.pretraining  # noqa: F401 - imported before the forks

    # Forked processes wait forever for threads that only their parent has.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    seed = random.SystemRandom().randrange(1 << 30) if seed is None else seed
    rng = random.Random(seed)
    known = {"run": runs, "corpus": corpora, "export": exports, "campaign": campaigns}
    bad = 0
    for kind in kinds or known:
        with tempfile.TemporaryDirectory(prefix=f"owners-{kind}-") as folder:
            count = known[kind](Path(folder), rounds, rng)
        bad += count.deaths + count.mixtures + count.lost
        print(
            f"{kind}: {rounds} rounds of two at once, seed {seed}: {count.deaths} deaths without a "
            f"line, {count.mixtures} mixtures, {count.lost} times work lost "
            f"({count.refused} refused, {count.taken_over} taken over)",
            flush=True,
        )
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
