"""Artefacts to and from the Hugging Face hub."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attar.core.errors import InputError
from attar.images.artefact import FILES, CondensedImages
from attar.images.card import SCORES

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
R = TypeVar("R")


def push(
    small: CondensedImages, name: str, *, private: bool = False, token: str | None = None, message: str | None = None
) -> str:
    """Upload an artefact as a data set of the hub, without the run that made it.

    Args:
        small: A condensed set, saved or not.
        name: `user/name`; made if it is not there.
        private: Whether only its owner sees it.
        token: Of the account; the one that `hf auth login` has left, unless given.
        message: What the commit says.

    Returns:
        Its address.

    Raises:
        InputError: A name that is none, no token, no connection; nothing is changed here.
    """
    from huggingface_hub import HfApi

    _check(name)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as scratch:
        folder = small.folder or Path(scratch)
        if small.folder is None:
            small.save(folder)

        def upload() -> str:
            address = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name,
                repo_type="dataset",
                folder_path=folder,
                allow_patterns=[*FILES, SCORES],
                commit_message=message or f"{small.origin.source}, condensed by {small.origin.method}",
            )
            return str(address)

        return _spoken(name, upload)


def pull(name: str, *, revision: str | None = None) -> Path:
    """Download an artefact from the hub, or find it in the hub's cache.

    Raises:
        InputError: No such data set there, or no connection and none in the cache.
    """
    from huggingface_hub import snapshot_download

    _check(name)

    def download() -> Path:
        files = [*FILES, SCORES]
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=files))

    return _spoken(name, download)


def looks_like_one(name: str) -> bool:
    """Whether a text may name a data set of the hub."""
    return NAME.fullmatch(name) is not None


def _check(name: str) -> None:
    if not looks_like_one(name):
        raise InputError(f"{name!r} is no name on the hub; give user/name.")


def _spoken(name: str, action: Callable[[], R]) -> R:
    """Do something on the hub; say in one line what went wrong."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

    try:
        return action()
    except LocalTokenNotFoundError:
        raise InputError("there is no token for the hub; run `hf auth login`, or give one (--token).") from None
    except RepositoryNotFoundError:
        raise InputError(f"{name} is not on the hub, or not yours to see; check the name and the token.") from None
    except HfHubHTTPError as error:
        raise InputError(f"the hub refuses {name} ({str(error).splitlines()[0]}).") from None
    except Exception as error:  # what a lost connection raises depends on the library under the hub's
        if not isinstance(error, OSError) and not type(error).__module__.startswith("http"):
            raise
        raise InputError(f"the hub cannot be reached for {name}, and it is not in the cache.") from None
