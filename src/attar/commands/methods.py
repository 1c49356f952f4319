"""`attar methods [KIND]`: list the methods by kind; `--json` prints them for programs."""

import json
from dataclasses import asdict
from difflib import get_close_matches

from attar.core.errors import InputError
from attar.core.flags import is_flag
from attar.core.help import HELP, method_line, methods_table, part_line, parts_table
from attar.core.kinds import kind_meant, kinds
from attar.core.parts import parts
from attar.core.registry import Entry, methods

JSON = "--json"
USAGE = "usage: attar methods [KIND | VERB | METHOD | PART] [--json]"
ABOUT = f"""{USAGE}

All methods, one line each, by kind and by family, and the parts of a training:
losses and heads. Give a kind or a verb to see its methods only, or a method or
a part to see what it does. {JSON} prints a list of objects for programs: name,
kind, verb, family, summary, paper, module, settings and presets.

kinds:"""


def main(arguments: list[str]) -> None:
    """Parse the words after the verb and do it."""
    if any(word in HELP for word in arguments):
        print("\n".join([ABOUT, *(f"  {kind.name:<14}{kind.holds}" for kind in kinds().values())]))
        return
    words = [word for word in arguments if word != JSON]
    for word in words:
        if is_flag(word):
            near = f"; did you mean {JSON!r}?" if "j" in word else "."
            raise InputError(f"unknown flag {word}{near} For help: attar methods --help")
    part = parts().get(" ".join(words))
    if part:
        print(json.dumps([asdict(part)], ensure_ascii=False, indent=2) if JSON in arguments else part_line(part))
        return
    chosen = _chosen(" ".join(words))
    if JSON in arguments:
        print(json.dumps([entry.to_json() for entry in chosen.values()], ensure_ascii=False, indent=2))
    elif words and list(chosen) == [words[0]]:
        print(method_line(chosen[words[0]]))
    else:
        print(methods_table(chosen))
        if not words:
            print(f"\n{parts_table()}")


def _chosen(word: str) -> dict[str, Entry]:
    """The methods that a word is for: a kind's by its name or by what one holds, a verb's, or the one of that name.

    Raises:
        InputError: It is none of these.
    """
    known = methods()
    if not word:
        return known
    if word in known:
        return {word: known[word]}
    found, kind = methods(verb=word), kind_meant(word)
    if found or kind:
        return found or methods(kind.name if kind else None)
    near = get_close_matches(word, [*kinds(), *known, *dict.fromkeys(entry.verb for entry in known.values())], n=1)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(f"unknown kind, verb or method {word!r}{guess} Kinds: {', '.join(kinds())}.")
