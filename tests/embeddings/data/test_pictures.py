"""Pictures of several labels, captions or none: in parquet, in data sets, in folders with a table, in bare folders."""

import json

import datasets
import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from attar.core.errors import InputError
from attar.embeddings.data.load import load
from attar.images.data.pixels import Encoded
from picture_files import pictures, png, write_folder

N = 20
IMAGES = pictures(N)
LABELS = [[0, 2], [1], [], [2]] * 5
WANTED = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]] * 5).bool()
TEXTS = [f"picture {number}" for number in range(N)]
STRUCT = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})


def write(path, images=IMAGES, **columns):
    cells = pyarrow.array([{"bytes": png(image), "path": None} for image in images], STRUCT)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table({"image": cells, **columns}), path)
    return path


def refusal(data, **options):
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def whole(source):
    """Pixels and labels of a split source, in the order in which the pictures were made."""
    parts = [part.samples[torch.arange(len(part))] for part in (source.train, source.test)]
    pixels = torch.cat(parts).permute(0, 2, 3, 1).numpy()
    place = [int(np.flatnonzero((one == IMAGES).all(axis=(1, 2, 3)))[0]) for one in pixels]
    order = np.argsort(place)
    labels = [part.labels for part in (source.train, source.test)]
    captions = [*source.train.captions, *source.test.captions]
    return None if labels[0] is None else torch.cat(labels)[order], [captions[row] for row in order if captions]


def folder(path, table, names=None):
    path.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(IMAGES):
        file = path / (names or (lambda n: f"{n:02d}.png"))(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    for name, content in table.items():
        (path / name).write_text(content, encoding="utf-8")
    return path


def test_several_labels_of_pictures_in_every_form(tmp_path):
    columns = {name: WANTED[:, place].numpy() for place, name in enumerate("012")}
    write(tmp_path / "lists.parquet", labels=LABELS)
    write(tmp_path / "columns.parquet", **columns, size=np.arange(N) * 1.5)
    rows = [f"{number:02d}.png,{'|'.join(map(str, LABELS[number]))}" for number in range(N)]
    binary = [f"{number:02d}.png,{','.join(map(str, WANTED[number].int().tolist()))}" for number in range(N)]
    objects = [json.dumps({"file_name": f"{number:02d}.png", "labels": LABELS[number]}) for number in range(N)]
    folders = [
        folder(tmp_path / "a", {"metadata.csv": "\n".join(["file_name,labels", *rows])}),
        folder(tmp_path / "b", {"labels.csv": "\n".join(["image,0,1,2", *binary])}),
        folder(tmp_path / "c", {"metadata.jsonl": "\n".join(objects)}),
    ]
    kinds = datasets.Features(
        image=datasets.Image(), labels=datasets.Sequence(datasets.ClassLabel(names=["0", "1", "2"]))
    )
    data = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(one) for one in IMAGES], "labels": LABELS}, features=kinds
    )
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "set.parquet")
    forms = [tmp_path / "lists.parquet", tmp_path / "columns.parquet", *folders, folders[0] / "metadata.csv", data]
    forms += [tmp_path / "saved", tmp_path / "set.parquet", (torch.from_numpy(IMAGES), WANTED)]
    prints = set()
    for form in forms:
        source = load(form)
        assert (source.classes, source.labelled, source.shape) == (("0", "1", "2"), "several", (3, 8, 8)), form
        assert torch.equal(whole(source)[0], WANTED)
        assert "5 of 20 samples have no label" in source.notes
        prints.add(source.fingerprint)
    assert len(prints) == 1


def test_one_label_of_pictures_in_columns_is_as_the_kind_images_has_it(tmp_path):
    import attar

    file = write(tmp_path / "one.parquet", label=[("cat", "dog")[n % 2] for n in range(N)])
    source, images = load(file), attar.load(file)
    assert (source.classes, source.labelled) == (("cat", "dog"), "one")
    assert torch.equal(source.train.labels, images.train.labels) and source.split == images.split
    assert torch.equal(source.train.samples.tensor, images.train.pixels.tensor)
    assert source.transform == images.transform


def test_captions_stand_beside_the_pictures(tmp_path):
    several = [[text, "another"] for text in TEXTS]
    table = "\n".join(["file_name,text", *(f"{number:02d}.png,{TEXTS[number]}" for number in range(N))])
    forms = {
        write(tmp_path / "a.parquet", caption=TEXTS): {},
        write(tmp_path / "b.parquet", words=TEXTS): {"captions": "words"},
        write(tmp_path / "c.parquet", captions=several, label=np.arange(N) % 2): {},
        folder(tmp_path / "d", {"metadata.csv": table}): {},
    }
    for form, options in forms.items():
        source = load(form, **options)
        assert source.paired and whole(source)[1] == TEXTS, form
        assert source.labelled == ("one" if form.stem == "c" else "none")
    told = "of up to 2 captions of an image the first is taken"
    assert told in load(tmp_path / "c.parquet").notes and told not in load(tmp_path / "a.parquet").notes
    some = load(tmp_path / "a.parquet").subset(torch.tensor([3, 1]))
    assert some.train.captions == tuple(load(tmp_path / "a.parquet").train.captions[row] for row in (3, 1))


def test_pictures_without_labels(tmp_path):
    flat = folder(tmp_path / "flat", {})
    inner = folder(tmp_path / "inner", {}, lambda n: f"holiday/{n}.png")
    split = folder(tmp_path / "split", {}, lambda n: f"{'train' if n < 12 else 'test'}/{n:02d}.png")
    file = write(tmp_path / "bare.parquet")
    for form in (flat, inner, file, IMAGES):
        source = load(form)
        assert (source.labelled, source.classes, len(source.train), len(source.test)) == ("none", (), 16, 4), form
        whole(source)
    given = load(split)
    assert (given.labelled, given.split, len(given.train), len(given.test)) == ("none", "given", 12, 8)
    labelled = write(tmp_path / "one.parquet", label=np.arange(N) % 2)
    assert load(labelled, label="none").labelled == "none"


def test_classes_in_folders_are_read_by_the_kind_images(tmp_path):
    source = load(write_folder(tmp_path / "pets", cat=IMAGES[:10], dog=IMAGES[10:]))
    assert (source.classes, source.labelled, len(source.test)) == (("cat", "dog"), "one", 4)


def test_splits_of_pictures_are_those_of_names_folders_or_a_column(tmp_path):
    write(tmp_path / "files" / "train-00000-of-00001.parquet", IMAGES[:12], labels=LABELS[:12])
    write(tmp_path / "files" / "test-00000-of-00001.parquet", IMAGES[12:], labels=LABELS[12:])
    name = lambda n: f"{'train' if n < 12 else 'test'}/{n:02d}.png"  # noqa: E731
    lines = [f"{name(n)},{'|'.join(map(str, LABELS[n]))}" for n in range(N)]
    top = folder(tmp_path / "top", {"metadata.csv": "\n".join(["file_name,labels", *lines])}, name)
    inner = folder(tmp_path / "inner", {}, name)
    for part, some in (("train", lines[:12]), ("test", lines[12:])):
        text = "\n".join(["file_name,labels", *(line.partition("/")[2] for line in some)])
        (inner / part / "metadata.csv").write_text(text, encoding="utf-8")
    words = [f"{n:02d}.png,{'|'.join(map(str, LABELS[n]))},{'train' if n < 12 else 'test'}" for n in range(N)]
    column = folder(tmp_path / "column", {"metadata.csv": "\n".join(["file_name,labels,split", *words])})
    for form in (tmp_path / "files", top, inner, column):
        source = load(form)
        assert (source.split, len(source.train), len(source.test)) == ("given", 12, 8), form
        assert torch.equal(source.train.labels, WANTED[:12]) and torch.equal(source.test.labels, WANTED[12:])
        np.testing.assert_array_equal(source.train.samples[torch.arange(12)].permute(0, 2, 3, 1).numpy(), IMAGES[:12])


def test_pictures_above_the_budget_stay_encoded(tmp_path):
    file = write(tmp_path / "lists.parquet", labels=LABELS)
    source = load(file, memory=0)
    assert isinstance(source.train.samples, Encoded) and torch.equal(whole(source)[0], WANTED)
    novel = load(write(tmp_path / "one.parquet", label=np.arange(N) % 4), memory=0, novel=("1", "3"))
    assert (len(novel.train), len(novel.test), novel.novel) == (10, 10, ("1", "3"))


def test_what_is_wrong_with_pictures_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t.parquet", captions=["a"] * (N - 1) + [" "])
    assert refusal("t.parquet") == "row 19 of t.parquet has no caption in column 'captions'."
    assert refusal("t.parquet", captions="text").startswith("unknown column of t.parquet 'text'.")
    assert refusal("t.parquet", image="picture").startswith("t.parquet has no column 'picture'.")
    lines = [f"{n:02d}.png,{n % 2}" for n in range(N)]
    table = "\n".join(["file_name,label", *lines[:-1], "99.png,0"])
    data = folder(tmp_path / "data", {"metadata.csv": table})
    assert refusal("data").startswith("99.png (row 19 of data/metadata.csv) names 99.png, which is missing.")
    source = load(data, skip_bad=True)
    assert len(source.train) + len(source.test) == N - 1
    (data / "metadata.csv").write_text("\n".join(["file_name,label", *lines[:10]]), encoding="utf-8")
    assert "left out, because no row of a table names them: 10 pictures" in load(data).notes
    (data / "metadata.csv").write_text("\n".join(["file_name,label", "../t.parquet,1", *lines]), encoding="utf-8")
    assert refusal("data").startswith(
        "../t.parquet (row 0 of data/metadata.csv) names ../t.parquet, which is not below"
    )
    (data / "metadata.csv").write_text("name,label\n1,2\n", encoding="utf-8")
    assert refusal("data").startswith("data/metadata.csv has no column of picture files. Its columns: name, label.")
    for name, told in (
        ("", "does not hold image bytes"),
        ("a\nb.png", "names 'a\\nb.png', which is no name of a file"),
    ):
        (data / "metadata.csv").write_text("\n".join(["file_name,label", *lines, f'"{name}",1']), encoding="utf-8")
        assert refusal("data").startswith(f"row 20 of data/metadata.csv {told}.")
    (data / "metadata.csv").write_text("file_name,label\n", encoding="utf-8")
    assert refusal("data") == "data/metadata.csv has no rows."
    (data / "metadata.csv").unlink()
    message = "image, label and captions are names of columns, but data has no table of its pictures."
    assert refusal("data", captions="text") == message
    stream = datasets.Dataset.from_dict({"a": [1]}).to_iterable_dataset()
    assert "Load it without streaming=True" in refusal(stream)
