"""Pictures of every mode and format, and pictures that cannot be read."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.images.data import decoding
from picture_files import all_pixels, pictures, png, refusal_of, write_folder, write_parquet

UNIT = np.random.default_rng(0).random((8, 8))
LEVELS = np.rint(255 * UNIT).astype(np.uint8)


def written(root, save, count=2):
    """Two classes of pictures that a function saves."""
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number in range(count):
            save(root / label / str(number))
    return root


def saved(array, ending, **options):
    return lambda place: Image.fromarray(array).save(place.with_suffix(ending), **options)


def pgm(largest):
    header = f"P5\n8 8\n{largest}\n".encode()
    return lambda place: place.with_suffix(".pgm").write_bytes(header + (largest * UNIT).astype(">u2").tobytes())


def deep_colours(bits):
    """A PNG of three channels with 16 bits each, which Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = np.repeat(((2**bits - 1) * UNIT[..., None]).astype(">u2"), 3, axis=2)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return lambda place: place.with_suffix(".png").write_bytes(data)


def first(source):
    return all_pixels(source.train)[0].permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize(
    "save, options",
    [
        (saved(UNIT.astype(np.float32), ".tif"), {}),
        (saved((255 * UNIT).astype(np.float32), ".tif"), {"pixel_bits": 8}),
        (saved((65535 * UNIT).astype(np.uint16), ".png"), {}),
        (saved((65535 * UNIT).astype(np.uint16), ".tif"), {}),
        (saved((4095 * UNIT).astype(np.uint16), ".png"), {"pixel_bits": 12}),
        (saved((1023 * UNIT).astype(np.uint16), ".tif"), {"pixel_bits": 10}),
        (saved((65535 * UNIT).astype(np.int32), ".tif"), {"pixel_bits": 16}),
        (saved(LEVELS.astype(np.int32), ".tif"), {"pixel_bits": 8}),
        (pgm(65535), {}),
        (pgm(4095), {}),
        (deep_colours(16), {}),
    ],
)
@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_values_of_more_than_8_bits_are_scaled_by_what_the_mode_says(save, options, memory, tmp_path):
    source = attar.load(written(tmp_path, save), memory=memory, **options)
    assert source.shape[0] in (1, 3)
    assert np.abs(first(source) - LEVELS[..., None].astype(int)).max() <= 1


@pytest.mark.parametrize(
    "save, options, part",
    [
        (saved((255 * UNIT).astype(np.float32), ".tif"), {}, "not from 0 to 1. Scale them, or give"),
        (saved((2 * UNIT - 1).astype(np.float32), ".tif"), {}, "has float values from -0.9"),
        (saved(np.full((8, 8), np.nan, np.float32), ".tif"), {}, "has pixels that are not finite"),
        (saved((65535 * UNIT).astype(np.int32), ".tif"), {}, "holds 32-bit integers, whose range is not known"),
        (saved((4095 * UNIT).astype(np.uint16), ".png"), {}, "Give the number of bits: --pixel-bits 12, or"),
        (saved((1023 * UNIT).astype(np.uint16), ".tif"), {}, "Give the number of bits: --pixel-bits 10, or"),
        (saved(LEVELS.astype(np.uint16), ".png"), {}, "Give the number of bits: --pixel-bits 8, or"),
        (saved((4095 * UNIT).astype(np.uint16), ".png"), {"pixel_bits": 10}, "but 10 bits hold 0 to 1,023"),
        (deep_colours(12), {}, "has 16 bits, of which only the lower ones are used"),
    ],
)
def test_values_of_an_unknown_range_are_refused_with_what_to_do(save, options, part, tmp_path):
    assert part in refusal_of(written(tmp_path, save), **options)


def test_a_dark_test_set_has_the_bits_of_the_training_set(tmp_path):
    written(tmp_path / "train", saved((65535 * UNIT).astype(np.uint16), ".png"))
    written(tmp_path / "test", saved((4095 * UNIT).astype(np.uint16), ".png"))
    assert int(all_pixels(attar.load(tmp_path).test).max()) == 15


ALPHA = np.repeat(np.array([[255]] * 4 + [[0]] * 3 + [[128]], np.uint8), 8, axis=1)


@pytest.mark.parametrize("background, level", [("white", 255), ("black", 0), ("none", None)])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_show_the_background(background, level, channels, tmp_path):
    colours = np.repeat(LEVELS[..., None], channels, axis=2)
    save = saved(np.concatenate([colours, ALPHA[..., None]], axis=2), ".png")
    source = attar.load(written(tmp_path, save), background=background)
    share = ALPHA[..., None] / 255
    wanted = colours if level is None else colours * share + level * (1 - share)
    assert source.shape == (channels, 8, 8)
    assert np.abs(first(source) - wanted).max() <= 0.51
    assert (first(source)[:4] == colours[:4]).all()
    usual = attar.load(tmp_path)
    assert (usual.fingerprint == source.fingerprint) is (background == "white")
    streamed = [attar.load(tmp_path, background=each, memory=0).fingerprint for each in ("white", background)]
    assert (streamed[0] == streamed[1]) is (background == "white")


@pytest.mark.parametrize("mode, transparency", [("P", bytes(256)), ("L", 0), ("RGB", (0, 0, 0))])
def test_a_transparent_colour_shows_the_background(mode, transparency, tmp_path):
    image = Image.new(mode, (8, 8), 0)
    source = attar.load(
        written(tmp_path, lambda place: image.save(place.with_suffix(".png"), transparency=transparency))
    )
    assert first(source).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "PA"])
def test_modes_of_8_bits_mean_the_same_picture(mode, tmp_path):
    grey = np.where(LEVELS > 127, 255, 0).astype(np.uint8)
    image = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    elif mode == "PA":
        image = image.convert("P").convert("PA")
    else:
        image = image.convert(mode)
    form = attar.images.sources.Form()
    found = decoding._opaque(decoding._plain(image, form, lambda: ""), form).convert("RGB")
    assert np.abs(np.array(found).astype(int) - grey[..., None].astype(int)).max() <= 2


@pytest.mark.parametrize("ending", [".ppm", ".jfif", ".jp2", ".tga", ".webp", ".pcx", ".sgi", ".PNG", ".JPE", ".ico"])
def test_whatever_pillow_reads_is_read(ending, tmp_path):
    write_folder(tmp_path, cat=pictures(3))
    (tmp_path / "dog").mkdir()
    for number in range(3):
        Image.fromarray(pictures(1, (8, 8, 3))[0]).save(tmp_path / "dog" / f"{number}{ending}")
    assert attar.load(tmp_path).classes == ("cat", "dog")


def test_formats_that_another_program_reads_are_not_read(tmp_path):
    assert not {".eps", ".ps", ".wmf", ".mpg", ".h5"} & decoding.endings()
    write_folder(tmp_path, cat=pictures(3), dog=pictures(3))
    (tmp_path / "dog" / "000.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    assert "dog/000.png cannot be decoded as an image (UnidentifiedImageError)" in refusal_of(tmp_path)


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_one_colour_picture_after_many_grey_ones_keeps_its_colours(memory, tmp_path):
    write_folder(tmp_path, cat=pictures(140, (4, 4)), dog=pictures(140, (4, 4)))
    Image.fromarray(pictures(1, (4, 4, 3))[0]).save(tmp_path / "dog" / "zzz.png")
    assert attar.load(tmp_path, memory=memory).shape == (3, 4, 4)


def test_colours_of_test_pictures_alone_count_too(tmp_path):
    write_folder(tmp_path / "train", cat=pictures(3, (8, 8)), dog=pictures(3, (8, 8)))
    write_folder(tmp_path / "test", cat=pictures(2), dog=pictures(2))
    source = attar.load(tmp_path)
    assert source.shape == source.test.pixels.shape == (3, 8, 8)


# Pictures that cannot be read.


@pytest.fixture
def spoilt(tmp_path):
    """Sixteen pictures, of which seven are bad."""
    write_folder(tmp_path / "pets", cat=pictures(8), dog=pictures(8))
    cat, dog = tmp_path / "pets" / "cat", tmp_path / "pets" / "dog"
    (cat / "000.png").unlink()
    (cat / "000.png").symlink_to(tmp_path / "nowhere.png")
    (cat / "001.png").write_bytes(b"")
    (cat / "002.png").write_bytes((cat / "003.png").read_bytes()[:100])
    (dog / "000.png").write_bytes(b"woof")
    (dog / "001.png").unlink()
    os.mkfifo(dog / "001.png")
    for name in ("002.png", "003.png"):
        (dog / name).write_bytes(b"")
    return tmp_path / "pets"


def test_all_bad_pictures_are_counted_and_five_named(spoilt):
    cat, dog = spoilt / "cat", spoilt / "dog"
    assert refusal_of(spoilt) == (
        f"7 of 16 pictures cannot be read: {cat / '000.png'} is a broken link; "
        f"{cat / '001.png'} is empty (zero bytes); {cat / '002.png'} is truncated; "
        f"{dog / '000.png'} cannot be decoded as an image (UnidentifiedImageError); "
        f"{dog / '001.png'} is not a file; and 2 more. Leave them out with --skip-bad."
    )


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_bad_pictures_can_be_left_out_which_is_told(memory, spoilt):
    source = attar.load(spoilt, skip_bad=True, memory=memory)
    assert len(source.train) + len(source.test) == 9
    assert source.notes[0].startswith(f"7 of 16 pictures of {spoilt}")
    both = torch.cat([source.train.labels, source.test.labels])
    assert both.bincount().tolist() == [5, 4]
    assert attar.load(spoilt, skip_bad=True).fingerprint == attar.load(spoilt, skip_bad=True).fingerprint


def test_bad_pictures_of_both_splits_are_counted_together(tmp_path):
    for part in ("train", "test"):
        write_folder(tmp_path / part, cat=pictures(3), dog=pictures(3))
        (tmp_path / part / "dog" / "001.png").write_bytes(b"")
    assert refusal_of(tmp_path).startswith("2 of 12 pictures cannot be read: ")
    assert len(attar.load(tmp_path, skip_bad=True).test) == 5


def test_a_file_without_permission_says_so(tmp_path, monkeypatch):
    write_folder(tmp_path, cat=pictures(3), dog=pictures(3))
    real = Image.open

    def opened(file, *arguments, **options):
        if str(file).endswith("dog/001.png"):
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", opened)
    file = tmp_path / "dog" / "001.png"
    assert refusal_of(tmp_path) == f"{file} cannot be read (no permission). Leave it out with --skip-bad."


def test_bad_rows_of_parquet_files_can_be_left_out(tmp_path):
    images = [png(image) for image in pictures(20)]
    images[3], images[8] = b"", b"spoilt"
    file = write_parquet(tmp_path / "pets.parquet", images, [0, 1] * 10)
    assert f"row 3 of {file} is empty (zero bytes); row 8 of {file} cannot be decoded" in refusal_of(file)
    source = attar.load(file, skip_bad=True)
    assert len(source.train) + len(source.test) == 18


def test_nothing_but_bad_pictures_is_refused(tmp_path):
    write_folder(tmp_path, cat=pictures(1), dog=pictures(1))
    for label in ("cat", "dog"):
        (tmp_path / label / "000.png").write_bytes(b"")
    files = [tmp_path / label / "000.png" for label in ("cat", "dog")]
    told = "; ".join(f"{file} is empty (zero bytes)" for file in files)
    for skip_bad in (False, True):
        assert refusal_of(tmp_path, skip_bad=skip_bad) == f"2 of 2 pictures cannot be read: {told}."


def test_what_stands_in_place_of_a_picture_is_named(tmp_path):
    write_folder(tmp_path, cat=pictures(3), dog=pictures(3))
    file = tmp_path / "dog" / "001.png"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n", encoding="utf-8")
    assert (
        refusal_of(tmp_path) == f"{file} is a pointer of Git LFS, not the picture itself. Leave it out with --skip-bad."
    )
    file.unlink()
    file.symlink_to(file.name)
    assert refusal_of(tmp_path) == f"{file} is a broken link. Leave it out with --skip-bad."
    file.unlink()
    data = bytearray(png(pictures(1)[0]))
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    file.write_bytes(data)
    assert refusal_of(tmp_path) == f"{file} has more pixels than Pillow decodes. Leave it out with --skip-bad."


def test_12_bits_in_a_grey_map_of_16_bits_are_asked_for(tmp_path):
    values = (4095 * UNIT).astype(">u2").tobytes()

    def save(place):
        place.with_suffix(".pgm").write_bytes(b"P5\n8 8\n65535\n" + values)

    written(tmp_path, save, count=5)
    assert "Give the number of bits: --pixel-bits 12" in refusal_of(tmp_path)
    assert abs(first(attar.load(tmp_path, pixel_bits=12))[..., 0] - 255 * UNIT).max() <= 1


def test_a_transparent_grey_level_of_16_bits_shows_the_background(tmp_path):
    written(tmp_path, saved(np.full((8, 8), 40000, np.uint16), ".png", transparency=40000), count=3)
    assert first(attar.load(tmp_path)).min() == 255
    assert first(attar.load(tmp_path, background="black")).max() == 0
    assert first(attar.load(tmp_path, background="none")).max() == 156
