"""A classifier of rows, trained by the loop of all classifiers."""

import pytest
import torch

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.losses import Loss
from attar.images.networks.architecture import parse
from attar.tables.classifier import TableClassifier
from attar.tables.data.applicants import applicants
from attar.tables.data.load import sources_from
from attar.tables.encoder import as_images

SMALL = {"network": "mlp:width=16,depth=1", "epochs": 4, "batch": 100}


@pytest.fixture(scope="module")
def source():
    return applicants().subset(torch.arange(800))


def test_rows_are_images_of_one_pixel(source):
    images = as_images(source)
    assert images.classes == ("no", "yes") and images.shape[1:] == (1, 1)
    assert torch.equal(images.train.labels, source.train.labels)
    inputs = images.inputs(torch.arange(800))
    assert inputs.isfinite().all() and inputs.dtype == torch.float32
    other = as_images(sources_from("applicants"))
    assert other.fingerprint == as_images(applicants()).fingerprint != images.fingerprint


def test_it_learns_and_its_seed_decides(source, tmp_path):
    first = attar.train(source, TableClassifier(**{**SMALL, "epochs": 15}), out=tmp_path / "a")
    majority = 100 * max(float(source.test.labels.double().mean()), 1 - float(source.test.labels.double().mean()))
    assert first.scores["student"] > majority + 3
    again = attar.train(source, TableClassifier(**{**SMALL, "epochs": 15}), out=tmp_path / "b")
    one, other = (path.read_bytes() for path in sorted(tmp_path.glob("*/student.safetensors")))
    assert one == other and again.scores == first.scores


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_network_has_as_many_hidden_layers_as_asked_for(depth):
    network = parse(f"mlp:width=8,depth={depth}").build((5, 1, 1), 2, torch.Generator().manual_seed(0))
    assert [layer.out_features for layer in network.hidden] == [8] * depth
    assert network(torch.zeros(3, 5, 1, 1)).shape == (3, 2)
    two = [parse(text).build((5, 1, 1), 2, torch.Generator().manual_seed(0)) for text in ("mlp", "mlp:depth=2")]
    assert all(torch.equal(a, b) for a, b in zip(two[0].parameters(), two[1].parameters(), strict=True))


def test_batch_norm_comes_after_the_activation_and_changes_nothing_else():
    plain, normed = (
        parse(f"mlp:width=8,depth=3{norm}").build((5, 1, 1), 2, torch.Generator().manual_seed(0)).train()
        for norm in ("", ",norm=batch")
    )
    assert not any("norms" in name for name in plain.state_dict())
    assert all(torch.equal(value, normed.state_dict()[name]) for name, value in plain.state_dict().items())
    x = rows = torch.randn(20, 5, 1, 1, generator=torch.Generator().manual_seed(1))
    x = x.flatten(1)
    for layer in normed.hidden:
        x = layer(x).relu()
        x = (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-5).sqrt()
    assert torch.allclose(normed(rows), normed.classifier(x), atol=1e-5)
    with pytest.raises(InputError, match="norm is layer, but mlp has batch norm or none"):
        parse("mlp:norm=layer")


def test_losses_dropout_and_recipe_together(source):
    method = TableClassifier(
        **SMALL,
        loss=Loss(name="focal"),
        dropout=0.5,
        dropout_samples=4,
        keep="f1",
        optimizer="adamw",
        schedule="cosine",
    )
    made = attar.train(source, method)
    assert made.kind == "classifiers" and made.scores["epoch"] <= 4


def test_a_command_trains_it_and_another_measures_it_from_its_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--network", "mlp:width=8", "--epochs", "2", "--loss", "focal", "--data", "applicants", "--out", "run"]
    assert main(["train", "table-classifier", *words]) in (None, 0)
    assert main(["evaluate", "run"]) in (None, 0)
    assert "accuracy" in capsys.readouterr().out
    assert main(["train", "--settings", "run", "--out", "again"]) in (None, 0)
    one, other = ((tmp_path / name / "student.safetensors").read_bytes() for name in ("run", "again"))
    assert one == other


def test_other_data_than_tables_are_refused(source):
    with pytest.raises(InputError, match="is used with"):
        attar.distill(source, TableClassifier(**SMALL))
