"""Nobody is tested on what trained him: B1. An artefact is tested on the split that it was made with."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.splits import own_split
from picture_files import write_parquet

QUIET = ["--device", "cpu", "--quiet"]
BRIEFLY = [
    "--repeats",
    "1",
    "--protocol",
    "quick",
    "--networks",
    "mlp:width=4",
    "--ceiling",
    "skip",
    "--beside",
    "skip",
]


def noise(count=60, classes=3):
    """Images that can only be known by heart."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % classes


@pytest.fixture
def farm(tmp_path):
    """A folder of pictures that came without test images."""
    images, labels = noise()
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        place = tmp_path / "farm" / f"animal {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place / f"{number:02d}.png")
    return tmp_path / "farm"


def older(small, seed):
    """What an earlier version made of a split that was drawn by the seed of the run."""
    return dataclasses.replace(small, origin=dataclasses.replace(small.origin, seed=seed, call=None))


def test_the_seed_of_a_run_does_not_draw_the_split(farm, engine):
    prints = {attar.condense(farm, attar.Random(ipc=2), seed=seed, engine=engine).origin.fingerprint for seed in (0, 1)}
    assert prints == {attar.load(farm).fingerprint}


def test_a_source_is_split_again_by_another_seed(farm):
    first, second = attar.load(farm), attar.load(farm, split_seed=4)
    assert first.at(4).fingerprint == second.fingerprint != first.fingerprint
    assert first.at(4).at(0).fingerprint == first.fingerprint
    assert first.at(4).transform == second.transform


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_so_it_is_above_the_memory_budget(farm, memory):
    first, second = attar.load(farm, memory=memory), attar.load(farm, memory=memory, split_seed=4)
    assert first.at(4).fingerprint == second.fingerprint


def test_given_splits_and_parts_of_sources_are_not_split_again(farm, digits):
    for source in (digits, attar.load(farm).subset(torch.arange(9))):
        with pytest.raises(InputError, match="was not split by a seed"):
            source.at(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_older_set_is_tested_on_the_split_that_its_seed_drew(farm, engine, seed):
    then = attar.load(farm, split_seed=seed)
    small = older(attar.condense(then, attar.Random(ipc=2), engine=engine), seed)
    found = own_split(small, attar.load(farm), Runtime(engine))
    assert found.fingerprint == then.fingerprint
    taken = {image.numpy().tobytes() for image in small.images}
    tested = {image.numpy().tobytes() for image in found.test.pixels[torch.arange(len(found.test))]}
    assert not taken & tested


def test_a_set_whose_split_cannot_be_found_again_is_refused(farm, engine):
    small = older(attar.condense(attar.load(farm, split_seed=7), attar.Random(ipc=2), engine=engine), 1)
    small = dataclasses.replace(small, origin=dataclasses.replace(small.origin, split="80/20 by seed 1"))
    with pytest.raises(InputError, match=r"was made from another split or other images.*Give the original data"):
        attar.evaluate(small, farm, networks=["mlp:width=4"], repeats=1, protocol="quick", engine=engine)


def test_a_whitened_set_is_known_by_its_own_transform(shapes, engine):
    images, labels = noise()
    method = attar.DataDAM(ipc=1, steps=1, real_batch=2, zca=True, architecture=attar.Architecture(width=4))
    source = attar.load((images, labels), split_seed=3)
    small = attar.condense(source, method, engine=engine)
    said = []
    assert own_split(small, source, Runtime(engine, say=said.append)) is source
    found = own_split(small, attar.load((images, labels)), Runtime(engine, say=said.append))
    assert found.fingerprint == source.fingerprint
    assert said == ["datadam is tested on the split that it was made with (80/20 by seed 3)."]


def test_other_data_with_a_split_of_their_own_are_told_and_taken(digits, farm, engine):
    small, said = attar.condense(digits, attar.Random(ipc=1), engine=engine), []
    changed = dataclasses.replace(digits, test=digits.test.select(torch.arange(100)))
    assert own_split(small, changed, Runtime(engine, say=said.append)) is changed
    assert said == ["note: the pixels of digits differ from those that random was made from."]


def test_students_are_tested_on_their_own_split_too(farm, engine):
    method = attar.KD(student="convnet:norm=batch,width=4,depth=1", epochs=1)
    teacher = attar.Architecture(norm="batch", width=4, depth=1).build((1, 8, 8), 3, torch.Generator())
    source = attar.load(farm, split_seed=5)
    student = attar.distill(source, method, teacher=teacher, engine=engine)
    then = attar.evaluate(student, source, engine=engine).to_json()
    student = dataclasses.replace(student, origin=dataclasses.replace(student.origin, seed=5, call=None))
    now = attar.evaluate(student, farm, engine=engine).to_json()
    assert scores_in(now) == scores_in(then)
    strange = dataclasses.replace(student, origin=dataclasses.replace(student.origin, fingerprint="0" * 32))
    with pytest.raises(InputError, match="it may have been trained on test images"):
        attar.evaluate(strange, farm, engine=engine)


def scores_in(found):
    return [row["values"] for row in json.loads(json.dumps(found))["rows"][0]["columns"]]


def test_the_command_reads_the_data_as_they_were_read(farm, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["condense", "random", "--data", "farm", "--ipc", "1", "--split-seed", "3", "--size", "4", *QUIET])
    folder = "runs/random-farm-1-seed0"
    origin = json.loads((tmp_path / folder / "artefact.json").read_text(encoding="utf-8"))["origin"]
    assert origin["call"]["reading"] == {"split_seed": 3, "size": 4}
    assert origin["split"] == "80/20 by seed 3"
    main(["evaluate", folder, *BRIEFLY, *QUIET])
    assert "3 images" in capsys.readouterr().out


def test_noise_learned_by_heart_is_not_known_on_test_images(farm, tmp_path, capsys, monkeypatch):
    """52 % became 90 % where sets with other seeds were tested on their own training images."""
    monkeypatch.chdir(tmp_path)
    words = ["--protocol", "quick", "--networks", "mlp", "--repeats", "1", "--ceiling", "skip", "--beside", "skip"]
    for seed in ("0", "1", "2"):
        main(["condense", "random", "--data", "farm", "--ipc", "16", "--seed", seed, "--out", f"set{seed}", *QUIET])
    main(["evaluate", "set0", "set1", "set2", *words, "--json", "scores.json", *QUIET])
    (column,) = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["rows"][0]["columns"]
    assert np.mean(column["values"]) < 75


# Classes are matched by name.


@pytest.fixture
def numbered(tmp_path):
    """A folder of twelve classes named by numbers, which came without a split."""
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for number, image in enumerate(images):
        place = tmp_path / "numbered" / str(number % 12)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(place / f"{number:02d}.png")
    return tmp_path / "numbered"


@pytest.fixture
def sorted_as_text(monkeypatch):
    """How older versions ordered the names of classes, while it is entered."""

    @contextlib.contextmanager
    def older():
        with monkeypatch.context() as patch:
            patch.setattr("attar.images.data.naming.in_order", lambda names: sorted(set(names)))
            yield

    return older


@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize("form", ["folder", "split folder", "parquet"])
def test_a_set_made_with_classes_sorted_as_text_is_tested_with_these(
    form, memory, numbered, sorted_as_text, engine, tmp_path
):
    data = numbered
    if form == "split folder":
        data = tmp_path / "both"
        for split in ("train", "test"):
            shutil.copytree(numbered, data / split)
    elif form == "parquet":
        data = tmp_path / "names.parquet"
        images = torch.randint(0, 256, (60, 8, 8, 3), dtype=torch.uint8).numpy()
        write_parquet(data, images, sorted(str(n % 12) for n in range(60)))
    with sorted_as_text():
        then = attar.load(data, split_seed=2, memory=memory)
        small = attar.condense(then, attar.Random(ipc=2), seed=2, engine=engine)
    assert small.classes == tuple(sorted(map(str, range(12))))
    now, said = attar.load(data, memory=memory), []
    assert now.classes == tuple(map(str, range(12)))
    found = own_split(small, now, Runtime(engine, say=said.append))
    assert found.fingerprint == then.fingerprint
    assert found.classes == small.classes
    assert torch.equal(found.test.labels, then.test.labels)
    assert "are numbered as random has them, by their names." in said[0]


def test_numbering_in_another_order_and_back_is_the_source_itself(numbered):
    source = attar.load(numbered)
    other = source.ordered_as(source.classes[::-1])
    assert other.fingerprint != source.fingerprint
    assert other.ordered_as(source.classes).fingerprint == source.fingerprint
    assert other.at(3).ordered_as(source.classes).train.labels.bincount().tolist() == [4] * 12
    white = source.whitened()
    turned = white.ordered_as(source.classes[::-1])
    torch.testing.assert_close(turned.inputs(turned.rows_of[0]), white.inputs(white.rows_of[-1]))
    with pytest.raises(InputError, match="has other classes"):
        source.ordered_as(["a", "b"])


def test_a_set_that_was_split_by_a_seed_is_not_tested_on_a_split_that_its_data_have_now(farm, engine):
    """Folders that name their splits were once read as one set."""
    small = attar.condense(farm, attar.Random(ipc=2), engine=engine)
    images, labels = noise()
    now = dataclasses.replace(attar.load(((images, labels), (images[:9], labels[:9]))), name="farm")
    now = dataclasses.replace(now, classes=small.classes)
    with pytest.raises(InputError, match="it may have been trained on test images"):
        own_split(small, now, Runtime(engine))
