"""The sandwich adds up gradients, and a run that was stopped ends as one that was not."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from nastool.cli.main import main
from nastool.errors import InvalidInputError, NastoolError
from nastool_supernets.cli.measure import measure as measure_command
from nastool_supernets.cli.pretrain import pretrain as pretrain_command
from nastool_supernets.cli.starts import Start
from nastool_supernets.cli.texts import open_corpus
from nastool_supernets.corpus.corpus import prepare_corpus
from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import Batches, apply_fixed, random_generator
from nastool_supernets.corpus.text import TextFile
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from nastool_supernets.family import net_of
from nastool_supernets.saved import latest_checkpoint, load_supernet
from nastool_supernets.training import checkpoints, pretraining, run
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.training.optimizer import build_optimizer, update
from nastool_supernets.training.pretraining import pretrain
from nastool_supernets.training.report import Evaluation
from nastool_supernets.training.rules import (
    Distillation,
    LargestOnly,
    RandomOnly,
    Sandwich,
    SizeAware,
    Subnet,
)
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.space import SuperShaperSpace
from nastool_supershaper.starts import read_sizes
from tests.supershaped import tiny_net

MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=60)
BLOCKS = random_generator(0, 9, 0).integers(5, 60, (50, 16)).astype(np.uint16)
CONFIG = PretrainingConfig(
    steps=9,
    batch_size=4,
    learning_rate=1e-3,
    warmup_steps=2,
    head_steps=2,
    log_every=1,
    evaluate_every=4,
    checkpoint_every=3,
    dtype="float32",
    peak_flops=1e9,
)
KILLED_CONFIG = replace(CONFIG, steps=60, checkpoint_every=1, evaluate_every=0)


def space(layers):
    return SuperShaperSpace(layers=layers, widths=(4, 8, 16), heads=2)


def train(folder, config=CONFIG, model=None, **options):
    model = model or tiny_net()
    return model, pretrain(net_of(model), BLOCKS, MASKING, config, folder, **options)


def power_cut(report):
    if report.step == 8:
        raise RuntimeError("power cut")


def damage_all(folder):
    for checkpoint in (folder / "checkpoints").iterdir():
        (checkpoint / "state.json").write_text("")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_run(a, b):
    for name in ("model.safetensors", "optimizer.safetensors"):
        old = load_file(latest_checkpoint(a / "checkpoints").path / name)
        new = load_file(latest_checkpoint(b / "checkpoints").path / name)
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old), name
    lines = [
        [
            {k: v for k, v in json.loads(line).items() if "second" not in k and k != "utilisation"}
            for line in (folder / "log.jsonl").read_text().splitlines()
        ]
        for folder in (a, b)
    ]
    assert lines[0] == lines[1]


class TestRules:
    def test_sandwich(self):
        draw = Sandwich(2).subnets(space(3), random_generator(0, 2, 7))
        assert draw[:2] == [Subnet("largest", (2, 2, 2)), Subnet("smallest", (0, 0, 0))]
        assert [s.role for s in draw[2:]] == ["random", "random"]
        assert draw == Sandwich(2).subnets(space(3), random_generator(0, 2, 7))

    def test_random_widths_are_uniform_and_independent(self):
        shapes = np.array(
            [
                RandomOnly(1).subnets(space(2), random_generator(1, 2, i))[0].genotype
                for i in range(3600)
            ]
        )
        pairs = np.unique(shapes, axis=0, return_counts=True)[1]
        # Four standard deviations around 400 of each of the nine pairs.
        assert len(pairs) == 9
        assert np.abs(pairs - 400).max() < 4 * 400**0.5

    def test_bad_input_is_named(self):
        with pytest.raises(InvalidInputError, match="n_random must be at least 1, got 0"):
            RandomOnly(0)
        with pytest.raises(
            InvalidInputError, match="learning_rate must be a finite number above 0, got -1"
        ):
            PretrainingConfig(learning_rate=-1)


class TestGradients:
    SUBNETS = (
        Subnet("largest", (2, 2)),
        Subnet("smallest", (0, 0)),
        Subnet("random", (1, 0)),
        Subnet("random", (0, 2)),
    )

    @pytest.mark.parametrize("micro", [None, 3])
    def test_sandwich_is_the_sum_of_separate_gradients(self, micro):
        model = tiny_net()
        ids, labels = MASKING.apply(BLOCKS[:8], random_generator(0, 0, 0))
        expected = {}
        for subnet in self.SUBNETS:
            model.zero_grad()
            shape = [(4, 8, 16)[index] for index in subnet.genotype]
            model(
                torch.from_numpy(ids), labels=torch.from_numpy(labels), shape=shape
            ).loss.backward()
            for name, parameter in model.named_parameters():
                expected[name] = expected.get(name, 0) + parameter.grad.clone()
        model.zero_grad()
        accumulate_gradients(net_of(model), ids, labels, list(self.SUBNETS), micro)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)

    def test_losses_are_means_over_the_whole_batch(self):
        model = tiny_net()
        ids, labels = MASKING.apply(BLOCKS[:8], random_generator(0, 0, 0))
        losses = accumulate_gradients(net_of(model), ids, labels, list(self.SUBNETS), 3)
        for subnet, loss in zip(self.SUBNETS, losses.tolist(), strict=True):
            single = net_of(model).losses(
                torch.from_numpy(ids), torch.from_numpy(labels), subnet.genotype
            )
            assert loss == pytest.approx(single.mean().item(), rel=1e-5)


class TestOptimizer:
    @pytest.mark.parametrize("clip_norm", [None, 0.5])
    @pytest.mark.parametrize("loss", [math.nan, math.inf])
    def test_a_step_whose_loss_is_not_finite_changes_nothing(self, loss, clip_norm):
        model, other = tiny_net(), tiny_net()
        optimizer, reference = (build_optimizer(net_of(x), CONFIG) for x in (model, other))

        def step(optimizer, model, losses):
            for number, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, losses[0] + number)
            return update(optimizer, clip_norm, torch.tensor(losses))

        assert step(optimizer, model, [1.0, 2.0]) == step(reference, other, [1.0, 2.0]) == [1, 2]
        assert str(step(optimizer, model, [loss, 2.0])) == str([loss, 2.0])
        # Not even the count of steps: what follows is as if there had been none.
        step(optimizer, model, [3.0, 2.0])
        step(reference, other, [3.0, 2.0])
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert all(
                torch.equal(value, reference.state[theirs][name])
                for name, value in optimizer.state[ours].items()
            )

    def test_one_step_is_adamw_on_the_summed_gradients(self, tmp_path):
        config = replace(CONFIG, steps=1, warmup_steps=0, head_steps=0)
        model, _ = train(tmp_path, config)
        reference = tiny_net()
        batch = Batches(BLOCKS, MASKING, 4, 0).batch(0)
        subnets = Sandwich().subnets(space(2), random_generator(0, 2, 0))
        accumulate_gradients(net_of(reference), *batch, subnets)
        for name, parameter in reference.named_parameters():
            decay = 0.01 if parameter.ndim > 1 else 0.0
            # After one step, AdamW's corrected moments are the gradient and its square.
            gradient = parameter.grad
            expected = parameter.detach() * (1 - 1e-3 * decay)
            expected -= 1e-3 * gradient / (gradient.abs() + 1e-6)
            torch.testing.assert_close(
                model.get_parameter(name).detach(), expected, rtol=1e-4, atol=2e-6
            )

    def test_groups(self):
        model = tiny_net()
        config = replace(CONFIG, head_rate=3.0, bottleneck_rate=2.0)
        names = {p: n for n, p in model.named_parameters()}
        seen = {}
        for group in build_optimizer(net_of(model), config).param_groups:
            for parameter in group["params"]:
                seen[names[parameter]] = (group["rate"], group["weight_decay"])
        assert len(seen) == len(names)
        assert seen["head.transform.weight"] == (3.0, 0.01)
        assert seen["supershaper.layers.1.input_bottleneck.bias"] == (2.0, 0.0)
        assert seen["supershaper.layers.0.output_norm.weight"] == (1.0, 0.0)
        assert seen["supershaper.embeddings.words.weight"] == (1.0, 0.01)

    def test_schedule(self):
        config = replace(CONFIG, steps=100, warmup_steps=10)
        factors = [config.rate_factor(step) for step in range(101)]
        assert factors[0] == pytest.approx(0.1)
        assert factors[9] == factors[10] == 1.0
        assert factors[55] == pytest.approx(0.5)
        assert factors[100] == 0.0


class TestRun:
    def test_training_learns_and_logs(self, tmp_path):
        # Text with one rule: a block repeats one token.
        blocks = np.repeat(np.arange(5, 60), 16).reshape(-1, 16).astype(np.uint16)
        ids, labels = apply_fixed(blocks[::5], MASKING)
        reports = []
        config = replace(
            CONFIG,
            steps=150,
            batch_size=16,
            learning_rate=1e-2,
            evaluate_every=50,
            checkpoint_every=150,
        )
        result = pretrain(
            net_of(tiny_net()),
            blocks,
            MASKING,
            config,
            tmp_path,
            evaluation=Evaluation(ids, labels, {"mixed": (1, 0)}),
            on_step=reports.append,
        )
        assert result.finished
        assert result.tokens == 150 * 16 * 16
        assert result.perplexities["largest"] < 15 < 60
        assert set(result.perplexities) == {"largest", "smallest", "mixed"}
        assert [r.step for r in reports] == list(range(1, 151))
        assert set(reports[0].losses) == {"largest"}  # the head's stage
        assert set(reports[2].losses) == {"largest", "smallest", "random"}
        assert reports[-1].losses["smallest"] < 0.8 * reports[2].losses["smallest"]
        lines = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert [x["step"] for x in lines] == list(range(1, 151))
        assert [x["step"] for x in lines if "perplexity" in x] == [50, 100, 150]
        assert [x["role"] for x in lines[5]["subnets"]] == ["largest", "smallest", "random"]
        drawn = Sandwich().subnets(space(2), random_generator(0, 2, 5))[2]
        assert lines[5]["subnets"][2]["shape"] == [(4, 8, 16)[index] for index in drawn.genotype]
        assert lines[5]["subnets"][2]["loss"] == lines[5]["loss"]["random"]
        assert all(x["utilisation"] > 0 for x in lines)

    def test_saved_model_loads(self, tmp_path):
        model, _ = train(tmp_path)
        for folder in (tmp_path, latest_checkpoint(tmp_path / "checkpoints").path):
            loaded = load_supernet(folder)
            for name, parameter in model.named_parameters():
                assert torch.equal(parameter, loaded.model.get_parameter(name))
        again = SuperShaperForMaskedLM.from_pretrained(tmp_path)
        assert torch.equal(again.head.bias, model.head.bias)
        assert len(list((tmp_path / "checkpoints").iterdir())) == 2

    def test_bad_input_is_named(self, tmp_path):
        train(tmp_path, replace(CONFIG, steps=3))
        with pytest.raises(InvalidInputError, match="already holds a run at step 3"):
            train(tmp_path, resume=False)
        with pytest.raises(InvalidInputError, match=r"learning_rate=0.001, got 0.5"):
            train(tmp_path, replace(CONFIG, steps=3, learning_rate=0.5))
        with pytest.raises(InvalidInputError, match="other text"):
            pretrain(net_of(tiny_net()), BLOCKS[1:], MASKING, replace(CONFIG, steps=3), tmp_path)
        with pytest.raises(InvalidInputError, match="at most 16 tokens long, got 17"):
            pretrain(
                net_of(tiny_net()), np.ones((4, 17), np.uint16), MASKING, CONFIG, tmp_path / "b"
            )
        with pytest.raises(InvalidInputError, match="neither"):
            load_supernet(tmp_path / "nothing")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


class TestResume:
    @pytest.mark.parametrize("stop", [1, 3, 5, 8])
    def test_stopped_after_a_signal(self, whole, tmp_path, stop):
        def interrupt(report):
            if report.step == stop:
                os.kill(os.getpid(), signal.SIGTERM if stop % 2 else signal.SIGINT)

        _, result = train(tmp_path, on_step=interrupt)
        assert not result.finished
        assert result.step == stop
        _, result = train(tmp_path, model=tiny_net(seed=1))
        assert result.finished
        assert_same_run(whole, tmp_path)

    def test_damaged_checkpoint_gives_way_to_the_one_before(self, whole, tmp_path, caplog):
        with pytest.raises(RuntimeError, match="power cut"):
            train(tmp_path, on_step=power_cut)
        newest = latest_checkpoint(tmp_path / "checkpoints").path
        assert newest.name == "step-00000006"
        content = bytearray((newest / "model.safetensors").read_bytes())
        content[-5] ^= 1
        (newest / "model.safetensors").write_bytes(content)
        assert latest_checkpoint(tmp_path / "checkpoints").state["step"] == 3
        assert "model.safetensors does not match its checksum" in caplog.text
        train(tmp_path, model=tiny_net(seed=1))
        assert_same_run(whole, tmp_path)

    def test_nothing_to_go_on_from_is_said_and_nothing_overwritten(self, tmp_path):
        with pytest.raises(RuntimeError, match="power cut"):
            train(tmp_path, on_step=power_cut)
        damage_all(tmp_path)
        before = contents(tmp_path)
        with pytest.raises(InvalidInputError, match=r"got 2 in .*checkpoints, all damaged: delete"):
            train(tmp_path)
        assert contents(tmp_path) == before
        # What it says to do.
        config = replace(CONFIG, keep_checkpoints=1)
        stop = {"on_step": lambda r: r.step == 4 and os.kill(os.getpid(), signal.SIGINT)}
        train(tmp_path, config, resume=False, **stop)
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]

    def test_a_model_without_checkpoints_is_not_overwritten(self, tmp_path):
        train(tmp_path)
        damage_all(tmp_path)
        for resume in (True, False):
            before = contents(tmp_path)
            with pytest.raises(
                InvalidInputError, match="already holds a model, and no whole check"
            ):
                train(tmp_path, resume=resume)
            assert contents(tmp_path) == before
            shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)

    def test_who_loads_a_run_gets_its_newest_weights(self, tmp_path):
        train(tmp_path, on_step=lambda r: r.step == 2 and os.kill(os.getpid(), signal.SIGINT))

        with pytest.raises(RuntimeError, match="power cut"):
            train(tmp_path, on_step=power_cut)
        newest = latest_checkpoint(tmp_path / "checkpoints")
        assert newest.state["step"] == 6
        saved = load_file(newest.path / "model.safetensors")
        loaded = dict(load_supernet(tmp_path).model.named_parameters())
        assert all(torch.equal(loaded[name], weights) for name, weights in saved.items())

    def test_diverged_loss_stops_and_keeps_the_good_checkpoint(self, tmp_path):
        model = tiny_net()

        def spoil(report):
            if report.step == 4:
                with torch.no_grad():
                    model.head.bias[7] = float("nan")

        with pytest.raises(NastoolError, match=r"became nan in step 5 .*last good checkpoint"):
            train(tmp_path, model=model, on_step=spoil)
        checkpoint = latest_checkpoint(tmp_path / "checkpoints")
        assert checkpoint.state["step"] == 3
        assert torch.isfinite(load_file(checkpoint.path / "model.safetensors")["head.bias"]).all()

    def test_weights_that_are_not_finite_are_not_saved(self, tmp_path):
        model = tiny_net()

        def spoil(report):
            if report.step == 6:
                with torch.no_grad():
                    model.head.bias[7] = float("inf")

        with pytest.raises(NastoolError, match=r"head.bias holds .* after step 6: .*last good"):
            train(tmp_path, model=model, on_step=spoil)
        assert latest_checkpoint(tmp_path / "checkpoints").state["step"] == 3

    def test_stopped_before_the_first_step_the_same_call_starts(self, whole, tmp_path, monkeypatch):
        @contextmanager
        def stopped():
            event = threading.Event()
            event.set()
            yield event

        monkeypatch.setattr(pretraining, "stop_signals", stopped)
        _, result = train(tmp_path)
        assert (result.step, result.finished) == (0, False)
        monkeypatch.undo()
        train(tmp_path)
        assert_same_run(whole, tmp_path)

    def test_a_log_that_cannot_be_written_is_named(self, whole, tmp_path):
        log = tmp_path / "log.jsonl"

        def spoil(report):
            if report.step == 5:
                log.rename(tmp_path / "log.old")
                log.mkdir()

        with pytest.raises(NastoolError, match=r"cannot write .*log.jsonl.*last good checkpoint"):
            train(tmp_path, on_step=spoil)
        log.rmdir()
        (tmp_path / "log.old").rename(log)
        train(tmp_path, model=tiny_net(seed=1))
        assert_same_run(whole, tmp_path)

    def test_full_disk_keeps_the_earlier_checkpoint(self, tmp_path, monkeypatch):
        train(tmp_path, replace(CONFIG, steps=3))
        model = tiny_net()

        def full(path):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoints, "digest", full)
        with pytest.raises(NastoolError, match=r"No space left on device.*earlier checkpoints"):
            checkpoints.save_checkpoint(
                tmp_path / "checkpoints",
                4,
                model,
                build_optimizer(net_of(model), CONFIG),
                {"step": 4},
            )
        monkeypatch.undo()
        assert latest_checkpoint(tmp_path / "checkpoints").state["step"] == 3
        assert not list((tmp_path / "checkpoints").glob(".partial*"))

    def test_killed_at_random_moments(self, tmp_path):
        """SIGKILL lands anywhere: in a step, while a checkpoint is written, in the log."""
        script = tmp_path / "kill.py"
        script.write_text(
            "import os, random, sys, time\n"
            f"sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
            "from test_pretraining import KILLED_CONFIG, train\n"
            "killed = 0\n"
            # A fork of a process that has imported everything spares every run the imports.
            "while killed < 4:\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        train(sys.argv[1], KILLED_CONFIG)\n"
            "        os._exit(0)\n"
            "    time.sleep(random.uniform(0.05, 0.8))\n"
            "    os.kill(child, 9)\n"
            "    if os.WIFEXITED(os.waitpid(child, 0)[1]):\n"
            "        break\n"
            "    killed += 1\n"
            "print(killed)\n"
        )
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / "killed")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= 1
        train(tmp_path / "killed", KILLED_CONFIG)
        train(tmp_path / "whole", KILLED_CONFIG)
        assert_same_run(tmp_path / "whole", tmp_path / "killed")

    def test_what_killed_writers_left_is_no_hindrance(self, whole, tmp_path):
        """Files and folders: notes of owners are written beside checkpoints, too."""
        with pytest.raises(RuntimeError):
            train(tmp_path, on_step=power_cut)
        left = tmp_path / "checkpoints"
        (left / "..step-00000004.lock.owner.partial-1-00000000").write_text("{")
        (left / ".step-00000004.partial-1-00000000").mkdir()
        train(tmp_path)
        assert_same_run(whole, tmp_path)
        assert not list(left.glob(".*partial*"))

    def test_checkpoints_of_older_versions_go_on(self, whole, tmp_path):
        train(tmp_path, on_step=lambda r: r.step == 5 and os.kill(os.getpid(), signal.SIGINT))
        folder = latest_checkpoint(tmp_path / "checkpoints").path
        state = json.loads((folder / "state.json").read_text())
        for name in ("distillation", "gradient_checkpointing", "peak_flops"):
            del state["config"][name]
        del state["config"]["rule"]["sampling"]
        (folder / "state.json").write_text(json.dumps(state))
        checksums = json.loads((folder / "checksums.json").read_text())
        checksums["state.json"] = checkpoints.digest(folder / "state.json")
        (folder / "checksums.json").write_text(json.dumps(checksums))
        with pytest.raises(InvalidInputError, match="with distillation=None, got"):
            train(tmp_path, replace(CONFIG, distillation=Distillation()))
        with pytest.raises(InvalidInputError, match=r"with rule=.*Uniform.*SizeAware"):
            train(tmp_path, replace(CONFIG, rule=Sandwich(sampling=SizeAware())))
        train(tmp_path, replace(CONFIG, peak_flops=2e9))
        assert_same_run(whole, tmp_path)


class TestCommand:
    def test_from_text_to_supernet_and_on(self, tmp_path):
        text, output = tmp_path / "text.txt", str(tmp_path / "net")
        words = ["stone", "river", "cloud", "meadow", "lantern", "harbour"]
        rng = np.random.default_rng(0)
        text.write_text("\n\n".join(" ".join(rng.choice(words, 30)) for _ in range(80)))
        arguments = [
            "--config",
            "tiny",
            "--text",
            str(text),
            "--tokenizer",
            "train:120",
            "--preset",
            "smoke",
            "--steps",
            "6",
            "--sequence-length",
            "16",
            "--held-out",
            "0.1",
            "--dtype",
            "float32",
            "--sampling",
            "runs",
            "--distil",
            "0.5",
            "--temperature",
            "2",
            "--masking-rate",
            "0.3",
            "--tracker",
            "none",
            "--output",
            output,
        ]
        done = CliRunner().invoke(pretrain_command, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        assert re.search(r"held-out perplexity, smallest: \d", done.output)
        assert load_supernet(output).model.config.widths == [16, 32, 48]
        config = latest_checkpoint(Path(output, "checkpoints")).state["config"]
        assert config["distillation"] == {"mix": 0.5, "temperature": 2.0}
        assert config["rule"]["sampling"] == {"name": "Runs"}
        assert config["masking_rate"] == 0.3
        again = CliRunner().invoke(pretrain_command, arguments)
        assert isinstance(again.exception, InvalidInputError)
        assert "add --resume" in str(again.exception)
        # The tokenizer of the run's corpus is known without naming it again.
        del arguments[(at := arguments.index("--tokenizer")) : at + 2]
        corpus = Path(output, "corpus", "train.npy")
        written = corpus.stat().st_mtime_ns
        more = CliRunner().invoke(pretrain_command, [*arguments, "--resume"])
        assert more.exit_code == 0
        assert corpus.stat().st_mtime_ns == written
        assert "Trained 6 steps" in more.output
        # A head that has been trained needs no stage of its own.
        further = ["--supernet", output, "--corpus", str(corpus.parent), "--preset", "smoke"]
        further += ["--steps", "10", "--dtype", "float32", "--tracker", "none", "--output"]
        for options, steps in (([], 0), (["--head-steps", "1"], 1)):
            folder = tmp_path / f"further-{steps}"
            done = CliRunner().invoke(pretrain_command, [*further, str(folder), *options])
            assert done.exit_code == 0
            assert latest_checkpoint(folder / "checkpoints").state["config"]["head_steps"] == steps

    @pytest.mark.parametrize("step", [2, 5])
    def test_an_unfinished_run_lacks_nothing(self, tmp_path, monkeypatch, step):
        """Stopped before or after its first checkpoint, it goes on without its tokenizer named."""
        text, net = tmp_path / "text.txt", tmp_path / "net"
        words = ["stone", "river", "cloud", "meadow", "lantern", "harbour"]
        rng = np.random.default_rng(0)
        text.write_text("\n\n".join(" ".join(rng.choice(words, 30)) for _ in range(80)))
        options = ["--config", "tiny", "--text", str(text), "--preset", "smoke", "--steps", "6"]
        options += ["--checkpoint-every", "4", "--sequence-length", "16", "--held-out", "0.1"]
        options += ["--dtype", "float32", "--peak-flops", "1e9", "--tracker", "none"]
        options += ["--output", str(net)]
        append = run.TrainingLog.append

        def power_cut(log, report, *others):
            if report.step == step:
                raise RuntimeError("power cut")
            return append(log, report, *others)

        monkeypatch.setattr(run.TrainingLog, "append", power_cut)
        cut = CliRunner().invoke(pretrain_command, [*options, "--tokenizer", "train:120"])
        assert "power cut" in str(cut.exception)
        monkeypatch.undo()
        vocabulary = load_tokenizer(net).get_vocab()
        assert vocabulary == load_tokenizer(net / "corpus" / "tokenizer").get_vocab()
        corpus = contents(net / "corpus")
        if step > 4:
            table = ["--text", str(text), "--shapes", "2", "--output", str(tmp_path / "t.csv")]
            measured = CliRunner().invoke(measure_command, [str(net), *table])
            assert measured.exit_code == 0, measured.output
            # What the run was trained on stays, whatever is asked for.
            longer = [*options, "--resume", "--sequence-length", "32"]
            refused = CliRunner().invoke(pretrain_command, longer)
            assert "sequence_length=16, not 32" in str(refused.exception)
            assert contents(net / "corpus") == corpus
        done = CliRunner().invoke(pretrain_command, [*options, "--resume"])
        assert "Trained 6 steps" in done.output
        assert contents(net / "corpus") == corpus
        assert load_tokenizer(net).get_vocab() == vocabulary

    def test_damaged_checkpoints_are_an_error_of_one_line(self, tmp_path):
        folder = tmp_path / "net" / "checkpoints" / "step-00000003"
        folder.mkdir(parents=True)
        arguments = ["pretrain", "--config", "tiny", "--text", __file__, "--resume"]
        done = CliRunner().invoke(main, [*arguments, "--output", str(tmp_path / "net")])
        assert done.exit_code == 2
        assert done.output.splitlines()[-1].startswith(
            "Error: expected a whole checkpoint to go on"
        )
        assert not [path for path in (tmp_path / "net").rglob("*") if path.is_file()]

    def test_a_tokenizer_that_would_do_nothing_is_refused(self, tmp_path):
        text = tmp_path / "text.txt"
        text.write_text("\n\n".join(f"stone river cloud meadow {i}" for i in range(200)))
        tokenizer = train_tokenizer([TextFile(text)], 120)
        prepare_corpus([TextFile(text)], tokenizer, tmp_path / "corpus", sequence_length=16)
        save_tokenizer(train_tokenizer([TextFile(text)], 100), tmp_path / "other")
        options = ["--config", "tiny", "--corpus", str(tmp_path / "corpus")]
        options += ["--output", str(tmp_path / "net"), "--tokenizer"]
        for name, message in (
            (str(tmp_path / "other"), "another vocabulary than that of"),
            ("train:200", "expected text to train one"),
        ):
            done = CliRunner().invoke(pretrain_command, [*options, name])
            assert isinstance(done.exception, InvalidInputError)
            assert message in str(done.exception)
        # A BERT of weights alone says nothing of its vocabulary.
        (tmp_path / "bert").mkdir()
        (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
        opened = open_corpus(
            [], None, tmp_path / "corpus", 16, None, None, start=str(tmp_path / "bert")
        )
        assert len(opened.train)

    def test_sizes_that_would_do_nothing_are_refused(self, tmp_path):
        path = tmp_path / "sizes.json"
        tiny_net().config.save_pretrained(tmp_path)
        assert read_sizes(str(tmp_path / "config.json"))["widths"] == [4, 8, 16]
        path.write_text('{"num_layers": 6}')
        with pytest.raises(InvalidInputError, match=r"sizes.json has unknown sizes num_layers"):
            read_sizes(str(path))
        train(tmp_path / "net", replace(CONFIG, steps=1))
        nothing = {"bert": None, "widths": None, "layers": None, "reorder": False}
        with pytest.raises(InvalidInputError, match=r"--widths: .* got --supernet"):
            Start(None, str(tmp_path / "net"), nothing | {"widths": "4,8"}).open(None)
        with pytest.raises(InvalidInputError, match=r"--layers: .* got --size"):
            Start("tiny", None, nothing | {"layers": 4}).open(None)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "expected exactly one of --from, --bert, --size and --supernet, got 0"),
            (["--config", "tiny", "--clip-norm", "0"], "clip_norm must be a finite number above 0"),
            (
                ["--config", "tiny", "--cuda-graphs", "--device", "cpu"],
                "cuda_graphs: expected a CUDA device, got cpu",
            ),
            (
                ["--config", "tiny", "--cuda-graphs", "--shape", "largest"],
                "cuda_graphs: expected a supernet, got one shape alone",
            ),
            (
                ["--config", "tiny", "--head-learning-rate", "1e-4", "--head-steps", "0"],
                "head_steps of",
            ),
            (["--config", "tiny", "--max-time", "7"], "--max-time: expected a time such as"),
            (["--config", "tiny", "--max-time", "7m", "--steps", "9"], "--steps or --max-time"),
            (["--config", "tiny", "--teacher", "."], "--teacher: expected --shape beside it"),
            (
                ["--config", "tiny", "--distil-hidden", "--rule", "random"],
                "distil_hidden: expected a rule that trains the largest subnet",
            ),
            (["--config", "tiny", "--shape", "16-17"], "--shape: "),
            (["--config", "tiny", "--shape", "16"], "--shape: "),
            (["--config", "tiny", "--shape", "largest", "--rule", "largest"], "--rule: "),
            (["--bert", "no/such/folder"], "no/such/folder"),
            (["--config", "tiny"], "expected text"),
            (["--config", "huge", "--text", __file__], "expected text files"),
            (["--config", "tiny", "--preset", "big"], "--preset: expected one of"),
            (
                ["--config", "tiny", "--masking-rate", "1"],
                "masking_rate must be above 0 and below 1",
            ),
            (["--rule", "largest", "--sampling", "uniform"], "--sampling: expected a rule with"),
            (["--temperature", "2"], "expected --distil beside it"),
            (["--rule", "random", "--distil", "0.5"], "expected a rule that trains the largest"),
            (["--distil", "0"], "mix must be in (0, 1], got 0.0"),
        ],
    )
    def test_bad_input_is_named(self, tmp_path, arguments, message):
        result = CliRunner().invoke(
            pretrain_command, [*arguments, "--output", str(tmp_path / "net")]
        )
        assert isinstance(result.exception, InvalidInputError)
        assert message in str(result.exception)


def test_largest_only_trains_no_other():
    assert LargestOnly().subnets(space(3), random_generator(0, 2, 0)) == [
        Subnet("largest", (2, 2, 2))
    ]
