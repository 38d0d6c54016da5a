"""Number formats of matrix products, and what is fast on a device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nastool.errors import InvalidInputError

DTYPES = ("auto", "float32", "bfloat16")


def autocast(device_type: str, dtype: str) -> AbstractContextManager[Any]:
    """Return the context in which matrix products run in the given precision.

    Args:
        device_type: ``cpu`` or ``cuda``.
        dtype: ``float32`` (no autocast), ``bfloat16`` or ``auto``.
    """
    import torch

    if resolve_dtype(device_type, dtype) == "float32":
        return nullcontext()
    return torch.autocast(device_type, dtype=torch.bfloat16)


def resolve_dtype(device_type: str, dtype: str) -> str:
    """Return the precision that ``auto`` stands for on a device, any other one as it is.

    Args:
        device_type: ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        InvalidInputError: If there is no such precision.
    """
    import torch

    if dtype not in DTYPES:
        raise InvalidInputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if dtype != "auto":
        return dtype
    # Without instructions for it, bfloat16 on a CPU is several times slower than float32.
    if device_type == "cpu":
        native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    else:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"
