"""What a batch is to predict, row by row, so that a last layer can run at these positions only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nastool_supernets.corpus.tasks import IGNORED_LABEL


def sent(values: Tensor, device: torch.device) -> Tensor:
    """What lies in the host's memory on a device, without waiting for what that has to do."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Targets:
    """Where a batch is to be predicted, as every row's list of positions.

    Args:
        positions: (B, M), each row's positions in reading order, then any others.
        real: Which of these (B M) in a row are to be predicted, (n,); None if all.
        tokens: What is to be predicted there, in reading order, (n,).
    """

    positions: Tensor
    real: Tensor | None
    tokens: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> Targets:
        """Find the positions whose label is not -100, (B, T)."""
        wanted = labels != IGNORED_LABEL
        counts = wanted.sum(1)
        fewest, most = torch.stack([counts.min(), counts.max()]).tolist()
        # Kernels dislike empty inputs: a batch without targets computes one and drops it.
        if fewest == most > 0:
            positions = wanted.nonzero()[:, 1].view(-1, most)
            return cls(positions, None, labels.gather(1, positions).flatten())
        positions = (~wanted).byte().argsort(dim=1, stable=True)[:, : max(most, 1)]
        chosen = labels.gather(1, positions)
        # Indices, not a mask: where these are known, no selection waits for the device.
        real = (chosen != IGNORED_LABEL).flatten().nonzero().squeeze(1)
        return cls(positions, real, chosen.flatten()[real])

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        real = None if self.real is None else sent(self.real, device)
        return Targets(sent(self.positions, device), real, sent(self.tokens, device))

    def select(self, hidden: Tensor) -> Tensor:
        """Take what was computed at the positions, (B, M, D) to (n, D)."""
        flat = hidden.flatten(0, 1)
        return flat if self.real is None else flat.index_select(0, self.real)

    def take(self, hidden: Tensor) -> Tensor:
        """Take the positions of what was computed at all of them, (B, T, D) to (n, D)."""
        positions = self.positions[..., None].expand(-1, -1, hidden.shape[-1])
        return self.select(hidden.gather(1, positions))
