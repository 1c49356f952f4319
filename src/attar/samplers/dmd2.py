"""DMD2: a sampler of one or a few calls whose samples have the teacher's distribution, noise level by noise level.

Prefer it where precision counts, where the student should do without stored samples of the teacher, or where text
guides the teacher. It drops modes if the critic lags behind: watch recall. On small data the students of pairs and of
consistency learn more in the same time, and a warm start by pairs, which is the default here and not the paper's, makes
up for most of it.

In each step the critic learns the student's samples; in every `critic_steps`-th (K of the two time scales) the student
moves first, along the difference of what critic and teacher predict for its noisy samples. Few-step students are given
what they made themselves (backward simulation), so that no real sample enters but into the GAN term.

Yin, Gharbi, Park, Zhang, Shechtman, Durand and Freeman, Improved Distribution Matching Distillation for Fast Image
Synthesis, NeurIPS 2024, arXiv:2405.14867. With `critic_steps` 1 and a `regression_weight` it is DMD (Yin et al.,
One-step Diffusion with Distribution Matching Distillation, CVPR 2024, arXiv:2311.18828), here with the squared distance
in place of LPIPS. Without a GAN term its gradient is that of VSD, and without a critic that of SDS.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn

from attar.core.dividing import divided
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt
from attar.core.training import linear_rise, next_rows, set_lr
from attar.samplers.adapters import Lora, adapt, merged
from attar.samplers.adversarial import Adversary, discriminator_loss, generator_loss, head_for, logits
from attar.samplers.denoisers import Condition, Denoiser, Noisy, broadcast, guided
from attar.samplers.learner import Batch, Learning, Student, shared_calls
from attar.samplers.matching import Weighting, critic_loss, matching_gradient, simulated, surrogate_loss
from attar.samplers.pairs import check_ode, teacher_pairs
from attar.samplers.sampling import begun, noise_from
from attar.samplers.schedules import Levels, few
from attar.samplers.sources import Rows, Samples
from attar.samplers.teaching import Work

FINE = 1000
"""T: number of levels of the grid from which levels are drawn, and along which a few-step sampler steps."""
WARM_SHARE, MOST_WARM = 5, 2000
"""The default warm start is a fifth of the steps, at most so many."""


@dataclass(frozen=True, kw_only=True)
class Critic(Settings):
    """Settings of the critic."""

    against: Literal["critic", "sample"] = "critic"
    """What the teacher's prediction is held against: that of a critic, which learns the student's samples, or the
    sample itself, which is score distillation sampling (SDS)."""
    critic_turns: Literal["each", "other"] = "each"
    """Steps in which the critic moves: in each, after the student where that moves too, or in those other than the
    student's, as in FastGen."""
    critic_weighting: Weighting = "edm"
    """Weight of the critic's squared error: edm (σ⁻² + σ_d⁻²), epsilon (σ⁻², the squared error of predicted noise, for
    Stable Diffusion), or none, as in FastGen."""


@dataclass(frozen=True, kw_only=True)
class Pairing(Settings):
    """Settings of what the student learns from pairs of noise and the teacher's samples."""

    pair_lr: Annotated[float, Range(0)] = 1e-3
    """Step size of the warm start, with a linear decay to zero."""
    regression_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the squared distance from the teacher's samples of the same noise, beside the matching (DMD)."""
    pair_count: Annotated[int, Range(1)] = 3000
    """Number of pairs of noise and the teacher's samples."""
    pair_levels: Annotated[int, Range(1, 10_000)] = 9
    """Number of noise levels of the teacher's sampling for pairs."""


@dataclass(kw_only=True)
class Matching(Learning):
    """A student, its critic, and the discriminator's head, in training."""

    critic: Denoiser
    head: nn.Module | None
    critic_optimizer: torch.optim.Optimizer
    pair_order: Rows
    """Pairs in the order of the present pass."""
    shown: dict[str, Tensor]
    """The last metrics of student and critic: not every step has all."""
    moved: int = 0
    """Updates of the student by matching."""
    judged: int = 0
    """Updates of the critic."""
    paired: int = 0
    """Batches of pairs that were learned."""
    teacher: Denoiser = rebuilt()
    """The teacher, without guidance."""
    fine: Levels = rebuilt()
    """The grid, ascending."""
    pairs: Any = rebuilt(default=None)
    """Noise, samples and labels of the pairs, made before the first step that needs them."""

    @property
    def kept(self) -> Denoiser:
        """The student or its average, with its adapters in its weights."""
        return merged(super().kept)


class Guided(Denoiser):
    """A denoiser under classifier-free guidance, for sampling.

    Args:
        inner: What is guided.
        scale: w of `guided`.
        null: The condition of no condition.
    """

    def __init__(self, inner: Denoiser, scale: float, null: Condition = None) -> None:
        super().__init__(inner.network, inner.sigma_data, inner.boundary)
        self.pure = getattr(inner, "pure", False)
        self.guide = guided(inner, scale, null) if scale != 1 else inner.forward

    def forward(self, x: Noisy, sigma: Tensor, labels: Condition = None) -> Noisy:
        """D_∅ + w (D_y - D_∅)."""
        return self.guide(x, sigma, labels)


@dataclass(frozen=True, kw_only=True)
class DMD2(Student):
    """A sampler of few calls whose samples have the teacher's distribution at every noise level.

    Yin, Gharbi, Park, Zhang, Shechtman, Durand and Freeman, NeurIPS 2024, arXiv:2405.14867. Prefer it where precision
    counts, or where text guides the teacher.
    """

    batch: Annotated[int, Range(1)] = 128
    """Batch size: samples per step."""
    lr: Annotated[float, Range(0)] = 2e-4
    """Step size (learning rate)."""
    optimizer: Literal["adam", "adamw", "radam"] = "adamw"
    """Optimiser: Adam, AdamW or RAdam, in one fused call for all parameters where PyTorch has one."""
    weight_decay: Annotated[float, Range(0)] = 0.01
    """Weight decay."""
    clip_norm: Annotated[float, Range(0)] | None = 10.0
    """Norm to which a longer gradient of all that is learned is cut. none: no limit."""
    critic_steps: Annotated[int, Range(1)] = 5
    """Updates of the critic for each of the student, K. Use 5, and 10 for Stable Diffusion 1.5; with 1 the student
    collapses unless it also learns pairs."""
    gan_weight: Annotated[float, Range(0)] = 0.0
    """Weight λ_G of the GAN term in the student's loss. 0: no discriminator, and no real sample is used."""
    guidance: Annotated[float, Range(0)] = 1.0
    """Scale w of the teacher's classifier-free guidance, D_∅ + w (D_y - D_∅). 1: none. The critic is never guided."""
    warm_start: Annotated[int, Range(0)] | None = None
    """Steps at the beginning in which the student learns pairs alone, as pairs does. Default: a fifth of the steps, at
    most 2,000; the paper has none."""
    level_range: tuple[float, float] = (0.02, 0.98)
    """Shares of the grid of 1,000 levels between which student and teacher are matched, from the least noise on."""
    first_level: Annotated[int, Range(1, FINE)] = FINE
    """Number, from the least noise on, of the level of the grid of 1,000 at which sampling begins. Smaller than 1,000
    where a student of one call is told less noise than it gets (400 for SDXL)."""
    critic: Critic = field(default_factory=Critic)
    """The critic."""
    adversary: Adversary = field(default_factory=Adversary)
    """The discriminator."""
    pairing: Pairing = field(default_factory=Pairing)
    """The pairs."""
    lora: Lora = field(default_factory=Lora)
    """The adapters."""

    name = "dmd2"
    usual_steps = {"points": 3000, "small": 3000, "large": 20_000}  # noqa: RUF012

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published row.

        Args:
            data: imagenet-64, imagenet-64-gan, imagenet-64-resumed, sd15, sd15-resumed, sdxl-4-step, sdxl-4-step-lora,
                sdxl-1-step, cifar10-fastgen, or imagenet-64-dmd.

        Raises:
            InputError: There is no such row.
        """
        from attar.core.presets import published

        return published(cls, data)

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from data and teacher filled in.

        Raises:
            InputError: Settings do not fit one another or the teacher.
        """
        self._check_guidance(work)
        if self.critic.against == "sample" and self.gan_weight:
            raise InputError(
                "the GAN term reads the critic's features; against sample there is none. Set gan_weight to 0."
            )
        if self.critic.critic_turns == "other" and self.critic_steps == 1:
            raise InputError(
                "critic_turns is other and critic_steps 1, so the critic never moves. Set critic_steps to 2."
            )
        low, high = self.level_range
        if not 0 <= low < high <= 1:
            raise InputError(f"level_range is {low:g} {high:g}; give two shares that rise, such as 0.02 0.98.")
        found = super().resolve(work, runtime)
        found.few_levels()
        steps = found.total_steps
        warm = min(steps // WARM_SHARE, MOST_WARM) if self.warm_start is None else self.warm_start
        if warm > steps:
            raise InputError(f"warm_start is {warm:,}, but steps in all are {steps:,}. Give fewer, or more steps.")
        if warm or self.pairing.regression_weight:
            check_ode(work.teacher, self._pair_levels(work))
        return replace(found, warm_start=warm)

    def _check_guidance(self, work: Work) -> None:
        teacher = work.teacher
        if self.guidance == 1 or teacher is None:
            return
        if work.unconditional:
            raise InputError(f"guidance is {self.guidance:g}, but {work.name} has no classes to guide by. Set it to 1.")
        if teacher.origin.settings.get("label_dropout") == 0:
            raise InputError(
                f"guidance is {self.guidance:g}, but the teacher always saw labels (label_dropout 0). Set it to 1, or "
                "train the teacher with --label-dropout 0.1."
            )

    # ----------------------------------------------------------------------------------------------------------- levels

    @property
    def grid(self) -> Levels:
        """The fine grid, descending: 1,000 levels, or those of a schedule that has fewer."""
        return self.levels.levels(min(FINE, len(self.levels.table())) if self.levels.tabled else FINE)

    def few_levels(self) -> Levels:
        """The levels of the few-step sampler."""
        grid = self.grid
        return few(grid[round((1 - self.first_level / FINE) * len(grid)) :], self.calls)

    def form(self, state: Any) -> dict[str, Any]:
        """Few steps, with fresh noise between them."""
        floor = getattr(state.kept, "boundary", None) or 0.0
        return {"solver": "few-step", "steps": self.calls, "given": tuple(self.few_levels().tolist()), "floor": floor}

    def drawn_levels(
        self, count: int, state: Matching, runtime: Runtime, low: float = 0.0, high: float = 1.0
    ) -> Tensor:
        """A level of the grid for each sample, uniformly by number between two shares of the grid."""
        most = len(state.fine)
        numbers = min(round(low * most), most - 1), min(round(high * most), most - 1) + 1
        return state.fine[torch.randint(*numbers, (count,), generator=runtime.generator("levels"))].to(runtime.device)

    # ------------------------------------------------------------------------------------------------------------ state

    def build(self, work: Work, runtime: Runtime) -> Matching:
        """Student and critic as copies of the teacher, and a fresh head if there is a GAN term."""
        teacher = self.placed(self.asked(work).thawed(), runtime).requires_grad_(False).eval()
        student, critic = self.placed(self.started(work, runtime), runtime).eval(), teacher.thawed()
        adapt(student.network, self.lora, runtime.generator("adapters"))
        student.to(runtime.device)
        head, names = None, ["critic_loss", "matching_gradient"]
        if self.gan_weight:
            head, names = self.head_of(critic, work, runtime), [*names, "logit_real", "logit_fake"]
        if self.pairing.regression_weight:
            names = [*names, "regression_loss"]
        begun = self.state_of(student, work)
        return Matching(
            **{name: getattr(begun, name) for name in ("student", "average", "optimizer", "order", "work")},
            critic=critic,
            head=head,
            critic_optimizer=self.optimizer_of(judges(critic, head)),
            pair_order=torch.zeros(self.pairing.pair_count, dtype=torch.long),
            shown={name: torch.zeros((), device=runtime.device) for name in names},
            teacher=teacher,
            fine=self.grid.flip(0),
        )

    def asked(self, work: Work) -> Denoiser:
        """The teacher's denoiser."""
        assert work.teacher is not None
        return work.teacher.denoiser

    def head_of(self, critic: Denoiser, work: Work, runtime: Runtime) -> nn.Module:
        """A fresh head for the critic's features."""
        sample = torch.zeros(1, *work.source.shape, device=runtime.device)
        with torch.no_grad():
            labels = work.conditions(1, torch.Generator(), runtime.device)
            features = critic.encoded(sample, torch.ones(1, device=runtime.device), labels)
        return head_for(features, runtime.generator("head")).to(runtime.device)

    # ------------------------------------------------------------------------------------------------------------ steps

    @property
    def warm(self) -> int:
        """Steps of the warm start."""
        return self.warm_start or 0

    def lr_at(self, done: int) -> float:
        """The step size after so many steps: of the warm start, then of the matching."""
        if done < self.warm:
            return self.pairing.pair_lr * (1 - done / self.warm)
        done, total = done - self.warm, self.total_steps - self.warm
        return self.lr_after(done, total) * linear_rise(done + 1, self.lr_warm_up * total)

    def step(self, state: Matching, runtime: Runtime) -> Metrics:
        """One step of the warm start, or one of the matching."""
        turn = self.warm_turn if state.done < self.warm else self.matching_turn
        rate = self.lr_at(state.done)
        set_lr(state.optimizer, rate)
        set_lr(state.critic_optimizer, rate)
        if state.pairs is None and (state.done < self.warm or self.pairing.regression_weight):
            # By generators of its own, so that a resumed run makes the same ones.
            state.pairs = self.made_pairs(state, runtime.with_seed(runtime.seed))
        with shared_calls(state, runtime):
            metrics = turn(state, runtime)
        state.done += 1
        return {**metrics, **self.seen(state, runtime)}

    def warm_turn(self, state: Matching, runtime: Runtime) -> Metrics:
        """The student learns a batch of pairs."""
        loss = self.regression(state, runtime)
        self.descend(loss, state.student, state.optimizer, runtime)
        self.settle(state)
        return {"loss": loss.detach()}

    def matching_turn(self, state: Matching, runtime: Runtime) -> Metrics:
        """The student moves, if it is its turn, and then the critic, on the same samples."""
        if state.done == self.warm:
            state.optimizer.state.clear()
        moves = self.critic.against == "sample" or (state.done - self.warm) % self.critic_steps == 0
        labels = self.condition(state, runtime, self.batch)
        x, sigma = self.student_input(state, labels, runtime)
        with torch.set_grad_enabled(moves):
            samples = state.student(x, sigma, labels)
        shown: dict[str, Tensor] = {}
        if moves:
            shown |= self.student_turn(samples, labels, state, runtime)
        if self.critic.against == "critic" and not (moves and self.critic.critic_turns == "other"):
            shown |= self.critic_turn(samples.detach(), labels, state, runtime)
        state.shown.update({name: value.detach().to(runtime.device).float() for name, value in shown.items()})
        leading = "matching_gradient" if self.critic.against == "sample" else "critic_loss"
        return {"loss": state.shown[leading], **state.shown}

    def student_input(self, state: Matching, labels: Condition, runtime: Runtime) -> tuple[Samples, Tensor]:
        """What the student is given, at a level that all samples share: noise, or its own samples with noise."""
        levels = self.few_levels()
        index = int(torch.randint(len(levels), (), generator=runtime.generator("simulation")))
        shape = torch.empty(self.batch, *state.work.source.shape, device=runtime.device)
        draw = noise_from(runtime.generator("simulation"), shape)
        return simulated(state.student, draw(), levels, index, labels, start=draw() if index else None, draw=draw)

    def student_turn(self, samples: Samples, labels: Condition, state: Matching, runtime: Runtime) -> dict[str, Tensor]:
        """L_G = L_DM + λ_G L_adv + λ_reg L_reg, with critic and head frozen."""
        judging = judges(state.critic, state.head).requires_grad_(False)
        gradient = self.gradient(samples.detach(), labels, state, runtime)
        loss, shown = surrogate_loss(samples, gradient), {"matching_gradient": gradient.square().mean().sqrt()}
        if state.head is not None:
            loss = loss + self.gan_weight * generator_loss(self.judged(samples, labels, state, runtime))
        if self.pairing.regression_weight:
            shown["regression_loss"] = self.regression(state, runtime)
            loss = loss + self.pairing.regression_weight * shown["regression_loss"]
        self.descend(loss, state.student, state.optimizer, runtime)
        state.optimizer.zero_grad(set_to_none=True)
        judging.requires_grad_(True)
        state.moved += 1
        self.settle(state)
        return shown

    @torch.no_grad()
    def gradient(self, samples: Samples, labels: Condition, state: Matching, runtime: Runtime) -> Samples:
        """The matching gradient at a fresh level and noise for each sample."""
        sigma = self.drawn_levels(len(samples), state, runtime, *self.level_range).to(samples)
        noisy = samples + broadcast(sigma, samples) * self.noise(samples, runtime)
        fake = samples if self.critic.against == "sample" else state.critic(noisy, sigma, labels)
        teacher = guided(state.teacher, self.guidance, state.work.null)
        return matching_gradient(samples, teacher(noisy, sigma, labels), fake)

    def critic_turn(self, samples: Samples, labels: Condition, state: Matching, runtime: Runtime) -> dict[str, Tensor]:
        """L_critic = L_fake + λ_D L_cls, on samples without a gradient."""
        critic, sigma = state.critic, self.drawn_levels(len(samples), state, runtime).to(samples)
        noise = self.noise(samples, runtime)
        found = critic(samples + broadcast(sigma, samples) * noise, sigma, labels)
        loss = critic_loss(found, samples, sigma, critic.sigma_data, self.critic.critic_weighting)
        shown = {"critic_loss": loss}
        if state.head is not None:
            batch = self.drawn(state, runtime)
            shown["logit_real"] = real = self.judged(batch.clean, batch.labels, state, runtime)
            again = (sigma, noise) if self.adversary.discriminator_noise == "shared" else None
            shown["logit_fake"] = fake = self.judged(samples, labels, state, runtime, again)
            loss = loss + self.adversary.discriminator_weight * discriminator_loss(real, fake)
        self.descend(loss, judges(critic, state.head), state.critic_optimizer, runtime)
        state.critic_optimizer.zero_grad(set_to_none=True)
        state.judged += 1
        return {name: value.detach().mean() for name, value in shown.items()}

    def drawn(self, state: Any, runtime: Runtime) -> Batch:
        """The real samples of the critic's next turn."""
        return super().drawn(replace(state, done=state.judged), runtime)

    def judged(
        self,
        samples: Samples,
        labels: Condition,
        state: Matching,
        runtime: Runtime,
        again: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The discriminator's logits of samples, at a level and noise that are drawn or given."""
        assert state.head is not None
        if again is None:
            again = self.drawn_levels(len(samples), state, runtime).to(samples), self.noise(samples, runtime)
        return logits(state.critic, state.head, samples, *again, labels)

    # ------------------------------------------------------------------------------------------------------------ pairs

    def regression(self, state: Matching, runtime: Runtime) -> Tensor:
        """Mean squared distance of the student's samples from the teacher's of the same noise.

        A few-step student learns its later levels from the teacher's samples under noise.
        """
        noise, target, labels = state.pairs
        rows = next_rows(state.pair_order, state.paired, self.batch, runtime.generator("order of pairs"))
        state.paired += 1
        noise, target = noise[rows].to(runtime.device), target[rows].to(runtime.device)
        labels = None if labels is None else labels[rows].to(runtime.device)
        levels = self.few_levels().to(noise)
        index = torch.randint(len(levels), (len(rows),), generator=runtime.generator("levels")).to(runtime.device)
        sigma = levels[index]
        later = target + broadcast(sigma, target) * self.noise(target, runtime)
        x = torch.where(broadcast(index == 0, target), begun(state.student, noise, levels[0]), later)
        return (state.student(x, sigma, labels).float() - target).square().mean()

    def made_pairs(self, state: Matching, runtime: Runtime) -> tuple[Samples, Samples, Condition]:
        """Noise, the guided teacher's samples from it, and their labels."""
        how, work = self.pairing, state.work
        assert work.teacher is not None
        exact = copy.copy(state.teacher)
        exact.multiplies = None
        guide = Guided(exact, self.guidance, work.null)
        with divided(runtime.processes, guide):
            return teacher_pairs(
                replace(work.teacher, denoiser=guide),
                how.pair_count,
                levels=self._pair_levels(work),
                labels=work.conditions(how.pair_count, runtime.generator("labels"), runtime.device),
                generator=runtime.generator("noise"),
                device=runtime.device,
            )

    def _pair_levels(self, work: Work) -> int | None:
        few_steps = work.teacher is not None and work.teacher.solver == "few-step"
        return None if few_steps else self.pairing.pair_levels


def judges(critic: Denoiser, head: nn.Module | None) -> nn.Module:
    """What learns in the critic's turn, as one module."""
    return nn.ModuleList([critic] if head is None else [critic, head])
