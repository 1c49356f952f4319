import dataclasses
import itertools

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.condense.atom import CHANNEL, channel_attention
from attar.images.condense.datadam import attention_energy, pooled, spatial_attention
from attar.images.condense.distribution import class_counts
from attar.images.networks.architecture import Architecture
from matching_reference import ENGINE, begin, mmd_by_class

NARROW = Architecture(width=8)
BATCH_NORM = Architecture(width=8, norm="batch")
DEEP = Architecture(width=8, depth=3)


def atom(**settings):
    return attar.ATOM(**{"ipc": 2, "steps": 3, "real_batch": 6, "architecture": NARROW, **settings})


def condensed(method, source):
    return attar.condense(source, method, engine=ENGINE)


def attention_loss(method, first, second):
    """L_s and L_c of two batches of maps taken as one class."""
    views = [
        [view.mean(dim=0, keepdim=True) for view in method.views([maps, maps], maps.flatten(1))]
        for maps in (first, second)
    ]
    terms = dataclasses.replace(method, mmd_weight=0.01).terms(*views)
    return float(terms["sam"]), float(terms["cam"]), float(terms["mmd"])


@pytest.fixture
def maps(generator):
    """What a ReLU leaves: 5 images, 7 filters, 3×4 places."""
    return torch.randn(5, 7, 3, 4, generator=generator).relu()


# Channel attention.


@pytest.mark.parametrize("norm", ["l2", "l1", "squared-l2", "none"])
@pytest.mark.parametrize("pooling", ["sum", "max"])
@pytest.mark.parametrize("power", [1, 2, 4, 0.5])
def test_channel_attention_is_its_definition(power, pooling, norm, maps):
    attention = channel_attention(maps.double(), power=power, pooling=pooling, norm=norm)
    for image, found in zip(maps.double(), attention, strict=True):
        energy = [[abs(float(v)) ** power for v in filters.flatten()] for filters in image]
        z = torch.tensor([sum(e) if pooling == "sum" else max(e) for e in energy], dtype=torch.float64)
        lengths = {"l2": z.square().sum().sqrt(), "l1": z.abs().sum(), "squared-l2": z.square().sum(), "none": 1.0}
        torch.testing.assert_close(found, z / lengths[norm])


def test_each_view_forgets_the_order_of_what_it_pools(maps, generator):
    filters, places = torch.randperm(7, generator=generator), torch.randperm(12, generator=generator)
    shuffled = maps.flatten(2)[:, :, places].view_as(maps)
    torch.testing.assert_close(spatial_attention(maps[:, filters]), spatial_attention(maps))
    torch.testing.assert_close(channel_attention(shuffled), channel_attention(maps))
    torch.testing.assert_close(channel_attention(maps.flip(3)), channel_attention(maps))
    for attention in (spatial_attention, channel_attention):
        torch.testing.assert_close(attention(5 * maps), attention(maps))


def test_both_views_are_sums_of_the_same_energy(maps):
    spatial, channel = (view(maps, power=4, norm="none") for view in (spatial_attention, channel_attention))
    torch.testing.assert_close(spatial.sum(dim=1), channel.sum(dim=1))


def test_of_one_channel_it_is_one_and_of_one_place_it_is_the_energy(maps):
    torch.testing.assert_close(channel_attention(maps[:, :1] + 0.1), torch.ones(5, 1))
    point = maps[:, :, :1, :1] + 0.1
    torch.testing.assert_close(spatial_attention(point), torch.ones(5, 1))
    torch.testing.assert_close(channel_attention(point), torch.nn.functional.normalize(point.flatten(1) ** 4, dim=1))


def test_instance_norm_before_the_relu_leaves_channels_nothing_to_tell(generator):
    normalised = torch.nn.functional.group_norm(torch.randn(4, 8, 16, 16, generator=generator), 8, eps=1e-8)
    uniform = torch.full((4, 8), 8**-0.5)
    torch.testing.assert_close(channel_attention(normalised, power=2), uniform, rtol=1e-5, atol=1e-5)
    assert (channel_attention(normalised.relu(), power=2) - uniform).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype, maps):
    large = (100 * maps / maps.max()).to(dtype)
    for attention in (spatial_attention, channel_attention):
        assert attention(large).isfinite().all()
        torch.testing.assert_close(attention(large), attention(large.float()), rtol=1e-3, atol=3e-4)


# What each loss sees and the others do not.


def test_shuffled_places_are_seen_by_the_spatial_term_alone(maps, generator):
    shuffled = maps.flatten(2)[:, :, torch.randperm(12, generator=generator)].view_as(maps)
    spatial, channel, _ = attention_loss(atom(), maps, shuffled)
    assert channel == pytest.approx(0, abs=1e-10)
    assert spatial > 1e-3


def test_shuffled_filters_are_seen_by_the_channel_term_alone(maps, generator):
    spatial, channel, _ = attention_loss(atom(), maps, maps[:, torch.randperm(7, generator=generator)])
    assert spatial == pytest.approx(0, abs=1e-10)
    assert channel > 1e-3


def test_gain_is_seen_by_the_embedding_term_alone(maps):
    spatial, channel, mmd = attention_loss(atom(), maps, 3 * maps)
    assert (spatial, channel) == pytest.approx((0, 0), abs=1e-10)
    assert mmd > 1e-3


def test_a_term_lies_between_zero_and_two(generator):
    first, second = (torch.randn(3, 6, 5, 5, generator=generator).relu() for _ in range(2))
    spatial, channel, _ = attention_loss(atom(), first, second)
    assert 0 < spatial <= 2
    assert 0 < channel <= 2


# The whole loss.


@pytest.mark.parametrize("architecture", [NARROW, BATCH_NORM, DEEP])
def test_without_its_channel_term_it_is_datadam_to_the_bit(architecture, digits):
    settings = {"ipc": 2, "steps": 3, "real_batch": 6, "architecture": architecture}
    ours = condensed(attar.ATOM(channel_weight=0, **settings), digits)
    assert torch.equal(ours.images, condensed(attar.DataDAM(**settings), digits).images)


def test_without_both_attentions_it_is_dm_to_the_bit(digits):
    settings = {"ipc": 2, "steps": 3, "real_batch": 6, "architecture": NARROW}
    bare = attar.ATOM(channel_weight=0, attention_weight=0, mmd_weight=0.01, scale=100.0, **settings)
    assert torch.equal(condensed(bare, digits).images, condensed(attar.DM(**settings), digits).images)


def test_channel_attention_alone_is_a_mode_of_its_own(digits):
    first = begin(atom(attention_weight=0), digits).step()
    assert float(first["sam"]) == 0
    assert float(first["cam"]) > 0


@pytest.mark.parametrize("powers", [(4.0, 4.0), (2.0, 4.0), (4.0, 1.0)])
@pytest.mark.parametrize("architecture", [NARROW, DEEP])
def test_the_loss_is_its_definition_class_by_class(architecture, powers, digits):
    weights = {"attention_weight": 0.5, "channel_weight": 2.0, "mmd_weight": 0.03, "scale": 10.0}
    run = begin(atom(architecture=architecture, power=powers[0], channel_power=powers[1], **weights), digits)
    spatial = channel = 0.0
    for label in range(run.classes):
        (real, _, _), (synthetic, _, _) = run.features([label])
        for one, other in itertools.islice(zip(real, synthetic, strict=True), len(real) - 1):
            gaps = [
                attention(one, power=power).mean(dim=0) - attention(other, power=power).mean(dim=0)
                for attention, power in zip((spatial_attention, channel_attention), powers, strict=True)
            ]
            spatial, channel = spatial + float(gaps[0].square().sum()), channel + float(gaps[1].square().sum())
    mmd = mmd_by_class(run)
    found = {name: float(value) for name, value in run.step().items()}
    wanted = {"loss": 10 * (0.5 * spatial + 2 * channel + 0.03 * mmd), "sam": spatial, "cam": channel, "mmd": mmd}
    assert found == pytest.approx(wanted, rel=2e-4)


def test_equal_images_augmented_alike_lose_nothing(few_digits):
    run = begin(atom(ipc=12, real_batch=12), few_digits)
    with torch.no_grad():
        run.state.images.copy_(run.state.source.inputs(run.rows))
    before = run.state.images.detach().clone()
    terms = run.step()
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in terms.values())
    assert torch.allclose(run.state.images, before, atol=1e-5)


def test_the_terms_stay_within_the_bound(digits):
    terms = begin(atom(architecture=DEEP), digits).step()
    assert float(terms["sam"] + terms["cam"]) <= 4 * 10 * 2


def test_channels_differ_more_with_batch_norm_and_with_higher_powers(generator):
    runtime = Runtime(ENGINE, 0)
    noise = torch.randn(2, 64, 3, 32, 32, generator=generator)
    labels = torch.arange(10).repeat(7)[:64]

    def channel_term(norm, power):
        network = Architecture(width=32, norm=norm).build((3, 32, 32), 10, runtime.with_seed(0).generator("network"))
        with torch.no_grad():
            means = []
            for batch in noise:
                seen = channel_attention(network.features(batch)[0][0], power=power)
                sums = seen.new_zeros(10, seen.shape[1]).index_add(0, labels, seen)
                means.append(sums / class_counts(labels, 10).unsqueeze(1))
        return float((means[0] - means[1]).square().sum())

    terms = {(norm, power): channel_term(norm, power) for norm in ("instance", "batch") for power in (1, 2, 4)}
    for power in (1, 2, 4):
        assert terms["batch", power] > terms["instance", power]
    for norm in ("instance", "batch"):
        assert terms[norm, 4] > terms[norm, 2] > terms[norm, 1]


def test_one_energy_serves_both_views_of_equal_power(maps, monkeypatch):
    import attar.images.condense.atom as module

    calls = []
    monkeypatch.setattr(module, "attention_energy", lambda *a, **k: calls.append(k) or attention_energy(*a, **k))
    atom().views([maps, maps], maps.flatten(1))
    assert len(calls) == 1
    torch.testing.assert_close(atom().views([maps, maps], maps.flatten(1))[1], channel_attention(maps))
    assert pooled(attention_energy(maps), CHANNEL).shape == (5, 7)


# Presets.


def test_a_published_cell_is_datadams_settings_under_another_name():
    cell, datadams = attar.ATOM.paper("cifar10", ipc=10), attar.DataDAM.paper("cifar10", ipc=10)
    assert {k: v for k, v in cell.to_json().items() if "channel" not in k} == datadams.to_json()
    assert (cell.channel_power, cell.channel_weight, cell.zca) == (4.0, 1.0, True)
    assert attar.ATOM.paper("tiny-imagenet", ipc=10).zca is False
    assert attar.ATOM.paper("cifar100", ipc=50).lr == 1


def test_cells_the_paper_does_not_have_are_refused():
    with pytest.raises(InputError, match="ATOM has no cell of 'imagenet'"):
        attar.ATOM.paper("imagenet", ipc=1)
    with pytest.raises(InputError, match="have released no code; give --variant paper"):
        attar.ATOM.paper("cifar10", ipc=1, variant="released")
