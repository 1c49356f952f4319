"""The loop under all distillation: seeds, kills, resumption, cached teachers, limits that tie methods together."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

import attar
from attar.classifiers.alone import Alone
from attar.classifiers.attention import AttentionTransfer
from attar.classifiers.cc import CC
from attar.classifiers.crd import CRD
from attar.classifiers.dhkd import DHKD
from attar.classifiers.discovery import Discover
from attar.classifiers.dist import DIST
from attar.classifiers.dkd import DKD
from attar.classifiers.fitnets import FitNets
from attar.classifiers.kd import KD
from attar.classifiers.nd import ND
from attar.classifiers.nst import NST
from attar.classifiers.pair import Pair
from attar.classifiers.pkt import PKT
from attar.classifiers.reviewkd import ReviewKD
from attar.classifiers.rkd import RKD
from attar.classifiers.skd import SubclassKD
from attar.classifiers.sp import SP
from attar.classifiers.teacher import accuracy_on_classes, teacher_named
from attar.classifiers.vid import VID
from attar.classifiers.watched import Watched
from attar.cli import main
from attar.core.errors import InputError
from attar.core.registry import METHODS
from attar.core.runtime import Engine, Runtime
from attar.core.score import paired
from attar.images.networks.architecture import Architecture
from promises import EVERY_STEP, dying

QUIET = Engine(device="cpu", quiet=True)
TINY = {"student": "convnet:norm=batch,width=4", "epochs": 3, "batch": 50}
PARITY = (0, 1) * 5
CHEAP = {
    "alone": Alone(**TINY),
    "kd": KD(**TINY, views=2),
    "dkd": DKD(**TINY),
    "dist": DIST(**TINY),
    "fitnets": FitNets(**TINY, hint_share=0.5, teacher_weight=1.0),
    "attention": AttentionTransfer(**TINY, views=1),
    "rkd": RKD(**TINY),
    "sp": SP(**TINY),
    "pkt": PKT(**TINY),
    "vid": VID(**TINY),
    "cc": CC(**TINY, features=8),
    "nst": NST(**TINY),
    "crd": CRD(**TINY, negatives=20, features=8),
    "reviewkd": ReviewKD(**TINY),
    "skd": SubclassKD(**TINY, group=PARITY, optimizer="adam", images_in="easy-to-hard", head_share=0.4),
    "discover": Discover(**TINY, subclasses=2),
    "nd": ND(**TINY, base="reviewkd"),
    "dhkd": DHKD(**TINY),
}

ALTERED = {"smallest_crop": 0.3, "flips": "on", "turns": True, "mixup": 0.8, "cutmix": 1.0}
RECIPE = {"optimizer": "adamw", "lr": 2e-3, "schedule": "cosine", "lr_warm_up": 0.5, "smoothing": 0.1}


@pytest.fixture(scope="module")
def teacher(digits):
    architecture = Architecture(norm="batch", width=8)
    return architecture.build(digits.shape, 10, torch.Generator().manual_seed(3)).eval()


@pytest.fixture(scope="module")
def trained_teacher(digits):
    return teacher_named("convnet:norm=batch,width=32", digits, Runtime(QUIET))


@pytest.fixture(params=sorted(CHEAP))
def method(request):
    return CHEAP[request.param]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_every_method_is_here():
    assert set(CHEAP) == {
        name for name, entry in METHODS.items() if (entry.kind, entry.verb) == ("classifiers", "distill")
    }


@pytest.mark.parametrize("views", [0, 2])
def test_a_killed_run_of_mixed_crops_by_adamw_and_a_cosine_ends_in_the_same_bytes(views, few_digits, teacher, tmp_path):
    method = ND(**TINY, **ALTERED, **RECIPE, views=views)
    for name in ("whole", "again"):
        attar.distill(few_digits, method, teacher=teacher, out=tmp_path / name, engine=EVERY_STEP)
    with dying(method, 5):
        attar.distill(few_digits, method, teacher=teacher, out=tmp_path / "killed", engine=EVERY_STEP)
    attar.distill(few_digits, method, teacher=teacher, out=tmp_path / "killed", engine=EVERY_STEP)
    assert files(tmp_path / "killed") == files(tmp_path / "whole") == files(tmp_path / "again")


def test_a_finished_student_is_read_and_answers_as_before(method, few_digits, teacher, tmp_path, monkeypatch):
    first = attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=QUIET)
    monkeypatch.setattr(type(method), "step", lambda *a: pytest.fail("ran again"))
    again = attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=QUIET)
    opened = attar.open_artefact(tmp_path)
    images = few_digits.inputs(torch.arange(5))
    assert torch.equal(first.logits(images), again.logits(images))
    assert torch.equal(first.logits(images), opened.logits(images))
    assert opened.scores == first.scores
    assert opened.network.state_dict().keys() == opened.network.state_dict().keys()
    assert str(attar.evaluate(tmp_path, few_digits)).startswith("accuracy: ")


def test_the_student_has_no_more_parameters_than_alone(method, few_digits, teacher):
    if method.name == "discover":
        pytest.skip("it has a logit for every subclass")
    alone = attar.distill(few_digits, CHEAP["alone"], engine=QUIET)
    made = attar.distill(few_digits, method, teacher=teacher, engine=QUIET)
    assert made.origin.student == alone.origin.student


def test_a_weight_of_nothing_is_the_student_alone(few_digits, teacher):
    alone = attar.distill(few_digits, Alone(**TINY), engine=QUIET)
    for method in (
        KD(**TINY, label_weight=1.0, teacher_weight=0.0),
        DHKD(**TINY, teacher_weight=0.0),
        ND(**TINY, base="none", direction_weight=0.0, projector_dropout=0.0),
        SubclassKD(**TINY, teacher_weight=0.0),
    ):
        made = attar.distill(few_digits, method, teacher=teacher, engine=QUIET)
        for name, value in alone.network.state_dict().items():
            assert torch.allclose(made.network.state_dict()[name].double(), value.double(), atol=1e-6), method.name


def test_an_auxiliary_head_without_weight_leaves_the_student_bit_for_bit(few_digits, teacher):
    alone = attar.distill(few_digits, Alone(**TINY), engine=QUIET)
    made = attar.distill(few_digits, DHKD(**TINY, teacher_weight=0.0), teacher=teacher, engine=QUIET)
    half = attar.distill(few_digits, DHKD(**TINY, stop_at=0.0), teacher=teacher, engine=QUIET)
    for name, value in alone.network.state_dict().items():
        assert torch.equal(made.network.state_dict()[name], value)
        assert torch.equal(half.network.state_dict()[name], value)


def test_a_head_that_has_done_its_work_no_longer_changes(few_digits, teacher, runtime):
    method = DHKD(**TINY, stop_at=0.5).resolve(Pair(few_digits, teacher), runtime)
    state = method.build(Pair(few_digits, teacher), runtime)
    for _ in range(method.total_steps // 2 + 1):
        method.step(state, runtime)
    head = [parameter.clone() for parameter in state.parts.parameters()]
    method.step(state, runtime)
    assert all(torch.equal(one, two) for one, two in zip(head, state.parts.parameters(), strict=True))


def test_a_long_gradient_is_cut(few_digits, teacher, runtime):
    for clip in (1e-3, 1e6):
        method = KD(**TINY, clip_norm=clip).resolve(Pair(few_digits, teacher), runtime)
        state = method.build(Pair(few_digits, teacher), runtime)
        method.step(state, runtime)
        length = torch.stack([p.grad.norm() for p in state.learned() if p.grad is not None]).norm().item()
        assert length <= clip * 1.001
        assert clip > 1 or length > 0.99 * clip


def test_adam_is_torchs(few_digits, teacher, runtime):
    method = KD(**TINY, optimizer="adam", lr=1e-3, momentum=0.8).resolve(Pair(few_digits, teacher), runtime)
    state = method.build(Pair(few_digits, teacher), runtime)
    assert isinstance(state.optimizer, torch.optim.Adam)
    assert state.optimizer.param_groups[0]["betas"] == (0.8, 0.999)


def test_a_warm_up_from_zero_leaves_the_first_epoch_to_the_labels(few_digits, teacher, runtime):
    found = {}
    for start in (0, 1):
        method = DKD(**TINY, warm_up=1.0, warm_from=start).resolve(Pair(few_digits, teacher), runtime)
        state = method.build(Pair(few_digits, teacher), runtime)
        found[start] = float(method.step(state, runtime)["teacher"])
    assert found[0] == 0 < found[1]


def test_the_last_layer_may_learn_alone_at_first(few_digits, teacher, runtime):
    method = SubclassKD(**TINY, group=PARITY, head_share=0.4, even_start=True)
    method = method.resolve(Pair(few_digits, teacher), runtime)
    state = method.build(Pair(few_digits, teacher), runtime)
    first = copy.deepcopy(dict(state.student.named_parameters()))
    assert torch.allclose(first["classifier.bias"], torch.full((10,), -math.log(5)))
    for share in (0.4, 1.0):
        while state.done < share * method.total_steps:
            method.step(state, runtime)
        now = dict(state.student.named_parameters())
        changed = {name for name, value in now.items() if not torch.equal(value, first[name])}
        assert "classifier.weight" in changed
        assert (len(changed) == 2) == (share < 1)


def test_maps_before_the_last_activation_have_a_name(few_digits, teacher):
    network = Architecture(norm="batch", width=8).build((1, 8, 8), 10, torch.Generator().manual_seed(3)).eval()
    images, last = few_digits.inputs(torch.arange(4)), "blocks.1.2"
    after, before = (Watched(network, [prefix + last])(images).stages[0] for prefix in ("", "input:"))
    assert torch.equal(before.relu(), after)
    assert (before < 0).any()
    named = {"student_layers": ("blocks.0", last), "teacher_layers": ("input:blocks.0.2", f"input:{last}")}
    attar.distill(few_digits, ReviewKD(**TINY, **named), teacher=teacher, engine=QUIET)


def test_nd_without_a_direction_is_its_base(few_digits, teacher):
    kd = attar.distill(few_digits, KD(**TINY, label_weight=1.0, teacher_weight=1.0, warm_up=0.0), teacher=teacher)
    nd = attar.distill(few_digits, ND(**TINY, direction_weight=0.0, warm_up=0.0), teacher=teacher)
    for name, value in kd.network.state_dict().items():
        assert torch.allclose(nd.network.state_dict()[name].double(), value.double(), atol=1e-6)


def test_stored_answers_are_those_a_teacher_gives_anew(few_digits, teacher, monkeypatch):
    stored = attar.distill(few_digits, KD(**TINY, views=2), teacher=teacher, engine=QUIET)
    monkeypatch.setattr("attar.classifiers.teacher.AnswersOfViews.fits", property(lambda self: False))
    anew = attar.distill(few_digits, KD(**TINY, views=2), teacher=teacher, engine=QUIET)
    for name, value in stored.network.state_dict().items():
        assert torch.allclose(anew.network.state_dict()[name].double(), value.double(), atol=1e-5)


def test_so_are_those_to_mixed_crops(few_digits, teacher, runtime):
    said = []
    for views in (0, 2):
        method = KD(**TINY, **ALTERED, views=views).resolve(Pair(few_digits, teacher), runtime)
        state = method.build(Pair(few_digits, teacher), runtime)
        view, rows = method.drawn_view(1, few_digits, 0), torch.tensor([3, 80, 41])
        said.append(state.answers(view.seen(few_digits.inputs, rows, runtime.device), rows, 1).logits)
    torch.testing.assert_close(*said)
    other = dataclasses.replace(method, mixup=0.7)
    assert state.answers.key != type(state.answers)(state.watched, few_digits, other, runtime).key
    one, two = (type(state.answers)(state.answers.watched, few_digits, m, runtime).key for m in (method, other))
    assert one == state.answers.key != two


def test_labels_of_mixed_images_are_shares_of_classes(few_digits, teacher, runtime):
    method = Alone(**TINY, mixup=1.0, smoothing=0.2).resolve(Pair(few_digits), runtime)
    state = method.build(Pair(few_digits), runtime)
    first = copy.deepcopy(state.student).train()
    told = method.step(state, runtime)["labels"]
    rows = state.order[:50]
    mixing, targets = state.view.mixing, few_digits.targets
    logits = first(state.view.seen(few_digits.inputs, rows, runtime.device))
    terms = [
        nn.functional.cross_entropy(logits, labels, label_smoothing=0.2, reduction="none")
        for labels in (targets[rows], targets[mixing.partner[rows]])
    ]
    share = mixing.share[rows]
    assert torch.isclose(told, (share * terms[0] + (1 - share) * terms[1]).mean(), atol=1e-5)


def test_adamw_spares_biases_and_norms_and_the_step_size_rises_and_falls(few_digits, teacher, runtime):
    method = KD(**TINY, **RECIPE, weight_decay=0.05).resolve(Pair(few_digits, teacher), runtime)
    state = method.build(Pair(few_digits, teacher), runtime)
    assert isinstance(state.optimizer, torch.optim.AdamW)
    wide, flat = state.optimizer.param_groups
    assert (wide["weight_decay"], flat["weight_decay"]) == (0.05, 0)
    assert min(parameter.ndim for parameter in wide["params"]) > 1 == max(p.ndim for p in flat["params"])
    assert len(wide["params"]) + len(flat["params"]) == len(list(state.learned()))
    rates = []
    while state.done < method.total_steps:
        method.step(state, runtime)
        rates.append(wide["lr"])
    cosine = [(1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)]
    wanted = [2e-3 * rise * fall for rise, fall in zip((2 / 3, 1, 1), cosine, strict=True)]
    assert rates[:: method.batches] == pytest.approx(wanted)


@pytest.mark.parametrize(
    "kind, settings, sentence",
    [
        (DKD, {"mixup": 0.8}, "dkd needs one class for each image. Do not set mixup or cutmix."),
        (CRD, {"cutmix": 1.0}, "crd needs one class for each image. Do not set mixup or cutmix."),
        (SubclassKD, {"mixup": 0.8}, "skd needs one class for each image. Do not set mixup or cutmix."),
        (ND, {"mixup": 0.8, "base": "dkd"}, "nd needs one class for each image. Do not set mixup or cutmix."),
    ],
)
def test_a_method_that_needs_one_class_for_an_image_refuses_mixed_ones(kind, settings, sentence):
    with pytest.raises(InputError) as refusal:
        kind(**settings)
    assert str(refusal.value) == sentence


def test_a_torn_file_of_answers_is_made_again(few_digits, teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    first = attar.distill(few_digits, KD(**TINY, views=1), teacher=teacher, engine=QUIET)
    (found,) = tmp_path.rglob("view-0.safetensors")
    found.write_bytes(found.read_bytes()[:100])
    again = attar.distill(few_digits, KD(**TINY, views=1), teacher=teacher, engine=QUIET)
    assert torch.equal(first.network.classifier.weight, again.network.classifier.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_student_of_16_bits_is_trained_in_32(few_digits, teacher, dtype):
    """As the same student in float32 is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10)).to(dtype)
    method = KD(**{**TINY, "lr": 1e-4})
    made, other = (
        attar.distill(few_digits, method, teacher=teacher, student=one, engine=QUIET)
        for one in (student, copy.deepcopy(student).float())
    )
    pairs = zip(made.network.parameters(), other.network.parameters(), student.parameters(), strict=True)
    for parameter, same, before in pairs:
        assert torch.equal(parameter, same)
        assert parameter.dtype == torch.float32
        assert before.dtype == dtype
    assert not torch.equal(made.network[1].weight.to(dtype).float(), made.network[1].weight)


def test_modules_of_ones_own_are_left_as_they_were(few_digits, tmp_path):
    def network(width):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher, student = network(30), network(6)
    before = [parameter.clone() for parameter in (*teacher.parameters(), *student.parameters())]
    made = attar.distill(few_digits, KD(**TINY), teacher=teacher, student=student, out=tmp_path, engine=QUIET)
    for parameter, old in zip((*teacher.parameters(), *student.parameters()), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.requires_grad
    with pytest.raises(InputError, match=r"is a module of its maker's own\. Give build="):
        attar.open_artefact(tmp_path)
    read = type(made).load(tmp_path, build=lambda: network(6))
    images = few_digits.inputs(torch.arange(3))
    assert torch.equal(read.logits(images), made.logits(images))


def test_a_teacher_helps(few_digits, trained_teacher):
    """The claim, small: 120 digits, a student of 374 parameters, five seeds, the same schedule."""
    settings = {"student": "convnet:norm=batch,width=4", "epochs": 60}
    found = {}
    for method in (Alone(**settings), KD(**settings, views=4)):
        found[method.name] = [
            attar.distill(few_digits, method, teacher=trained_teacher, seed=seed, engine=QUIET).scores["student"]
            for seed in range(5)
        ]
    assert paired(found["kd"], found["alone"]).low > 0


def test_subclasses_are_scored_as_classes(few_digits, trained_teacher):
    method = SubclassKD(student="convnet:norm=batch,width=4", epochs=60, group=PARITY)
    made = attar.distill(few_digits, method, teacher=trained_teacher, engine=QUIET)
    assert made.logits(few_digits.inputs(torch.arange(2))).shape == (2, 2)
    assert made.scores["student"] > 75
    assert 0 < made.scores["teacher_bits"] < made.scores["teacher_bits_softened"] < math.log2(5)
    assert math.isclose(made.scores["label_bits"], math.log2(5), abs_tol=1e-6)
    assert accuracy_on_classes(made.network, few_digits, Runtime(QUIET)) < made.scores["student"]
    (told,) = attar.evaluate(made, few_digits).networks
    further = {name: measure.score.value for name, measure in told.further.items()}
    assert further["bits that subclasses add a sample"] > 0
    assert told.score.value == made.scores["student"]
    assert min(further[name] for name in ("F1 of the second class", "AUC of the second class", "macro F1")) > 75


def test_a_teacher_finds_subclasses_and_teaches_them(few_digits, digits, tmp_path):
    halves = [(split.pixels[torch.arange(len(split))], split.labels % 2) for split in (digits.train, digits.test)]
    parity = attar.load(tuple(halves))
    used = {}
    for beta in (0.0, 1.0):
        finder = Discover(student="convnet:norm=batch,width=8", epochs=20, contrast_weight=beta)
        teacher = attar.distill(parity, finder, out=tmp_path / str(beta), engine=QUIET)
        with torch.no_grad():
            said = teacher.network(parity.inputs(torch.arange(1000))).softmax(dim=1).mean(dim=0)
        used[beta] = float(torch.special.entr(said).sum().exp())
        assert teacher.scores["student"] > 85
    with torch.no_grad():
        cluster = teacher.network(parity.inputs(torch.arange(1000))).argmax(dim=1)
    hidden = digits.targets[:1000]
    counts = torch.zeros(10, 10).index_put_((cluster, hidden), torch.ones(1000), accumulate=True)
    assert counts.max(dim=1).values.sum() / 1000 > 1 / 5 + 0.1
    assert used[1.0] > used[0.0] + 1
    method = SubclassKD(student="convnet:norm=batch,width=4", epochs=3, known=False)
    made = attar.distill(parity, method, teacher=tmp_path / "1.0", engine=QUIET)
    assert made.group == (0,) * 5 + (1,) * 5
    assert made.logits(parity.inputs(torch.arange(2))).shape == (2, 2)
    assert attar.evaluate(made, parity).networks[0].score.value == made.scores["student"]


def test_from_the_command_line(capsys, tmp_path):
    words = ["distill", "dkd", "--student", "convnet:norm=batch,width=4", "--teacher", "convnet:norm=batch,width=8"]
    main([*words, "--data", "digits", "--epochs", "2", "--out", str(tmp_path / "run"), "--cuts", "0.5", "--quiet"])
    told = capsys.readouterr().out
    assert "student: 374 parameters" in told
    assert "kept: " in told
    main(["evaluate", str(tmp_path / "run")])
    assert "beside it, its teacher: " in capsys.readouterr().out


def test_cross_entropy_for_a_divergence_moves_a_student_alike(few_digits, teacher):
    made = [
        attar.distill(few_digits, SubclassKD(**TINY, group=PARITY, teacher_loss=name), teacher=teacher, engine=QUIET)
        for name in ("kl", "ce")
    ]
    for name, value in made[0].network.state_dict().items():
        assert torch.allclose(made[1].network.state_dict()[name].double(), value.double(), atol=1e-5)


class Wrong(nn.Module):
    def __init__(self, outputs, value=0.0):
        super().__init__()
        self.head, self.value = nn.Linear(64, outputs), value

    def forward(self, images):
        return self.head(images.flatten(1)) + self.value


class Seldom(Wrong):
    """Answers black images only."""

    def forward(self, images):
        return super().forward(images) + torch.where(images.abs().sum() > 0, float("nan"), 0.0)


@pytest.mark.parametrize(
    "method, teacher, words",
    [
        (KD(**TINY), Wrong(7), "the teacher gives 7 logits, but digits needs 10"),
        (KD(**TINY), Wrong(10, float("nan")), "the teacher's logits for a black image are not finite"),
        (KD(**TINY), "nowhere", "unknown network 'nowhere'"),
        (KD(**TINY), nn.Linear(7, 10), r"the teacher does not take images of 1×8×8 \(mat1 and mat2"),
        (KD(**TINY, views=1), Seldom(10), "the teacher's logits for training image 0 are not finite"),
        (DHKD(**TINY, label_weight=0.0, teacher_weight=0.0), None, "every term has weight 0"),
        (FitNets(**TINY), Wrong(10), "the student gives 2 stages and the teacher 0"),
        (FitNets(**TINY, stage=5), None, "stage is 5, but there are 2 stages"),
        (FitNets(**TINY, student_layers=("blocks.7",)), None, "unknown module 'blocks.7'; did you mean 'blocks."),
        (SubclassKD(**TINY, group=(0, 1)), None, "group gives 2 classes, but digits has 10 labels"),
        (SubclassKD(**TINY, group=(0, 2) * 5), None, "class 1 has no subclass"),
        (SubclassKD(**TINY, known=False), Wrong(7), "the teacher's 7 logits cannot be divided equally among 10"),
    ],
)
def test_what_does_not_fit_is_refused_and_loses_nothing(method, teacher, words, few_digits, tmp_path):
    with pytest.raises(InputError, match=words):
        attar.distill(few_digits, method, teacher=teacher or "convnet:norm=batch,width=8", out=tmp_path, engine=QUIET)
    assert not (tmp_path / "artefact.json").exists()


def test_an_unknown_student_is_refused_before_there_is_a_run():
    with pytest.raises(InputError, match="did you mean 'convnet'"):
        Alone(**{**TINY, "student": "convnt"})


def test_teachers_that_are_files_pickles_or_of_other_classes_are_refused(few_digits, shapes, tmp_path):
    (tmp_path / "teacher.pt").write_bytes(b"pickle")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "resnet"}', encoding="utf-8")
    unsafe = "holds no network that is safe to read"
    for name, words in (("teacher.pt", "is a file"), ("folder", unsafe), ("model", unsafe)):
        with pytest.raises(InputError, match=words):
            attar.distill(few_digits, CHEAP["kd"], teacher=tmp_path / name, engine=QUIET)
    attar.distill(shapes, dataclasses.replace(CHEAP["alone"], batch=20), out=tmp_path / "other", engine=QUIET)
    with pytest.raises(InputError, match=r"has 3 classes of \(3, 16, 16\) images, but digits has 10"):
        attar.distill(few_digits, CHEAP["kd"], teacher=tmp_path / "other", engine=QUIET)


class Convolutional(nn.Module):
    """A network that ends in a 1×1 convolution, and returns its logits in some form."""

    def __init__(self, form="plain", outputs=10):
        super().__init__()
        squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.Unflatten(1, (8, 1, 1)))
        self.body, self.gate, self.head = nn.Conv2d(1, 8, 3, padding=1), squeeze, nn.Conv2d(8, outputs, 1)
        self.form = form

    def forward(self, images):
        maps = self.body(images).relu()
        maps = self.head(maps * self.gate(maps).sigmoid())
        logits, form = maps.mean(dim=(2, 3)), self.form
        if form == "nan on images":
            logits = logits + torch.where(images.abs().sum() > 0, float("nan"), 0.0)
        if form == "raises":
            raise KeyError("pixel_values")
        forms = {"map": maps, "tuple": (logits, maps), "dict": {"logits": logits}, "data": Returned(logits)}
        forms |= {"scores": {"scores": logits}, "none": None, "one": logits[:1], "numbers": logits.argmax(dim=1)}
        forms |= {"features first": (maps.flatten(1), logits), "nan": logits * float("nan")}
        forms |= {"training": logits if not self.training else {"loss": logits.sum()}}
        return forms.get(form, logits)


@dataclasses.dataclass
class Returned:
    logits: torch.Tensor


@pytest.mark.parametrize("form", ["tuple", "dict", "data"])
def test_logits_are_found_in_what_a_network_returns(form, few_digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher, student = Convolutional(), Convolutional()
    made = []
    for how in ("plain", form):
        teacher.form = student.form = how
        made.append(attar.distill(few_digits, KD(**TINY), teacher=teacher, student=student, engine=QUIET))
    one, two = made
    assert one.scores == two.scores
    assert all(torch.equal(value, two.network.state_dict()[name]) for name, value in one.network.state_dict().items())
    images = few_digits.inputs(torch.arange(3))
    assert torch.equal(one.logits(images), two.logits(images))
    assert attar.evaluate(two, few_digits).networks[0].score.value == two.scores["student"]


@pytest.mark.parametrize("who", ["teacher", "student"])
@pytest.mark.parametrize(
    "form, words",
    [
        ("map", r"returns logits of shape \[2, 10, 8, 8\] in float32\. Give a module that returns one row of numbers"),
        ("numbers", r"returns logits of shape \[2\] in int64\. Give a module that returns one row of numbers for each"),
        ("scores", "returns a dict with scores, in which there are no logits. Give a module that returns them"),
        ("none", "returns None, in which there are no logits. Give a module that returns them"),
        ("one", "gives 1 rows of logits for two images"),
        ("features first", r"gives 640 logits, but digits needs 10\. A network that returns several tensors has to"),
        ("nan", "logits for a black image are not finite"),
        ("nan on images", "logits for training image 0 are not finite"),
        ("raises", r"does not take images of 1×8×8 \('pixel_values'\)\."),
    ],
)
def test_a_network_without_usable_logits_is_refused_before_the_first_step(form, words, who, few_digits, monkeypatch):
    monkeypatch.setattr(KD, "step", lambda *a: pytest.fail("it began"))
    networks = {"teacher": Convolutional(), "student": Convolutional()} | {who: Convolutional(form)}
    with pytest.raises(InputError, match=rf"the {who}('s)? {words}") as refusal:
        attar.distill(few_digits, KD(**TINY), **networks, engine=QUIET)
    assert "\n" not in str(refusal.value)


def test_a_student_that_cannot_learn_is_refused(few_digits):
    frozen = "no parameter of the student can be trained"
    training = "the student returns a dict with loss, in which there are no logits"
    cases = {frozen: Convolutional().requires_grad_(False), training: Convolutional("training")}
    for words, student in cases.items():
        with pytest.raises(InputError, match=words):
            attar.distill(few_digits, KD(**TINY), teacher=Convolutional(), student=student, engine=QUIET)
    half = Convolutional()
    half.body.requires_grad_(False)
    made = attar.distill(few_digits, KD(**TINY), teacher=Convolutional("training"), student=half, engine=QUIET)
    assert torch.equal(made.network.body.weight, half.body.weight)
    assert not torch.equal(made.network.head.weight, half.head.weight)


def test_trying_networks_changes_neither_their_modes_nor_the_generator(few_digits):
    teacher, student = Convolutional().eval(), Convolutional().train()
    student.gate.eval()
    modes = [module.training for module in (*teacher.modules(), *student.modules())]
    state = torch.get_rng_state()
    attar.distill(few_digits, KD(**TINY), teacher=teacher, student=student, engine=QUIET)
    assert modes == [module.training for module in (*teacher.modules(), *student.modules())]
    assert torch.equal(torch.get_rng_state(), state)


def test_methods_on_logits_alone_take_networks_without_a_last_linear_layer(few_digits):
    needs = {"rkd", "pkt", "cc", "crd", "reviewkd", "nd", "dhkd", "skd"}
    named = {"fitnets", "attention", "vid", "nst", "sp"}
    for name, method in CHEAP.items():
        kind = dataclasses.replace(method, epochs=1)
        outputs = 20 if name == "discover" else 10
        networks = {"teacher": Convolutional(), "student": Convolutional(outputs=outputs)}
        if name in needs | named:
            words = "no linear layer gives the student's logits" if name in needs else "compares maps"
            with pytest.raises(InputError, match=words):
                attar.distill(few_digits, kind, **networks, engine=QUIET)
        if name in needs - {"reviewkd", "skd"}:
            continue
        if name == "skd":
            kind = dataclasses.replace(kind, head_share=0.0)
        whose = ("student_layers", "teacher_layers") if name in {*named, "reviewkd"} else ()
        layers = dict.fromkeys(whose, ("body", "head"))
        if name == "reviewkd":
            kind = dataclasses.replace(kind, pooled=False)
        made = attar.distill(few_digits, dataclasses.replace(kind, **layers), **networks, engine=QUIET)
        assert 0 <= made.scores["student"] <= 100
        told = attar.evaluate(made, few_digits).networks[0]
        assert not any("NC1" in measure for measure in told.further)
