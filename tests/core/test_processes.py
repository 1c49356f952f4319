"""Several processes on one run give what one gives, up to the order of summation."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.launcher import rank, size
from attar.core.processes import ALONE, Processes
from attar.core.runtime import Engine, Runtime

LAUNCH = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no -m attar"
CONDENSE = "--data digits --ipc 2 --steps 12 --width 8 --real-batch 8 --device cpu --checkpoint-seconds 0"


def launch(*words):
    """Two processes by `accelerate launch`; without GPUs they talk by gloo."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH.split(), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


TWO = """
import os, sys
import accelerate, pyarrow.parquet, sklearn.datasets, torch.distributed, tyro
import attar.images.artefact, attar.images.condense.dm, attar.images.score, attar.verbs
from attar.cli import main

children = []
for rank in ("0", "1"):
    child = os.fork()
    if not child:
        os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
        sys.exit(main(sys.argv[1:]))
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def fork(*words):
    """Two processes as a launcher starts them, forked from one that has imported what they need."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", TWO, *map(str, words)]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)


def of(index, count):
    """Process `index` of `count`, without the others."""
    one = Processes()
    one.rank, one.count = index, count
    return one


@pytest.mark.parametrize("items", [0, 1, 5, 7])
def test_every_item_is_shared_to_one_process(items):
    shares = [of(index, 3).share(items) for index in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(items))


def test_one_process_alone_does_everything():
    assert list(ALONE.share(4)) == [0, 1, 2, 3]
    assert ALONE.collect([1, 2]) == [1, 2]
    assert ALONE.once(lambda: 3) == 3
    assert not ALONE.any(False)


@pytest.mark.parametrize("name", ["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"])
def test_the_launcher_says_which_process_this_is(name, monkeypatch):
    monkeypatch.setenv(name, "3")
    assert rank() == 3
    assert size() == 1


def test_two_processes_give_the_set_of_one_and_print_once(tmp_path):
    done = launch("condense", "datadam", *CONDENSE.split(), "--out", tmp_path / "two")
    assert done.stdout.count("20 images") == 1
    one = attar.condense(
        "digits",
        attar.DataDAM(ipc=2, steps=12, real_batch=8, architecture=attar.Architecture(width=8)),
        out=tmp_path / "one",
        engine=Engine(device="cpu", quiet=True),
    )
    two = attar.open_artefact(tmp_path / "two")
    torch.testing.assert_close(two.images, one.images, rtol=1e-5, atol=1e-5)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "run" / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_two_processes_share_the_networks_of_an_evaluation(tmp_path, digits):
    small = attar.condense(digits, attar.Random(ipc=1), out=tmp_path / "set", engine=Engine(quiet=True))
    words = "--networks mlp:width=8 --repeats 3 --protocol quick --ceiling skip --beside skip --device cpu"
    done = fork("evaluate", tmp_path / "set", *words.split(), "--json", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "scores.json").read_text())["rows"][0]["columns"][0]["values"]
    engine = Engine(device="cpu", quiet=True)
    one = attar.evaluate(
        small,
        digits,
        networks=["mlp:width=8"],
        repeats=3,
        protocol="quick",
        ceiling="skip",
        beside="skip",
        engine=engine,
    )
    assert two == [list(values) for values in one.networks[0].values]


def test_a_refusal_is_one_line_from_one_process(tmp_path):
    done = fork("condense", "dm", *CONDENSE.split(), "--norm", "batch", "--out", tmp_path / "run")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("attar: ")]
    assert lines == [
        "attar: batch norm needs all classes in one batch, so 2 processes cannot share them; "
        "use --norm instance, or one process."
    ]


def test_more_processes_than_classes_are_refused(shapes, engine):
    runtime = Runtime(engine, 0)
    runtime.processes = of(0, 4)
    method = attar.DM(ipc=1, steps=1, real_batch=2, architecture=attar.Architecture(width=8)).resolve(shapes, runtime)
    with pytest.raises(InputError, match="4 processes are too many to share 3 classes"):
        method.build(shapes, runtime)
