"""Many runs at once: results in order, failures apart, and a killed worker's task taken over."""

import os
import re
import signal
from functools import partial

import pytest

from attar.core.errors import InputError, Interrupted
from attar.core.extras import install
from attar.core.fleet import Task, run_all


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


def test_results_come_in_the_order_of_the_tasks():
    said = []
    assert run_all([Task(f"t{n}", partial(squared, n)) for n in (3, 1, 2)], say=said.append) == [9, 1, 4]
    assert said[0].startswith("1 of 3: t3 done")


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


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_three_workers_do_the_same_and_outlive_one_that_is_killed(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    numbers = [Task(f"t{n}", partial(squared, n)) for n in range(4)]
    tasks = [*numbers, Task("dies", partial(kills_its_worker_once, tmp_path / "pid")), Task("bad", refuses)]
    said = []
    with pytest.raises(InputError, match=r"1 of 6 tasks failed\. The results of the others are kept"):
        run_all(tasks, workers=3, say=said.append)
    assert len(said) == 6
    assert (tmp_path / "pid").exists()
    assert run_all(tasks[:5], workers=3) == [0, 1, 4, 9, True]


def test_without_ray_it_says_what_to_install(monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=re.escape(f"several workers need Ray: {install('cluster')}")):
        run_all([Task("one", partial(squared, 1))], workers=2)


def test_one_of_several_processes_starts_no_workers(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="Ray starts its own workers, but 2 processes were started"):
        run_all([Task("one", partial(squared, 2))], workers=2)
    assert run_all([Task("one", partial(squared, 2))]) == [4]
