"""Where objectives that are not cheap are evaluated: here, or on workers that an engine runs."""

from nastool.executors.base import Executor
from nastool.executors.calls import called
from nastool.executors.loading import load_executor
from nastool.executors.serial import Serial
from nastool.executors.work import MOMENT, Chunk, Work, evaluated, wait_for_any

__all__ = [
    "MOMENT",
    "Chunk",
    "Executor",
    "Serial",
    "Work",
    "called",
    "evaluated",
    "load_executor",
    "wait_for_any",
]
