"""Store: where studies, their evaluations and expensive measurements are kept."""

from nastool.store.base import Store, open_store
from nastool.store.records import Batch, StoredStudy, StudySummary
from nastool.store.urls import showable

__all__ = [
    "Batch",
    "Store",
    "StoredStudy",
    "StudySummary",
    "open_store",
    "showable",
]
