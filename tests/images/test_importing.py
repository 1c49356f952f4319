"""Released sets, written exactly as the released code writes them."""

import dataclasses
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.data.whiten import fit_zca
from attar.images.importing import Import, Released


@pytest.fixture
def images(generator):
    return torch.randn(6, 3, 16, 16, generator=generator)


LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def refused(sentence, files, source, **settings):
    with pytest.raises(InputError) as refusal:
        attar.import_set(files, source, **settings)
    assert sentence in str(refusal.value)


def test_several_experiments_with_their_accuracies(images, shapes, tmp_path):
    experiments = [[images, LABELS], [2 * images, LABELS]]
    torch.save({"data": experiments, "accs_all_exps": {"ConvNet": [np.float64(26.1), 3.0]}}, tmp_path / "dm.pt")
    last, first = (attar.import_set([tmp_path / "dm.pt"], shapes, which=which) for which in (-1, 0))
    assert torch.equal(first.images, images)
    assert torch.equal(last.images, 2 * images)
    assert last.origin.method == "import:experiments"
    assert last.labels.tolist() == LABELS.tolist()
    refused("holds 2 sets, but which is 2. Give another --which.", [tmp_path / "dm.pt"], shapes, which=2)


def test_a_pair_of_images_and_labels(images, shapes, tmp_path):
    torch.save([images, LABELS], tmp_path / "data_best.pt")
    assert torch.equal(attar.import_set([tmp_path / "data_best.pt"], shapes).images, images)


def test_images_labels_and_step_size_apart(images, shapes, tmp_path):
    for name, value in (("images", images), ("labels", LABELS), ("lr", torch.tensor(0.0123))):
        torch.save(value, tmp_path / f"{name}_best.pt")
    files = [tmp_path / f"{name}_best.pt" for name in ("images", "labels", "lr")]
    small = attar.import_set(files, shapes)
    assert small.lr == pytest.approx(0.0123)
    assert attar.import_set(files[:2], shapes).lr is None
    assert attar.import_set(files[:2], shapes, lr=0.5).lr == 0.5


def test_learned_labels_are_logits_or_probabilities(images, shapes, tmp_path, generator):
    logits = torch.randn(6, 3, generator=generator)
    for name, labels in (("logits", logits), ("probabilities", logits.softmax(dim=1))):
        torch.save([images, labels], tmp_path / f"{name}.pt")
        small = attar.import_set([tmp_path / f"{name}.pt"], shapes)
        torch.testing.assert_close(small.labels, logits.softmax(dim=1))
    kept = attar.import_set([tmp_path / "logits.pt"], shapes, labels="probabilities")
    torch.testing.assert_close(kept.labels, logits)


@pytest.mark.parametrize("whitened", ["raw", "normalised"])
def test_both_conventions_of_whitening_bring_back_the_pixels(whitened, shapes, tmp_path):
    pixels = shapes.train.pixels[torch.tensor([0, 25, 50])].float() / 255
    every = shapes.train.pixels[torch.arange(60)].float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (shapes.transform.mean, shapes.transform.std))
    if whitened == "normalised":
        stored = fit_zca((every - mean) / std).forward((pixels - mean) / std)
    else:
        stored = fit_zca(every).forward(pixels)
    torch.save([stored, torch.arange(3)], tmp_path / "set.pt")
    small = attar.import_set([tmp_path / "set.pt"], shapes, whitened=whitened)
    assert np.abs(small.pixels.astype(int) - (255 * pixels).round().permute(0, 2, 3, 1).numpy().astype(int)).max() <= 1


def test_named_tensors_in_safetensors_and_npz(images, shapes, tmp_path):
    save_file({"images": images, "labels": LABELS}, tmp_path / "set.safetensors")
    np.savez(tmp_path / "set.npz", images=images.numpy(), labels=LABELS.numpy())
    for name in ("set.safetensors", "set.npz"):
        assert torch.equal(attar.import_set([tmp_path / name], shapes).images, images)


@pytest.mark.parametrize("name", ["lr", "syn_lr"])
def test_a_step_size_beside_named_tensors_is_kept(name, images, shapes, tmp_path):
    rate = torch.tensor([0.0123])
    save_file({"images": images, "labels": LABELS, name: rate}, tmp_path / "set.safetensors")
    np.savez(tmp_path / "set.npz", images=images.numpy(), labels=LABELS.numpy(), **{name: 0.0123})
    torch.save({"images": images, "labels": LABELS, name: 0.0123}, tmp_path / "set.pt")
    for file in ("set.safetensors", "set.npz", "set.pt"):
        assert attar.import_set([tmp_path / file], shapes).lr == pytest.approx(0.0123)
        assert attar.import_set([tmp_path / file], shapes, lr=0.5).lr == 0.5


@pytest.mark.parametrize(
    "held", [torch.ones(2), torch.zeros(0), "0.1", True, -0.1, float("nan"), float("inf")], ids=str
)
def test_a_step_size_that_is_no_positive_number_is_refused(held, images, shapes, tmp_path):
    torch.save({"images": images, "labels": LABELS, "lr": held}, tmp_path / "set.pt")
    refused("learning rate", [tmp_path / "set.pt"], shapes)
    for name, value in (("images", images), ("labels", LABELS), ("lr", torch.as_tensor([1.0, 2.0]))):
        torch.save(value, tmp_path / f"{name}.pt")
    files = [tmp_path / f"{name}.pt" for name in ("images", "labels", "lr")]
    refused("learning rate that is not one number", files, shapes)
    refused("4 files were given", [*files, files[0]], shapes)


def test_a_folder_of_pictures_per_class(shapes, tmp_path):
    for label in range(3):
        place = tmp_path / "syn" / f"{label:05d}"
        place.mkdir(parents=True)
        for number in range(2):
            pixels = shapes.train.pixels[torch.tensor([20 * label + number])][0].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(place / f"class{label:05d}_id{number:05d}.png")
    small = attar.import_set([tmp_path / "syn"], shapes)
    assert small.images.dtype == torch.uint8
    assert small.labels.tolist() == LABELS.tolist()
    assert torch.equal(small.images[2], shapes.train.pixels[torch.tensor([20])][0])


def test_an_imported_set_is_an_artefact_like_any_other(images, shapes, tmp_path, engine):
    torch.save([images, LABELS], tmp_path / "set.pt")
    small = attar.import_set([tmp_path / "set.pt"], shapes, out=tmp_path / "out")
    loaded = attar.open_artefact(tmp_path / "out")
    assert loaded.fingerprint == small.fingerprint
    assert "Imported from a released file (pair)" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    attar.evaluate(
        loaded,
        shapes,
        networks=["mlp:width=4"],
        repeats=1,
        protocol="quick",
        ceiling="skip",
        beside="skip",
        engine=engine,
    )


def test_the_command_imports(tmp_path, capsys):
    torch.save([torch.randn(10, 1, 8, 8), torch.arange(10)], tmp_path / "set.pt")
    main(["import", str(tmp_path / "set.pt"), "--data", "digits", "--out", str(tmp_path / "out")])
    assert "10 images" in capsys.readouterr().out


class Malice:
    def __reduce__(self):
        return os.mkdir, (self.where,)

    def __init__(self, where):
        self.where = where


def test_what_could_run_is_refused_and_does_not_run(images, shapes, tmp_path):
    torch.save({"data": [[images, LABELS]], "extra": Malice(str(tmp_path / "owned"))}, tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Malice(str(tmp_path / "owned"))))
    for name in ("evil.pt", "bare.pt"):
        refused(
            "was not read, because it holds more than tensors and numbers and could run code", [tmp_path / name], shapes
        )
    np.savez(tmp_path / "evil.npz", images=np.array([Malice(str(tmp_path / "owned"))], dtype=object))
    refused("does not hold plain arrays", [tmp_path / "evil.npz"], shapes)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "held, sentence",
    [
        ([torch.zeros(6, 3, 8, 8), LABELS], "images have shape (6, 3, 8, 8), but those of arrays have (3, 16, 16)."),
        ([torch.zeros(6, 3, 16, 16), LABELS[:5]], "there are 6 images but labels of shape (5,)."),
        (
            [torch.zeros(6, 3, 16, 16), LABELS + 1],
            "labels run from 1 to 3, but arrays has 3 classes, which are 0 to 2.",
        ),
        (
            [torch.zeros(6, 3, 16, 16), LABELS + 0.5],
            "labels are neither class numbers nor rows with a number for each class.",
        ),
        ([torch.full((6, 3, 16, 16), torch.nan), LABELS], "the images have values that are not finite"),
        ([torch.full((6, 3, 16, 16), 1e30), LABELS], "the images have values up to 1e+30, which are no network input."),
        (torch.zeros(6, 3, 16, 16), "holds a Tensor, not images and labels. Also give the file of the labels."),
        ({"weights": 3}, "holds a dict, not images and labels"),
    ],
)
def test_what_does_not_fit_is_refused(held, sentence, shapes, tmp_path):
    torch.save(held, tmp_path / "set.pt")
    refused(sentence, [tmp_path / "set.pt"], shapes)


def test_files_that_are_missing_or_cut_are_refused(images, shapes, tmp_path):
    refused("is missing", [tmp_path / "no.pt"], shapes)
    refused("give the file of a released set", [], shapes)
    torch.save([images, LABELS], tmp_path / "set.pt")
    whole = (tmp_path / "set.pt").read_bytes()
    (tmp_path / "set.pt").write_bytes(whole[: len(whole) // 2])
    refused("cannot be read", [tmp_path / "set.pt"], shapes)
    (tmp_path / "text.safetensors").write_text("nothing", encoding="utf-8")
    refused("is damaged or truncated", [tmp_path / "text.safetensors"], shapes)


def farm(names):
    """A source with classes of these names, in their order."""
    images = torch.randint(0, 256, (2 * len(names), 3, 16, 16), dtype=torch.uint8)
    source = attar.load(((images, np.arange(2 * len(names)) % len(names)),) * 2)
    return dataclasses.replace(source, classes=tuple(names))


@pytest.mark.parametrize("names", [[str(n) for n in range(12)], [f"{n:05d}" for n in range(12)]])
def test_numbers_are_the_classes_of_that_name(names, generator, tmp_path):
    images, labels = torch.randn(12, 3, 16, 16, generator=generator), torch.arange(12)
    soft = torch.eye(12) * 0.9 + 0.1 / 12
    for held in (labels, soft):
        torch.save([images, held], tmp_path / "set.pt")
        for order in (names, sorted(names), names[::-1]):
            small = attar.import_set([tmp_path / "set.pt"], farm(order))
            assert [int(small.classes[label]) for label in small.hard_labels] == list(range(12))


def test_given_names_say_what_the_numbers_mean(images, tmp_path):
    torch.save([images, LABELS], tmp_path / "set.pt")
    source = farm(["cat", "dog", "emu"])
    small = attar.import_set([tmp_path / "set.pt"], source, classes=("emu", "cat", "dog"))
    assert [small.classes[label] for label in small.labels] == ["emu", "emu", "cat", "cat", "dog", "dog"]
    refused("--classes are emu, cat, but", [tmp_path / "set.pt"], source, classes=("emu", "cat"))


def test_numbers_without_names_are_told(images, tmp_path):
    torch.save([images, LABELS], tmp_path / "set.pt")
    said = []
    source = farm(["cat", "dog", "emu"])
    runtime = Runtime(say=said.append)
    Import().build(Released(source, (tmp_path / "set.pt",)), runtime)
    assert said == [
        "note: the set has numbers of classes, not names. 0 is cat, 1 is dog, 2 is emu, ... "
        "Give --classes if the order is another."
    ]


@pytest.mark.parametrize("names", [["1", "2", "3"], ["0", "2", "4"], ["dog 2", "dog 10", "dog 11"]])
def test_numbers_whose_meaning_is_not_certain_are_refused(names, images, tmp_path):
    torch.save([images, LABELS], tmp_path / "set.pt")
    refused("Give --classes in the order of the set's numbers.", [tmp_path / "set.pt"], farm(names))


@pytest.mark.parametrize(
    "folders, names, wanted",
    [
        (["dog", "cat", "emu"], ["emu", "dog", "cat"], ["cat", "dog", "emu"]),
        ([f"new{n:03d}" for n in range(3)], ["0", "1", "2"], ["0", "1", "2"]),
        ([str(n) for n in range(11)], [str(n) for n in range(11)], [str(n) for n in range(11)]),
        (["a", "b", "c"], ["cat", "dog", "emu"], None),
    ],
)
def test_folders_are_matched_by_name_or_number(folders, names, wanted, tmp_path):
    source = farm(names)
    for number, name in enumerate(folders):
        (tmp_path / "syn" / name).mkdir(parents=True)
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(tmp_path / "syn" / name / "0.png")
    if wanted is None:
        refused("are not named after the classes of", [tmp_path / "syn"], source)
        small = attar.import_set([tmp_path / "syn"], source, classes=("emu", "cat", "dog"))
        wanted, folders = ["emu", "cat", "dog"], sorted(folders)
    else:
        small = attar.import_set([tmp_path / "syn"], source)
    found = {
        int(image.flatten()[0]): small.classes[label] for image, label in zip(small.images, small.labels, strict=True)
    }
    ordered = sorted(folders) if folders[0] == "dog" else folders
    numbers = {"dog": 0, "cat": 1, "emu": 2} if folders[0] == "dog" else {name: n for n, name in enumerate(folders)}
    assert [found[numbers[name]] for name in ordered] == wanted


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["every label", "one label", "hard label", "pixel", "rate", "given rate"])
@pytest.mark.parametrize("form", ["pt", "safetensors", "npz"])
def test_what_is_not_finite_is_refused_with_where(bad, place, form, images, shapes, tmp_path):
    labels = LABELS.float() if place == "hard label" else torch.eye(3).repeat_interleave(2, dim=0)
    images, lr, given = images.clone(), 0.1, None
    if place == "every label":
        labels[:] = bad
    elif place in ("one label", "hard label"):
        labels[4] = bad
    elif place == "pixel":
        images[4, 1, 3, 3] = bad
    elif place == "rate":
        lr = bad
    else:
        given = bad
    if form == "pt":
        files = [tmp_path / f"{name}.pt" for name in ("images", "labels", "lr")]
        for file, value in zip(files, (images, labels, torch.tensor(lr)), strict=True):
            torch.save(value, file)
    elif place == "rate":
        return
    else:
        files = [tmp_path / f"set.{form}"]
        if form == "npz":
            np.savez(files[0], images=images.numpy(), labels=labels.numpy())
        else:
            save_file({"images": images, "labels": labels}, files[0])
    where = {"every label": "first at image 0.", "one label": "first at image 4.", "hard label": "first at image 4."}
    where |= {"pixel": "first at image 4.", "rate": "the learning rate is", "given rate": "lr"}
    refused(where[place], files, shapes, **({} if given is None else {"lr": given}))


@pytest.mark.parametrize("held", [[torch.zeros(0, 3, 16, 16), torch.zeros(0)], [torch.zeros(()), torch.zeros(())]])
def test_a_set_without_images_is_refused(held, shapes, tmp_path):
    torch.save(held, tmp_path / "set.pt")
    refused("image", [tmp_path / "set.pt"], shapes)


@pytest.mark.filterwarnings("ignore")  # torch's, of making them
@pytest.mark.parametrize("odd", ["sparse", "meta", "quantised"])
def test_tensors_that_are_not_plain_are_refused(odd, images, shapes, tmp_path):
    forms = {"sparse": images.to_sparse, "meta": lambda: images.to("meta")}
    forms["quantised"] = lambda: torch._empty_affine_quantized(images.shape, scale=0.1, zero_point=0, dtype=torch.qint8)
    torch.save([forms[odd](), LABELS], tmp_path / "set.pt")
    refused("holds a sparse, quantised or empty kind of tensor. Save a plain one.", [tmp_path / "set.pt"], shapes)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.bool, torch.uint16, torch.complex64])
def test_images_of_other_numbers_are_not_taken_for_a_networks_input(kind, images, shapes, tmp_path):
    torch.save([images.abs().to(kind), LABELS], tmp_path / "set.pt")
    refused(f"the images are {kind}; give floats", [tmp_path / "set.pt"], shapes)


def test_labels_too_large_for_32_bits_are_not_finite(images, shapes, tmp_path):
    torch.save([images, torch.full((6, 3), 1e300, dtype=torch.float64)], tmp_path / "set.pt")
    refused(
        "the labels have values that are not finite (NaN or infinite) at 6 of 6 images", [tmp_path / "set.pt"], shapes
    )


@pytest.mark.parametrize("content", [b"", b"junk" * 9, b"PK\3\4" + b"\0" * 40])
@pytest.mark.parametrize("ending", ["pt", "npz", "npy", "safetensors"])
def test_files_of_anything_are_refused_in_one_line(ending, content, shapes, tmp_path):
    file = tmp_path / f"set.{ending}"
    file.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        attar.import_set([file], shapes)
    assert str(refusal.value).startswith(str(file))
    assert "load" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore")  # torch's, of making it
def test_compiled_code_is_refused_without_the_advice_to_run_it(shapes, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "set.pt"))
    refused("could run code when read.", [tmp_path / "set.pt"], shapes)


def test_arrays_of_numpy_in_any_order_of_bytes(images, shapes, tmp_path):
    np.save(tmp_path / "images.npy", images.numpy().astype(">f4"))
    np.save(tmp_path / "labels.npy", LABELS.numpy())
    small = attar.import_set([tmp_path / "images.npy", tmp_path / "labels.npy"], shapes)
    assert torch.equal(small.images, images)


@pytest.mark.parametrize(
    ("more", "told"),
    [([torch.tensor([])], "is not one number"), ([torch.tensor(0.1), torch.tensor(0.1)], "a set has at most three")],
)
def test_more_than_a_step_size_beside_images_and_labels_is_refused(more, told, images, shapes, tmp_path):
    for number, tensor in enumerate([images, LABELS, *more]):
        torch.save(tensor, tmp_path / f"{number}.pt")
    refused(told, sorted(tmp_path.glob("*.pt")), shapes)


def test_test_images_of_a_released_folder_are_told(shapes, tmp_path):
    for split in ("train", "test"):
        for name in shapes.classes:
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (16, 16)).save(tmp_path / split / name / "0.png")
    said = []
    small = Import().build(Released(shapes, (tmp_path,)), Runtime(say=said.append)).small
    assert len(small.images) == 3
    assert said == [f"note: only the training images of {tmp_path} are imported, not its 3 test images"]
