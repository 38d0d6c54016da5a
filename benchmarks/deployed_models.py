"""The merged subnet of the published 63M shape beside BERT-base and DistilBERT, on this processor.

Random weights; encoders without head; interleaved rounds in random order, median over the rounds.

    python benchmarks/deployed_models.py --rounds 5 --runtime eager --runtime onnxruntime
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from nastool.devices import Deployment, Workload
from nastool.plugins import load_device, load_space
from nastool_objectives.latency import system

SHAPE_63M = "480-240-360-240-540-480-360-360-360-360-540-480"
RUNTIMES = {
    "eager": ("cpu", {}),
    "compiled": ("cpu", {"compile": True}),
    "onnxruntime": ("onnxruntime", {}),
    "openvino": ("openvino", {}),
}


def deployments(workload: Workload) -> dict[str, Deployment]:
    """The models, each with inputs."""
    space = load_space("supershaper")
    merged = space.deploy(space.parse(SHAPE_63M)[0], workload)
    largest = space.deploy(space.cardinalities - 1, workload)
    bert = BertModel(BertConfig(vocab_size=space.vocabulary), add_pooling_layer=False)
    distil = DistilBertModel(DistilBertConfig(vocab_size=space.vocabulary))
    models = {"BERT-base": bert, "DistilBERT": distil}
    return {
        "merged 63M shape": merged,
        "merged largest shape": largest,
        **{n: Deployment(m.eval(), merged.inputs, workload) for n, m in models.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, dest="runtimes")
    options = parser.parse_args()
    built = deployments(Workload(options.batch_size, options.sequence_length))
    rng = np.random.default_rng(0)
    for runtime in options.runtimes or ["eager", "onnxruntime"]:
        text, settings = RUNTIMES[runtime]
        device = load_device(text, {**settings, "threads": options.threads})
        medians: dict[str, list[float]] = {name: [] for name in built}
        for _ in range(options.rounds):
            for name in rng.permutation(list(built)).tolist():
                timing = device.measure(built[name], 2, options.repeats)
                medians[name].append(float(np.median(timing.seconds)))
        for name, values in medians.items():
            weights = sum(p.numel() for p in built[name].module.parameters())
            row = {
                "runtime": runtime,
                "model": name,
                "parameters": weights,
                "median_ms": round(1e3 * float(np.median(values)), 2),
                "fastest_round_ms": round(1e3 * min(values), 2),
                "slowest_round_ms": round(1e3 * max(values), 2),
                "load": system.load(),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
