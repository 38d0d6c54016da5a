"""Which heads and channels matter most on a text: what smaller subnets keep.

Both are seen where they enter the residual stream: a channel by its input of the feed-forward
block's last projection, a key-value group by its heads' inputs of attention's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nastool_decoder.modeling import Decoder, levels
from nastool_decoder.nets import DecoderSupernet

_BATCH = 8
"""Blocks at a time."""


def order(model: Decoder, input_ids: Tensor, labels: Tensor, by: str) -> None:
    """Let smaller subnets keep what matters most; no weight is changed, nor the largest subnet.

    Args:
        model: Whose levels are set.
        input_ids: Text, (n, T).
        labels: What is to be predicted of it, -100 where nothing is, (n, T).
        by: ``activation``, the size of what a part adds; ``loss``, how the loss changes without it,
            to first order; or ``none``, as it is.
    """
    space = model.space
    parts = {"kv_levels": (space.groups, space.kvs), "ffn_levels": (space.ffn, space.ffns)}
    for name, found in importances(model, input_ids, labels, by).items():
        number, sizes = parts[name]
        # Heads of a group are kept together.
        scores = found.reshape(space.layers, number, -1).sum(-1)
        ranked = scores.argsort(dim=1, descending=True, stable=True).tolist()
        setattr(model.config, name, [levels(row, [s for s in sizes if s]) for row in ranked])
    model.forgotten()


def importances(model: Decoder, input_ids: Tensor, labels: Tensor, by: str) -> dict[str, Tensor]:
    """How much every input of the projections into the residual stream matters.

    Args:
        model: A supernet.
        input_ids: Text, (n, T).
        labels: What is to be predicted of it, -100 where nothing is, (n, T).
        by: ``activation`` or ``loss``.

    Returns:
        Of attention (``kv_levels``) and of the feed-forward block (``ffn_levels``), each of shape
        (layers, inputs).
    """
    ends: dict[str, list[Any]] = {
        "kv_levels": [layer.self_attn.o_proj for layer in model.layers],
        "ffn_levels": [layer.mlp.down_proj for layer in model.layers],
    }
    net = DecoderSupernet(model)
    largest = tuple(net.space.largest.tolist())
    sums = {
        name: [torch.zeros(end.in_features, dtype=torch.float64) for end in of_layers]
        for name, of_layers in ends.items()
    }
    taken: dict[tuple[str, int], Tensor] = {}
    was_training = model.training
    model.eval()
    batches = zip(input_ids.split(_BATCH), labels.split(_BATCH), strict=True)
    with _inputs(ends, taken, gradients=by == "loss"):
        for ids, wanted in batches:
            ids, wanted = ids.to(model.device), wanted.to(model.device)
            with torch.set_grad_enabled(by == "loss"):
                losses = net.losses(ids, wanted, largest)
            if by == "loss":
                gradients = torch.autograd.grad(losses.sum(), [*taken.values()])
                for (name, layer), gradient in zip(taken, gradients, strict=True):
                    # What a text's loss would change by, to first order, without the input.
                    effects = (taken[name, layer].detach() * gradient).double().sum(1).abs()
                    sums[name][layer] += effects.sum(0).cpu()
            else:
                for (name, layer), values in taken.items():
                    sums[name][layer] += values.double().square().sum((0, 1)).cpu()
            taken.clear()
    model.train(was_training)
    if by == "activation":
        for name, of_layers in ends.items():
            for layer, end in enumerate(of_layers):
                sums[name][layer] *= end.weight.detach().double().square().sum(0).cpu()
    return {name: torch.stack(of_layers) for name, of_layers in sums.items()}


@contextmanager
def _inputs(
    ends: dict[str, list[Any]], taken: dict[tuple[str, int], Tensor], *, gradients: bool
) -> Iterator[None]:
    """Keep the inputs of modules while they run."""

    def keep(key: tuple[str, int], _: Any, given: tuple[Tensor]) -> tuple[Tensor]:
        values = given[0]
        if gradients and not values.requires_grad:
            values = values.detach().requires_grad_()
        taken[key] = values
        return (values,)

    handles = [
        end.register_forward_pre_hook(partial(keep, (name, layer)))
        for name, of_layers in ends.items()
        for layer, end in enumerate(of_layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
