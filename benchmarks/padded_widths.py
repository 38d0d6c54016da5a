"""Layers of each width as trained and padded, on this processor: PyTorch, ONNX Runtime, 8 bits.

Random weights; a net of a few equal layers by the devices of nastool, the files those of
`nastool export`; forms take turns in random order. Prints a line for each width and runtime, with
the milliseconds a layer of every padding, and what ``pad=auto`` would choose by them.

    python benchmarks/padded_widths.py --rounds 5
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nastool.deployment import Deployment, Workload
from nastool.plugins import load_device, load_space
from nastool_objectives.latency import system
from nastool_objectives.latency.export import export_onnx, quantise

PADDINGS = {"none": None, "8": 8, "64": 64}
WORTH = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    space = load_space(f"supershaper:layers={options.layers}")
    workload = Workload(options.batch_size, options.sequence_length)
    devices = {name: load_device(name, {"threads": 1}) for name in ("cpu", "onnxruntime")}
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        for choice, width in enumerate(space.widths):
            net = space.deploy(np.full(options.layers, choice), workload)
            forms = prepared(net, Path(folder))
            seconds: dict[tuple[str, str], list[float]] = {key: [] for key in forms}
            for _ in range(options.rounds):
                for runtime, padding in rng.permutation(list(forms)).tolist():
                    device = devices["cpu" if runtime == "PyTorch" else "onnxruntime"]
                    timing = device.measure(forms[runtime, padding], 1, options.repeats)
                    seconds[runtime, padding].append(float(np.median(timing.seconds)))
            for runtime in dict.fromkeys(runtime for runtime, _ in forms):
                found = {
                    padding: 1e3 * float(np.median(seconds[runtime, padding])) / options.layers
                    for padding in PADDINGS
                }
                best = min(
                    found,
                    key=lambda name: found[name] + WORTH * found["none"] * (name != "none"),
                )
                row = {"width": width, "runtime": runtime, "ms_a_layer": found, "auto": best}
                print(json.dumps({**row, "load": system.load()}), flush=True)


def prepared(net: Deployment, folder: Path) -> dict[tuple[str, str], Deployment]:
    """Every form of a net, by runtime and padding."""
    forms = {}
    for padding, multiple in PADDINGS.items():
        module = net.module if multiple is None or net.padded is None else net.padded(multiple)
        own = replace(net, module=module, padded=None)
        file, small = folder / f"{padding}.onnx", folder / f"{padding}_int8.onnx"
        export_onnx(own, file)
        quantise(file, small)
        forms["PyTorch", padding] = own
        forms["ONNX", padding] = replace(own, file=file)
        forms["8 bits", padding] = replace(own, file=small)
    return forms


if __name__ == "__main__":
    main()
