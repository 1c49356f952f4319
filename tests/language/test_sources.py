import json
import os
from pathlib import Path

import pytest

from attar.core.errors import InputError
from attar.language.sources import load


def lines(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


PAIRS = [{"prompt": f"say {n}: ", "completion": f"{n}"} for n in range(20)]


def test_the_data_at_hand_is_the_same_each_time():
    one, other = load("phrases"), load()
    assert one.fingerprint == other.fingerprint
    assert [len(one.train), len(one.validation), len(one.test)] == [600, 100, 100]
    assert str(one) == "phrases: 600 prompts with responses to train on, 100 for validation, 100 for testing"


@pytest.mark.parametrize("answer", ["completion", "response", "output", "answer"])
def test_json_lines_by_path(tmp_path, answer):
    source = load(lines(tmp_path / "few.jsonl", [{"prompt": "p", answer: f"r{n}"} for n in range(20)]))
    assert source.form == "pair"
    assert source.name == "few"
    assert list(source.validation["response"]) == ["r0", "r1"]
    assert list(source.test["response"]) == ["r18", "r19"]
    assert source.train[0] == {"prompt": "p", "response": "r2"}


def test_the_first_rows_are_for_validation_as_many_as_are_asked(tmp_path):
    source = load(lines(tmp_path / "few.jsonl", PAIRS), validation=5, test=1)
    assert [len(source.validation), len(source.train), len(source.test)] == [5, 14, 1]


def test_instructions_become_prompts():
    rows = [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Hi.", "input": "", "output": "Ho"}]
    source = load({"train": rows, "validation": rows, "test": rows})
    assert list(source.train["prompt"]) == [
        "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n",
        "### Instruction:\nHi.\n\n### Response:\n",
    ]


def test_of_several_references_the_first_is_the_response():
    rows = [{"prompt": "p", "output": ["a", "b"]}, {"prompt": "p", "output": ["c"]}, {"prompt": "p", "output": "d"}]
    source = load({"train": rows, "validation": rows[1:], "test": rows[:2]})
    assert list(source.train["response"]) == ["a", "c", "d"]
    assert list(source.train["others"]) == [["b"], [], []]
    assert source.validation.column_names == ["prompt", "response"]
    assert source.fingerprint != load({"train": rows, "validation": rows[1:], "test": rows[1:]}).fingerprint
    with pytest.raises(
        InputError, match=r"row 2 of data \(test\) does not have the form of the first row, pair: \[\] is not text"
    ):
        load({"train": rows, "validation": rows, "test": [rows[0], {"prompt": "p", "output": []}]})


def test_conversations_in_both_ways_of_writing_them():
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    one = load([{"messages": turns}] * 3)
    other = load([{"prompt": turns[:1], "completion": turns[1:]}] * 3)
    assert one.form == other.form == "chat"
    assert one.fingerprint == other.fingerprint
    assert one.texts() == ["hi", "ho"]


def test_one_text_is_cut_in_three_by_its_characters(tmp_path):
    (tmp_path / "play.txt").write_text("abcdefghij" * 10, encoding="utf-8")
    source = load(tmp_path / "play.txt")
    assert [len(part[0]["text"]) for part in (source.validation, source.train, source.test)] == [10, 80, 10]
    assert source.form == "text"


def test_texts_may_be_rows():
    source = load(["one", "two", "three"])
    assert list(source.train["text"]) == ["two"]


def test_a_folder_of_tasks_gives_a_tenth_of_each(tmp_path):
    for name in ("a", "b"):
        lines(tmp_path / f"{name}.jsonl", [{"prompt": name, "completion": str(n)} for n in range(10)])
    source = load(tmp_path)
    assert list(source.validation["prompt"]) == ["a", "b"]
    assert list(source.test["response"]) == ["9", "9"]
    assert len(source.train) == 16


def test_a_folder_with_parts_keeps_them(tmp_path):
    for name, count in (("train", 6), ("valid", 2), ("test", 3)):
        lines(tmp_path / f"{name}.jsonl", PAIRS[:count])
    source = load(tmp_path)
    assert [len(source.train), len(source.validation), len(source.test)] == [6, 2, 3]


def test_real_instructions_are_read():
    if "ATTAR_DATA" not in os.environ:
        pytest.skip("ATTAR_DATA does not say where real data are")
    source = load(Path(os.environ["ATTAR_DATA"]) / "t0-instructions")
    assert (source.form, len(source.train), len(source.validation), len(source.test)) == ("pair", 1920, 240, 240)
    assert source.train[0]["response"].endswith("<|endoftext|>")


def test_data_sets_of_datasets_and_parquet(tmp_path):
    import datasets

    table = datasets.Dataset.from_list(PAIRS)
    assert load(table).fingerprint == load(datasets.DatasetDict({"train": table})).fingerprint
    table.to_parquet(tmp_path / "few.parquet")
    assert load(tmp_path / "few.parquet").fingerprint == load(table).fingerprint


def test_the_fingerprint_knows_rows_and_parts():
    assert load(PAIRS).fingerprint == load(list(PAIRS)).fingerprint
    assert load(PAIRS).fingerprint != load(PAIRS[::-1]).fingerprint
    assert load(PAIRS).fingerprint != load(PAIRS, validation=3).fingerprint


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "data is empty."),
        (PAIRS[:2], "test takes 1 of the 1 rows of data. Leave some rows for training."),
        (
            [{"question": "q"}] * 3,
            "the first row of data has question. Give rows with prompt and completion, instruction and output, "
            "messages, or text.",
        ),
        ([*PAIRS, {"prompt": "p"}], "row 21 of data does not have the form of the first row, pair."),
        (
            [*PAIRS, {"prompt": "p", "completion": 3}],
            "row 21 of data does not have the form of the first row, pair: 3 is not text.",
        ),
        (
            [{"messages": [{"role": "user", "content": "hi"}]}] * 3,
            "row 1 of data does not have the form of the first row, chat: the last turn is of 'user', not of "
            "'assistant'.",
        ),
        ({"test": PAIRS}, "data has no part called train; its parts are: test."),
        (3, "text cannot be read from a int. Give a path, a datasets.Dataset, or rows."),
    ],
)
def test_bad_rows_are_refused(rows, sentence):
    with pytest.raises(InputError) as refusal:
        load(rows)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("inside", ["\u2028", "\u0085", "\x1c", "\u2029\u2028"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_only_a_line_feed_ends_a_line_of_json(start, inside, tmp_path):
    rows = [{"text": f"a{inside}b{number}"} for number in range(12)]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "rows.jsonl").write_bytes((start + lines).encode())
    found = set(load(tmp_path / "rows.jsonl").texts())
    assert f"a{inside}b5" in found
    assert found <= {row["text"] for row in rows}


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "few.jsonl").write_text('{"prompt": "p", "completion": "c"}\n{oops\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2 of .*few.jsonl is not JSON"):
        load(tmp_path / "few.jsonl")
    (tmp_path / "list.json").write_text('[{"text": "a"},\n oops]', encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2 of .*list.json is not JSON"):
        load(tmp_path / "list.json")
    for name, value in {
        "deep": "[" * 10**5,
        "far": '{"text": ' * 300,
        "long": f'{{"text": "a", "n": {"9" * 5000}}}',
    }.items():
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "a"}}\n{value}\n', encoding="utf-8")
        with pytest.raises(
            InputError, match=rf"line 2 of .*{name}.jsonl (cannot be read: .*(deeply|digits)|is not JSON)"
        ):
            load(tmp_path / f"{name}.jsonl")
    for row in ({"prompt": "\ud800", "completion": "c"}, {"prompt": "p", "completion": "c\udfff"}):
        (tmp_path / "half.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"row 1 of half .*is not text, because it holds half a character"):
            load(tmp_path / "half.jsonl")
    (tmp_path / "picture.png").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is not a text file"):
        load(tmp_path / "picture.png")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load(tmp_path / "bytes.txt")
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is damaged: it is not parquet"):
        load(tmp_path / "bad.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.jsonl"):
        load(tmp_path / "empty")
    with pytest.raises(
        InputError, match=r"there is no file or folder missing\.jsonl, and it is not a user/name on the hub"
    ):
        load("missing.jsonl")
    with pytest.raises(InputError, match="is not a data set on the hub"):
        load("nobody/nothing-of-this-name")
    with pytest.raises(InputError, match=r"validation takes 30 of the 20 rows of data\. Leave some rows for training"):
        load(PAIRS, validation=30)


@pytest.mark.parametrize("form", ["pair", "others", "chat", "text"])
def test_a_large_file_is_read_row_by_row_and_is_the_same_source(form, tmp_path, monkeypatch):
    """With rows on disk: the same parts, the same fingerprint, and the same complaint about a line."""
    rows = {
        "pair": [{"prompt": f"{n}? ä\u2028", "completion": f"{n}!"} for n in range(2500)],
        "others": [{"prompt": f"{n}? ", "completion": [f"{n}!", "so"] if n > 2000 else "no"} for n in range(2500)],
        "chat": [[{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "ja"}] for n in range(30)],
        "text": [{"text": f"line {n}"} for n in range(30)],
    }[form]
    path = tmp_path / "data.jsonl"
    lines = [json.dumps({"messages": row} if form == "chat" else row, ensure_ascii=False) for row in rows]
    path.write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    whole = load(path, validation=3)
    monkeypatch.setattr("attar.language.sources.LARGE", 0)
    streamed = load(path, validation=3)
    for part in ("train", "validation", "test"):
        assert list(getattr(streamed, part)) == list(getattr(whole, part))
    assert streamed.fingerprint == whole.fingerprint
    assert len(streamed.train) == len(rows) - 3 - len(rows) // 10
    path.write_text("\n".join([*lines, "", "{"]), encoding="utf-8")
    with pytest.raises(InputError, match=rf"line {len(lines) + 2} of .*data.jsonl is not JSON"):
        load(path)
