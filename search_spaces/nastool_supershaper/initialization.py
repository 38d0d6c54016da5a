"""Better starts for a supernet: important dimensions first, and more layers than there were."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nastool.errors import InvalidInputError
from nastool_supershaper.layers import SuperShaperLayer
from nastool_supershaper.modeling import SuperShaperForMaskedLM
from nastool_supershaper.supernet_config import SuperShaperConfig


def hidden_importance(
    model: SuperShaperForMaskedLM,
    input_ids: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Measure how much the loss of the largest subnet depends on each hidden dimension.

    The measure is the mean |activation x gradient|, a first-order estimate of what removing the
    dimension would cost, summed over what every layer reads and what the head reads.

    Args:
        model: The supernet; no gradient is left in it.
        input_ids: Masked tokens, (B, T).
        labels: Original tokens at masked positions, -100 elsewhere, (B, T).
        attention_mask: (B, T), nonzero at real tokens; None without padding.

    Returns:
        Importance of every dimension, (D,).
    """
    backbone = model.supershaper
    states = [backbone.embed(input_ids)]
    for index, width in enumerate(model.config.largest):
        states.append(backbone.run_layer(index, states[-1], width, attention_mask))
    gradients = torch.autograd.grad(model.head_losses(states[-1], labels).sum(), states)
    products = [(s * g).detach().abs() for s, g in zip(states, gradients, strict=True)]
    return torch.stack([product.flatten(0, 1).mean(0) for product in products]).sum(0)


@torch.no_grad()
def reorder_hidden(model: SuperShaperForMaskedLM, importance: Tensor) -> Tensor:
    """Permute the hidden dimensions in place, the most important first.

    Slices keep leading dimensions: this decides which ones. At full width the model computes what
    it computed before. Rows within heads and within the feed-forward stay where they are.

    Args:
        model: The supernet, changed in place.
        importance: Importance of every dimension, (D,).

    Returns:
        The order: entry j is the old position of the new dimension j, (D,).

    Raises:
        InvalidInputError: If importance is not one finite number a dimension.
    """
    size = model.config.hidden_size
    if importance.shape != (size,) or not bool(importance.isfinite().all()):
        raise InvalidInputError(
            f"importance: expected {size} finite numbers, got shape {tuple(importance.shape)}"
        )
    order = importance.argsort(descending=True, stable=True)
    embeddings, head = model.supershaper.embeddings, model.head
    for table in (embeddings.words, embeddings.positions, embeddings.segments):
        _permute(table, columns=order)
    # The decoder is the word embeddings, so what the head's transform writes is reordered too.
    _permute(head.transform, rows=order, columns=order)
    _permute(embeddings.norm, rows=order)
    _permute(head.norm, rows=order)
    for layer in model.supershaper.layers:
        for bottleneck in (layer.input_bottleneck, layer.output_bottleneck):
            _permute(bottleneck, rows=order, columns=order)
        for reading in (layer.query, layer.key, layer.value, layer.intermediate):
            _permute(reading, columns=order)
        for writing in (
            layer.attention_output,
            layer.attention_norm,
            layer.output,
            layer.output_norm,
        ):
            _permute(writing, rows=order)
    return order


def _permute(module: nn.Module, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    for name, parameter in module.named_parameters():
        if rows is not None:
            parameter.copy_(parameter[rows])
        if columns is not None and name == "weight":
            parameter.copy_(parameter[:, columns])


@torch.no_grad()
def grow(model: SuperShaperForMaskedLM, num_layers: int) -> SuperShaperForMaskedLM:
    """Make a deeper supernet out of a shallower one; each layer is followed by its new ones.

    A new layer is a copy of the layer before it that starts without effect: at full width the
    deeper supernet computes what the shallower one does.

    Args:
        model: The supernet to grow; it stays as it is.
        num_layers: Layers of the new supernet, spread as evenly as they can be.

    Raises:
        InvalidInputError: If the depth shrinks.
    """
    depth = model.config.num_hidden_layers
    if num_layers < depth:
        raise InvalidInputError(f"num_layers: expected at least {depth}, got {num_layers}")

    sizes = model.config.to_dict() | {"num_hidden_layers": num_layers}
    deeper = SuperShaperForMaskedLM(SuperShaperConfig(**sizes)).train(model.training)
    deeper.to(device=model.device, dtype=model.dtype)
    deeper.supershaper.embeddings.load_state_dict(model.supershaper.embeddings.state_dict())
    deeper.head.load_state_dict(model.head.state_dict())
    previous = deeper.supershaper.layers[0]
    for index, layer in enumerate(deeper.supershaper.layers):
        source = index * depth // num_layers
        layer.load_state_dict(model.supershaper.layers[source].state_dict())
        if index > 0 and source == (index - 1) * depth // num_layers:
            _start_without_effect(layer, previous)
        previous = layer
    return deeper


def _start_without_effect(layer: SuperShaperLayer, previous: SuperShaperLayer) -> None:
    """Let a copy of the layer before it pass on what that one computes, exactly at full width.

    Post-LN leaves no path around the normalisations, but normalising twice is normalising once. So
    the scale and shift at the end of the previous layer, and its output bottleneck, move to the end
    of the new one; between them flows what is normalised and nothing else. The new layer's two
    output projections start at zero; what it reads is rescaled to what it was used to.
    """
    scale, shift = previous.output_norm.weight.clone(), previous.output_norm.bias.clone()
    for reading in (layer.query, layer.key, layer.value):
        _absorb(reading, scale, shift)
    _absorb(layer.intermediate, layer.attention_norm.weight, layer.attention_norm.bias)
    for norm in (previous.output_norm, layer.attention_norm):
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
    for bottleneck in (previous.output_bottleneck, layer.input_bottleneck):
        nn.init.eye_(bottleneck.weight)
        nn.init.zeros_(bottleneck.bias)
    for projection in (layer.attention_output, layer.output):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)


def _absorb(linear: nn.Linear, scale: Tensor, shift: Tensor) -> None:
    """Make a linear map of x compute what it computed of scale * x + shift."""
    linear.bias.add_(linear.weight @ shift)
    linear.weight.mul_(scale)
