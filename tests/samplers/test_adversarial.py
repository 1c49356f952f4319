"""The discriminator: its heads, its losses and their optimum, and the released code's numbers."""

import pytest
import torch
import torch.nn.functional as F

from attar.samplers.adversarial import discriminator_loss, flat_head, generator_loss, head_for, logits, map_head
from attar.samplers.denoisers import Denoiser, broadcast
from attar.samplers.networks import MLPWords, ResidualMLP
from attar.samplers.schedules import karras
from distribution_cases import Told, released


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------------ its heads


@pytest.mark.parametrize("channels, side", [(768, 8), (32, 8), (32, 4), (32, 16), (16, 32), (8, 7), (6, 2), (3, 1)])
def test_a_head_for_maps_gives_a_number_for_each_sample(channels, side):
    head = head_for(torch.randn(5, channels, side, side, generator=generator()), generator())
    found = head(torch.randn(5, channels, side, side, generator=generator(1)))
    assert found.shape == (5, 1, 1, 1)
    assert found.std() > 0
    groups = [layer for layer in head if isinstance(layer, torch.nn.GroupNorm)]
    assert all(channels // layer.num_groups >= min(4, channels) for layer in groups)


def test_maps_of_eight_by_eight_get_the_published_head():
    kinds = [
        (type(layer).__name__, getattr(layer, "stride", None), getattr(layer, "num_groups", None))
        for layer in map_head(768, 8, 8)
    ]
    convolution, norm, silu = ("Conv2d", (1, 1), None), ("GroupNorm", None, 32), ("SiLU", None, None)
    assert kinds == [("Conv2d", (2, 2), None), norm, silu, convolution, norm, silu, convolution]
    assert len(map_head(64, 32, 32)) == len(kinds) + 6, "two more strides"


def test_a_group_for_each_channel_would_give_a_dead_head():
    features = torch.randn(5, 8, 4, 4, generator=generator())
    dead, alive = map_head(8, 4, 4, groups=8), map_head(8, 4, 4)
    assert dead(features).std() < 1e-4 < 1e-2 < alive(features).std()


def test_flat_features_get_a_hidden_layer_and_the_same_seed_the_same_head():
    one, other = (head_for(torch.zeros(1, 24), generator()) for _ in range(2))
    assert torch.equal(one[0].weight, other[0].weight)
    assert flat_head(1000)[0].out_features == 256


# ----------------------------------------------------------------------------------------------------------- its losses


def test_the_losses_are_cross_entropies_with_real_and_generated():
    real, fake = torch.randn(2, 50, generator=generator()).double()
    both = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(50).double(), torch.zeros(50).double()
    torch.testing.assert_close(discriminator_loss(real, fake), both(real, ones) + both(fake, zeros))
    torch.testing.assert_close(generator_loss(fake), both(fake, ones))


def test_batches_may_differ_in_size():
    real, fake = torch.randn(7, generator=generator()), torch.randn(50, generator=generator(1))
    assert discriminator_loss(real, fake) == F.softplus(-real).mean() + F.softplus(fake).mean()


class Squares(Denoiser):
    """A critic whose features are a point and its square."""

    def encoded(self, x, sigma, labels=None):
        return torch.cat([x, x.square()], dim=1)


def test_the_best_logit_is_the_logarithm_of_the_ratio_of_densities():
    draws, sigma, means, stds = 200_000, 0.5, (0.5, -0.2), (0.3, 0.4)
    critic, head = Squares(torch.nn.Identity(), 0.5), torch.nn.Linear(2, 1).double()
    samples = [
        m + s * torch.randn(draws, 1, generator=generator(n)).double()
        for n, (m, s) in enumerate(zip(means, stds, strict=True))
    ]
    noise = torch.randn(2, draws, 1, generator=generator(9)).double()
    level = torch.full((draws,), sigma).double()
    fitting = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        fitting.zero_grad()
        real, fake = (logits(critic, head, x, level, z) for x, z in zip(samples, noise, strict=True))
        loss = discriminator_loss(real, fake)
        loss.backward()
        return loss

    fitting.step(closure)
    grid = torch.linspace(-1, 1.2, 12).double()[:, None]
    laws = [torch.distributions.Normal(m, (s**2 + sigma**2) ** 0.5) for m, s in zip(means, stds, strict=True)]
    expected = (laws[0].log_prob(grid) - laws[1].log_prob(grid)).flatten()
    found = logits(critic, head, grid, torch.ones(12).double(), torch.zeros_like(grid))
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=0.05)


def a_critic(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Denoiser(ResidualMLP((2,), 3, MLPWords(width=16, depth=1)), 0.5)


def test_a_logit_is_the_heads_of_the_critics_features_of_noisy_samples():
    critic, head = a_critic(), flat_head(16)
    x, noise = torch.randn(2, 6, 2, generator=generator())
    sigma, labels = torch.rand(6, generator=generator()) + 0.1, torch.tensor([0, 1, 2, 0, 1, -1])
    expected = head(critic.encoded(x + sigma[:, None] * noise, sigma, labels))[:, 0]
    torch.testing.assert_close(logits(critic, head, x, sigma, noise, labels), expected)


def test_the_discriminators_loss_teaches_the_head_and_the_critics_encoder_alone():
    critic, head = a_critic(), flat_head(16)
    x, noise = torch.randn(2, 6, 2, generator=generator())
    given = torch.ones(6), noise, torch.zeros(6, dtype=torch.long)
    discriminator_loss(logits(critic, head, x, *given), logits(critic, head, -x, *given)).backward()
    without = {name for name, one in critic.network.named_parameters() if one.grad is None}
    assert without == {"leave.weight", "leave.bias"}
    assert all(one.grad is not None for one in head.parameters())


# ------------------------------------------------------------------------------------------ the released code's numbers


class Bottleneck(Told):
    """The tiny network with a bottleneck of 4 channels."""

    def __init__(self, golden):
        super().__init__(golden, "critic")
        self.Wb = golden["critic.Wb"]

    def encoded(self, x, noise, labels=None):
        return (self.hidden(x, noise, labels) @ self.Wb).view(-1, 4, 8, 8)


class Double(Denoiser):
    """A denoiser whose features stay in float64."""

    def encoded(self, x, sigma, labels=None):
        return self._run(self.network.encoded, x, sigma, labels)


@pytest.fixture
def gan():
    case = released("dmd2_gan")
    head = map_head(4, 8, 8, groups=2).double()
    head.load_state_dict(
        {name.removeprefix("head."): value for name, value in case.items() if name.startswith("head.")}
    )
    grid = karras(1000, 0.002, 80.0).flip(0)

    def judge(who, x, labels):
        return logits(critic, head, x, grid[case[f"in.{who}.index"]], case[f"in.{who}.noise"], labels)

    critic = Double(Bottleneck(case), 0.5)
    return case, critic, head, judge


def test_the_generators_side_is_the_released_one(gan):
    case, _, _, judge = gan
    x = case["in.x_fake"].clone().requires_grad_()
    found = judge("gen", x, case["in.labels_fake"])
    torch.testing.assert_close(found, case["out.gen.logits"][:, 0], rtol=1e-9, atol=1e-10)
    generator_loss(found).backward()
    torch.testing.assert_close(generator_loss(found).detach(), case["out.gen.loss"])
    torch.testing.assert_close(x.grad, case["out.gen.grad.x"], rtol=1e-8, atol=1e-12)


def test_the_critics_side_is_the_released_one(gan):
    case, critic, head, judge = gan
    real = judge("real", case["in.x_real"], case["in.labels_real"])
    loss = discriminator_loss(real, judge("fake", case["in.x_fake"], case["in.labels_fake"]))
    torch.testing.assert_close(loss.detach(), case["out.disc.loss"])
    loss.backward()
    for name in "AuVa":
        grad = getattr(critic.network, name).grad
        torch.testing.assert_close(grad, case[f"out.disc.grad.critic.{name}"], rtol=1e-8, atol=1e-12)
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, case[f"out.disc.grad.head.{name}"], rtol=1e-8, atol=1e-12)


def test_extreme_logits_are_no_overflow():
    case = released("dmd2_gan")
    real, fake = case["in.logits_real"][:, 0], case["in.logits_fake"][:, 0]
    torch.testing.assert_close(generator_loss(fake), case["out.fastgen.gen"])
    torch.testing.assert_close(discriminator_loss(real, fake), case["out.fastgen.disc"])


def test_noise_is_added_at_each_samples_own_level():
    critic, head = Squares(torch.nn.Identity(), 0.5), torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.eye_(head.weight)
    sigma = torch.tensor([0.0, 1.0, 3.0])
    found = logits(critic, head, torch.ones(3, 1), sigma, torch.ones(3, 1))
    torch.testing.assert_close(found, 1 + broadcast(sigma, torch.ones(3, 1))[:, 0])
