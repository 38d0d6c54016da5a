"""Precisions that devices compute in."""

from __future__ import annotations

from nastool.errors import InvalidInputError

FLOAT32 = "float32"

PRECISION_HINTS = {FLOAT32: "f32", "float16": "f16", "bfloat16": "bf16"}
"""Each precision, and OpenVINO's name of it."""

DTYPES = tuple(PRECISION_HINTS)


def checked_dtype(device: str, dtype: str) -> str:
    """A precision of a device.

    Args:
        device: Its name.
        dtype: One of `DTYPES`.

    Raises:
        InvalidInputError: It is none.
    """
    if dtype not in DTYPES:
        raise InvalidInputError(
            f"device {device}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}"
        )
    return dtype
