"""The front matter of cards: results, data and models as the hub reads them, and the licence that a person has given.

Every text that comes from elsewhere is made one line of printable characters before it is written as YAML. attar gives
no licence: that is for whoever publishes. One that stands in the front matter of a card stays when it is written again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attar.core import hub
from attar.core.cell import Cell
from attar.core.errors import InputError, shortened
from attar.core.score import Score

METRICS = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "f1": "f1",
    "macro f1": "f1",
    "auroc": "roc_auc",
    "perplexity": "perplexity",
    "rouge-l": "rougeL",
    "recall": "recall",
    "precision": "precision",
    "fid": "fid",
    "mean squared error": "mse",
    "map": "mean_average_precision",
}
"""The hub's words for what is measured, by attar's. Others are their own words, joined by underscores."""
STARTS = ("student", "encoder")
"""Settings that name what a training starts from."""
TEACHERS = ("teacher", "classifier", "network")
"""Settings that name what an artefact learns from."""
TERMS = ("license", "license_name", "license_link")
"""Entries of the front matter that a person gives, and attar keeps."""
NO_TERMS = "# license: not given. Write one here, such as `license: cc-by-4.0`, or give one to `attar push --license`."
LICENCE = re.compile(r"[\w][\w.+-]{0,60}")
"""What the name of a licence looks like: `apache-2.0`."""
LONGEST = 300


def clean(text: Any) -> str:
    """A text on one line, of printable characters, and of bounded length."""
    line = " ".join(str(text).split())
    return shortened("".join(letter for letter in line if letter.isprintable()), LONGEST)


def results(
    made: Any, cells: Sequence[Cell], *, task: str, metric: str = "", split: str | None = "test"
) -> list[dict[str, Any]]:
    """The scores of an artefact as entries of the hub's model index; none where there are none.

    Args:
        made: The artefact, with an origin.
        cells: Its scores.
        task: The hub's word for what it is for.
        metric: What is measured, where columns are networks.
        split: The part of the data on which it was measured.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    data = clean(made.origin.source)
    names = data_on_hub(made.origin)
    found = [
        EvalResult(
            task_type=task,
            dataset_type=names[0] if names else _joined(data),
            dataset_name=data,
            dataset_split=split,
            metric_type=kind,
            metric_name=name,
            metric_value=value,
            verified=False,
        )
        for kind, name, value in _metrics(known_scores(made, cells), metric)
    ]
    index: list[dict[str, Any]] = eval_results_to_model_index(clean(made.title), found) if found else []
    return index


def known_scores(made: Any, cells: Sequence[Cell]) -> list[Cell]:
    """The scores that were measured last, and those of other columns from when the artefact was made."""
    known = {cell.column for cell in cells}
    return [*cells, *(cell for cell in getattr(made, "first_scores", ()) if cell.column not in known)]


def _metrics(cells: Sequence[Cell], metric: str) -> Iterator[tuple[str, str, float]]:
    """Type, name and value of every score and of its spread."""
    for cell in cells:
        what = f"{metric} of {cell.column}" if metric else cell.column
        told = f", {cell.how}" if cell.how else ""
        yield from _scores(_metric(metric or cell.column), what, told, cell.score)
        for name, more in cell.further.items():
            kind = _metric(f"{metric or cell.column} {name}" if metric else name)
            yield from _scores(kind, f"{what}, {name}" if metric else name, told, more.score)


def _scores(kind: str, what: str, told: str, score: Score) -> Iterator[tuple[str, str, float]]:
    unit = f" ({score.unit})" if score.unit else ""
    if abs(score.value) < float("inf"):
        yield kind, clean(f"{what}{unit}{told}"), float(score.value)
    if score.spread is not None and score.spread < float("inf"):
        name = f"standard deviation of {what}{unit} over {score.n} values{told}"
        yield f"{kind}_std", clean(name), float(score.spread)


def _metric(what: str) -> str:
    return METRICS.get(what.lower(), _joined(what))


def _joined(text: str) -> str:
    """A text as a name of the hub: small letters and figures, joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower(), flags=re.ASCII).strip("_")[:96] or "unknown"


def data_on_hub(origin: Any) -> list[str]:
    """The names on the hub of the data that an artefact was made from."""
    call = _call(origin)
    task = call.get("task")
    corpus = task.get("corpus") if isinstance(task, Mapping) else None
    return _of_hub(call, [call.get("data"), corpus])


def models_on_hub(origin: Any) -> tuple[list[str], str | None]:
    """The names on the hub of what a model was made from, and how it was: as the hub says it, where it has a word.

    That is what its training started from, or else its teachers.
    """
    call = _call(origin)
    groups = (call.get("task"), call.get("settings"))
    starts = _of_hub(call, [value for group in groups for value in _named(group, STARTS)])
    if starts:
        return starts, "finetune"
    return _of_hub(call, [value for group in groups for value in _named(group, TEACHERS)]), None


def teachers_of(origin: Any) -> list[str]:
    """The teachers of a student as they were named when it was made; also the model on a server that answered."""
    task = _call(origin).get("task")
    roles = [task.get(role) for role in ("teacher", "server")] if isinstance(task, Mapping) else []
    return [clean(name) for role in roles for name in _names_in(role)]


def _names_in(role: Any) -> list[str]:
    """The networks or models that a role names, by themselves or among settings."""
    named = role.get("network", role.get("model")) if isinstance(role, Mapping) else role
    return [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str) and name]


def _call(origin: Any) -> Mapping[str, Any]:
    call = getattr(origin, "call", None)
    return call if isinstance(call, Mapping) else {}


def _of_hub(call: Mapping[str, Any], texts: Sequence[Any]) -> list[str]:
    """The names on the hub among some texts, which were there when the artefact was made; each once."""
    there = call.get("hub")
    known = there if isinstance(there, (list, tuple)) else ()
    names = [hub.name_in(text) for text in texts if isinstance(text, str)]
    return list(dict.fromkeys(name for name in names if name in known and hub.may_be_one(name)))


def _named(group: Any, names: Sequence[str], *, inside: bool = False) -> Iterator[str]:
    """The texts of settings with one of these names, and those below them."""
    if isinstance(group, Mapping):
        for name, value in group.items():
            yield from _named(value, names, inside=inside or name in names)
    elif isinstance(group, (list, tuple)):
        for value in group:
            yield from _named(value, names, inside=inside)
    elif inside and isinstance(group, str):
        yield group


def check_licence(name: str) -> str:
    """The name of a licence as the hub has it.

    Raises:
        InputError: It is no name.
    """
    if LICENCE.fullmatch(name) is None:
        raise InputError(f"{shortened(name)!r} is not the name of a licence. Give the hub's, such as cc-by-4.0 or mit.")
    return name.lower()


def terms_in(card: Path) -> dict[str, str]:
    """The licence in the front matter of a card; nothing of one that is not there or cannot be read."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        known = metadata_load(card) if card.is_file() else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    found = {name: known.get(name) for name in TERMS} if isinstance(known, dict) else {}
    return {name: clean(value) for name, value in found.items() if isinstance(value, str) and clean(value)}


def with_terms(card: str, terms: Mapping[str, str]) -> str:
    """A card with a licence in the place where it says that it has none."""
    return card.replace(NO_TERMS, as_yaml(terms) if terms else NO_TERMS, 1)


def as_yaml(facts: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    import yaml

    text: str = yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True, line_break="\n")
    return text.strip()
