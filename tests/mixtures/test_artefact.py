import json
import sys

import pytest
import torch
from huggingface_hub import ModelCard

from attar import verbs
from attar.core.artefact import write_facts
from attar.core.errors import InputError
from attar.mixtures import METHODS, OGGMR, GaussianMixture, ReducedMixture, Runnalls, random_mixture
from attar.mixtures.preview import preview


def made(runtime, data="standard-1d", **settings):
    return verbs.compress(data, Runnalls(**{"n_components": 5, **settings}), engine=runtime.engine)


def test_it_comes_back_as_it_went(runtime, tmp_path):
    small = made(runtime)
    saved = small.save(tmp_path / "small")
    back = ReducedMixture.load(tmp_path / "small")
    assert saved.folder == back.folder == tmp_path / "small"
    assert back.mixture.fingerprint == small.mixture.fingerprint
    assert back.original.fingerprint == small.original.fingerprint == small.origin.fingerprint
    assert torch.equal(back.assignment, small.assignment)
    for name in ("trace", "evaluations", "origin"):
        assert getattr(back, name) == getattr(small, name)
    assert small.seconds > 0
    assert back.seconds is None  # the clock's reading belongs to the run, and there was no run folder
    assert back.distance("nise") == pytest.approx(0.027716, abs=1e-5)


def test_all_files_are_the_same_each_time(runtime, tmp_path):
    for name in ("one", "two"):
        made(runtime).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["README.md", "artefact.json", "mixture.safetensors", "preview.png"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_it_says_what_was_kept(runtime):
    lines = str(made(runtime)).splitlines()
    assert lines[0] == "5 of 10 components in 1-D by runnalls: 120 bytes, 50.0 % of the original"
    assert lines[1] == "distance: angle 0.23578 (15.01 % of a right angle), nise 0.027716, ise 0.026635"
    assert lines[2].startswith("75 evaluations in ")


def test_the_files_say_where_it_came_from(runtime, tmp_path):
    made(runtime).save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    assert (facts["kind"], facts["origin"]["method"], facts["origin"]["seed"]) == ("mixtures", "runnalls", 0)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    data = ModelCard(card).data
    assert (data.library_name, data.tags) == ("attar", ["gaussian-mixture", "attar"])
    assert "\n---\n# standard-1d, reduced by" in card
    assert "5 Gaussians in 1 dimensions that stand for 10" in card
    assert "| n_components | 5 |" in card


def test_an_artefact_can_be_reduced_further(runtime, tmp_path):
    made(runtime).save(tmp_path)
    again = made(runtime, str(tmp_path), n_components=2)
    assert (again.original.n_components, again.mixture.n_components) == (5, 2)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_one(name, runtime, tmp_path):
    method = METHODS[name](n_components=6)
    small = verbs.compress("standard-1d", method, engine=runtime.engine).save(tmp_path)
    assert ReducedMixture.load(tmp_path).origin.settings == method.to_json() == small.origin.settings


def spoil(folder, how):
    if how == "facts":
        facts = json.loads((folder / "artefact.json").read_text(encoding="utf-8"))
        facts["evaluations"] += 1
        (folder / "artefact.json").write_text(json.dumps(facts), encoding="utf-8")
    elif how == "tensors":
        raw = bytearray((folder / "mixture.safetensors").read_bytes())
        raw[-1] ^= 1
        (folder / "mixture.safetensors").write_bytes(bytes(raw))
    elif how == "truncated":
        (folder / "mixture.safetensors").write_bytes((folder / "mixture.safetensors").read_bytes()[:200])
    elif how == "other":
        random_mixture(2, 1, torch.Generator().manual_seed(0)).save(folder / "mixture.safetensors")
    elif how == "images":
        (folder / "artefact.json").write_text('{"schema": 1, "facts_digest": ""}', encoding="utf-8")
    elif how == "list":
        (folder / "artefact.json").write_text("[]", encoding="utf-8")
    else:
        (folder / "artefact.json").unlink()


@pytest.mark.parametrize(
    "how, sentence",
    [
        ("facts", "artefact.json was altered"),
        ("tensors", "mixture.safetensors was altered"),
        ("truncated", "mixture.safetensors is damaged or truncated"),
        ("other", "is not the file that artefact.json describes"),
        ("images", "holds an artefact of kind 'images', not 'mixtures'"),
        ("list", "not an artefact's description"),
        ("gone", "holds no reduced mixture"),
    ],
)
def test_a_spoilt_artefact_is_refused(how, sentence, runtime, tmp_path):
    made(runtime).save(tmp_path)
    spoil(tmp_path, how)
    with pytest.raises(InputError, match=sentence):
        ReducedMixture.load(tmp_path)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_both_mixtures_are_drawn_in_any_dimension(dimension):
    f = random_mixture(6, dimension, torch.Generator().manual_seed(0))
    picture = preview(f, Runnalls(n_components=3).reduce(f).mixture)
    assert picture.startswith(b"\x89PNG")


def test_every_covariance_type_is_drawn():
    f = GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [1.0, 2.0], "spherical")
    assert preview(f, f.select([0])).startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_picture(runtime, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    small = made(runtime).save(tmp_path)
    assert small.picture() is None
    assert not (tmp_path / "preview.png").exists()
    assert "preview.png" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_verb_makes_one(tmp_path):
    small = verbs.compress("standard-1d", OGGMR(n_components=5), out=tmp_path)
    assert small.distance() == pytest.approx(0.011589 * torch.pi / 2, abs=2e-6)
    opened = verbs.open_artefact(tmp_path)
    assert opened.mixture.fingerprint == small.mixture.fingerprint
    assert opened.seconds == json.loads((tmp_path / "run" / "cost.json").read_text(encoding="utf-8"))["seconds"]


def test_artefacts_of_before_the_run_folder_are_read(runtime, tmp_path):
    small = made(runtime).save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    settings = {**facts["origin"]["settings"], "fit_components": 40}
    origin = {name: value for name, value in facts["origin"].items() if name != "call"} | {"settings": settings}
    (tmp_path / "timing.json").write_text('{"seconds": 0.25}', encoding="utf-8")
    plain = {name: value for name, value in facts.items() if name not in ("kind", "schema", "facts_digest")}
    write_facts(tmp_path, "mixture", 1, {**plain, "origin": origin})
    older = verbs.open_artefact(tmp_path)
    assert (older.seconds, older.origin.call) == (0.25, None)
    assert older.mixture.fingerprint == small.mixture.fingerprint
    assert Runnalls.from_json(older.origin.settings) == Runnalls(n_components=5)
