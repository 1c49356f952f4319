"""A grid of one's own: methods by words, complete on workers of which one is killed."""

import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from attar.bench import grid, tables
from attar.bench.grid import method_named, row_named
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.condense.datadam import DataDAM
from attar.images.condense.datm import DATM
from attar.images.condense.rded import RDED
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.trained import Auxiliary

ENGINE = Engine(device="cpu", quiet=True, checkpoint_seconds=0)
METHODS = ("random", "dm:steps=4,real_batch=2,width=4", "datadam:steps=4,real_batch=2,width=4")


def measure(out, **settings):
    given = {"methods": METHODS, "ipc": (1, 2), "sets": 2, "networks": 1, "architecture": "convnet:width=4"}
    grid.GridTable(**{**given, "ceiling": "skip", "out": out, **settings}).measure(ENGINE)
    facts = json.loads((out / "table.json").read_text(encoding="utf-8"))
    return {(cell["label"], cell["ipc"]): cell["values"] for cell in facts["cells"]}


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "quick", Protocol(name="quick", epochs=2))


def test_a_method_is_named_with_its_settings_and_its_networks():
    made = method_named("datadam:power=1,zca=true,norm=batch,steps=7", 5)
    assert made == DataDAM(ipc=5, power=1, zca=True, steps=7, architecture=Architecture(norm="batch"))


def test_what_is_not_given_of_networks_and_experts_stays_the_methods_own():
    assert method_named("rded:observer.width=8", 1) == RDED(
        ipc=1, observer=Auxiliary(architecture=Architecture(norm="batch", width=8))
    )
    made = method_named("datm:experts=2,experts.epochs=3,width=4", 1)
    usual = DATM(ipc=1)
    assert made.architecture == dataclasses.replace(usual.architecture, width=4)
    assert made.experts == dataclasses.replace(usual.experts, experts=2, epochs=3)


def test_a_line_says_what_labels_its_sets_have():
    assert [row_named(text, 1, 1).labels for text in ("dm", "datm", "datm:labels=hard")] == ["hard", "soft", "hard"]
    assert (row_named("class-mean", 1, 1).most, row_named("dm", 1, 1).most) == (1, 10**9)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("datadan", "unknown method 'datadan'; did you mean 'datadam'?"),
        ("dm:stps=3", "unknown setting of dm 'stps'; did you mean 'steps'?"),
        ("dm:steps=0", "steps is 0; it must be at least 1."),
        ("dm:steps=many", "steps is 'many'; it must be"),
    ],
)
def test_what_is_no_method_or_setting_is_refused(text, sentence):
    with pytest.raises(InputError) as refusal:
        method_named(text, 1)
    assert sentence in str(refusal.value)


def test_every_method_ipc_and_seed_has_its_place(quickly, tmp_path):
    cells = measure(tmp_path, methods=(*METHODS, "class-mean"))
    assert set(cells) == {(method, ipc) for method in METHODS for ipc in (1, 2)} | {("class-mean", 1)}
    assert all(len(values) == 2 and len(values[0]) == 1 for values in cells.values())


def test_another_architecture_is_scored_anew(quickly, tmp_path):
    small = measure(tmp_path, methods=("random",), ipc=(1,))
    files = {path.name for path in tmp_path.rglob("score-*.json")}
    other = measure(tmp_path, methods=("random",), ipc=(1,), architecture="mlp:width=4")
    assert small != other
    assert files == {"score-quick-1-width-4.json"}
    assert {path.name for path in tmp_path.rglob("score-*.json")} > files


def kill_one_worker_at_work(out: Path):
    """SIGKILL the process that holds the first run folder with a checkpoint; a child of the test does this."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for lock in out.rglob("lock"):
            holders = [line.split() for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines()]
            inode = str(lock.stat().st_ino)
            for line in holders:
                if "->" not in line[1] and line[5].endswith(f":{inode}") and int(line[4]) != os.getpid():
                    os.kill(int(line[4]), signal.SIGKILL)
                    return
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_three_workers_of_which_one_is_killed_fill_the_same_table(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    if not Path("/proc/locks").exists():
        pytest.skip("no /proc/locks to find a worker by")
    slow = ("random", "dm:steps=60,real_batch=2,width=4", "datadam:steps=60,real_batch=2,width=4")
    alone = measure(tmp_path / "alone", methods=slow, sets=1)
    killer = threading.Thread(target=kill_one_worker_at_work, args=(tmp_path / "fleet",))
    killer.start()
    together = measure(tmp_path / "fleet", methods=slow, sets=1, workers=3)
    killer.join(1)
    assert not killer.is_alive(), "no worker was killed"
    assert together == alone


def test_a_finished_grid_is_read(quickly, tmp_path, monkeypatch):
    first = measure(tmp_path)
    monkeypatch.setattr(tables, "train_and_test", lambda *a: pytest.fail("trained again"))
    assert measure(tmp_path) == first


def test_counts_below_one_are_refused(tmp_path):
    with pytest.raises(InputError, match="sets is 0; it must be at least 1"):
        measure(tmp_path, sets=0)
