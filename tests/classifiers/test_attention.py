import torch

from attar.classifiers.attention import attention_loss, attention_map


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_scale_and_order_of_channels_do_not_matter():
    features = maps(0, 3, 5, 4, 4)
    assert torch.allclose(attention_map(7 * features), attention_map(features), atol=1e-12)
    assert torch.allclose(attention_map(features[:, [4, 2, 0, 1, 3]]), attention_map(features), atol=1e-12)
    assert torch.allclose(attention_map(features).norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_a_match_costs_nothing_and_pulls_nowhere():
    student = maps(0, 3, 5, 4, 4).requires_grad_()
    attention_loss(student, student.detach()).backward()
    assert student.grad.abs().max() < 1e-12


def test_the_two_forms():
    student, teacher = maps(0, 3, 5, 4, 4), maps(1, 3, 9, 4, 4)
    difference = attention_map(student) - attention_map(teacher)
    assert torch.isclose(attention_loss(student, teacher), difference.square().mean())
    assert torch.isclose(attention_loss(student, teacher, form="paper"), difference.norm(dim=1).mean())


def test_the_larger_map_is_pooled_to_the_smaller():
    large, small = maps(0, 2, 3, 8, 8), maps(1, 2, 6, 4, 4)
    pooled = torch.nn.functional.avg_pool2d(large, 2)
    assert torch.isclose(attention_loss(large, small), attention_loss(pooled, small))
    assert torch.isclose(attention_loss(small, large), attention_loss(small, pooled))


def test_odd_powers_see_sizes_only():
    features = maps(0, 3, 5, 4, 4)
    assert torch.allclose(attention_map(features, power=3), attention_map(features.abs(), power=3))
