"""MiniLLM: the reverse divergence of whole answers, by policy gradient.

The student answers, now and then led by the teacher: tokens come from p̃ = α p + (1 - α) q, with the weight
w = q_old / p̃. Each token is rewarded with r_t = (log p(y_t) - log q_old(y_t)) / s, and pushed by what it and the rest
of the answer earn for each of the T - t + 1 tokens that are left:

    R_t = Σ_{k≥t} γ^{k-t} r_k / (T - t + 1),    A = (R - mean R) / deviation of R, over the tokens of a step
    L = -mean min(w ρ A, clip(w ρ, 1 - ε, 1 + ε) A) + mean KL(q ‖ p) + label_weight · CE(references),   ρ = q / q_old

The second term is the reward of the token itself, in closed form over the vocabulary. This is the released code. The
paper's formulas leave r_t out of R_t (`own_reward`), do not whiten (`whiten`), and weigh the second term by w
(`weigh_single`). Three differences remain: the code's mean and deviation are over padding too, its step size is
constant after 100 steps of warm-up, and half of its loss on further text is the teacher's cross-entropy.
Gu, Dong, Wei and Huang, MiniLLM: Knowledge Distillation of Large Language Models, ICLR 2024, arXiv:2306.08543.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.core.settings import Range, Settings
from attar.language.correction import Contexts
from attar.language.generation import Probabilities, Reader, Voice, answering, generate
from attar.language.losses import Places, log_probabilities
from attar.language.tokens import Batch

PerToken = Float[Tensor, "answer token"]


@dataclass(frozen=True, kw_only=True)
class Policy(Settings):
    """Settings of MiniLLM's policy gradient."""

    rollouts: Annotated[int, Range(1)] = 256
    """Number of answers that are sampled together."""
    rollout_epochs: Annotated[int, Range(1)] = 4
    """Number of passes over these answers before new ones are sampled."""
    teacher_share: Annotated[float, Range(0, 1)] = 0.2
    """Share α of the teacher in the mixed distribution from which answers are sampled."""
    reward_scale: Annotated[float, Range(1e-6)] = 0.5
    """Number s by which rewards are divided."""
    reward_clip: Annotated[float, Range(0)] = 100.0
    """Limit of a reward after the division; larger ones are cut."""
    own_reward: bool = True
    """Whether the reward of a token itself is part of what it is pushed by, as in the released code, or only the
    rewards of the tokens after it, as in the paper."""
    whiten: bool = True
    """Whether the advantages of a step are shifted and scaled to mean 0 and variance 1, as in the released code."""
    discount: Annotated[float, Range(0, 1)] = 0.95
    """Discount γ of later rewards, per token."""
    ratio_clip: Annotated[float, Range(0, 1)] = 0.2
    """Limit ε of the ratio between new and old probability, weighed for the teacher's share; beyond 1 ± ε it is
    clipped."""
    weigh_single: bool = False
    """Whether the divergence at each token is weighed for the teacher's share, as in the paper. The released code does
    not."""


@dataclass
class Rollouts:
    """Answers that were sampled together, with their weights."""

    ids: Int[Tensor, "answer token"]
    prompts: Int[Tensor, " answer"]
    lengths: Int[Tensor, " answer"]
    old: PerToken
    """log q of each token when it was sampled; 0 for tokens that do not count."""
    advantage: PerToken
    weight: PerToken
    """w."""
    reward: float = 0.0
    """Mean reward of a token, not divided."""

    @classmethod
    def empty(cls, policy: Policy, longest: int) -> "Rollouts":
        """Empty rollouts of the right size."""
        count = policy.rollouts
        numbers, none = torch.zeros(count, dtype=torch.long), torch.zeros(count, longest)
        ids = torch.zeros(count, longest, dtype=torch.int32)
        return cls(ids, numbers, numbers.clone(), none, none.clone(), none.clone())

    def batch(self, rows: Tensor) -> Batch:
        """Some of the answers."""
        whole = Batch(self.ids[rows].long(), self.prompts[rows], self.lengths[rows])
        return whole.rows(slice(None))

    def at(self, values: PerToken, rows: Tensor, places: Places, width: int) -> Float[Tensor, " place"]:
        """The values at the places of some of the answers, `width` tokens wide."""
        # A place is the row of logits before its token.
        return values[rows, :width].reshape(-1)[places.rows.cpu() + 1].to(places.rows.device)


def advantages(
    rewards: PerToken, counted: Bool[Tensor, "answer token"], discount: float, *, own_reward: bool = True
) -> PerToken:
    """R_t: the discounted sum of the rewards from each token on, divided by the number of tokens from there on.

    Without its own reward that of the tokens after it; then it is 0 for the last token.
    """
    found = torch.zeros_like(rewards)
    total, left = torch.zeros(len(rewards)).to(rewards), torch.zeros(len(rewards)).to(rewards)
    for column in range(rewards.shape[1] - 1, -1, -1):
        inside = counted[:, column].to(rewards.dtype)
        before = total / left.clamp(min=1)
        total = inside * (rewards[:, column] + discount * total) + (1 - inside) * total
        left = left + inside
        found[:, column] = inside * (total / left.clamp(min=1) if own_reward else before)
    return found


@dataclass(frozen=True)
class Norm:
    """What advantages are shifted and multiplied by, the same in all passes of a step."""

    shift: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, advantage: Float[Tensor, " place"]) -> "Norm":
        """The norm that brings advantages to mean 0 and variance 1; a single one to 0."""
        if len(advantage) < 2:
            return cls(float(advantage.sum()))
        variance, mean = torch.var_mean(advantage.double())
        return cls(float(mean), float(torch.rsqrt(variance + 1e-8)))

    def __call__(self, advantage: Float[Tensor, " place"]) -> Float[Tensor, " place"]:
        """Advantages by this norm."""
        return (advantage - self.shift) * self.scale


def push(
    log_q: Float[Tensor, " place"],
    old: Float[Tensor, " place"],
    advantage: Float[Tensor, " place"],
    weight: Float[Tensor, " place"],
    clip: float,
) -> tuple[Float[Tensor, " place"], Float[Tensor, ""]]:
    """The strength by which each token's log q is pushed up, and the clipped objective.

    The gradient of -min(w ρ A, clip(w ρ) A) is -w ρ A ∇log q if w ρ A is the smaller one, and 0 otherwise.
    """
    ratio = weight * (log_q - old).exp()
    plain, cut = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    return torch.where(plain <= cut, plain, 0.0), -torch.minimum(plain, cut).sum()


class _Led:
    """The student's distribution mixed with the teacher's."""

    def __init__(self, teacher: Voice, prompts: list[list[int]], share: float) -> None:
        self.teacher, self.share, self.prompts = teacher, share, prompts
        self.reader: Reader | None = None

    def __call__(self, reader: Reader, p: Probabilities) -> Probabilities:
        if self.reader is None:
            self.reader = Reader(self.teacher.model, self.prompts)
        else:
            assert reader.last is not None
            self.reader.go_on(reader.last)
        return torch.lerp(p, self.teacher.probabilities(self.reader.logits), self.share)


@torch.no_grad()
def collect(
    rollouts: Rollouts,
    student: Voice,
    teacher: nn.Module,
    batches: list[tuple[list[list[int]], list[int]]],
    policy: Policy,
    generator: torch.Generator,
    context: Contexts,
) -> None:
    """Fill the rollouts with new answers.

    Args:
        rollouts: The rollouts, filled in place.
        student: Samples the answers.
        teacher: Is mixed in, and gives the rewards.
        batches: Prompts with the number of tokens that each answer may have; as many as there are rollouts in all.
        policy: Settings.
        generator: Draws tokens.
        context: The precision of passes without a gradient.
    """
    place, rewards = 0, []
    lead = replace(student, model=teacher)
    for prompts, limits in batches:
        with context(), answering(student.model, teacher):
            said = generate(student, prompts, limits, generator, also=_Led(lead, prompts, policy.teacher_share))
            batch = Batch.of(prompts, said).to(next(student.model.parameters()).device)
            one, other = (model(**batch.inputs).logits for model in (student.model, teacher))
        places = Places.of(batch.labels)
        log_q, log_p = (log_probabilities(logits, places, words=student.words) for logits in (one, other))
        share = torch.tensor(policy.teacher_share, device=log_q.device)
        led = torch.logaddexp(log_p + share.log(), log_q + (-share).log1p())
        reward = ((log_p - log_q) / policy.reward_scale).clamp(-policy.reward_clip, policy.reward_clip)
        rows, width = slice(place, place + len(batch)), batch.ids.shape[1]
        rollouts.ids[rows, :width] = batch.ids.cpu().int()
        rollouts.prompts[rows], rollouts.lengths[rows] = batch.prompts.cpu(), batch.lengths.cpu()
        counted = (batch.labels != -100).cpu()
        counted[:, 0] = False
        by_token = _spread(reward, places, counted)
        rollouts.old[rows, :width] = _spread(log_q, places, counted)
        rollouts.weight[rows, :width] = _spread((log_q - led).exp(), places, counted)
        rollouts.advantage[rows, :width] = advantages(by_token, counted, policy.discount, own_reward=policy.own_reward)
        rewards.append(policy.reward_scale * reward)
        place += len(batch)
    rollouts.reward = float(torch.cat(rewards).mean())


def _spread(values: Float[Tensor, " place"], places: Places, counted: Tensor) -> PerToken:
    """The values of places, each in the column of its token."""
    found = torch.zeros(counted.shape)
    found.view(-1)[places.rows.cpu() + 1] = values.float().cpu()
    return found
