"""Publishing an exported folder on the hub: one commit that leaves one model there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nastool.errors import InvalidInputError, NastoolError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_TEXTS = (".md", ".pdf", ".html", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".cff")
"""Suffixes of files for people, which a push leaves alone."""

_NOTICES = ("license", "licence", "notice", "copying", "authors")
"""What the names of other such files begin with."""


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload an exported folder to the hub, in place of the model that is there.

    All files come with one commit. It also deletes what an earlier export left: other forms,
    weights, tokenizers and code would be of another model. Files for people stay.

    Args:
        folder: What `export` wrote.
        repository: ``USER/NAME``; made if it is not there.
        private: Whether it must be private; a new one is made so.

    Returns:
        Its address.

    Raises:
        InvalidInputError: It must be private and is public; nothing was uploaded.
        NastoolError: The hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    with _one_line(repository, folder):
        # None leaves it to what the organisation has set.
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        info = api.model_info(repository)
        _check_private(info, repository, private=private)
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
        }
        there = [sibling.rfilename for sibling in info.siblings or ()]
        deleted = [name for name in there if name not in files and not _is_for_people(name)]
        api.create_commit(
            repository,
            [
                *(CommitOperationDelete(name, is_folder=False) for name in deleted),
                *(CommitOperationAdd(name, str(path)) for name, path in files.items()),
            ],
            commit_message="Exported by nastool",
            # Where somebody else pushes meanwhile, one of the two is refused.
            parent_commit=info.sha,
        )
    return str(url)


def check_repository(repository: str, *, private: bool) -> None:
    """Check before the work whether a push may be refused for what the repository is.

    A hub that does not answer now may do so later: that is for `push` to say.

    Raises:
        InvalidInputError: No name of a repository, or it must be private and is public.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        info = HfApi().model_info(repository)
    except HFValidationError as error:
        raise InvalidInputError(f"--push: {str(error).splitlines()[0]}") from error
    except Exception:  # noqa: BLE001 - not there yet, or not reached
        return
    _check_private(info, repository, private=private)


def _check_private(info: ModelInfo, repository: str, *, private: bool) -> None:
    if private and not info.private:
        raise InvalidInputError(
            f"--private: {repository} is there already and public; make it private on the hub "
            "first, or name another; nothing was uploaded"
        )


def _is_for_people(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        path.parts[0].startswith(".")
        or path.suffix.lower() in _TEXTS
        or path.name.lower().startswith(_NOTICES)
    )


@contextmanager
def _one_line(repository: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except NastoolError:
        raise
    # The hub's client raises dozens of types, its transport's included.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NastoolError(
            f"cannot upload to {repository}: {reason}; the model is in {folder}"
        ) from error
