"""The script of a GPU runs as a whole on a CPU, goes on where it was, and compares the same numbers on both devices."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from pretend_cuda import pretended_cuda

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    return gpu


def called(folder, *words):
    command = [sys.executable, str(BENCH / "gpu.py"), "--quick", "--device", "cpu", *words]
    places = ["--record", str(folder / "gpu.json"), "--folder", str(folder / "runs")]
    environment = {name: value for name, value in os.environ.items() if name != "ATTAR_DATA"}
    done = subprocess.run([*command, *places], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "gpu.json").read_text(encoding="utf-8"))


def test_every_part_is_measured_and_recorded_once(tmp_path):
    said, facts = called(tmp_path)
    assert "failed" not in said
    assert facts.keys() >= {"machine", "steps", "speed", "evaluation", "kd", "language", "released"}
    methods = {name: row for name, row in facts["steps"].items() if isinstance(row, dict)}
    assert {"dm", "kd", "simclr", "edm"} <= methods.keys()
    assert all(row["apart"] == 0 and not any(row["later"]) for row in methods.values())
    assert facts["evaluation"]["at once"]["accuracy"] == pytest.approx(facts["evaluation"]["one by one"]["accuracy"])
    assert {"attar", "rival", "ratio"} == facts["speed"]["trajectory matching"].keys()
    said, again = called(tmp_path, "--part", "steps", "kd")
    assert "kd: recorded before" in said
    assert again["steps"]["dm"] == facts["steps"]["dm"]


def test_without_time_parts_are_skipped_and_said(tmp_path):
    said, facts = called(tmp_path, "--minutes", "0.1", "--part", "steps", "language")
    assert "language: skipped, the 0.1 minutes are over" in said
    assert "language" not in facts


@pytest.mark.parametrize("entry", ["dm", "dsa", "simclr", "random"])
def test_a_gpu_draws_what_the_cpu_draws(gpu, entry, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    gpu.small.data_of.cache_clear()
    with pretended_cuda():
        row = gpu.compared(entry, gpu.Report(Namespace(device="cuda")))
    assert row.get("apart", 1) < 1e-6, row
