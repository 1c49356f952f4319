"""What a program makes in two processes, beside what it makes in one."""

import json
import os
from typing import Any

from two_processes import printed_by

IN_TWO = """
import json, os

for rank in (0, 1):
    if not os.fork():
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        found = made("two")
        if rank == 0:
            print(json.dumps(found), flush=True)
        os._exit(0)
assert [os.wait()[1] for _ in range(2)] == [0, 0]
"""


def two_and_one(program: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `made` of a program gives by name in two processes, and in this one.

    Args:
        program: Defines `made`, which takes "two" or "one". In two processes it may print nothing.
    """
    space: dict[str, Any] = {}
    exec(program, space)
    before = dict(os.environ)
    try:
        return printed_by(program + IN_TWO), json.loads(json.dumps(space["made"]("one")))
    finally:
        os.environ.clear()
        os.environ.update(before)
