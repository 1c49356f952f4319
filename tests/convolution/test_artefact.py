import json
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from torch import nn

from attar.convolution.artefact import ConvolutionPlan, LayerChoice, WholeNetwork
from attar.convolution.timing import Median
from attar.core.artefact import write_facts
from attar.core.errors import InputError

NETWORK = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2, padding=1))


@pytest.fixture
def made():
    times = {name: Median(t, 0.9 * t, 1.1 * t, 31) for name, t in (("dense, nchw", 2.0), ("cpo", 1.5), ("direct", 0.5))}
    first = LayerChoice.dense("0", NETWORK[0], (2, 8, 8), 1.0, "its input has no zeros")
    gain = Median(4.0, 3.5, 4.5, 31)
    second = LayerChoice.switched(
        "2",
        NETWORK[2],
        (3, 6, 6),
        0.25,
        "direct",
        gain,
        1e-6,
        times,
        {"cpo": 640, "direct": 130},
        {"cpo": 40, "direct": 30},
    )
    whole = WholeNetwork(10, 1, 1e-6, 2.0, 10, "nchw", times["dense, nchw"], times["direct"], gain)
    weights = {name: tensor.clone() for name, tensor in NETWORK.state_dict().items()}
    return ConvolutionPlan((first, second), whole, {"runs": 31}, {"threads": 1}, weights)


def test_it_comes_back_from_its_folder(made, tmp_path):
    assert made.save(tmp_path).folder == tmp_path
    loaded = ConvolutionPlan.load(tmp_path)
    assert replace(loaded, weights={}) == replace(made, weights={})
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in made.weights.items())
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    assert facts["kind"] == "convolution"
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    data = ModelCard(card).data
    assert (data.library_name, data.tags) == ("attar", ["sparse-convolution", "attar"])
    assert "\n---\n# A plan of convolutions" in card
    assert "| runs | 31 |\n" in card


def test_where_it_came_from_is_read_in_its_older_form_too(made, tmp_path):
    older = {"data": "digits", "fingerprint": "ab", "seed": 3, "method": "conv", "network": "vgg11"}
    made.save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    plain = {name: value for name, value in facts.items() if name not in ("kind", "schema", "facts_digest")}
    write_facts(tmp_path, "convolution", 1, {**plain, "origin": older})
    origin = ConvolutionPlan.load(tmp_path).origin
    assert (origin.source, origin.fingerprint, origin.seed, origin.method) == ("digits", "ab", 3, "conv")
    assert origin.settings == {"network": "vgg11", "runs": 31}
    assert (origin.machine, origin.call) == ({"threads": 1}, None)


def other():
    """The same layers with other weights."""
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2, padding=1))


def test_applied_again_it_keeps_the_weights_of_the_network_or_gives_the_saved_ones(made, tmp_path, draw):
    made.save(tmp_path)
    given, images, again = other(), draw.normal(2, 2, 8, 8), ConvolutionPlan.load(tmp_path)
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    for planned, wanted in ((again.apply(given), given), (again.load_network(given), NETWORK)):
        assert planned[2].method == "direct"
        with torch.inference_mode():
            torch.testing.assert_close(planned(images), wanted(images), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in given.state_dict().items())


def test_bytes_of_older_plans_are_those_that_the_papers_count(made, tmp_path):
    made.save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    layers = [{name: value for name, value in one.items() if name != "counted_bytes"} for one in facts["layers"]]
    plain = {name: value for name, value in facts.items() if name not in ("kind", "schema", "facts_digest")}
    write_facts(tmp_path, "convolution", 1, {**plain, "layers": layers})
    layer = ConvolutionPlan.load(tmp_path).layers[1]
    assert (layer.bytes, layer.counted_bytes) == ({}, {"cpo": 640, "direct": 130})


def test_another_network_is_refused(made):
    for use in (made.apply, made.load_network):
        with pytest.raises(InputError, match=r"the plan is of another network: only one of them has 2\.weight\."):
            use(nn.Sequential(nn.Conv2d(2, 3, 3)))
        with pytest.raises(InputError, match=r"network: size mismatch for 2\.weight, \[4, 3, 3, 3\] in the plan"):
            use(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 5, 3, bias=False)))
        with pytest.raises(InputError, match=r"the plan is of another network: only one of them has 3\.weight\."):
            use(nn.Sequential(*other(), nn.Conv2d(4, 4, 1)))


def test_what_it_says(made):
    text = str(made)
    for words in ("2→3, 3×3", "3→4, 3×3, stride 2×2, padding 1×1", "0.25", "4.00 times faster [3.50, 4.50]"):
        assert words in text
    assert text.splitlines()[-1] == (
        "1 of 2 convolutions switched; whole network: 4 [3.5, 4.5] times faster (0.5 [0.45, 0.55] ms a batch of 1, "
        "dense 2 [1.8, 2.2] ms in nchw); max |difference| 1e-06 of outputs up to 2; 10 of 10 predictions equal"
    )


def test_its_picture_is_a_png_or_nothing(made, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[docs]'")
    assert made.picture().startswith(b"\x89PNG")
    assert made.picture() == made.picture()
    assert replace(made, layers=made.layers[:1]).picture() is None
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert made.picture() is None


def test_without_a_picture_it_is_saved_all_the_same(made, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    made.save(tmp_path)
    assert not (tmp_path / "preview.png").exists()
    assert "preview.png" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_damaged_plan_is_refused(made, tmp_path):
    made.save(tmp_path)
    path = tmp_path / "artefact.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**facts, "layers": facts["layers"][:1]}), encoding="utf-8")
    with pytest.raises(InputError, match="was altered after it was written"):
        ConvolutionPlan.load(tmp_path)
    path.write_text(json.dumps({**facts, "schema": 9}), encoding="utf-8")
    with pytest.raises(InputError, match="has schema 9, but this attar reads up to 1"):
        ConvolutionPlan.load(tmp_path)
    path.write_text(json.dumps({"kind": "mixture"}), encoding="utf-8")
    with pytest.raises(InputError, match="holds an artefact of kind 'mixture', not 'convolution'"):
        ConvolutionPlan.load(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"holds no plan of convolutions \(no artefact\.json\)"):
        ConvolutionPlan.load(tmp_path)


def test_other_weights_are_refused(made, tmp_path):
    made.save(tmp_path / "one")
    weights = {name: tensor + 1 for name, tensor in made.weights.items()}
    replace(made, weights=weights).save(tmp_path / "two")
    (tmp_path / "two" / "network.safetensors").replace(tmp_path / "one" / "network.safetensors")
    with pytest.raises(InputError, match=r"network\.safetensors is not the file that artefact\.json describes"):
        ConvolutionPlan.load(tmp_path / "one")
