"""Deployed architectures as files for other runtimes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nastool.deployment import Deployment
from nastool.errors import NastoolError
from nastool_objectives.latency.torch_devices import require_torch

OPSET = 18
"""Operator set of the files: old enough for the runtimes on phones, with LayerNormalization."""


def export_onnx(deployment: Deployment, path: Path) -> None:
    """Write an architecture as ONNX, with its weights in the same file.

    Args:
        deployment: What to write.
        path: File to write.

    Raises:
        NastoolError: The architecture cannot be exported.
    """
    torch = require_torch()
    module = FirstOutput(torch, deployment.module)
    with _quietly("ONNX"), torch.no_grad():
        # By tracing: the newer exporter takes a minute where this one takes a second, and a
        # campaign exports every architecture several times.
        torch.onnx.export(
            module,
            tuple(deployment.inputs.values()),
            str(path),
            input_names=list(deployment.inputs),
            output_names=["output"],
            opset_version=OPSET,
            dynamo=False,
        )


def export_torchscript(deployment: Deployment, path: Path) -> None:
    """Write an architecture as TorchScript, traced on its inputs.

    Args:
        deployment: What to write.
        path: File to write.

    Raises:
        NastoolError: The architecture cannot be traced.
    """
    torch = require_torch()
    module = FirstOutput(torch, deployment.module)
    with _quietly("TorchScript"), torch.no_grad():
        # A file holds whole storages: weights that share one with others would bring all of it.
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()
        traced = torch.jit.trace(module, tuple(deployment.inputs.values()), check_trace=False)
        torch.jit.save(traced, str(path))


@contextmanager
def _quietly(target: str) -> Iterator[None]:
    """Silence the exporters' advice to developers, and turn their errors into one line."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    # Exporters fail in types of their own.
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NastoolError(f"cannot export to {target}: {text}") from error
    finally:
        logging.disable(disabled)


def FirstOutput(torch: Any, module: Any) -> Any:  # noqa: N802 - makes an object, as a class does
    """A module whose output is a plain tensor, where transformers return a mapping."""

    class FirstOutput(torch.nn.Module):  # type: ignore[misc]  # torch is imported lazily
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Any) -> Any:
            output = self.module(*inputs)
            if torch.is_tensor(output):
                return output
            return next(iter(output.values() if isinstance(output, dict) else output))

    return FirstOutput().eval()
