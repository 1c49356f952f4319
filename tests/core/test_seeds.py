import pytest
import torch

from attar.core.seeds import Generators, derived_seed, permutation, uniform


def test_a_purpose_has_a_seed_of_its_own():
    seeds = {derived_seed(seed, purpose) for seed in range(100) for purpose in ("start", "batches", "augment")}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_derived_seed_never_changes():
    # Written down once: what was condensed with a seed must come out again.
    assert derived_seed(0, "start") == 4787617670566534780


def test_one_purpose_does_not_disturb_another():
    alone, among = Generators(3), Generators(3)
    torch.rand(100, generator=among("batches"))
    assert torch.equal(torch.rand(5, generator=alone("start")), torch.rand(5, generator=among("start")))


def test_a_generator_goes_on_where_it_was():
    generators = Generators(0)
    first, second = (torch.rand(3, generator=generators("start")) for _ in range(2))
    assert not torch.equal(first, second)


def test_saved_generators_go_on_alike():
    generators = Generators(0)
    torch.rand(7, generator=generators("start")), torch.randn(3, generator=generators("batches"))
    saved = generators.state_dict()
    ahead = [torch.rand(4, generator=generators(purpose)) for purpose in ("start", "batches", "never used before")]
    twin = Generators(0)
    twin.load_state_dict(saved)
    again = [torch.rand(4, generator=twin(purpose)) for purpose in ("start", "batches", "never used before")]
    assert all(torch.equal(*pair) for pair in zip(ahead, again, strict=True))


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(3, generator=Generators(0)("start"))
    assert torch.equal(before, torch.get_rng_state())


def test_uniform_numbers_for_a_purpose_never_change():
    """Pinned: labels that were stored for what these numbers draw mean nothing with others."""
    assert uniform(0, "boxes 0", 3).tolist() == pytest.approx([0.54145, 0.478166, 0.9177627], abs=1e-6)
    assert permutation(0, "partners 0", 8).tolist() == [5, 1, 2, 0, 3, 6, 4, 7]
    numbers = uniform(1, "many", 4, 5000)
    assert bool(((numbers >= 0) & (numbers < 1)).all())
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(numbers.var()) == pytest.approx(1 / 12, abs=0.002)
    assert sorted(permutation(3, "order", 100).tolist()) == list(range(100))
