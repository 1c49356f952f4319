"""A teacher's distributions as a store recalls them: K tokens with their probabilities, and the mass of all others.

What is known of the others is their mass alone. `lump` takes them as one token: D is the divergence of the two lumped
distributions, exactly. It is computed as that of two whole ones, in which the teacher gives the rest's mass to the
other tokens as the student does. Each divergence here is Σ q f(p / q), whose value and slope are those of the lumped
one where p / q is the same for all tokens of the lump. `spread` gives each of them an equal share. `drop` leaves them
out, as --teacher-clip top-k does.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.settings import Settings

Rest = Literal["lump", "spread", "drop"]


@dataclass(frozen=True, kw_only=True)
class Recall(Settings):
    """Settings of the use of a teacher's stored answers."""

    rest: Rest = "lump"
    """Use of the probability of tokens that stored answers do not name. lump: they count as one token, exactly. spread:
    each gets an equal share. drop: they are left out."""


@dataclass(frozen=True)
class Recalled:
    """Stored distributions of the counted tokens of a batch."""

    kept: Float[Tensor, "place kept"]
    """log p of the tokens that are named."""
    tokens: Int[Tensor, "place kept"] | None
    """Their numbers; None: all, in order."""
    rest: Float[Tensor, "place 1"] | None
    """log of the mass of the others; None where there are none."""
    how: Rest = "lump"

    def __len__(self) -> int:
        return len(self.kept)

    def to(self, device: torch.device) -> "Recalled":
        """The same on another device."""
        tokens, rest = (None if one is None else one.to(device) for one in (self.tokens, self.rest))
        return Recalled(self.kept.to(device), tokens, rest, self.how)

    def log_p(
        self, log_q: Float[Tensor, "place word"], some: slice, temperature: float = 1.0
    ) -> Float[Tensor, "place word"]:
        """The teacher's log-probabilities at some places, as they are compared with the student's.

        Args:
            log_q: The student's there, at the temperature.
            some: Which places.
            temperature: Divides the logits. With `lump` it must be 1, since the rest's mass is known there only.
        """
        kept = self.kept[some].to(log_q.dtype)
        if self.tokens is None or self.rest is None:
            return torch.log_softmax(kept / temperature, dim=1)
        tokens, rest = self.tokens[some], self.rest[some].to(log_q.dtype)
        if self.how == "drop":
            found = torch.full_like(log_q, -math.inf)
            return found.scatter_(1, tokens, torch.log_softmax(kept / temperature, dim=1))
        if self.how == "spread":
            even = (rest - math.log(log_q.shape[1] - kept.shape[1])) / temperature
            found = even.expand_as(log_q).scatter(1, tokens, kept / temperature)
            return torch.log_softmax(found, dim=1)
        assert temperature == 1, "the mass of a lump is known at temperature 1 only"
        others = log_q.scatter(1, tokens, -math.inf).logsumexp(dim=1, keepdim=True)
        return (log_q + (rest - others)).scatter_(1, tokens, kept)


def check_recall(method: Any, pair: Any) -> None:
    """Check that what a method asks of its teacher can be told from stored answers.

    Args:
        method: A `DistillLanguage`.
        pair: A `LanguagePair` with stored answers.

    Raises:
        InputError: Another divergence, temperature, clip or schedule is asked for than they can serve.
    """
    stored, objective, rest = pair.stored, method.objective, method.recall.rest
    compares = objective.divergence not in ("none", "policy") and objective.teacher_weight > 0
    if not compares and not method.spans.span_weight:
        raise InputError(
            f"--divergence {objective.divergence} with --teacher-weight {objective.teacher_weight:g} uses no stored "
            "answers. Leave out --stored-answers, or choose others."
        )
    if method.memory.packing:
        raise InputError("--packing does not work with --stored-answers. Leave out one of them.")
    by = method.schedule.answers_by
    if pair.teacher is None and by != "off-policy":
        raise InputError(
            f"--answers-by {by} needs the teacher's word on other answers than the references, and that is not stored. "
            "Give the teacher as well (--teacher), or --answers-by off-policy."
        )
    if by == "teacher" or (by == "on-policy" and method.schedule.share == 1):
        share = "" if by == "teacher" else " with --student-share 1"
        raise InputError(
            f"--answers-by {by}{share} never compares on the references, so it uses no stored answers. Leave out "
            "--stored-answers, or choose another --answers-by."
        )
    if method.clipping.teacher_clip != "none":
        raise InputError(
            f"--teacher-clip {method.clipping.teacher_clip} works on the teacher's whole distribution. With "
            "--stored-answers choose the tokens by --top when they are stored, and use --rest drop."
        )
    if stored.whole:
        return
    if rest == "drop" and objective.divergence not in ("forward", "none"):
        raise InputError(
            f"--rest drop needs --divergence forward, not {objective.divergence}. Others are infinite at tokens that "
            "are left out. Use --rest lump."
        )
    if rest == "lump" and objective.temperature != 1:
        raise InputError(
            f"--temperature {objective.temperature:g} changes the mass of the tokens that are not stored, which is "
            "known at 1 only. Use --rest spread or drop, or store all tokens (attar label --top)."
        )
    if method.spans.span_weight and rest != "spread":
        raise InputError(
            f"--span-weight needs every token's probability, but {stored.top} of {stored.words} are stored. Use --rest "
            "spread, or store all tokens (attar label --top)."
        )
