"""Perplexity of many subnets on one fixed batch of text.

Genotypes are walked as a tree of prefixes: two that begin alike share the states of the steps that
they share. The numbers are bit by bit those of measuring one at a time, and up to rounding those of
whole forward passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nastool_supernets.corpus.targets import Targets
from nastool_supernets.corpus.tasks import IGNORED_LABEL
from nastool_supernets.genotypes import Genotype
from nastool_supernets.runtime.precision import autocast
from nastool_supernets.supernet import Net, Stages

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SUBTREES = 64
"""At least so many subtrees of prefixes are measured in the order that was asked for."""


def perplexities(
    net: Net,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    genotypes: Sequence[Genotype],
    *,
    batch_size: int | None = None,
    dtype: str = "float32",
) -> NDArray[np.float64]:
    """Measure subnets on text: exp of the mean cross-entropy over the predicted tokens.

    Args:
        net: The supernet, or one shape alone.
        input_ids: What it reads, (n, length).
        labels: What it is to predict, -100 where nothing, (n, length).
        genotypes: In any order, repetitions allowed.
        batch_size: Blocks at a time; it bounds the memory and may change the last digits. None
            takes what suits the device: a GPU needs large products to be busy with small widths.
        dtype: ``float32``, ``bfloat16`` or ``auto`` (what is fast here).

    Returns:
        Perplexities, (n_genotypes,), in the order of the genotypes.
    """
    model = net.model
    was_training, device = model.training, model.device
    model.eval()
    batch_size = batch_size or (512 if device.type == "cuda" else 64)
    try:
        with torch.inference_mode():
            stages = net.stages()
            key = (lambda genotype: genotype) if stages is None else stages.keys
            ordered = sorted(set(genotypes), key=key)
            position = {genotype: i for i, genotype in enumerate(ordered)}
            # Added up on the device: reading a number back would stop it after every subnet.
            losses = torch.zeros(len(ordered), dtype=torch.float64, device=device)
            with autocast(device.type, dtype):
                for start in range(0, len(input_ids), batch_size):
                    stop = start + batch_size
                    ids = torch.as_tensor(input_ids[start:stop], device=device)
                    targets = Targets.of(torch.as_tensor(labels[start:stop], device=device))
                    for i, of_batch in enumerate(_walk(net, stages, ids, targets, ordered)):
                        losses[i] += of_batch.double().sum()
    finally:
        model.train(was_training)
    n_targets = int((labels != IGNORED_LABEL).sum())
    # A subnet may be untrained or broken: inf is then the honest value.
    with np.errstate(over="ignore"):
        values = np.exp(losses.cpu().numpy() / n_targets)
    return np.asarray([values[position[genotype]] for genotype in genotypes], dtype=np.float64)


def _walk(
    net: Net, stages: Stages | None, ids: Tensor, targets: Targets, ordered: Sequence[Genotype]
) -> Iterator[Tensor]:
    """Yield genotype by genotype the losses (n,) on one batch, (B, T)."""
    if stages is None:
        embedded = net.embed(ids)
        for genotype in ordered:
            yield net.predict(embedded, targets, genotype).losses
        return
    states = [stages.embed(ids)]
    previous: tuple[int, ...] = ()
    for genotype in ordered:
        keys = stages.keys(genotype)
        last = len(keys) - 1
        # The last step runs at the targets only, and no two genotypes share it.
        shared = 0
        while shared < min(last, len(states) - 1) and previous[shared] == keys[shared]:
            shared += 1
        del states[shared + 1 :]
        for index in range(shared, last):
            states.append(stages.step(index, states[-1], genotype, None))
        state = stages.step(last, states[-1], genotype, targets.positions)
        yield stages.losses(state, genotype, targets)
        previous = keys


def share_prefixes(net: Net, genotypes: Sequence[Genotype]) -> list[Genotype]:
    """Put genotypes that begin alike side by side.

    Sorting all of them would share most, but the table of a run that stops early would then hold
    narrow first layers only. So whole subtrees follow one another in the order in which their first
    genotypes were asked for: of 10,000 random shapes in 12 layers, the tree then computes 80,400
    layers instead of 120,000 (79,800 if all were sorted).

    Args:
        net: Says what they share.
        genotypes: Different ones, in the order in which they were asked for.
    """
    if not genotypes:
        return []
    stages = net.stages()
    keys = {g: g if stages is None else stages.keys(g) for g in genotypes}
    longest = max(map(len, keys.values()))
    depth = 1
    while len({key[:depth] for key in keys.values()}) < _SUBTREES and depth < longest - 1:
        depth += 1
    subtrees: dict[tuple[int, ...], list[Genotype]] = {}
    for genotype in genotypes:
        subtrees.setdefault(keys[genotype][:depth], []).append(genotype)
    return [g for subtree in subtrees.values() for g in sorted(subtree, key=lambda g: keys[g])]


def model_fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of a model's weights.

    Args:
        model: Any model.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
