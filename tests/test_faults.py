"""Faults that were found by trying, each by the row of the list that names it, with further inputs of its kind."""

import json
import os
import re
import shlex
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import attar
from attar.cli import main
from attar.core.flags import flags_of
from attar.core.registry import METHODS
from attar.images.condense.dm import DM
from promises import files_of

QUIET = ["--device", "cpu", "--quiet"]
NETWORK = "convnet:norm=batch,width=4,depth=1"
MAKING = {
    "images": "condense random --ipc 1",
    "graphs": "condense graph-random --gpc 1",
    "mixtures": "compress runnalls --n-components 4",
    "convolution": "compress conv --epochs 1 --images 8 --methods direct "
    "--network convnet:norm=none,pooling=none,width=4,depth=1",
    "classifiers": f"distill kd --student {NETWORK} --epochs 1 --teacher {NETWORK}",
    "language": "distill language --divergence none --student gpt2:layers=1,width=16,heads=2 --steps 1 --answers 0 "
    "--max-length 64",
    "embeddings": f"train simclr --encoder {NETWORK} --epochs 1 --batch 512",
    "scenes": "train latent-field --data spheres --size 16 --steps 1 --voxels 4 --ray-samples 4 --autoencoder identity",
}
"""The quickest command of each kind."""
BRIEFLY = {
    "images": "--networks mlp:width=4 --protocol quick --repeats 1 --ceiling skip --beside skip",
    "graphs": "--networks gcn:width=4 --protocol quick --repeats 1 --ceiling skip",
    "mixtures": "--beside skip",
    "language": "--answers 0 --repeats 1",
    "embeddings": "--beside skip",
    "scenes": "--beside skip",
}


def run(*words):
    main([*map(str, words), *QUIET])


def refused(capsys, *words):
    """The one line of a refusal."""
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, words)))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("attar: ") and error.count("\n") == 1
    return error


def picture(side=8, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def farm(folder, sides=(8,)):
    """Two classes of ten pictures."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(10):
            picture(sides[index % len(sides)], index).save(folder / name / f"{index}.png")
    return folder


def parquet(file, image, label):
    """Thirty pictures of three classes, in columns of these names, and a column that looks like labels."""

    def cell(index):
        data = BytesIO()
        picture(seed=index).save(data, "PNG")
        return {"bytes": data.getvalue(), "path": None}

    rows = range(30)
    columns = {image: [cell(i) for i in rows], label: [i % 3 for i in rows], "other": [i % 2 for i in rows]}
    pq.write_table(pa.table(columns), file)
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An artefact of each kind, made by its command once."""
    found = {}

    def of(kind, target):
        if kind not in found:
            found[kind] = tmp_path_factory.mktemp(kind) / "run"
            run(*shlex.split(MAKING[kind]), "--out", found[kind])
        for path in found[kind].rglob("*"):
            if path.is_file():
                place = target / path.relative_to(found[kind])
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
        return target

    return of


# A13: every kind of data is described; test_cli.py has data of the other kinds.


@pytest.mark.parametrize("name", ["MUTAG", "PROTEINS"])
def test_a13_sets_of_graphs_are_described(name, capsys):
    home = Path(os.environ.get("ATTAR_DATA", "nowhere")) / "tu" / name
    if not home.exists():
        pytest.skip("no TU set is at hand: set ATTAR_DATA")
    main(["data", str(home)])
    assert re.match(rf"{name}: \d+ training, .* 2 classes", capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["graphs", "classifiers", "convolution", "language"])
def test_a13_an_artefact_that_is_no_data_is_said_to_be_one(kind, tmp_path, capsys):
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "artefact.json").write_text(json.dumps({"kind": kind}), encoding="utf-8")
    assert f"is an artefact, no data. To see it: attar report '{folder}'" in refused(capsys, "data", folder)


@pytest.mark.parametrize("kind", ["images", "mixtures"])
def test_a13_an_artefact_that_can_be_learned_from_is_described(kind, made, tmp_path, capsys):
    main(["data", str(made(kind, tmp_path / "run"))])
    assert "fingerprint" in capsys.readouterr().out


# C17: EDF's observer is trained as long as one says.


@pytest.mark.parametrize(
    "name",
    [name for name, entry in METHODS.items() if "--observer" in dict.fromkeys(flag.flag for flag in entry.flags)],
)
def test_c17_an_observers_training_is_a_setting(name):
    flags = {flag.name for flag in flags_of(METHODS[name].load())}
    assert {"--observer.epochs", "--observer.lr", "--observer.batch"} <= flags or "--observer.training-lr" in flags


def test_c17_edf_trains_its_observer_as_long_as_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    words = "condense edf --ipc 1 --steps 1 --student-steps 1 --last-start 2 --experts 1 --experts.epochs 3 --width 4"
    run(*words.split(), "--observer.epochs", "2", "--observer.width", "4", "--out", tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert settings["observer"]["protocol"]["epochs"] == 2


# F5: one odd side file kills neither report, evaluate, resume nor open.

ODD = {
    "a list": b"[1, 2]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a number of 5,000 digits": b'{"scores": [{"value": ' + b"9" * 5000 + b'}], "seconds": ' + b"9" * 5000 + b"}",
    "wrong types": b'{"scores": "many", "seconds": "long", "peak_memory": [], "step": {}}',
    "nan": b'{"seconds": NaN, "peak_memory": Infinity, "scores": [{"column": "x", "value": NaN}]}',
    "bytes": b"\xff\xfe\x00\x01",
    "nothing": b"",
}
SIDE = ("scores.json", "run/metrics.jsonl", "run/cost.json")


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("kind", ["images", "graphs", "mixtures"])
def test_f5_odd_side_files_are_left_out(kind, content, made, tmp_path, capsys):
    folder = made(kind, tmp_path / "run")
    for name in SIDE:
        (folder / name).write_bytes(content + b"\n")
    main(["report", str(tmp_path)])
    assert "report.html" in capsys.readouterr().out
    assert attar.open_artefact(folder).summary
    run(*shlex.split(MAKING[kind]), "--out", folder)
    run("evaluate", folder, *BRIEFLY[kind].split())
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert scores and all(isinstance(score["value"], float) for score in scores)


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_f5_odd_settings_are_told_in_a_line(content, made, tmp_path, capsys):
    folder = made("images", tmp_path / "run")
    (folder / "run" / "settings.json").write_bytes(content)
    main(["report", str(tmp_path)])
    assert attar.open_artefact(folder).summary
    assert "settings" in refused(capsys, "condense", "--settings", folder / "run" / "settings.json", *QUIET)
    assert "settings.json" in refused(capsys, *shlex.split(MAKING["images"]), "--out", folder, *QUIET)


@pytest.mark.parametrize("value", [[], "x", None, 3, {"ipc": []}, {"ipc": "many"}, {"ipc": 10**400}, {"nothing": 1}])
@pytest.mark.parametrize("name", ["settings", "seed", "call"])
def test_f5_settings_of_odd_types_are_told_in_a_line(name, value, made, tmp_path, capsys):
    folder = made("images", tmp_path / "run")
    facts = json.loads((folder / "artefact.json").read_text(encoding="utf-8"))
    facts["origin"][name] = value
    (tmp_path / "odd.json").write_text(json.dumps(facts), encoding="utf-8")
    words = ["condense", "--settings", str(tmp_path / "odd.json"), "--out", str(tmp_path / "again"), *QUIET]
    told = value != {"ipc": 10**400}  # a file with such a number is not read at all
    left_out = (
        value in (None, []) or (name == "seed" and value == 3) or (name == "call" and isinstance(value, dict) and told)
    )
    if left_out:
        main(words)
    else:
        refused(capsys, *words)


@pytest.mark.parametrize("value", [[], "x", None, 3, {"settings": 1}])
def test_f5_an_unfinished_run_with_odd_settings_is_refused_in_a_line(value, tmp_path, capsys, monkeypatch):
    stop_at(monkeypatch, 3)
    words = [
        "condense",
        "dm",
        "--ipc",
        "1",
        "--steps",
        "6",
        "--real-batch",
        "2",
        "--width",
        "4",
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(SystemExit):
        main([*words, *QUIET])
    capsys.readouterr()
    (tmp_path / "run" / "settings.json").write_text(json.dumps(value), encoding="utf-8")
    assert "settings.json" in refused(capsys, *words, *QUIET)


# F6: nothing that lies in a folder is overwritten.


@pytest.mark.parametrize("kind", MAKING)
def test_f6_a_folder_of_somebody_elses_is_left_alone(kind, tmp_path, capsys):
    for name in ("README.md", "network.safetensors", "notes.txt"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    before = files_of(tmp_path)
    line = refused(capsys, *shlex.split(MAKING[kind]), "--out", tmp_path, *QUIET)
    assert "is not empty and holds no run of attar. Choose another --out." in line
    assert files_of(tmp_path) == before


def test_f6_an_import_leaves_a_folder_alone(tmp_path, capsys):
    farm(tmp_path / "farm")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images.safetensors").write_text("mine", encoding="utf-8")
    words = ["import", tmp_path / "farm", "--data", tmp_path / "farm", "--out", tmp_path / "out"]
    assert "Choose another --out" in refused(capsys, *words, *QUIET)
    assert (tmp_path / "out" / "images.safetensors").read_text(encoding="utf-8") == "mine"


# G3: commands that are printed to be copied work as they stand.

SOURCES = {
    "a space and quotes, and pictures of several sizes": (
        lambda: farm(Path('ada\'s "best" farm'), sides=(8, 9, 10)),
        ["--size", "8"],
    ),
    "a file whose columns are named": (
        lambda: parquet("pets of ada.v1.parquet", "photo", "animal"),
        ["--image", "photo", "--label", "animal"],
    ),
    "columns with a space and a dash": (
        lambda: parquet("$pets; `x`.parquet", "the photo", "-kind"),
        ["--image", "the photo", "--label=-kind"],
    ),
    "a name that begins with a dash": (lambda: farm(Path("-farm")), []),
    "letters of other alphabets, and no home folder": (lambda: farm(Path("données 数据/~ferme")), []),
    "a split, statistics and a budget": (
        lambda: farm(Path("farm.v2")),
        ["--split-seed", "3", "--memory", "0.5", "--statistics", "cifar10"],
    ),
}


@pytest.mark.parametrize("how", SOURCES)
def test_g3_printed_commands_work_as_they_stand(how, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make, reading = SOURCES[how]
    data = str(make())
    run("condense", "random", f"--data={data}", "--ipc", "1", *reading)
    (score,) = re.findall(r"^score: +attar (.*)$", capsys.readouterr().out, re.MULTILINE)
    run(*shlex.split(score), *BRIEFLY["images"].split())
    assert "images (quick protocol" in capsys.readouterr().out
    (folder,) = Path("runs").iterdir()
    commands = re.findall(r"^attar (.*)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    for number, command in enumerate(commands):
        beside = folder if "--settings" in command else tmp_path
        there = {data: str(tmp_path / data), f"--data={data}": f"--data={tmp_path / data}"}
        words = [there.get(word, word) for word in shlex.split(command)]
        with monkeypatch.context() as moved:
            moved.chdir(beside)
            run(*words, "--out", tmp_path / f"again-{number}")
        again = files_of(tmp_path / f"again-{number}")
        assert again["images.safetensors"] == files_of(folder)["images.safetensors"]


# G4: a measurement shows how far it is.


@pytest.mark.parametrize(
    "kind, words, lines",
    [
        ("images", "--networks mlp:width=4 --protocol quick --repeats 2 --ceiling skip --beside skip", 2),
        ("graphs", "--networks gcn:width=4 --protocol quick --repeats 2 --ceiling skip", 2),
        ("language", "--answers 0 --repeats 1", 1),
    ],
)
def test_g4_a_measurement_tells_networks_as_they_come(kind, words, lines, made, tmp_path, capsys):
    folder = made(kind, tmp_path / "run")
    main(["evaluate", str(folder), *words.split(), "--device", "cpu"])
    told = re.findall(r"(?:network|student) \d+ of \d+", capsys.readouterr().err)
    assert len(told) == lines


# G6: the folder that is told is the one that is made.


def test_g6_the_default_folder_is_told_and_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("pics.v1", "pics.v2"):
        farm(tmp_path / name)
        run("condense", "random", "--data", name, "--ipc", "1", "--seed", "4")
    run(*shlex.split(MAKING["mixtures"]))
    folders = sorted(str(path) for path in Path("runs").iterdir())
    assert folders == [
        "runs/random-pics.v1-1-seed4",
        "runs/random-pics.v2-1-seed4",
        "runs/runnalls-digits-4-seed0",
    ]
    capsys.readouterr()
    main(["condense", "random", "--help"])
    assert "runs/random-DATA-IPC-seedN" in capsys.readouterr().out
    main(["compress", "runnalls", "--help"])
    assert "runs/runnalls-DATA-N-COMPONENTS-seedN" in capsys.readouterr().out


def test_g6_a_tilde_is_the_home_folder_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    farm(tmp_path / "home" / "farm")
    run("condense", "random", "--data", "~/farm", "--ipc", "1", "--out", "~/my run")
    words = ["evaluate", "~/my run", "--data", "~/farm", *BRIEFLY["images"].split(), "--json", "~/scores.json"]
    run(*words)
    main(["report", "~/my run", "--out=~/page.html"])
    main(["data", "~/farm"])
    run("condense", "--settings", "~/my run", "--data=~/farm", "--out=~/again")
    assert not list((tmp_path / "here").iterdir())
    names = {path.name for path in (tmp_path / "home").iterdir()}
    assert names == {"farm", "my run", "scores.json", "page.html", "again"}
    assert (tmp_path / "home" / "my run" / "scores.json").exists()


# G7: what is printed fits the terminal.


@pytest.mark.parametrize("kind", MAKING)
def test_g7_what_is_made_is_told_in_lines_that_fit_the_terminal(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.chdir(tmp_path)
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    main([*shlex.split(MAKING[kind]), "--device", "cpu"])
    printed = capsys.readouterr()
    prose = [line for line in printed.out.splitlines() if not line.startswith(("score:", "picture:"))]
    assert max(map(len, prose)) <= 70
    assert "score:" in printed.out


# G8: a resumed run says where it goes on.


def stop_at(monkeypatch, step):
    """Press Ctrl-C in a step of DM, once, in a run that saves after every step."""
    usual, count = DM.step, iter(range(1, 10**6))

    def stopped(self, state, runtime):
        if next(count) == step:
            monkeypatch.setattr(DM, "step", usual)
            raise KeyboardInterrupt
        return usual(self, state, runtime)

    monkeypatch.setattr(DM, "step", stopped)


@pytest.mark.parametrize("step", [2, 3, 6])
def test_g8_a_resumed_run_says_where_it_goes_on(step, tmp_path, monkeypatch, capsys):
    flags = "--ipc 1 --steps 1100 --real-batch 1 --width 2 --checkpoint-seconds 0 --device cpu"
    words = ["condense", "dm", *flags.split()]
    stop_at(monkeypatch, step)
    with pytest.raises(SystemExit) as stop:
        main([*words, "--out", str(tmp_path)])
    assert stop.value.code == 130
    assert "going on at" not in capsys.readouterr().err
    stop_at(monkeypatch, 2)
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path)])
    assert f"continuing at step {step} of 1,100." in capsys.readouterr().err


def test_g8_a_finished_run_says_nothing_of_the_sort(made, tmp_path, capsys):
    folder = made("images", tmp_path / "run")
    main([*shlex.split(MAKING["images"]), "--out", str(folder), "--device", "cpu"])
    assert "going on" not in capsys.readouterr().err


# G10: a flag has one meaning; what stands beside a method has its role in front.


@pytest.mark.parametrize("name", METHODS)
def test_g10_bare_step_sizes_are_the_methods_own(name):
    flags = {flag.name: flag for flag in flags_of(METHODS[name].load())}
    for flag in ("--lr", "--epochs", "--batch", "--momentum", "--weight-decay"):
        if flag in flags:
            assert not {"observer", "teacher", "experts"} & set(flags[flag].path[:-1]), flag
    beside = [flag for flag in flags.values() if {"observer", "teacher", "experts"} & set(flag.path[:-1])]
    assert all(flag.name.split(".")[0] in ("--observer", "--teacher", "--experts") for flag in beside)


@pytest.mark.parametrize("name", METHODS)
def test_g10_the_name_of_a_protocol_is_no_flag(name):
    flags = [flag.name for flag in flags_of(METHODS[name].load())]
    assert not [flag for flag in flags if flag == "--name" or flag.endswith(".name")]


def test_the_rows_are_those_of_the_list():
    rows = {name.split("_")[1] for name in globals() if re.match(r"test_[a-z]\d+_", name)}
    assert rows == {
        "a13",
        "c17",
        "f5",
        "f6",
        "g3",
        "g4",
        "g6",
        "g7",
        "g8",
        "g10",
    }  # G5 and G9: test_help, test_mistakes


@pytest.mark.parametrize("name", ["digits", "motifs", "phrases"])
def test_a_folder_with_the_name_of_bundled_data_is_told_of_once(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["data", name])
    assert "bundled" not in capsys.readouterr().out
    (tmp_path / name).mkdir()
    main(["data", name])
    told = f"note: this is the bundled set; for the file or folder of that name here give ./{name}"
    assert capsys.readouterr().out.count(told) == 1
