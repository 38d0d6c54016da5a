import numpy as np
import pytest

from nastool.cli.tables import formatted


@pytest.mark.parametrize(
    ("values", "unit", "column"),
    [
        ([6.8571, 7.1234, 9.5], "", ["6.857", "7.123", "9.500"]),
        ([66.1e6, 70e6, 104.25e6], "", ["66.1M", "70.0M", "104.2M"]),
        ([6.86, 7.12, 1234.5], "", ["6.9", "7.1", "1234.5"]),
        ([6.86, 6.87, 1234.5], "", ["6.86", "6.87", "1234.50"]),
        ([6.86, 6.86, 1234.5], "", ["7", "7", "1234"]),
        ([0.0205, 0.02051, 0.9], "s", ["20.50ms", "20.51ms", "900.00ms"]),
        ([-6.86, -7.12, -1234.5], "", ["-6.9", "-7.1", "-1234.5"]),
        ([1.0, 0.001], "s", ["1s", "1ms"]),
        ([np.nan, 2.0], "", ["nan", "2"]),
    ],
)
def test_rows_of_a_column_can_be_told_apart(values, unit, column):
    assert formatted(np.array(values), unit) == column
