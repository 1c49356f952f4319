"""Generated data: a toy language of commands from a small grammar, with prompts and one right answer each.

Nothing is downloaded. A prompt names a task and a sentence; the answer is the changed sentence. A model of a few layers
learns it in minutes. A model with a single narrow layer does not quite learn it, so distillation can help.
"""

from collections.abc import Iterator

from attar.core.seeds import uniform

ADJECTIVES = ("small", "old", "grey", "quiet", "young", "tired", "clever", "green")
ANIMALS = ("fox", "heron", "otter", "mouse", "badger", "crow", "hare", "toad")
VERBS = {
    "carries": "carried",
    "finds": "found",
    "follows": "followed",
    "hides": "hid",
    "sees": "saw",
    "steals": "stole",
}
THINGS = ("acorn", "basket", "berry", "button", "feather", "lantern", "pebble", "spoon")
PLACES = ("behind the mill", "by the river", "in the garden", "near the old bridge", "under the hedge", "on the hill")
TASKS = ("Turn round", "Tell as past", "Ask where", "Answer who")


def drawn(count: int, part: str) -> list[dict[str, str]]:
    """`count` prompts and responses of a part of the data (train, validation, test). They are the same each time."""
    return list(_drawn(count, part))


def _drawn(count: int, part: str) -> Iterator[dict[str, str]]:
    for row in uniform(0, f"phrases {part}", count, 7).tolist():
        draws = iter(row)
        task = TASKS[int(next(draws) * len(TASKS))]
        who = f"the {_one_of(ADJECTIVES, next(draws))} {_one_of(ANIMALS, next(draws))}"
        verb = _one_of(tuple(VERBS), next(draws))
        what = f"the {_one_of(ADJECTIVES, next(draws))} {_one_of(THINGS, next(draws))}"
        where = _one_of(PLACES, next(draws))
        told = {
            "Turn round": f"{where.capitalize()}, {who} {verb} {what}.",
            "Tell as past": f"{who.capitalize()} {VERBS[verb]} {what} {where}.",
            "Ask where": f"Where was {what} when {who} {VERBS[verb]} it? It was {where}.",
            "Answer who": f"It was {who} who {VERBS[verb]} {what}.",
        }
        yield {"prompt": f"{task}: {who} {verb} {what} {where}.\n", "response": told[task]}


def _one_of(options: tuple[str, ...], draw: float) -> str:
    return options[int(draw * len(options))]
