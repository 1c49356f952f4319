"""Whatever is done to a file of data, reading it ends in one line of refusal or in finite values."""

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

import attar
from attar.core.errors import InputError
from attar.core.registry import METHODS
from attar.language.sources import load as load_text
from attar.mixtures.sources import load as load_mixture
from attar.tables.data.load import schema_in, schema_text
from attar.tables.reading import Reading as TableReading
from fuzzing import as_bytes, changed_bytes, changed_json, changed_tree, hostile_plain, is_one_line, tried

SHAPES = [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4), (8,), (0, 8), (1, 1), (9, 7, 3)]


@pytest.fixture(autouse=True)
def in_silence():
    """Warnings of readers about damage are no failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def cautiously(read):
    """What a reader gives; None where it refuses in one line."""
    try:
        return read()
    except InputError as error:
        assert is_one_line(error)
        return None


def check_pictures(source):
    """Whether what was read can be learned from."""
    if source is not None:
        assert len(source.train) and len(source.classes) and torch.isfinite(source.train.labels.float()).all()


def picture(shape=(8, 8, 3), seed=0, form="PNG", mode=None, **how):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    sink = io.BytesIO()
    drawn = Image.fromarray(pixels)
    (drawn.convert(mode) if mode else drawn).save(sink, form, **how)
    return sink.getvalue()


def table(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


CELLS = [{"bytes": picture(seed=seed), "path": None} for seed in range(12)]
PARQUET = table(image=CELLS, label=[row % 3 for row in range(12)])


def columns_of():
    """Tables with columns of odd types, sizes and names."""
    cells = st.sampled_from([CELLS[0], {"bytes": b"", "path": None}, {"bytes": None, "path": "/etc/passwd"}, None])
    images = st.one_of(
        st.just(CELLS),
        st.lists(cells, min_size=12, max_size=12),
        st.just([cell["bytes"] for cell in CELLS]),
        st.just([[1, 2]] * 12),
        st.just(["x.png"] * 12),
        st.just([None] * 12),
    )
    labels = st.one_of(
        st.lists(st.sampled_from([0, 1, 2, None, -1, 2**40]), min_size=12, max_size=12),
        st.lists(st.sampled_from([0.0, 1.0, 0.5, float("nan"), float("inf")]), min_size=12, max_size=12),
        st.lists(st.sampled_from(["a", "b", "", "0", "🙂", None]), min_size=12, max_size=12),
        st.lists(st.booleans(), min_size=12, max_size=12),
        st.just([[0]] * 12),
        st.just([b"x"] * 12),
    )
    names = st.sampled_from(
        [("image", "label"), ("img", "fine_label"), ("Image", "target"), ("x", "y"), ("label", "image")]
    )
    return st.tuples(images, labels, names)


NOTES = (
    b"x",
    b"[]",
    b"null",
    b"\xff",
    b'{"info": null}',
    b'{"info": []}',
    b'{"info": {"features": {"label": {"names": 3}}}}',
)


def odd_table(parts, note=None):
    images, labels, (first, second) = parts
    found = pa.table({first: images, second: labels})
    if note is not None:
        found = found.replace_schema_metadata({"huggingface": note})
    sink = io.BytesIO()
    pq.write_table(found, sink)
    return sink.getvalue()


@tried(90)
@given(data=st.one_of(changed_bytes(PARQUET), changed_bytes(PARQUET), columns_of()))
def test_tables_of_pictures(data, tmp_path_factory):
    data = data if isinstance(data, bytes) else odd_table(data)
    path = tmp_path_factory.getbasetemp() / "changed.parquet"
    path.write_bytes(data)
    check_pictures(cautiously(lambda: attar.load(str(path))))


@pytest.mark.parametrize("note", NOTES)
def test_tables_with_odd_notes(note, tmp_path):
    path = tmp_path / "noted.parquet"
    path.write_bytes(odd_table((CELLS, [row % 3 for row in range(12)], ("image", "label")), note))
    check_pictures(cautiously(lambda: attar.load(str(path))))


PICTURES = {
    "png": picture(),
    "grey.png": picture((8, 8)),
    "alpha.png": picture((8, 8, 4)),
    "palette.png": picture(mode="P"),
    "bits.png": picture((8, 8), mode="1"),
    "jpg": picture(form="JPEG"),
    "gif": picture(mode="P", form="GIF"),
    "bmp": picture(form="BMP"),
    "tif": picture(form="TIFF"),
    "webp": picture(form="WEBP"),
    "ppm": picture(form="PPM"),
}


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    """Two classes of three pictures."""
    home = tmp_path_factory.mktemp("farm")
    for name in ("cat", "dog"):
        (home / name).mkdir()
        for seed in range(6):
            (home / name / f"{seed}.png").write_bytes(picture(seed=seed))
    return home


@tried(220)
@given(name=st.sampled_from(list(PICTURES)), draw=st.data())
def test_folders_with_a_changed_picture(name, draw, farm):
    changed = draw.draw(
        st.one_of(changed_bytes(PICTURES[name]), st.sampled_from([b"", b"\x89PNG", *PICTURES.values()]))
    )
    path = farm / "cat" / f"odd.{name}"
    path.write_bytes(changed)
    try:
        check_pictures(cautiously(lambda: attar.load(str(farm))))
    finally:
        path.unlink()


TENSORS = {"images": torch.rand(3, 1, 4, 4), "labels": torch.arange(3)}
MIXTURE = {"weights": [0.5, 0.5], "means": [[0.0], [1.0]], "covariances": [[[1.0]], [[2.0]]], "covariance_type": "full"}


def mixture_tensors(kind):
    values = {name: torch.tensor(MIXTURE[name], dtype=torch.float64) for name in ("weights", "means", "covariances")}
    return save(values, {"covariance_type": kind})


@st.composite
def odd_mixture(draw):
    """Tensors of other types, shapes and names."""
    types = [torch.float64, torch.float32, torch.int64, torch.bool, torch.bfloat16, torch.uint8, torch.complex64]
    shapes = [(2,), (2, 1), (2, 1, 1), (1,), (0,), (), (2, 3), (2, 3, 3), (3, 1, 1)]
    values = {}
    for name in draw(st.lists(st.sampled_from(["weights", "means", "covariances", "x"]), unique=True)):
        shape, number = draw(st.sampled_from(shapes)), draw(st.sampled_from([0.5, 0.0, -1.0, float("nan"), 1e300]))
        tensor = torch.full(shape, number, dtype=torch.float64)
        values[name] = tensor.to(draw(st.sampled_from(types)))
    kinds = [
        None,
        {},
        {"covariance_type": "full"},
        {"covariance_type": "x"},
        {"attar": "null"},
        {"attar": "[]"},
        {"attar": '{"plain": []}'},
    ]
    return save(values, draw(st.sampled_from(kinds)))


def check_mixture(source):
    if source is not None:
        for values in (source.mixture.weights, source.mixture.means, source.mixture.covariances):
            assert torch.isfinite(values).all()


@tried(150)
@given(data=changed_json(MIXTURE))
@example(data=as_bytes({**MIXTURE, "covariance_type": []}))
@example(data=as_bytes({**MIXTURE, "weights": [0.5, 10**400]}))
def test_mixtures_in_json(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "mixture.json"
    path.write_bytes(data)
    check_mixture(cautiously(lambda: load_mixture(str(path))))


@tried(150)
@given(data=st.one_of(changed_bytes(mixture_tensors("full")), odd_mixture()))
@example(data=save(TENSORS, {"attar": "[]"}))
@example(data=save(TENSORS, {"attar": '{"plain": []}'}))
def test_mixtures_in_safetensors(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "mixture.safetensors"
    path.write_bytes(data)
    check_mixture(cautiously(lambda: load_mixture(str(path))))


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    """A condensed set of images and one of graphs, a mixture, a table's generator, and an encoder."""
    home, quiet = tmp_path_factory.mktemp("sets"), attar.Engine(device="cpu", quiet=True)
    for name, data, verb, size in (
        ("random", "digits", attar.condense, {"ipc": 1}),
        ("graph-random", "motifs", attar.condense, {"gpc": 1}),
        ("runnalls", "standard-1d", attar.compress, {"n_components": 3}),
        ("copula", "applicants", attar.condense, {"rows": 20}),
        ("protonet", "digits", attar.train, {"encoder": "conv4:width=2", "epochs": 1, "episodes": 1, "train_way": 2}),
    ):
        verb(data, METHODS[name].load()(**size), out=home / name, engine=quiet)
    return home


@pytest.mark.parametrize("name", ["random", "graph-random", "runnalls", "copula", "protonet"])
def test_artefacts_with_changed_tensors(name, artefacts):
    (path,) = (artefacts / name).glob("*.safetensors")
    good = path.read_bytes()

    @tried(50)
    @given(changed_bytes(good))
    def check(data):
        path.write_bytes(data)
        artefact = cautiously(lambda: attar.open_artefact(artefacts / name))
        assert artefact is None or data == good or artefact.summary

    try:
        check()
    finally:
        path.write_bytes(good)


ROWS = {
    "pair": [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(8)],
    "instruction": [{"instruction": "Add.", "input": f"{n} 1", "output": f"{n + 1}"} for n in range(8)],
    "chat": [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": f"{n}"}]} for n in range(8)
    ],
    "text": [{"text": f"once {n}"} for n in range(8)],
}


def check_text(source):
    if source is not None:
        assert all(isinstance(text, str) for text in source.texts())


@tried(200)
@given(
    form=st.sampled_from(list(ROWS)), ending=st.sampled_from(["jsonl", "json", "txt", "parquet", "csv"]), draw=st.data()
)
def test_rows_of_text(form, ending, draw, tmp_path_factory):
    rows = ROWS[form]
    if ending == "parquet":
        data = draw.draw(changed_bytes(table(**{name: [row[name] for row in rows] for name in rows[0]})))
    elif ending == "jsonl":
        changed = draw.draw(changed_tree(rows))
        lines = b"\n".join(map(as_bytes, changed)) if isinstance(changed, list) else as_bytes(changed)
        data = draw.draw(st.one_of(st.just(lines), changed_bytes(lines)))
    elif ending == "json":
        data = draw.draw(changed_json(rows))
    else:
        data = draw.draw(
            st.one_of(
                st.binary(max_size=50), st.text(max_size=50).map(lambda text: text.encode("utf-8", "surrogatepass"))
            )
        )
    path = tmp_path_factory.getbasetemp() / f"rows.{ending}"
    path.write_bytes(data)
    check_text(cautiously(lambda: load_text(str(path))))


@tried(60)
@example(rows=[{"prompt": "What is 6?", "completion": "It is 6."}, []])
@given(rows=st.lists(st.one_of(hostile_plain, st.sampled_from(ROWS["pair"])), max_size=6))
def test_rows_of_odd_values(rows):
    check_text(cautiously(lambda: load_text({"train": rows})))


def load_table(data, **reading):
    return TableReading(**reading).load(data)


CSV = "income,sex,age,joined\n" + "".join(
    f"{'high' if n % 3 else 'low'},{'mf'[n % 2]},{n},2020-01-{n % 28 + 1:02d}\n" for n in range(40)
)


def check_table(source):
    if source is not None:
        assert len(source.train) and set(source.train.labels.tolist()) == {0, 1}
        assert all(column.name for column in source.schema.columns)


@tried(150)
@given(data=st.one_of(changed_bytes(CSV.encode()), changed_bytes(table(**{"income": [0, 1] * 20, "sex": ["a"] * 40}))))
def test_rows_of_a_table(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / ("rows.parquet" if data[:4] == b"PAR1" else "rows.csv")
    path.write_bytes(data)
    check_table(cautiously(lambda: load_table(path, label="income", sensitive="sex")))


@tried(200)
@given(data=changed_json(json.loads(schema_text(load_table("applicants").schema))))
def test_schemas_in_json(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "schema.json"
    path.write_bytes(data)
    schema = cautiously(lambda: schema_in(path))
    assert schema is None or schema_in(json.loads(schema_text(schema))) == schema


def test_the_names_of_files_are_told_in_a_line(tmp_path):
    for name in ("", ".", "a\0b", "\udcff", "~nobody/x", "no\nsuch", "-", "http://x", "a:b:c"):
        for read in (attar.load, load_mixture, load_text):
            cautiously(lambda name=name, read=read: read(name if name else str(tmp_path / "nothing")))
    assert not list(Path(tmp_path).iterdir()) and json.dumps(ROWS)
