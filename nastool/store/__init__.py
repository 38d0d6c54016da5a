"""Store: where studies, their evaluations and expensive measurements are kept."""

from nastool.store.base import (
    Batch,
    Store,
    StoredStudy,
    StudySummary,
    open_store,
)
from nastool.store.encoding import decode_state, encode_state, pack_array, unpack_array
from nastool.store.engines import DEFAULT_URL

__all__ = [
    "DEFAULT_URL",
    "Batch",
    "Store",
    "StoredStudy",
    "StudySummary",
    "decode_state",
    "encode_state",
    "open_store",
    "pack_array",
    "unpack_array",
]
