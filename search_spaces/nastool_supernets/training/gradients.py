"""Gradients of a step: every subnet's loss on the batch, added up (paper, section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nastool_supernets.runtime.parallel import ALONE, Workers
from nastool_supernets.runtime.precision import autocast
from nastool_supernets.training.rules import Distillation, Subnet

if TYPE_CHECKING:
    from torch import Tensor

    from nastool_supernets.supernet import Net
    from nastool_supernets.training.teaching import Teacher


def accumulate_gradients(
    net: Net,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    subnets: list[Subnet],
    micro_batch_size: int | None = None,
    dtype: str = "float32",
    *,
    distillation: Distillation | None = None,
    teacher: Teacher | None = None,
    distil_hidden: float = 0.0,
    compiled: bool = False,
    workers: Workers = ALONE,
) -> Tensor:
    """Add the gradients of every subnet's mean loss on one batch to the weights' gradients.

    Args:
        net: The supernet, or one shape alone.
        input_ids: What it reads, (n, length).
        labels: What it is to predict, -100 where nothing, (n, length).
        subnets: Subnets whose losses are summed.
        micro_batch_size: Blocks a forward pass; None for all at once.
        dtype: ``float32`` or ``bfloat16``.
        distillation: How the teacher, or else the first subnet, teaches the others; None for not
            at all.
        teacher: A model that teaches all of them.
        distil_hidden: Weight of how far hidden states are from those of who teaches.
        compiled: Whether to compile how far students are from who teaches.
        workers: The processes that share the batch; afterwards each holds the gradients of all of
            it, whatever was in the gradients before (they have to start from none).

    Returns:
        Mean cross-entropy of every subnet over the predicted tokens of the whole batch, (n,); on
        the device, which may not have computed them yet.
    """
    import torch

    from nastool_supernets.corpus.targets import Targets, sent
    from nastool_supernets.training.teaching import Lesson, divergence, mean_distance

    model, device = net.model, net.model.device
    # Known to every process without a message: each makes the whole batch alike.
    n_targets = max(1, int((labels != -100).sum()))
    mine = workers.share(len(input_ids))
    size = micro_batch_size or len(input_ids)
    losses = torch.zeros(len(subnets), dtype=torch.float64, device=device)
    for start in range(mine.start, mine.stop, size):
        part = slice(start, min(start + size, mine.stop))
        ids = sent(torch.as_tensor(input_ids[part]), device)
        wanted = torch.as_tensor(labels[part])
        weight = int((labels[part] != -100).sum()) / n_targets
        # On the host: a device would first have to end all that it was given before.
        targets = Targets.of(wanted).to(device)
        lesson = None if teacher is None else teacher.lesson(ids, sent(wanted, device), dtype)
        # All subnets read the same embeddings: their gradients meet there and go on once. A pass
        # of its own through the embeddings, as large as the vocabulary, costs each of them dear.
        embedded = net.embed(ids)
        shared = embedded.detach().requires_grad_()
        for i, subnet in enumerate(subnets):
            with autocast(device.type, dtype):
                found = net.predict(shared, targets, subnet.genotype, states=distil_hidden > 0)
            loss = found.losses.sum() / max(len(found.losses), 1)
            losses[i] += loss.detach() * weight
            if lesson is not None and distillation is not None:
                told = divergence(
                    found.logits, lesson.logits, distillation.temperature, compiled=compiled
                )
                loss = (1 - distillation.mix) * loss + distillation.mix * told
            loss = loss * weight
            if lesson is not None and distil_hidden > 0:
                if teacher is None:
                    distance = mean_distance(found.states, lesson.states, compiled=compiled)
                else:
                    distance = teacher.distance(found.states, lesson)
                # Of all tokens, not of the predicted ones alone.
                loss = loss + distil_hidden * len(ids) / len(input_ids) * distance
            elif lesson is None and (distillation is not None or distil_hidden > 0):
                lesson = Lesson(found.logits.detach(), [state.detach() for state in found.states])
            loss.backward()
            # The graph and the logits go before the next subnet needs the memory.
            del found, loss
        embedded.backward(shared.grad)
    trained = [*model.parameters(), *(teacher.maps.parameters() if teacher is not None else ())]
    workers.add_up([losses, *(p.grad for p in trained if p.grad is not None)])
    return losses
