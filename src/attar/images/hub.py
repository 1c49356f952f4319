"""Files to and from the Hugging Face hub, and in one line what went wrong there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from attar.core.errors import InputError

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
R = TypeVar("R")


def push(folder: Path, files: list[str], name: str, *, private: bool, token: str | None, message: str) -> str:
    """Upload files of a folder as a data set of the hub, which is made if it is not there; return its address.

    Raises:
        InputError: A name that is none, no token, no connection.
    """
    from huggingface_hub import HfApi

    _check(name)
    api = HfApi(token=token)

    def upload() -> str:
        address = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, repo_type="dataset", folder_path=folder, allow_patterns=files, commit_message=message
        )
        return str(address)

    return _spoken(name, upload)


def pull(name: str, files: list[str], *, revision: str | None = None) -> Path:
    """Download files of a data set of the hub, or find them in the hub's cache.

    Raises:
        InputError: No such data set there, or no connection and none in the cache.
    """
    from huggingface_hub import snapshot_download

    _check(name)

    def download() -> Path:
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
