"""Predictors, studies and what plugins know, published on the Hugging Face hub with a card.

``hf://USER/NAME`` names what was published, wherever a folder or a store may be named
(`nastool.files.hub`). Plugins add kinds of folders by the entry points ``nastool.publications``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nastool.discovery import PUBLICATIONS, available
from nastool.errors import InvalidInputError
from nastool.files.hub import push_files
from nastool.files.reading import is_file, is_folder
from nastool.integrations.trackers import LOGS
from nastool.numbers import score_text
from nastool.predictors.base import CARD, load_predictor
from nastool.runtime.leftovers import temporary_folder
from nastool.store import open_store
from nastool.store.base import FILE

if TYPE_CHECKING:
    from nastool.predictors.base import Card
    from nastool.store import Store

README = "README.md"


@dataclass(frozen=True)
class Publication:
    """What is published of something, and what its card says.

    Args:
        kind: What it is, e.g. ``predictor``.
        title: First line of the card.
        files: Names on the hub, and where the files lie.
        facts: What is known of it, by name, a line each.
        use: Shell lines that use it; ``{name}`` stands for its name on the hub.
        scores: Measured scores by name, for the card's header; see `evaluated`.
        evaluated: What the scores were measured on.
    """

    kind: str
    title: str
    files: Mapping[str, Path]
    facts: Mapping[str, str]
    use: Sequence[str]
    scores: Mapping[str, float] = field(default_factory=dict)
    evaluated: str = ""


def publish(
    what: str | Path, repository: str, *, private: bool = False, store: Store | str | None = None
) -> str:
    """Publish a folder or a stored study on the hub, in place of what is there.

    A folder's own README.md is its card; without one a card is written there (not into the folder).

    Args:
        what: Folder of a predictor, or of another kind that is known; else the name of a study.
        repository: ``USER/NAME``; made if it is not there.
        private: Whether it must be private; a new one is made so.
        store: Where the study is kept, or its URL.

    Returns:
        Its address.

    Raises:
        InvalidInputError: Neither a known folder nor a study, or it must be private and is public.
        NastoolError: The hub refuses, or cannot be reached.
    """
    folder = Path(what)
    if is_folder(folder):
        return _push(folder_publication(folder), repository, private=private)
    with temporary_folder() as scratch:
        if store is None or isinstance(store, str):
            with open_store(store, create=False) as opened:
                publication = _study(str(what), opened, scratch)
        else:
            publication = _study(str(what), open_store(store), scratch)
        return _push(publication, repository, private=private)


def folder_publication(folder: Path) -> Publication:
    """What is published of a folder.

    Raises:
        InvalidInputError: Nothing that is known lies in it.
    """
    if is_file(folder / CARD):
        return _predictor(folder)
    # Functions from a folder to its publication, or to None if it is another's.
    plugins = available(PUBLICATIONS)
    for plugin in plugins:
        describe = cast("Callable[[Path], Publication | None]", plugin.load())
        if (found := describe(folder)) is not None:
            return found
    known = ", ".join(["predictor", *(plugin.name for plugin in plugins)])
    raise InvalidInputError(f"{folder}: expected a folder with one of {known}, found none of them")


def files_of(folder: Path, without: Sequence[str] = ()) -> dict[str, Path]:
    """All files of a folder by their names in it, without hidden ones and logs of W&B.

    Args:
        folder: The folder.
        without: First parts of names that are left out, too.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        first = path.relative_to(folder).parts[0]
        if path.is_file() and not first.startswith(".") and first not in (*without, LOGS):
            found[path.relative_to(folder).as_posix()] = path
    return found


def card(publication: Publication, repository: str) -> str:
    """The card in Markdown, with the hub's header.

    Args:
        publication: What is published.
        repository: Its name on the hub, ``USER/NAME``.
    """
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="other",
            task_name=publication.kind,
            dataset_type="other",
            dataset_name=publication.evaluated,
            metric_type=name,
            metric_value=value,
        )
        for name, value in publication.scores.items()
    ]
    data = ModelCardData(
        library_name="nastool",
        tags=["neural-architecture-search", f"nastool-{publication.kind}"],
        model_name=repository.partition("/")[2] if results else None,
        eval_results=results or None,
    )
    lines = [f"# {publication.title}", ""]
    lines += [f"- **{name}:** {text}" for name, text in publication.facts.items()]
    use = "\n".join(line.format(name=f"hf://{repository}") for line in publication.use)
    return f"---\n{data.to_yaml()}\n---\n" + "\n".join(lines) + f"\n\n```sh\n{use}\n```\n"


def _push(publication: Publication, repository: str, *, private: bool) -> str:
    files: dict[str, Path | str] = dict(publication.files)
    if README not in files:
        files[README] = card(publication, repository)
    return push_files(files, repository, private=private)


def _predictor(folder: Path) -> Publication:
    _, found = load_predictor(folder)
    scores, held_out = {}, f"held-out shapes of {found.space}"
    if found.scores is not None:
        scores = {
            name: round(value, 6)
            for name, value in (
                ("r2", found.scores.r2),
                ("spearman", found.scores.spearman),
                ("kendall", found.scores.kendall),
            )
            if value == value  # no number where it is not defined
        }
    return Publication(
        "predictor",
        f"Predicted {found.metric} of {found.space}",
        files_of(folder),
        _predictor_facts(found),
        (f"nastool search --space {found.space} --objective '{found.metric}:{{name}}'",),
        scores,
        held_out,
    )


def _predictor_facts(found: Card) -> dict[str, str]:
    facts = {"predictor": f"{found.label}, fitted on {found.shapes:,} shapes of {found.space}"}
    if found.unit:
        facts["unit"] = found.unit
    if found.scores is not None:
        values = found.scores.r2, found.scores.spearman, found.scores.kendall
        texts = (score_text(value, 3) for value in values)
        facts["held-out shapes"] = "R2 {}, Spearman {}, Kendall {}".format(*texts)
    if found.interval is not None:
        facts["interval"] = f"±{found.interval:.3g} holds 90% of new measurements"
    for agreement in found.agreements:
        facts[f"rank agreement with {agreement.source}"] = (
            f"Spearman {score_text(agreement.spearman)} ({agreement.n:,} shapes)"
        )
    if found.source:
        facts["measured"] = "; ".join(f"{name}: {value}" for name, value in found.source.items())
    return facts


def _study(name: str, store: Store, scratch: Path) -> Publication:
    from nastool.recipes.study_recipe import shared_recipe

    summary = store.load(name).summary
    with open_store(f"sqlite:///{scratch / FILE}") as copy:
        store.copy(name, copy)
    files = {FILE: scratch / FILE}
    facts = {
        "evaluations": f"{summary.evaluations:,}",
        "seconds": f"{summary.seconds:.1f}",
        "ended": summary.stop_reason or "not yet",
    }
    # A study of somebody's own objects has no recipe.
    with contextlib.suppress(InvalidInputError):
        recipe = scratch / "study.toml"
        recipe.write_text(shared_recipe(summary).to_toml(), encoding="utf-8")
        files["study.toml"] = recipe
    return Publication(
        "study",
        f"Study {name}",
        files,
        facts,
        (f"nastool show '{name}' --storage {{name}}",),
    )
