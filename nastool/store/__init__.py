"""Store: where studies, their evaluations and expensive measurements are kept."""

from nastool.store.base import Store, open_store
from nastool.store.encoding import decode_state, encode_state, pack_array, unpack_array
from nastool.store.engines import DEFAULT_URL
from nastool.store.records import Batch, StoredStudy, StudySummary
from nastool.store.urls import showable

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
    "showable",
    "unpack_array",
]
