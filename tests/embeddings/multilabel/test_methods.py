"""ProbMCL, KMCL and end-to-end training: small real runs, what is kept, awkward batches, bad input."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import average_precision_score

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.linear import Linear
from attar.embeddings.multilabel.endtoend import MultiLabel
from attar.embeddings.multilabel.kmcl import KMCL
from attar.embeddings.multilabel.probmcl import ProbMCL
from attar.embeddings.reading import Reading
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.embeddings.views import Views
from attar.images.data.pixels import InMemory
from promises import dying

QUIET = Engine(quiet=True, device="cpu")
TABLE = {"encoder": "mlp:width=32,depth=1,features=16", "batch": 16, "epochs": 2}


def planted(count=200, classes=4, seed=0):
    """A table whose labels are signs of sums of features."""
    draw = torch.Generator().manual_seed(seed)
    points, planes = torch.randn(count, 12, generator=draw), torch.randn(12, classes, generator=draw)
    return points, points @ planes > 2


@pytest.fixture(scope="module")
def table():
    points, labels = planted()
    parts = [Part(Features(points[rows]), labels[rows]) for rows in (slice(140), slice(140, None))]
    return Source("planted", tuple("abcd"), *parts, Standard.of(points[:140]))


@pytest.fixture(scope="module")
def mosaics():
    return Reading().load("mosaics")


def precision(made, source):
    """mAP on test samples, in per cent."""
    there = source.test.labels.any(dim=0)
    scores = made.outputs(source.test.samples.tensor.numpy())["logits"]
    return 100 * average_precision_score(source.test.labels[:, there], scores[:, there])


def losses(folder):
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def trained(source, method, out=None, seed=0):
    return attar.train(source, method, seed=seed, out=out, engine=QUIET)


CONVNET = {"encoder": "convnet:norm=batch,width=24,depth=3", "batch": 32, "lr": 5e-3}


def test_on_mosaics_labels_are_learned(mosaics):
    untrained = SimCLR(**{**CONVNET, "lr": 0.0}, epochs=1, linear=Linear(epochs=60))
    base = precision(trained(mosaics, untrained), mosaics)
    for method in (KMCL(**CONVNET, epochs=8), MultiLabel(**CONVNET, epochs=8, loss="asl")):
        assert precision(trained(mosaics, method), mosaics) > base + 8, method.name


@pytest.mark.skipif("ATTAR_DATA" not in os.environ, reason="emotions lies in ATTAR_DATA")
def test_on_emotions_mixtures_are_above_a_random_encoder():
    emotions = Reading().load(str(Path(os.environ["ATTAR_DATA"]) / "multilabel" / "emotions.parquet"))
    network = {"encoder": "mlp:width=256,depth=2,features=128", "batch": 64}
    untrained = SimCLR(**network, lr=0.0, epochs=1, linear=Linear(epochs=100))
    base = precision(trained(emotions, untrained), emotions)
    assert precision(trained(emotions, ProbMCL(**network, epochs=15)), emotions) > base + 2


@pytest.mark.parametrize(
    "method",
    [
        ProbMCL(**TABLE),
        ProbMCL(**TABLE, diagonal=True, similarity="correlation", likelihood="labels", mean_size=6, least_weight=0.1),
        ProbMCL(**TABLE, similarity="angle", likelihood="none", components=2, positives="jaccard"),
        ProbMCL(**TABLE, positives="dice", threshold=1.0, weights_average=0.9),
        KMCL(**TABLE),
        KMCL(**TABLE, diagonal=True, kernel="mks", jaccard="none", weights_average=0.9),
        KMCL(**TABLE, kernel="rbf", jaccard="inside_log", head_start="released", released=True, asl_over="sum"),
        KMCL(**TABLE, diagonal=True, kernel="rbf", linear=Linear(epochs=2)),
        MultiLabel(**TABLE),
        MultiLabel(**TABLE, loss="focal", linear=Linear(epochs=2, loss="bce")),
    ],
    ids=lambda method: method.name,
)
def test_they_run_and_are_kept(table, method, tmp_path):
    made = trained(table, method, tmp_path / "made")
    points = table.test.samples.tensor.numpy()
    said, again = made.outputs(points), attar.open_artefact(tmp_path / "made").outputs(points)
    names = {"probmcl": {"uncertainty", "variance", "spread", "total"}, "kmcl": {"variance"}, "multilabel": set()}
    assert set(said) == {"logits", *names[method.name]}
    assert said["logits"].shape == (60, 4)
    assert all(torch.equal(torch.from_numpy(said[name]), torch.from_numpy(again[name])) for name in said)
    assert all(torch.from_numpy(value).isfinite().all() for value in said.values())
    share = made.predict_proba(points)
    assert share.min() >= 0 and share.max() <= 1


def test_the_number_of_positives_is_told(table, tmp_path):
    trained(table, ProbMCL(**TABLE, likelihood="none"), tmp_path / "made")
    told = [line["positives"] for line in losses(tmp_path / "made") if "positives" in line]
    assert told and all(1 <= count <= 31 for count in told)


def test_no_collapse(table):
    """The variance of features and of mixtures' means stays away from zero, and of two samples one is likelier."""
    made = trained(table, ProbMCL(**{**TABLE, "epochs": 15}))
    points = table.test.samples.tensor.numpy()
    features = torch.from_numpy(made.transform(points))
    assert (features.std(dim=0) > 0.05).float().mean() > 0.5
    head = made.heads["mixture"]
    with torch.no_grad():
        mixtures = head(features)
    assert mixtures.means.std(dim=0).max() > 0.05
    assert torch.from_numpy(made.outputs(points)["variance"]).std() >= 0


@pytest.mark.parametrize("family", [ProbMCL, KMCL, MultiLabel])
def test_a_killed_run_ends_in_the_same_bytes(table, family, tmp_path):
    method, often = family(**TABLE, weights_average=0.9), replace(QUIET, checkpoint_seconds=0)
    whole = trained(table, method, tmp_path / "whole")
    with dying(method, 5):
        attar.train(table, method, out=tmp_path / "killed", engine=often)
    again = attar.train(table, method, out=tmp_path / "killed", engine=often)
    assert again.learned.keys() == whole.learned.keys()
    assert all(torch.equal(again.learned[name], value) for name, value in whole.learned.items())


@pytest.mark.parametrize("family", [ProbMCL, KMCL, MultiLabel])
def test_awkward_data(table, family):
    """A short last batch, samples without any label, and one class alone."""
    labels = table.train.labels.clone()
    labels[:40] = False
    odd = replace(table, train=replace(table.train.select(torch.arange(131)), labels=labels[:131]))
    one = replace(odd, classes=("a",), train=replace(odd.train, labels=odd.train.labels[:, :1]))
    bare = replace(odd, train=replace(odd.train, labels=torch.zeros_like(odd.train.labels)))
    for source in (odd, one, bare):
        made = trained(source, family(**TABLE, held_out=0.0))
        assert torch.from_numpy(made.transform(table.test.samples.tensor.numpy())).isfinite().all()


@pytest.mark.parametrize("family", [ProbMCL, KMCL, MultiLabel])
def test_a_label_each_will_do(table, family):
    points = table.train.samples.tensor
    labels = (points @ torch.randn(12, 3, generator=torch.Generator().manual_seed(1))).argmax(dim=1)
    part = Part(Features(points), labels)
    source = Source("one", tuple("abc"), part, part, Standard.of(points))
    made = trained(source, family(**{**TABLE, "epochs": 30}))
    hits = torch.from_numpy(made.outputs(points.numpy())["logits"]).argmax(dim=1) == labels
    assert hits.float().mean() > 0.6


def test_images_have_views_that_keep_their_labels(mosaics, table):
    runtime = Runtime(QUIET, 0)
    small = MultiLabel(view=Views(cutout=0.2)).resolve(mosaics, runtime).view
    assert (small.recipe, small.flip, small.cutout) == ("none", 0.0, 0.2)
    large = torch.zeros(len(mosaics.train), 1, 64, 64, dtype=torch.uint8)
    larger = replace(mosaics, train=replace(mosaics.train, samples=InMemory(large)))
    assert MultiLabel().resolve(larger, runtime).view.recipe == "kmcl"
    assert ProbMCL(view=Views(recipe="simclr")).resolve(mosaics, runtime).view.recipe == "simclr"
    assert KMCL().resolve(table, runtime).view.recipe == "table"
    assert MultiLabel().resolve(table, runtime).loss == "bce"


def refused(source, method):
    with pytest.raises(InputError) as problem:
        trained(source, method)
    return str(problem.value)


def test_what_cannot_be_is_refused(table):
    bare = replace(table, train=replace(table.train, labels=None))
    assert refused(bare, KMCL()) == "kmcl needs labels, but planted has none."
    message = "loss is cross-entropy, but a sample of planted has several labels."
    assert refused(table, MultiLabel(loss="cross-entropy")) == message
    one = replace(table, train=replace(table.train, labels=table.train.labels.long().argmax(dim=1)))
    assert refused(one, MultiLabel(loss="asl")) == "loss is asl, but a sample of planted has one label."
    message = "components is 3, but likelihood labels needs one for each of the 4 classes of planted."
    assert refused(table, ProbMCL(components=3, likelihood="labels")) == message
    message = "mean_size is 17, but the encoder has 16 features. Give 16 or fewer."
    assert refused(table, ProbMCL(**TABLE, mean_size=17)) == message
    with pytest.raises(InputError, match=r"kernel is mks, which has a variance for each feature. Give --diagonal."):
        KMCL(kernel="mks")
