import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attar.core.errors import InputError
from attar.core.provenance import as_typed
from attar.embeddings.data.load import load
from attar.embeddings.reading import looks_like

CHARACTERS = [("Latin", "character01"), ("Latin", "character02"), ("Greek", "character01"), ("Tifinagh", "character10")]


def drawing(seed, side=105):
    """A thin stroke in ink (0) on paper (1), as Omniglot has it."""
    image = Image.new("1", (side, side), 1)
    pixels = np.array(image)
    pixels[10 + seed % 80 : 13 + seed % 80, 10:90] = 0
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def write_zip(path, characters, drawers=4):
    with zipfile.ZipFile(path, "w") as archive:
        for alphabet, character in characters:
            for drawer in range(drawers):
                seed = 7 * CHARACTERS.index((alphabet, character)) + drawer
                archive.writestr(f"{path.stem}/{alphabet}/{character}/0001_{drawer:02d}.png", drawing(seed))
        archive.writestr("__MACOSX/a/Latin/character01/._1.png", b"no picture")
        archive.writestr("readme.txt", b"")
    return path


@pytest.fixture
def zips(tmp_path):
    return [write_zip(tmp_path / "one.zip", CHARACTERS[:3]), write_zip(tmp_path / "two.zip", CHARACTERS[1:])]


def test_files_are_merged_by_alphabet_and_character(zips, tmp_path):
    joined = ",".join(map(str, zips))
    with zipfile.ZipFile(zips[0]) as one, zipfile.ZipFile(zips[1]) as two:
        one.extractall(tmp_path / "drawings")
        two.extractall(tmp_path / "drawings")
    source = load(joined)
    assert source.classes == tuple(sorted("/".join(one) for one in CHARACTERS))
    assert (len(source.train), len(source.test), source.shape) == (12, 4, (1, 28, 28))
    assert "8 drawings lie in several files and are read once" in source.notes
    for form in (joined, str(tmp_path / "drawings")):
        assert looks_like(form)
        assert load(form).train.labels.tolist() == source.train.labels.tolist()
        assert load(form).fingerprint == source.fingerprint
    assert looks_like(str(tmp_path)) and load(tmp_path).fingerprint == source.fingerprint


def test_strokes_are_bright_on_black_and_survive_scaling(zips):
    large, small = load(str(zips[0]), size=105), load(str(zips[0]))
    assert large.shape == (1, 105, 105) and not small.flips
    assert "drawings are scaled to 28 pixels; --size 105 keeps those of Omniglot as they are" in small.notes
    for one in (large, small):
        pixels = one.unit(torch.arange(len(one.train)))
        assert float(pixels.mean()) < 0.1 and float(pixels.amin()) == 0
        assert bool((pixels.flatten(1).amax(dim=1) > 0.5).all())  # a stroke of three pixels, of which one is left
    ink = [float(one.unit(torch.arange(len(one.train))).mean()) for one in (large, small)]
    assert abs(ink[0] - ink[1]) < 0.2 * ink[0]


def test_novel_alphabets_are_tested_on_and_the_others_learned(zips):
    source = load(",".join(map(str, zips)), novel=("Latin",))
    assert source.novel == source.test_classes == ("Latin/character01", "Latin/character02")
    assert source.classes == ("Greek/character01", "Tifinagh/character10")
    assert (source.split, len(source.train), len(source.test)) == ("novel classes", 8, 8)
    assert source.test.labels.bincount().tolist() == source.train.labels.bincount().tolist() == [4, 4]


def test_real_drawings():
    folder = Path(os.environ.get("ATTAR_DATA", "")) / "omniglot"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    source = load(folder, novel=("Sanskrit", "Tagalog"))
    assert (len(source.classes), len(source.novel), len(source.train), len(source.test)) == (183, 59, 3660, 1180)
    assert "1,000 drawings lie in several files and are read once" in source.notes
    assert set(source.train.labels.bincount().tolist()) == set(source.test.labels.bincount().tolist()) == {20}


def test_drawings_in_several_files_are_the_same():
    """What is read once is the same picture in each file."""
    folder = Path(os.environ.get("ATTAR_DATA", "")) / "omniglot"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    found: dict[str, bytes] = {}
    twice = 0
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in (name for name in archive.namelist() if name.endswith(".png")):
                key = name.partition("/")[2]
                twice += key in found
                assert found.setdefault(key, archive.read(name)) == archive.read(name)
    assert twice == 1000


def refusal(data, **options):
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_damaged_or_no_zip_files_are_refused(zips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        refusal("no.zip") == "no.zip is not there. Give zip files of Omniglot, joined by commas, or a folder of them."
    )
    (tmp_path / "text.zip").write_text("a", encoding="utf-8")
    assert refusal("text.zip") == "text.zip is not a readable zip file (File is not a zip file)."
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a/b.txt", b"")
    assert refusal("other.zip") == "other.zip holds no drawings of Omniglot, which lie in folders Alphabet/character01."
    data, draw = zips[0].read_bytes(), np.random.default_rng(0)
    for number in range(30):
        some = bytearray(data[: draw.integers(len(data))] if number % 3 == 0 else data)
        for place in draw.integers(len(some), size=number % 3 * 4) if len(some) else []:
            some[place] = draw.integers(256)
        (tmp_path / "bad.zip").write_bytes(some)
        try:
            source = load("bad.zip", skip_bad=bool(number % 2))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert source.inputs(torch.arange(len(source.train))).isfinite().all()


def test_joined_files_are_written_down_without_their_folders(zips, tmp_path, monkeypatch):
    assert as_typed(",".join(map(str, zips))) == "one.zip,two.zip"
    monkeypatch.chdir(tmp_path.parent)
    assert as_typed(",".join(map(str, zips))) == f"{tmp_path.name}/one.zip,{tmp_path.name}/two.zip"
    assert as_typed("one.zip,two.zip") == "one.zip,two.zip"
