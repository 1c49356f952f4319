"""Many runs at once: results in order, failures apart, and a killed worker's task taken over."""

import builtins
import importlib
import os
import re
import signal
import socket
import threading
import time
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest

from attar.core import cluster
from attar.core.cluster import Cluster, check_answers
from attar.core.errors import InputError, Interrupted
from attar.core.extras import install
from attar.core.fleet import Crew, Fleet, Task, crew, run_all
from attar.core.runtime import Engine, Runtime

NOISE = ["ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning"]
on_ray = pytest.mark.filterwarnings(*NOISE)


def squared(number):
    return number**2


def refuses():
    raise InputError("no such data.")


def kills_its_worker_once(marker):
    """Dies by SIGKILL the first time, and works the second."""
    if not marker.exists():
        marker.write_text(str(os.getpid()), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    return int(marker.read_text(encoding="utf-8")) != os.getpid()


def where_it_lies(heavy, light):
    return os.getpid(), id(heavy), len(heavy) + light


def test_results_come_in_the_order_of_the_tasks():
    said = []
    assert run_all([Task(f"t{n}", partial(squared, n)) for n in (3, 1, 2)], say=said.append) == [9, 1, 4]
    assert said[0].startswith("1 of 3: t3 done")


def test_what_tasks_are_given_comes_as_arguments():
    heavy = [0] * 10
    found = run_all([Task("one", where_it_lies, (heavy, 1)), Task("two", where_it_lies, (heavy, 2))])
    assert found == [(os.getpid(), id(heavy), 11), (os.getpid(), id(heavy), 12)]


def test_one_that_cannot_be_done_is_told_when_the_others_are(tmp_path):
    made = []
    tasks = [Task("bad", refuses), Task("good", lambda: made.append(1))]
    with pytest.raises(InputError) as refusal:
        run_all(tasks)
    assert str(refusal.value) == "1 of 2 tasks failed. The results of the others are kept. bad: no such data."
    assert made == [1]


def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_all([Task("broken", lambda: 1 // 0)])


def test_ctrl_c_says_how_far_it_came():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="stopped with 1 of 3 done"):
        run_all([Task("one", partial(squared, 1)), Task("two", interrupt), Task("three", refuses)])


def saves_when_stopped(folder):
    """Works until it is stopped, as a run does, and then saves."""
    stop = threading.Event()
    usual = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        (folder / f"began-{os.getpid()}").touch()
        while not stop.is_set():
            time.sleep(0.02)
        (folder / "saved").touch()
        raise Interrupted("stopped")
    finally:
        signal.signal(signal.SIGINT, usual)


def breaks():
    return 1 // 0


@on_ray
def test_three_workers_do_the_same_and_outlive_one_that_is_killed(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    numbers = [Task(f"t{n}", partial(squared, n)) for n in range(4)]
    tasks = [*numbers, Task("dies", partial(kills_its_worker_once, tmp_path / "pid")), Task("bad", refuses)]
    said, printing = [], print
    with crew(Fleet(workers=3), Runtime(Engine(device="cpu"))) as hired:
        with pytest.raises(InputError, match=r"1 of 6 tasks failed\. The results of the others are kept"):
            hired.do(tasks, say=said.append)
        assert len(said) == 6
        importlib.import_module("ray.experimental.tqdm_ray").instance()
        assert builtins.print is printing, "Numba cannot compile the function that Ray puts in its place"
        assert (tmp_path / "pid").exists()
        assert hired.do(tasks[:5], say=said.append) == [0, 1, 4, 9, True]
        assert hired.do([], say=said.append) == []
        with pytest.raises(ZeroDivisionError):
            hired.do([Task("broken", breaks)], say=said.append)
        heavy = b"x" * 1_000_000
        found = hired.do([Task(f"h{n}", where_it_lies, (heavy, n)) for n in range(40)], say=said.append)
        assert [length for _, _, length in found] == [1_000_000 + n for n in range(40)]
        assert len({(worker, place) for worker, place, _ in found}) == len({worker for worker, _, _ in found})
        stopper = threading.Thread(target=stop_when_begun, args=(tmp_path,))
        stopper.start()
        with pytest.raises(Interrupted, match="stopped with 0 of 2 done"):
            hired.do([Task(f"s{n}", partial(saves_when_stopped, tmp_path)) for n in range(2)], say=said.append)
        stopper.join()
        assert (tmp_path / "saved").exists()


def stop_when_begun(folder):
    while not list(folder.glob("began-*")):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


def test_without_ray_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=re.escape(f"several workers need Ray: {install('cluster')}")):
        run_all([Task("one", partial(squared, 1))], workers=2)


def test_one_of_several_processes_starts_no_workers(monkeypatch):
    alone = Runtime(Engine(device="cpu"))
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    tasks = [Task("one", partial(squared, 2))]
    with (
        crew(Fleet(workers=2), alone) as hired,
        pytest.raises(InputError, match="Ray starts its own workers, but 2 processes were started"),
    ):
        hired.do(tasks, say=print)
    with crew(Fleet(), alone) as hired:
        assert hired.do(tasks, say=print) == [4]


# What a cluster has, and what tasks get.


class Ray:
    """Stands for Ray with some machines."""

    def __init__(self, *machines):
        self.machines = machines

    def cluster_resources(self):
        names = {name for machine in self.machines for name in machine}
        return {name: float(sum(machine.get(name, 0) for machine in self.machines)) for name in names}

    def nodes(self):
        return [
            {"Alive": True, "Resources": machine, "NodeID": str(n), "NodeManagerAddress": f"10.0.0.{n}"}
            for n, machine in enumerate(self.machines)
        ]


def hired_on(*machines, device="auto", address="head:6379", task_gpus=None, local="cpu"):
    runtime = SimpleNamespace(engine=Engine(device=device), device=SimpleNamespace(type=local))
    found = Crew(Fleet(address=address, task_gpus=task_gpus), runtime, ExitStack())
    found.__dict__["cluster"] = Cluster(Ray(*machines), "the Ray cluster at head:6379", None)
    return found


GPUS, CORES = {"CPU": 16, "GPU": 4}, {"CPU": 8}


@pytest.mark.parametrize(
    "machines, settings, gpus, told",
    [
        ([GPUS, GPUS], {}, 1, "2 machines, 32 cores, 8 GPUs; one core and one GPU for each task, at most 8 at once"),
        ([GPUS, CORES], {"device": "cuda"}, 1, "2 machines, 24 cores, 4 GPUs; one core and one GPU for each task"),
        ([GPUS], {"task_gpus": 0.25}, 0.25, "one core and 0.25 GPUs for each task, at most 16 at once"),
        ([GPUS], {"task_gpus": 0.1}, 0.1, "at most 16 at once"),
        ([GPUS], {"task_gpus": 2}, 2, "one core and 2 GPUs for each task, at most 2 at once"),
        ([GPUS], {"device": "cpu"}, 0, "1 machine, 16 cores, 4 GPUs; one core for each task, at most 16 at once"),
        ([CORES], {"local": "cuda"}, 0, "1 machine, 8 cores, 0 GPUs; one core for each task, at most 8 at once"),
    ],
)
def test_each_task_has_a_gpu_where_the_cluster_has_some(machines, settings, gpus, told):
    found = hired_on(*machines, **settings)
    assert (found.gpus, found.on_gpus) == (gpus, gpus > 0)
    assert told in found._told()


@pytest.mark.parametrize(
    "machines, settings, words",
    [
        (
            [CORES],
            {"device": "cuda", "local": "cuda"},
            r"the Ray cluster at head:6379 has no GPU\. Give --device cpu\.",
        ),
        ([GPUS], {"task_gpus": 5}, r"--task-gpus is 5, but the Ray cluster at head:6379 has 4 GPUs\."),
        ([GPUS], {"task_gpus": 1.5}, r"--task-gpus is 1\.5\. Give a whole number, or a share of one from 0\.0001\."),
        ([GPUS], {"task_gpus": 1e-6}, r"--task-gpus is 1e-06\. Give a whole number"),
        ([GPUS], {"task_gpus": 1, "device": "cpu"}, r"--task-gpus is 1, but --device cpu takes no GPU\."),
        ([GPUS], {"device": "cuda:1"}, r"--device cuda:1 names one GPU of this machine"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(machines, settings, words):
    with pytest.raises(InputError, match=words):
        _ = hired_on(*machines, **settings).gpus


def test_on_this_machine_its_own_gpu_counts():
    assert hired_on(CORES, address=None, local="cuda").on_gpus
    assert not hired_on(CORES, address=None).on_gpus
    assert hired_on(GPUS, address=None, local="cuda").gpus == 1
    assert hired_on(GPUS, address=None).gpus == 0  # which torch cannot use


# A folder that all machines share.


@pytest.mark.parametrize(
    "seen, words",
    [
        ({"a": (True, None), "b": (True, None)}, None),
        ({"a": (True, None), "b": (False, None)}, r"is not the same folder on every machine of C \(not on b\)"),
        (dict.fromkeys("abcdef", (False, None)), r"\(not on a, b, c and 3 more\)\. Results are written there"),
        ({"a": (True, "0.0.1")}, r"attar is .* here, but 0\.0\.1 on a\. Install the same version everywhere"),
    ],
)
def test_a_folder_that_machines_do_not_share_is_refused(seen, words, tmp_path, monkeypatch):
    def asked(self, mark):
        assert mark.exists()
        return {host: (sees, version or cluster.__version__) for host, (sees, version) in seen.items()}

    monkeypatch.setattr(Cluster, "_asked", asked)
    if words is None:
        Cluster(None, "C", None).check_shared(tmp_path / "out")
    else:
        with pytest.raises(InputError, match=words):
            Cluster(None, "C", None).check_shared(tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


# Addresses.


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_a_dead_address_is_told_in_one_line(address):
    from two_processes import free_port  # Ray's workers import this file from elsewhere

    pytest.importorskip("ray", reason="ray is not installed")
    address, began = address.format(free_port()), time.monotonic()
    with pytest.raises(InputError) as refusal:
        run_all([Task("one", partial(squared, 1))], address=address)
    assert str(refusal.value) == (
        f"no Ray answers at {address.removeprefix('ray://')} (Connection refused). Look there with: ray status."
    )
    assert time.monotonic() - began < 5


def test_an_address_that_nobody_has_is_told_within_seconds(monkeypatch):
    def silent(place, timeout):
        time.sleep(min(timeout, 0.1))
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(InputError, match=r"no Ray answers at 10\.255\.255\.1:6379 \(timed out\)"):
        check_answers("10.255.255.1:6379")
    assert cluster.ANSWER < 10


@pytest.mark.parametrize("address", ["nowhere", "host:", ":6379", "host:port", "http://host:6379/x"])
def test_what_is_no_address_is_refused(address):
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(InputError, match=r"is no address of Ray\. Give host:port, ray://host:10001, or auto\."):
        run_all([Task("one", partial(squared, 1))], address=address)


def test_auto_is_looked_up(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster.place_of("auto") is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("10.0.0.1:6379\n")
    assert cluster.place_of("auto") == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.2:10001")
    assert cluster.place_of("auto") == "10.0.0.2:10001"
    assert cluster.place_of("[::1]:6379") == "[::1]:6379"


def test_a_head_that_has_stopped_is_told_in_one_line():
    from two_processes import free_port  # Ray's workers import this file from elsewhere

    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(InputError) as refusal:
        Cluster(None, "the Ray cluster at auto", place).check_alive()
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"the head of the Ray cluster at auto has stopped (no Ray answers at {place}")
    Cluster(None, "Ray", None).check_alive()


def test_copies_on_a_gpu_do_not_travel(digits):
    import pickle

    source = pickle.loads(pickle.dumps(digits))
    source._copies["cuda:0"] = "in its memory"
    again = pickle.loads(pickle.dumps(source))
    assert again._copies == {} and again.fingerprint == digits.fingerprint


def test_gpus_of_tasks_without_workers_are_told_to_do_nothing():
    lines = []
    with crew(Fleet(task_gpus=0.5), Runtime(Engine(device="cpu"), say=lines.append)):
        pass
    assert lines == ["note: --task-gpus is for tasks on Ray, and this process does them itself. Give --workers too."]


def test_workers_beside_an_address_are_told_to_do_nothing():
    lines = []
    with crew(Fleet(workers=3, address="head:6379"), Runtime(Engine(device="cpu"), say=lines.append)):
        pass
    assert [line.partition(".")[0] for line in lines] == ["note: --workers is for tasks on this machine"]


def test_workers_of_this_machine_are_no_cluster_that_it_belongs_to(monkeypatch):
    ray, given = pytest.importorskip("ray", reason="ray is not installed"), []
    monkeypatch.setattr(ray, "init", lambda **how: given.append(how))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="here:6379"))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with cluster.joined(2, None) as found:
        assert found.name == "Ray on this machine"
    assert (given[0]["address"], given[0]["num_cpus"]) == ("local", 2)
