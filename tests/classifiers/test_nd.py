import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.classifiers.kd import KD
from attar.classifiers.nd import ND, ClassMeans, Projector, nd_loss
from attar.classifiers.pair import Batch, Pair
from attar.classifiers.teacher import teacher_named
from attar.classifiers.watched import Watched
from attar.core.errors import InputError
from attar.core.runtime import Runtime


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    directions = F.normalize(torch.randn(3, 5, generator=draw, dtype=torch.float64), dim=1)
    return student, teacher, torch.tensor([0, 1, 2, 0, 1, 2]), directions


def test_a_short_teacher_leaves_the_cosine(batch):
    student, teacher, labels, directions = batch
    student.requires_grad_()
    loss = nd_loss(student, 1e-6 * teacher, labels, directions)
    loss.backward()
    cosine = F.cosine_similarity(student, directions[labels]).detach()
    assert torch.isclose(loss, (1 - cosine).mean(), atol=1e-12)
    assert (student.grad * student.detach()).sum(dim=1).abs().max() < 1e-12


def test_a_long_teacher_pulls_along_the_class_with_constant_force(batch):
    student, teacher, labels, directions = batch
    teacher = 1e3 * teacher
    student.requires_grad_()
    nd_loss(student, teacher, labels, directions).backward()
    pull = -directions[labels] / (6 * teacher.norm(dim=1, keepdim=True))
    assert torch.allclose(student.grad, pull, atol=1e-15)
    moved = student.detach() - 0.1 * student.grad
    raised = ((moved - student.detach()) * directions[labels]).sum(dim=1)
    assert torch.allclose(raised, 0.1 / (6 * teacher.norm(dim=1)), atol=1e-15)


def test_its_range(batch):
    _, teacher, labels, directions = batch
    length = 2 * teacher.norm(dim=1, keepdim=True)
    assert nd_loss(length * directions[labels], teacher, labels, directions).abs() < 1e-12
    assert torch.isclose(nd_loss(-length * directions[labels], teacher, labels, directions), torch.tensor(2.0).double())


def test_it_is_the_loop_over_samples(batch):
    student, teacher, labels, directions = batch
    each = [
        1 - float(g @ directions[y]) / max(float(g.norm()), float(f.norm()))
        for g, f, y in zip(student, teacher, labels.tolist(), strict=True)
    ]
    assert torch.isclose(nd_loss(student, teacher, labels, directions), torch.tensor(sum(each) / 6).double())
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.isclose(
        nd_loss(student[order], teacher[order], labels[order], directions),
        nd_loss(student, teacher, labels, directions),
    )


def test_mixed_labels_mix_the_means(batch):
    student, teacher, labels, _ = batch
    means = torch.randn(3, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    certain = F.one_hot(labels, 3).double()
    plain = nd_loss(student, teacher, labels, F.normalize(means, dim=1))
    assert torch.isclose(nd_loss(student, teacher, certain, means), plain, atol=1e-12)
    halves = (certain + certain.roll(1, dims=0)) / 2
    mixed = F.normalize((means[labels] + means[labels.roll(1)]) / 2, dim=1)
    wanted = (1 - (student * mixed).sum(dim=1) / torch.maximum(student.norm(dim=1), teacher.norm(dim=1))).mean()
    assert torch.isclose(nd_loss(student, teacher, halves, means), wanted, atol=1e-12)


def test_features_turn_to_the_class_and_grow_to_the_teachers_length(few_digits, digits, engine):
    """The paper's two aims, small: by KD++ features lie closer to their class's mean than by KD, and are no shorter."""
    teacher = teacher_named("convnet:norm=batch,width=16", digits, Runtime(engine))
    images, labels = few_digits.inputs(torch.arange(120)), few_digits.targets
    with torch.no_grad():
        theirs = Watched(teacher.eval())(images).embedding
    means = ClassMeans.empty(10, theirs.shape[1])
    means.add(theirs, labels)
    settings = {"student": "convnet:norm=batch,width=16", "epochs": 15, "batch": 40}
    cosines, lengths = {}, {}
    for name, method in (("kd", KD(**settings)), ("nd", ND(**settings, direction_weight=4.0))):
        made = attar.distill(few_digits, method, teacher=teacher, engine=engine)
        with torch.no_grad():
            mine = Watched(made.network)(images).embedding
        cosines[name] = float(F.cosine_similarity(mine, means.directions()[labels]).mean())
        lengths[name] = float((mine.norm(dim=1) / theirs.norm(dim=1)).mean())
    assert cosines["nd"] > cosines["kd"] + 0.02
    assert lengths["nd"] > 0.9


def test_class_means_of_views_are_others(few_digits, digits, engine):
    teacher = teacher_named("convnet:norm=batch,width=16", digits, Runtime(engine))
    settings = {"student": "convnet:norm=batch,width=4", "epochs": 1, "batch": 40}
    units = []
    for means_of in ("images", "views"):
        runtime = Runtime(engine, 0)
        method = ND(**settings, means_of=means_of).resolve(Pair(few_digits, teacher), runtime)
        units.append(method.build(Pair(few_digits, teacher), runtime).memory.units)
    assert not torch.allclose(*units)
    assert (units[0] * units[1]).sum(dim=1).min() > 0.5


def test_class_means_are_mixed_as_images_are(few_digits, digits, engine, runtime):
    teacher = teacher_named("convnet:norm=batch,width=16", digits, Runtime(engine))
    pair = Pair(few_digits, teacher)
    method = ND(student="convnet:norm=batch,width=16", batch=40, mixup=0.8).resolve(pair, runtime)
    state = method.build(pair, runtime)
    with torch.no_grad():
        theirs = Watched(teacher.eval())(few_digits.inputs(torch.arange(120))).embedding
    means = torch.stack([theirs[few_digits.targets == label].mean(dim=0) for label in range(10)])
    assert torch.allclose(state.memory.means, means, atol=1e-4)
    student = state.student.train()
    view, rows = method.drawn_view(0, few_digits, 0), torch.arange(0, 120, 3)
    images, shares = view.seen(few_digits.inputs, rows, runtime.device), view.labels(few_digits.targets, rows, 10)
    said, wanted = Watched(student)(images), state.answers(images, rows, 0)
    found = method.terms(Batch(said, wanted, shares, rows, warm=1.0), state)["direction"]
    assert torch.isclose(found, nd_loss(said.embedding, wanted.embedding, shares, means), atol=1e-5)
    assert method.step(state, runtime)["direction"].isfinite()


def test_deit_answers_by_both_heads_and_shows_its_distillation_token(shapes, engine):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.DeiTConfig(**sizes, image_size=16, patch_size=8, num_labels=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = transformers.DeiTForImageClassificationWithTeacher(config)
    said = Watched(student.eval())(shapes.inputs(torch.arange(4)))
    by_token = student.distillation_classifier(said.embedding)
    whole = student.deit(shapes.inputs(torch.arange(4))).last_hidden_state
    assert torch.allclose(said.embedding, whole[:, 1])
    assert torch.allclose(said.logits, (by_token + student.cls_classifier(whole[:, 0])) / 2, atol=1e-6)
    recipe = dataclasses.replace(ND.paper("regnety160-deit_b"), epochs=2, batch=20)
    made = attar.distill(shapes, recipe, teacher="convnet:norm=batch,width=8", student=student, engine=engine)
    before, after = (dict(network.named_parameters()) for network in (student, made.network))
    assert not torch.equal(before["distillation_classifier.weight"], after["distillation_classifier.weight"])
    assert not torch.equal(before["cls_classifier.weight"], after["cls_classifier.weight"])


def test_dead_features_are_no_division_by_zero(batch):
    _, _, labels, directions = batch
    dead = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
    nd_loss(dead, torch.zeros_like(dead), labels, directions).backward()
    assert dead.grad.isfinite().all()


def test_means_gathered_batch_by_batch_are_the_means():
    draw = torch.Generator().manual_seed(2)
    features, labels = torch.randn(40, 5, generator=draw), torch.arange(40) % 3
    gathered = ClassMeans.empty(3, 5)
    for rows in torch.arange(40).split(7):
        gathered.add(features[rows], labels[rows])
    wanted = torch.stack([features[labels == label].double().mean(dim=0) for label in range(3)])
    assert torch.allclose(gathered.means(), wanted, atol=1e-12)
    assert torch.allclose(gathered.directions().norm(dim=1), torch.ones(3), atol=1e-6)
    scaled = ClassMeans.empty(3, 5)
    scaled.add(9 * features, labels)
    assert torch.allclose(scaled.directions(), gathered.directions(), atol=1e-6)
    assert torch.allclose(gathered.directions(centred=True), F.normalize(wanted - wanted.mean(0), dim=1).float())


def test_a_class_without_samples_or_direction_is_refused():
    gathered = ClassMeans.empty(3, 2)
    gathered.add(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 2]))
    with pytest.raises(InputError, match=r"^no sample of class 1, so its mean feature cannot be computed\.$"):
        gathered.means()
    gathered.add(torch.ones(1, 2), torch.tensor([1]))
    with pytest.raises(InputError, match=r"^the mean feature of class 2 is zero, so it has no direction\.$"):
        gathered.directions()


def test_a_projector_changes_the_size():
    assert Projector(4, 9)(torch.randn(3, 4)).shape == (3, 9)


def test_means_come_back_for_the_same_teacher_and_preprocessing_alone(tmp_path):
    teacher, seen = nn.Linear(3, 2), {"short side": 800, "mean": [0.5]}
    features, labels = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3
    gathered, path = ClassMeans.empty(3, 2), tmp_path / "means.safetensors"
    gathered.add(features[:5], labels[:5])
    gathered.save(path, teacher, seen)
    again = ClassMeans.load(path, teacher, seen)
    for means in (gathered, again):
        means.add(features[5:], labels[5:])
    assert torch.equal(again.means(), gathered.means())
    words = r"means\.safetensors holds class means of another teacher or preprocessing\. Compute them again\.$"
    with pytest.raises(InputError, match=words):
        ClassMeans.load(path, teacher, {**seen, "short side": 640})
    with torch.no_grad():
        teacher.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match=words):
        ClassMeans.load(path, teacher, seen)


def test_what_has_no_class_is_left_out_and_what_has_a_wrong_one_refused():
    gathered = ClassMeans.empty(2, 2)
    gathered.add(torch.tensor([[1.0, 0.0], [9.0, 9.0], [0.0, 2.0]]).requires_grad_(), torch.tensor([0, -1, 1]))
    assert gathered.means().tolist() == [[1, 0], [0, 2]]
    with pytest.raises(InputError, match=r"^label 2 is not one of the 2 classes, numbered from 0\.$"):
        gathered.add(torch.ones(1, 2), torch.tensor([2]))
