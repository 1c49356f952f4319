"""JSON that somebody may have changed: whole or refused on one line, values by type."""

import math

import pytest

from attar.core.errors import InputError
from attar.core.jsonfiles import lines_of, number, parsed, read_json, valid

ODD = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'"\xff"',
    "UTF-16": '"a"'.encode("utf-16"),
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep but whole": b"[" * 200 + b"]" * 200,
    "5,000 digits": b"9" * 5000,
    "400 digits": b"9" * 400,
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_odd_files_are_refused_on_one_line(content, tmp_path):
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(InputError, match=r"odd\.json is damaged: it is not JSON\."):
        read_json(tmp_path / "odd.json")
    (tmp_path / "odd.jsonl").write_bytes(b'{"a": 1}\n' + content.replace(b"\n", b" ") + b'\n{"a": 2}\n{"a"')
    assert list(lines_of(tmp_path / "odd.jsonl")) == [{"a": 1}, None, {"a": 2}]


def test_what_is_no_file_is_refused(tmp_path):
    for read in (read_json, lambda path: list(lines_of(path))):
        with pytest.raises(InputError, match="is missing"):
            read(tmp_path / "none.json")
        with pytest.raises(InputError, match="is not a file"):
            read(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read .*File name too long"):
        read_json(tmp_path / ("a" * 5000))


def test_plain_values_come_back():
    assert parsed('{"a": [1, 2.5, null, true, "ü"]}') == {"a": [1, 2.5, None, True, "ü"]}
    assert parsed(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize("value", ["1", None, True, [], {}, math.nan, math.inf, -math.inf, 10**400, -(10**19)])
def test_only_finite_numbers_of_a_sensible_size_are_numbers(value):
    assert number(value) is None


def test_numbers_are_numbers():
    assert [number(value) for value in (0, -1, 2.5, 10**18)] == [0.0, -1.0, 2.5, 1e18]
    assert valid({"a": (1, math.nan), "b": [math.inf, "x"]}) == {"a": [1, None], "b": [None, "x"]}
