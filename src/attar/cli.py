"""`attar VERB ...`: the command line, made from the settings' own types and sentences.

Two stages: the table below names the one file of `attar.commands` that is imported, and for a verb with methods the
registry names the one method. Torch comes late, so that help is quick.
"""

import importlib
import keyword
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from attar.core.errors import InputError, Interrupted, unknown
from attar.core.launcher import rank

MAKING = ("condense", "compress", "distill", "train")
"""Verbs that make something by a method; they have one face."""
VERBS = {
    "condense": ("METHOD --data DATA", "a labelled data set into a few samples per class"),
    "compress": ("METHOD --data DATA", "a mixture or a network's convolutions into fewer bytes"),
    "distill": ("METHOD --teacher TEACHER --data DATA", "a trained model into a smaller one, the student"),
    "evaluate": ("FOLDER", "train fresh networks on a condensed set and test them; or test a student"),
    "label": ("FOLDER", "store a teacher's answers to many views of a condensed set"),
    "train": ("METHOD --data DATA", "what other methods build on: experts for trajectory matching"),
    "methods": ("", "what there is, one line each"),
    "data": ("DATA", "what a data set holds, as attar reads it"),
    "cite": ("METHOD", "the paper, as BibTeX"),
    "import": ("FILE --data DATA", "a released set (.pt, pictures) into an artefact"),
    "report": ("FOLDER", "everything below a folder, as one static page"),
    "push": ("FOLDER user/name", "an artefact to the hub"),
    "bench": ("TABLE", "a table of methods, measured beside the published figures"),
}
"""Verb: what follows it, and what it does. Its code is `attar.commands.VERB`, or `attar.commands.making`."""

FIRST = """first:
  attar condense datadam --data digits --ipc 10 --out runs/digits
  attar evaluate runs/digits
"""


def usage() -> str:
    """What `attar --help` prints."""
    lines = {f"{verb} {words}": what for verb, (words, what) in VERBS.items()}
    width = max(map(len, lines)) + 2
    verbs = "\n".join(f"  {line:<{width}}{what}" for line, what in lines.items())
    longest = max(len(verb) for verb in MAKING)
    held = "\n".join(f"  {verb:<{longest}}  {_holding(verb)}" for verb in MAKING)
    return f"""usage: attar VERB ... [--help]

attar turns something large into something small that does the same job, and measures how much was kept.

verbs:
{verbs}

what there are methods for:
{held}

{FIRST}"""


def _holding(verb: str) -> str:
    """What a verb works on, kind by kind."""
    from attar.core.kinds import built_in

    return ", ".join(kind.holds for kind in built_in().values() if verb in kind.tasks)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 2 and one line on bad input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _one_voice():
            _dispatch(arguments)
            sys.stdout.flush()
    except InputError as error:
        _complain(str(error))
        sys.exit(2)
    except Interrupted as stop:
        _complain(f"{stop}; nothing is lost. To go on, run the same command again:\n  attar {_quoted(arguments)}")
        sys.exit(130)
    except KeyboardInterrupt:
        _complain("interrupted.")
        sys.exit(130)
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return
    if arguments[0] == "--version":
        from attar.core.version import __version__

        print(f"attar {__version__}")
        return
    verb, *rest = arguments
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    if verb in MAKING:
        importlib.import_module("attar.commands.making").main(verb, rest)
        return
    module = f"{verb}_" if keyword.iskeyword(verb) else verb
    importlib.import_module(f"attar.commands.{module}").main(rest)


@contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes on one run, only the first prints results."""
    if rank() == 0:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def _complain(text: str) -> None:
    if rank() == 0:
        print(f"attar: {text}", file=sys.stderr)


def _quoted(arguments: list[str]) -> str:
    import shlex

    return shlex.join(arguments)


if __name__ == "__main__":
    main()
