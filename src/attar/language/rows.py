"""A loss of some rows of logits, a few rows at a time, with its gradient.

Each job takes its rows in float32, computes its value and gradient, and is forgotten: nothing of size (tokens ×
vocabulary) is kept beside the logits and the one gradient in them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError

Rows = Float[Tensor, "row word"]
Scalar = Float[Tensor, ""]


@dataclass(frozen=True)
class Job:
    """A part of a loss that needs some rows of the student's logits."""

    rows: Int[Tensor, " row"]
    value: Callable[[Rows], Scalar]
    """From these rows, in float32, to a sum."""
    weight: float
    term: int
    """The number of the term that it belongs to."""


def by_jobs(
    student: Float[Tensor, "row word"], jobs: Iterable[Job], terms: int
) -> tuple[Scalar, Float[Tensor, " term"]]:
    """The weighed sum of all jobs, differentiable in the student's logits, and the sum of each term without weights.

    Args:
        student: Logits in any precision; the gradient has theirs. A row may be in several jobs.
        jobs: The jobs, made when they are needed.
        terms: Number of terms.

    Raises:
        InputError: A value is not a number.
    """
    loss, sums = _ByJobs.apply(student, jobs, terms)
    if bool(sums.isnan().any()):
        who = "teacher" if bool(student.detach().float().logsumexp(dim=1).isfinite().all()) else "student"
        raise InputError(f"the {who}'s logits hold NaN or infinity. Check the {who} or its precision.")
    return loss, sums


class _ByJobs(torch.autograd.Function):
    """Value and gradient in one pass over the jobs."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, jobs: Iterable[Job], terms: int) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        exact = torch.float64 if student.dtype == torch.float64 else torch.float32
        gradient = torch.zeros_like(student) if wanted else None
        sums = torch.zeros(terms, dtype=exact, device=student.device)
        loss = torch.zeros((), dtype=exact, device=student.device)
        for job in jobs:
            rows = student[job.rows].to(exact)
            with torch.set_grad_enabled(wanted):
                value = job.value(rows.requires_grad_(wanted))
            if gradient is not None and value.requires_grad:
                (slope,) = torch.autograd.grad(value, rows)
                gradient.index_add_(0, job.rows, slope.mul_(job.weight).to(gradient.dtype))
            value = value.detach()
            sums[job.term] += value
            loss += job.weight * value
        ctx.gradient = gradient
        ctx.mark_non_differentiable(sums)
        return loss, sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None  # the one buffer is handed on, not copied
        assert gradient is not None, "this loss goes backward once"
        return gradient.mul_(by_loss), None, None
