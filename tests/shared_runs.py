"""What a program makes in several processes, beside what it makes in one."""

import json
import os
from typing import Any

from two_processes import printed_by

IN_SEVERAL = """
import json, os

for rank in range(COUNT):
    if not os.fork():
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "COUNT", "LOCAL_WORLD_SIZE": "COUNT"}
        found = made("two")
        if rank == 0:
            print(json.dumps(found), flush=True)
        os._exit(0)
assert [os.wait()[1] for _ in range(COUNT)] == [0] * COUNT
"""


def two_and_one(program: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `made` of a program gives by name in two processes, and in this one.

    Args:
        program: Defines `made`, which takes "two" or "one". In two processes it may print nothing.
    """
    return several_and_one(program, 2)


def several_and_one(program: str, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `two_and_one`, in so many processes."""
    space: dict[str, Any] = {}
    exec(program, space)
    before = dict(os.environ)
    try:
        return printed_by(program + IN_SEVERAL.replace("COUNT", str(count))), json.loads(
            json.dumps(space["made"]("one"))
        )
    finally:
        os.environ.clear()
        os.environ.update(before)
