"""Layers and nets as trained and padded: what sizes that fast kernels take are worth on a device.

Random weights. Prints a line for each thing measured and writes all of them as JSON, anew after
each: milliseconds a layer by width; latency of whole shapes and how parameters rank them; the 63M
shape beside BERT-base and DistilBERT. What fails is noted and left out; what `--budget` has no time
for, too.

    python benchmarks/deployed_layers.py --device cuda --dtype bf16 --batch-size 128 --length 128
    python benchmarks/deployed_layers.py --shapes 5 --rounds 2 --length 32
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nastool.errors import first_line

START = time.perf_counter()
ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "objectives/nastool_objectives/latency/shipped/h100/table.csv"
sys.path.append(str(ROOT / "search_spaces"))  # where nastool is not installed
from nastool_supershaper.carried.shaped_bert import ShapedBertConfig, ShapedBertModel  # noqa: E402

WIDTHS = (120, 240, 360, 480, 540, 600, 768)
SHAPE_63M = (480, 240, 360, 240, 540, 480, 360, 360, 360, 360, 540, 480)
VARIANTS = {
    "none": None,
    "heads 8": (8, 1),
    "8": (8, 8),
    "heads 16": (16, 8),
    "64": (8, 64),
    "heads 16, 64": (16, 64),
}
"""Multiples that heads and widths are padded to."""

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
GRAIN = 0.01
"""Seconds that one reading of the clock lasts at least, on a GPU."""

Run = Callable[[], object]


class Report:
    """What has been measured so far, on the terminal and in a file."""

    def __init__(self, path: Path | None, budget: float) -> None:
        self.path = path
        self.budget = budget
        self.content: dict[str, Any] = {"facts": {}, "rows": [], "summary": {}, "notes": []}

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() - START > self.budget

    def add(self, section: str, **row: Any) -> None:
        self.content["rows"].append({"section": section, **row})
        self._tell({"section": section, **row})

    def note(self, text: str) -> None:
        self.content["notes"].append(text)
        self._tell({"note": text})

    def rows(self, section: str, **values: Any) -> list[dict[str, Any]]:
        return [
            row
            for row in self.content["rows"]
            if row["section"] == section and all(row.get(k) == v for k, v in values.items())
        ]

    def write(self) -> None:
        if self.path is not None:
            self.path.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")

    def _tell(self, row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        self.write()


class Clock:
    """Times passes: on a GPU by its events, over as many passes as outlast the clock's grain."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.cuda = device.type == "cuda"
        self.rounds = rounds

    def seconds(self, run: Run) -> list[float]:
        """Seconds of a pass, from each reading of the clock."""
        run()
        first = self._reading(run, 1)
        passes = max(1, min(100, round(GRAIN / first))) if self.cuda else 1
        return [self._reading(run, passes) for _ in range(self.rounds)]

    def _reading(self, run: Run, passes: int) -> float:
        if not self.cuda:
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(passes):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / passes


def ways(run: Run, device: torch.device) -> Iterator[tuple[str, Callable[[], Run]]]:
    """A pass as it is called, and replayed without the host's overhead."""
    yield "eager", lambda: run
    if device.type == "cuda":
        yield "graph", lambda: captured(run)


def captured(run: Run) -> Run:
    """A CUDA graph of a pass; libraries set themselves up in earlier ones."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def timed(report: Report, clock: Clock, section: str, make: Callable[[], Run], **row: Any) -> None:
    """Add the median time of a pass, or the reason why there is none."""
    try:
        seconds = clock.seconds(make())
    # One variant that a device cannot run costs no other.
    except Exception as error:  # noqa: BLE001
        report.note(f"{section} {row}: {first_line(error)}")
        return
    each = [round(1e3 * s, 5) for s in seconds]
    report.add(section, **row, ms=float(np.median(each)), readings_ms=each)


class Setting:
    """What everything here is measured under."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        self.dtype = DTYPES[options.dtype]
        self.batch, self.length = options.batch_size, options.length
        self.sizes = {
            "vocab_size": options.vocabulary,
            "hidden_size": options.hidden,
            "intermediate_size": options.ffn,
        }
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.length)
        self.ids = torch.randint(options.vocabulary, shape, generator=generator).to(self.device)
        self.mask = torch.ones_like(self.ids)

    def model(self, shape: Sequence[int], **sizes: Any) -> ShapedBertModel:
        config = ShapedBertConfig(shape=shape, **{**self.sizes, **sizes})
        with self.device:
            return ShapedBertModel(config).to(self.dtype).eval()

    def baseline(self, name: str) -> nn.Module:
        from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

        vocabulary = self.sizes["vocab_size"]
        with self.device:
            if name == "bert-base":
                net = BertModel(BertConfig(vocab_size=vocabulary), add_pooling_layer=False)
            else:
                net = DistilBertModel(DistilBertConfig(vocab_size=vocabulary))
            return net.to(self.dtype).eval()

    def run(self, model: nn.Module, *, masked: bool = True) -> Run:
        mask = self.mask if masked else None
        return lambda: model(input_ids=self.ids, attention_mask=mask)


def variant(model: ShapedBertModel, name: str) -> ShapedBertModel:
    sizes = VARIANTS[name]
    return model if sizes is None else model.padded(*sizes)


def exactness(setting: Setting, report: Report) -> None:
    """How far the outputs of padded forms lie from those of the net as trained."""
    model = setting.model(SHAPE_63M)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    for dtype in (torch.float32, setting.dtype):
        net = model.to(dtype)
        wanted = net(setting.ids[:4]).last_hidden_state.float()
        for name in VARIANTS:
            found = variant(net, name)(setting.ids[:4]).last_hidden_state.float()
            difference = float((wanted - found).abs().max() / wanted.std())
            report.add("exact", dtype=str(dtype), padding=name, of_spread=difference)


def layers(setting: Setting, report: Report, clock: Clock, depth: int = 4) -> None:
    """Milliseconds a layer by width, in stacks of equal layers."""
    for width in WIDTHS:
        net = setting.model((width,) * depth, hidden_size=width, vocab_size=8)
        for name in VARIANTS:
            if report.late:
                return report.note(f"no time for layers of {width}, {name}")
            padded = variant(net, name)
            run = stack(
                padded,
                setting,
                torch.zeros_like(setting.mask[:, None, None, :], dtype=setting.dtype),
            )
            bare = stack(padded, setting, None)
            row = {"width": width, "padding": name, "layers": depth}
            layer = padded.layers[1]
            row["products"] = [tuple(linear.weight.shape) for linear in linears(layer)]
            for way, make in ways(run, setting.device):
                timed(report, clock, "layer", make, way=way, mask=True, **row)
            way, make = list(ways(bare, setting.device))[-1]
            timed(report, clock, "layer", make, way=way, mask=False, **row)
    return None


def linears(layer: nn.Module) -> list[nn.Linear]:
    return [module for module in layer.modules() if isinstance(module, nn.Linear)]


def stack(net: ShapedBertModel, setting: Setting, mask: Tensor | None) -> Run:
    """A pass through the layers alone, after the first, which comes from the embeddings."""
    rest = list(net.layers)[1:]
    width = rest[0].query.in_features
    hidden = torch.randn(setting.batch, setting.length, width).to(setting.device, setting.dtype)

    def run() -> Tensor:
        x = hidden
        # As many as the net has, so that times divide by its depth.
        for layer in (*rest, rest[0]):
            x = layer(x, mask)
        return x

    return run


def shapes(setting: Setting, report: Report, clock: Clock, options: argparse.Namespace) -> None:
    """Latency of whole shapes, as trained and padded; a second turn while there is time."""
    chosen = known_shapes(options)
    for turn in range(options.turns):
        for row in np.random.default_rng(turn).permutation(len(chosen)).tolist():
            if report.late:
                return report.note(f"no time for all shapes of turn {turn + 1}")
            net = setting.model(chosen[row])
            params = sum(p.numel() for p in net.parameters())
            for place, name in enumerate(options.paddings):
                padded = variant(net, name)
                found = list(ways(setting.run(padded), setting.device))
                # The host's overhead is that of the others.
                for way, make in found[-1:] if place > 1 else found:
                    where = {"shape": "-".join(map(str, chosen[row])), "turn": turn}
                    memory = sum(p.numel() * p.element_size() for p in padded.parameters())
                    where |= {"parameters": params, "weights_B": memory}
                    timed(report, clock, "shape", make, padding=name, way=way, **where)
    return None


def known_shapes(options: argparse.Namespace) -> list[tuple[int, ...]]:
    """The shapes of a table, or the ends of the space, the 63M shape and uniform draws."""
    if options.table is not None and options.table.is_file():
        with options.table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))[: options.shapes]
        return [tuple(int(row[f"layer_{i}"]) for i in range(1, 13)) for row in rows]
    rng = np.random.default_rng(0)
    drawn = rng.choice(WIDTHS, (max(0, options.shapes - len(WIDTHS) - 1), 12)).tolist()
    return [SHAPE_63M, *((width,) * 12 for width in WIDTHS), *map(tuple, drawn)][: options.shapes]


def nets(setting: Setting, report: Report, clock: Clock, options: argparse.Namespace) -> None:
    """The 63M shape and the ends of the space beside BERT-base and DistilBERT."""
    built: dict[str, nn.Module] = {}
    for label, shape in (("63M", SHAPE_63M), ("smallest", (120,) * 12), ("largest", (768,) * 12)):
        net = setting.model(shape)
        built |= {f"{label}, {name}": variant(net, name) for name in options.paddings}
    for name in ("distilbert", "bert-base"):
        built[name] = setting.baseline(name)
    for label, net in built.items():
        for masked in (True, False):
            for way, make in ways(setting.run(net, masked=masked), setting.device):
                if report.late:
                    return report.note(f"no time for {label}")
                timed(report, clock, "net", make, net=label, mask=masked, way=way)
    return None


def compiled(setting: Setting, report: Report, clock: Clock, options: argparse.Namespace) -> None:
    """The nets with each of their layers compiled: layers of equal sizes are compiled once."""
    torch._dynamo.config.recompile_limit = 1000  # noqa: SLF001 - where torch keeps it
    order = ((120,) * 12, (768,) * 12, (540,) * 12, SHAPE_63M)
    for shape, label in zip(order, ("smallest", "largest", "540", "63M"), strict=True):
        net = setting.model(shape)
        for name in (*options.paddings[1:2], *options.paddings[:1]):
            if report.late:
                return report.note(f"no time for {label}, {name}, compiled")
            padded = variant(net, name)
            for layer in padded.layers:
                layer.compile(dynamic=False)
            begin = time.perf_counter()
            for way, make in ways(setting.run(padded), setting.device):
                timed(report, clock, "compiled", make, net=label, padding=name, way=way)
            spent = time.perf_counter() - begin
            report.add("compiling", net=label, padding=name, seconds=round(spent, 2))
            for layer in padded.layers:
                layer._compiled_call_impl = None  # noqa: SLF001 - no other way back
    return None


def summarise(report: Report) -> None:
    """Correlations and ratios of what was measured."""
    summary = report.content["summary"]
    for way in ("eager", "graph"):
        for name in VARIANTS:
            rows = report.rows("shape", way=way, padding=name)
            medians: dict[str, tuple[int, float]] = {}
            for shape in {row["shape"] for row in rows}:
                own = [row for row in rows if row["shape"] == shape]
                found = float(np.median([row["ms"] for row in own]))
                medians[shape] = (own[0]["parameters"], found)
            if len(medians) < 3:
                continue
            params, found = (np.array(x) for x in zip(*medians.values(), strict=True))
            ends = [medians.get("-".join([str(w)] * 12)) for w in (WIDTHS[0], WIDTHS[-1])]
            summary[f"shapes, {way}, {name}"] = {
                "n": len(medians),
                "spearman_of_parameters": round(spearman(params, found), 4),
                "median_ms": round(float(np.median(found)), 4),
                "largest_over_smallest": (
                    round(ends[1][1] / ends[0][1], 3) if ends[0] and ends[1] else None
                ),
            }
    print(json.dumps(summary, indent=1))
    report.write()


def spearman(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Rank correlation, of values without ties to speak of."""
    ranks = [np.argsort(np.argsort(x, kind="stable")) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def facts(setting: Setting) -> dict[str, Any]:
    """What the numbers depend on."""
    content: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(setting.device),
        "dtype": str(setting.dtype),
        "batch_size": setting.batch,
        "length": setting.length,
        "threads": torch.get_num_threads(),
    }
    if setting.device.type == "cuda":
        content["gpu"] = torch.cuda.get_device_name(setting.device)
        asked = "clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active"
        try:
            command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            content[asked] = said.stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            content[asked] = str(error)
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--ffn", type=int, default=3072)
    parser.add_argument("--vocabulary", type=int, default=28996)
    parser.add_argument("--rounds", type=int, default=3, help="Readings of the clock.")
    parser.add_argument("--turns", type=int, default=2, help="Visits of each shape.")
    parser.add_argument("--shapes", type=int, default=65)
    parser.add_argument("--table", type=Path, default=TABLE, help="CSV of the shapes.")
    parser.add_argument("--padding", action="append", choices=VARIANTS, dest="paddings")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--budget", type=float, help="Seconds after which nothing is begun.")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.paddings = options.paddings or ["none", "8", "64"]
    budget = options.budget or (52.0 if options.device.startswith("cuda") else 3600.0)
    report = Report(options.output, budget)
    if options.device == "cpu":
        torch.set_num_threads(1)
    with torch.inference_mode():
        setting = Setting(options)
        report.content["facts"] = facts(setting)
        print(json.dumps(report.content["facts"]), flush=True)
        clock = Clock(setting.device, options.rounds)
        parts: list[Callable[[], object]] = [
            lambda: exactness(setting, report),
            lambda: layers(setting, report, clock),
            lambda: nets(setting, report, clock, options),
            lambda: shapes(setting, report, clock, options),
        ]
        for part in parts:
            guarded(part, report)
        report.content["facts after"] = facts(setting)
        if options.compile:
            report.budget += 40.0
            guarded(lambda: compiled(setting, report, clock, options), report)
    summarise(report)
    print(json.dumps({"seconds": round(time.perf_counter() - START, 1)}))


def guarded(part: Callable[[], object], report: Report) -> None:
    """Run a part; what stops it stops no other."""
    try:
        part()
    except Exception as error:  # noqa: BLE001
        report.note(f"stopped: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
