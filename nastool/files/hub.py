"""Folders on the Hugging Face hub: publishing one with one commit, and fetching what is there.

What lies on the hub is named ``hf://USER/NAME``, with ``@REVISION`` behind it where one is meant,
and ``/FOLDER`` at the end for a folder within. Such a name stands wherever a folder may.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nastool.errors import (
    InvalidInputError,
    MissingDependencyError,
    first_line,
    one_line,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

_NAME = re.compile(
    r"hf://?(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<inside>[^@]+?))?/?"
)

_TEXTS = (".md", ".pdf", ".html", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".cff")
"""Suffixes of files for people, which a push leaves alone."""

_NOTICES = ("license", "licence", "notice", "copying", "authors")
"""What the names of other such files begin with."""


def is_on_hub(path: str | Path) -> bool:
    """Whether a name begins with ``hf://``; a `Path` has lost one of the two strokes."""
    return str(path).startswith("hf:/")


def fetched(path: str | Path) -> Path:
    """Return the folder itself, or where the files of an ``hf://`` name lie once they are fetched.

    Raises:
        InvalidInputError: An ``hf://`` name of another form, or nothing of that name is there.
        NastoolError: The hub cannot be reached, and nothing was fetched from there earlier.
        MissingDependencyError: Without the hub's client.
    """
    if not is_on_hub(path):
        return Path(path)
    found = _NAME.fullmatch(str(path))
    if found is None:
        raise InvalidInputError(
            f"what lies on the hub is named hf://USER/NAME[@REVISION][/FOLDER], got {str(path)!r}"
        )
    repository, revision, inside = found["repository"], found["revision"], found["inside"]
    api = _client()
    patterns = f"{inside}/*" if inside else None
    failed = f"cannot fetch hf://{repository} from the hub"
    with one_line(failed, InvalidInputError, say=said_by_hub):
        found_there = api.snapshot_download(repository, revision=revision, allow_patterns=patterns)
    folder = Path(found_there)
    if inside and not (folder / inside).is_dir():
        raise InvalidInputError(f"hf://{repository} must hold the folder {inside}, got none")
    return folder / (inside or "")


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a folder to the hub, in place of what is there.

    All files come with one commit. It also deletes what an earlier push left: other forms,
    weights, tokenizers and code would be of another model. Files for people stay.

    Args:
        folder: What `export` wrote, or another whole folder.
        repository: ``USER/NAME``; made if it is not there.
        private: Whether it must be private; a new one is made so.

    Returns:
        Its address.

    Raises:
        InvalidInputError: It must be private and is public; nothing was uploaded.
        NastoolError: The hub refuses, or cannot be reached.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }
    return push_files(files, repository, private=private, kept=f"the model is in {folder}")


def push_files(
    files: Mapping[str, Path | str], repository: str, *, private: bool = False, kept: str = ""
) -> str:
    """Upload files to the hub with one commit, in place of what is there; see `push`.

    Args:
        files: Their names on the hub; a text stands for a file that holds it.
        repository: ``USER/NAME``; made if it is not there.
        private: Whether it must be private; a new one is made so.
        kept: What a failure leaves, for the message.

    Returns:
        Its address.

    Raises:
        InvalidInputError: It must be private and is public; nothing was uploaded.
        NastoolError: The hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = _client()
    rest = f"; {kept}" if kept else ""
    with one_line(f"cannot upload to {repository}", rest=rest, say=said_by_hub):
        # None leaves it to what the organisation has set.
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        info = api.model_info(repository)
        _check_private(info, repository, private=private)
        there = [sibling.rfilename for sibling in info.siblings or ()]
        deleted = [name for name in there if name not in files and not _is_for_people(name)]
        api.create_commit(
            repository,
            [
                *(CommitOperationDelete(name, is_folder=False) for name in deleted),
                *(
                    CommitOperationAdd(
                        name, content.encode() if isinstance(content, str) else str(content)
                    )
                    for name, content in files.items()
                ),
            ],
            commit_message="Exported by nastool",
            # Where somebody else pushes meanwhile, one of the two is refused.
            parent_commit=info.sha,
        )
    return str(url)


def said_by_hub(error: Exception) -> str:
    """What an exception of the hub's client says, in one line; its own first line may be a code."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, OSError):
        error = error.__cause__  # it says no more than that one, and that one's first line
    if isinstance(error, errors.GatedRepoError):
        return "its owner lets in whom they know: ask for access on its page on the hub"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is none of this name, or it is private and no token here may read it"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    said = first_line(error)
    answer = getattr(error, "server_message", None)
    if answer and answer.lower() not in said.lower():
        said = f"{said.removesuffix(':')}: {' '.join(answer.split())}"
    return said


def _client() -> HfApi:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            "the hub needs its client: pip install huggingface_hub"
        ) from error
    return huggingface_hub.HfApi()


def check_repository(repository: str, *, private: bool) -> None:
    """Check before the work whether a push may be refused for what the repository is.

    A hub that does not answer now may do so later: that is for `push` to say.

    Raises:
        InvalidInputError: No name of a repository, or it must be private and is public.
    """
    api = _client()
    from huggingface_hub.errors import HFValidationError

    try:
        info = api.model_info(repository)
    except HFValidationError as error:
        raise InvalidInputError(f"--push: {first_line(error)}") from error
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
