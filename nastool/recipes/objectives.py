"""An objective as what it is made from, so that other processes make it themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nastool.discovery import load_file, loaded_files
from nastool.errors import InvalidInputError
from nastool.files.reading import is_file, is_folder, read_text
from nastool.objective import Objective
from nastool.plugins import load_objective, load_space, made_from
from nastool.runtime.leftovers import kept_folder
from nastool.space import SearchSpace


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What an objective is made from.

    Args:
        space: Text of its space.
        objective: Its text.
        settings: Its keyword settings.
        fingerprint: Of what was made from it.
        plugins: Paths and contents of the files that register what is named here.
        folder: Where relative paths begin.
    """

    space: str
    objective: str
    settings: Mapping[str, Any]
    fingerprint: str
    plugins: tuple[tuple[str, str], ...] = ()
    folder: str = field(default_factory=os.getcwd)

    def make(self) -> Objective:
        """Make the objective.

        Raises:
            InvalidInputError: It cannot be made here, or comes out as another one.
        """
        enter(self.folder, self.plugins)
        made = load_objective(self.objective, load_space(self.space), self.settings)
        if made.fingerprint != self.fingerprint:
            raise InvalidInputError(
                f"{self.objective} must be the same on a worker as where the search runs, got "
                "another fingerprint: are nastool and the files the same there?"
            )
        return made


def recipe_of(objective: Objective) -> ObjectiveRecipe | None:
    """The recipe of an objective; None where it, or its space, was not made by name."""
    made = made_from(objective)
    space = None if made is None else made_from(made.arguments[0])
    if made is None or space is None or not isinstance(made.arguments[0], SearchSpace):
        return None
    files = plugin_contents()
    return ObjectiveRecipe(space.text, made.text, made.settings, objective.fingerprint, files)


def plugin_contents() -> tuple[tuple[str, str], ...]:
    """Paths and contents of the plugin files that are loaded here."""
    return tuple((str(path), read_text(path)) for path in loaded_files())


def enter(folder: str, plugins: Iterable[tuple[str, str]]) -> None:
    """Let names mean on a worker what they mean where it is called from.

    Args:
        folder: Where relative paths begin, if it is there.
        plugins: As of `plugin_contents`.
    """
    if is_folder(Path(folder)) and os.getcwd() != folder:
        os.chdir(folder)
    for path, content in plugins:
        load_file(_there(path, content))


def _there(path: str, content: str) -> Path:
    """A file with that content: the one of that path, where this machine has it."""
    file = Path(path)
    if is_file(file) and read_text(file) == content:
        return file
    copy = kept_folder() / file.name
    copy.write_text(content, encoding="utf-8")
    return copy
