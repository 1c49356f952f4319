"""Upload to and download from the Hugging Face hub, with every failure told on one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from attar.core.errors import InputError

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
BARE = re.compile(r"[\w-][\w.-]{0,95}")
"""A name of the hub's first models, which have no user: gpt2."""
RepoType = Literal["dataset", "model"]
REPO_TYPES: tuple[RepoType, ...] = ("dataset", "model")
R = TypeVar("R")


class AbsentError(InputError):
    """The hub has no repository of this name and type, or does not show it."""


def push(
    folder: Path, files: list[str], name: str, *, repo_type: RepoType, private: bool, token: str | None, message: str
) -> str:
    """Upload files of a folder to a repository of the hub, which is made if it is not there; return its address.

    Args:
        folder: Where the files lie.
        files: Their names or patterns, relative to the folder; what matches none stays here.
        name: `user/name`.
        repo_type: Whether it is a data set or a model.
        private: Whether only its owner sees it.
        token: Token of the account. Default: the token that `hf auth login` has stored.
        message: What the commit says.

    Raises:
        InputError: A name that is none, no token, no connection.
    """
    from huggingface_hub import HfApi

    _check(name)
    api = HfApi(token=token)

    def upload() -> str:
        address = api.create_repo(name, repo_type=repo_type, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, repo_type=repo_type, folder_path=folder, allow_patterns=files, commit_message=message
        )
        return str(address)

    return _spoken(name, upload)


def pull(name: str, files: list[str], *, repo_type: RepoType, revision: str | None = None) -> Path:
    """Download files of a repository of the hub, or find them in the hub's cache; return their folder.

    Raises:
        InputError: No such data set or model there, or no connection and none in the cache.
    """
    from huggingface_hub import snapshot_download

    _check(name)

    def download() -> Path:
        return Path(snapshot_download(name, repo_type=repo_type, revision=revision, allow_patterns=files))

    return _spoken(name, download)


def find(name: str, file: str) -> Path:
    """The folder of the data set of this name that holds a file, or else of the model.

    Raises:
        InputError: Neither does, or no connection and none in the cache.
    """
    refusals = []
    for repo_type in REPO_TYPES:
        try:
            folder = pull(name, [file], repo_type=repo_type)
        except InputError as refusal:
            refusals.append(refusal)
            continue
        if (folder / file).is_file():
            return folder
    if len(refusals) < len(REPO_TYPES):
        raise InputError(f"{name} is on the hub, but attar did not make it: it holds no {file}.")
    # That one of the two is absent says nothing, where the other cannot be reached.
    why = next((refusal for refusal in refusals if not isinstance(refusal, AbsentError)), refusals[0])
    raise type(why)(f"there is no folder {name} here, and {why}")


def looks_like_one(name: str) -> bool:
    """Whether a text may name a repository of the hub."""
    return NAME.fullmatch(name) is not None


def may_be_one(name: str) -> bool:
    """Whether a text may name a repository of the hub, if it is known to: `gpt2` is also what a network is called."""
    return looks_like_one(name) or BARE.fullmatch(name) is not None


def name_in(text: str) -> str:
    """The name of a repository in words that name a model or data: `transformers:user/name`, `user/name:part`."""
    return text.removeprefix("transformers:").partition(":")[0]


def _check(name: str) -> None:
    if not looks_like_one(name):
        raise InputError(f"{name!r} is not a name on the hub. Give user/name.")


def _spoken(name: str, action: Callable[[], R]) -> R:
    """Do something on the hub; say in one line what went wrong."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
    )

    unreached = f"the hub cannot be reached, and {name} is not in the cache."

    try:
        return action()
    except LocalTokenNotFoundError:
        raise InputError("there is no token for the hub. Run `hf auth login`, or give --token.") from None
    except LocalEntryNotFoundError:  # in some versions an answer of the hub, in others a file that is missing
        raise InputError(unreached) from None
    except RepositoryNotFoundError:
        raise AbsentError(
            f"{name} is not on the hub, or you have no access to it. Check the name and the token."
        ) from None
    except HfHubHTTPError as error:
        raise InputError(f"the hub refuses {name} ({str(error).splitlines()[0]}).") from None
    except Exception as error:  # what a lost connection raises depends on the library under the hub's
        if not isinstance(error, OSError) and not type(error).__module__.startswith("http"):
            raise
        raise InputError(unreached) from None
