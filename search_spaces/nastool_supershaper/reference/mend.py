"""Teach a BERT made of an MPNet to do without the bias that was left out.

    python mend.py START CORPUS TARGET

START is what convert_mpnet.py made, with the bias beside it; CORPUS a folder of tokenised text;
TARGET a new folder. Without the relative bias on its attention the net has lost more than half of
what its hidden states said, and its masked tokens are as good as unknown to it. With the bias, as a
mask of its attention, it is the MPNet that it came from: so it teaches itself. Layer by layer the
hidden states without are brought to those with it, while the bias of the pupil, too, shrinks to
nothing over the first half of the steps. The head learns beside it and moves nothing else.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertForMaskedLM

from nastool.errors import NastoolError
from nastool.files.reading import is_file
from nastool.files.writing import check_free, whole_folder
from nastool_supernets.corpus.corpus import fixed_masks, load_corpus
from nastool_supernets.corpus.tasks import Batches
from nastool_supernets.corpus.tokenizer import load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

BIAS = "relative_bias.safetensors"
"""File beside a converted net that holds what was left out, (buckets, heads)."""

FARTHEST = 128
"""Tokens from which on MPNet tells no distances apart."""


@click.command()
@click.argument("start", type=click.Path(path_type=Path))
@click.argument("corpus", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--steps", default=600, show_default=True, help="Optimizer steps.")
@click.option("--batch-size", default=256, show_default=True, help="Blocks a step.")
@click.option("--rate", default=8e-4, show_default=True, help="Peak learning rate.")
@click.option("--head-rate", default=1e-3, show_default=True, help="That of the head.")
@click.option("--masking-rate", default=0.25, show_default=True, help="Share of masked tokens.")
@click.option("--seed", default=0, show_default=True, help="Seed of order and masks.")
def main(
    start: Path,
    corpus: Path,
    target: Path,
    steps: int,
    batch_size: int,
    rate: float,
    head_rate: float,
    masking_rate: float,
    seed: int,
) -> None:
    """Bring a converted net's hidden states back to those of the net that it came from."""
    check_free(target)
    if not is_file(start / BIAS):
        raise NastoolError(f"expected what convert_mpnet.py makes, {start} has no {BIAS}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pupil = BertForMaskedLM.from_pretrained(start, dtype=torch.float32).eval()
    pupil.to(device=device)
    teacher = copy.deepcopy(pupil.bert).requires_grad_(False)
    text = load_corpus(corpus)
    batches = Batches(text.train, text.masking().with_rate(masking_rate), batch_size, seed)
    table = load_file(start / BIAS)["relative_attention_bias"].to(device)
    bias = attention_bias(table, text.train.shape[1])
    head = pupil.cls.predictions
    own = [*head.transform.parameters(), head.bias]
    optimizer = torch.optim.AdamW(
        [
            {"params": list(pupil.bert.parameters()), "rate": rate},
            {"params": own, "rate": head_rate},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    words = pupil.bert.embeddings.word_embeddings.weight

    def pass_through(ids: Tensor, left: float) -> tuple[list[Tensor], Tensor]:
        """Distances a layer, relative to the teacher's spread, and the pupil's last states."""
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            with torch.no_grad():
                wanted = hidden_states(teacher, ids, bias)
            found = hidden_states(pupil.bert, ids, bias * left if left > 0 else None)
        pairs = zip(found, wanted, strict=True)
        return [F.mse_loss(f.float(), w.float()) / w.float().var() for f, w in pairs], found[-1]

    def entropy(states: Tensor, labels: Tensor) -> Tensor:
        masked = labels != -100
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = F.linear(head.transform(states[masked].detach()), words.detach(), head.bias)
        return F.cross_entropy(logits.float(), labels[masked])

    warmup = max(1, steps // 10)
    for step in range(steps):
        ids, labels = (torch.as_tensor(part, device=device) for part in batches.batch(step))
        factor = min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        distances, last = pass_through(ids, 1 - 2 * step / steps)
        loss = entropy(last, labels)
        (torch.stack(distances).mean() + loss).backward()
        torch.nn.utils.clip_grad_norm_(pupil.bert.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            click.echo(f"{step}: distance {_rounded(distances)}, cross-entropy {loss.item():.3f}")
    with torch.no_grad():
        ids, labels = (
            torch.as_tensor(part, device=device)
            for part in fixed_masks(text, "held_out", min(64, len(text.held_out)), 0)
        )
        distances, last = pass_through(ids, 0.0)
        perplexity = math.exp(entropy(last, labels).item())
    click.echo(f"held out: distance {_rounded(distances)}, perplexity {perplexity:.1f}")
    with whole_folder(target) as folder:
        pupil.cpu().save_pretrained(folder)
        save_tokenizer(load_tokenizer(start), folder)
        told = {
            "steps": steps,
            "tokens": steps * batch_size * text.train.shape[1],
            "distances": [round(float(d), 4) for d in distances],
            "perplexity": round(perplexity, 2),
        }
        (folder / "mended.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def hidden_states(bert: torch.nn.Module, ids: Tensor, bias: Tensor | None) -> Sequence[Tensor]:
    """Hidden states after every layer, (B, T, D) each, with a bias on attention or none.

    Args:
        bert: A `transformers.BertModel`.
        ids: Tokens, (B, T), none of them padding.
        bias: Added to what attention weighs by, (1, heads, T, T).
    """
    if bias is not None and torch.is_autocast_enabled(ids.device.type):
        bias = bias.to(torch.get_autocast_dtype(ids.device.type))
    states: Sequence[Tensor] = bert(
        input_ids=ids, attention_mask=bias, output_hidden_states=True
    ).hidden_states
    return states[1:]


def attention_bias(table: Tensor, length: int) -> Tensor:
    """MPNet's bias on attention by distance, (1, heads, length, length).

    Buckets as in MPNet and T5: half of them for what lies ahead; within each half, the first half
    tells every distance apart, the others are spaced by logarithm up to `FARTHEST`.

    Args:
        table: Bias of every bucket, (buckets, heads).
        length: Tokens a block.
    """
    places = torch.arange(length, device=table.device)
    distance = places[None, :] - places[:, None]
    half = len(table) // 2
    near = half // 2
    apart = distance.abs()
    spaced = torch.log(apart.clamp(min=1).float() / near) / math.log(FARTHEST / near)
    far = (near + (spaced * (half - near)).long()).clamp(max=half - 1)
    bucket = torch.where(apart < near, apart, far) + half * (distance > 0)
    return table[bucket].permute(2, 0, 1)[None].contiguous()


def _rounded(distances: list[Tensor]) -> str:
    return " ".join(f"{distance.item():.2f}" for distance in distances)


if __name__ == "__main__":
    main()
