"""Any device behind an executable: a phone behind adb, a board behind ssh."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.devices import Deployment, Device, Timing
from nastool.errors import InvalidInputError, NastoolError
from nastool.files.reading import reading
from nastool.runtime.leftovers import started, temporary_folder
from nastool_objectives.latency.export import export_onnx, export_torchscript

_FORMATS = {"onnx": export_onnx, "torchscript": export_torchscript}
_SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt"}

_MOST_OUTPUT = 1 << 20
"""Bytes on standard output at which a call has failed: nobody times so many passes in a visit."""

_KEPT_ERRORS = 1 << 16
"""Last bytes of standard error that are kept."""

_LONGEST = 200
"""Characters of a device's words in a message."""


class Command(Device):
    """An executable that is given a model file and prints milliseconds.

    It is called with one argument, the file. The environment says what to do with it:
    ``NASTOOL_WARMUP`` and ``NASTOOL_REPEATS`` passes, ``NASTOOL_BATCH_SIZE``,
    ``NASTOOL_SEQUENCE_LENGTH``, and ``NASTOOL_INPUTS``, the names of the inputs, int64 of shape
    (batch size, sequence length), separated by commas. On its standard output it prints the
    milliseconds of each timed pass, separated by white space, and nothing else. What it started
    ends with it.

    Args:
        argument: The executable: a path, or a name on the PATH.
        format: ``onnx`` or ``torchscript``.
        timeout: Seconds after which a call has failed.

    Raises:
        InvalidInputError: No such executable, an unknown format, or a timeout that is not positive.
    """

    def __init__(
        self,
        argument: str | None = None,
        *,
        format: str = "onnx",  # noqa: A002 - what users call it
        timeout: float = 600.0,
    ) -> None:
        if argument is None:
            raise InvalidInputError("device command needs an executable: command[EXECUTABLE]")
        found = shutil.which(argument)
        if found is None:
            raise InvalidInputError(f"device command: expected an executable, got {argument!r}")
        if format not in _FORMATS:
            known = " or ".join(_FORMATS)
            raise InvalidInputError(f"device command: format must be {known}, got {format!r}")
        if not timeout > 0:
            raise InvalidInputError(f"device command: timeout must be positive, got {timeout:g}")
        self.executable = Path(found).resolve()
        self.format = format
        self.timeout = timeout

    @property
    def facts(self) -> Mapping[str, Any]:
        with reading(self.executable):
            content = self.executable.read_bytes()
        return {
            "executable": self.executable.name,
            "sha256": hashlib.sha256(content).hexdigest()[:16],
            "format": self.format,
        }

    def measure(self, deployment: Deployment, warmup: int, repeats: int) -> Timing:
        environment = {
            **os.environ,
            "NASTOOL_WARMUP": str(warmup),
            "NASTOOL_REPEATS": str(repeats),
            "NASTOOL_BATCH_SIZE": str(deployment.workload.batch_size),
            "NASTOOL_SEQUENCE_LENGTH": str(deployment.workload.sequence_length),
            "NASTOOL_INPUTS": ",".join(deployment.inputs),
        }
        with temporary_folder() as folder:
            path = folder / f"model{_SUFFIXES[self.format]}"
            _FORMATS[self.format](deployment, path)
            code, output, errors = self._run(path, environment)
        if code != 0:
            last = (errors.strip().splitlines() or ["no message"])[-1]
            raise NastoolError(f"{self._name} failed with exit code {code}: {last[:_LONGEST]}")
        return Timing(self._seconds(output, repeats))

    def _run(self, path: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Exit code, standard output and the end of standard error of a call."""
        words = [str(self.executable), str(path)]
        try:
            with started(words, environment) as process:
                output, errors = process.collect(self.timeout, _MOST_OUTPUT, _KEPT_ERRORS)
        except TimeoutError as error:
            raise NastoolError(f"{self._name} took longer than {self.timeout:g} s") from error
        except OverflowError as error:
            raise NastoolError(
                f"{self._name} must print the milliseconds of each pass, got more than "
                f"{_MOST_OUTPUT:,} bytes"
            ) from error
        except OSError as error:
            raise NastoolError(f"{self._name} cannot be run: {error.strerror}") from error
        code = process.exit_code
        return code, output.decode(errors="replace"), errors.decode(errors="replace")

    @property
    def _name(self) -> str:
        return f"command {self.executable.name}"

    def _seconds(self, text: str, repeats: int) -> NDArray[np.float64]:
        words = text.split()
        try:
            milliseconds = np.array([float(word) for word in words])
        except ValueError:
            milliseconds = np.empty(0)
        if not len(milliseconds) or not (np.isfinite(milliseconds) & (milliseconds > 0)).all():
            got = " ".join(words)
            got = got if len(got) <= _LONGEST else f"{got[:_LONGEST]}..."
            raise NastoolError(
                f"{self._name} must print the milliseconds of each pass, got {got!r}"
            )
        if len(milliseconds) != repeats:
            raise NastoolError(
                f"{self._name} must print one number for each of the {repeats} timed passes, got "
                f"{len(milliseconds)}"
            )
        return milliseconds / 1e3
