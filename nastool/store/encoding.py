"""How arrays and strategy states are written to a store.

An array is what NumPy writes as a ``.npy`` file, little-endian and in C order. A state is JSON
text; an array in it is ``{"$array": BASE64}`` of these bytes. Stores of earlier versions hold
arrays with a header of our own:

====================  =======================================================
``uint8``             version of the format, 1
``uint8``             number of characters of the element type
characters            element type as NumPy writes it: ``<f8``, ``|u1``, ...
``uint8``             number of axes
``uint64`` per axis   shape
the rest              elements
====================  =======================================================
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, StoreError

_FORMER = 1
_KINDS = "biuf"
_DTYPE = re.compile(rf"[<|][{_KINDS}][1248]")
_ARRAY = "$array"


def pack_array(array: NDArray[Any]) -> bytes:
    """Bytes of an array of booleans, integers or floats.

    Raises:
        InvalidInputError: Another element type.
    """
    file = io.BytesIO()
    np.lib.format.write_array(file, _little(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def _pack_former(array: NDArray[Any]) -> bytes:
    """Bytes of an array as earlier versions wrote it."""
    array = _little(array)
    text = array.dtype.str.encode("ascii")
    header = struct.pack("<BB", _FORMER, len(text)) + text
    header += struct.pack(f"<B{array.ndim}Q", array.ndim, *array.shape)
    return header + array.tobytes()


def _little(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
        raise InvalidInputError(
            f"arrays must hold booleans, integers or floats of at most 64 bits, got {array.dtype}"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def unpack_array(data: bytes) -> NDArray[Any]:
    """Array written by `pack_array`, in the machine's byte order and writable.

    Raises:
        StoreError: The bytes are damaged or of a newer format.
    """
    damaged = StoreError(f"the store holds a damaged array of {len(data)} bytes")
    if not data.startswith(np.lib.format.MAGIC_PREFIX):
        return _unpack_former(data, damaged)
    file = io.BytesIO(data)
    try:
        array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:
        # NumPy parses the header as Python: what damage makes of it is any error.
        raise damaged from error
    if not _DTYPE.fullmatch(array.dtype.newbyteorder("<").str) or file.read(1):
        raise damaged
    return array.astype(array.dtype.newbyteorder("="))


def _unpack_former(data: bytes, damaged: StoreError) -> NDArray[Any]:
    try:
        version, length = struct.unpack_from("<BB", data)
        if version != _FORMER:
            raise StoreError(f"arrays in the store must have format {_FORMER}, got {version}")
        text = data[2 : 2 + length].decode("ascii")
        if not _DTYPE.fullmatch(text):
            raise ValueError
        dtype = np.dtype(text)
        (ndim,) = struct.unpack_from("<B", data, 2 + length)
        shape = struct.unpack_from(f"<{ndim}Q", data, 3 + length)
        begin = 3 + length + 8 * ndim
        if len(data) - begin != dtype.itemsize * math.prod(shape):
            raise ValueError
        array = np.frombuffer(data, dtype=dtype, offset=begin).reshape(shape)
    except (struct.error, TypeError, ValueError, OverflowError) as error:
        raise damaged from error
    return array.astype(dtype.newbyteorder("="))


def state_digest(state: Mapping[str, Any]) -> str:
    """What tells states apart, of 16 characters; the same however a version keeps arrays.

    Args:
        state: As `encode_state` takes it.
    """
    return hashlib.sha256(_as_text(state, _pack_former).encode()).hexdigest()[:16]


def encode_state(state: Mapping[str, Any]) -> str:
    """State of a strategy as JSON text; equal states give equal text.

    Args:
        state: JSON values and numpy arrays, nested in dicts with text keys and in lists.

    Raises:
        InvalidInputError: Anything else is in it.
    """
    return _as_text(state, pack_array)


def _as_text(state: Mapping[str, Any], pack: Callable[[NDArray[Any]], bytes]) -> str:
    given: object = state
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"a state must be a dict, got {type(given).__name__}")
    return json.dumps(_plain(state, "state", pack), separators=(",", ":"), sort_keys=True)


def _plain(value: Any, where: str, pack: Callable[[NDArray[Any]], bytes]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        # Subclasses (enumerations, NumPy's float64) become what JSON reads back.
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        return None
    if isinstance(value, np.generic):
        return _plain(value.item(), where, pack)
    if isinstance(value, np.ndarray):
        return {_ARRAY: base64.b64encode(pack(value)).decode("ascii")}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]", pack) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _ARRAY:
                raise InvalidInputError(
                    f"{where}: keys must be text other than {_ARRAY!r}, got {key!r}"
                )
        return {key: _plain(item, f"{where}[{key!r}]", pack) for key, item in value.items()}
    raise InvalidInputError(
        f"{where} must be a JSON value or an array, got {type(value).__qualname__}"
    )


def decode_state(text: str) -> dict[str, Any]:
    """State written by `encode_state`; tuples come back as lists.

    Raises:
        StoreError: The text is damaged.
    """
    try:
        state = json.loads(text, object_hook=_restore)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"the store holds a damaged state: {error}") from error
    if not isinstance(state, dict):
        raise StoreError("the store holds a damaged state: expected a JSON object")
    return state


def _restore(mapping: dict[str, Any]) -> Any:
    if set(mapping) == {_ARRAY}:
        return unpack_array(base64.b64decode(mapping[_ARRAY], validate=True))
    return mapping
