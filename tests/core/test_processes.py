"""Several processes on one run give what one gives, up to the order of summation."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import attar
from attar.cli import main
from attar.core import engine, farewell, launcher, meeting, processes
from attar.core.errors import InputError
from attar.core.kinds import kind_named
from attar.core.launcher import check_shared, rank, size
from attar.core.processes import ALONE, Processes
from attar.core.registry import methods
from attar.core.runtime import Engine, Runtime
from attar.verbs import measured
from two_processes import free_port, several

LAUNCH = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no -m attar"
CONDENSE = "--data digits --ipc 2 --steps 12 --width 8 --real-batch 8 --device cpu --checkpoint-seconds 0"


def launch(*words):
    """Two processes by `accelerate launch`; without GPUs they talk by gloo."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH.split(), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


SEVERAL = """
import os, sys
import pyarrow.parquet, sklearn.datasets, torch.distributed, tyro
import attar.images.artefact, attar.images.condense.dm, attar.images.score, attar.verbs
from attar.cli import main

children = []
for rank in range(int(os.environ["WORLD_SIZE"])):
    child = os.fork()
    if not child:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        sys.exit(main(sys.argv[1:]))
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def fork(*words, count=2):
    """Processes as a launcher starts them, forked from one that has imported what they need."""
    command = [sys.executable, "-c", SEVERAL, *map(str, words)]
    return subprocess.run(command, env=several(count), capture_output=True, text=True)


many = pytest.mark.skipif((os.cpu_count() or 1) < 4, reason="eight processes take a minute on so few cores")


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


LAUNCHED = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of a launcher, and removes those that this test run may have."""

    def launched(**variables):
        for name in LAUNCHED:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return launched


def test_the_launcher_says_which_process_this_is(launched):
    launched(**LAUNCHED)
    assert (rank(), size()) == (1, 2)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"PMI_RANK": "1", "PMI_SIZE": "2"},
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"},
        {"OMPI_COMM_WORLD_RANK": "1"},
        {"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
        {"LOCAL_RANK": "1"},
        {"RANK": "1"},
        {"RANK": "1", "WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"},
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"},
    ],
    ids=" ".join,
)
def test_less_than_a_whole_launcher_leaves_one_process(variables, launched, capsys):
    launched(**variables)
    assert (rank(), size()) == (0, 1)
    main(["methods", "mixtures"])
    assert "oggmr" in capsys.readouterr().out
    assert processes.current(cpu=True) is ALONE


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"RANK": "x"}, "the environment variable RANK is 'x', not a whole number from 0"),
        ({"RANK": ""}, "the environment variable RANK is '', not a whole number from 0"),
        ({"RANK": "-1"}, "the environment variable RANK is '-1', not a whole number from 0"),
        ({"RANK": "0.5"}, "the environment variable RANK is '0.5', not a whole number from 0"),
        ({"RANK": "2"}, "the environment variable RANK is 2, which must be less than WORLD_SIZE, 2"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "the environment variable RANK is 0, which must be less than WORLD_SIZE, 0"),
        ({"WORLD_SIZE": "9" * 20}, "the environment variable WORLD_SIZE is '99999999999999999999', not a whole number"),
        ({"WORLD_SIZE": "two"}, "the environment variable WORLD_SIZE is 'two', not a whole number from 0"),
        ({"MASTER_ADDR": ""}, "the environment variable MASTER_ADDR is empty"),
    ],
)
@pytest.mark.parametrize("words_given", [["methods"], ["condense", "dm", "--data", "digits"], ["--help"]], ids=" ".join)
def test_a_launcher_without_sense_is_refused_in_one_line(words_given, variables, words, launched, capsys):
    launched(**LAUNCHED | variables)
    with pytest.raises(SystemExit) as stop:
        main(words_given)
    told = capsys.readouterr()
    assert (stop.value.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert told.err.startswith(f"attar: {words}")


@pytest.mark.parametrize(
    "port, words",
    [
        ("99999", r"process 1 of 2 could not meet the others \(port must have value from 0 to 65535"),
        ("x", "MASTER_PORT is 'x'"),
    ],
)
def test_processes_that_cannot_meet_say_so(port, words, launched, monkeypatch):
    launched(**LAUNCHED)
    monkeypatch.setenv("MASTER_PORT", port)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(InputError, match=words):
        processes._join(cpu=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_the_others_can_be_stopped(number):
    """It stands in a call of torch, which returns to Python only when they have come."""
    environment = several() | {"RANK": "1"}
    child = os.fork()
    if not child:
        os.environ |= environment
        signal.signal(number, lambda *_: None)
        processes._join(cpu=True)
        os._exit(0)
    ended = 0
    for _ in range(100):
        time.sleep(0.1)
        os.kill(child, number)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended
    assert os.waitstatus_to_exitcode(status) == -number


@pytest.mark.parametrize(
    "local, device", [({}, "cuda:1"), ({"LOCAL_RANK": "0"}, "cuda:0"), ({"LOCAL_RANK": "3"}, "cuda:1")]
)
def test_every_process_has_a_gpu_of_its_own(local, device, launched, monkeypatch):
    launched(**LAUNCHED)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    launched(**LAUNCHED | local)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="several processes work on CUDA GPUs and on CPUs"):
        processes._own_gpu()
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert processes._own_gpu() == torch.device(device) == chosen[0]


SHARING = {"dm", "datadam", "atom", "dc", "dsa", "dcc", "sre2l", "cda", "experts"}
SHARED_VERBS = {"classifiers": ("train", "distill"), "language": ("distill",), "tables": ("train",)}
"""Verbs of a kind all of whose methods share their work."""
SHARING |= {"mtt", "ftd", "tesla", "datm", "edf", "ast", "gstam", "doscond", "graph-herding", "graph-k-center"}
SHARED_VERBS |= {"embeddings": ("train",), "samplers": ("train", "distill"), "plasma": ("distill",)}


def test_a_method_shares_its_work_or_is_refused_with_several_processes(launched):
    launched(**LAUNCHED)
    assert set(methods(kind="language")) and set(methods()) > SHARING
    for name, entry in methods().items():
        method = entry.load()
        if name in SHARING or entry.verb in SHARED_VERBS.get(entry.kind, ()):
            check_shared(method, name)
        else:
            with pytest.raises(InputError, match=f"^{name} does not share its work, but 2 processes were started"):
                check_shared(method, name)


@pytest.mark.parametrize(
    "words, what",
    [
        ("condense rded --data digits", "rded"),
        ("condense hello --data digits", "hello"),
        ("condense graph-random --data motifs", "graph-random"),
        ("compress oggmr --n-components 3", "oggmr"),
        ("compress conv", "conv"),
        ("import nothing.pt --data digits", "import"),
        ("bench digits", "attar bench digits"),
    ],
)
def test_of_several_processes_one_says_that_the_work_is_not_shared(words, what, launched, capsys, monkeypatch):
    monkeypatch.setattr(meeting, "_opened", [torch.distributed.HashStore()])
    monkeypatch.setattr(farewell, "STAYS", farewell.STAYS * 0)
    for number in "01":
        launched(**LAUNCHED | {"RANK": number})
        with pytest.raises(SystemExit) as stop:
            main(words.split())
        line = f"attar: {what} does not share its work, but 2 processes were started. Start one process.\n"
        assert (stop.value.code, *capsys.readouterr()) == (2, "", line if number == "0" else "")


def test_python_refuses_as_the_command_does(launched, digits, tmp_path):
    student = attar.distill(digits, attar.Alone(epochs=1, student="mlp:width=4"), engine=Engine(quiet=True))
    launched(**LAUNCHED)
    with pytest.raises(InputError, match=r"^k-center does not share its work, but 2 processes were started\."):
        attar.condense(digits, attar.KCenter(ipc=1), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"^the evaluation of a student or a classifier does not share its work"):
        measured([student], kind_named("classifiers"), kind_named("classifiers").scores()(), None)


def test_several_processes_look_things_up_once(launched, capsys):
    for number in "01":
        launched(**LAUNCHED | {"RANK": number})
        main(["methods", "mixtures"])
        main(["cite", "dm"])
        assert bool(capsys.readouterr().out) == (number == "0")


class Unlike(Processes):
    """Two processes of which the other one has something else."""

    count = 2

    def __init__(self, **other):
        self.other = other

    def collect(self, mine):
        return [mine[0], {**mine[0], **self.other}]


@pytest.mark.parametrize(
    "other, words",
    [
        ({"lr": 7.0}, "lr is 1.0 in the first and 7.0 in process 1"),
        ({"seed": 3, "data": "f00"}, "seed is 0 in the first and 3 in process 1"),
        ({"ipc": 2, "method": "mtt"}, "method is dm in the first and mtt in process 1"),
        ({"attar": "0.0.1"}, "attar is .* in the first and 0.0.1 in process 1"),
    ],
)
def test_processes_with_unlike_runs_are_refused(other, words, digits):
    runtime = Runtime(Engine(device="cpu"))
    method = attar.DM(ipc=1).resolve(digits, runtime)
    engine._check_alike(method, digits, runtime)
    runtime.processes = Unlike()
    engine._check_alike(method, digits, runtime)
    runtime.processes = Unlike(**other)
    with pytest.raises(
        InputError, match=rf"^the processes do not have the same run: {words}\. Give all the same command"
    ):
        engine._check_alike(method, digits, runtime)


WAITING = """
import os, sys, time
from datetime import timedelta

import torch
import torch.distributed as dist
from attar.core import processes
from attar.core.errors import InputError

def busy(seconds):
    time.sleep(seconds)
    return "done"

def refusing():
    time.sleep(1.5)
    raise InputError("no such data.")

def say(words):
    sys.stdout.write(f"{words}\\n")  # in one piece: the other process writes to the same pipe
    sys.stdout.flush()

def here():
    several = processes.current(cpu=True)
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=0.5))
    told = [several.rank, several.count, several.once(lambda: busy(1.5))]
    if several.rank == 1:
        busy(1.5)
    mine = several.share(several.count + 1)
    told += [several.any(several.rank == 1), several.collect([several.rank] * len(mine))]
    try:
        several.once(refusing)
    except InputError as error:
        told.append(str(error))
    say(told)
    dist.barrier(group=several.group)
    if several.rank == 0:
        busy(1.5)
    try:
        dist.all_reduce(torch.zeros(1))
        say("met")
    except RuntimeError:
        say(f"gave up {several.rank}")

count = int(os.environ["WORLD_SIZE"])
for rank in range(count):
    if not os.fork():
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        here()
        sys.stdout.flush()
        os._exit(0)
for _ in range(count):
    os.wait()
"""


@pytest.mark.parametrize("count", [2, 8])
def test_the_others_wait_longer_than_the_backend_does(count):
    """One process is busy for longer than the patience of the first group, in which a wait as long ends."""
    done = subprocess.run([sys.executable, "-c", WAITING], env=several(count), capture_output=True, text=True)
    lines = done.stdout.splitlines()
    for number in range(count):
        assert str([number, count, "done", True, [*range(count), 0], "no such data."]) in lines, done.stderr
    assert "gave up 1" in lines


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
        [
            json.loads(line)["loss"]
            for line in (tmp_path / name / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@many
def test_eight_processes_give_the_set_of_one(tmp_path):
    """Of ten classes, so that two of them have two."""
    settings = {"ipc": 1, "steps": 3, "real_batch": 4, "architecture": attar.Architecture(width=4)}
    words = "--data digits --ipc 1 --steps 3 --width 4 --real-batch 4 --device cpu --checkpoint-seconds 0"
    done = fork("condense", "dm", *words.split(), "--out", tmp_path / "eight", count=8)
    assert done.returncode == 0, done.stderr
    engine = Engine(device="cpu", quiet=True)
    one = attar.condense("digits", attar.DM(**settings), out=tmp_path / "one", engine=engine)
    torch.testing.assert_close(attar.open_artefact(tmp_path / "eight").images, one.images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count, repeats", [(2, 3), (4, 2), pytest.param(8, 3, marks=many)])
def test_processes_share_the_networks_of_an_evaluation(count, repeats, tmp_path, digits):
    """Two of two processes train the third network together; two of four each of two."""
    small = attar.condense(digits, attar.Random(ipc=1), out=tmp_path / "set", engine=Engine(quiet=True))
    words = f"--networks mlp:width=8 --repeats {repeats} --protocol quick --ceiling skip --beside skip --device cpu"
    done = fork("evaluate", tmp_path / "set", *words.split(), "--json", tmp_path / "scores.json", count=count)
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["rows"][0]["columns"][0]["values"]
    engine = Engine(device="cpu", quiet=True)
    one = attar.evaluate(
        small,
        digits,
        networks=["mlp:width=8"],
        repeats=repeats,
        protocol="quick",
        ceiling="skip",
        beside="skip",
        engine=engine,
    )
    assert two == [pytest.approx(list(values), abs=1) for values in one.networks[0].values]


def test_a_refusal_is_one_line_from_one_process(tmp_path):
    done = fork("condense", "dm", *CONDENSE.split(), "--norm", "batch", "--out", tmp_path / "run")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("attar: ")]
    assert lines == [
        "attar: batch norm needs all classes in one batch, so 2 processes cannot share them; "
        "use --norm instance, or one process."
    ]


FAILING = """
import json, os, signal, sys
from pathlib import Path
import pyarrow.parquet, sklearn.datasets, torch.distributed, tyro
import attar.images.artefact, attar.images.condense.dm, attar.images.score, attar.verbs
from attar.cli import main
from attar.core import engine
from attar.core.errors import InputError

def failing(fault, words):
    plain, taken = engine._step, []

    def step(*given):
        taken.append(given)
        if len(taken) == 3:
            exec(fault)
        return plain(*given)

    engine._step = step if fault else plain
    sys.exit(main(words))

def ended(failed, fault, port, out):
    "Codes and messages of three processes, which meet at a store beside them, as torchrun has one."
    os.environ |= {"MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "True"}
    out, children = Path(out), []
    for rank in range(3):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.dup2(os.open(f"{out}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            failing(fault if rank == failed else "", [*sys.argv[2:], "--out", str(out)])
        children.append(child)
    store = torch.distributed.TCPStore("127.0.0.1", int(port), is_master=True, wait_for_workers=False)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return codes, Path(f"{out}.txt").read_text(encoding="utf-8")

for case in json.loads(sys.argv[1]):
    child = os.fork()  # one that has no store yet
    if not child:
        print(json.dumps(ended(*case)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
ENDED = "attar: another process of this run has ended, so this one cannot continue. Its own message"
KILLED, REFUSED = "os.kill(os.getpid(), signal.SIGKILL)", "raise InputError('picture 7 cannot be read.')"
FAILURES = [
    (1, KILLED, ENDED, [2, -9, 2]),
    (0, KILLED, ENDED, [-9, 2, 2]),
    (2, REFUSED, "attar: process 2 of 3: picture 7 cannot be read.", [2, 2, 2]),
    (0, REFUSED, "attar: picture 7 cannot be read.", [2, 2, 2]),
    (1, "raise KeyError('x')", "attar: process 1 of 3: internal error, please report it: KeyError", [2, 70, 2]),
]
"""Which process fails, of what, what is printed, and the exit codes."""


def test_a_failure_of_one_process_is_one_line_of_all(tmp_path):
    cases = [(failing, fault, free_port(), str(tmp_path / str(n))) for n, (failing, fault, *_) in enumerate(FAILURES)]
    command = [sys.executable, "-c", FAILING, json.dumps(cases), "condense", "dm", *CONDENSE.split(), "--quiet"]
    done = subprocess.run(command, env=several(3), capture_output=True, text=True, timeout=600)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [codes for codes, _ in found] == [codes for *_, codes in FAILURES], found
    for (*_, line, _), (_, told) in zip(FAILURES, found, strict=True):
        assert "Traceback" not in told
        lines = [one for one in told.splitlines() if one.startswith("attar: ")]
        assert len(lines) == 1, told
        assert lines[0].startswith(line)


def test_only_the_first_process_writes_scores(tmp_path, monkeypatch, digits):
    attar.condense(digits, attar.Random(ipc=1), out=tmp_path / "set", engine=Engine(quiet=True))
    monkeypatch.setattr(processes, "current", lambda *, cpu: of(1, 2))
    monkeypatch.setattr("attar.verbs.measured", lambda *given, **more: "scores")
    main(["evaluate", str(tmp_path / "set"), "--json", str(tmp_path / "scores.json"), "--quiet"])
    assert not (tmp_path / "scores.json").exists()
    assert not (tmp_path / "set" / "scores.json").exists()


def test_machines_that_do_not_share_the_run_folder_are_refused(tmp_path, monkeypatch):
    """Another process, on another machine, sees no folder, or an older checkpoint."""
    folder = engine.RunFolder(tmp_path / "run", Runtime(Engine(device="cpu")))
    folder.inner.mkdir(parents=True)
    both = of(0, 2)
    for there in [(False, 0), (True, 3)]:
        monkeypatch.setattr(both, "collect", lambda mine, there=there: [*mine, there])
        with pytest.raises(InputError, match=r"run is not the same folder for all 2 processes\. Choose an --out"):
            engine._check_shared(folder, 0, both)
    monkeypatch.setattr(both, "collect", lambda mine: mine * 2)
    engine._check_shared(folder, 0, both)


def test_more_processes_than_classes_are_refused(shapes, engine):
    runtime = Runtime(engine, 0)
    runtime.processes = of(0, 4)
    method = attar.DM(ipc=1, steps=1, real_batch=2, architecture=attar.Architecture(width=8)).resolve(shapes, runtime)
    with pytest.raises(InputError, match="4 processes are too many to share 3 classes"):
        method.build(shapes, runtime)


@pytest.mark.parametrize(
    "parent, line",
    [
        (
            "/usr/bin/python3 /usr/bin/torchrun --nproc-per-node 2 -m attar condense dm --out 'my run'",
            "torchrun --nproc-per-node 2 -m attar condense dm --out 'my run'",
        ),
        (
            "/env/bin/python /env/bin/accelerate launch --num_processes 2 -m attar condense dm --out 'my run'",
            "accelerate launch --num_processes 2 -m attar condense dm --out 'my run'",
        ),
        (
            "python -m torch.distributed.run --nproc-per-node 2 -m attar condense dm --out 'my run'",
            "python -m torch.distributed.run --nproc-per-node 2 -m attar condense dm --out 'my run'",
        ),
        ("bash", "torchrun --nproc-per-node 2 -m attar condense dm --out 'my run'"),
        ("", "torchrun --nproc-per-node 2 -m attar condense dm --out 'my run'"),
    ],
)
def test_the_line_that_goes_on_keeps_the_launcher(parent, line, launched, monkeypatch):
    words = ["condense", "dm", "--out", "my run"]
    monkeypatch.setattr(launcher, "_parent", lambda: shlex.split(parent))
    launched()
    assert launcher.line_of(words) == "attar condense dm --out 'my run'"
    launched(**LAUNCHED)
    assert launcher.line_of(words) == line


@pytest.mark.parametrize("here, machines", [(None, 1), ("4", 1), ("1", 4), ("3", 2)])
def test_the_launcher_tells_how_many_machines_there_are(here, machines, launched, monkeypatch):
    launched(**LAUNCHED | {"WORLD_SIZE": "4"})
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if here:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert launcher.machines() == machines


def test_torchrun_is_stopped_saves_and_says_how_to_go_on(tmp_path):
    """The launcher hands the signal on. Slurm sends it to all processes too, which is once more for each."""
    out = tmp_path / "run"
    words = "--data digits --ipc 1 --steps 100000 --width 4 --real-batch 4 --device cpu --quiet"
    start = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(), "-m", "attar"]
    command = [*start, "condense", "dm", *words.split(), "--out", str(out)]
    run = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True)
    curve = out / "run" / "metrics.jsonl"
    for _ in range(600):
        if curve.exists() and curve.stat().st_size:
            break
        time.sleep(0.1)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    for process in (*map(int, children), run.pid):
        os.kill(process, signal.SIGTERM)
    _, told = run.communicate(timeout=60)
    line = shlex.join([Path(sys.executable).name, *command])
    assert [one.strip() for one in told.splitlines()].count(line) == 1, told
    assert "nothing is lost. To continue, run the same command again:" in told
    assert (out / "run" / "checkpoint.safetensors").exists()


LEAVING = """
import atexit
import torch.distributed as dist
from attar.core import processes

atexit.register(lambda: print(dist.is_initialized()))  # called last
processes.current(cpu=True).once(lambda: None)
"""


def test_a_process_leaves_the_group_before_the_interpreter_ends():
    """A thread of the group that frees a tensor while the interpreter ends would abort the process."""
    shared = several()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", LEAVING], env=shared | {"RANK": rank}, stdout=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    assert [process.communicate()[0].strip() for process in both] == ["False", "False"]
    assert [process.returncode for process in both] == [0, 0]


def test_only_the_first_process_tells_a_tracker(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    done = fork("condense", "dm", *CONDENSE.split(), "--quiet", "--track", "tensorboard", "--out", tmp_path / "told")
    assert done.returncode == 0, done.stderr
    main(["condense", "dm", *CONDENSE.split(), "--quiet", "--out", str(tmp_path / "alone")])
    events = [path for path in (tmp_path / "told" / "run" / "tensorboard").iterdir() if path.is_file()]
    assert len(events) == 1
    lines = [(tmp_path / name / "run" / "metrics.jsonl").read_text(encoding="utf-8") for name in ("told", "alone")]
    assert [json.loads(line)["step"] for line in lines[0].splitlines()] == list(range(1, 13))
    assert len(lines[0].splitlines()) == len(lines[1].splitlines())
