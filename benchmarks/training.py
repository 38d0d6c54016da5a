"""Speed of super pre-training: our sandwich step beside the straightforward one.

    python benchmarks/training.py [--device cuda] [--config base] [--batch-size 128] [--compile]
        [--cuda-graphs] [--lessons]

Three contestants make whole optimizer steps on the same masked batches of random tokens:

- sandwich: our step of the largest, the smallest and one random subnet; with --lessons two random
  ones, which all learn from the largest's predictions and hidden states;
- largest: our step of the largest net alone, which is plain masked language modelling;
- straightforward: transformers' BERT whose matrices are sliced, with both bottlenecks of a layer as
  they stand in the paper, one forward and one backward pass a subnet, the head over the whole
  vocabulary at every token, torch's plain AdamW, no compilation.

Rounds are interleaved and every round draws new random subnets, the same for all; medians are
shown. Before timing, the straightforward net is checked to compute the loss that ours does. On a
CPU the clock is the process's own CPU time over its threads, so that other processes do not count.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from nastool_supernets.corpus.masking import Masking
from nastool_supernets.corpus.tasks import SHAPE_STREAM, random_generator
from nastool_supernets.family import net_of
from nastool_supernets.runtime.precision import autocast, resolve_dtype
from nastool_supernets.training.config import PretrainingConfig
from nastool_supernets.training.gradients import accumulate_gradients
from nastool_supernets.training.optimizer import build_optimizer, update
from nastool_supernets.training.rules import Distillation, LargestOnly, Sandwich, Subnet
from nastool_supernets.training.utilisation import measure_peak_flops, training_flops
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.starts import read_sizes
from nastool_supershaper.supernet_config import SuperShaperConfig

MASKING = Masking(mask_id=4, special_ids=(0, 1, 2, 3, 4), vocab_size=28_996)

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


class SlicedLinear(nn.Linear):
    """Leading rows and columns of a matrix."""

    rows, columns = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight[: self.rows, : self.columns], self.bias[: self.rows])


class SlicedLayerNorm(nn.LayerNorm):
    """Leading entries of a normalisation."""

    rows = 0

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(
            x, (self.rows,), self.weight[: self.rows], self.bias[: self.rows], self.eps
        )


class SlicedBert(nn.Module):
    """transformers' BERT, each layer between two bottlenecks and cut to a width."""

    def __init__(self, config: SuperShaperConfig) -> None:
        super().__init__()
        self.size, self.inner = config.hidden_size, config.intermediate_size
        self.widths = tuple(config.widths)
        self.bert = BertForMaskedLM(
            BertConfig(
                vocab_size=config.vocab_size,
                hidden_size=self.size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                intermediate_size=self.inner,
                max_position_embeddings=config.max_position_embeddings,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        layers = self.bert.bert.encoder.layer
        self.entering = nn.ModuleList(SlicedLinear(self.size, self.size) for _ in layers)
        self.leaving = nn.ModuleList(SlicedLinear(self.size, self.size) for _ in layers)
        for module in layers.modules():
            if isinstance(module, nn.Linear):
                module.__class__ = SlicedLinear
            elif isinstance(module, nn.LayerNorm):
                module.__class__ = SlicedLayerNorm
        for layer, enter, leave in zip(layers, self.entering, self.leaving, strict=True):
            layer.register_forward_pre_hook(_before(enter))
            layer.register_forward_hook(_after(leave))

    def set_shape(self, shape: Sequence[int]) -> None:
        layers = zip(self.bert.bert.encoder.layer, self.entering, self.leaving, shape, strict=True)
        for layer, enter, leave, width in layers:
            for module in layer.modules():
                if isinstance(module, SlicedLinear | SlicedLayerNorm):
                    module.rows = module.columns = width
            layer.intermediate.dense.rows = layer.output.dense.columns = self.inner
            enter.rows, enter.columns = width, self.size
            leave.rows, leave.columns = self.size, width
            attention = layer.attention.self
            attention.attention_head_size = width // attention.num_attention_heads
            attention.scaling = attention.attention_head_size**-0.5

    def copy_from(self, ours: SuperShaperForMaskedLM) -> None:
        """Take over the weights of our supernet."""
        embeddings, old = self.bert.bert.embeddings, ours.supershaper.embeddings
        predictions = self.bert.cls.predictions
        pairs = [
            (embeddings.word_embeddings, old.words),
            (embeddings.position_embeddings, old.positions),
            (embeddings.token_type_embeddings, old.segments),
            (embeddings.LayerNorm, old.norm),
            (predictions.transform.dense, ours.head.transform),
            (predictions.transform.LayerNorm, ours.head.norm),
        ]
        for new, enter, leave, layer in zip(
            self.bert.bert.encoder.layer,
            self.entering,
            self.leaving,
            ours.supershaper.layers,
            strict=True,
        ):
            attention = new.attention
            pairs += [
                (enter, layer.input_bottleneck),
                (attention.self.query, layer.query),
                (attention.self.key, layer.key),
                (attention.self.value, layer.value),
                (attention.output.dense, layer.attention_output),
                (attention.output.LayerNorm, layer.attention_norm),
                (new.intermediate.dense, layer.intermediate),
                (new.output.dense, layer.output),
                (new.output.LayerNorm, layer.output_norm),
                (leave, layer.output_bottleneck),
            ]
        for target, source in pairs:
            target.load_state_dict(source.state_dict())
        with torch.no_grad():
            predictions.bias.copy_(ours.head.bias)


def _before(bottleneck: nn.Module) -> Callable[..., tuple[Any, ...]]:
    return lambda _layer, args: (bottleneck(args[0]), *args[1:])


def _after(bottleneck: nn.Module) -> Callable[..., Tensor]:
    return lambda _layer, _args, out: bottleneck(out)


def straightforward_step(
    model: SlicedBert,
    optimizer: torch.optim.Optimizer,
    ids: Tensor,
    labels: Tensor,
    subnets: list[Subnet],
    dtype: str,
) -> list[float]:
    optimizer.zero_grad()
    losses = []
    for subnet in subnets:
        model.set_shape([model.widths[choice] for choice in subnet.genotype])
        with autocast(ids.device.type, dtype):
            output = model.bert(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels)
        output.loss.backward()
        losses.append(output.loss.item())
    optimizer.step()
    return losses


class Clock:
    """Seconds of a device: of the wall on a GPU, of this process's CPU time a thread on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> float:
        if self._device.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        torch.cuda.synchronize(self._device)
        return time.perf_counter()


@click.command()
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--config", default="base", show_default=True, help="tiny, small, base or JSON file.")
@click.option("--batch-size", type=int, help="Blocks a step. Default: 4 on a CPU, else 256.")
@click.option("--length", default=128, show_default=True, help="Tokens a block.")
@click.option("--rounds", default=5, show_default=True, help="Timed steps of each.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32 or bfloat16.")
@click.option("--compile/--no-compile", "compiled", help="Compile our layers.")
@click.option("--cuda-graphs/--no-cuda-graphs", help="Run our layers by CUDA graphs.")
@click.option(
    "--lessons/--no-lessons", help="Two random subnets; the largest teaches in our steps."
)
@click.option("--threads", type=int, help="Threads on a CPU. Default: torch's.")
@click.option("--peak-flops", type=float, help="Of the device, FLOPs/s. Default: measured.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the numbers.")
def main(
    device: str,
    config: str,
    batch_size: int | None,
    length: int,
    rounds: int,
    dtype: str,
    compiled: bool,
    cuda_graphs: bool,
    lessons: bool,
    threads: int | None,
    peak_flops: float | None,
    output: Path | None,
) -> None:
    """Time sandwich steps: ours, plain, and straightforward."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    where = torch.device(device)
    dtype = resolve_dtype(where.type, dtype)
    batch_size = batch_size or (4 if where.type == "cpu" else 256)
    sizes = SuperShaperConfig(**{"vocab_size": MASKING.vocab_size, **read_sizes(config)})
    masking = replace(MASKING, vocab_size=sizes.vocab_size)
    widths, layers = len(sizes.widths), sizes.num_hidden_layers
    ours = SuperShaperForMaskedLM(sizes).to(where).train()
    theirs = SlicedBert(sizes).to(where).train()
    theirs.copy_from(ours)
    settings = PretrainingConfig(
        dtype=dtype,
        compile=compiled,
        cuda_graphs=cuda_graphs,
        rule=Sandwich(2 if lessons else 1),
        distillation=Distillation() if lessons else None,
        distil_hidden=30.0 if lessons else 0.0,
    )
    net = net_of(ours)
    our_optimizer = build_optimizer(net, settings)
    their_optimizer = torch.optim.AdamW(
        theirs.parameters(), lr=settings.learning_rate, eps=settings.eps, weight_decay=0.01
    )
    if compiled:
        ours.compile_layers()

    if cuda_graphs:
        net.capture(batch_size, length, dtype)

    def batch(step: int) -> Batch:
        generator = random_generator(0, 0, step)
        blocks = generator.integers(5, sizes.vocab_size, (batch_size, length))
        return masking.apply(blocks.astype(np.uint32), generator)

    def our_step(data: Batch, subnets: list[Subnet]) -> list[float]:
        our_optimizer.zero_grad(set_to_none=not cuda_graphs)
        losses = accumulate_gradients(
            net,
            *data,
            subnets,
            dtype=dtype,
            distillation=settings.distillation,
            distil_hidden=settings.distil_hidden,
            compiled=compiled,
        )
        return update(our_optimizer, None, losses)

    def their_step(data: Batch, subnets: list[Subnet]) -> list[float]:
        ids, labels = (torch.from_numpy(x).to(where) for x in data)
        return straightforward_step(theirs, their_optimizer, ids, labels, subnets, dtype)

    largest = LargestOnly().subnets(net.space, random_generator(0, SHAPE_STREAM, 0))
    contestants: dict[str, Callable[[Batch, list[Subnet]], list[float]]] = {
        "sandwich": our_step,
        "largest": lambda data, _: our_step(data, largest),
        "straightforward": their_step,
    }

    # A check, and the warm-up: on a GPU or with --compile every width, so that no kernel is left to
    # load or to compile.
    checked = range(widths) if compiled or where.type == "cuda" else (0, widths - 1)
    uniform = [Subnet("random", (width,) * layers) for width in checked]
    expected, found = our_step(batch(0), uniform), their_step(batch(0), uniform)
    if not np.allclose(expected, found, rtol=1e-3 if dtype == "bfloat16" else 1e-4):
        raise SystemExit(f"the contestants disagree: losses {expected} and {found}")
    clock, times = Clock(where), {name: [] for name in contestants}
    flops: dict[str, list[float]] = {name: [] for name in contestants}
    for step in range(1, rounds + 1):
        subnets = settings.rule.subnets(net.space, random_generator(0, SHAPE_STREAM, step))
        data = batch(step)  # made ahead of the step, as in training
        n_masked = int((data[1] != -100).sum())
        for name, make in contestants.items():
            began = clock.now()
            make(data, subnets)
            times[name].append(clock.now() - began)
            trained = [s.genotype for s in (largest if name == "largest" else subnets)]
            flops[name].append(training_flops(net, trained, batch_size, length, n_masked))
    peak = peak_flops or measure_peak_flops(where, dtype, clock.now)
    facts = {"device": device, "config": config, **asdict(settings)}
    named = ("device", "config", "dtype", "compile", "cuda_graphs", "distil_hidden")
    facts = {name: facts[name] for name in named}
    _show(times, flops, peak, batch_size * length, output, facts)


def _show(
    times: dict[str, list[float]],
    flops: dict[str, list[float]],
    peak: float,
    tokens: int,
    output: Path | None,
    facts: dict[str, Any],
) -> None:
    title = ", ".join(f"{name} {value}" for name, value in facts.items())
    table = Table(title=f"{title}, {tokens} tokens a step, peak {peak:.3g}")
    for column in ("step", "seconds", "tokens/s", "utilisation", "against straightforward"):
        table.add_column(column, justify="left" if column == "step" else "right")
    numbers: dict[str, dict[str, float]] = {}
    for name, seconds in times.items():
        median = statistics.median(seconds)
        used = statistics.median(f / s for f, s in zip(flops[name], seconds, strict=True)) / peak
        # Pair by pair: a round's random subnet is the same for all.
        ratio = statistics.median(
            theirs / own for theirs, own in zip(times["straightforward"], seconds, strict=True)
        )
        numbers[name] = {
            "seconds": median,
            "tokens_per_second": tokens / median,
            "utilisation": used,
            "speedup": ratio,
        }
        table.add_row(
            name, f"{median:.3f}", f"{tokens / median:,.0f}", f"{used:.1%}", f"{ratio:.2f}"
        )
    Console().print(table)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(
            json.dumps({**facts, "tokens": tokens, "steps": numbers}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
