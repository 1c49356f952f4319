"""What a person mistypes: one line on standard error, which names what was wrong and what may have been meant."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import attar
from attar.cli import main

SEVERAL = "one or several whole numbers, each at least 1"
MISTAKES = [
    # Verbs and methods.
    ("condens dm", "unknown verb 'condens'; did you mean 'condense'?"),
    ("evalute runs/x", "unknown verb 'evalute'; did you mean 'evaluate'?"),
    ("dm --ipc 1", "'dm' is a method, not a verb: attar condense dm"),
    ("--ipc 10", "a verb must come before --ipc: condense, "),
    ("condense datadan", "unknown method 'datadan'; did you mean 'datadam'?"),
    ("distill dkdd", "unknown method 'dkdd'; did you mean 'dkd'?"),
    ("compress ogmr", "unknown method 'ogmr'; did you mean 'oggmr'?"),
    ("train expert", "unknown method 'expert'; did you mean 'experts'?"),
    ("condense kd", "kd is used with `attar distill`, not `attar condense`."),
    ("distill dm", "dm is used with `attar condense`, not `attar distill`."),
    ("condense --ipc 10", "METHOD must be given before --ipc. All methods: attar condense --help"),
    ("condense ''", "METHOD must be given before ''. All methods: attar condense --help"),
    # Flags.
    ("condense dm --stpes 10", "unknown flag --stpes; did you mean '--steps'?"),
    ("condense dm --step 10", "unknown flag --step; did you mean '--steps'?"),
    ("condense dm -ipc 10", "unknown flag -ipc; did you mean '--ipc'?"),
    ("condense dm —ipc 10", "unknown flag —ipc; did you mean '--ipc'?"),
    ("condense dm –-ipc=10", "unknown flag –-ipc; did you mean '--ipc'?"),
    ("condense dm --IPC 10", "unknown flag --IPC; did you mean '--ipc'?"),
    ("condense dm ipc=10", "'ipc=10' belongs to no flag; did you mean '--ipc'?"),
    ("condense dm --teacher.lr 1", "unknown flag --teacher.lr; did you mean '--lr'?"),
    ("condense mtt --expert-lr 1", "unknown flag --expert-lr; did you mean '--experts.lr'?"),
    ("distill kd --teacher-epochs 1", "unknown flag --teacher-epochs; did you mean '--teacher.epochs'?"),
    ("condense herding --observer.name x", "unknown flag --observer.name"),
    ("condense dm --no-steps 3", "unknown flag --no-steps; did you mean '--steps'?"),
    ("condense dm --papr cifar10", "unknown flag --papr; did you mean '--paper'?"),
    ("condense dm --hepl", "unknown flag --hepl; did you mean '--help'?"),
    ("condense dm --dat digits", "unknown flag --dat; did you mean '--data'?"),
    ("condense dm --xyzzy", "unknown flag --xyzzy. All settings: attar condense dm --help-all"),
    ("distill kd --temprature 4", "unknown flag --temprature; did you mean '--temperature'?"),
    ("compress oggmr --criterium l2", "unknown flag --criterium; did you mean '--criterion'?"),
    ("compress conv --run 40", "unknown flag --run; did you mean '--runs'?"),
    ("condense gstam --gcp 2", "unknown flag --gcp; did you mean '--gpc'?"),
    ("distill language --epoch 1", "unknown flag --epoch; did you mean '--epochs'?"),
    # Values.
    ("condense dm --ipc", f"--ipc needs a value, {SEVERAL}."),
    ("condense dm --ipc --steps 2", f"--ipc needs a value, {SEVERAL}."),
    ("condense dm --ipc=ten", f"--ipc takes {SEVERAL}, not 'ten'."),
    ("condense dm --ipc 0", f"--ipc takes {SEVERAL}, not '0'."),
    ("condense dm --ipc=", f"--ipc needs a value, {SEVERAL}, not an empty one."),
    ("condense dm --ipc 1.5", f"--ipc takes {SEVERAL}, not '1.5'."),
    ("condense dm --lr nan", "--lr takes a number, at least 0, not 'nan'."),
    ("condense dm --lr inf", "--lr takes a number, at least 0, not 'inf'."),
    ("condense dm --lr -1", "--lr takes a number, at least 0, not '-1'."),
    ("condense dm --lr 1,5", "--lr takes a number, at least 0, not '1,5'."),
    ("condense dm --steps 1e3", "--steps takes a whole number, at least 1, not '1e3'."),
    ("condense dm --norm btach", "--norm takes auto, none, batch, layer, instance or group, not 'btach'; did you mean"),
    ("condense dm --zca=maybe", "--zca takes no value, not 'maybe'. Give --zca or --no-zca."),
    ("condense dm --zca False", "--zca takes no value, not 'False'. Give --zca or --no-zca."),
    ("condense dm --data ''", "--data needs a value, text, not an empty one."),
    ("condense dm --out -x", "--out needs a value, a path. Give a value that begins with a dash as --out=-x."),
    ("condense dm --ipc 1 --ipc 2", "--ipc is given twice. Give it once."),
    ("condense dm --zca --no-zca", "--zca is given twice. Give it once."),
    ("condense dm 10", "'10' belongs to no flag. Give a setting as --name value."),
    ("condense mtt --experts.lr -1", "--experts.lr takes a number, at least 0, not '-1'."),
    ("distill kd --teacher.epochs 0", "--teacher.epochs takes a whole number, at least 1, not '0'."),
    ("compress oggmr --criterion agnle", "--criterion takes angle, chord, l2, "),
    ("condense dm --device cuda:77 --steps 1 --out {empty}", "device 'cuda:77' is not available here"),
    ("condense dm --checkpoint-seconds -1", "--checkpoint-seconds takes a number, at least 0, not '-1'."),
    ("condense dm --lr 1e308", "--lr is 1e+308; it must be at most 1000000."),
    ("condense dm --lr 1e400", "--lr takes a number, at least 0, not '1e400'."),
    ("condense dm --steps 1e400", "--steps takes a whole number, at least 1, not '1e400'."),
    ("condense dm --width 100000000000000000000", "--width is 100000000000000000000; it must be at most 100000."),
    ("condense dm --seed 99999999999999999999", "--seed is 99999999999999999999; it must be at most 9.22337e+18."),
    ("condense gstam --depth 1000000000", "--depth is 1000000000; it must be at most 1000."),
    ("distill kd --teacher.lr 1e7", "--teacher.lr is 10000000.0; it must be at most 1000000."),
    ("evaluate {set} --repeats 10000000000", "--repeats is 10000000000; it must be at most 1e+09."),
    ("condense dm --out ~no_such_user/x", "~no_such_user/x begins at the home folder of a user who is not there."),
    ("report {set} --out=~no_such_user", "~no_such_user begins at the home folder of a user who is not there."),
    ("data ~no_such_user/x", "unknown data '~no_such_user/x'"),
    ("condense dm --network convnet:wdth=8 --out {empty}", "unknown option of convnet 'wdth'; did you mean 'width'?"),
    ("condense dm --network convnet:width=8 --out {empty}", "give 'convnet' alone. width is a setting of its own."),
    ("condense herding --observer.network mlp:wdth=8", "unknown option of mlp 'wdth'; did you mean 'width'?"),
    ("distill kd --student convnet:wdth=8", "unknown option of convnet 'wdth'; did you mean 'width'?"),
    ("evaluate {set} --networks mlp:wdth=4", "unknown option of mlp 'wdth'; did you mean 'width'?"),
    ("evaluate {set} --networks convnet:width=x", "width is 'x'; it must be a whole number."),
    ("evaluate {set} --networks convnet:width=99999999999999999999", "it must be at most 100000."),
    ("train experts --seed 3", "each expert has a seed of its own. Give --first-seed 3."),
    # What is there is not overwritten.
    ("report {set} --out {set}/artefact.json", "exists and holds something else. Give another file, or delete it."),
    ("report {set} --out {set}/images.safetensors", "exists and holds something else."),
    ("report {set} --out {set}", "is a folder. Give the name of a file."),
    ("evaluate {set} --json {set}/artefact.json", "exists and holds something else."),
    ("evaluate {set} --json {set}/README.md", "exists and holds something else."),
    ("evaluate {set} --json {set}", "is a folder. Give the name of a file."),
    ("evaluate {set} --json {empty}/nowhere/x.json", "so x.json cannot be written there."),
    ("bench grid --record {set}/run/settings.json", "exists and holds something else."),
    ("bench digits --record {set}/preview.png", "exists and holds something else."),
    ("bench grid --methods dc:lr=null --out {empty}", "lr is None; it must be a number."),
    ("bench grid --methods dm:lr=1e308 --out {empty}", "lr is 1e+308; it must be at most 1000000."),
    ("bench grid --methods dm:siamese=1 --out {empty}", "siamese is 1; it must be true or false."),
    ("bench grid --methods dm:norm=3 --out {empty}", "unknown norm '3'."),
    # Of two mistakes the first.
    ("condense dm --ipc ten --stpes 3", f"--ipc takes {SEVERAL}, not 'ten'."),
    ("condense dm --stpes 3 --ipc ten", "unknown flag --stpes; did you mean '--steps'?"),
    ("condense dm --lr -1 --ipc ten", "--lr takes a number, at least 0, not '-1'."),
    # Presets, and settings of other runs.
    ("condense dm --paper --variant released", "DM has only one published variant. Do not give one."),
    ("condense dm --paper --ipc 1", "--paper needs a value."),
    ("condense dm --paper cifar-10", "did you mean 'cifar10'?"),
    ("condense dm --variant released", "--variant needs --paper"),
    ("condense random --paper cifar10", "random has no published settings. Do not give --paper."),
    ("condense datadam --paper cifar10 --variant relased", "unknown variant 'relased'; did you mean 'released'?"),
    ("condense dm --baseline x", "dm has no baselines. Do not give --baseline."),
    ("condense dm --paper cifar10 --ipc 0", "--ipc takes a whole number, at least 1, not '0'."),
    ("condense --settings", "--settings needs a file"),
    ("condense --settings=", "--settings needs a file"),
    ("condense --settings --ipc 1", "--settings needs a file"),
    ("condense --settings {empty}/nothing.json", "is missing."),
    # Verbs without a method.
    ("evaluate --repeats 1", "FOLDERS must be given, before the flags. For help: attar evaluate --help"),
    ("evaluate ''", "FOLDERS must be given, before the flags. For help: attar evaluate --help"),
    ("evaluate {set} --repeats 0", "--repeats takes a whole number, at least 1, not '0'."),
    ("evaluate {set} --protcol quick", "unknown flag --protcol; did you mean '--protocol'?"),
    ("evaluate {set} {set}", "is given twice. Give each artefact once."),
    ("evaluate {set} {set}/", "is given twice. Give each artefact once."),
    ("evaluate {set} {empty}/../set", "is given twice. Give each artefact once."),
    ("evaluate {set} --seed 1 {set}", "comes after a flag. Give all folders before the flags."),
    ("evaluate {empty}", "holds no condensed set"),
    ("label {set} --fromat int4", "unknown flag --fromat; did you mean '--format'?"),
    ("label --epochs 2", "no FOLDER of a condensed set is given. Give a folder, or --data DATA --kind language."),
    (
        "label {set} --format int5",
        "--format takes float32, float16, int8, int4, top-k or hard, not 'int5'; did you mean",
    ),
    ("report {empty} {empty}", "belongs to no flag"),
    ("report --out x.html", "FOLDER must be given. For help: attar report --help"),
    ("report {empty} --image 3", "unknown flag --image; did you mean '--images'?"),
    ("report ''", "FOLDER needs a value, a path, not an empty one."),
    ("push {set}", "NAME must be given. For help: attar push --help"),
    ("push {empty}/nothing user/name", "is not a folder."),
    ("push {set} user/name --privat", "unknown flag --privat; did you mean '--private'?"),
    ("data digts", "did you mean 'digits'?"),
    ("data digits --sise 8", "unknown flag --sise; did you mean '--size'?"),
    ("data digits --kind grahps", "unknown kind 'grahps'; did you mean 'graphs'?"),
    ("data digits --kind", "--kind needs a value."),
    ("data digits motifs", "'motifs' belongs to no flag"),
    ("import {empty}/x.pt", "--data must be given. For help: attar import --help"),
    ("import --data digits", "FILES must be given. For help: attar import --help"),
    (
        "import {empty}/x.pt --data digits --labels logit",
        "--labels takes auto, logits or probabilities, not 'logit'; did",
    ),
    ("import {empty}/x.pt --data digits --kind graphs", "`attar import` is for images, not for graphs."),
    ("cite dmm", "unknown method 'dmm'; did you mean 'dm'?"),
    ("cite --all", "unknown flag --all; `attar cite` takes names of methods."),
    ("methods grahps", "unknown kind, verb or method 'grahps'; did you mean 'graphs'?"),
    ("methods --jsno", "unknown flag --jsno; did you mean '--json'?"),
    ("bench digit", "unknown table 'digit'; did you mean 'digits'?"),
    ("bench --sets 3", "TABLE must be given before --sets: demo, digits, "),
    ("bench grid --metods dm", "unknown flag --metods; did you mean '--methods'?"),
    ("bench grid --sets 0", "--sets takes a whole number, at least 1, not '0'."),
    ("bench grid --methods dmm --out {empty}", "unknown method 'dmm'; did you mean 'dm'?"),
    ("bench grid --methods", "--methods and --ipc need at least one value."),
    ("bench digits --protocol quik --out {empty}", "unknown protocol 'quik'; did you mean 'quick'?"),
    ("bench digits digits", "'digits' belongs to no flag"),
    ("bench cifar10", "--data must be given: a folder of CIFAR-10 as parquet files."),
    ("bench velocity --epochs 1", "--sets must be given. For help: attar bench velocity --help"),
    ("bench comp-dd --kind smoth", "--kind takes grad-cam or smooth, not 'smoth'; did you mean 'smooth'?"),
    ("bench continual --orders x", "--orders takes a whole number, at least 1, not 'x'."),
    ("bench search --sampled 1000", "--sampled takes a whole number from 1 to 720, not '1000'."),
]
"""A command, and what its one line must say."""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A condensed set, and an empty folder."""
    home = tmp_path_factory.mktemp("places")
    (home / "empty").mkdir()
    attar.condense("digits", attar.Random(ipc=1), out=home / "set", engine=attar.Engine(quiet=True))
    return {"set": str(home / "set"), "empty": str(home / "empty")}


@pytest.mark.parametrize("line, told", MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line(line, told, places, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [word.format(**places) for word in line.replace("''", "\0").split()]
    with pytest.raises(SystemExit) as stop:
        main(["" if word == "\0" else word for word in words])
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("attar: ") and printed.err.count("\n") == 1
    assert told in printed.err
    assert list(tmp_path.iterdir()) == [], "nothing is made before a mistake is told"


@pytest.mark.parametrize(
    "words",
    [
        ["condense", "dm", "--stpes", "3"],
        ["condense", "dm", "—ipc", "3"],
        ["evaluate", "nowhere", "--seed", "x"],
        ["report", "nowhere", "--images", "0"],
        ["bench", "grid", "--lr", "1"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_in_a_process_of_its_own(words):
    done = subprocess.run([sys.executable, "-m", "attar", *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("attar: ") and done.stderr.count("\n") == 1


def test_there_are_mistakes_of_every_kind():
    assert len(MISTAKES) >= 100


def test_the_page_about_the_command_line_shows_what_is_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\$ attar (.*)\n(attar: .*)$", page, re.MULTILINE)
    assert len(shown) == 2
    for line, told in shown:
        with pytest.raises(SystemExit):
            main(line.split())
        assert capsys.readouterr().err == f"{told}\n"
    main(["condense", "dm", "--help"])
    (sample,) = re.findall(r"^```text\n(  --steps.*?)\n```", page, re.MULTILINE | re.DOTALL)
    assert sample in capsys.readouterr().out
