"""SCRG: replace the worst token of the student's answer by the teacher's token, and continue from there.

For an answer y to a prompt x with the student's distributions q_i and the teacher's p_i on the same prefixes,

    d_i = KL(p_i ‖ q_i),    j = argmax d_i over i with y_i ≠ t_i,    t_i = argmax_v p_i(v),

and y' = [y_<j, t_j], continued by the student. An answer does not change if every token is the teacher's choice, or if
d_i = 0 for all other tokens. The direction of d_i and the greedy t_i are our choices. So is the rule that the next
error
may lie anywhere.
Liu et al., Multi-Granularity Semantic Revision for Large Language Model Distillation, arXiv:2407.10068.

The prefix is read again for the second half, in one pass. Keeping its cache would save only that pass, not the tokens
that are generated one by one (bench/language.py measures it).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.settings import Range, Settings
from attar.language.generation import Voice, answering, generate
from attar.language.losses import Places, compared
from attar.language.tokens import Batch

KEEP = -1
"""Place of the error in an answer that has none."""

Contexts = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Correction(Settings):
    """Settings of the corrections of the student's answers."""

    corrections: Annotated[int, Range(0)] = 0
    """Number F of corrections of each answer: each replaces the worst token, and the student continues from there. 1
    follows the paper; 0 turns it off."""
    correct_with: Literal["choice", "sample"] = "choice"
    """Token that replaces the error: the teacher's most probable one (choice), or one sampled from the teacher."""


def error_places(
    divergence: Float[Tensor, " place"],
    said: Int[Tensor, " place"],
    choice: Int[Tensor, " place"],
    answer: Int[Tensor, " place"],
    answers: int,
) -> Int[Tensor, " answer"]:
    """The place of each answer's error: the largest divergence above 0 among tokens that differ from the teacher's.

    Args:
        divergence: d_i.
        said: y_i.
        choice: t_i.
        answer: The number of the answer that a place belongs to, rising.
        answers: Number of answers.

    Returns:
        The number of the place among all places; `KEEP` if an answer has no such token. The first of equal places is
            taken.
    """
    apart = torch.where(said != choice, divergence, -torch.inf)
    worst = torch.full((answers,), -torch.inf, device=apart.device, dtype=apart.dtype)
    worst.scatter_reduce_(0, answer, apart, "amax")
    is_worst = (apart == worst[answer]) & (apart > 0)
    number = torch.arange(len(apart), device=apart.device)
    first = torch.full((answers,), len(apart), device=apart.device)
    first.scatter_reduce_(0, answer, torch.where(is_worst, number, len(apart)), "amin")
    return torch.where(first == len(apart), KEEP, first)


@torch.no_grad()
def correct(
    voice: Voice,
    teacher: nn.Module,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    limits: Sequence[int],
    correction: Correction,
    generator: torch.Generator,
    *,
    context: Contexts = nullcontext,
) -> tuple[list[list[int]], list[bool]]:
    """The student's answers, corrected and continued as often as the settings say.

    Args:
        voice: The student.
        teacher: A model of the same vocabulary.
        prompts: Tokens.
        answers: The student's answers, with their end token if they have one.
        limits: Largest number of tokens of each answer.
        correction: The settings.
        generator: Draws the new tokens.
        context: The precision of passes without a gradient.

    Returns:
        The answers, and which of them were changed.
    """
    current = [list(answer) for answer in answers]
    changed = [False] * len(current)
    for _ in range(correction.corrections):
        begun = _begun_anew(voice, teacher, prompts, current, correction, generator, context)
        going_on = [row for row, answer in enumerate(begun) if answer and not voice.ends(answer)]
        rest = [limits[row] - len(begun[row] or []) for row in going_on]
        with context():
            said = generate(voice, [[*prompts[row], *(begun[row] or [])] for row in going_on], rest, generator)
        for row, answer in enumerate(begun):
            if answer:
                current[row], changed[row] = answer, True
        for row, more in zip(going_on, said, strict=True):
            current[row] += more
    return current, changed


def _begun_anew(
    voice: Voice,
    teacher: nn.Module,
    prompts: Sequence[Sequence[int]],
    answers: list[list[int]],
    correction: Correction,
    generator: torch.Generator,
    context: Contexts,
) -> list[list[int] | None]:
    """Each answer up to its error, followed by the teacher's token; None for an answer without an error."""
    batch = Batch.of(prompts, answers).to(next(voice.model.parameters()).device)
    places = Places.of(batch.labels)
    with answering(voice.model, teacher), context():
        one, other = (model(**batch.inputs).logits for model in (voice.model, teacher))
    draw = generator if correction.correct_with == "sample" else None
    found = compared(one, other, places, words=voice.words, draw=draw)
    answer = places.rows // batch.ids.shape[1]
    errors = error_places(found.divergence, places.targets, found.choice, answer, len(batch)).tolist()
    column = (places.rows % batch.ids.shape[1] + 1 - batch.prompts[answer]).tolist()
    choice = found.choice.tolist()
    return [None if at == KEEP else [*answers[row][: column[at]], choice[at]] for row, at in enumerate(errors)]
