import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import permutation
from attar.images.labels.formats import NEVER, bytes_per_row, decode, encode
from attar.images.labels.stored import LABELS, SoftLabels, shard_name
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.score import train_and_test
from attar.images.trained import Auxiliary, trained
from attar.images.training import TrainNetwork
from attar.images.views.crops import resized_crop
from attar.images.views.epochs import draw_views, own_share
from attar.verbs import evaluate
from promises import EVERY_STEP, counted, dying

SMALL = Architecture(width=8, norm="batch")
BRIEF = Protocol(name="brief", epochs=10, batch=64, lr=0.1, augmented=False)
ENGINE = Engine(device="cpu", compile="off", quiet=True)
FORMATS = ("float32", "float16", "int8", "int4", "top-k", "hard")


@pytest.fixture(scope="module")
def saved(digits, tmp_path_factory):
    """A function that saves a copy of one set that carries its teacher."""
    settings = {
        "ipc": 2,
        "candidates": 20,
        "labels": "teacher",
        "observer": Auxiliary(architecture=SMALL, protocol=BRIEF),
    }
    small = attar.condense(digits, attar.RDED(**settings), engine=ENGINE)
    return lambda: small.save(tmp_path_factory.mktemp("set"))


def labelled(saved, **settings):
    return attar.label(saved(), attar.StoreLabels(**{"epochs": 3, **settings}), engine=ENGINE)


@pytest.fixture
def logits(generator):
    """Of a thousand classes, one of which stands out."""
    found = 2 * torch.randn(40, 1000, generator=generator)
    found[torch.arange(40), torch.randint(1000, (40,), generator=generator)] += 12
    return found


def divergence(logits, stored, temperature):
    """KL(softmax(logits / τ) ‖ softmax(stored / τ)), a row's mean."""
    wanted, found = (torch.log_softmax(z.double() / temperature, dim=1) for z in (logits, stored))
    return float(F.kl_div(found, wanted, reduction="batchmean", log_target=True))


# Formats.


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("classes", [10, 11, 1000])
def test_a_row_takes_the_bytes_of_its_formula(kind, classes, generator):
    rows = torch.randn(7, classes, generator=generator)
    parts = encode(rows, kind, top=5)
    assert sum(part.nbytes for part in parts.values()) == 7 * bytes_per_row(kind, classes, 5)
    wanted = {
        "float32": 4 * classes,
        "float16": 2 * classes,
        "int8": classes + 4,
        "int4": -(-classes // 2) + 4,
        "top-k": 20,
        "hard": 2,
    }
    assert bytes_per_row(kind, classes, 5) == wanted[kind]


def test_the_sizes_of_the_field_come_out():
    """300 epochs of 50 images of each of 1,000 classes, in GiB."""
    rows = 300 * 50 * 1000
    sizes = {kind: round(rows * bytes_per_row(kind, 1000, 10) / 2**30, 2) for kind in FORMATS}
    assert sizes == {"float32": 55.88, "float16": 27.94, "int8": 14.03, "int4": 7.04, "top-k": 0.56, "hard": 0.03}


@pytest.mark.parametrize("kind, steps", [("int8", 255), ("int4", 15)])
@pytest.mark.parametrize("shift", [0.0, -700.0, 3000.0])
def test_whole_numbers_are_off_by_half_a_step_at_most(kind, steps, shift, logits):
    rows = logits + shift
    parts = encode(rows, kind)
    scale = parts["affine"][:, 1:].float()
    span = rows.amax(dim=1, keepdim=True) - rows.amin(dim=1, keepdim=True)
    back = decode(parts, kind, 1000)
    assert ((back - rows).abs() <= scale / 2 + 1e-6 * rows.abs().max()).all()
    assert (scale <= (span + rows.abs().max() * 2**-10) / steps * (1 + 2**-9)).all()


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_rows_of_one_value_and_odd_numbers_of_classes_survive(kind):
    flat = torch.full((2, 5), 1.5)
    torch.testing.assert_close(decode(encode(flat, kind), kind, 5), flat, rtol=0, atol=1e-6)
    ramp = torch.arange(15.0).view(1, 15)
    torch.testing.assert_close(decode(encode(ramp, kind), kind, 15), ramp, rtol=0, atol=0.6)


def test_float32_is_exact_and_float16_rounds(logits):
    assert torch.equal(decode(encode(logits, "float32"), "float32", 1000), logits)
    back = decode(encode(logits, "float16"), "float16", 1000)
    assert ((back - logits).abs() <= logits.abs() * 2**-11).all()


def test_the_divergences_are_those_that_were_measured_before(logits):
    bounds = {"float16": (1e-6, 1e-9), "int8": (1e-4, 2e-6), "int4": (2e-2, 5e-4)}
    for kind, (sharp, soft) in bounds.items():
        back = decode(encode(logits, kind), kind, 1000)
        assert 0 <= divergence(logits, back, 1.0) < sharp
        assert divergence(logits, back, 20.0) < soft


def test_the_largest_keep_their_places_whatever_their_number():
    rows = torch.zeros(2, 65_535)
    rows[0, 65_534], rows[0, 3], rows[1, 40_000], rows[1, 32_768] = 9.0, 5.0, 8.0, 7.0
    back = decode(encode(rows, "top-k", top=2), "top-k", 65_535)
    assert back.topk(2, dim=1).indices.tolist() == [[65_534, 3], [40_000, 32_768]]
    assert decode(encode(rows, "hard"), "hard", 65_535).argmax(dim=1).tolist() == [65_534, 40_000]


def test_the_tail_shares_nothing_or_what_is_left_or_the_least(logits):
    parts, true = encode(logits, "top-k", top=10), logits.softmax(dim=1)
    places = logits.topk(10, dim=1).indices
    kept = {tail: decode(parts, "top-k", 1000, tail=tail).softmax(dim=1) for tail in ("renorm", "uniform", "min")}
    renormed = true.gather(1, places) / true.gather(1, places).sum(dim=1, keepdim=True)
    torch.testing.assert_close(kept["renorm"].gather(1, places), renormed, rtol=2e-2, atol=1e-6)
    torch.testing.assert_close(kept["uniform"].gather(1, places), true.gather(1, places), rtol=2e-2, atol=1e-6)
    outside = torch.ones(40, 1000, dtype=torch.bool).scatter(1, places, False)
    assert float(kept["renorm"][outside].max()) == 0
    left = (1 - true.gather(1, places).sum(dim=1)) / 990
    torch.testing.assert_close(kept["uniform"][outside].view(40, 990).mean(dim=1), left, rtol=0.1, atol=1e-6)
    least = decode(parts, "top-k", 1000, tail="min")
    assert torch.equal(least.min(dim=1).values, least.gather(1, places).min(dim=1).values)


@pytest.mark.parametrize("tail", ["renorm", "uniform", "min"])
def test_all_of_them_kept_is_all_of_them(tail, generator):
    rows = torch.randn(6, 8, generator=generator)
    back = decode(encode(rows, "top-k", top=8), "top-k", 8, tail=tail)
    torch.testing.assert_close(back, rows.log_softmax(dim=1), rtol=2e-3, atol=1e-3)


def test_a_hard_label_is_sure_at_any_temperature(logits):
    back = decode(encode(logits, "hard"), "hard", 1000)
    assert torch.equal((back / 20).softmax(dim=1), F.one_hot(logits.argmax(dim=1), 1000).float())
    assert NEVER / 1000 < -100


def test_logits_that_diverged_are_refused():
    for value in (float("nan"), float("inf"), 1e6):
        with pytest.raises(InputError, match="not finite or too large for float16"):
            encode(torch.full((1, 3), value), "int8")


# Views.


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
def test_views_do_not_depend_on_batch_or_order(mix, shapes):
    views = draw_views(5, 2, 60, (16, 16), mix=mix)
    device = torch.device("cpu")
    rows = torch.arange(60)
    together = views.shown(shapes.inputs, rows, device)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    apart = torch.cat([views.shown(shapes.inputs, part, device) for part in order.split(7)])
    assert torch.equal(apart, together[order])
    again = draw_views(5, 2, 60, (16, 16), mix=mix).shown(shapes.inputs, rows, device)
    other = draw_views(5, 3, 60, (16, 16), mix=mix).shown(shapes.inputs, rows, device)
    assert torch.equal(again, together)
    assert not torch.equal(other, together)


def test_a_box_of_the_partners_own_view_is_pasted(shapes):
    views, rows = draw_views(0, 0, 60, (16, 16), mix="cutmix"), torch.arange(60)
    inputs = shapes.inputs(rows)
    cropped = resized_crop(inputs, views.boxes, flipped=views.flipped)
    wanted = cropped.clone()
    for row, (left, top, right, bottom) in enumerate(views.pasted.tolist()):
        wanted[row, :, top:bottom, left:right] = cropped[views.partner[row], :, top:bottom, left:right]
    assert torch.equal(views.shown(shapes.inputs, rows, torch.device("cpu")), wanted)
    areas = (views.pasted[:, 2] - views.pasted[:, 0]) * (views.pasted[:, 3] - views.pasted[:, 1])
    torch.testing.assert_close(own_share(views, (16, 16)), 1 - areas / 256)
    assert int(views.pasted.min()) >= 0 and int(views.pasted.max()) <= 16


def test_mixup_shares_are_beta():
    share = draw_views(0, 0, 20_000, (8, 8), mix="mixup").share
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(share.var()) == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.003)


def test_digits_are_never_mirrored():
    assert draw_views(0, 0, 5, (8, 8), flips=False).flipped is None


# Storing.


def test_stored_labels_are_the_teachers_answers_to_the_views(saved):
    small = labelled(saved, format="float16")
    for number in range(3):
        epoch = small.soft.epoch(number, small)
        seen = epoch.views.shown(small.inputs, torch.arange(20), torch.device("cpu"))
        with torch.no_grad():
            answers = small.teacher.network(seen)
        torch.testing.assert_close(epoch.answers(torch.arange(20)), answers, rtol=2e-3, atol=2e-3)
        rows = torch.tensor([7, 3])
        assert torch.equal(epoch.answers(rows), epoch.answers(torch.arange(20))[rows])


def test_epochs_begin_again_when_there_are_no_more(saved):
    small = labelled(saved)
    first, again = small.soft.epoch(1, small), small.soft.epoch(4, small)
    assert again.number == 1
    assert torch.equal(first.answers(torch.arange(20)), again.answers(torch.arange(20)))


@pytest.mark.parametrize("kind", FORMATS)
def test_bytes_are_those_of_the_files_and_counted(kind, saved):
    before = saved().bytes
    small = labelled(saved, format=kind, top=4)
    files = [path for path in (small.folder / LABELS).iterdir() if path.is_file()]
    assert small.soft.bytes == sum(path.stat().st_size for path in files)
    assert small.bytes == before + small.soft.bytes
    facts = json.loads((small.folder / LABELS / "labels.json").read_text(encoding="utf-8"))
    assert facts["bytes_per_label"] == bytes_per_row(kind, 10, 4)
    assert facts["label_bytes"] == 3 * 20 * facts["bytes_per_label"]
    assert f"`{LABELS}/` holds a teacher's logits for 3 views" in (small.folder / "README.md").read_text(
        encoding="utf-8"
    )


def test_the_same_seed_stores_the_same_bytes_and_another_others(saved):
    folders = [attar.label(saved(), attar.StoreLabels(epochs=2), seed=seed, engine=ENGINE).folder for seed in (0, 0, 1)]
    one, two, other = ((folder / LABELS / shard_name(1)).read_bytes() for folder in folders)
    assert one == two
    assert one != other


@pytest.mark.parametrize("at", [1, 3])
def test_killed_and_resumed_equals_uninterrupted(at, saved):
    method, sets = attar.StoreLabels(epochs=4), (saved(), saved())
    attar.label(sets[0], method, engine=EVERY_STEP)
    with dying(method, at):
        attar.label(sets[1], method, engine=EVERY_STEP)
    assert attar.open_artefact(sets[1].folder).soft is None
    with counted(method) as taken:
        attar.label(sets[1], method, engine=EVERY_STEP)
    assert len(taken) == 4 - at + 1  # the epoch in which it died, and those after
    for name in [*map(shard_name, range(4)), "labels.json"]:
        one, two = ((small.folder / LABELS / name).read_bytes() for small in sets)
        assert one == two, name


def test_a_run_with_other_settings_is_refused(saved):
    small = labelled(saved)
    with pytest.raises(InputError, match="epochs: 3 in the folder, 5 requested"):
        attar.label(small, attar.StoreLabels(epochs=5), engine=ENGINE)


def test_torn_foreign_and_missing_files_are_refused(saved):
    small, other = labelled(saved), labelled(saved, mix="none")
    shard = small.folder / LABELS / shard_name(1)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="damaged or truncated"):
        small.soft.epoch(1, small)
    shard.write_bytes((other.folder / LABELS / shard_name(1)).read_bytes())
    with pytest.raises(InputError, match=r"epoch-00001\.safetensors is not the file that labels\.json describes"):
        small.soft.epoch(1, small)
    shard.unlink()
    with pytest.raises(InputError, match=r"epoch-00001\.safetensors is missing"):
        attar.open_artefact(small.folder)


def test_altered_facts_and_labels_of_another_set_are_refused(saved, digits):
    small = labelled(saved)
    path = small.folder / LABELS / "labels.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    with pytest.raises(InputError, match=r"labels\.json was altered"):
        attar.open_artefact(small.folder)
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 1', '"seed": 0'), encoding="utf-8")
    attar.condense(digits, attar.Random(ipc=2), engine=ENGINE).save(small.folder)
    with pytest.raises(InputError, match="belong to another set"):
        attar.open_artefact(small.folder)


def test_labels_go_along_when_a_set_is_saved_elsewhere(saved, tmp_path):
    small = labelled(saved)
    copy = small.save(tmp_path / "copy")
    assert copy.soft.folder == tmp_path / "copy" / LABELS
    assert copy.soft == small.soft
    assert attar.open_artefact(tmp_path / "copy").bytes == copy.bytes


def test_a_set_that_is_not_on_disk_or_has_no_teacher_is_refused(saved, digits, tmp_path):
    with pytest.raises(InputError, match="stored in the folder of the set, which is not saved; save it first"):
        attar.label(dataclasses.replace(saved(), folder=None), engine=ENGINE)
    bare = attar.condense(digits, attar.Random(ipc=1), out=tmp_path, engine=ENGINE)
    with pytest.raises(InputError, match=r"the set has no teacher\. Give --teacher"):
        attar.label(bare, engine=ENGINE)
    with pytest.raises(InputError, match=r"top is 11; it must be at most 10, the number of classes\."):
        attar.label(saved(), attar.StoreLabels(format="top-k", top=11), engine=ENGINE)


def test_a_teacher_of_ones_own_or_one_trained_on_the_data_will_do(digits, shapes, runtime, tmp_path):
    network = trained(digits, SMALL.resolve(digits.shape), runtime, BRIEF)
    network.save(tmp_path)
    settings = {"epochs": 1, "format": "float32", "teacher": str(tmp_path)}
    bare = attar.condense(digits, attar.Random(ipc=1), out=tmp_path / "one", engine=ENGINE)
    own = attar.label(bare, attar.StoreLabels(**settings), engine=ENGINE)
    assert own.soft.are_of(network)
    bare = attar.condense(digits, attar.Random(ipc=1), out=tmp_path / "two", engine=ENGINE)
    found = attar.label(bare, attar.StoreLabels(epochs=1), data=digits, network=SMALL, engine=ENGINE)
    assert not found.soft.are_of(network)
    bare = attar.condense(shapes, attar.Random(ipc=1), out=tmp_path / "three", engine=ENGINE)
    with pytest.raises(InputError, match=r"the teacher was trained on 10 classes of .*, but the set has 3 of"):
        attar.label(bare, attar.StoreLabels(**settings), engine=ENGINE)


def test_a_classifier_of_transformers_may_answer(digits, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic", "num_labels": 10}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes)).save_pretrained(tmp_path / "net")
    bare = attar.condense(digits, attar.Random(ipc=1), out=tmp_path / "set", engine=ENGINE)
    teacher = f"transformers:{tmp_path / 'net'}"
    small = attar.label(bare, attar.StoreLabels(epochs=1, teacher=teacher), engine=ENGINE)
    assert small.teacher is None
    assert small.soft.epoch(0, small).answers(torch.arange(10)).shape == (10, 10)


def test_batch_statistics_may_answer(saved, digits, tmp_path):
    running, batch = (labelled(saved, format="float32", teacher_bn=kind, together=8) for kind in ("running", "batch"))
    rows = torch.arange(20)
    first, second = (small.soft.epoch(0, small).answers(rows) for small in (running, batch))
    assert not torch.allclose(first, second, atol=1e-2)
    parts = permutation(0, "together 0", 20).split(8)
    teacher = batch.teacher.network
    seen = batch.soft.epoch(0, batch).views.shown(batch.inputs, rows, torch.device("cpu"))
    wanted = torch.empty(20, 10)
    with torch.no_grad():
        for part in parts:
            wanted[part] = teacher.train()(seen[part])
    teacher.eval()
    torch.testing.assert_close(second, wanted, rtol=1e-4, atol=1e-4)


# Learning.


def test_a_student_that_is_the_teacher_has_nothing_to_learn(saved):
    small, runtime = labelled(saved, format="float32"), Runtime(ENGINE, 0)
    method = TrainNetwork(architecture=SMALL, protocol=dataclasses.replace(PROTOCOLS["sre2l"], batch=7)).resolve(small)
    state = method.build(small, runtime)
    state.network.load_state_dict(small.teacher.network.state_dict())
    state.network.eval()
    for group in state.optimizer.param_groups:
        group["lr"] = 0.0
    for _ in range(4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state.optimizer, "step", lambda: None)
            assert float(method.step(state, runtime)["loss"]) == pytest.approx(0, abs=1e-6)
    assert state.stored.number == 1


def test_labels_and_answers_may_be_learned_together(saved):
    small, runtime = labelled(saved), Runtime(ENGINE, 0)
    how = dataclasses.replace(PROTOCOLS["sre2l"], label_weight=0.5)
    method = TrainNetwork(architecture=SMALL, protocol=how).resolve(small)
    state = method.build(small, runtime)
    images, targets = method._from_stored(0, torch.arange(20), state, runtime)
    views = state.stored.views
    share, own = own_share(views, (8, 8)).unsqueeze(1), F.one_hot(small.labels, 10).float()
    torch.testing.assert_close(targets[:, 1], share * own + (1 - share) * own[views.partner])
    assert images.shape == (20, 1, 8, 8)
    assert np.isfinite(float(method.step(state, runtime)["loss"]))


def test_training_from_stored_labels_is_seeded_and_takes_any_batch(saved, digits):
    small = labelled(saved)
    for batch in (128, 6):
        how = dataclasses.replace(PROTOCOLS["sre2l"], epochs=4, batch=batch)
        runs = [train_and_test(small, digits, SMALL, how, 2, Runtime(ENGINE, 0)) for _ in range(2)]
        assert runs[0] == runs[1]


def test_beside_it_stand_hard_labels_and_random_images_with_the_same_teacher(saved, digits):
    small = labelled(saved)
    how = dataclasses.replace(PROTOCOLS["sre2l"], epochs=2)
    settings = {"networks": [SMALL], "repeats": 1, "protocol": how, "ceiling": "skip", "beside": "run"}
    beside = evaluate(small, digits, **settings, engine=ENGINE).networks[0].beside
    assert beside[0].bytes == small.bytes - small.soft.bytes
    assert [other.label for other in beside] == [
        "with new answers of its teacher",
        "with hard labels",
        "random, as many images, same teacher",
        "random, as many bytes, hard labels",
    ]
    alone = dataclasses.replace(small, teacher=None)
    labels = [other.label for other in evaluate(alone, digits, **settings, engine=ENGINE).networks[0].beside]
    assert labels[1] == "random, as many images"


def test_a_set_without_stored_labels_is_refused(saved, digits):
    with pytest.raises(InputError) as refusal:
        evaluate(saved(), digits, networks=[SMALL], protocol="sre2l", ceiling="skip", engine=ENGINE)
    assert str(refusal.value) == (
        "this protocol learns from stored labels, but the set has none; store some by `attar label`, or choose "
        "another --protocol."
    )


def test_soft_labels_of_many_views_teach_more_than_hard_ones(digits, runtime, tmp_path):
    """The direction that the whole way of labelling rests on, on real images."""
    small = attar.condense(digits, attar.Random(ipc=5), out=tmp_path, engine=ENGINE)
    teacher = Protocol(name="ceiling", epochs=30, batch=64, lr=0.1)
    network = Architecture(width=16, norm="batch")
    (tmp_path / "teacher").mkdir()
    trained(digits, network.resolve(digits.shape), runtime, teacher).save(tmp_path / "teacher")
    settings = {"epochs": 60, "smallest_crop": 0.5, "teacher": str(tmp_path / "teacher")}
    small = attar.label(small, attar.StoreLabels(**settings), engine=ENGINE)
    soft = dataclasses.replace(PROTOCOLS["sre2l"], epochs=60, batch=25, lr=5e-3)
    hard = dataclasses.replace(soft, target="label", mix="none")
    scores = [sum(train_and_test(small, digits, network, how, 2, Runtime(ENGINE, 0))) / 2 for how in (soft, hard)]
    assert scores[0] > scores[1]


def test_loaded_labels_are_those_saved(saved):
    small = labelled(saved)
    assert SoftLabels.load(small.folder / LABELS) == small.soft
