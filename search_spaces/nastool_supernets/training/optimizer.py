"""The optimizer of a training run: AdamW with a group for every learning rate and weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nastool_supernets.saved import parameters_of
from nastool_supernets.training.config import PretrainingConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nastool_supernets.supernet import Net


def build_optimizer(
    net: Net, config: PretrainingConfig, beside: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Return fused AdamW with a group for every learning rate and weight decay.

    Args:
        net: The net.
        config: Hyperparameters.
        beside: What else is trained, as new as a head; None for nothing.
    """
    import torch

    named = [(net.group_of(name), p) for name, p in parameters_of(net.model).items()]
    if beside is not None:
        named += (("head", p) for p in beside.parameters())
    rates = {"head": config.head_rate, "bottleneck": config.bottleneck_rate}
    groups: dict[tuple[float, float, float], dict[str, Any]] = {}
    for kind, parameter in named:
        rate, is_head = rates.get(kind, 1.0), kind == "head"
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        # Once a head stage of its own rate is over, the head is new no more.
        later = 1.0 if is_head and config.head_learning_rate is not None else rate
        group = groups.setdefault(
            (rate, later, decay),
            {"params": [], "rate": rate, "later_rate": later, "weight_decay": decay},
        )
        group["params"].append(parameter)
    return torch.optim.AdamW(
        list(groups.values()),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def set_rates(optimizer: torch.optim.Optimizer, config: PretrainingConfig, step: int) -> float:
    """Give every group its learning rate of a step; return the one that they refer to.

    Args:
        optimizer: From `build_optimizer`.
        config: The same hyperparameters.
        step: From 0.
    """
    rate = config.peak_rate(step) * config.rate_factor(step)
    own = config.head_learning_rate is None or config.has_own_rate(step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate" if own else "later_rate"]
    return rate


def update(optimizer: torch.optim.Optimizer, norm: float | None, losses: Tensor) -> list[float]:
    """Make a step by the gradients, and return the losses.

    A step whose losses are not all finite changes no weight and no moment. The device sees to that
    itself: the host, which would wait for the losses, has given it the whole step by then.

    Args:
        optimizer: Whose parameters; on several processes all hold the same gradients.
        norm: Gradients of all parameters together that are longer are shortened to it; None leaves
            them.
        losses: Those of the step, (n,), on its device.
    """
    import torch

    if norm is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, norm)
    # What a fused optimizer reads, as gradient scalers set it.
    vars(optimizer)["found_inf"] = (~losses.isfinite().all()).float()
    optimizer.step()
    found: list[float] = losses.tolist()
    return found
