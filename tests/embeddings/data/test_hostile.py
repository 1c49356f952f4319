"""Whatever a file or an array holds, reading it ends in one line of refusal or in finite samples."""

import io
import json
import warnings

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from attar.core.errors import InputError
from attar.embeddings.data.load import load
from fuzzing import as_bytes, changed_bytes, changed_tree, is_one_line, tried
from picture_files import pictures, png

N = 12
CELL = st.one_of(
    st.sampled_from(
        ["0", "1", "-1", "", "nan", "inf", "-1e308", "1e39", "0.5", "x", '"', "1|0", "a;b", "[0, 1]", "\ufeff"]
    ),
    st.sampled_from(["9" * 400, "0x10", "1,5", "true", "2024-01-01", "\r", "é", "train", "[", "1e-320"]),
    st.integers(-3, 3).map(str),
)
NAME = st.sampled_from(
    ["a", "b", "label", "labels", "y", "split", "file_name", "id", "caption", "", "a b", "0", "x" * 300]
)
WORDS = [None, None, None, "a", "a,b", "label", "none", ",", "y,y"]
HOW = st.fixed_dictionaries(
    {"label": st.sampled_from(WORDS)},
    optional={
        "novel": st.sampled_from([("0",), ("0.5",), ("a", "b"), ("",)]),
        "limit": st.sampled_from([1, 3, 100]),
        "imbalance": st.sampled_from([2.0, 1e9]),
        "mosaics": st.sampled_from([1, 5]),
        "captions": st.sampled_from(["caption", "q"]),
        "split_seed": st.just(7),
    },
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_silence():
    """Warnings of readers about damage are no failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check(data, how):
    """What is read is finite, has labels of the right form, and does not change."""
    try:
        source = load(data, **how)
    except InputError as error:
        assert is_one_line(error)
        return
    for name in ("train", "test"):
        part = source.part(name)
        assert len(part) and source.inputs(torch.arange(len(part)), part=name).isfinite().all()
        if part.labels is not None:
            assert len(part.labels) == len(part) and part.labels.dtype in (torch.bool, torch.int64)
            classes = source.classes if name == "train" else source.test_classes
            assert part.labels.shape[1:] == (len(classes),) or int(part.labels.max()) < len(classes)
        assert len(part.captions) in (0, len(part))
    assert source.fingerprint == load(data, **how).fingerprint


@tried(150)
@given(
    head=st.lists(NAME, min_size=1, max_size=4),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=N),
    separator=st.sampled_from([",", ",", ";", "\t"]),
    how=HOW,
)
def test_text(head, rows, separator, how, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "hostile.csv"
    path.write_text("\n".join(separator.join(cells) for cells in [head, *rows]), encoding="utf-8")
    check(path, how)


@tried(60)
@given(rows=changed_tree([{"a": row / 2, "b": row, "x": row % 2, "y": row // 2 % 2} for row in range(N)]), how=HOW)
def test_json(rows, how, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    path.write_bytes(as_bytes(rows))
    check(path, how)


def table(**columns):
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


PLAIN = table(a=np.arange(N) / 2, b=np.arange(N), x=np.arange(N) % 2, y=np.arange(N) // 2 % 2)
PICTURES = [{"bytes": png(one), "path": None} for one in pictures(N)]
PAIRS = table(image=PICTURES, caption=[f"picture {n}" for n in range(N)], labels=[[n % 3, 1] for n in range(N)])


def column(values):
    return st.lists(st.sampled_from(values), min_size=N, max_size=N)


COLUMNS = st.dictionaries(
    st.sampled_from(["a", "b", "labels", "label", "image", "caption", "y", "split", "file_name"]),
    st.one_of(
        column([0, 1]),
        column([0, 1]),
        column([0.5, 1.0, float("nan"), 1e300, None]),
        column([0, -1, 2**62, None]),
        column(["a", "b", "", None, "train", "test"]),
        column([[0], [1, 2], [], None]),
        column([["a"], ["b", "a"], []]),
        column([[0.5], [-1], [10**7]]),
        column([b"", b"x", None]),
        column([PICTURES[0], PICTURES[1], PICTURES[2]]),
        column([True, False, None]),
        column([[[0]], []]),
    ),
    min_size=1,
    max_size=4,
)


@tried(100)
@given(data=st.one_of(changed_bytes(PLAIN), changed_bytes(PAIRS), COLUMNS, COLUMNS), how=HOW)
def test_parquet(data, how, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "hostile.parquet"
    path.write_bytes(data if isinstance(data, bytes) else table(**data))
    check(path, how)


@tried(60)
@given(rows=changed_tree([{"file_name": f"{row}.png", "labels": [row % 3], "text": "a"} for row in range(4)]), how=HOW)
def test_tables_beside_pictures(rows, how, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "beside"
    folder.mkdir(exist_ok=True)
    for number in range(4):
        (folder / f"{number}.png").write_bytes(PICTURES[number]["bytes"])
    lines = rows if isinstance(rows, list) else [rows]
    (folder / "metadata.jsonl").write_bytes(b"\n".join(json.dumps(row).encode() for row in lines))
    check(folder, how)
