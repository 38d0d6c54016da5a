"""Which pieces of layers matter most on a text: what smaller subnets keep.

They are seen where they enter the residual stream: a channel by its input of the feed-forward
block's last projection, heads by their inputs of attention's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nastool_supernets.slicing.choices import levels
from nastool_supernets.slicing.nets import SlicedSupernet

_BATCH = 8
"""Blocks at a time."""


def order(net: SlicedSupernet, input_ids: Tensor, labels: Tensor, by: str) -> None:
    """Let smaller subnets keep what matters most; no weight is changed, nor the largest subnet.

    Args:
        net: Whose levels are set.
        input_ids: Text, (n, T).
        labels: What is to be predicted of it, -100 where nothing is, (n, T).
        by: ``activation``, the size of what a part adds; or ``loss``, how the loss changes without
            it, to first order.
    """
    space = net.model.space
    found = importances(net, input_ids, labels, by)
    written = {}
    for part in space.parts:
        # Inputs of a piece are kept together.
        scores = found[part.levels].reshape(space.layers, getattr(space, part.most), -1).sum(-1)
        ranked = scores.argsort(dim=1, descending=True, stable=True).tolist()
        sizes = [size for size in space.of(part) if size]
        written[part.levels] = [levels(row, sizes) for row in ranked]
    net.model.keep(written)


def importances(
    net: SlicedSupernet, input_ids: Tensor, labels: Tensor, by: str
) -> dict[str, Tensor]:
    """How much every input of the projections into the residual stream matters.

    Args:
        net: A supernet.
        input_ids: Text, (n, T).
        labels: What is to be predicted of it, -100 where nothing is, (n, T).
        by: ``activation`` or ``loss``.

    Returns:
        By the levels' name of each part, of shape (layers, inputs).
    """
    model = net.model
    pairs = [model.ends(layer) for layer in model.layers]
    ends: dict[str, list[Any]] = {
        part.levels: [pair[place] for pair in pairs] for place, part in enumerate(model.space.parts)
    }
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
