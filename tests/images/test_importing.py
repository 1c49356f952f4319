"""Released sets, written exactly as the released code writes them."""

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
from attar.images.data.whiten import fit_zca


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
    assert "Imported from a released file (pair)" in (tmp_path / "out" / "README.md").read_text()
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
        ([torch.zeros(6, 3, 16, 16), LABELS + 1], "labels run from 1 to 3, but arrays has 3 classes."),
        (
            [torch.zeros(6, 3, 16, 16), LABELS + 0.5],
            "labels are neither class numbers nor rows with a number for each class.",
        ),
        ([torch.full((6, 3, 16, 16), torch.nan), LABELS], "the images have values that are not finite"),
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
    (tmp_path / "text.safetensors").write_text("nothing")
    refused("is damaged or truncated", [tmp_path / "text.safetensors"], shapes)
