"""A layer of the supernet: a BERT layer between two bottlenecks, at any width."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn

from nastool_supershaper.supernet_config import SuperShaperConfig


class Bottleneck(nn.Linear):
    """A linear map that starts as the identity (a class of its own for initialisation)."""


class SuperShaperLayer(nn.Module):
    """A BERT layer at any width up to D, with its two bottlenecks."""

    def __init__(self, config: SuperShaperConfig) -> None:
        super().__init__()
        size, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.num_heads = config.num_attention_heads
        self.input_bottleneck = Bottleneck(size, size)
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.attention_output = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.intermediate = nn.Linear(size, inner)
        self.output = nn.Linear(inner, size)
        self.output_norm = nn.LayerNorm(size, eps=eps)
        self.output_bottleneck = Bottleneck(size, size)

    def enter(self, hidden: Tensor, width: int) -> Tensor:
        """Input bottleneck, (B, T, D) to (B, T, h)."""
        bottleneck = self.input_bottleneck
        return F.linear(hidden, bottleneck.weight[:width], bottleneck.bias[:width])

    def forward(
        self, x: Tensor, width: int, mask: Tensor | None, positions: Tensor | None = None
    ) -> Tensor:
        """Attention and feed-forward at width h, (B, T, h) to (B, T, h).

        Args:
            x: Hidden states, (B, T, h).
            width: The width h.
            mask: (B, 1, 1, T), True where a key may be seen; None where all may.
            positions: (B, M), the positions of every row to compute, which still see all others;
                the output is then (B, M, h). None for all.
        """
        if positions is None:
            seen, chosen = self._attend(x, width, mask), x
        else:
            chosen = x.gather(1, positions[..., None].expand(-1, -1, width))
            seen = self._attend(x, width, mask, chosen)
        x = self._normalise(self.attention_norm, chosen + seen, width)
        inner = F.linear(x, self.intermediate.weight[:, :width], self.intermediate.bias)
        outer = F.linear(F.gelu(inner), self.output.weight[:width], self.output.bias[:width])
        return self._normalise(self.output_norm, x + outer, width)

    def leave(self, x: Tensor, width: int) -> Tensor:
        """Output bottleneck, (B, T, h) to (B, T, D)."""
        return F.linear(x, self.output_bottleneck.weight[:, :width], self.output_bottleneck.bias)

    def _attend(
        self, x: Tensor, width: int, mask: Tensor | None, chosen: Tensor | None = None
    ) -> Tensor:
        """Self-attention with all heads, each of size h / heads, and its output projection.

        With `chosen` (B, M, h), these ask; keys and values are those of x all the same.
        """
        heads, size = self.num_heads, width // self.num_heads
        projections = (self.query, self.key, self.value)
        weight = torch.cat([p.weight[:width, :width] for p in projections])
        bias = torch.cat([p.bias[:width] for p in projections])
        out = self.attention_output.weight[:width, :width]
        # Fast kernels, on the GPU above all, take head sizes in multiples of 8. Zero rows in the
        # weights give every head zero entries: cheaper than padding activations, and exact.
        padding = -size % 8
        if padding:
            weight = F.pad(weight.unflatten(0, (3 * heads, size)), (0, 0, 0, padding)).flatten(0, 1)
            bias = F.pad(bias.unflatten(0, (3 * heads, size)), (0, padding)).flatten()
            out = F.pad(out.unflatten(1, (heads, size)), (0, padding)).flatten(1)
        padded = size + padding
        if chosen is None:
            projected = F.linear(x, weight, bias).unflatten(-1, (3, heads, padded))
            query, key, value = projected.permute(2, 0, 3, 1, 4)
        else:
            split = heads * padded
            projected = F.linear(x, weight[split:], bias[split:])
            key, value = projected.unflatten(-1, (2, heads, padded)).permute(2, 0, 3, 1, 4)
            asking = F.linear(chosen, weight[:split], bias[:split])
            query = asking.unflatten(-1, (heads, padded)).transpose(1, 2)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=size**-0.5)
        return F.linear(seen.transpose(1, 2).flatten(2), out, self.attention_output.bias[:width])

    @staticmethod
    def _normalise(norm: nn.LayerNorm, x: Tensor, width: int) -> Tensor:
        weight, bias = norm.weight[:width].to(x.dtype), norm.bias[:width].to(x.dtype)
        # Autocast would turn the whole stream of hidden states into single precision here and back
        # again for the next product; statistics are taken in single precision all the same.
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, (width,), weight, bias, norm.eps)
