"""What a run's networks cost, whether they are trained now or were trained before."""

import json
import time
from pathlib import Path

import pytest

import attar
from attar.core.prepared import Prepared
from attar.core.rows import cost_of, prepared_of
from attar.core.runtime import Runtime
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.trained import Auxiliary, trained

TINY = Architecture(width=4)
BRIEF = Protocol(name="brief", epochs=2, batch=64)


def cost(folder: Path) -> dict[str, float]:
    return json.loads((folder / "run" / "cost.json").read_text(encoding="utf-8"))


def finished(folder: Path, seconds: object) -> Path:
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "cost.json").write_text(json.dumps({"seconds": seconds, "peak_memory": 1}), encoding="utf-8")
    return folder


def test_trainings_are_counted_once_each_and_unknown_ones_not_at_all(tmp_path):
    prepared = Prepared()
    one, two = finished(tmp_path / "one", 14.0), finished(tmp_path / "two", 2.5)
    for folder in (one, two, one, tmp_path / "nothing", finished(tmp_path / "odd", "long")):
        prepared.count(folder)
    assert prepared.seconds == 16.5


def test_time_within_is_aside_once():
    prepared = Prepared()
    began = time.monotonic()
    with prepared.making(), prepared.making():
        time.sleep(0.02)
    assert 0.02 <= prepared.aside <= time.monotonic() - began


@pytest.mark.parametrize("name", ["Herding", "KCenter", "RDED"])
def test_a_cached_network_costs_what_its_training_took(name, few_digits, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    method = getattr(attar, name)(ipc=1, observer=Auxiliary(architecture=TINY, protocol=BRIEF))
    sets = [attar.condense(few_digits, method, out=tmp_path / place, engine=engine) for place in ("first", "again")]
    (network,) = (tmp_path / "cache" / "networks").iterdir()
    for small in sets:
        assert cost(small.folder)["prepared"] == cost(network)["seconds"]
        assert cost(small.folder)["seconds"] >= cost(small.folder)["prepared"]
    path = network / "run" / "cost.json"
    path.write_text(json.dumps({"seconds": 1000.0, "peak_memory": 1}), encoding="utf-8")
    third = attar.condense(few_digits, method, out=tmp_path / "third", engine=engine)
    assert cost(third.folder)["prepared"] == 1000
    assert 1000 < cost(third.folder)["seconds"] < 1010
    assert cost_of([third])[0] == cost(third.folder)["seconds"] and prepared_of([third]) == 1000
    found = attar.evaluate(
        third, few_digits, networks=[TINY], protocol=BRIEF, repeats=1, ceiling="skip", beside="skip", engine=engine
    )
    assert ", 1,000.0 s of them for networks beside it, scored in" in str(found)
    assert found.to_json()["rows"][0]["prepared"] == 1000


def test_experts_are_counted_with_every_set_that_they_make(few_digits, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    brief = {"ipc": 1, "steps": 1, "student_steps": 1, "last_start": 1, "architecture": TINY}
    method = attar.MTT(**brief, experts=attar.Experts(experts=2))
    for place in ("first", "again"):
        attar.condense(few_digits, method, out=tmp_path / place, engine=engine)
    taken = [cost(file.parent.parent)["seconds"] for file in (tmp_path / "cache").rglob("run/cost.json")]
    assert len(taken) == 2
    for place in ("first", "again"):
        assert cost(tmp_path / place)["prepared"] == pytest.approx(sum(taken), abs=2e-3)


def test_a_network_in_a_folder_is_counted_if_its_cost_is_known(few_digits, engine, tmp_path):
    network = trained(few_digits, TINY, Runtime(engine), BRIEF)
    network.save(finished(tmp_path / "own", 7.0))
    method = attar.Herding(ipc=1, observer=Auxiliary(folder=str(tmp_path / "own")))
    assert cost(attar.condense(few_digits, method, out=tmp_path / "set", engine=engine).folder)["prepared"] == 7
    (tmp_path / "own" / "run" / "cost.json").unlink()
    assert cost(attar.condense(few_digits, method, out=tmp_path / "other", engine=engine).folder)["prepared"] == 0


def test_a_run_without_networks_has_prepared_nothing(few_digits, engine, tmp_path):
    small = attar.condense(few_digits, attar.Random(ipc=1), out=tmp_path, engine=engine)
    assert cost(tmp_path)["prepared"] == 0 and prepared_of([small]) is None
