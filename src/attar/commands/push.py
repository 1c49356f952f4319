"""`attar push FOLDER user/name`: an artefact to the hub."""

from pathlib import Path

from attar.commands.shared import parse


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    from tyro.conf import Positional

    def push(
        folder: Positional[Path],
        name: Positional[str],
        private: bool = False,
        token: str | None = None,
        message: str | None = None,
    ) -> None:
        """Upload a condensed set to the Hugging Face hub, without the run that made it.

        Args:
            folder: The condensed set.
            name: user/name; made if it is not there.
            private: Let only its owner see it.
            token: Of the account; the one that `hf auth login` has left, unless given.
            message: What the commit says.
        """
        from attar.images.artefact import CondensedImages

        small = CondensedImages.load(folder)
        print(small.to_hub(name, private=private, token=token, message=message))

    parse(push, "attar push", arguments)
