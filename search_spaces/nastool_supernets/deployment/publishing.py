"""Supernets and deployed shapes on the hub: what is published of their folders."""

from __future__ import annotations

from pathlib import Path

from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, is_folder, read_json_object
from nastool.integrations.publishing import Publication, files_of
from nastool_supernets.family import find_family, is_known

_RUN = ("checkpoints", "corpus", "logs")
"""Folders of a training run that only its continuation needs."""


def publication(folder: Path) -> Publication | None:
    """What is published of a supernet or a shape; None where the folder holds neither.

    Args:
        folder: What ``nastool pretrain`` or ``nastool export`` wrote.

    Raises:
        InvalidInputError: A training run that is not finished.
    """
    if not is_file(folder / "config.json"):
        if is_folder(folder / "checkpoints"):
            raise InvalidInputError(f"{folder}: expected a finished run, got one without a model")
        return None
    config = read_json_object(folder / "config.json")
    kind = str(config.get("model_type"))
    if not is_known(kind) or not is_file(folder / "model.safetensors"):
        return None
    family = find_family(kind)
    files = files_of(folder, without=_RUN)
    if kind == family.name:
        use = (f"nastool search --space {family.name}:{{name}}", "nastool measure {name}")
        return Publication("supernet", f"Supernet of {family.name}", files, {"family": kind}, use)
    return Publication("shape", f"Shape of {family.name}", files, {"family": kind}, ())
