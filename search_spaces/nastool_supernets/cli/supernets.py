"""The supernet that a command trains, measures or takes shapes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from nastool.errors import InvalidInputError, MissingDependencyError, one_line

if TYPE_CHECKING:
    import torch

    from nastool.store import StudySummary
    from nastool_supernets.genotypes import Genotype
    from nastool_supernets.supernet import Supernet


@contextmanager
def torch_needed() -> Iterator[None]:
    """Turn a failed import of the training libraries into the line that says what to install."""
    try:
        # Our own modules import them late: without this, the first use would fail half-way.
        for library in ("torch", "transformers", "safetensors"):
            import_module(library)
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f"this command needs {error.name or 'torch'}: pip install 'nastool[train]'"
        ) from error


def move(model: torch.nn.Module, device: str | None) -> None:
    """Move a model to a device.

    Args:
        model: The model.
        device: As torch names it; None for cuda if there is one, else cpu.

    Raises:
        InvalidInputError: If there is no such device.
    """
    import torch

    with _using(device):
        model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))


def check_device(device: str, *, cuda_graphs: bool = False) -> None:
    """Check that a device is there.

    Args:
        device: As torch names it.
        cuda_graphs: Whether it has to capture CUDA graphs.

    Raises:
        InvalidInputError: If there is no such device, or it captures none.
    """
    import torch

    from nastool_supernets.supernet import check_captures

    with _using(device):
        torch.empty(0, device=device)
    if cuda_graphs:
        check_captures(torch.device(device))


def _using(device: str | None) -> AbstractContextManager[None]:
    refused = f"--device: cannot use {device!r}"
    return one_line(refused, InvalidInputError, (RuntimeError, AssertionError))


def named_supernet(summary: StudySummary) -> Path:
    """Folder of the supernet by which a study named its space.

    Args:
        summary: Of the study.

    Raises:
        InvalidInputError: It named its space otherwise.
    """
    from nastool.plugins import parse_spec

    named = summary.description["space"]
    folder = parse_spec(named).argument
    if folder is None or not Path(folder).is_dir():
        raise InvalidInputError(
            f"study {summary.name!r} searched {named}, which names no supernet: give one with "
            "--supernet DIR"
        )
    return Path(folder)


def followed(net: Supernet) -> dict[str, Genotype]:
    """Choose a few random subnets to follow through training, the same in every run.

    Args:
        net: The supernet.
    """
    import numpy as np

    from nastool_supernets.genotypes import distinct

    ends = set(net.followed().values())
    n = min(3, net.space.size - len(ends))
    drawn = distinct(net.space, n, np.random.default_rng(0), ends)
    return {f"random_{i + 1}": genotype for i, genotype in enumerate(drawn)}
