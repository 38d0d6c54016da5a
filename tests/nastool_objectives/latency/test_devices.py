import itertools
import os
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nastool.devices import Deployment, Timing, Workload
from nastool.errors import InvalidInputError, NastoolError
from nastool.plugins import load_device
from nastool.testing import DeviceConformance
from nastool_objectives.latency import system
from nastool_objectives.latency.export import export_torchscript
from nastool_objectives.latency.nvml import Gpu, energy_of
from nastool_objectives.latency.objective import device_as_begun
from nastool_objectives.latency.padding import padded
from nastool_supershaper.space import create

torch = pytest.importorskip("torch")


class Small(torch.nn.Module):
    """Two products of known sizes: 4 x 8 x 16 and 4 x 16 x 8."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.second = torch.nn.Linear(16, 8)

    def forward(self, values):
        return {"output": self.second(torch.relu(self.first(values)))}


class Slow(torch.nn.Module):
    def forward(self, values):
        time.sleep(0.02)
        return values


class Broken(torch.nn.Module):
    def forward(self, values):
        raise RuntimeError("no such kernel\nand more")


def small(module=Small):
    torch.manual_seed(0)
    return Deployment(module().eval(), {"values": torch.randn(4, 8)}, Workload(4))


def executable(path, body):
    path.write_text(f"#!{sys.executable}\n{body}")
    path.chmod(0o755)
    return str(path)


class Prepared(DeviceConformance):
    def deployment(self):
        return small()


def test_every_architecture_is_compiled_however_many(monkeypatch):
    """Torch runs what is beyond its limit uncompiled, and goes on."""
    from functools import partial

    counters = pytest.importorskip("torch._dynamo.utils").counters
    # Which architectures are compiled is the same without a compiler, and takes no minutes.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    device = load_device("cpu", {"compile": True})
    for width in range(1, 13):
        module = torch.nn.Sequential(torch.nn.Linear(8, width)).eval()
        deployment = Deployment(module, {"input": torch.randn(4, 8)}, Workload(4))
        for _ in range(2):
            device.measure(deployment, 0, 1)
    assert counters["stats"]["unique_graphs"] == 12


class TestCpu(Prepared):
    def make(self):
        return load_device("cpu")

    def test_two_threads(self):
        device = load_device("cpu", {"threads": 2})
        before = torch.get_num_threads(), os.sched_getaffinity(0)
        assert len(device.measure(small(), 0, 2).seconds) == 2
        assert (torch.get_num_threads(), os.sched_getaffinity(0)) == before

    def test_durations_are_seconds(self):
        timing = self.make().measure(small(Slow), 0, 3)
        assert 0.019 < timing.seconds.min() < 2

    def test_memory_is_weights_and_live_activations(self):
        weights = 4 * sum(p.numel() for p in Small().parameters())
        memory = self.make().measure(small(), 0, 1).memory
        # At most the input of each operator, its output and what relu left: never all of them.
        assert weights + 4 * 4 * 16 <= memory <= weights + 4 * 4 * (16 + 16 + 8)

    def test_what_cannot_run_is_one_line(self):
        with pytest.raises(NastoolError, match=r"^PyTorch cannot run it: no such kernel$"):
            self.make().measure(small(Broken), 0, 1)

    @pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"dtype": "float16"}])
    def test_half_the_bits_are_a_setting_and_half_the_memory(self, settings):
        device, deployment, seen = load_device("cpu", settings), small(), []
        deployment.module.first.register_forward_hook(
            lambda _, given, output: seen.append((given[0].dtype, output.dtype))
        )
        timing = device.measure(deployment, 1, 2)
        kind = getattr(torch, settings["dtype"])
        assert set(seen) == {(kind, kind)}
        assert len(timing.seconds) == 2
        assert timing.memory * 2 == self.make().measure(deployment, 0, 1).memory
        assert {p.dtype for p in deployment.module.parameters()} == {torch.float32}
        assert deployment.inputs["values"].dtype == torch.float32
        assert device.facts["dtype"] == settings["dtype"]
        # A campaign of an earlier release is of the same device.
        assert "dtype" not in self.make().facts

    @pytest.mark.parametrize(
        ("text", "settings"),
        [
            ("cpu[1]", {}),
            ("cpu", {"threads": 0}),
            ("cpu", {"cores": 1}),
            ("cpu", {"dtype": "int8"}),
        ],
    )
    def test_wrong_settings_are_rejected(self, text, settings):
        with pytest.raises(InvalidInputError):
            load_device(text, settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestCuda(Prepared):
    def make(self):
        return load_device("cuda", {"graphs": True})


def test_what_does_not_fit_a_gpu_is_one_line(monkeypatch):
    class Large:
        def to(self, *where):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretend")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    message = r"^PyTorch cannot run it: CUDA out of memory\. Tried to allocate 2 GiB$"
    with pytest.raises(NastoolError, match=message):
        load_device("cuda").measure(Deployment(Large(), {}, Workload()), 0, 1)


class FakeEvent:
    """Each pair is two milliseconds apart."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 2.0


@pytest.fixture
def fake_gpu(monkeypatch):
    """The processor, under the name of a GPU without NVML."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretend")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)

    def make(**settings):
        device = load_device("cuda", settings)
        device.device = torch.device("cpu")
        device.__dict__["_gpu"] = Gpu("none")
        return device

    return make


def test_passes_of_a_gpu_last_beyond_the_grain_of_its_clock(fake_gpu):
    passes = []
    space = create("layers=1,widths=24,ffn=8,vocabulary=9,positions=16")
    deployment = space.deploy(np.array([0]), Workload(1, 8))
    deployment.module.register_forward_hook(lambda *_: passes.append(0))
    timing = fake_gpu(dtype="bfloat16", pad="none").measure(deployment, 2, 3)
    assert timing.seconds.tolist() == [pytest.approx(0.002)] * 3
    assert len(passes) == 2 + 1 + 3 * 5  # warm-up, a first one, five of 2 ms in 10 ms
    assert (timing.memory, timing.energy, timing.clock, timing.throttled) == (7, None, None, None)
    assert {p.dtype for p in deployment.module.parameters()} == {torch.float32}


def test_a_gpu_says_what_it_pads_to_and_older_devices_do_not(fake_gpu):
    assert fake_gpu().facts["padding"] == "8"
    assert "padding" not in fake_gpu(pad="none").facts
    with pytest.raises(InvalidInputError, match="pad must be one of none, 8, 64, auto, got '7'"):
        fake_gpu(pad="7")


def test_a_campaign_that_began_before_there_was_padding_goes_on_without(fake_gpu):
    facts = fake_gpu(pad="none").facts
    assert device_as_begun("cuda", {}, facts).pad == "none"
    assert device_as_begun("cuda", {}, fake_gpu().facts).pad == "8"


@pytest.mark.parametrize("device", ["cpu", "onnxruntime"])
def test_padded_layers_run_where_they_are_asked_for(device):
    pytest.importorskip(device if device != "cpu" else "torch")
    space = create("layers=2,widths=24/60,ffn=50,vocabulary=9,positions=16")
    deployment = space.deploy(np.array([0, 1]), Workload(1, 8))
    timing = load_device(device, {"pad": "8"}).measure(deployment, 0, 1)
    assert timing.padding == "8"
    assert load_device(device).measure(deployment, 0, 1).padding is None
    as_file = replace(deployment, padded=None)
    assert load_device(device, {"pad": "64"}).measure(as_file, 0, 1).padding is None


def test_eight_bits_are_a_setting_of_a_device():
    pytest.importorskip("onnxruntime")
    space = create("layers=2,widths=24/60,ffn=50,vocabulary=9,positions=16")
    deployment = space.deploy(np.array([0, 1]), Workload(1, 8))
    device = load_device("onnxruntime", {"int8": True})
    assert device.facts["dtype"] == "int8"
    assert "dtype" not in load_device("onnxruntime").facts
    assert len(device.measure(deployment, 0, 2).seconds) == 2


def test_the_fastest_padding_is_chosen_and_none_where_little_is_gained():
    space = create("layers=1,widths=24/60,ffn=50,vocabulary=9,positions=16")
    deployment = space.deploy(np.array([1]), Workload(1, 8))
    sizes = []

    def probe(seconds):
        def run(form):
            sizes.append(form.module.layers[0].intermediate.in_features)
            return seconds[sizes[-1]]

        return run

    # Of ten, 60 and 64 wide; 64 is a multiple of 8 and of 64, and so is its feed-forward block.
    name, form = padded(deployment, "auto", probe({60: 1.0, 64: 0.5}))
    assert (name, form.padded) == ("8", None)
    assert sizes == [60, 64, 64] * 3
    assert padded(deployment, "auto", probe({60: 1.0, 64: 0.99}))[0] == "none"
    aligned = space.deploy(np.array([0]), Workload(1, 8))
    assert padded(aligned, "none", probe({}))[1] is aligned


def test_energy_is_counted_from_step_to_step_of_its_counter():
    passes = itertools.count(1)
    spent = itertools.accumulate(itertools.repeat(3.0))
    state = {"joules": 0.0, "counter": 0.0}

    def run():
        state["joules"] = next(spent)
        if next(passes) % 7 == 0:
            state["counter"] = state["joules"]

    assert energy_of(run, lambda: state["counter"]) == pytest.approx(3.0)


def test_energy_is_not_known_where_its_counter_stands_still():
    seconds = itertools.count(0.0, 0.1)
    assert energy_of(lambda: None, lambda: 5.0, lambda: next(seconds)) is None
    assert energy_of(lambda: None, lambda: None) is None


def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(InvalidInputError, match=r"cuda\[99\]: expected the number of one of"):
        load_device("cuda[99]")


class TestOnnxRuntime(Prepared):
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")

    def make(self):
        return load_device("onnxruntime")


class TestOpenVino(Prepared):
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("onnx")
        pytest.importorskip("openvino")

    def make(self):
        return load_device("openvino")

    @pytest.mark.parametrize(
        ("dtype", "hint"), [("float32", "f32"), ("bfloat16", "bf16"), ("float16", "f16")]
    )
    def test_it_is_told_what_to_compute_in_whatever_it_would_take(self, dtype, hint, monkeypatch):
        device, compile_model, seen = load_device("openvino", {"dtype": dtype}), None, []
        compile_model = device._core.compile_model

        class Core:
            read_model = staticmethod(device._core.read_model)

            def compile_model(self, model, target, settings):
                seen.append(settings)
                return compile_model(model, target, settings)

        monkeypatch.setattr(device, "_core", Core())
        assert len(device.measure(small(), 0, 2).seconds) == 2
        assert [settings["INFERENCE_PRECISION_HINT"] for settings in seen] == [hint]
        monkeypatch.undo()
        assert device.facts["dtype"] == dtype


# Runs the model that it is given, as a board would, and prints milliseconds.
RUNS = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
import torch
module = torch.jit.load(sys.argv[1])
names = os.environ["NASTOOL_INPUTS"].split(",")
assert names == ["values"], names
for _ in range(int(os.environ["NASTOOL_WARMUP"])):
    module(torch.zeros(4, 8))
for _ in range(int(os.environ["NASTOOL_REPEATS"])):
    begin = time.perf_counter()
    module(torch.zeros(4, 8))
    print(1e3 * (time.perf_counter() - begin))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no executable there")
class TestCommand:
    def device(self, tmp_path, body, **settings):
        path = executable(tmp_path / "board", body)
        return load_device(f"command[{path}]", {"format": "torchscript", **settings})

    def test_it_is_given_a_model_that_runs(self, tmp_path):
        timing = self.device(tmp_path, RUNS).measure(small(), 1, 3)
        assert len(timing.seconds) == 3
        assert timing.seconds.max() < 60

    def test_milliseconds_become_seconds(self, tmp_path):
        timing = self.device(tmp_path, "print(12.5, 13)").measure(small(), 0, 2)
        assert timing.seconds.tolist() == [0.0125, 0.013]

    def test_it_is_told_the_workload(self, tmp_path):
        body = (
            "import os\nfor key in ('WARMUP', 'REPEATS', 'BATCH_SIZE', 'SEQUENCE_LENGTH'):\n"
            "    print(os.environ['NASTOOL_' + key])\n"
        )
        timing = self.device(tmp_path, body).measure(small(), 5, 4)
        assert timing.seconds.tolist() == [0.005, 0.004, 0.004, 0.128]

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("print('fast')", "must print the milliseconds of each pass, got 'fast'"),
            ("", "must print the milliseconds of each pass, got ''"),
            ("print(-1)", "must print the milliseconds of each pass, got '-1'"),
            ("print('nan')", "must print the milliseconds of each pass, got 'nan'"),
            ("print(1, 2, 3)", "one number for each of the 1 timed passes, got 3"),
            ("while True: print('1 ' * 999_999)", "each pass, got more than 1,048,576 bytes"),
            ("import os\nwhile True: os.write(2, b'no' * 9999)", "took longer than 2 s"),
            ("import sys\nsys.exit('no board')", "failed with exit code 1: no board"),
            ("import time\ntime.sleep(60)", "took longer than 2 s"),
        ],
    )
    def test_what_goes_wrong_is_one_line(self, tmp_path, body, message):
        with pytest.raises(NastoolError, match=message):
            self.device(tmp_path, body, timeout=2.0).measure(small(), 0, 1)

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
    @pytest.mark.parametrize("end", ["wait", "exit"])
    def test_what_it_has_started_ends_with_it(self, tmp_path, end):
        """Also where only a child lives on, which holds the standard output."""
        board, child = tmp_path / "board", tmp_path / "child"
        board.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {child}\n{end}\n")
        board.chmod(0o755)
        device = load_device(f"command[{board}]", {"format": "torchscript", "timeout": 1.0})
        with pytest.raises(NastoolError, match="took longer than 1 s"):
            device.measure(small(), 0, 1)
        status = Path("/proc", child.read_text().strip(), "stat")

        def ended():
            # A zombie has ended, and only its parent has not been told.
            return not status.exists() or status.read_text().split()[2] == "Z"

        assert any(ended() or time.sleep(0.01) for _ in range(500))

    def test_its_facts_change_with_the_executable(self, tmp_path):
        before = self.device(tmp_path, "print(1)").facts
        assert self.device(tmp_path, "print(1)").facts == before
        assert self.device(tmp_path, "print(2)").facts != before

    def test_onnx_files_are_what_it_gets_by_default(self, tmp_path):
        pytest.importorskip("onnx")
        body = "import sys\nprint(open(sys.argv[1], 'rb').read().count(b'values'))"
        device = load_device(f"command[{executable(tmp_path / 'board', body)}]")
        assert device.measure(small(), 0, 1).seconds[0] >= 1e-3


@pytest.mark.parametrize("seconds", [[], [0.0], [np.nan], [-1.0], [[1.0]], ["1"], [None], [True]])
def test_durations_that_are_none_are_rejected(seconds):
    with pytest.raises(InvalidInputError):
        Timing(np.array(seconds))


@pytest.mark.parametrize("sizes", [(0, 128), (1, 0), (True, 128), (1.5, 128)])
def test_workloads_of_nothing_are_rejected(sizes):
    with pytest.raises(InvalidInputError, match="must be an integer >= 1"):
        Workload(*sizes)


@pytest.mark.skipif(
    not Path("/proc/self/task").exists() or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)
def test_pools_that_are_there_already_are_pinned_too():
    def cores(threads):
        return {thread: os.sched_getaffinity(thread) for thread in threads}

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    matrix = torch.randn(256, 256)
    (matrix @ matrix).relu()
    torch.set_num_threads(before)
    ours = {thread.native_id for thread in threading.enumerate()} - {threading.get_native_id()}
    pool = {int(name) for name in os.listdir("/proc/self/task")} - ours
    known = cores(pool | ours)
    last = max(os.sched_getaffinity(0))
    assert len(pool) > 1
    with system.pinned(1):
        assert cores(pool) == {thread: {last} for thread in pool}
        assert cores(ours) == {thread: known[thread] for thread in ours}
    assert cores(pool | ours) == known


def test_energy_counters_may_start_over(tmp_path, monkeypatch):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("10000000\n")
    (package / "energy_uj").write_text("9000000\n")
    monkeypatch.setattr(system, "_POWERCAP", Path(tmp_path))
    counter = system.EnergyCounter()
    counter.start()
    (package / "energy_uj").write_text("1000000\n")
    assert counter.stop() == pytest.approx(2.0)


def test_no_energy_counter_is_no_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "_POWERCAP", Path(tmp_path))
    counter = system.EnergyCounter()
    counter.start()
    assert counter.stop() is None


def test_a_torchscript_file_holds_the_weights_of_its_shape_alone(tmp_path):
    space = create("layers=2,widths=12/24,ffn=48,heads=2,vocabulary=500,positions=16")
    sizes = []
    for genotype in ([0, 0], [1, 1]):
        deployment = space.deploy(np.array(genotype), Workload(1, 8))
        weights = sum(weight.numel() for weight in deployment.module.parameters())
        export_torchscript(deployment, tmp_path / "model.pt")
        sizes.append((tmp_path / "model.pt").stat().st_size - 4 * weights)
    # What is beside the weights: code and names, a few bytes a weight matrix.
    assert all(0 < size < 100_000 for size in sizes)


def test_energy_of_passes_shorter_than_a_few_steps_of_the_counter_is_not_known():
    assert system.energy_a_pass(0.0, [0.003] * 5) is None
    assert system.energy_a_pass(None, [1.0]) is None
    assert system.energy_a_pass(6.0, [0.5, 0.7]) == 3.0
