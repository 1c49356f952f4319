import json

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.core.errors import InputError
from attar.images import layout
from attar.images.condense.datadam import map_distance, spatial_attention
from attar.images.networks.architecture import Architecture
from matching_reference import ENGINE, begin, mmd_by_class

NARROW = Architecture(width=8)
BATCH_NORM = Architecture(width=8, norm="batch")
DEEP = Architecture(width=8, depth=3)


def datadam(**settings):
    return attar.DataDAM(**{"ipc": 2, "steps": 3, "real_batch": 6, "architecture": NARROW, **settings})


@pytest.fixture
def maps(generator):
    """What a ReLU leaves: 5 images, 7 filters, 3×4 places, float64."""
    return torch.randn(5, 7, 3, 4, dtype=torch.float64, generator=generator).relu()


# Attention maps.


def attention_as_loops(maps, power, pooling, norm):
    vectors = []
    for image in maps:
        energy = [[abs(float(image[i, h, w])) ** power for i in range(7)] for h in range(3) for w in range(4)]
        z = torch.tensor([sum(e) if pooling == "sum" else max(e) for e in energy], dtype=torch.float64)
        length = {
            "l2": z.square().sum().sqrt(),
            "l1": z.abs().sum(),
            "squared-l2": z.square().sum(),
            "none": torch.ones(()),
        }[norm]
        vectors.append(z / length)
    return torch.stack(vectors)


@pytest.mark.parametrize("norm", ["l2", "l1", "squared-l2", "none"])
@pytest.mark.parametrize("pooling", ["sum", "max"])
@pytest.mark.parametrize("power", [1, 2, 4, 0.5, 3.0])
def test_an_attention_map_is_its_definition(power, pooling, norm, maps):
    wanted = attention_as_loops(maps, power, pooling, norm)
    torch.testing.assert_close(spatial_attention(maps, power=power, pooling=pooling, norm=norm), wanted)


def test_it_is_a_unit_vector_without_negative_entries(maps):
    attention = spatial_attention(maps)
    torch.testing.assert_close(attention.norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert attention.min() >= 0


@pytest.mark.parametrize("power", [1.0, 4.0])
@pytest.mark.parametrize("factor", [1e-6, 0.3, 1e6])
def test_it_does_not_change_when_features_are_scaled(power, factor, maps):
    torch.testing.assert_close(spatial_attention(factor * maps, power=power), spatial_attention(maps, power=power))


def test_it_does_not_change_when_filters_are_permuted(maps, generator):
    order = torch.randperm(7, generator=generator)
    torch.testing.assert_close(spatial_attention(maps[:, order]), spatial_attention(maps))


def test_the_sign_of_an_activation_does_not_matter(maps):
    torch.testing.assert_close(spatial_attention(-maps), spatial_attention(maps))


def test_squared_it_is_the_squared_length_over_filters(maps):
    bare = spatial_attention(maps, power=2, norm="none")
    torch.testing.assert_close(bare, maps.norm(dim=1).square().flatten(1))


def test_to_the_first_power_it_is_the_sum_over_filters(maps):
    torch.testing.assert_close(spatial_attention(maps, power=1, norm="none"), maps.sum(dim=1).flatten(1))


def test_a_large_power_leaves_the_strongest_filter(maps):
    maps = maps + 0.1
    summed = spatial_attention(maps, power=16, norm="none") ** (1 / 16)
    strongest = maps.amax(dim=1).flatten(1)
    assert ((summed / strongest) - 1).max() < 7 ** (1 / 16) - 1 + 1e-9
    torch.testing.assert_close(
        spatial_attention(maps, power=16), spatial_attention(maps, power=16, pooling="max"), rtol=0, atol=0.05
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", ["l2", "l1", "squared-l2", "none"])
def test_a_dead_map_stays_zero_with_a_finite_gradient(norm, dtype):
    dead = torch.zeros(2, 3, 4, 4, dtype=dtype, requires_grad=True)
    attention = spatial_attention(dead, norm=norm)
    attention.sum().backward()
    assert attention.eq(0).all()
    assert dead.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [3e4, 1e-4])
def test_half_precision_neither_overflows_nor_vanishes(dtype, size, generator):
    exact = size * torch.rand(4, 16, 8, 8, generator=generator)
    attention = spatial_attention(exact.to(dtype))
    assert attention.isfinite().all()
    torch.testing.assert_close(attention.float(), spatial_attention(exact.to(dtype).float()), rtol=0.05, atol=0.002)


def test_its_gradient_is_that_of_finite_differences(generator):
    # The largest activation, by which a map is divided, is left out of the gradient: the division cancels.
    maps = (0.1 + torch.rand(2, 3, 2, 2, dtype=torch.float64, generator=generator)).requires_grad_()
    for norm in ("l2", "l1", "squared-l2", "none"):
        assert torch.autograd.gradcheck(lambda x, norm=norm: spatial_attention(x, power=4.0, norm=norm), maps)


def test_its_gradient_says_nothing_about_strength(generator):
    maps = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    weights = torch.randn(2, 16, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad((spatial_attention(maps) * weights).sum(), maps)
    assert (gradient * maps).sum().abs() < 1e-12


# Distances.


def test_each_distance_is_its_definition(generator):
    first, second = torch.rand(2, 3, 6, dtype=torch.float64, generator=generator)
    rows = list(zip(first, second, strict=True))
    squared = sum(sum(float(a - b) ** 2 for a, b in zip(x, y, strict=True)) for x, y in rows)
    absolute = sum(sum(abs(float(a - b)) for a, b in zip(x, y, strict=True)) for x, y in rows)
    angular = sum(1 - float(x @ y / (x.norm() * y.norm())) for x, y in rows)
    assert map_distance(first, second).item() == pytest.approx(squared)
    assert map_distance(first, second, "squared").item() == pytest.approx(squared)
    assert map_distance(first, second, "absolute").item() == pytest.approx(absolute)
    assert map_distance(first, second, "angular").item() == pytest.approx(angular)


@pytest.mark.parametrize("kind", ["squared", "absolute", "angular"])
def test_equal_maps_are_at_no_distance(kind, maps):
    attention = spatial_attention(maps)
    assert map_distance(attention, attention, kind).item() == pytest.approx(0, abs=1e-12)


def test_unit_maps_are_at_a_squared_distance_of_at_most_two(generator):
    for _ in range(20):
        first, second = (spatial_attention(torch.randn(9, 4, 3, 3, generator=generator).relu()) for _ in range(2))
        term = map_distance(first.mean(dim=0, keepdim=True), second.mean(dim=0, keepdim=True))
        assert 0 <= term <= 2
    apart = torch.eye(2)
    assert map_distance(apart[:1], apart[1:]) == 2


# The loss.


def sam_by_class(run):
    """Σ over classes and all blocks but the last, one class through the network at a time."""
    total, method = 0.0, run.method
    options = {"power": method.power, "pooling": method.map_pooling, "norm": method.map_norm}
    for label in range(run.classes):
        (real, _, _), (synthetic, _, _) = run.features([label])
        for first, second in zip(real[:-1], synthetic[:-1], strict=True):
            means = [spatial_attention(m, **options).mean(dim=0, keepdim=True) for m in (first, second)]
            total += float(map_distance(*means, method.distance))
    return total


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"power": 1.0},
        {"power": 1.0, "map_norm": "l1", "distance": "absolute"},
        {"power": 2.0, "map_pooling": "max", "map_norm": "none", "distance": "angular"},
        {"power": 2.0, "map_norm": "squared-l2"},
        {"attention_weight": 3.0, "mmd_weight": 0.5, "scale": 2.0},
    ],
)
def test_all_classes_at_once_give_the_loss_of_one_class_after_another(options, shapes):
    run = begin(datadam(architecture=DEEP, **options), shapes)
    sam, mmd = sam_by_class(run), mmd_by_class(run)
    loss = run.method.scale * (run.method.attention_weight * sam + run.method.mmd_weight * mmd)
    found = {name: value.item() for name, value in run.step().items()}
    assert found == pytest.approx({"loss": loss, "sam": sam, "mmd": mmd}, rel=1e-5)


def test_with_batch_norm_the_classes_share_their_statistics(shapes):
    run = begin(datadam(architecture=BATCH_NORM), shapes)
    apart = sam_by_class(run)
    assert abs(run.step()["sam"].item() - apart) > 0.01 * apart


def test_the_attention_term_is_at_most_two_a_class_and_block(shapes):
    run = begin(datadam(architecture=DEEP), shapes)
    assert all(0 < run.step()["sam"] <= 2 * 3 * 2 for _ in range(5))


@pytest.mark.parametrize("settings", [{"scale": 1.0, "mmd_weight": 1.0}, {"scale": 100.0, "mmd_weight": 0.01}])
def test_without_attention_it_is_dm(settings, few_digits, tmp_path):
    common = {"ipc": 2, "steps": 4, "real_batch": 8, "architecture": NARROW}
    both = {
        "dm": attar.condense(few_digits, attar.DM(**common), out=tmp_path / "dm", seed=3, engine=ENGINE),
        "datadam": attar.condense(
            few_digits,
            attar.DataDAM(**common, attention_weight=0.0, **settings),
            out=tmp_path / "datadam",
            seed=3,
            engine=ENGINE,
        ),
    }
    exact = {"rtol": 0, "atol": 0} if settings["scale"] == 1 else {}
    torch.testing.assert_close(both["datadam"].images, both["dm"].images, **exact)
    curves = [
        [
            json.loads(line)["loss"]
            for line in (tmp_path / name / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for name in both
    ]
    assert len(curves[0]) == 4
    assert curves[0] == (curves[1] if exact else pytest.approx(curves[1], rel=1e-5))


@pytest.mark.parametrize("architecture", [NARROW, BATCH_NORM])
def test_real_images_as_synthetic_ones_have_no_loss_and_no_gradient(architecture, shapes):
    run = begin(datadam(ipc=6, architecture=architecture), shapes)
    run.state.images.data.copy_(shapes.inputs(run.rows))
    assert {name: value.item() for name, value in run.step().items()} == {"loss": 0, "sam": 0, "mmd": 0}
    assert run.state.images.grad.abs().max() == 0


def test_attention_on_a_single_place_is_always_the_same(shapes):
    # 16×16 images are 1×1 in the fifth block: there is no "where" left.
    run = begin(datadam(), shapes)
    views = run.state.views

    def last_place_only(batch):
        maps, embedding = run.state.network.features(batch)
        whole = F.adaptive_avg_pool2d(maps[-1], 1) + 1e-3
        return [spatial_attention(whole), embedding]

    assert len(views(run.state.images[:1])) == 2
    run.state.views = run.state.real_views = last_place_only
    assert run.step()["sam"] == 0


@pytest.mark.parametrize("architecture", [NARROW, BATCH_NORM])
def test_showing_every_synthetic_image_twice_halves_each_gradient(architecture, shapes):
    once, twice = (begin(datadam(ipc=ipc, architecture=architecture), shapes) for ipc in (2, 4))
    doubled = once.state.images.detach().view(3, 2, 3, 16, 16).repeat(1, 2, 1, 1, 1).flatten(0, 1)
    twice.state.images.data.copy_(doubled)
    assert twice.step()["loss"].item() == pytest.approx(once.step()["loss"].item(), rel=1e-5)
    gradient = twice.state.images.grad.view(3, 2, 2, 3, 16, 16)
    scale = once.state.images.grad.abs().max().item()
    for copy in (gradient[:, 0], gradient[:, 1]):
        wanted = once.state.images.grad.view(3, 2, 3, 16, 16) / 2
        torch.testing.assert_close(copy, wanted, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("at_once", [1, 5])
def test_the_loss_and_its_gradient_do_not_depend_on_how_many_images_go_at_once(at_once, shapes, monkeypatch):
    whole = begin(datadam(ipc=3), shapes)
    monkeypatch.setattr(layout, "at_once", lambda *a: at_once)
    parts = begin(datadam(ipc=3), shapes)
    assert parts.step()["loss"].item() == pytest.approx(whole.step()["loss"].item(), rel=1e-5)
    torch.testing.assert_close(parts.state.images.grad, whole.state.images.grad, rtol=1e-3, atol=1e-4)


def test_both_terms_fall(few_digits):
    run = begin(datadam(ipc=1, real_batch=12, steps=40, start="noise"), few_digits)
    curve = [run.step() for _ in range(40)]
    for name, share in (("sam", 0.9), ("mmd", 0.8)):
        values = [float(metrics[name]) for metrics in curve]
        assert sum(values[-10:]) < share * sum(values[:10]), name


# Settings.


def test_lambda_is_larger_for_large_images(shapes, runtime, generator):
    assert attar.DataDAM().resolve(shapes, runtime).mmd_weight == 0.01
    large = attar.load((torch.randint(256, (10, 1, 72, 72), dtype=torch.uint8, generator=generator), [0, 1] * 5))
    assert attar.DataDAM(ipc=1).resolve(large, runtime).mmd_weight == 0.02
    assert attar.DataDAM(ipc=1, mmd_weight=0.5).resolve(large, runtime).mmd_weight == 0.5


@pytest.mark.parametrize(
    "data, ipc, lr, mmd_weight, zca",
    [
        ("cifar10", 50, 1.0, 0.01, True),
        ("cifar10", 100, 10.0, 0.01, True),
        ("tiny-imagenet", 10, 1.0, 0.01, False),
        ("imagenette", 1, 1.0, 0.02, False),
    ],
)
def test_the_papers_settings_are_those_of_its_table(data, ipc, lr, mmd_weight, zca):
    method = attar.DataDAM.paper(data, ipc=ipc)
    assert (method.ipc, method.steps, method.lr, method.real_batch) == (ipc, 8_000, lr, 128)
    assert (method.power, method.map_norm, method.distance, method.scale) == (4.0, "l2", "squared", 100.0)
    assert (method.attention_weight, method.mmd_weight, method.zca) == (1.0, mmd_weight, zca)
    assert (method.momentum, method.start) == (0.5, "real")
    assert method.architecture.norm == "instance"


@pytest.mark.parametrize("ipc, lr", [(10, 1.0), (50, 1.0), (100, 10.0)])
def test_the_released_settings_are_those_of_the_script(ipc, lr):
    method = attar.DataDAM.paper("cifar10", ipc=ipc, variant="released")
    assert (method.ipc, method.steps, method.lr, method.real_batch) == (ipc, 20_000, lr, 64)
    assert (method.power, method.scale, method.mmd_weight) == (1.0, 100.0, 0.01)
    assert (method.map_norm, method.distance, method.map_pooling) == ("l2", "squared", "sum")
    assert method.architecture == Architecture(norm="batch", width=128, depth=3)


def test_a_data_set_that_the_paper_lacks_is_refused():
    with pytest.raises(InputError) as refusal:
        attar.DataDAM.paper("mnist", ipc=1)
    assert str(refusal.value) == (
        "DataDAM has no cell of 'mnist'. "
        "Its cells are of cifar10, cifar100, tiny-imagenet, imagenet, imagenette, imagewoof, imagesquawk."
    )


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"power": 0.0}, "power is 0.0; it must be from 0.1 to 16."),
        ({"mmd_weight": -0.1}, "mmd_weight is -0.1; it must be at least 0."),
        ({"map_norm": "l3"}, "unknown map_norm 'l3'; did you mean 'l2'? Known: l1, l2, none, squared-l2."),
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings, sentence):
    with pytest.raises(InputError) as refusal:
        attar.DataDAM(**settings)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_power_one_without_the_largest_activation_is_the_same_attention(norm, spread, generator, monkeypatch):
    maps = (spread * torch.randn(3, 5, 7, 3, generator=generator)).relu().requires_grad_()
    pull = torch.randn(3, 21, generator=generator)
    found = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda now=compiling: now)
        views = spatial_attention(maps, power=1.0, norm=norm)
        found.append((views, torch.autograd.grad((views * pull).sum(), maps)[0] * spread))
    for plain, compiled in zip(*found, strict=True):
        assert torch.allclose(plain, compiled, rtol=1e-4, atol=1e-6)
