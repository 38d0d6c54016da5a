"""Nets as trained and padded on one core of this processor, in four runtimes and precisions.

PyTorch, PyTorch in bfloat16, ONNX Runtime, and that with 8 bits. Random weights; the files are
those of `nastool export`; forms take turns in random order. Told are milliseconds of processor
time, which other processes lengthen less than time on the wall: the median of all passes, and what
``pad=auto`` would choose by it.

    python benchmarks/padded_widths.py widths --rounds 10
    python benchmarks/padded_widths.py nets --rounds 10
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from nastool.devices import Deployment, Workload
from nastool.plugins import load_space
from nastool_objectives.latency import system
from nastool_objectives.latency.export import export_onnx
from nastool_objectives.latency.padding import fastest
from nastool_objectives.latency.quantisation import quantise

SHAPE_63M = "480-240-360-240-540-480-360-360-360-360-540-480"
LAYERS = 4
PADDINGS = {"none": None, "8": 8, "64": 64}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["widths", "nets"])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload = Workload(options.batch_size, options.sequence_length)
    with TemporaryDirectory() as folder, torch.inference_mode(), system.pinned(1):
        if options.part == "widths":
            space = load_space(f"supershaper:layers={LAYERS}")
            for choice, width in enumerate(space.widths):
                net = space.deploy(np.full(LAYERS, choice), workload)
                tell(f"width {width}, a layer", net, Path(folder), options.rounds, LAYERS)
        else:
            for name, net in nets(workload).items():
                tell(name, net, Path(folder), options.rounds)


def nets(workload: Workload) -> dict[str, Deployment]:
    """The 63M shape of the paper and what it stands beside."""
    space = load_space("supershaper")
    shape = space.deploy(space.parse(SHAPE_63M)[0], workload)
    distil = DistilBertModel(DistilBertConfig(vocab_size=space.vocabulary)).eval()
    bert = BertModel(BertConfig(vocab_size=space.vocabulary), add_pooling_layer=False).eval()
    return {
        "63M shape": shape,
        "DistilBERT": Deployment(distil, shape.inputs, workload),
        "BERT-base": Deployment(bert, shape.inputs, workload),
        "largest": space.deploy(space.cardinalities - 1, workload),
    }


def tell(name: str, net: Deployment, folder: Path, rounds: int, parts: int = 1) -> None:
    """Print a line for each runtime."""
    forms = prepared(net, folder)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in forms}
    rng = np.random.default_rng(0)
    for run in forms.values():
        run()
    for _ in range(rounds):
        for place in rng.permutation(len(forms)).tolist():
            key, run = list(forms.items())[place]
            begin = time.process_time()
            run()
            seconds[key].append(time.process_time() - begin)
    for runtime in dict.fromkeys(runtime for runtime, _ in forms):
        found = {
            padding: 1e3 * float(np.median(values)) / parts
            for (own, padding), values in seconds.items()
            if own == runtime
        }
        row = {"net": name, "runtime": runtime, "auto": fastest(found), "load": system.load()}
        print(json.dumps({**row, "ms": {k: round(v, 2) for k, v in found.items()}}), flush=True)


def prepared(net: Deployment, folder: Path) -> dict[tuple[str, str], Callable[[], object]]:
    """A pass of every form of a net, by runtime and padding."""
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for padding, multiple in PADDINGS.items():
        if multiple is not None and net.padded is None:
            continue
        module = net.module if multiple is None or net.padded is None else net.padded(multiple)
        own = replace(net, module=module, padded=None)
        file, small = folder / "model.onnx", folder / "int8.onnx"
        export_onnx(own, file)
        quantise(file, small)
        half = copy.deepcopy(module).to(torch.bfloat16)
        for name, made in (("PyTorch", module), ("bfloat16", half)):
            runs[name, padding] = lambda made=made: made(**net.inputs)  # type: ignore[misc]  # bound now
        runs["ONNX", padding] = session(file, net)
        runs["8 bits", padding] = session(small, net)
    return runs


def session(file: Path, net: Deployment) -> Callable[[], object]:
    """A pass of a file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    inputs = {node.name: net.inputs[node.name].numpy() for node in made.get_inputs()}
    return lambda: made.run(None, inputs)


if __name__ == "__main__":
    main()
