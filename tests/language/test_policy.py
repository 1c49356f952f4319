import pytest
import torch

from attar.language.generation import Voice
from attar.language.losses import Places, log_probabilities
from attar.language.policy import Policy, Rollouts, advantages, collect, push


def test_an_advantage_is_the_mean_of_what_comes_after():
    rewards = torch.tensor([[0.0, 1.0, 2.0, 6.0, 0.0]])
    counted = torch.tensor([[False, True, True, True, False]])
    assert advantages(rewards, counted, 1.0).tolist() == [[0, 4, 6, 0, 0]]
    found = advantages(rewards, counted, 0.5)
    torch.testing.assert_close(found, torch.tensor([[0, (2 + 0.5 * 6) / 1.5, 6, 0, 0]]))


def test_the_push_is_the_slope_of_the_clipped_objective():
    torch.manual_seed(0)
    old, advantage, weight = torch.randn(3, 40, dtype=torch.float64)
    log_q = (old + 0.3 * torch.randn(40, dtype=torch.float64)).requires_grad_()
    ratio = (log_q - old).exp()
    objective = -(weight * torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)).sum()
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
