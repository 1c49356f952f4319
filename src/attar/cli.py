"""`attar VERB ...`: the entry point of the command line.

Only the file of the given verb in `attar.commands` is imported, and only the module of the given method. Torch is
imported late, so that help is quick.
"""

import importlib
import keyword
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from attar.commands.verbs import GROUPS, MAKING, ONCE, VERBS
from attar.core.errors import InputError, Interrupted, unknown
from attar.core.launcher import rank, speaks

FIRST = """first:
  attar condense datadam --data digits --ipc 10 --out runs/digits
  attar evaluate runs/digits

Help of any verb or method: attar VERB --help, attar VERB METHOD --help
"""


def usage() -> str:
    """What `attar --help` prints."""
    width = max(len(f"{verb} {words}") for verb, (words, _) in VERBS.items()) + 2
    groups = []
    for title, verbs in GROUPS.items():
        lines = [f"  {f'{verb} {VERBS[verb][0]}':<{width}}{VERBS[verb][1]}" for verb in verbs]
        groups.append("\n".join([f"{title}:", *lines]))
    longest = max(len(verb) for verb in MAKING)
    held = "\n".join(f"  {verb:<{longest}}  {_holding(verb)}" for verb in MAKING)
    shown = "\n\n".join([*groups, f"what the methods work on:\n{held}"])
    return f"""usage: attar VERB ... [--help]

attar turns something large into something small that does the same job, and
measures how much was kept.

{shown}

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
        _complain(" ".join(line.strip() for line in str(error).splitlines()))
        sys.exit(2)
    except Interrupted as stop:
        _complain(f"{stop}; nothing is lost. To continue, run the same command again:\n  attar {_quoted(arguments)}")
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
    if arguments[0] in ("-V", "--version"):
        from attar.core.version import __version__

        print(f"attar {__version__}")
        return
    verb, *rest = arguments
    if verb not in VERBS:
        raise _unknown(verb)
    if verb in ONCE and rank() > 0:
        return
    if verb in MAKING:
        importlib.import_module("attar.commands.making").main(verb, rest)
        return
    module = f"{verb}_" if keyword.iskeyword(verb) else verb
    importlib.import_module(f"attar.commands.{module}").main(rest)


def _unknown(word: str) -> InputError:
    """The error for a word that is not a verb; where it is a method, with the verb that it goes with."""
    from attar.core.flags import is_flag
    from attar.core.registry import methods

    if is_flag(word):
        return InputError(f"a verb must come before {word}: {', '.join(VERBS)}. For help: attar --help")
    entry = methods().get(word.replace("_", "-"))
    if entry is not None:
        return InputError(f"{word!r} is a method, not a verb: attar {entry.verb} {entry.name}")
    return unknown("verb", word, VERBS)


@contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes on one run, only the first prints results."""
    if rank() == 0:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def _complain(text: str) -> None:
    if speaks():
        print(f"attar: {text}", file=sys.stderr)


def _quoted(arguments: list[str]) -> str:
    import shlex

    return shlex.join(arguments)


if __name__ == "__main__":
    main()
