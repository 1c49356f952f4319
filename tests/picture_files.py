"""Random pictures as arrays, as files and in parquet, and how their refusal reads."""

import io
import json

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import attar
from attar.core.errors import InputError


def refusal_of(data, **options):
    with pytest.raises(InputError) as refusal:
        attar.load(data, **options)
    return str(refusal.value)


def pictures(count, shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def png(array):
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "PNG")
    return sink.getvalue()


def all_pixels(split):
    return split.pixels[torch.arange(len(split))]


def write_parquet(path, images, labels, names=None, columns=("image", "label")):
    """A parquet file as `datasets` writes it."""
    cells = [{"bytes": image if isinstance(image, bytes) else png(image), "path": None} for image in images]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    table = pyarrow.table({columns[0]: pyarrow.array(cells, kind), columns[1]: pyarrow.array(labels)})
    if names:
        note = {"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def write_folder(root, **classes):
    for name, images in classes.items():
        (root / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{number:03d}.png")
    return root
