"""What is printed to be copied works: the commands on terminals and cards make the same again, for every kind."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.kinds import built_in
from attar.core.provenance import Call, as_typed
from promises import files_of

NETWORK = "convnet:norm=batch,width=4,depth=1"
COMMANDS = {
    "images": "condense dm --data digits --ipc 1 --steps 2 --real-batch 2 --width 8 --seed 2",
    "graphs": "condense graph-random --data motifs --gpc 2 --split-seed 3",
    "mixtures": "compress runnalls --data standard-1d --n-components 4",
    "convolution": "compress conv --data digits --network convnet:norm=none,pooling=none,width=4,depth=2 --epochs 1 "
    "--images 8 --methods direct",
    "classifiers": f"distill kd --data digits --student {NETWORK} --epochs 1 --teacher {NETWORK}",
    "language": "distill language --data phrases --divergence none --student gpt2:layers=1,width=16,heads=2 --steps 2 "
    "--max-length 64 --answers 0",
    "tables": "condense fair --data applicants --rows 40 --tables 2 --epochs 1 --student-epochs 1 --batch 2048",
    "samplers": "train edm --data ring --network mlp:width=16,depth=1 --steps 3 --batch 32 --sampling-levels 4",
    "embeddings": f"train simclr --data mosaics --encoder {NETWORK} --epochs 1 --batch 512",
    "scenes": "train latent-field --data spheres --size 16 --steps 2 --voxels 4 --ray-samples 4 --autoencoder identity",
    "plasma": "simulate kelvin-helmholtz --cells 12 10 --end 0.06 --outputs 2 --solver numpy",
}
BRIEFLY = {
    "images": "--networks mlp:width=4 --protocol quick --repeats 1 --ceiling skip --beside skip",
    "graphs": "--networks gcn:width=4 --protocol quick --repeats 1 --ceiling skip",
    "language": "--answers 0 --repeats 1",
    "tables": "--beside skip --decoded 2 --downstream logistic",
    "embeddings": "--beside skip",
    "samplers": "--beside skip --samples 60",
    "scenes": "--beside skip",
}
"""How an artefact is scored in a second."""
BY_THE_CLOCK = {"convolution": {"network.safetensors"}}
"""Kinds whose result a clock decides, and the files that it does not touch."""
QUIET = ["--device", "cpu", "--quiet"]


def run(*words):
    main([*map(str, words), *QUIET])


def printed(text, start):
    """The words of the one line that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return shlex.split(line.removeprefix(start).strip())


def tensors_in(folder, kind):
    untouched = BY_THE_CLOCK.get(kind)
    found = {name: data for name, data in files_of(folder).items() if name.endswith(".safetensors")}
    return {name: data for name, data in found.items() if untouched is None or name in untouched}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A working directory for each kind, in which its command has run, and what it printed."""
    found = {}

    def of(kind):
        if kind not in found:
            place = tmp_path_factory.mktemp(kind)
            with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as output:
                lines = []
                patch.chdir(place)
                output.setattr("builtins.print", lambda *words, **how: lines.append(" ".join(map(str, words))))
                run(*shlex.split(COMMANDS[kind]))
            found[kind] = place, "\n".join(lines)
        return found[kind]

    return of


def test_every_kind_has_its_command():
    assert COMMANDS.keys() == built_in().keys()


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_commands_of_a_card_make_the_same_again(kind, places, tmp_path, monkeypatch):
    place, _ = places(kind)
    (folder,) = (place / "runs").iterdir()
    commands = re.findall(r"^attar (.*)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    monkeypatch.chdir(folder)
    for number, command in enumerate(commands):
        run(*shlex.split(command), "--out", tmp_path / str(number))
        assert tensors_in(tmp_path / str(number), kind) == tensors_in(folder, kind)
        told = [
            json.loads((one / "artefact.json").read_text(encoding="utf-8"))["origin"]
            for one in (tmp_path / str(number), folder)
        ]
        assert told[0]["settings"] == told[1]["settings"]
        assert (told[0]["seed"], told[0]["fingerprint"]) == (told[1]["seed"], told[1]["fingerprint"])


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_score_line_of_the_terminal_works(kind, places, monkeypatch, capsys):
    """A verb whose results are not measured prints none, and `attar evaluate` says so."""
    place, text = places(kind)
    monkeypatch.chdir(place)
    making = COMMANDS[kind].split()[0]
    if not built_in()[kind].task(making).measured:
        assert "score:" not in text
        (folder,) = (place / "runs").iterdir()
        with pytest.raises(SystemExit) as stop:
            run("evaluate", folder)
        assert stop.value.code == 2
        assert f"what `attar {making}` has made is not measured again" in capsys.readouterr().err
        return
    verb, *words = printed(text, "score:   attar")
    run(verb, *words, *shlex.split(BRIEFLY.get(kind, "")))
    assert capsys.readouterr().out.strip()


def test_flags_overrule_what_a_file_says_and_out_is_not_taken(places, monkeypatch, tmp_path, capsys):
    place, _ = places("images")
    (folder,) = (place / "runs").iterdir()
    monkeypatch.chdir(tmp_path)
    for source in (folder, folder / "artefact.json", folder / "run" / "settings.json"):
        run("condense", "--settings", source, "--ipc", "2", "--seed", "5")
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name == "dm-digits-2-seed5"
    settings = json.loads((made / "run" / "settings.json").read_text(encoding="utf-8"))
    assert (settings["settings"]["ipc"], settings["settings"]["steps"], settings["seed"]) == (2, 2, 5)


def test_an_older_artefact_is_made_again_with_the_split_that_its_seed_drew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["condense", "graph-random", "--data", "motifs", "--gpc", "2", "--seed", "3"]
    run(*words, "--split-seed", "3", "--out", "then")
    facts = json.loads((tmp_path / "then" / "artefact.json").read_text(encoding="utf-8"))
    del facts["origin"]["call"]
    (tmp_path / "older.json").write_text(json.dumps(facts), encoding="utf-8")
    run("condense", "--settings", "older.json", "--out", "again")
    assert tensors_in(tmp_path / "again", "graphs") == tensors_in(tmp_path / "then", "graphs")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["compress", "--settings", "{}"], "was made with `attar condense`, not `attar compress`."),
        (["condense", "datadam", "--settings", "{}"], "has settings of dm, not of datadam. Do not name the method."),
        (["condense", "--settings", "{}/nothing"], "is missing."),
        (["condense", "--settings", "/dev/zero"], "/dev/zero is not a file."),
        (["condense", "--settings", "{}/preview.png"], "is not a file of settings: it is not JSON."),
        (["condense", "--settings"], "--settings needs a file"),
    ],
)
def test_other_files_are_refused(words, sentence, places, capsys):
    place, _ = places("images")
    (folder,) = (place / "runs").iterdir()
    with pytest.raises(SystemExit) as stop:
        main([word.format(folder) for word in words])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_data_are_written_down_as_typed_and_never_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert as_typed("path/to/farm") == "path/to/farm"
    assert as_typed(tmp_path / "farm") == "farm"
    assert as_typed("/somewhere/else/farm") == "farm"
    assert as_typed("user/name:small") == "user/name:small"


def test_quotes_reading_and_the_whole_name_survive_in_the_command(tmp_path, monkeypatch):
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "my farm" / name).mkdir(parents=True)
        for index in range(10):
            Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                tmp_path / "my farm" / name / f"{index}.png"
            )
    monkeypatch.chdir(tmp_path)
    run("condense", "random", "--data", "my farm", "--ipc", "1", "--size", "4", "--split-seed", "2")
    (folder,) = (tmp_path / "runs").iterdir()
    origin = json.loads((folder / "artefact.json").read_text(encoding="utf-8"))["origin"]
    command = Call(**origin["call"]).command("random", 0)
    assert command == "attar condense random --data 'my farm' --ipc 1 --size 4 --split-seed 2"
    run(*shlex.split(command)[1:], "--out", tmp_path / "again")
    assert tensors_in(tmp_path / "again", "images") == tensors_in(folder, "images")


def test_a_source_that_was_loaded_by_name_is_written_down_by_it(digits, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = attar.condense(attar.load("digits", statistics="mnist"), attar.Random(ipc=1), out="made", engine=engine)
    card = (tmp_path / "made" / "README.md").read_text(encoding="utf-8")
    assert "\nattar condense random --data digits --ipc 1 --statistics mnist\n" in card
    run(*shlex.split("condense --settings made --out again"))
    assert attar.open_artefact("again").fingerprint == made.fingerprint
    part = attar.condense(digits.subset(torch.arange(200)), attar.Random(ipc=1), engine=engine)
    assert part.origin.call["named"] is False


def test_a_call_without_a_command_prints_none():
    call = Call("condense", "images", "digits", named=False)
    assert call.command("dm", 0) == ""
    with pytest.raises(InputError):
        Call("condense", "nothing", "digits").command("dm", 0)


def test_data_that_an_artefact_does_not_keep_are_named_in_the_score_line(tmp_path, monkeypatch, capsys):
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "farm" / name).mkdir(parents=True)
        for index in range(10):
            Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                tmp_path / "farm" / name / f"{index}.png"
            )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run("condense", "random", "--data", tmp_path / "farm", "--ipc", "1")
    words = printed(capsys.readouterr().out, "score:   attar")
    assert words[-2:] == ["--data", str(tmp_path / "farm")]
    assert str(tmp_path) not in (tmp_path / "here" / "runs" / "random-farm-1-seed0" / "artefact.json").read_text(
        encoding="utf-8"
    )
    run(*words, *shlex.split(BRIEFLY["images"]))
    assert "2 images" in capsys.readouterr().out
