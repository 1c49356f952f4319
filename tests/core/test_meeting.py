"""A process that fails before the others have met it: one line from somebody, and nobody waits."""

import json
import subprocess
import sys

import pytest
import torch.distributed as dist

from attar.core import farewell, meeting
from attar.core.errors import InputError, OthersEnded
from two_processes import free_port, several

EARLY = """
import json, os, signal, sys
from pathlib import Path
import pyarrow.parquet, sklearn.datasets, torch.distributed, tyro
import attar.commands.making as making
import attar.images.artefact, attar.images.condense.dm, attar.verbs
from attar.cli import main
from attar.core.errors import InputError

def failing(number):
    if number is not None:
        def finish(*given):
            raise [InputError("no such data."), KeyError("x")][number]
        making.finish = finish
    try:
        main(sys.argv[2:])
    except SystemExit as stop:
        os._exit(stop.code)
    os._exit(0)

for case, (faults, port, agent, out) in enumerate(json.loads(sys.argv[1])):
    os.environ |= {"MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": str(agent)}
    children = []
    for rank, number in enumerate(faults):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            failing(number)
        children.append(child)
    holder = os.fork() if agent else 0
    if agent and not holder:
        store = torch.distributed.TCPStore("127.0.0.1", int(port), is_master=True, wait_for_workers=False)
        signal.pause()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
    if agent:
        os.kill(holder, signal.SIGKILL)
"""
DATA, MISTAKE = 0, 1
FAULTS = [
    ([None, DATA, None], "attar: process 1 of 3: no such data.", [2, 2, 2]),
    ([DATA, None, None], "attar: no such data.", [2, 2, 2]),
    ([DATA, DATA, DATA], "attar: no such data.", [2, 2, 2]),
    ([None, None, MISTAKE], "attar: process 2 of 3: internal error, please report it: KeyError: 'x'", [2, 2, 70]),
]


@pytest.mark.parametrize("agent", [False, True])
def test_a_failure_before_the_processes_meet_is_one_line_of_all(agent, tmp_path):
    """The first process holds the store, or the launcher does."""
    cases = [(faults, free_port(), agent, str(tmp_path / str(n))) for n, (faults, *_) in enumerate(FAULTS)]
    words = "condense dm --data digits --ipc 1 --steps 1 --width 4 --device cpu --quiet --out"
    command = [sys.executable, "-c", EARLY, json.dumps(cases), *words.split(), str(tmp_path / "run")]
    done = subprocess.run(command, env=several(3), capture_output=True, text=True, timeout=120)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [codes for *_, codes in FAULTS], done.stderr
    for number, (_, line, _) in enumerate(FAULTS):
        (told,) = (tmp_path / str(number)).read_text(encoding="utf-8").splitlines()
        assert told.startswith(line)


@pytest.fixture
def store(monkeypatch):
    """A store in memory; the two processes have little patience."""
    held = dist.HashStore()
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(meeting, "_opened", [held])
    for home, name in ((meeting, "LATE"), (meeting, "LOOK"), (meeting, "PATIENCE"), (farewell, "STAYS")):
        monkeypatch.setattr(home, name, getattr(home, name) * 0)
    return held


def test_processes_on_several_devices_are_told_so(store):
    store.set("attar/here/1", "cuda")
    with pytest.raises(InputError, match=r"^some processes work on cpu and others on cuda\. Give --device cpu\.$"):
        meeting.meet("cpu")


def test_processes_that_are_all_there_go_on(store):
    store.set("attar/here/1", "cpu")
    assert meeting.meet("cpu") is store


def test_one_that_does_not_come_is_not_waited_for_forever(store):
    with pytest.raises(RuntimeError, match=r"^they did not come in time$"):
        meeting.meet("cpu")


def test_nobody_waits_for_one_that_has_failed(store):
    store.set(meeting.place_of(1), meeting.PRINTED)
    with pytest.raises(OthersEnded):
        meeting.meet("cpu")
    assert farewell.message("another one has ended", lost=True) is None


def test_a_process_alone_at_an_address_says_what_is_wrong_with_it(monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(meeting, "LATE", meeting.LATE * 0.02)
    monkeypatch.setattr(farewell, "LINGERS", meeting.LATE)
    assert farewell.message("no such data.", lost=False) == "process 1 of 2: no such data."
    farewell.leave()
    monkeypatch.setenv("MASTER_PORT", "x")
    assert farewell.message("no such data.", lost=False) == "process 1 of 2: no such data."
