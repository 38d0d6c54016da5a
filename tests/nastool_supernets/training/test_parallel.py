"""Two processes that share the batches train what one process trains."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from nastool.errors import InvalidInputError
from nastool_supernets.cli.pretrain import pretrain as pretrain_command
from nastool_supernets.runtime.parallel import ALONE, Workers, joined_workers, own_device

SCRIPT = """
import json, os, signal, sys
sys.path[:0] = {path!r}
import torch
from dataclasses import replace
from pathlib import Path
from safetensors.torch import save_file
from nastool.errors import InvalidInputError
from nastool_supernets.family import net_of
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.corpus.tasks import (random_generator)
from nastool_supernets.cli.pretrain import pretrain as pretrain_command
from nastool_supernets.runtime.parallel import ALONE, joined_workers
from nastool_supernets.training.rules import Distillation
from nastool_supernets.training.report import (Evaluation)
from tests.supershaped import tiny_net
from test_pretraining import BLOCKS, CONFIG, MASKING, TestGradients, train

folder = Path({folder!r})

def work(name, workers):
    model = tiny_net(seed=workers.rank)
    workers.follow_first(list(model.parameters()))
    ids, labels = MASKING.apply(BLOCKS[:7], random_generator(0, 0, 0))
    subnets = list(TestGradients.SUBNETS)
    accumulate_gradients(
        net_of(model), ids, labels, subnets, 2, distillation=Distillation(), workers=workers
    )
    gradients = {{n: p.grad for n, p in model.named_parameters()}}
    save_file(gradients, folder / f"{{name}}-{{workers.rank}}.gradients")
    config = replace(CONFIG, micro_batch_size=1, gradient_checkpointing=True)
    options = {{"workers": workers, "trackers": [], "evaluation": Evaluation(ids, labels)}}
    model, result = train(folder / name, config, tiny_net(seed=workers.rank), **options)
    (folder / f"{{name}}-{{workers.rank}}.json").write_text(json.dumps(result.perplexities))
    weights = {{n: p.detach() for n, p in model.named_parameters()}}
    save_file(weights, folder / f"{{name}}-{{workers.rank}}.weights")
    if workers.count > 1:
        try:
            train(folder / (name if workers.is_first else "elsewhere"), config, **options)
        except InvalidInputError as error:
            assert "same step for every process" in str(error)
        else:
            raise AssertionError("folders that are not the same were not noticed")

def stopped(name, workers):
    stop = lambda report: report.step == 5 and os.kill(os.getpid(), signal.SIGINT)
    _, result = train(folder / name, CONFIG, tiny_net(), workers=workers, trackers=[], on_step=stop)
    assert (result.step, result.finished) == (5, False)

child = os.fork()
os.environ.update(WORLD_SIZE="2", RANK=str(int(child == 0)))
with joined_workers("cpu") as workers:
    work("two", workers)
    stopped("two-then-one", workers)
    if workers.is_first:
        stopped("one-then-two", ALONE)
    workers.wait()
    train(folder / "one-then-two", CONFIG, tiny_net(seed=9), workers=workers, trackers=[])
if child == 0:
    os._exit(0)
status = os.waitpid(child, 0)[1]
train(folder / "two-then-one", CONFIG, tiny_net(seed=9), trackers=[])
work("one", ALONE)
sys.exit(status)
"""


def test_two_processes_train_what_one_trains(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "script.py"
    path = [str(Path(__file__).parent), *sys.path]
    script.write_text(
        f"import os\nos.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT='{port}')\n"
        + SCRIPT.format(path=path, folder=str(tmp_path))
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for kind, tolerance in (("gradients", 1e-6), ("weights", 5e-5)):
        one = load_file(tmp_path / f"one-0.{kind}")
        first, second = (load_file(tmp_path / f"two-{rank}.{kind}") for rank in range(2))
        for name, expected in one.items():
            assert torch.equal(first[name], second[name])
            # The bias of the keys has no effect: AdamW scales the rounding noise of its gradient.
            if kind == "weights" and name.endswith("key.bias"):
                continue
            torch.testing.assert_close(first[name], expected, rtol=1e-4, atol=tolerance, msg=name)
    one, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one-0", "two-0", "two-1")
    )
    assert first == second == pytest.approx(one, rel=1e-4)
    logs = [
        [json.loads(x) for x in (tmp_path / n / "log.jsonl").read_text().splitlines()]
        for n in ("one", "two")
    ]
    assert len(logs[0]) == len(logs[1])
    for one, two in zip(*logs, strict=True):
        assert [x["shape"] for x in one["subnets"]] == [x["shape"] for x in two["subnets"]]
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)

    # Stopped and gone on with another number of processes.
    one = load_file(tmp_path / "one" / "model.safetensors")
    for name in ("one-then-two", "two-then-one"):
        other = load_file(tmp_path / name / "model.safetensors")
        for part, expected in one.items():
            if not part.endswith("key.bias"):
                torch.testing.assert_close(other[part], expected, rtol=1e-6, atol=1e-6, msg=part)


def test_the_command_under_torchrun(tmp_path):
    """Two processes tokenise together, and train what one process trains on that corpus."""
    words = ["stone", "river", "cloud", "meadow", "lantern", "harbour"]
    rng = np.random.default_rng(0)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(" ".join(rng.choice(words, 30)) for _ in range(80)))
    options = ["--config", "tiny", "--preset", "smoke", "--steps", "5", "--dtype", "float32"]
    options += ["--gradient-checkpointing", "--peak-flops", "1e9", "--tracker", "none"]
    made = ["--tokenizer", "train:120", "--sequence-length", "16", "--held-out", "0.1"]
    made += ["--text", str(text), "--output", str(tmp_path / "two")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", "-m", "nastool", "pretrain", *options, *made],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 5 steps") == 1
    one = ["--corpus", str(tmp_path / "two" / "corpus"), "--output", str(tmp_path / "one")]
    alone = CliRunner().invoke(pretrain_command, [*options, *one])
    assert alone.exit_code == 0, alone.output
    weights = [load_file(tmp_path / n / "model.safetensors") for n in ("one", "two")]
    for name, expected in weights[0].items():
        # The bias of the keys has no effect: AdamW scales the rounding noise of its gradient.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(weights[1][name], expected, rtol=1e-4, atol=5e-5, msg=name)


def test_shares_are_disjoint_and_whole():
    shares = [Workers(rank, 3).share(8) for rank in range(3)]
    assert [i for share in shares for i in share] == list(range(8))
    assert ALONE.share(8) == range(8)


def test_bad_environment_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(InvalidInputError, match=r"RANK in \[0, 2\), got 2"), joined_workers("cpu"):
        pass
    monkeypatch.setenv("RANK", "x")
    with (
        pytest.raises(InvalidInputError, match="RANK: expected a whole number, got 'x'"),
        joined_workers("cpu"),
    ):
        pass
    monkeypatch.delenv("RANK")
    # What a pod sets for all that runs in it.
    with (
        pytest.raises(InvalidInputError, match="WORLD_SIZE=2, but not RANK"),
        joined_workers("cpu"),
    ):
        pass
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for port, message in (("70000", r"in \[1, 65535\], got 70000"), ("x", "whole number, got 'x'")):
        monkeypatch.setenv("MASTER_PORT", port)
        with pytest.raises(InvalidInputError, match=f"MASTER_PORT: .*{message}"):
            joined_workers("cpu").__enter__()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(InvalidInputError, match="process 0 of 2 cannot meet the others"):
            joined_workers("cpu").__enter__()
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined_workers("cpu") as workers:
        assert workers == ALONE
    monkeypatch.setenv("LOCAL_RANK", "x")
    with pytest.raises(InvalidInputError, match="LOCAL_RANK: expected a whole number"):
        own_device("cuda")
    assert own_device("cuda:3") == "cuda:3"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device("cuda") == "cuda:1"
    assert own_device("cpu") == "cpu"
