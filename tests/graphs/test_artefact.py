import dataclasses
import json
import re

import numpy as np
import pytest
import torch

from attar.core import engine as core
from attar.core import store
from attar.core.cell import Cell, Measure
from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.runtime import Runtime
from attar.graphs.artefact import FILES, CondensedGraphs
from attar.graphs.coresets import GraphRandom
from attar.graphs.gstam import GSTAM
from attar.graphs.preview import layout
from graphs.helpers import ENGINE, NARROW


@pytest.fixture(scope="module")
def learned(few):
    runtime = Runtime(ENGINE)
    method = GSTAM(gpc=2, steps=3, lr_adjacency=2.0, architecture=NARROW).resolve(few, runtime)
    return core.run(method, few, runtime)


def test_it_is_the_same_after_a_trip_to_disk(learned, tmp_path):
    saved = learned.save(tmp_path)
    loaded = CondensedGraphs.load(tmp_path)
    for name in ("feat", "adjacency", "sizes", "labels", "logits"):
        assert torch.equal(getattr(loaded, name), getattr(learned, name)), name
    assert loaded.origin == saved.origin == learned.origin
    assert loaded.fingerprint == learned.fingerprint
    assert {name for name in FILES if (tmp_path / name).exists()} == set(FILES)
    assert store.read_json(tmp_path / "artefact.json")["kind"] == "graphs"


def test_bytes_are_those_of_the_file_that_training_needs(learned, tmp_path):
    saved = learned.save(tmp_path)
    assert saved.bytes == (tmp_path / "graphs.safetensors").stat().st_size
    graphs = learned.graphs
    assert graphs.bytes < saved.bytes < graphs.bytes + 700  # the header
    assert str(saved).startswith(f"4 graphs of {learned.feat.shape[1]} nodes, {saved.bytes:,} bytes (")


def test_edges_are_where_logits_are_above_zero(learned):
    off = ~torch.eye(learned.feat.shape[1], dtype=torch.bool)
    assert torch.equal(learned.adjacency, (learned.logits > 0) & off)
    assert torch.equal(learned.adjacency, learned.adjacency.mT)


def test_isolated_nodes_stay(learned, tmp_path):
    bare = dataclasses.replace(learned, adjacency=torch.zeros_like(learned.adjacency), logits=None)
    loaded = CondensedGraphs.load(bare.save(tmp_path).folder)
    assert torch.equal(loaded.feat, learned.feat)
    assert not loaded.adjacency.any()
    assert not (tmp_path / "logits.safetensors").exists()


def test_pytorch_geometric_gets_every_node_and_both_directions(learned):
    pytest.importorskip("torch_geometric", reason="pip install torch-geometric")
    bare = dataclasses.replace(learned, adjacency=torch.zeros_like(learned.adjacency))
    for small in (learned, bare):
        data = small.to_pyg()
        assert [one.num_nodes for one in data] == small.sizes.tolist()
        assert [int(one.y) for one in data] == small.labels.tolist()
        for one, adjacency, feat in zip(data, small.adjacency, small.feat, strict=True):
            assert torch.equal(one.x, feat)
            assert torch.equal(one.edge_index, torch.nonzero(adjacency).T)


def test_without_pytorch_geometric_the_extra_is_named(learned, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(InputError, match=re.escape(f"to_pyg needs torch_geometric: {install('graphs')}.")):
        learned.to_pyg()


def test_datasets_opens_the_export(learned, tmp_path):
    from datasets import load_dataset

    learned.save(tmp_path / "set")
    table = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.features["label"].names == ["house", "ring"]
    assert table[3]["num_nodes"] == learned.feat.shape[1]
    assert np.allclose(table[3]["node_feat"], learned.feat[3].numpy())
    assert table[3]["edge_index"] == torch.nonzero(learned.adjacency[3]).T.tolist()


def test_the_card_tells_how_it_was_made_and_what_it_scores(learned, tmp_path):
    saved = learned.save(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "path: data/train-00000-of-00001.parquet" in text
    assert "| power | 2.0 |" in text
    chosen = Measure.of([[70.0, 74.0]])
    saved.remember([Cell.of([[68.0, 70.0]], column="gcn", protocol="quick", further={"at the best epoch": chosen})])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"| **gcn** | quick | 69.0 ± 1.4 % | 2 | {saved.bytes:,} |  |" in text
    assert "| beside it, at the best epoch |  | 72.0 ± 2.8 % | 2 |  |  |" in text


@pytest.mark.parametrize("name", ["graphs.safetensors", "logits.safetensors", "artefact.json"])
def test_altered_and_truncated_files_are_refused(name, learned, tmp_path):
    learned.save(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        CondensedGraphs.load(tmp_path)
    flipped = bytearray(whole)
    flipped[-40] ^= 1
    path.write_bytes(bytes(flipped))
    with pytest.raises(InputError, match=r"damaged|altered"):
        CondensedGraphs.load(tmp_path)


def test_files_of_another_set_are_refused(learned, tmp_path):
    learned.save(tmp_path / "one")
    dataclasses.replace(learned, feat=learned.feat + 1).save(tmp_path / "two")
    (tmp_path / "one" / "graphs.safetensors").write_bytes((tmp_path / "two" / "graphs.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"is not the file that artefact\.json describes\."):
        CondensedGraphs.load(tmp_path / "one")


def test_other_kinds_newer_schemas_and_empty_folders_are_refused(learned, tmp_path):
    with pytest.raises(InputError, match="holds no condensed set"):
        CondensedGraphs.load(tmp_path)
    learned.save(tmp_path)
    facts = json.loads((tmp_path / "artefact.json").read_text(encoding="utf-8"))
    for change, wrong in (
        ({"kind": "mixture"}, "holds an artefact of kind 'mixture', not 'graphs'"),
        ({"schema": 2}, "Upgrade attar"),
    ):
        store.write_json(tmp_path / "artefact.json", facts | change)
        with pytest.raises(InputError, match=wrong):
            CondensedGraphs.load(tmp_path)


def test_the_preview_is_a_picture_and_the_same_each_time(learned, few):
    assert learned.picture() == learned.picture()
    assert learned.picture()[:4] == b"\x89PNG"
    runtime = Runtime(ENGINE)
    chosen = GraphRandom(gpc=12).resolve(few, runtime)
    assert len(core.run(chosen, few, runtime).picture()) > len(learned.picture())


def test_a_layout_puts_neighbours_near_and_all_in_the_unit_square():
    ring = np.array([[i, (i + 1) % 12] for i in range(12)]).T
    places = layout(12, np.concatenate([ring, ring[::-1]], axis=1))
    assert places.min() >= 0
    assert places.max() <= 1
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert gaps[ring[0], ring[1]].mean() < 0.6 * gaps[gaps > 0].mean()
    assert layout(1, np.zeros((2, 0), dtype=int)).tolist() == [[0.5, 0.5]]
