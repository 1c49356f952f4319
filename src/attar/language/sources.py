"""Text for training: prompts with responses, conversations, or plain text, from files, the hub, or Python."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from attar.core.errors import InputError
from attar.core.jsonfiles import parsed
from attar.core.notebook import Told
from attar.core.provenance import ARTEFACT, asked
from attar.language.lines import LARGE, Lines, on_disk, without_empty_others
from attar.language.phrases import drawn

Form = Literal["pair", "chat", "text"]
SPLITS = ("train", "validation", "test")
ANSWERS = ("completion", "response", "output", "answer")
SUFFIXES = (".jsonl", ".json", ".txt", ".md", ".parquet")
PHRASES = {"train": 600, "validation": 100, "test": 100}


@dataclass(frozen=True)
class TextSource(Told):
    """Rows of text in three parts. All choices are made on `validation`; `test` is read once."""

    name: str
    form: Form
    """pair: `prompt` and `response`, and `others` for further references. chat: `messages`, the last of which is the
    response. text: `text`."""
    train: Any
    """A `datasets.Dataset`, as are the other parts."""
    validation: Any
    test: Any

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all rows and their parts."""
        digest = hashlib.blake2b(digest_size=16)
        for split in SPLITS:
            digest.update(split.encode())
            for row in getattr(self, split):
                digest.update(json.dumps(row, sort_keys=True).encode())
        return digest.hexdigest()

    def texts(self) -> list[str]:
        """The texts of the training rows, from which a tokenizer is learned."""
        found = []
        for row in self.train:
            if self.form == "chat":
                found += [message["content"] for message in row["messages"]]
            else:
                found += [row["text"]] if self.form == "text" else [row["prompt"] + row["response"]]
        return found

    def __str__(self) -> str:
        what = {"pair": "prompts with responses", "chat": "conversations", "text": "texts"}[self.form]
        return (
            f"{self.name}: {len(self.train):,} {what} to train on, {len(self.validation):,} for validation, "
            f"{len(self.test):,} for testing"
        )


def load(data: Any = "phrases", *, validation: int | None = None, test: int | None = None) -> TextSource:
    """Read text for training.

    Args:
        data: `phrases`; a JSON lines, JSON, parquet or text file; a folder of such files, whose parts may be called
            train, validation and test; user/name[:configuration] on the hub; a `datasets.Dataset` or `DatasetDict`; or
            a list of rows or texts. Rows have `prompt` and `completion` (or response, output, answer), `instruction`,
            `input` and `output`, `messages`, or `text`. If a prompt has a list of responses, the first is learned, and
            answers are compared with all.
        validation: Number of validation rows, from the start, if the data have no such part. Default: a tenth. A single
            text is cut by characters.
        test: Number of test rows, from the end, if the data have no such part. Default: a tenth.

    Raises:
        InputError: There is no such file, a line is not JSON, rows have different forms, or there are too few.
    """
    if isinstance(data, TextSource):
        return data
    name, parts = _read(data)
    if "train" not in parts:
        raise InputError(f"{name} has no part called train; its parts are: {', '.join(parts) or 'none'}.")
    form = _form(parts["train"], name)
    places = {part: name if len(parts) == 1 else f"{name} ({part})" for part in parts}
    rows = {part: _standard(found, form, places[part]) for part, found in parts.items()}
    if form == "text":
        rows = _cut_single_text(rows, validation, test)
    if not rows.get("train"):
        raise InputError(f"{name} is empty.")
    tenth = max(1, len(rows["train"]) // 10)
    for part, wanted, first in (("validation", validation, True), ("test", test, False)):
        if part not in rows:
            count = tenth if wanted is None else wanted
            rows["train"], rows[part] = _taken(rows["train"], count, first=first, name=name, part=part)
    empty = [part for part in SPLITS if not len(rows[part])]
    if empty:
        raise InputError(f"{name} has no rows for {empty[0]}. Give at least three rows, or separate parts.")
    source = TextSource(name, form, *(_dataset(rows[part]) for part in SPLITS))
    return asked(source, data, validation=validation, test=test)


def _read(data: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(data, (str, Path)):
        if str(data) == "phrases":
            return "phrases", {part: drawn(count, part) for part, count in PHRASES.items()}
        path = Path(data)
        if path.is_dir():
            return path.name, _folder(path)
        if path.is_file():
            return path.stem, {"train": _file(path)}
        return str(data).split("/")[-1].replace(":", "-"), _hub(str(data))
    if isinstance(data, dict):  # a DatasetDict is one
        return "data", {("validation" if part == "valid" else part): found for part, found in data.items()}
    if hasattr(data, "column_names") or isinstance(data, Sequence):
        return "data", {"train": data}
    raise InputError(f"text cannot be read from a {type(data).__name__}. Give a path, a datasets.Dataset, or rows.")


def _folder(path: Path) -> dict[str, Any]:
    if (path / ARTEFACT).is_file():
        raise InputError(f"{path} is an artefact, no data. To see it: attar report FOLDER")
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("README"))
    if not files:
        raise InputError(f"{path} holds no {', '.join(SUFFIXES)} file.")
    named = {file.stem.replace("valid", "validation") if file.stem == "valid" else file.stem: file for file in files}
    if "train" in named:
        return {part: _file(named[part]) for part in SPLITS if part in named}
    parts: dict[str, list[Any]] = {part: [] for part in SPLITS}
    for file in files:  # a tenth of each file, because a file is often a task of its own
        rows = _file(file)
        tenth = max(1, len(rows) // 10) if len(rows) > 2 else 0
        parts["validation"] += rows[:tenth]
        parts["train"] += rows[tenth : len(rows) - tenth]
        parts["test"] += rows[len(rows) - tenth :]
    return {part: rows for part, rows in parts.items() if rows}


def _file(path: Path) -> Sequence[Any]:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} is not a text file. Give a {', '.join(SUFFIXES)} file.")
    if path.suffix == ".parquet":
        from pyarrow import ArrowException, parquet

        try:
            return list(parquet.read_table(path).to_pylist())
        except (ArrowException, OSError, ValueError):
            raise InputError(f"{path} is damaged: it is not parquet.") from None
    if path.suffix == ".jsonl" and path.stat().st_size > LARGE:
        return Lines(path, _value)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.") from None
    if path.suffix in (".txt", ".md"):
        return [{"text": text}]
    return _json(text, path)


def _json(text: str, path: Path) -> list[Any]:
    if path.suffix == ".json" and text.lstrip().startswith("["):
        return list(_value(text, path, 1))
    # str.splitlines would also split at characters that may stand within the text of a value.
    lines = enumerate(text.split("\n"), start=1)
    return [_value(line, path, number) for number, line in lines if line.strip()]


def _value(text: str, path: Path, line: int) -> Any:
    """A value from JSON that begins in a line of a file.

    Raises:
        InputError: It is not JSON, or nested too deeply, or holds a number of too many digits.
    """
    try:
        return parsed(text)
    except json.JSONDecodeError as error:
        raise InputError(f"line {line + error.lineno - 1} of {path} is not JSON ({error.msg}).") from None
    except ValueError as error:
        raise InputError(f"line {line} of {path} cannot be read: {error}.") from None


def _hub(name: str) -> dict[str, Any]:
    home, _, configuration = name.partition(":")
    if home.count("/") != 1 or home.startswith((".", "/")):
        raise InputError(f"there is no file or folder {name}, and it is not a user/name on the hub.")
    import datasets

    try:
        found = datasets.load_dataset(home, configuration or None)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(f"{name!r} is not a data set on the hub ({reason}).") from None
    return dict(found)


def _form(rows: Any, name: str) -> Form:
    first = next(iter(rows), None)
    if first is None:
        raise InputError(f"{name} is empty.")
    if isinstance(first, str) or (isinstance(first, dict) and set(first) >= {"text"}):
        return "text"
    if isinstance(first, dict) and ("messages" in first or isinstance(first.get("prompt"), list)):
        return "chat"
    if isinstance(first, dict) and ("instruction" in first or ("prompt" in first and _answer_of(first) is not None)):
        return "pair"
    columns = (", ".join(map(str, first)) or "no columns") if isinstance(first, dict) else type(first).__name__
    raise InputError(
        f"the first row of {name} has {columns}. Give rows with prompt and completion, instruction and output, "
        "messages, or text."
    )


def _standard(rows: Any, form: Form, name: str) -> Any:
    """Rows in their standard form: a list, or a `datasets.Dataset` of a large file.

    Raises:
        InputError: A row has another form than the first, or an empty prompt or response.
    """
    standard = _standardised(rows, form, name)
    found = on_disk(standard, form) if isinstance(rows, Lines) else list(standard)
    _check_full(found, form, name)
    return found


def _standardised(rows: Any, form: Form, name: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        try:
            yield _one(row, form)
        except _NoTextError as error:
            raise InputError(
                f"row {number} of {name} does not have the form of the first row, {form}: {error}."
            ) from None
        except (KeyError, TypeError, IndexError, AttributeError):
            raise InputError(f"row {number} of {name} does not have the form of the first row, {form}.") from None


def _check_full(found: Any, form: Form, name: str) -> None:
    if form == "text":
        return
    for what, empty in (("nothing before the response", _without_prompt), ("an empty response", _without_response)):
        bad = [empty(row) for row in found]
        if any(bad):
            has = "have" if sum(bad) > 1 else "has"
            raise InputError(f"{rows_named(bad)} of {name} {has} {what}. Remove such rows, or give plain text.")


class _NoTextError(TypeError):
    """A value is not text."""


def _without_prompt(row: dict[str, Any]) -> bool:
    """Whether nothing stands before a row's response."""
    return len(row["messages"]) < 2 if "messages" in row else not row["prompt"]


def _without_response(row: dict[str, Any]) -> bool:
    return not (row["messages"][-1]["content"] if "messages" in row else row["response"])


def rows_named(bad: Sequence[bool]) -> str:
    """The numbers of bad rows, the first five of them: "rows 3, 4", "rows 1, 2, 3, 4, 5 and 2 more"."""
    numbers = [number for number, one in enumerate(bad, start=1) if one]
    named = ", ".join(map(str, numbers[:5]))
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"row{'s' if len(numbers) > 1 else ''} {named}{more}"


def _one(row: Any, form: Form) -> dict[str, Any]:
    if form == "text":
        return {"text": _text(row if isinstance(row, str) else row["text"])}
    if form == "chat":
        turns = row["messages"] if "messages" in row else [*row["prompt"], *row[_answer_of(row)]]
        messages = [{"role": _text(turn["role"]), "content": _text(turn["content"])} for turn in turns]
        if messages[-1]["role"] != "assistant":
            raise _NoTextError(f"the last turn is of {messages[-1]['role']!r:.40}, not of 'assistant'")
        return {"messages": messages}
    answer = row[_answer_of(row)]
    first, *others = map(_text, answer if isinstance(answer, list) and answer else [answer])
    given = {"response": first, "others": others} if others else {"response": first}
    if "prompt" in row:
        return {"prompt": _text(row["prompt"]), **given}
    more = f"### Input:\n{row['input']}\n\n" if row.get("input") else ""
    return {"prompt": f"### Instruction:\n{_text(row['instruction'])}\n\n{more}### Response:\n", **given}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _NoTextError(f"{value!r:.40} is not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _NoTextError(f"{value!a:.40} is not text, because it holds half a character") from None
    return value


def _answer_of(row: Any) -> Any:
    return next((column for column in ANSWERS if column in row), None)


def _cut_single_text(rows: dict[str, Any], validation: int | None, test: int | None) -> dict[str, Any]:
    """Cut a single long text into three parts by its characters: the beginning, the middle, the end."""
    if set(rows) != {"train"} or len(rows["train"]) != 1:
        return rows
    text = rows["train"][0]["text"]
    first, last = (len(text) // 10 if wanted is None else wanted for wanted in (validation, test))
    parts = {"validation": text[:first], "train": text[first : len(text) - last], "test": text[len(text) - last :]}
    return {part: [{"text": found}] for part, found in parts.items() if found}


def _taken(rows: Any, count: int, *, first: bool, name: str, part: str) -> tuple[Any, Any]:
    if not 0 < count < len(rows):
        raise InputError(f"{part} takes {count} of the {len(rows)} rows of {name}. Leave some rows for training.")
    cut = count if first else len(rows) - count
    if hasattr(rows, "select"):
        one, other = rows.select(range(cut)), rows.select(range(cut, len(rows)))
    else:
        one, other = rows[:cut], rows[cut:]
    return (other, one) if first else (one, other)


def _dataset(rows: Any) -> Any:
    import datasets

    if hasattr(rows, "select"):
        return without_empty_others(rows)
    if any("others" in row for row in rows):
        rows = [{"others": [], **row} for row in rows]
    return datasets.Dataset.from_list(rows)
