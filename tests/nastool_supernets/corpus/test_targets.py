"""Where a batch is to be predicted."""

import pytest
import torch

from nastool_supernets.corpus.targets import Targets

HIDDEN = torch.arange(3 * 5 * 2.0).reshape(3, 5, 2)


@pytest.mark.parametrize(
    "wanted",
    [
        [[1, 3], [0, 4], [2, 3]],  # as many in every row
        [[1, 3], [0], [2, 3, 4]],
        [[1], [], [0, 1, 2, 3, 4]],
        [[], [], []],
    ],
)
def test_they_are_read_row_by_row_in_order(wanted):
    labels = torch.full((3, 5), -100)
    for row, positions in enumerate(wanted):
        for position in positions:
            labels[row, position] = 10 * row + position
    targets = Targets.of(labels).to(torch.device("cpu"))
    tokens = [10 * row + position for row, positions in enumerate(wanted) for position in positions]
    assert targets.tokens.tolist() == tokens
    for row, positions in enumerate(wanted):
        assert targets.positions[row, : len(positions)].tolist() == positions
    taken = [HIDDEN[row, position].tolist() for row, p in enumerate(wanted) for position in p]
    assert targets.take(HIDDEN).tolist() == taken
