import pytest
import torch

from attar.language.divergences import Objective
from attar.language.generation import Voice
from attar.language.losses import Places, Terms, chunked_loss, log_probabilities
from attar.language.policy import Norm, Policy, Rollouts, advantages, collect, push


def test_an_advantage_is_what_is_earned_from_here_on_for_each_token_that_is_left():
    rewards = torch.tensor([[0.0, 1.0, 2.0, 6.0, 0.0]])
    counted = torch.tensor([[False, True, True, True, False]])
    assert advantages(rewards, counted, 1.0).tolist() == [[0, 3, 4, 6, 0]]
    found = advantages(rewards, counted, 0.5)
    torch.testing.assert_close(found, torch.tensor([[0, (1 + 0.5 * 2 + 0.25 * 6) / 3, (2 + 0.5 * 6) / 2, 6, 0]]))
    found = advantages(rewards, counted, 0.5, own_reward=False)
    torch.testing.assert_close(found, torch.tensor([[0, (2 + 0.5 * 6) / 2, 6, 0, 0]]))


def released(log_q, old, log_p_said, weight, mask, log_p, log_all, *, scale, discount, clip):
    """The released loss as its code computes it, for answers of one length: nothing there is padding."""
    rewards = ((log_p_said - old) / scale).clip(-100, 100)
    total, found = torch.zeros(len(rewards), dtype=rewards.dtype), []
    for column in reversed(range(rewards.shape[1])):
        total = rewards[:, column] + discount * total
        found.append(total / (rewards.shape[1] - column))
    advantage = torch.stack(found[::-1], dim=1)
    advantage = (advantage - advantage.mean()) / (advantage.var() + 1e-8).sqrt()
    ratio = (log_q - old).exp() * weight
    policy = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).sum() / mask.sum()
    return policy + (log_all.exp() * (log_all - log_p)).sum() / mask.sum()


def test_a_step_is_that_of_the_released_code():
    torch.manual_seed(0)
    answers, tokens, words = 4, 6, 9
    said = torch.randint(words, (answers, tokens))
    logits, before, teacher = torch.randn(3, answers, tokens, words, dtype=torch.float64)
    before = logits + 0.3 * before
    policy = Policy()

    def at(values):
        return torch.log_softmax(values, 2).gather(2, said.unsqueeze(2)).squeeze(2)

    weight = (at(before) - (0.2 * at(teacher).exp() + 0.8 * at(before).exp()).log()).exp()
    free = logits.clone().requires_grad_()
    expected = released(
        at(free),
        at(before),
        at(teacher),
        weight,
        torch.ones_like(weight),
        torch.log_softmax(teacher, 2),
        torch.log_softmax(free, 2),
        scale=policy.reward_scale,
        discount=policy.discount,
        clip=policy.ratio_clip,
    )
    expected.backward()
    rewards = (at(teacher) - at(before)) / policy.reward_scale
    earned = advantages(rewards, torch.ones_like(rewards, dtype=torch.bool), policy.discount).flatten()
    strength, value = push(
        at(logits).flatten(), at(before).flatten(), Norm.of(earned)(earned), weight.flatten(), policy.ratio_clip
    )
    count, mine = answers * tokens, logits.clone().requires_grad_()
    labels = torch.cat([torch.full((answers, 1), -100), said], dim=1)
    wide = torch.cat([mine, mine[:, :1]], dim=1)
    terms = Terms(labels=strength / count, teacher=1 / count, objective=Objective(divergence="reverse"))
    loss, sums = chunked_loss(wide, torch.cat([teacher, teacher[:, :1]], dim=1), Places.of(labels), terms)
    loss.backward()
    torch.testing.assert_close(mine.grad, free.grad)
    torch.testing.assert_close(value / count + sums.teacher / count, expected.detach())


def test_a_norm_gives_mean_0_and_variance_1_and_leaves_nothing_of_one():
    earned = torch.tensor([3.0, 5.0, 10.0])
    found = Norm.of(earned)(earned)
    torch.testing.assert_close(found.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var(), torch.tensor(1.0))
    assert Norm.of(earned[:1])(earned[:1]).tolist() == [0]
    assert Norm()(earned).tolist() == [3, 5, 10]


def test_the_push_is_the_slope_of_the_clipped_objective():
    torch.manual_seed(0)
    old, advantage = torch.randn(2, 40, dtype=torch.float64)
    weight = torch.rand(40, dtype=torch.float64) + 0.5
    log_q = (old + 0.3 * torch.randn(40, dtype=torch.float64)).requires_grad_()
    ratio = weight * (log_q - old).exp()
    objective = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).sum()
    objective.backward()
    strength, value = push(log_q.detach(), old, advantage, weight, 0.2)
    torch.testing.assert_close(-strength, log_q.grad)
    torch.testing.assert_close(value, objective.detach())


def collected(student, teacher, words, stops, policy, seed=0):
    rollouts = Rollouts.empty(policy, 16)
    batches = [([[1], [2, 1]], [6, 6])] * (policy.rollouts // 2)
    generator = torch.Generator().manual_seed(seed)
    from contextlib import nullcontext

    collect(rollouts, Voice(student, words, stops), teacher, batches, policy, generator, nullcontext)
    return rollouts


def test_rollouts_hold_what_was_said_and_how_probable_it_was(student, teacher, tokenizer):
    policy = Policy(rollouts=4, teacher_share=0.2)
    found = collected(student, teacher, len(tokenizer), (tokenizer.eos_token_id,), policy)
    rows = torch.arange(4)
    batch = found.batch(rows)
    places, width = Places.of(batch.labels), batch.ids.shape[1]
    with torch.no_grad():
        q, p = (
            log_probabilities(model(input_ids=batch.ids).logits, places, words=len(tokenizer))
            for model in (student, teacher)
        )
    torch.testing.assert_close(found.at(found.old, rows, places, width), q, rtol=1e-4, atol=1e-4)
    weight = (q - (0.2 * p.exp() + 0.8 * q.exp()).log()).exp()
    torch.testing.assert_close(found.at(found.weight, rows, places, width), weight, rtol=1e-4, atol=1e-4)
    assert found.reward == pytest.approx(float((p - q).mean()), rel=1e-4)
    assert (found.lengths - found.prompts <= 6).all()


def test_a_leading_teacher_is_heard(bigram):
    student, teacher = bigram([[0.98, 0.01, 0.01]] * 3), bigram([[0.01, 0.98, 0.01]] * 3)
    for share, wanted in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)):
        found = collected(student, teacher, 3, (2,), Policy(rollouts=80, teacher_share=share))
        labels = found.batch(torch.arange(80)).labels
        said = labels[labels >= 0]
        assert (said == 1).float().mean().item() == pytest.approx(wanted, abs=0.12)


def test_equal_models_have_no_reward(student, tokenizer):
    found = collected(student, student, len(tokenizer), (), Policy(rollouts=4))
    assert found.reward == 0
    assert found.advantage.abs().max() == 0
    assert found.weight[found.weight != 0].allclose(torch.tensor(1.0))


def test_a_token_that_the_teacher_rules_out_costs_a_limited_reward(bigram):
    student, teacher = bigram([[0.5, 0.25, 0.25]] * 3), bigram([[1.0, 0.0, 0.0]] * 3)
    found = collected(student, teacher, 3, (2,), Policy(rollouts=40, teacher_share=0.0))
    assert found.advantage.abs().max() <= 100
    assert -50 <= found.reward < -10
