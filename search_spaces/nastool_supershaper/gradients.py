"""Gradients of a step: every subnet's loss on the batch, added up (paper, section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nastool_supershaper.parallel import ALONE, Workers
from nastool_supershaper.precision import autocast
from nastool_supershaper.training_rules import Distillation, Subnet

if TYPE_CHECKING:
    from torch import Tensor

    from nastool_supershaper.modeling import SuperShaperForMaskedLM


def accumulate_gradients(
    model: SuperShaperForMaskedLM,
    input_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    subnets: list[Subnet],
    micro_batch_size: int | None = None,
    dtype: str = "float32",
    *,
    distillation: Distillation | None = None,
    workers: Workers = ALONE,
) -> list[float]:
    """Add the gradients of every subnet's mean loss on one batch to the weights' gradients.

    Args:
        model: The supernet.
        input_ids: Masked tokens, (n, length).
        labels: Original tokens where masked, -100 elsewhere, (n, length).
        subnets: Shapes whose losses are summed.
        micro_batch_size: Blocks a forward pass; None for all at once.
        dtype: ``float32`` or ``bfloat16``.
        distillation: How the first subnet teaches the others; None for not at all.
        workers: The processes that share the batch; afterwards each holds the gradients of all of
            it, whatever was in the gradients before (they have to start from none).

    Returns:
        Mean cross-entropy of every subnet over the masked tokens of the whole batch.
    """
    import torch

    from nastool_supershaper.masked_positions import MaskedPositions

    device = model.device
    # Known to every process without a message: each masks the whole batch alike.
    n_masked = max(1, int((labels != -100).sum()))
    mine = workers.share(len(input_ids))
    size = micro_batch_size or len(input_ids)
    losses = torch.zeros(len(subnets), dtype=torch.float64, device=device)
    for start in range(mine.start, mine.stop, size):
        part = slice(start, min(start + size, mine.stop))
        ids = torch.as_tensor(input_ids[part], device=device)
        targets = torch.as_tensor(labels[part], device=device)
        weight = int((labels[part] != -100).sum()) / n_masked
        masked = MaskedPositions.of(targets)
        # All subnets read the same embeddings: their gradients meet there and go on once. A pass
        # of its own through the embeddings, as large as the vocabulary, costs each of them dear.
        embedded = model.supershaper.embed(ids)
        shared = embedded.detach().requires_grad_()
        teacher = None
        for i, subnet in enumerate(subnets):
            with autocast(device.type, dtype):
                logits, entropies = model.predict_masked(shared, masked, subnet.shape)
            loss = entropies.sum() / max(len(entropies), 1)
            losses[i] += loss.detach() * weight
            if teacher is not None and distillation is not None:
                divergence = _divergence(logits, teacher, distillation.temperature)
                loss = (1 - distillation.mix) * loss + distillation.mix * divergence
            elif distillation is not None:
                teacher = logits.detach()
            (loss * weight).backward()
            # The graph and the logits go before the next subnet needs the memory.
            del logits, entropies, loss
        embedded.backward(shared.grad)
    workers.add_up([losses, *(p.grad for p in model.parameters() if p.grad is not None)])
    return losses.tolist()


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean KL(teacher || student) of softened predictions, (n_masked, V) each, times T squared.

    The square keeps the gradients as large as those of the cross-entropy (Hinton et al., 2015).
    """
    import torch
    import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by

    soft, target = (
        F.log_softmax(x.to(torch.promote_types(x.dtype, torch.float32)) / temperature, -1)
        for x in (student, teacher)
    )
    total = F.kl_div(soft, target, reduction="sum", log_target=True)
    return total * temperature**2 / max(1, len(student))
