"""Settings for a teacher and a student of different tokenizers: how their probabilities are compared on one text.

Four answers of the field, each a value of `align_by`:

- `uld`: positions of the answer one by one, probabilities sorted. Boizard, El Haddad, Hudelot and Colombo, Towards
  Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs, TMLR 2025, arXiv:2402.12030.
- `spans`: spans of the text whose ends both tokenizations share, with merged probabilities; tokens of the same text are
  compared one to one, the others sorted. Patiño et al., Unlocking On-Policy Distillation for Any Model Family
  (GOLD), Hugging Face 2025.
- `likelihood`: the likelihoods of those spans. Minixhofer, Vulić and Ponti, Universal Cross-Tokenizer Distillation via
  Approximate Likelihood Matching, NeurIPS 2025, arXiv:2503.20083.
- `none`: one tokenizer for both.

`uld.py` and `aligned.py` have the losses, `offsets.py` the spans, `crossing.py` the teacher's own tokens.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from attar.core.errors import InputError
from attar.core.settings import Range, Settings


@dataclass(frozen=True, kw_only=True)
class Alignment(Settings):
    """Settings for a teacher and a student of different tokenizers."""

    align_by: Literal["none", "uld", "spans", "likelihood"] = "none"
    """How a teacher with another tokenizer is compared. none: both have one tokenizer. uld: position by position, by
    sorted probabilities. spans: by spans of text that both tokenizers share. likelihood: by the likelihoods of such
    spans."""
    span_words: Literal["hybrid", "sorted"] = "hybrid"
    """How distributions of spans are compared. hybrid: tokens of the same text one to one by --divergence, the others
    sorted. sorted: all sorted."""
    span_merge: Literal["first", "last"] = "first"
    """The distribution of a span of several tokens: that of its first token, times the probabilities of the later ones,
    or that of its last token, times those of the earlier ones."""
    hybrid_weight: Literal["mass", "count"] = "mass"
    """Weight of the tokens that are compared one to one. mass: the teacher's probability of them. count: their share of
    the teacher's vocabulary, as in GOLD; the others then have the rest."""
    likelihood_temperature: Annotated[float, Range(1)] = 100.0
    """Temperature τ of the likelihoods of spans, which become p^(1/τ)."""

    @property
    def aligns(self) -> bool:
        """Whether teacher and student read their own tokens."""
        return self.align_by != "none"


def check_alignment(method: Any) -> None:
    """Check that a method with an alignment asks for nothing that needs one vocabulary.

    Args:
        method: A `DistillLanguage`.

    Raises:
        InputError: It does.
    """
    align_by, divergence = method.alignment.align_by, method.objective.divergence
    if not method.alignment.aligns:
        return
    needs = {
        "--divergence policy": divergence == "policy",
        f"--teacher-clip {method.clipping.teacher_clip}": method.clipping.teacher_clip != "none",
        "--span-weight": method.spans.span_weight > 0,
        "--corrections": method.correction.corrections > 0,
    }
    for flag, given in needs.items():
        if given:
            raise InputError(
                f"{flag} compares token by token, so it needs one tokenizer and does not go with --align-by "
                f"{align_by}. Leave one of them out."
            )
    if method.memory.packing:
        raise InputError(f"--packing does not work with --align-by {align_by}. Leave out one of them.")
    if align_by == "uld" and divergence not in ("none", "forward"):
        raise InputError(
            f"--divergence {divergence} has no effect with --align-by uld, which compares sorted probabilities. Leave "
            "it out, or give --align-by spans."
        )


def check_stored(alignment: Alignment) -> None:
    """Check that stored answers are not asked to serve a student of another tokenizer.

    Raises:
        InputError: They are.
    """
    if alignment.aligns:
        raise InputError(
            f"--align-by {alignment.align_by} needs the teacher itself, in whose tokens its answers are stored. Give "
            "--teacher, and leave out --stored-answers."
        )
