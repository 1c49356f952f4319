"""Processes that find this on their path train briefly: settings that count steps or epochs take a few at most.

The tests of examples and pages use it (`briefly` in `conftest.py`). What they hold is that the code runs, each line of
it, and not what comes of it; the trainings as they are typed take five minutes, and nothing else of them is looked at.
With `ATTAR_AS_TYPED=1` in the environment they run as they are typed.
"""

import functools
import importlib.abc
import importlib.machinery
import os
import re
import sys

COUNTS = re.compile(r"(^|_)(steps|epochs)$")
MOST = {"steps": 4, "epochs": 2}


class Finder(importlib.abc.MetaPathFinder):
    """Finds the settings of attar as usual, and holds them to few steps."""

    def find_spec(self, name, path, target=None):
        if name != "attar.core.settings":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def load_and_hold(module):
            load(module)
            module.Settings.__post_init__ = held(module.Settings.__post_init__)

        spec.loader.exec_module = load_and_hold
        return spec


def held(check):
    """What settings do once they are there, after large counts have been made small."""

    @functools.wraps(check)
    def hold_and_check(self):
        for name in self.__dataclass_fields__:
            counted, value = COUNTS.search(name), getattr(self, name)
            if counted and isinstance(value, int):
                object.__setattr__(self, name, min(value, MOST[counted[2]]))
        check(self)

    return hold_and_check


if not os.environ.get("ATTAR_AS_TYPED"):
    sys.meta_path.insert(0, Finder())
