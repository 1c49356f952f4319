"""Measures of a language model, which should be read together.

Cross-entropy on the references measures prediction. ROUGE-L measures how near the model's own answers come to the
references; it rewards form and length, so the length ratio and the repetition are reported with it. The excess error
measures how much further the model is from its teacher on its own answers than on the teacher's:

    ExAccErr(n) = 100 (E_n - e_n) / e_n,   E_n = Σ_{i≤n} KL(p ‖ q) on its own prefixes, e_n the same on the teacher's

(Arora et al., Why Exposure Bias Matters, Findings of ACL 2022, arXiv:2204.01171.)
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.score import Score
from attar.language.correction import Contexts
from attar.language.generation import Voice, answering, generate
from attar.language.losses import Places, compared, log_probabilities
from attar.language.models import device_of
from attar.language.rouge import Stem, rouge_l
from attar.language.tokens import Batch, Tokens

AT = 15
"""Number of tokens after which the excess error is read, as in MiniLLM's code."""
GRAM = 4
"""Number of words in a run that counts as a repetition if it occurs again."""
TOGETHER = 16
"""Number of sequences in one pass."""


@dataclass(frozen=True)
class Measures:
    """The measures of one model."""

    cross_entropy: Score
    """Nats per token of the references."""
    rouge_l: Score | None = None
    """F-measure × 100, the best over a prompt's references; mean over answers, and over seeds."""
    length_ratio: Score | None = None
    """Words of the answers over words of the (first) references."""
    repetition: Score | None = None
    """Per cent of four-word runs that occurred before in the same answer."""
    excess_error: Score | None = None
    """ExAccErr in per cent; needs a teacher."""
    rounds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The same measures for each round of answers, by name."""

    @property
    def perplexity(self) -> float:
        """The exponential of the cross-entropy; infinite where it has no number."""
        try:
            return math.exp(self.cross_entropy.value)
        except OverflowError:
            return math.inf

    def to_json(self) -> dict[str, float]:
        """The means by name, without those that are not finite."""
        known = {"cross_entropy": self.cross_entropy.value, "perplexity": self.perplexity}
        found = {name: value for name, value in known.items() if math.isfinite(value)}
        for name in ("rouge_l", "length_ratio", "repetition", "excess_error"):
            score = getattr(self, name)
            if score is not None and math.isfinite(score.value):
                found[name] = score.value
        return found

    def __str__(self) -> str:
        lines = [f"cross-entropy {self.cross_entropy} per token, perplexity {self.perplexity:.2f}"]
        if self.rouge_l is not None and self.length_ratio is not None and self.repetition is not None:
            lines.append(
                f"ROUGE-L {self.rouge_l}; length {self.length_ratio.number} of the references'; "
                f"{self.repetition} repeated"
            )
        if self.excess_error is not None:
            lines.append(f"excess error on its own answers {self.excess_error}")
        return "\n".join(lines)


@torch.no_grad()
def cross_entropy(
    model: nn.Module, tokens: Tokens, rows: Sequence[int], words: int, *, context: Contexts = nullcontext
) -> float:
    """Mean negative log-probability of the references' tokens, in nats.

    Raises:
        InputError: The model's logits are not numbers.
    """
    total, count = 0.0, 0
    device = device_of(model)
    with answering(model):
        for start in range(0, len(rows), TOGETHER):
            batch = tokens.batch(rows[start : start + TOGETHER]).to(device)
            places = Places.of(batch.labels)
            with context():
                logits = model(**batch.inputs).logits
            total -= float(log_probabilities(logits, places, words=words).cpu().double().sum())
            count += len(places)
    if not count:
        raise InputError("there is no token to measure the cross-entropy on: every response is empty.")
    if math.isnan(total):
        raise InputError("the logits of the model hold NaN. Check the model or its precision.")
    return total / count


def repetition(text: str, gram: int = GRAM) -> float:
    """The share of runs of `gram` words that occurred before in the text; 0 for a text without runs."""
    words = text.split()
    runs = [tuple(words[start : start + gram]) for start in range(len(words) - gram + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def excess_error(own: Float[Tensor, " own"], led: Float[Tensor, " led"]) -> Float[Tensor, " step"]:
    """ExAccErr after each token, in per cent. For nearly equal models e_n is replaced by a millionth.

    Args:
        own: Mean KL(p ‖ q) by position, on the student's answers.
        led: Mean KL(p ‖ q) by position, on the teacher's answers.
    """
    steps = min(len(own), len(led))
    wrong, right = own[:steps].cumsum(dim=0), led[:steps].cumsum(dim=0)
    return 100 * (wrong - right) / right.clamp(min=1e-6)


@torch.no_grad()
def divergence_by_position(
    student: Voice,
    teacher: nn.Module,
    prompts: list[list[int]],
    answers: list[list[int]],
    *,
    context: Contexts = nullcontext,
) -> Float[Tensor, " position"]:
    """Mean KL(p ‖ q) at the first, second, ... token of answers, over the answers that are long enough."""
    device = next(student.model.parameters()).device
    longest = max(map(len, answers))
    total, count = torch.zeros(longest), torch.zeros(longest)
    for start in range(0, len(prompts), TOGETHER):
        batch = Batch.of(prompts[start : start + TOGETHER], answers[start : start + TOGETHER]).to(device)
        places = Places.of(batch.labels)
        with answering(student.model, teacher), context():
            one, other = (m(**batch.inputs).logits for m in (student.model, teacher))
        found = compared(one, other, places, words=student.words).divergence.float().cpu()
        row, column = places.rows // batch.ids.shape[1], places.rows % batch.ids.shape[1] + 1
        position = (column - batch.prompts[row]).cpu()
        total.index_add_(0, position, found)
        count.index_add_(0, position, torch.ones_like(found))
    return total / count


def measured(
    voice: Voice,
    tokens: Tokens,
    rows: Sequence[int],
    *,
    answers: int,
    seeds: Sequence[int] = (10,),
    teacher: nn.Module | None = None,
    stem: Stem | None = None,
    at: int = AT,
    context: Contexts = nullcontext,
) -> Measures:
    """Measure a model on some rows.

    Args:
        voice: The model and its sampling.
        tokens: The rows.
        rows: Rows on which the cross-entropy is measured.
        answers: Number of those rows that the model answers; 0 for none. References are cut to the length of an answer.
        seeds: Seeds; one round of answers for each.
        teacher: A model for the excess error.
        stem: Stemmer for ROUGE-L.
        at: Number of tokens after which the excess error is read.
        context: The precision of passes without a gradient.
    """
    entropy = cross_entropy(voice.model, tokens, rows, voice.words, context=context)
    found = Measures(Score(entropy, "nats", "lower"))
    asked = list(rows[:answers])
    if not asked:
        return found
    batch, by = tokens.batch(asked), tokens.by
    prompts, tokenizer = batch.prompt_ids, by.tokenizer
    limits = [max(1, by.max_length - len(prompt)) for prompt in prompts]
    if voice.sampling.new_tokens:
        limits = [min(limit, voice.sampling.new_tokens) for limit in limits]
    known = zip(tokens.references(asked), limits, strict=True)
    references = [
        [tokenizer.decode(ids[:limit], skip_special_tokens=True) for ids in several] for several, limit in known
    ]
    rouge, ratio, repeats, errors = [], [], [], []
    for seed in seeds:
        said = _said(voice, prompts, limits, seed, context)
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in said]
        rouge.append(100 * statistics.fmean(rouge_l(t, r, stem) for t, r in zip(texts, references, strict=True)))
        lengths = [sum(len(text.split()) for text in group) for group in (texts, [first for first, *_ in references])]
        ratio.append(lengths[0] / max(lengths[1], 1))
        repeats.append(100 * statistics.fmean(map(repetition, texts)))
        if teacher is not None:
            led = _said(replace(voice, model=teacher), prompts, limits, seed, context)
            own, other = (divergence_by_position(voice, teacher, prompts, x, context=context) for x in (said, led))
            curve = excess_error(own, other)
            errors.append(float(curve[min(at, len(curve) - 1)]))
    several = {"rouge_l": rouge, "length_ratio": ratio, "repetition": repeats, "excess_error": errors}
    return replace(
        found,
        rouge_l=Score.of(rouge, "×100"),
        length_ratio=Score.of(ratio, "×"),
        repetition=Score.of(repeats, "%", "lower"),
        excess_error=Score.of(errors, "%", "lower") if errors else None,
        rounds={name: tuple(values) for name, values in several.items() if values},
    )


def _said(voice: Voice, prompts: list[list[int]], limits: list[int], seed: int, context: Contexts) -> list[list[int]]:
    device: Any = device_of(voice.model)
    generator = torch.Generator(device).manual_seed(seed)
    said: list[list[int]] = []
    for start in range(0, len(prompts), TOGETHER):
        some = slice(start, start + TOGETHER)
        with context():
            said += generate(voice, prompts[some], limits[some], generator)
    return said
