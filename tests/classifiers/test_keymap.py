"""Names of a foreign network's tensors, by rules that are data."""

import json

import pytest
import torch
from torch import nn

from attar.classifiers.families import FOLDER, released_as
from attar.classifiers.keymap import Rule, filled, renamed
from attar.core.errors import InputError
from attar.images.networks.pretrained import network_named


def rules(*pairs):
    return [Rule.of(*pair) for pair in pairs]


def test_numbers_are_moved_and_the_rest_of_a_name_stays():
    made = renamed(
        ["layer1.0.conv1.weight", "conv1.bias", "conv10.bias"],
        rules(["conv1", "stem"], ["layer{n}.{b}.conv1", "stages.{n-1}.{b}.first"]),
    )
    assert made.names == {"layer1.0.conv1.weight": "stages.0.0.first.weight", "conv1.bias": "stem.bias"}
    assert made.unknown == ["conv10.bias"]


def test_the_first_rule_that_fits_is_taken():
    made = renamed(["a.0.w", "a.1.w"], rules(["a.0", "first"], ["a.{n}", "others.{n}"]))
    assert list(made.names.values()) == ["first.w", "others.1.w"]


def test_ranks_count_what_a_file_has():
    keys = [f"blocks.{s}.{b}.conv.weight" for s, b in ((0, 0), (1, 0), (1, 1), (2, 0), (10, 0))]
    made = renamed(keys, rules(["blocks.{s}.{b}.conv", "blocks.{#}"]))
    assert list(made.names.values()) == [f"blocks.{place}.weight" for place in range(5)]


def test_modules_below_are_paired_in_their_order_whatever_the_files():
    network = nn.ModuleDict(
        {"one": nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1)), "two": nn.Linear(3, 4)}
    )
    theirs = ["f.10.weight", "f.10.bias", "f.2.weight", "f.2.bias", "f.9.weight", "f.9.bias"]
    made = renamed(theirs, rules(["f.*", "one.* + two.*"]), network)
    assert made.names == {
        **{f"f.2.{leaf}": f"one.0.{leaf}" for leaf in ("weight", "bias")},
        **{f"f.9.{leaf}": f"one.2.{leaf}" for leaf in ("weight", "bias")},
        **{f"f.10.{leaf}": f"two.{leaf}" for leaf in ("weight", "bias")},
    }
    assert renamed([*theirs, "f.11.weight"], rules(["f.*", "one.* + two.*"]), network).unknown == ["f.11.weight"]


def test_counters_may_be_missing_and_precision_may_be_lower():
    norm = nn.BatchNorm2d(2)
    tensors = {name: value.half() for name, value in norm.state_dict().items() if value.is_floating_point()}
    state = filled(
        {f"bn.{name}": value for name, value in tensors.items()}, rules(["bn", "0"]), nn.Sequential(norm), "x"
    )
    assert state["0.weight"].dtype == torch.float32 and int(state["0.num_batches_tracked"]) == 0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"a.weight": torch.zeros(3, 2)}, r"x do not fit: a.weight is 3×2, not 2×2. Give another --as."),
        ({"a.weight": torch.zeros(2, 2, dtype=torch.long)}, "a.weight holds torch.int64, not numbers of torch.float32"),
        ({"b.weight": torch.zeros(1)}, r"x do not fit: 1 tensors of the file are unknown \(b.weight, …\)"),
        ({"a.weight": None}, r"x do not fit: 1 of the network are missing \(0.weight, …\)"),
    ],
)
def test_what_does_not_fit_is_told(change, words):
    tensors = {"a.weight": torch.zeros(2, 2), "a.bias": torch.zeros(2)} | change
    tensors = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(InputError, match=words):
        filled(tensors, rules(["a", "0"]), nn.Sequential(nn.Linear(2, 2)), "x")


def test_every_family_names_networks_that_attar_builds():
    for path in FOLDER.glob("*.json"):
        facts = json.loads(path.read_text())
        for name, one in facts["networks"].items():
            (found,) = [known for known in released_as(name) if known.family == path.stem]
            assert found.rules and network_named(one["is"])


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("resnet32x4", {"mdistiller:resnet32x4"}),
        ("WRN-40-2", {"mdistiller:wrn_40_2"}),
        ("torchvision:vgg16_bn", {"torchvision:vgg16_bn"}),
        ("vgg13", {"torchvision:vgg13", "mdistiller:vgg13"}),
        ("mobilenetv2-imagenet", {"torchvision:mobilenet_v2", "timm:mobilenetv2_100"}),
    ],
)
def test_a_name_may_be_the_packages_or_attars(text, wanted):
    assert {one.told for one in released_as(text)} == wanted


def test_an_unknown_network_is_refused():
    with pytest.raises(InputError, match="unknown network of a package 'resnet32x5'; did you mean 'resnet32x4'"):
        released_as("resnet32x5")
