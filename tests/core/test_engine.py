"""Runs on disk: folders that are somebody else's, damaged checkpoints, interruption, and SIGKILL at any moment."""

import dataclasses
import errno
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext, suppress

import pytest

import attar
from attar.cli import main
from attar.core import engine as loop
from attar.core import store
from attar.core.errors import Diverged, InputError, Interrupted, Stopped
from attar.core.progress import MetricsLog
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture
from promises import EVERY_STEP

SETTINGS = {"ipc": 1, "steps": 5, "real_batch": 4, "architecture": Architecture(width=8)}


@pytest.fixture
def method():
    return attar.DM(**SETTINGS)


@pytest.fixture
def stopped(method, digits, tmp_path, monkeypatch):
    """A run folder whose run was stopped after its second step."""
    interrupt_at(monkeypatch, 2)
    with pytest.raises(Interrupted, match="stopped after step 2 of 5"):
        attar.condense(digits, method, out=tmp_path / "run", engine=EVERY_STEP)
    monkeypatch.undo()
    return tmp_path / "run"


def interrupt_at(monkeypatch, step, *numbers):
    real, taken = attar.DM.step, 0

    def interrupted(self, state, runtime):
        nonlocal taken
        taken += 1
        if taken == step:
            for number in numbers or (signal.SIGINT,):
                os.kill(os.getpid(), number)
        return real(self, state, runtime)

    monkeypatch.setattr(attar.DM, "step", interrupted)


def resume(method, digits, folder):
    return attar.condense(digits, method, out=folder, engine=EVERY_STEP)


def test_ctrl_c_finishes_the_step_saves_and_can_be_resumed(stopped, method, digits, tmp_path):
    whole = attar.condense(digits, method, out=tmp_path / "whole", engine=EVERY_STEP)
    assert resume(method, digits, stopped).fingerprint == whole.fingerprint


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_do_as_ctrl_c(number, method, digits, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 2, number)
    with pytest.raises(Interrupted, match="stopped after step 2 of 5"):
        attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_stop_that_a_library_has_swallowed_is_met_after_the_first_step(tmp_path, monkeypatch, capsys):
    real = attar.DM.build

    def swallowing(self, source, runtime):
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, source, runtime)

    monkeypatch.setattr(attar.DM, "build", swallowing)
    command = "condense dm --data digits --ipc 1 --steps 3 --real-batch 4 --width 8 --device cpu --quiet --out"
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), str(tmp_path)])
    assert stop.value.code == 130
    assert "attar: stopped after step 1 of 3; nothing is lost" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    monkeypatch.undo()
    main([*command.split(), str(tmp_path)])
    assert (tmp_path / "artefact.json").exists()


def test_a_finished_run_whose_description_was_deleted_is_not_called_unfinished(method, digits, tmp_path):
    resume(method, digits, tmp_path)
    (tmp_path / "artefact.json").unlink()
    with pytest.raises(InputError, match=r"although its run is finished\. Delete the folder to make it again\."):
        resume(method, digits, tmp_path)


def test_a_signal_that_is_ignored_stops_nothing(method, digits, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        interrupt_at(monkeypatch, 2, signal.SIGHUP)
        assert attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP).images.shape == (10, 1, 8, 8)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_stops_at_once(method, digits, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 2, signal.SIGTERM, signal.SIGHUP)
    with pytest.raises(Stopped):
        attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    assert not any(store.is_draft(path) for path in tmp_path.rglob("*"))


def test_the_echo_of_a_signal_by_a_launcher_is_no_second_one(monkeypatch):
    with loop._stop_requests(echoed=True) as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_set()
        monkeypatch.setattr(loop, "ECHO", 0.0)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_handlers_of_before_are_put_back(method, digits):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = list(map(signal.getsignal, numbers))
    attar.condense(digits, method, engine=EVERY_STEP)
    assert list(map(signal.getsignal, numbers)) == before


def test_it_runs_outside_the_main_thread_too(method, digits):
    found = []
    thread = threading.Thread(target=lambda: found.append(attar.condense(digits, method, engine=EVERY_STEP)))
    thread.start()
    thread.join()
    assert len(found) == 1


def test_other_settings_are_refused_and_nothing_is_lost(stopped, digits):
    before = (stopped / "run" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(InputError) as error:
        attar.condense(digits, attar.DM(**{**SETTINGS, "steps": 6}), out=stopped, engine=EVERY_STEP)
    assert str(error.value) == (
        f"{stopped} holds a run with other settings (steps: 5 in the folder, 6 requested). "
        "Choose another --out, or delete it."
    )
    assert (stopped / "run" / "checkpoint.safetensors").read_bytes() == before


def test_another_seed_or_other_data_is_another_run(stopped, method, digits, few_digits):
    with pytest.raises(InputError, match="seed: 0 in the folder, 1 requested"):
        attar.condense(digits, method, out=stopped, seed=1, engine=EVERY_STEP)
    with pytest.raises(InputError, match=f"data: {digits.fingerprint} in the folder"):
        attar.condense(few_digits, method, out=stopped, engine=EVERY_STEP)


def test_a_folder_with_other_files_is_left_alone(method, digits, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and holds no run of attar\. Choose another --out\."):
        resume(method, digits, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_draft_of_a_process_that_begins_at_the_same_moment_is_no_foreign_file(method, digits, tmp_path):
    folder = tmp_path / "run-of-both"
    folder.mkdir()
    (folder / f".{os.getpid() + 1}.tmp").touch()
    assert resume(method, digits, folder).folder == folder


def test_a_folder_that_cannot_be_made_is_refused(method, digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*file/run/run: Not a directory\."):
        resume(method, digits, tmp_path / "file" / "run")


def test_a_run_at_work_is_not_disturbed(stopped, method, digits):
    with store.locked(stopped / "run"), pytest.raises(InputError, match="another process is working in"):
        resume(method, digits, stopped)


@pytest.mark.parametrize("damage", ["truncated", "tampered", "pickle", "empty"])
def test_a_damaged_checkpoint_is_refused_with_the_way_out(damage, stopped, method, digits):
    checkpoint = stopped / "run" / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    tampered = bytearray(whole)
    tampered[-3] ^= 1
    checkpoint.write_bytes(
        {"truncated": whole[:-10], "tampered": bytes(tampered), "pickle": pickle.dumps({"step": 1}), "empty": b""}[
            damage
        ]
    )
    with pytest.raises(InputError, match=r"checkpoint\.safetensors .*Delete that file to start the run again\."):
        resume(method, digits, stopped)
    checkpoint.unlink()
    assert resume(method, digits, stopped).images.shape == (10, 1, 8, 8)


def test_damaged_run_settings_are_refused(stopped, method, digits):
    (stopped / "run" / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings\.json is damaged"):
        resume(method, digits, stopped)


ODD = {
    "no JSON": b"{",
    "not UTF-8": b'{"step": "\xff"}',
    "deep": b"[" * 100_000,
    "a long number": b'{"step": ' + b"9" * 5000 + b"}",
    "a list": b"[1, 2]",
    "a text": b'"step"',
    "other types": b'{"step": "two"}',
    "NaN": b'{"step": NaN}',
    "null": b"null",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_lines_of_the_curve_are_left_out(odd, stopped, method, digits):
    curve = stopped / "run" / "metrics.jsonl"
    first, second = curve.read_bytes().splitlines()
    curve.write_bytes(b"\n".join([first, odd, second, odd]))
    resume(method, digits, stopped)
    assert [json.loads(line)["step"] for line in curve.read_text().splitlines()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("file", ["settings.json", "cost.json"])
def test_odd_files_of_a_run_are_refused_or_left_out(file, odd, method, digits, tmp_path):
    attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    (tmp_path / "run" / file).write_bytes(odd)
    with pytest.raises(InputError, match="is damaged") if file == "settings.json" else nullcontext() as told:
        resume(method, digits, tmp_path)
    assert told is None or "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["settings.json", "metrics.jsonl", "checkpoint.safetensors"])
def test_a_folder_in_place_of_a_file_is_refused(name, stopped, method, digits):
    (stopped / "run" / name).unlink()
    (stopped / "run" / name).mkdir()
    with pytest.raises(InputError, match=name):
        resume(method, digits, stopped)


def test_a_finished_run_is_read_where_nothing_can_be_written(method, digits, tmp_path, monkeypatch):
    whole = attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    (tmp_path / "run" / "lock").unlink()

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("make_folder", "locked", "sweep", "write_bytes", "write_json"):
        monkeypatch.setattr(store, name, refuse)
    assert resume(method, digits, tmp_path).fingerprint == whole.fingerprint
    with pytest.raises(InputError, match="holds a run with other settings"):
        resume(dataclasses.replace(method, steps=6), digits, tmp_path)


@pytest.mark.parametrize("file", ["metrics.jsonl", "checkpoint.safetensors"])
def test_a_full_disk_ends_in_one_line_and_leaves_no_draft(file, method, digits, tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*arguments):
        raise full

    monkeypatch.setattr(*((os, "fsync", refuse) if "check" in file else (MetricsLog, "_append", refuse)))
    with pytest.raises(InputError, match=r"cannot write .*No space left on device\. Make room") as told:
        attar.condense(digits, method, out=tmp_path / "run", engine=EVERY_STEP)
    assert "\n" not in str(told.value) and not any(store.is_draft(path) for path in tmp_path.rglob("*"))
    monkeypatch.undo()
    assert resume(method, digits, tmp_path / "run").images.shape == (10, 1, 8, 8)


def test_divergence_stops_the_run_with_advice(digits, tmp_path):
    wild = attar.DM(**{**SETTINGS, "lr": 1e6, "steps": 20})
    with pytest.raises(Diverged, match=r"^pixels became \d.*e\+\d+ at step \d+\. Try a smaller step size \(--lr\)\.$"):
        attar.condense(digits, wild, out=tmp_path, engine=EVERY_STEP)


def test_snapshots_are_kept_when_asked(method, digits, tmp_path):
    attar.condense(digits, method, out=tmp_path, engine=Engine(device="cpu", snapshots=2, quiet=True))
    kept = sorted(path.name for path in (tmp_path / "run" / "snapshots").iterdir())
    assert kept == ["step-000003"]
    assert attar.open_artefact(tmp_path / "run" / "snapshots" / "step-000003").images.shape == (10, 1, 8, 8)


def test_the_curve_is_json_lines_with_both_terms(digits, tmp_path):
    attar.condense(digits, attar.DataDAM(**SETTINGS), out=tmp_path, engine=EVERY_STEP)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert {"loss", "sam", "mmd"} <= set(lines[0])


def test_tensorboard_is_written_when_asked(method, digits, tmp_path):
    attar.condense(digits, method, out=tmp_path, engine=Engine(device="cpu", tensorboard=True, quiet=True))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


KILLING = textwrap.dedent(
    """
    import os, random, signal, sys, time
    import attar.images.condense.dm, attar.verbs, sklearn.datasets, tyro, attar.images.preview, pyarrow.parquet
    from attar.cli import main

    killed, whole, kills = *sys.argv[1:], 0
    command = ["condense", "dm", "--ipc", "2", "--steps", "60", "--real-batch", "8", "--width", "16",
               "--checkpoint-seconds", "0", "--device", "cpu", "--quiet", "--out"]
    moment = random.Random(0)
    while kills < 20:
        child = os.fork()
        if child == 0:
            sys.stdout = open(os.devnull, "w")
            main([*command, killed])
            os._exit(0)
        time.sleep(moment.uniform(0.0, 0.5))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += 1
    for folder in (killed, whole):
        main([*command, folder])
    """
)


def test_sigkill_at_twenty_random_moments_ends_in_the_same_bytes(tmp_path):
    folders = [str(tmp_path / name) for name in ("killed", "whole")]
    subprocess.run([sys.executable, "-c", KILLING, *folders], check=True, capture_output=True)
    digests = [
        {
            str(path.relative_to(tmp_path / name)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.name not in ("lock", "cost.json")
        }
        for name in ("killed", "whole")
    ]
    assert digests[0] == digests[1]


def test_a_run_that_an_earlier_version_began_is_gone_on_with(few_digits, tmp_path, engine):
    method = attar.RDED(ipc=1, candidates=5, observer=attar.Auxiliary(architecture=attar.Architecture(width=4)))
    made = attar.condense(few_digits, method, out=tmp_path, engine=engine)
    file = tmp_path / "run" / "settings.json"
    facts = json.loads(file.read_text())
    observer = facts["settings"].pop("observer")
    facts["settings"] |= {name: observer[name] for name in ("architecture", "protocol")} | {"observer": None}
    older = {name: value for name, value in facts.items() if name not in ("call", "threads")}
    file.write_text(json.dumps(older))
    assert attar.condense(few_digits, method, out=tmp_path, engine=engine).fingerprint == made.fingerprint
    with pytest.raises(InputError, match=r"holds a run with other settings \(ipc: 1 in the folder, 2 requested\)"):
        attar.condense(few_digits, dataclasses.replace(method, ipc=2), out=tmp_path, engine=engine)
