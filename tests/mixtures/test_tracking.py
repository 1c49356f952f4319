import pytest
import torch

from attar.mixtures import OGGMR, GaussianMixture, Runnalls, distance
from attar.mixtures.tracking import REAL, Scenario, associate, fly, predict, track

CLEAR = Scenario(clutter=1e-12, detection=1 - 1e-12, accelerations=(1.0,), odds=(1.0,), steps=15, forget=0.0)


@pytest.fixture
def state(generator):
    covariance = torch.diag(torch.tensor([9.0, 4.0, 1.0, 1.0], dtype=REAL))
    means = torch.randn(2, 4, dtype=REAL, generator=generator)
    return GaussianMixture([0.4, 0.6], means, torch.stack([covariance, 2 * covariance]))


def test_prediction_moves_the_moments(state):
    scenario = Scenario()
    moved = predict(state, scenario)
    assert moved.n_components == 4
    torch.testing.assert_close(moved.mean(), scenario.motion @ state.mean())
    noise = sum(p * s**2 for p, s in zip(scenario.odds, scenario.accelerations, strict=True))
    expected = scenario.motion @ state.covariance() @ scenario.motion.T + noise * scenario.push @ scenario.push.T
    torch.testing.assert_close(moved.covariance(), expected)


def test_association_is_bayes_rule(state, generator):
    """Posterior density ∝ prior × (1 - P_D + P_D / λ Σ_z N(z; position, R)), at any point of state space."""
    scenario = Scenario(forget=0.0)
    seen = torch.randn(3, 2, dtype=REAL, generator=generator)
    posterior = associate(state, seen, scenario)
    assert posterior.n_components == 2 * 4
    points = state.sample(6, generator)
    noise = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=REAL), 9.0 * torch.eye(2, dtype=REAL))
    likelihood = noise.log_prob(seen - points[:, None, :2]).exp().sum(1) * scenario.detection / scenario.clutter
    log_joint = state.log_prob(points) + (1 - scenario.detection + likelihood).log()
    ratio = posterior.log_prob(points) - log_joint
    torch.testing.assert_close(ratio, ratio[:1].expand(6))


def test_a_target_always_seen_alone_is_followed_by_a_kalman_filter(generator):
    flight = fly(CLEAR, generator)
    found = track(CLEAR, flight, Runnalls(n_components=1))
    mean, covariance = flight.truth[0], torch.diag(torch.tensor([100.0, 100, 25, 25], dtype=REAL))
    motion, noise = CLEAR.motion, CLEAR.push @ CLEAR.push.T
    for number, seen in enumerate(flight.seen):
        if number:
            mean, covariance = motion @ mean, motion @ covariance @ motion.T + noise
        gain = covariance[:, :2] @ torch.linalg.inv(covariance[:2, :2] + 9 * torch.eye(2, dtype=REAL))
        mean, covariance = mean + gain @ (seen[0] - mean[:2]), covariance - gain @ covariance[:2]
        torch.testing.assert_close(found.estimates[number], mean, rtol=1e-6, atol=1e-6)
    assert not found.lost


def test_reducing_to_several_components_stays_close_to_what_was_grown(generator):
    scenario = Scenario(steps=5)
    flight = fly(scenario, generator)
    few, more = (track(scenario, flight, OGGMR(n_components=n, optimise=False)) for n in (2, 8))
    assert (few.grown > 2).all()
    assert more.angles.mean() < few.angles.mean()
    assert more.seconds.sum() > 0
    assert few.estimates.shape == (5, 4)
    assert few.root_mean_square == pytest.approx(float(few.errors.square().mean()) ** 0.5)


def test_the_same_generator_draws_the_same_flight():
    one, two = (fly(Scenario(), torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one.truth, two.truth)
    assert all(map(torch.equal, one.seen, two.seen))


def test_light_hypotheses_are_dropped_before_reduction(state, generator):
    seen = torch.full((1, 2), 1e3, dtype=REAL)
    assert associate(state, seen, Scenario()).n_components == 2
    assert float(distance(associate(state, seen, Scenario()), state)) < 1e-6
