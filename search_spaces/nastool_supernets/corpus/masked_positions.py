"""The masked positions of a batch, row by row, so that a layer can run at these only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskedPositions:
    """Where a batch is masked, as every row's list of positions.

    Args:
        positions: (B, M), each row's masked positions in reading order, then any others.
        real: (B, M), True at masked positions; None if all are.
        targets: Original tokens at the n masked positions, in reading order, (n,).
    """

    positions: Tensor
    real: Tensor | None
    targets: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> MaskedPositions:
        """Find the positions whose label is not -100, (B, T)."""
        masked = labels != -100
        counts = masked.sum(1)
        fewest, most = torch.stack([counts.min(), counts.max()]).tolist()
        # Kernels dislike empty inputs: a batch without masked tokens computes one and drops it.
        positions = (~masked).byte().argsort(dim=1, stable=True)[:, : max(most, 1)]
        chosen = labels.gather(1, positions)
        if fewest == most > 0:
            return cls(positions, None, chosen.flatten())
        real = chosen != -100
        return cls(positions, real, chosen[real])

    def select(self, hidden: Tensor) -> Tensor:
        """Take what was computed at the masked positions, (B, M, D) to (n, D)."""
        return hidden.flatten(0, 1) if self.real is None else hidden[self.real]

    def take(self, hidden: Tensor) -> Tensor:
        """Take masked positions of what was computed at all of them, (B, T, D) to (n, D)."""
        positions = self.positions[..., None].expand(-1, -1, hidden.shape[-1])
        return self.select(hidden.gather(1, positions))
