import pytest
import torch

from attar.classifiers.calibration.ca import CorrectnessAware, at_top
from attar.classifiers.calibration.calibration import correct
from attar.classifiers.calibration.losses import balance, ca_loss, top_label
from attar.classifiers.calibration.network import answered
from attar.classifiers.calibration.ts import temperature_by
from attar.core.errors import InputError
from attar.core.presets import table_of
from calibration_cases import case, cases

NAME = "correctness_aware_calibration"
VIEWS = ("rotation", "grey", "jitter")
RELEASED = CorrectnessAware.paper("imagenet-val", variant="released")
LAYERS = {"embed_layer.0": 0, "temperature_layer": 1}


def parameters(given, home):
    """The code's names of weights and biases."""
    pairs = [(layer, part, f"{home}.{name}.{part}") for name, layer in LAYERS.items() for part in ("weight", "bias")]
    return {f"{part}{layer}": given[key] for layer, part, key in pairs}


@pytest.mark.parametrize("which", cases(NAME, "out.features"))
def test_golden(which):
    given = case(NAME, which)
    logits, labels = given["in.logits"], given["in.labels"]
    views = [given[f"in.logits_{name}"] for name in VIEWS]
    features = at_top(logits, views, 4)
    assert torch.allclose(features, given["out.features"], atol=1e-12)
    learned = {name: value.clone().requires_grad_() for name, value in parameters(given, "param").items()}
    temperature = RELEASED.positive(answered(learned, features))
    assert torch.allclose(temperature, given["out.temperature"].flatten(), atol=1e-12)
    scaled = RELEASED.calibrated(learned, logits, views)
    assert torch.allclose(scaled.softmax(dim=1).amax(dim=1), given["out.confidence"], atol=1e-10)
    plain = ca_loss(logits / temperature[:, None], labels)
    assert torch.isclose(plain, given["ref.loss_unbalanced"], atol=1e-10)
    plain.backward(retain_graph=True)
    for name, value in parameters(given, "ref.grad_unbalanced").items():
        assert torch.allclose(learned[name].grad, value, atol=1e-10), name
        learned[name].grad = None
    loss = ca_loss(logits / temperature[:, None], labels, balanced=True)
    if not given["out.losses"].isfinite().all() or which == "all_right":
        assert torch.isclose(loss, given["ref.loss_unbalanced"], atol=1e-10)
        return
    assert torch.isclose(loss, given["out.losses"][0], atol=1e-10)
    loss.backward()
    for name, value in parameters(given, "out.grad").items():
        assert torch.allclose(learned[name].grad, value, atol=1e-10), name


@pytest.mark.parametrize("which", [which for which in cases(NAME, "out.features") if which != "all_right"])
def test_ten_steps_of_the_released_code_are_ours(which):
    from attar.classifiers.calibration.network import descended

    given = case(NAME, which)
    logits, labels = given["in.logits"], given["in.labels"]
    features = at_top(logits, [given[f"in.logits_{name}"] for name in VIEWS], 4)

    def loss(learned, rows):
        temperature = RELEASED.positive(answered(learned, features[rows]))
        return ca_loss(logits[rows] / temperature[:, None], labels[rows], balanced=True)

    found = descended(
        parameters(given, "param"),
        loss,
        len(logits),
        lr=RELEASED.lr,
        epochs=RELEASED.epochs,
        batch=RELEASED.batch,
        held_out=RELEASED.held_out,
        generator=torch.Generator(),
    )
    for name, value in parameters(given, "out.param_after_10").items():
        assert torch.allclose(found[name], value, atol=1e-9), name


def separated(rows=600, noise=0.1, seed=0):
    """Logits of which a third is wrong, and a view whose probabilities tell which."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (rows,), generator=draw)
    wrong = torch.rand(rows, generator=draw) < 1 / 3
    shown = torch.where(wrong, (labels + 1) % 4, labels)
    logits = 4.0 * torch.nn.functional.one_hot(shown, 4).double()
    logits += 0.1 * torch.randn(rows, 4, generator=draw)
    weaker = torch.where(wrong, 0.2, 1.0)[:, None] + noise * torch.randn(rows, 1, generator=draw)
    return logits, labels, [weaker * logits], wrong


@pytest.mark.parametrize("seed", range(5))
def test_wrong_samples_get_higher_temperatures(seed):
    logits, labels, views, wrong = separated(seed=seed)
    method = CorrectnessAware()
    learned = method.fit(logits, labels, views, generator=torch.Generator().manual_seed(seed))
    temperature = method.temperature(learned, logits, views)
    assert temperature[wrong].mean() > temperature[~wrong].mean()
    higher = (temperature[wrong][:, None] > temperature[~wrong]).double().mean()
    assert higher > 0.9
    assert temperature.min() >= 0.1 and temperature.max() <= 10


@pytest.mark.parametrize("loss", ["ca", "ca-balanced"])
def test_without_cues_it_is_one_temperature_with_that_loss(loss):
    draw = torch.Generator().manual_seed(0)
    true = 1.5 * torch.randn(500, 4, dtype=torch.float64, generator=draw)
    labels = torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)
    logits = 3 * true
    method = CorrectnessAware(
        cues="none", held_out=0.0, epochs=500, lr=0.05, balanced_loss=loss == "ca-balanced", hidden=(3,)
    )
    assert not method.looks_at_views
    learned = method.fit(logits, labels, generator=torch.Generator().manual_seed(0))
    temperature = method.temperature(learned, logits)
    assert temperature.std() < 1e-12
    assert float(temperature[0]) == pytest.approx(temperature_by(loss, logits, labels), abs=1e-3)


def test_constant_views_are_no_cues_either():
    draw = torch.Generator().manual_seed(0)
    true = 1.5 * torch.randn(300, 4, dtype=torch.float64, generator=draw)
    labels = torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)
    logits, even = 3 * true, torch.zeros(300, 4, dtype=torch.float64)
    learned = CorrectnessAware(held_out=0.0, epochs=500, lr=0.05).fit(logits, labels, [even], generator=draw)
    temperature = CorrectnessAware().temperature(learned, logits, [even])
    assert float(temperature[0]) == pytest.approx(temperature_by("ca", logits, labels), abs=1e-3)


def test_the_balanced_minimiser_on_a_discrete_cue_is_known():
    """The weights move p = P(right | u) to (1 - a) p / ((1 - a) p + a (1 - p)), a the accuracy."""
    rates, rows = torch.tensor([0.9, 0.6]).double(), 100
    right = torch.cat([(torch.arange(rows) < round(float(rate) * rows)).double() for rate in rates])
    weights, accuracy = balance(right), right.mean()
    for part, p in zip(range(2), rates, strict=True):
        mine = slice(part * rows, (part + 1) * rows)
        best = (weights[mine] * right[mine]).sum() / weights[mine].sum()
        assert torch.isclose(best, (1 - accuracy) * p / ((1 - accuracy) * p + accuracy * (1 - p)), atol=1e-12)
    # And the network reaches it: two kinds of samples, told apart by a view.
    labels = torch.where(right > 0, 0, 1)
    logits = torch.tensor([3.0, 0, 0, 0, 0, 0]).double().expand(2 * rows, 6).contiguous()
    cue = (
        torch.cat([torch.zeros(rows), torch.ones(rows)]).double()[:, None] * torch.tensor([2.0, 0, 0, 0, 0, 0]).double()
    )
    method = CorrectnessAware(balanced_loss=True, held_out=0.0, epochs=600, lr=0.05)
    learned = method.fit(logits, labels, [cue], generator=torch.Generator().manual_seed(0))
    confidence = method.applied(learned, logits, [cue]).exp().amax(dim=1)
    expected = (1 - accuracy) * rates / ((1 - accuracy) * rates + accuracy * (1 - rates))
    assert torch.allclose(confidence[[0, -1]], expected, atol=5e-3)


def test_copies_that_are_the_images_are_a_calibrator_of_the_top_probabilities():
    logits, labels, _, _ = separated()
    one, two = CorrectnessAware(cues="softmax"), CorrectnessAware()
    draws = [torch.Generator().manual_seed(0) for _ in range(2)]
    first, second = one.fit(logits, labels, generator=draws[0]), two.fit(logits, labels, [logits], generator=draws[1])
    assert torch.allclose(one.applied(first, logits), two.applied(second, logits, [logits]), atol=1e-12)


@pytest.mark.parametrize(
    "settings", [{"loss": "ce"}, {"loss": "mse"}, {"cues": "logits"}, {"hidden": ()}, {"batch": 100}]
)
def test_every_form_lowers_its_loss(settings):
    logits, labels, views, _ = separated()
    method = CorrectnessAware(**{"epochs": 60, **settings})
    learned = method.fit(logits, labels, views, generator=torch.Generator().manual_seed(0))
    after = method.losses(method.applied(learned, logits, views), labels).mean()
    assert after < method.losses(logits, labels).mean()


def test_no_seed_starts_dead_and_the_released_form_mostly_does():
    logits, labels, views, _ = separated()
    ours, theirs = (
        CorrectnessAware(epochs=1, held_out=0.0),
        CorrectnessAware(epochs=1, held_out=0.0, temperature_map="clamped"),
    )
    dead = 0
    for seed in range(40):
        found = [
            method.temperature(
                method.fit(logits, labels, views, generator=torch.Generator().manual_seed(seed)), logits, views
            )
            for method in (ours, theirs)
        ]
        assert torch.allclose(found[0], torch.ones(()).double(), atol=0.1)
        dead += int((found[1] == 0.1).double().mean() > 0.99)
    assert dead > 8


def test_two_classes_keep_half_of_the_confidence_and_fewer_classes_than_top_do():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]] * 10)
    labels = torch.tensor([1, 1, 0] * 10)
    method = CorrectnessAware(epochs=50)
    learned = method.fit(logits, labels, [logits], generator=torch.Generator())
    assert learned["weight0"].shape == (5, 2)
    assert method.applied(learned, logits, [logits]).exp().amax(dim=1).min() >= 0.5


def test_a_loss_of_ones_own_is_a_subclass():
    class Absolute(CorrectnessAware):
        def losses(self, scaled, labels):
            return (scaled.softmax(dim=1).amax(dim=1) - correct(scaled, labels)).abs()

    logits, labels, views, _ = separated(200)
    learned = Absolute(epochs=20).fit(logits, labels, views, generator=torch.Generator().manual_seed(0))
    before, after = (Absolute().losses(z, labels).mean() for z in (logits, Absolute().applied(learned, logits, views)))
    assert after < before
    assert torch.equal(top_label(logits, labels) >= 0, torch.ones(200, dtype=torch.bool))


def test_the_published_settings_say_where_they_are_from():
    assert RELEASED.balanced_loss and RELEASED.temperature_map == "clamped" and RELEASED.batch == 1000
    assert not CorrectnessAware.paper().balanced_loss
    assert [cell.name for cell in table_of(CorrectnessAware, "released").cells] == ["imagenet-val"]


def test_a_range_that_falls_is_refused():
    with pytest.raises(InputError, match="temperature_range is 2 to 1; it must rise, from above 0"):
        CorrectnessAware(temperature_range=(2.0, 1.0))
