"""`attar push FOLDER user/name`: an artefact to the hub."""

from pathlib import Path

from attar.commands.shared import parse
from attar.core.errors import InputError


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
        """Upload what attar made to the Hugging Face hub, without the run that made it.

        Condensed sets become data sets there; students, language models, mixtures and convolution plans become models.

        Args:
            folder: A condensed set, a student, a language model, a mixture or a plan of convolutions.
            name: user/name; made if it is not there.
            private: Let only its owner see it.
            token: Of the account; the one that `hf auth login` has left, unless given.
            message: What the commit says.
        """
        from attar.verbs import open_artefact

        if not folder.is_dir():
            raise InputError(f"{folder} is no folder.")
        print(open_artefact(folder).to_hub(name, private=private, token=token, message=message))

    parse(push, "attar push", arguments)
