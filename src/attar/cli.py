"""`attar VERB ...`: the entry point of the command line.

Only the file of the given verb in `attar.commands` is imported, and only the module of the given method. Torch is
imported late, so that help is quick.
"""

import importlib
import keyword
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from attar.commands.verbs import GROUPS, MAKING, ONCE, VERBS
from attar.core.errors import InputError, Interrupted, Stopped, unknown
from attar.core.failures import HERE, on_one_line, origin, others_ended, told
from attar.core.farewell import leave, message
from attar.core.launcher import line_of, machines, rank, speaks
from attar.core.signals import HANG_UP, INTERRUPT, TERMINATE, asked, met_by

REFUSED, MISTAKE, INTERRUPTED = 2, 70, 130
"""Exit codes: bad input, or a machine that cannot do it; a mistake in attar; stopped from outside."""
TRACEBACK = "ATTAR_TRACEBACK"
"""The variable of the environment that shows where an error came up."""

FIRST = """first:
  attar condense datadam --data digits --ipc 10 --out runs/digits
  attar evaluate runs/digits
"""


def usage() -> str:
    """What `attar --help` prints."""
    width = max(len(f"{verb} {words}") for verb, (words, _) in VERBS.items()) + 2
    groups = []
    for title, verbs in GROUPS.items():
        lines = [f"  {f'{verb} {VERBS[verb][0]}':<{width}}{VERBS[verb][1]}" for verb in verbs]
        groups.append("\n".join([f"{title}:", *lines]))
    longest = max(len(verb) for verb in MAKING)
    held = "\n".join(
        fill(f"  {verb:<{longest}}  {_holding(verb)}", 80, subsequent_indent=" " * (longest + 4)) for verb in MAKING
    )
    shown = "\n\n".join([*groups, f"what the methods work on:\n{held}"])
    return f"""usage: attar VERB ...  (help: attar VERB --help, attar VERB METHOD --help)

Turn something large into something small, and measure how much was kept.

{shown}

{FIRST}"""


def _holding(verb: str) -> str:
    """What the methods of a verb work on, kind by kind."""
    from attar.core.kinds import built_in
    from attar.core.registry import METHODS

    having = {entry.kind for entry in METHODS.values() if entry.verb == verb}
    return ", ".join(kind.holds for kind in built_in().values() if kind.name in having)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Exits with 0 if all went well or the reader of its output has gone, with 2 and one line on bad input or if the
    machine cannot do it, with 130 if it was stopped from outside, and with 70 if attar has a mistake.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _check_streams()
    code = _flushed(_coded(arguments))
    asked.clear()
    if code in (REFUSED, MISTAKE) and not set(arguments[:1]) & set(ONCE):
        leave()
    if code:
        sys.exit(code)


def _coded(arguments: list[str]) -> int:
    """Run the command, say what went wrong, and return the exit code."""
    try:
        with _one_voice(), met_by(_stop, INTERRUPT, TERMINATE, HANG_UP), _plain_warnings():
            _dispatch(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough
        return 0
    except InputError as error:
        _complain(str(error), error)
        return REFUSED
    except Interrupted as stop:
        where = " on every machine" if machines() > 1 else ""
        _complain(f"{stop}; nothing is lost. To continue, run the same command again{where}:", stop)
        if speaks():
            _print(f"  {line_of(arguments)}")
        return INTERRUPTED
    except KeyboardInterrupt as stop:
        again = " To continue, run the same command again." if arguments[:1] and arguments[0] in MAKING else ""
        _complain(f"interrupted.{again}", stop)
        return INTERRUPTED
    except Exception as error:  # everything else ends here, once for all verbs
        line = told(error)
        if line is not None:
            _complain(line, error)
            return REFUSED
        hint = f"{TRACEBACK}=1 in the environment shows the traceback."
        _complain(f"internal error, please report it: {origin(error)}. {hint}", error)
        return MISTAKE
    return 0


def _stop(number: int, frame: object) -> NoReturn:
    """What Ctrl-C, SIGTERM and SIGHUP do outside a run's steps."""
    asked.set()
    raise Stopped


def _check_streams() -> None:
    """See that output can be written: names that are not UTF-8 are escaped, and a closed stream takes everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """Write what is left of the output. Where nobody takes it, forget it, so that Python does not try again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError) and not code:
            _complain(f"the output cannot be written: {error.strerror}.", error)
            return REFUSED
    return code


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
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print attar's own warnings as notes on one line; those of libraries stay as they are."""
    usual = warnings.formatwarning

    def formatted(message: Any, category: type[Warning], *place: Any, **more: Any) -> str:
        own = category is UserWarning and Path(place[0]).is_relative_to(HERE)
        return f"attar: note: {on_one_line(str(message))}\n" if own else usual(message, category, *place, **more)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _complain(text: str, error: BaseException) -> None:
    """Say on one line what went wrong. Several processes say it once (see `attar.core.farewell`)."""
    line = on_one_line(text)
    stopped = isinstance(error, KeyboardInterrupt)
    said = (line if speaks() else None) if stopped else message(line, lost=others_ended(error))
    if said is not None:
        _print(f"attar: {said}")
    if os.environ.get(TRACEBACK) not in (None, "", "0"):
        _print("".join(traceback.format_exception(error)).rstrip())


def _print(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
