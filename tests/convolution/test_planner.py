from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from attar.convolution import planner
from attar.convolution.artefact import LayerChoice
from attar.convolution.planned import PlannedConv2d
from attar.convolution.planner import RIVALS, compare, plan
from attar.convolution.timing import Median, seconds_in_turns
from attar.core.errors import InputError


class Net(nn.Module):
    """Every kind of layer that stays dense, and two that a method may take."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding="same")
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.smooth = nn.Conv2d(8, 8, 3, padding=1)
        self.soft = nn.Conv2d(8, 8, 3, padding=1)
        self.unused = nn.Conv2d(8, 8, 3)
        self.last = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.classifier = nn.Linear(8, 4)

    def forward(self, x):
        x = self.first(x).relu()
        for layer in (self.second, self.pointwise, self.grouped, self.dilated, self.mirrored):
            x = layer(x).relu()
        x = self.smooth(nn.functional.silu(x) - 0.1)
        x = self.soft(x.sigmoid()).relu()
        return self.classifier(self.last(x).relu().mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval()


@pytest.fixture
def images(draw):
    return draw.normal(12, 3, 8, 8)


def script_times(monkeypatch, milliseconds):
    """Have the calls run, and take what is said here: a number, or one for each run."""

    def scripted(calls, runs):
        seconds_in_turns(calls, 1)
        taken = {name: milliseconds.get(name, 9.0) for name in calls}
        return {name: [t / 1e3] * runs if isinstance(t, float) else [v / 1e3 for v in t] for name, t in taken.items()}

    monkeypatch.setattr(planner, "seconds_in_turns", scripted)


FAST = {"dense, nchw": 2.0, "dense, channels-last": 1.0, "direct": 0.4, "dense": 1.0, "best": 0.5, "planned": 0.5}


def test_layers_that_stay_dense_say_why(net, images, monkeypatch):
    script_times(monkeypatch, FAST)
    _, made = plan(net, images, methods=("direct",))
    assert {layer.name: layer.reason for layer in made.layers if layer.method == "dense"} == {
        "first": "it is not fed by a ReLU: its input has negative values",
        "pointwise": "it is pointwise: there is nothing to lower",
        "grouped": "it has 2 groups",
        "dilated": "it is dilated",
        "mirrored": "it pads with reflect, not with zeros",
        "smooth": "it is not fed by a ReLU: its input has negative values",
        "soft": "its input has no zeros",
        "unused": "no image reaches it",
    }
    assert made.methods == {"second": "direct", "last": "direct"}


def test_the_planned_network_computes_the_same(net, images, monkeypatch):
    script_times(monkeypatch, FAST)
    planned, made = plan(net, images)
    with torch.inference_mode():
        torch.testing.assert_close(planned(images), net(images), rtol=1e-4, atol=1e-5)
    whole = made.whole
    assert whole.difference < 1e-5
    assert (whole.images, whole.agreeing) == (6, 6)
    with torch.inference_mode():
        assert whole.largest == pytest.approx(float(net(images[1::2]).abs().max()))


def test_a_layer_is_switched_where_the_whole_interval_is_above_the_margin(net, images, monkeypatch):
    noisy = [0.5 if run % 4 else 1.2 for run in range(31)]
    for best, chosen in ((0.5, "direct"), (0.94, "direct"), (0.96, "dense"), (1.5, "dense"), (noisy, "direct")):
        script_times(monkeypatch, FAST | {"best": best})
        _, made = plan(net, images, methods=("direct",))
        layer = next(layer for layer in made.layers if layer.name == "second")
        assert layer.method == chosen, best
    script_times(monkeypatch, FAST | {"best": [0.5 if run % 2 else 1.2 for run in range(31)]})
    layer = plan(net, images, methods=("direct",))[1].layers[1]
    assert (layer.method, layer.reason) == ("dense", "no method is faster")
    script_times(monkeypatch, FAST | {"best": 0.96})
    assert plan(net, images, methods=("direct",))[1].layers[1].reason == "direct may gain less than 5 %"


def test_what_does_not_make_the_whole_faster_is_withdrawn_the_smallest_gain_first(net, images, monkeypatch):
    tried = []

    def compared(network, planned, *given, **settings):
        tried.append(sorted(name for name, layer in planned.named_modules() if isinstance(layer, PlannedConv2d)))
        whole = compare(network, planned, *given, **settings)
        slow = Median(0.9, 0.8, 1.0, 31)
        return replace(whole, ratio=slow if len(tried) < sure else Median(1.2, 1.1, 1.3, 31))

    monkeypatch.setattr(planner, "compare", compared)
    monkeypatch.setattr(LayerChoice, "saved", property(lambda choice: {"second": 1.0, "last": 2.0}[choice.name]))
    for sure, left in ((1, ["last", "second"]), (2, ["last"]), (3, [])):
        script_times(monkeypatch, FAST)
        tried.clear()
        said = []
        planned, made = plan(net, images, methods=("direct",), say=said.append)
        assert tried == [["last", "second"], ["last"], []][:sure]
        assert sorted(made.methods) == left
        assert made.whole.ratio.value == 1.2
        assert sum(line.endswith("(direct is faster here, but the whole network is not)") for line in said) == sure - 1
        assert all(layer.ratio.value == 2.0 for layer in made.layers if layer.name in ("second", "last"))
        with torch.inference_mode():
            torch.testing.assert_close(made.apply(net)(images), planned(images), rtol=0, atol=0)


def test_a_gain_is_weighed_in_milliseconds():
    times = {"dense, nchw": Median(4.0, 4.0, 4.0, 31), "dense, channels-last": Median(3.0, 3.0, 3.0, 31)}
    choice = LayerChoice.dense("one", nn.Conv2d(3, 3, 3), (3, 8, 8), 0.1, "", times, ratio=Median(1.5, 1.4, 1.6, 31))
    assert choice.saved == pytest.approx(1.0)


def test_the_fastest_on_calibration_images_is_what_is_confirmed(net, images, monkeypatch):
    script_times(monkeypatch, FAST | {"mec": 0.3})
    layer = plan(net, images)[1].layers[1]
    assert (layer.method, layer.ratio.value) == ("mec", 2.0)
    assert set(layer.milliseconds) == {"dense, nchw", "dense, channels-last", *RIVALS}
    assert set(layer.bytes) == set(RIVALS)
    assert layer.reason == "2.00 times faster"


def test_a_method_with_another_output_is_never_chosen(net, images, monkeypatch):
    script_times(monkeypatch, FAST)
    real = planner.method_named("mec").run
    monkeypatch.setattr(planner.method_named("mec"), "run", lambda self, x: real(self, x) + 0.5)
    layer = plan(net, images, methods=("mec",))[1].layers[1]
    assert (layer.method, layer.reason) == ("dense", "no method gives its output")


class Twins(nn.Module):
    """Two layers of one shape that see the same."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.one(x.relu()) + self.other(x.relu())


class Pyramid(nn.Module):
    """One layer on maps of two sizes."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.shared(nn.functional.avg_pool2d(self.shared(x.relu()).relu(), 2))


def test_layers_alike_are_measured_once(images, monkeypatch):
    script_times(monkeypatch, FAST)
    _, made = plan(Twins(), images, methods=("direct",))
    assert [layer.method for layer in made.layers] == ["direct", "direct"]
    assert made.layers[1].reason == "2.00 times faster (measured on one)"
    assert made.layers[1].milliseconds == made.layers[0].milliseconds


def test_a_layer_on_maps_of_several_sizes_stays_dense(images, monkeypatch):
    script_times(monkeypatch, FAST)
    _, made = plan(Pyramid(), images, methods=("direct",))
    assert made.layers[0].reason == "it is called on maps of several sizes"


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda layer: nn.utils.parametrizations.weight_norm(layer), "it is a ParametrizedConv2d, not a plain Conv2d"),
        (lambda layer: layer.register_forward_hook(lambda *given: None) and layer, "it has hooks"),
    ],
)
def test_layers_that_are_more_than_they_seem_stay(make, reason, images, monkeypatch):
    script_times(monkeypatch, FAST)
    layer = make(nn.Conv2d(3, 3, 3, padding=1))
    _, made = plan(nn.Sequential(nn.ReLU(), layer), images, methods=("direct",))
    assert made.layers[0].reason == reason


def test_a_batch_of_several_images(net, images, monkeypatch):
    script_times(monkeypatch, FAST)
    planned, made = plan(net, images, held_out=images[:7], batch=3, methods=("direct", "cpo"))
    assert (made.whole.batch, made.whole.images) == (3, 7)
    with torch.inference_mode():
        torch.testing.assert_close(planned(images), net(images), rtol=1e-4, atol=1e-5)


def test_the_network_is_left_as_it_was(images, monkeypatch):
    script_times(monkeypatch, FAST)
    plain = Net().train()
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    plan(plain, images, methods=("direct",))
    assert plain.training and all(torch.equal(before[name], tensor) for name, tensor in plain.state_dict().items())
    assert type(plain.second) is nn.Conv2d and plain.second.weight.requires_grad
    assert not any(layer._forward_pre_hooks for layer in plain.modules())


class Viewed(nn.Module):
    """A network that flattens by `view`, with two convolutions that may be switched."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3)
        self.head = nn.Linear(8 * 16, 5)

    def forward(self, x):
        return self.head(self.two(self.one(x).relu()).relu().view(len(x), -1))


def test_a_network_that_views_its_maps_is_planned_too(images, monkeypatch):
    script_times(monkeypatch, FAST)
    network = Viewed().eval()
    planned, made = plan(network, images)
    assert made.methods == {"two": "direct"}
    assert (made.layout, made.whole.layout) == ("nchw", "nchw")
    with torch.inference_mode():
        torch.testing.assert_close(planned(images), network(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.apply(network)(images), network(images), rtol=1e-4, atol=1e-5)


@dataclass
class Output:
    logits: torch.Tensor
    features: tuple
    note: str = "text"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, y.mean()),
        lambda y: {"logits": y, "more": [y[:, :1], None, 3]},
        lambda y: [{"a": (y,)}, y.argmax(dim=1)],
        lambda y: Output(y, (y * 2,)),
        lambda y: (y, y[:, :0]),
    ],
    ids=["tuple", "mapping", "nested", "dataclass", "empty"],
)
def test_outputs_of_any_structure_are_compared_leaf_by_leaf(wrap, net, images, monkeypatch):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, x):
            return wrap(self.inner(x))

    script_times(monkeypatch, FAST)
    _, made = plan(Wrapped().eval(), images)
    assert made.whole.agreeing == made.whole.images == 6
    assert made.whole.difference < 1e-4 * made.whole.largest


def test_a_leaf_that_differs_is_told_wherever_it_stands(images):
    class Shifted(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.layer, self.shift = nn.Conv2d(3, 2, 3), shift

        def forward(self, x):
            return x[:, :1].mean(dim=(2, 3)), {"second": x.sum(dim=(1, 2, 3)) * 0 + self.shift}

    assert compare(Shifted(1.0), Shifted(4.0), images, runs=30).difference == 3


def test_an_output_without_a_tensor_is_refused(images):
    class Silent(nn.Module):
        def forward(self, x):
            return "nothing"

    with pytest.raises(InputError, match=r"the network returns str without a tensor\. There is nothing to compare\."):
        compare(Silent(), Silent(), images, runs=30)


def test_really_timed(images):
    """A wide layer on sparse maps, timed for true: whatever is chosen computes the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wide = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 96, 3), nn.ReLU(), nn.Flatten())
    wide[0].bias.data.fill_(-1.2)
    said = []
    planned, made = plan(wide, images, say=said.append)
    layer = made.layers[1]
    assert layer.density < 0.2
    assert all(median.low <= median.value <= median.high for median in layer.milliseconds.values())
    assert made.whole.difference <= 1e-4
    assert said[-1].startswith("2: 32→96, 3×3, density 0.")
    with torch.inference_mode():
        torch.testing.assert_close(planned(images), wide(images), rtol=1e-4, atol=1e-5)


def test_a_slow_backend_is_said_once(net, images, monkeypatch):
    script_times(monkeypatch, FAST)
    monkeypatch.setattr("attar.convolution.compiled.numba_loops", lambda: None)
    said = []
    plan(net, images, methods=("cpo", "cps"), say=said.append)
    assert sum(line.startswith("numba is not installed") for line in said) == 1


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"runs": 29}, "batch is 1 and runs 29; they must be at least 1 and 30."),
        ({"batch": 0}, "batch is 0 and runs 31; they must be at least 1 and 30."),
        ({"batch": 7}, "6 images to choose or to confirm on are fewer than a batch of 7. Give more."),
        ({"methods": ()}, "methods are timed against dense, so they must not be empty or include dense."),
        ({"methods": ("dense",)}, "methods are timed against dense, so they must not be empty or include dense."),
        ({"methods": ("direkt",)}, "unknown method of convolution 'direkt'; did you mean 'direct'?"),
        ({"held_out": torch.zeros(3, 3, 8, 8, dtype=torch.uint8)}, "the images are uint8 with 4 axes"),
    ],
)
def test_wrong_settings_are_refused(given, sentence, net, images):
    with pytest.raises(InputError) as refusal:
        plan(net, images, **given)
    assert str(refusal.value).startswith(sentence)


def test_a_network_without_convolutions_is_refused(images):
    with pytest.raises(InputError, match="the network has no convolution"):
        plan(nn.Flatten(), images)


def test_a_network_that_does_not_take_the_images_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(5, 2))
    for images in (torch.rand(4, 1, 8, 8), torch.rand(4, 3, 8, 8)):
        with pytest.raises(InputError, match=r"^the network does not take images of shape \([13], 8, 8\) \(.+\)\.$"):
            plan(network, images)
