"""Whatever lies in the JSON files beside an artefact, reading ends in one line of refusal or without what is odd."""

import contextlib
import json
import math

import pytest
import torch
from hypothesis import example, given

import attar
from attar.commands.again import read_again
from attar.core import registry
from attar.core.errors import InputError
from attar.core.kinds import kind_in
from attar.core.progress import metrics_log
from attar.core.scores import scores_in
from attar.core.store import digest_of, read_cost
from attar.reporting import side
from attar.reporting.collect import collect
from fuzzing import as_bytes, changed_json, changed_tree, is_one_line, tried

QUIET = attar.Engine(device="cpu", quiet=True)
METHODS = {
    "images": attar.Random(ipc=1),
    "graphs": registry.METHODS["graph-random"].load()(gpc=1),
    "mixtures": registry.METHODS["runnalls"].load()(n_components=3),
    "embeddings": registry.METHODS["simclr"].load()(encoder="mlp:width=4,depth=0,features=2", epochs=1, batch=16),
    "tables": registry.METHODS["copula"].load()(rows=20),
    "classifiers": registry.METHODS["classifier"].load()(network="mlp:width=4", epochs=1, reserved=0.1),
    "calibrated": registry.METHODS["ts"].load()(),
}
ROWS = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
DATA = {
    "images": "digits",
    "graphs": "motifs",
    "mixtures": "standard-1d",
    "embeddings": (ROWS, torch.arange(24) % 2),
    "tables": "applicants",
    "classifiers": "digits",
    "calibrated": "digits",
}
VERBS = {
    "mixtures": attar.compress,
    "embeddings": attar.train,
    "classifiers": attar.train,
    "calibrated": attar.calibrate,
}
ODD = (b"", b"null", b"[]", b"{}", b"[" * 100_000, b"9" * 5000, b"\xff\xfe\x00", b'{"schema": "x"}', b'{"kind": []}')


def made(kind, folder):
    """A small artefact of a kind, with scores and a log beside it."""
    beside = {"classifier": folder.parent / "classifiers"} if kind == "calibrated" else {}
    VERBS.get(kind, attar.condense)(DATA[kind], METHODS[kind], out=folder, engine=QUIET, **beside)
    entry = {"column": "convnet", "protocol": "quick", "value": 50.0, "spread": 1.0, "n": 2, "unit": "%"}
    more = {"values": [[49.0, 51.0]], "kept": 90.0, "chance": 10.0, "full": {"value": 95.0, "n": 1}}
    more["beside"] = [{"label": "random images", "score": {"value": 40.0, "n": 2}, "count": 10, "bytes": 640}]
    (folder / "scores.json").write_text(json.dumps({"schema": 2, "scores": [{**entry, **more}]}), encoding="utf-8")
    lines = [json.dumps({"step": step, "loss": 1.0 / (step + 1)}) for step in range(5)]
    (folder / "run" / "metrics.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """An artefact of each kind, whose files are changed and put back."""
    home = tmp_path_factory.mktemp("artefacts")
    return {kind: made(kind, home / kind) for kind in METHODS}


def cautiously(read):
    """What a reader gives; None where it refuses in one line."""
    try:
        return read()
    except InputError as error:
        assert is_one_line(error)
        return None


def changed(places, kind, name, read, count):
    """Read a file of a kind's artefact in many changed forms."""
    path = places[kind] / name
    good = path.read_bytes()
    facts = [json.loads(line) for line in good.splitlines()] if name.endswith("l") else json.loads(good)

    @tried(count)
    @given(changed_json(facts))
    def check(data):
        path.write_bytes(data)
        read(path)

    try:
        for data in ODD:
            path.write_bytes(data)
            read(path)
        check()
    finally:
        path.write_bytes(good)


def read_scores(path):
    told = []
    for cell in (*scores_in(path.parent), *side.scores(path.parent, "scores.json", told)):
        values = [cell.score.value, *(value for row in cell.values for value in row)]
        assert all(isinstance(value, float | int) for value in values)
    for cell in side.scores(path.parent, "scores.json", told):
        assert math.isfinite(cell.score.value) and f"{cell.score}"
    assert all(isinstance(text, str) for line in told for text in line)


def read_costs(path):
    for value in (*read_cost(path).values(), *side.cost(path, "cost.json", [])):
        assert value is None or 0 <= value < math.inf


def read_curves(path):
    for points in side.curves(path, "metrics.jsonl", []).values():
        assert all(math.isfinite(step) and math.isfinite(value) for step, value in points)
    with metrics_log(path.parent, since=3):
        pass


def read_description(path):
    folder = path.parent
    again = cautiously(lambda: read_again("condense", ["--settings", str(folder)]))
    if again is not None and again[0] is not None:
        cautiously(
            lambda: (
                registry.METHODS[again[0].method].load().from_json(again[0].settings)
                if again[0].method in registry.METHODS
                else None
            )
        )
    cautiously(lambda: kind_in(folder))
    artefact = cautiously(lambda: attar.open_artefact(folder))
    assert artefact is None or artefact.summary


def read_settings(path):
    cautiously(lambda: read_again("condense", ["--settings", str(path)]))
    method, out = METHODS[path.parents[1].name], path.parents[1]
    if path.parents[1].name == "images":
        cautiously(lambda: attar.condense(attar.load("digits"), method, out=out, engine=QUIET))


@pytest.mark.parametrize(
    "name, read, count",
    [
        ("scores.json", read_scores, 200),
        ("run/cost.json", read_costs, 100),
        ("run/metrics.jsonl", read_curves, 100),
        ("artefact.json", read_description, 100),
    ],
)
@pytest.mark.parametrize("kind", METHODS)
def test_odd_files_beside_an_artefact(kind, name, read, count, places):
    changed(places, kind, name, read, count)


def sealed(facts):
    """A description with its own digest, as somebody would write it who wants it to be read."""
    if isinstance(facts, dict):
        facts.pop("facts_digest", None)
        with contextlib.suppress(ValueError):  # a half of a character has no digest
            facts["facts_digest"] = digest_of({}, facts)
    return as_bytes(facts)


@pytest.mark.parametrize("kind", METHODS)
def test_odd_descriptions_with_a_right_digest(kind, places):
    path = places[kind] / "artefact.json"
    good = path.read_bytes()

    @tried(150)
    @given(changed_tree(json.loads(good)).map(sealed))
    def check(data):
        path.write_bytes(data)
        read_description(path)

    try:
        check()
    finally:
        path.write_bytes(good)


def test_odd_settings_of_a_run(places):
    changed(places, "images", "run/settings.json", read_settings, 60)


@pytest.mark.parametrize("name", ["scores.json", "artefact.json", "run/metrics.jsonl"])
def test_a_report_is_written_whatever_lies_there(name, places):
    changed(places, "images", name, lambda path: cautiously(lambda: collect(places["images"])), 5)


def test_methods_of_another_package_may_be_described_wrongly(tmp_path, monkeypatch):
    """A file of methods that is no such thing does not take attar's own methods away."""
    entry = {"verb": "condense", "settings": "package.module:Settings", "summary": "Do something."}
    flag = {"flag": "--x", "setting": "x", "type": "text", "default": "nothing", "sentence": "X.", "everyday": True}
    paper = {"authors": "A", "title": "T", "venue": "V", "year": 2020}
    facts = {"own": {**entry, "paper": paper, "flags": [flag], "presets": ["--paper x"]}}
    path = tmp_path / "methods.json"
    monkeypatch.setattr(registry, "_path", lambda home, file: path)

    @tried(200)
    @given(changed_json(facts))
    @example(json.dumps(facts).encode())
    def check(data):
        path.write_bytes(data)
        for found in cautiously(lambda: list(registry.entries_in("package", "methods.json", "images"))) or ():
            json.dumps(found.to_json())

    check()
