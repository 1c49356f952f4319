"""Trained classifiers of other packages: read without them, shown images as they were, and tested."""

import dataclasses
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import attar
import foreign_networks as theirs
from attar.classifiers.artefact import DistilledClassifier
from attar.classifiers.importing import Handed, ImportTeacher, names_in
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.networks.blocks import Network
from attar.images.networks.scaled import scaled

QUIET = Engine(device="cpu", quiet=True)
PLAIN = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


def pictures(classes, side=32, *, names=None, each=2):
    """Coloured noise with classes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (classes * each, 3, side, side), dtype=torch.uint8, generator=generator)
    labels = torch.arange(classes).repeat_interleave(each)
    names = names or [f"thing {'abcdefghijklmnop'[label]}" for label in range(classes)]
    made = attar.load(((pixels, labels), (pixels, labels)))
    return dataclasses.replace(made, name="noise", classes=tuple(names))


def imported(tmp_path, written, source, **settings):
    """What attar makes of the network's file."""
    torch.save(written.state_dict(), tmp_path / "teacher.pth")
    return attar.import_teacher(tmp_path / "teacher.pth", source, **{**PLAIN, **settings})


def same(made, network, source, **how):
    """Whether both answer the same to the same pictures, normalised as the network knows them."""
    pixels = source.test.pixels[torch.arange(4)]
    images = made.transform.forward(pixels)
    with torch.no_grad():
        wanted = network(how["shown"](images) if "shown" in how else images)
    found = made.logits(images)
    assert isinstance(made.network, Network)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


NETWORKS = {
    "mdistiller:resnet8": lambda: theirs.ResNet((1, 1, 1), (16, 32, 64), 5, width=16),
    "mdistiller:resnet8x4": lambda: theirs.ResNet((1, 1, 1), (64, 128, 256), 5, width=32),
    "mdistiller:ResNet50": lambda: theirs.ResNet(
        (3, 4, 6, 3), (64, 128, 256, 512), 5, block=theirs.Bottle, short="shortcut", last="linear"
    ),
    "mdistiller:wrn_16_1": lambda: theirs.WideResNet(16, 1, 5),
    "mdistiller:wrn_40_2": lambda: theirs.WideResNet(40, 2, 5),
    "mdistiller:vgg8": lambda: theirs.CifarVGG((1, 1, 1, 1, 1), 5),
    "mdistiller:vgg13": lambda: theirs.CifarVGG((2, 2, 2, 2, 2), 5),
    "mdistiller:MobileNetV2": lambda: theirs.CifarMobile(5),
    "mdistiller:ShuffleV1": lambda: theirs.ShuffleV1(5),
    "mdistiller:ShuffleV2": lambda: theirs.ShuffleV2(5),
    "rded:resnet18_modified": lambda: theirs.ResNet((2, 2, 2, 2), (64, 128, 256, 512), 5),
    "rded:conv3": lambda: theirs.Conv(3, 5),
    "torchvision:resnet18": lambda: theirs.ResNet((2, 2, 2, 2), (64, 128, 256, 512), 5, stem="large"),
    "torchvision:resnet50": lambda: theirs.ResNet(
        (3, 4, 6, 3), (64, 128, 256, 512), 5, stem="large", block=theirs.Bottle
    ),
    "torchvision:mobilenet_v2": lambda: theirs.MobileNetV2(5),
    "torchvision:vit_b_16": lambda: theirs.TorchvisionViT(5),
    "timm:vit_small_patch16_224": lambda: theirs.TimmViT(5),
    "timm:mobilenetv2_100": lambda: theirs.Residuals(theirs.MOBILE_V2, 5, names="timm"),
    "timm:tf_efficientnet_lite0": lambda: theirs.Residuals(theirs.LITE_0, 5, names="timm", same=True, eps=1e-3),
    "efficientnet-lite:efficientnet-lite0": lambda: theirs.Residuals(
        theirs.LITE_0, 5, names="lite", same=True, eps=1e-3
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_answers_as_the_network_that_the_file_is_of(name, tmp_path):
    source, network = pictures(5), theirs.randomised(NETWORKS[name]())
    made = imported(tmp_path, network, source, network=name, input_size=32)
    same(made, network, source)
    assert made.origin.method == f"import:{name}"
    assert made.origin.student.parameters == sum(one.numel() for one in network.parameters())


@pytest.mark.parametrize("normed", [False, True])
def test_a_deep_vgg(normed, tmp_path, monkeypatch):
    monkeypatch.setattr("attar.images.networks.imagenet.HIDDEN", 16)
    network = theirs.randomised(theirs.VGG((1, 1, 2, 2, 2), 5, normed=normed, hidden=16))
    source = pictures(5)
    made = imported(tmp_path, network, source, network="vgg11_bn" if normed else "torchvision:vgg11", input_size=32)
    same(made, network, source)


@pytest.fixture
def small():
    return theirs.randomised(theirs.ResNet((1, 1, 1), (16, 32, 64), 5, width=16))


WAYS = {
    "plain": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3, "best_acc": torch.tensor(0.7), "optimizer": {"state": {}}},
    "state_dict": lambda state: {"state_dict": state, "arch": "resnet8"},
    "nested": lambda state: {"checkpoint": {"model": state}},
    "parallel": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    "half": lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
    "old": lambda state: {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
    "counted": lambda state: state | {"total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_lies_in_files_in_many_ways(way, small, tmp_path):
    torch.save(WAYS[way](small.state_dict()), tmp_path / "x.pth")
    source = pictures(5)
    made = attar.import_teacher(tmp_path / "x.pth", source, network="resnet8", **PLAIN)
    if way != "half":
        same(made, small, source)


def test_safetensors_too_and_the_network_is_found_by_its_tensors(small, tmp_path):
    save_file(small.state_dict(), tmp_path / "x.safetensors")
    source, said = pictures(5), []
    made = attar.import_teacher(tmp_path / "x.safetensors", source, **PLAIN, say=said.append)
    same(made, small, source)
    assert made.student == "resnet8"
    assert any("% of the 10 test images of noise correct" in line for line in said)
    assert any("class 'thing a' is taken to be output 0 of mdistiller:resnet8" in line for line in said)


def test_it_is_an_artefact_that_teaches_and_observes(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "x.pth")
    source = pictures(5, each=8)
    folder = tmp_path / "teacher"
    made = attar.import_teacher(tmp_path / "x.pth", source, network="resnet8", **PLAIN, out=folder)
    again = DistilledClassifier.load(folder)
    images = torch.ones(2, 3, 32, 32)
    assert torch.equal(again.logits(images), made.logits(images))
    card = (folder / "README.md").read_text()
    assert "Imported from a released file (mdistiller:resnet8)" in card and "# A classifier of noise" in card
    assert made.scores["student"] == attar.evaluate(folder, source).networks[0].score.value
    student = attar.distill(
        source, attar.KD(student="mlp:width=4", epochs=1, batch=16), teacher=str(folder), engine=QUIET
    )
    assert student.scores["teacher"] == made.scores["student"]
    for method in (
        attar.RDED(ipc=1, observer={"folder": str(folder)}),
        attar.Herding(ipc=1, observer={"folder": str(folder)}),
        attar.Relabelled(ipc=1, teachers=1, teacher={"folder": str(folder)}),
        attar.SRe2L(ipc=1, labels="hard", block_steps=2, teacher={"folder": str(folder)}),
    ):
        assert len(attar.condense(source, method, engine=QUIET).images) == 5


def test_images_are_scaled_as_the_package_did(tmp_path):
    network = theirs.randomised(theirs.ResNet((2, 2, 2, 2), (64, 128, 256, 512), 5, stem="large"))
    source, said = pictures(5), []
    made = imported(tmp_path, network, source, network="torchvision:resnet18", say=said.append)
    assert made.student == "resnet18-imagenet@224"
    assert any(line.startswith("images of 32×32 are scaled to 224×224") for line in said)
    same(made, network, source, shown=lambda images: scaled(images, 224))
    made.save(tmp_path / "out")
    image = torch.ones(1, 3, 32, 32)
    assert torch.equal(DistilledClassifier.load(tmp_path / "out").logits(image), made.logits(image))


def test_outputs_are_cut_to_the_classes_of_the_data_by_name(small, tmp_path):
    order = tmp_path / "order.txt"
    order.write_text("thing e\nthing c\nthing a\nthing d\nthing b\n")
    three = pictures(3)
    made = imported(tmp_path, small, three, network="resnet8", class_order=str(order))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(made.logits(images), small(images)[:, [2, 4, 1]], rtol=1e-4, atol=1e-4)


def test_outputs_of_imagenet_are_found_by_wordnet_ids(tmp_path):
    known = names_in("imagenet")
    assert len(known) == 1000 and known == sorted(known) and known[0] == "n01440764" and known[-1] == "n15075141"
    source = pictures(2, names=["n02099601 golden retriever", "n01443537 goldfish"])
    network = theirs.randomised(theirs.ResNet((2, 2, 2, 2), (64, 128, 256, 512), 1000, stem="large"))
    made = imported(tmp_path, network, source, network="torchvision:resnet18", input_size=32)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network(images)[:, [207, 1]]
    torch.testing.assert_close(made.logits(images), wanted, rtol=1e-4, atol=1e-4)


class Code:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.parametrize(
    "held, settings, words",
    [
        ({"model": Code()}, {}, "was not read, because it holds more than tensors and numbers and could run code"),
        ([1, 2], {}, "holds no tensors by name"),
        ({"a": {"x": torch.zeros(1)}, "b": {"x": torch.zeros(1)}}, {}, r"holds several networks \(a, b\)"),
        ("state", {"network": "resnet14"}, "x.pth and mdistiller:resnet14 do not fit: 30 of the network are missing"),
        ("state", {"network": "wrn_16_1"}, "x.pth and mdistiller:wrn_16_1 do not fit"),
        ("wide", {}, "conv1.weight is 17×3×3×3, not 16×3×3×3"),
        ("state", {"network": "resnet9"}, "unknown network of a package 'resnet9'"),
        ("state", {"mean": ()}, "only one of mean and std is given"),
        ("state", {"mean": (), "std": ()}, "nothing tells how images were normalised for mdistiller:resnet8 of noise"),
        ("state", {"mean": (0.5,), "std": (0.5,)}, "mean and std have 1 and 1 numbers; give 3 each"),
        ("state", {"std": (0.5, 0.0, 0.5)}, "std is 0; it must be above 0"),
        ("state", {"class_order": "nowhere.txt"}, "class_order is 'nowhere.txt'; give imagenet, or a text file"),
        ("state", {"class_order": "imagenet"}, "class_order imagenet has 1,000 names, but the network has 5 outputs"),
        ("six", {}, "mdistiller:resnet8 has 6 classes, but noise has 5"),
        ("nan", {}, "has values in conv1.weight that are not finite"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(held, settings, words, small, tmp_path, capfd):
    state = small.state_dict()
    if held == "six":
        held = theirs.ResNet((1, 1, 1), (16, 32, 64), 6, width=16).state_dict()
    elif held == "wide":
        held = state | {"conv1.weight": torch.zeros(17, 3, 3, 3)}
    elif held == "nan":
        held = state | {"conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}
    elif held == "state":
        held = state
    torch.save(held, tmp_path / "x.pth")
    with pytest.raises(InputError, match=words) as refused:
        attar.import_teacher(tmp_path / "x.pth", pictures(5), **{"network": "resnet8", **PLAIN, **settings})
    assert "\n" not in str(refused.value)
    assert "this ran" not in capfd.readouterr().out


def test_files_that_are_none_are_refused(tmp_path):
    source = pictures(5)
    torch.save({"a": torch.zeros(100)}, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:500])
    for name, words in (
        ("x.pth", "damaged, empty or no file of torch.save"),
        ("y.pth", "y.pth is missing"),
        (".", "is no file"),
    ):
        with pytest.raises(InputError, match=words):
            attar.import_teacher(tmp_path / name, source, network="resnet8", **PLAIN)
    with pytest.raises(InputError, match="2 files are given"):
        ImportTeacher(**PLAIN).resolve(Handed(source, (tmp_path, tmp_path)), Runtime(QUIET))


def test_two_networks_that_fit_are_told(tmp_path):
    torch.save(theirs.TimmViT(5).state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"may be any of .*vit_small_patch16_224.*Give --as"):
        attar.import_teacher(tmp_path / "x.pth", pictures(5), input_size=32)


def test_the_command(small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = pictures(5)
    for label, name in enumerate(source.classes):
        for number in range(2):
            place = tmp_path / "noise" / name / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            pixels = source.test.pixels[torch.tensor([2 * label + number])][0]
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(place)
    torch.save(small.state_dict(), "teacher.pth")
    words = "import teacher teacher.pth --as resnet8 --data noise --mean 0.5 0.4 0.3 --std 0.2 0.25 0.3 --quiet"
    main(words.split())
    out = capsys.readouterr().out
    assert "runs/import-teacher: " in out and "attar evaluate runs/import-teacher" in out
    call = json.loads((tmp_path / "runs/import-teacher/artefact.json").read_text())["origin"]["call"]
    assert call["verb"] == "import"
    card = (tmp_path / "runs/import-teacher/README.md").read_text()
    assert "attar import teacher teacher.pth --data noise --as resnet8 --mean 0.5 0.4 0.3 --std 0.2 0.25 0.3" in card
    main(["import", "teacher", "--help"])
    help_ = capsys.readouterr().out
    assert "--as" in help_ and "attar import teacher FILE" in help_
    main(["import", "--help"])
    assert "attar import teacher --help" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["import", "teacher.pth", "--data", "noise", "--kind", "classifiers"])
    assert "attar import teacher FILE" in capsys.readouterr().err


def test_names_that_stand_twice_are_refused(tmp_path):
    (tmp_path / "order.txt").write_text("a\nb\na\n")
    with pytest.raises(InputError, match="names 'a' twice"):
        names_in(str(tmp_path / "order.txt"))


def test_hardly_more_than_chance_is_told(small, tmp_path):
    source, said = pictures(5), []
    constant = {
        name: torch.zeros_like(value) if name.startswith("fc") else value for name, value in small.state_dict().items()
    }
    torch.save(constant, tmp_path / "x.pth")
    attar.import_teacher(tmp_path / "x.pth", source, network="resnet8", **PLAIN, say=said.append)
    assert any(line.startswith("note: that is hardly more than chance, 20.0 %") for line in said)


def test_the_normalisation_of_a_package_is_known(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "x.pth")
    source = dataclasses.replace(pictures(5), statistics="cifar100")
    made = attar.import_teacher(tmp_path / "x.pth", source, network="resnet8")
    assert made.transform.mean == (0.5071, 0.4867, 0.4408) and made.transform.std == (0.2675, 0.2565, 0.2761)
