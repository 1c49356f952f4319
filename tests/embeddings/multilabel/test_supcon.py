"""SupCon as a method: one label or several, batches of classes, the classifier on top."""

from collections import Counter

import pytest
import torch
from sklearn.metrics import average_precision_score

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.heads import Projector
from attar.embeddings.linear import LINEAR, Linear
from attar.embeddings.losses import sup_con
from attar.embeddings.multilabel.supcon import SupCon
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.verbs import run
from promises import dying

OFTEN = Engine(device="cpu", compile="off", quiet=True, checkpoint_seconds=0)
SMALL = {"epochs": 2, "batch": 16, "projector": Projector(projected=16), "linear": Linear(epochs=2)}
IMAGES = {**SMALL, "encoder": "convnet:norm=batch,width=8"}
TABLE = {**SMALL, "encoder": "mlp:width=32,depth=1,features=16"}


@pytest.fixture(scope="module")
def images(shapes):
    return Source.of_images(shapes)


@pytest.fixture(scope="module")
def table():
    """Rows of numbers, each the sum of the directions of its labels; one row in ten has none."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.rand(300, 5, generator=draw) < 0.35
    rows = labels.float() @ torch.randn(5, 12, generator=draw) + 0.3 * torch.randn(300, 12, generator=draw)
    train, test = (Part(Features(rows[part]), labels[part]) for part in (slice(0, 200), slice(200, 300)))
    return Source("sums", tuple("abcde"), train, test, Standard.of(rows[:200]))


def begun(method, source, seed=0):
    runtime = Runtime(OFTEN, seed)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


@pytest.mark.parametrize("how", [{}, {"weighted": True}, {"positives": "overlap", "threshold": 0.7, "inside": True}])
def test_a_step_minimises_the_loss_of_projections(how, table, images):
    usual = {"positives": "jaccard", "threshold": 0.0 if "weighted" in how else 0.5}
    for source, settings in ((table, TABLE), (images, IMAGES)):
        method, state, runtime = begun(SupCon(**settings, **how), source)
        batch = method.drawn(state, runtime)
        both = torch.cat([state.heads["projector"](view) for view in method.encoded(batch, state)])
        labels = source.train.labels[batch.rows].repeat(*(2 if axis == 0 else 1 for axis in range(batch.labels.ndim)))
        wanted = sup_con(both, labels, 0.1, samples=batch.rows.repeat(2), **{**usual, **how})
        torch.testing.assert_close(method.terms(batch, state)["contrast"], wanted)


def test_batches_of_classes(images, table):
    method, state, runtime = begun(SupCon(classes_per_batch=3, samples_per_class=4, **IMAGES), images)
    assert method.batch == 12 and method.steps_per_epoch == 5
    for _ in range(method.encoder_steps):
        rows = method.rows_at(state, runtime)
        assert list(Counter(images.train.labels[rows].tolist()).values()) == [4, 4, 4]
        state.done += 1
    method, state, runtime = begun(SupCon(classes_per_batch=2, held_out=0.2, **TABLE), table)
    rows = method.rows_at(state, runtime)
    assert len(rows) == len(rows.unique()) == 16 and set(rows.tolist()) <= set(state.learn.tolist())


def test_features_and_classifier_serve_the_labels(table):
    settings = {**TABLE, "epochs": 20, "linear": Linear(epochs=60, batch=50)}
    trained = run("train", table, SupCon(**settings), engine=OFTEN)
    share = trained.predict_proba(table.test.samples.tensor.numpy())
    assert share.shape == (100, 5)
    precision = average_precision_score(table.test.labels.numpy(), share)
    assert precision > 0.9, precision
    assert LINEAR in trained.heads and trained.transform(table.test.samples.tensor.numpy()).shape == (100, 16)


@pytest.mark.parametrize("classes", [0, 2])
def test_killed_and_resumed_it_ends_in_the_same_bytes(classes, table, tmp_path):
    method = SupCon(classes_per_batch=classes, **TABLE)
    whole = run("train", table, method, out=tmp_path / "whole", engine=OFTEN)
    with dying(method, 5):
        run("train", table, method, out=tmp_path / "again", engine=OFTEN)
    again = run("train", table, method, out=tmp_path / "again", engine=OFTEN)
    for name, tensor in whole.learned.items():
        assert torch.equal(tensor, again.learned[name]), name


def test_views_and_classifier_fit_the_data(images, table):
    runtime = Runtime(OFTEN)
    assert SupCon().resolve(images, runtime).linear.loss == "cross-entropy"
    assert SupCon().resolve(images, runtime).view.recipe == "simclr"
    several = SupCon().resolve(table, runtime)
    assert (several.linear.loss, several.linear.epochs, several.view.recipe) == ("asl", 100, "table")


def test_published_settings():
    cell = SupCon.paper("cifar10")
    assert (cell.batch, cell.lr, cell.contrast_temperature, cell.epochs) == (1024, 0.5, 0.1, 1000)


def test_what_the_data_lack_is_said_in_a_line(images, table):
    bare = Source("bare", (), Part(table.train.samples), Part(table.test.samples), table.transform)
    runtime = Runtime(OFTEN)
    with pytest.raises(InputError, match=r"^supcon needs labels, but bare has none\.$"):
        SupCon().resolve(bare, runtime)
    with pytest.raises(InputError, match=r"^classes_per_batch is 4, but the labels are of 3 classes\.$"):
        SupCon(classes_per_batch=4).resolve(images, runtime)
