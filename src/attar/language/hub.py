"""A model's folder to the Hugging Face hub, and in one line what went wrong there."""

import re
from pathlib import Path

from attar.core.errors import InputError

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def push(folder: Path, files: list[str], name: str, *, private: bool, token: str | None, message: str) -> str:
    """Upload files of a folder as a model of the hub, which is made if it is not there; return its address.

    Raises:
        InputError: A name that is none, no token, no connection.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name on the hub; give user/name.")
    api = HfApi(token=token)
    try:
        address = api.create_repo(name, repo_type="model", private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=files, commit_message=message)
    except LocalTokenNotFoundError:
        raise InputError("there is no token for the hub; run `hf auth login`, or give one (--token).") from None
    except RepositoryNotFoundError:
        raise InputError(f"{name} is not on the hub, or not yours to see; check the name and the token.") from None
    except HfHubHTTPError as error:
        raise InputError(f"the hub refuses {name} ({str(error).splitlines()[0]}).") from None
    except Exception as error:  # what a lost connection raises depends on the library under the hub's
        if not isinstance(error, OSError) and not type(error).__module__.startswith("http"):
            raise
        raise InputError(f"the hub cannot be reached for {name}.") from None
    return str(address)
