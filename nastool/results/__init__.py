"""What a study found: fronts, tables and exports."""

from nastool.results.result import (
    STOP_MESSAGES,
    Failure,
    Result,
    StopReason,
    describe_metrics,
    failed_note,
)

__all__ = [
    "STOP_MESSAGES",
    "Failure",
    "Result",
    "StopReason",
    "describe_metrics",
    "failed_note",
]
