"""The command from outside: what it prints, what it refuses, in one line and with exit code 2."""

import errno
import json
import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from safetensors import SafetensorError

from attar.cli import main, usage
from attar.commands.verbs import VERBS
from attar.core.registry import METHODS

CHEAP = ["--steps", "2", "--real-batch", "2", "--width", "8", "--device", "cpu", "--quiet"]


def refusal(capsys, *arguments):
    """The one line that the command prints when it refuses."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1].startswith("attar: ")
    assert not any(line.startswith("Traceback") for line in printed)
    return printed[-1]


@pytest.fixture
def pictures(tmp_path):
    """Two classes of ten 8×8 pictures."""
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "farm" / name).mkdir(parents=True)
        for index in range(10):
            pixels = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "farm" / name / f"{index}.png")
    return tmp_path / "farm"


def test_help_takes_less_than_a_second():
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "attar", "--help"], capture_output=True, text=True, check=True)
    assert "condense METHOD" in done.stdout
    assert time.perf_counter() - start < 1.0


def test_a_refusal_is_one_line_and_exit_code_2_in_a_real_process():
    done = subprocess.run([sys.executable, "-m", "attar", "condense", "datadan"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    known = sorted(name for name, entry in METHODS.items() if entry.verb == "condense")
    assert done.stderr == (f"attar: unknown method 'datadan'; did you mean 'datadam'? Known: {', '.join(known)}.\n")


def test_a_closed_pipe_ends_quietly():
    command = f"{sys.executable} -m attar methods | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Labelled images: attar condense\n"


@pytest.mark.parametrize(
    "error, code, words",
    [
        (MemoryError(), 2, "there is not enough memory. Try smaller images"),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), 2, "not enough memory: 7.45 GiB were asked for"),
        (RuntimeError("can't allocate memory: you tried to allocate 181000000000 bytes."), 2, "181.0 GB were asked"),
        (RuntimeError("Storage size calculation overflowed with sizes=[9, 9]"), 2, "too large for any memory"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 2, "the disk is full (a/b)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000), 2, "a path is too long (aaaa"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "permission denied (x)."),
        (SafetensorError("Error while serializing: I/O error"), 2, "I/O error (SafetensorError)."),
        (pa.ArrowInvalid("Parquet magic bytes not found"), 2, "Parquet magic bytes not found (ArrowInvalid)."),
        (KeyError("x"), 70, "internal error, please report it: KeyError: 'x', in attar/cli.py, line "),
        (RuntimeError("shapes differ"), 70, "internal error, please report it: RuntimeError: shapes differ"),
        (RecursionError(), 70, "internal error, please report it: RecursionError, in"),
        (AssertionError(), 70, "internal error"),
        (KeyboardInterrupt(), 130, "interrupted."),
        (BrokenPipeError(), 0, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_error_ends_in_one_line_and_its_code(error, code, words, capsys, monkeypatch):
    def fail(arguments):
        raise error

    monkeypatch.setattr("attar.cli._dispatch", fail)
    with pytest.raises(SystemExit) if code else nullcontext() as stop:
        main(["data", "digits"])
    assert code == 0 or stop.value.code == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == (1 if words else 0) and words in printed and len(printed) < 600


def test_class_names_that_are_not_utf_8_are_taken_and_a_path_is_refused(tmp_path, capsys):
    home = tmp_path / "pictures"
    for name in (b"one", b"tw\xf6"):
        (home / os.fsdecode(name)).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(home / os.fsdecode(name) / f"{index}.png")
    out = ["--out", str(tmp_path / "runs" / "one")]
    main(["condense", "random", "--ipc", "1", "--data", str(home), *out, "--device", "cpu", "--quiet"])
    main(["report", str(tmp_path / "runs")])
    assert "tw" in (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["data", str(tmp_path / os.fsdecode(b"caf\xe9"))])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.count("\n") == 1 and "must be text without NUL, in UTF-8" in told


def test_the_traceback_of_a_mistake_is_shown_on_request(capsys, monkeypatch):
    monkeypatch.setattr("attar.cli._dispatch", lambda arguments: 1 / 0)
    monkeypatch.setenv("ATTAR_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        main(["data", "digits"])
    printed = capsys.readouterr().err
    assert printed.startswith("attar: internal error") and "Traceback (most recent call last)" in printed


def test_what_follows_a_verb_stands_apart_from_what_it_does():
    lines = [line for line in usage().splitlines() if line.strip() and line.split()[0] in VERBS]
    told = [line for line in lines if line.endswith(VERBS[line.split()[0]][1])]
    assert len(told) == len(VERBS)
    starts = {line.index(VERBS[line.split()[0]][1]) for line in told}
    assert len(starts) == 1
    assert all(line[:start].endswith("  ") for line in told for start in starts)


def test_sentences_of_several_lines_flow_in_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["distill", "kd", "--help"])
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    lines = [" ".join(line.split()) for line in printed]
    assert any("which is trained here and cached" in line for line in lines)  # an argument's sentence of several lines
    assert not {"and", "that", "kept"} & set(lines)


def test_help_needs_no_torch():
    code = (
        "import sys; from attar.cli import main; main(['methods']); main(['--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_methods_and_cite_read_the_registry(capsys):
    main(["methods"])
    assert "match mean embeddings of random networks" in capsys.readouterr().out
    main(["cite", "datadam"])
    assert "eprint = {2310.00093}" in capsys.readouterr().out


def test_data_says_what_it_holds(capsys):
    main(["data", "digits"])
    assert "1,297 training and 500 test images, 10 classes, 1×8×8" in capsys.readouterr().out


@pytest.mark.parametrize(
    "data, words",
    [
        ("digits", "1,297 training and 500 test images"),
        ("motifs", "144 training graphs, 16 validation and 40 test graphs"),
        ("phrases", "600 prompts with responses to train on"),
        ("standard-1d", "10 components in 1-D"),
        ("mixture.json", "2 components in 1-D"),
        ("samples.csv", "fitted to 30 samples"),
        ("rows.jsonl", "10 prompts with responses to train on"),
    ],
)
def test_data_of_every_kind_are_described(data, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mixture = {"weights": [0.5, 0.5], "means": [[0.0], [1.0]], "covariances": [[[1.0]], [[2.0]]]}
    (tmp_path / "mixture.json").write_text(json.dumps(mixture), encoding="utf-8")
    (tmp_path / "samples.csv").write_text("\n".join(f"{number * 0.1}" for number in range(30)), encoding="utf-8")
    rows = [json.dumps({"prompt": f"say {number}", "completion": str(number)}) for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    flags = ["--fit-components", "2"] if data == "samples.csv" else []
    main(["data", data, *flags])
    assert words in capsys.readouterr().out


def test_one_name_of_two_kinds_is_told_apart(capsys):
    main(["data", "digits", "--kind", "mixtures"])
    assert "40 components in 2-D" in capsys.readouterr().out
    assert "unknown kind 'mixture'" in refusal(capsys, "data", "digits", "--kind", "mixture")


def test_a_set_of_graphs_is_known_by_its_form(capsys):
    home = Path(os.environ.get("ATTAR_DATA", "nowhere")) / "tu"
    found = next(iter(sorted(home.glob("MUTAG*"))), None)
    if found is None:
        pytest.skip("no TU set is at hand: set ATTAR_DATA")
    main(["data", str(found)])
    assert "2 classes" in capsys.readouterr().out


def test_condense_then_evaluate(tmp_path, capsys):
    out = tmp_path / "run"
    main(["condense", "datadam", "--data", "digits", "--ipc", "1", "--out", str(out), *CHEAP])
    assert "10 images" in capsys.readouterr().out
    assert (out / "preview.png").exists()
    main(
        [
            "evaluate",
            str(out),
            "--repeats",
            "1",
            "--protocol",
            "quick",
            "--ceiling",
            "skip",
            "--networks",
            "mlp:width=8",
        ]
    )
    assert "% from 10 images" in capsys.readouterr().out


def test_a_folder_of_pictures_can_be_condensed(pictures, tmp_path, capsys):
    main(["condense", "dm", "--data", str(pictures), "--ipc", "1", "--out", str(tmp_path / "run"), *CHEAP])
    assert "2 images" in capsys.readouterr().out


def test_a_published_cell_is_a_starting_point(tmp_path):
    import json

    arguments = ["--paper", "cifar10", "--variant", "released", "--ipc", "1", "--out", str(tmp_path / "run")]
    main(["condense", "datadam", *arguments, *CHEAP, "--norm", "instance"])
    settings = json.loads((tmp_path / "run" / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["power"], settings["ipc"], settings["steps"]) == (1.0, 1, 2)
    assert settings["architecture"]["norm"] == "instance"


def test_published_cells_are_listed(capsys):
    main(["condense", "dm", "--paper"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "17 published cells. One of them: attar condense dm --paper mnist --ipc 1"
    assert "  cifar10-1250      paper" in lines
    main(["condense", "edf", "--paper", "--variant", "released"])
    printed = capsys.readouterr().out
    assert "Variants, by --variant: paper, released." in printed
    assert re.search(r"imagefruit-1 +attar +\[\d\]\n", printed)
    main(["distill", "kd", "--paper"])
    assert "One of them: attar distill kd --paper cifar100\n" in capsys.readouterr().out
    assert "random has no published settings" in refusal(capsys, "condense", "random", "--paper")
    assert "DM has no cell cifar10-3. Cells: cifar10-1," in refusal(
        capsys, "condense", "dm", "--paper", "cifar10", "--ipc", 3
    )
    assert "--paper needs a value." in refusal(capsys, "condense", "dm", "--paper", "--ipc", 1)


def test_unknown_names_are_refused_with_the_nearest_right_one(capsys, tmp_path):
    assert "did you mean 'condense'?" in refusal(capsys, "condens", "dm")
    assert "did you mean 'convnet'?" in refusal(capsys, "condense", "dm", "--network", "convnt")
    assert "did you mean 'digits'?" in refusal(capsys, "condense", "dm", "--data", "digit", "--out", tmp_path / "x")
    assert "did you mean 'cifar10'?" in refusal(capsys, "condense", "dm", "--paper", "cifar-10")
    assert "did you mean 'flip'?" in refusal(
        capsys, "condense", "dm", "--augmentation", "flipp", "--out", tmp_path / "x"
    )
    assert "did you mean 'quick'?" in refusal(capsys, "bench", "digits", "--protocol", "quik", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_ipc_must_be_at_least_one_and_at_most_the_smallest_class(capsys, tmp_path, pictures):
    line = refusal(capsys, "condense", "dm", "--ipc", 0)
    assert line == "attar: --ipc takes one or several whole numbers, each at least 1, not '0'."
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--ipc", 9, "--out", tmp_path / "x")
    assert line == (
        "attar: ipc is 9, but class 'cat' of farm has 8 images. "
        "Give 8 or fewer, a number for each class, or start a learning method from noise (--start noise)."
    )


def test_a_number_for_each_class_is_given_in_a_row(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["condense", "dm", "--data", str(pictures), "--ipc", "3", "1", *CHEAP])
    assert "runs/dm-farm-mixed-seed0: 4 images" in capsys.readouterr().out
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--ipc", 3, 2, *CHEAP)
    assert "holds a run with other settings (ipc: [3, 1] in the folder, [3, 2] requested)" in line


def test_numbers_that_fit_no_classes_are_refused(capsys, tmp_path, pictures):
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--ipc", 3, 0, "--out", tmp_path / "x")
    assert line == "attar: --ipc takes one or several whole numbers, each at least 1, not '3 0'."
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--ipc", 3, 2, 1, "--out", tmp_path / "x")
    assert line == "attar: ipc has 3 numbers for 2 classes. Give one number for all classes, or one for each class."
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--paper", "cifar10", "--ipc", 3, 2)
    assert line == ("attar: a published table's cell has one ipc for all classes. Give one number, or no --paper.")


def test_a_published_cell_is_that_of_the_ipc_however_it_is_written(tmp_path):
    import json

    for name, words in (("one", ["--ipc", "100"]), ("two", ["--ipc=100"])):
        arguments = ["--paper", "cifar10", *words, "--start", "noise", "--out", str(tmp_path / name)]
        main(["condense", "dm", *arguments, *CHEAP])
        settings = json.loads((tmp_path / name / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
        assert (settings["ipc"], settings["lr"]) == (100, 10.0)


def test_a_name_of_the_hub_is_refused_in_one_line_without_the_hub(capsys, tmp_path):
    line = refusal(capsys, "condense", "dm", "--data", "user/name:small", "--out", tmp_path / "x")
    assert line.startswith("attar: unknown data 'user/name:small': no file or folder here, and from the hub: ")
    assert not (tmp_path / "x").exists()


def test_data_above_the_budget_says_that_it_stays_on_disk(capsys, pictures):
    main(["data", str(pictures), "--memory", "0"])
    printed = capsys.readouterr().out
    assert "0.0 GB when decoded: it stays on disk and is decoded batch by batch" in printed
    assert "8 training images, 2 test images" in printed


def test_undecodable_pictures_are_named(capsys, pictures, tmp_path):
    (pictures / "dog" / "3.png").write_bytes(b"not a picture")
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--out", tmp_path / "x")
    assert "dog/3.png cannot be decoded as an image" in line


def test_pictures_of_different_sizes_need_a_size(capsys, pictures, tmp_path):
    Image.new("RGB", (12, 9)).save(pictures / "dog" / "3.png")
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--out", tmp_path / "x")
    assert "images differ in size" in line
    assert "--size 8" in line
    main(["data", str(pictures), "--size", "8"])
    assert "3×8×8" in capsys.readouterr().out


def test_one_class_only_is_refused(capsys, pictures, tmp_path):
    for path in (pictures / "dog").iterdir():
        path.unlink()
    line = refusal(capsys, "condense", "dm", "--data", pictures, "--out", tmp_path / "x")
    assert line == "attar: farm has only one class, 'cat'; condensing needs two or more."


def test_an_unwritable_folder_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    line = refusal(capsys, "condense", "random", "--out", tmp_path / "file" / "run")
    assert line.endswith("Not a directory.")


def test_an_existing_run_with_other_settings_is_kept(capsys, tmp_path):
    main(["condense", "random", "--ipc", "1", "--out", str(tmp_path / "run"), "--quiet"])
    before = (tmp_path / "run" / "images.safetensors").read_bytes()
    line = refusal(capsys, "condense", "random", "--ipc", 2, "--out", tmp_path / "run")
    assert "holds a run with other settings (ipc: 1 in the folder, 2 requested)" in line
    assert (tmp_path / "run" / "images.safetensors").read_bytes() == before


def test_what_is_no_artefact_cannot_be_evaluated(capsys, tmp_path):
    assert "holds no condensed set" in refusal(capsys, "evaluate", tmp_path)


def test_a_truncated_artefact_is_refused(capsys, tmp_path):
    main(["condense", "random", "--ipc", "1", "--out", str(tmp_path / "run"), "--quiet"])
    images = tmp_path / "run" / "images.safetensors"
    images.write_bytes(images.read_bytes()[:-5])
    assert "images.safetensors is damaged or truncated" in refusal(capsys, "evaluate", tmp_path / "run")


def test_a_device_that_is_not_there_is_refused(capsys, tmp_path):
    line = refusal(capsys, "condense", "dm", "--device", "cuda:77", "--out", tmp_path / "x")
    assert "device 'cuda:77' is not available here" in line


def test_label_then_evaluate_from_what_was_stored(tmp_path, capsys):
    out, small = str(tmp_path / "set"), ["--width", "8", "--device", "cpu", "--quiet"]
    recovery = ["--ipc", "1", "--block-steps", "2", "--teacher.epochs", "1", "--teacher.width", "8", *small[2:]]
    main(["condense", "sre2l", "--data", "digits", "--out", out, *recovery])
    main(["label", out, "--epochs", "2", "--format", "int4", "--device", "cpu", "--quiet"])
    printed = capsys.readouterr().out
    assert f"{out}: labels of 2 epochs" in printed
    assert "9 per label" in printed
    assert printed.splitlines()[-1] == f"score:   attar evaluate {out} --protocol sre2l"
    main(
        [
            *("evaluate", out, "--data", "digits", "--protocol", "sre2l", "--repeats", "1", "--ceiling", "skip"),
            *("--beside", "skip", "--networks", "mlp:width=8", "--device", "cpu", "--quiet"),
        ]
    )
    assert "% from 10 images (sre2l protocol, 1 network)" in capsys.readouterr().out
    line = refusal(capsys, "label", out, "--epochs", 3, "--device", "cpu", "--quiet")
    assert "holds a run with other settings (epochs: 2 in the folder, 3 requested" in line


def test_labels_need_a_teacher(tmp_path, capsys):
    out = tmp_path / "set"
    main(["condense", "random", "--data", "digits", "--ipc", "1", "--out", str(out), "--quiet"])
    assert refusal(capsys, "label", out) == (
        "attar: the set has no teacher. Give --teacher, or --data to train a teacher on."
    )


def test_a_name_that_a_terminal_would_obey_is_printed_as_codes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["data", "\x1b[31mred\x07\udcff"])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.count("\n") == 1
    assert r"\x1b[31mred\x07" in told
    assert not {"\x1b", "\x07"} & set(told)


@pytest.mark.parametrize("typed, near", [("motif", "motifs"), ("phrase", "phrases"), ("digit", "digits")])
def test_bundled_data_of_every_kind_are_offered_before_the_hub(typed, near, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, "data", typed) == f"attar: unknown data {typed!r}; did you mean {near!r}?"


def test_an_unfinished_run_is_no_data_and_that_is_said(tmp_path, capsys):
    (tmp_path / "dm" / "run").mkdir(parents=True)
    (tmp_path / "dm" / "run" / "settings.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["data", str(tmp_path / "dm")])
    assert stop.value.code == 2
    assert "is an unfinished run, no data. Run its command again to resume it." in capsys.readouterr().err
