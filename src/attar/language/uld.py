"""ULD: universal logit distillation, for a teacher and a student of any two vocabularies.

With the probabilities of either model sorted, the larger first, and the shorter list padded with zeros,

    L = mean over positions t of Σ_i |p_(i)(t) - q_(i)(t)|,

which is the Wasserstein-1 distance where moving probability from any token to any other one costs the same. Positions
are those of the answer, one by one from its start up to the shorter of both tokenizations, wherever in the text they
are. Which token is likely plays no part, only how likely the first, the second, ... is. The paper sums over positions
and adds the labels' cross-entropy; its weight is 1.5. Here it is a mean, as all divergences are.

Boizard, El Haddad, Hudelot and Colombo, Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for
LLMs, TMLR 2025, arXiv:2402.12030.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.language.losses import Labels, Logits, Places, TeacherLogits, tokens_at_once
from attar.language.rows import Job, by_jobs

TeacherLabels = Int[Tensor, "teacher_sequence teacher_token"]
Scalar = Float[Tensor, ""]


def sorted_distance(p: Float[Tensor, "token teacher_word"], q: Float[Tensor, "token word"]) -> Float[Tensor, " token"]:
    """Σ_i |p_(i) - q_(i)| of each token, between 0 and 2 for probabilities.

    Args:
        p: Probabilities, which need not add up to 1.
        q: Probabilities over other words, perhaps of another number.
    """
    widest = max(p.shape[1], q.shape[1])
    one, other = (
        torch.cat([x.sort(dim=1, descending=True).values, x.new_zeros(len(x), widest - x.shape[1])], dim=1)
        for x in (p, q)
    )
    return (one - other).abs().sum(dim=1)


def uld_loss(
    student: Logits,
    teacher: TeacherLogits,
    labels: Labels,
    teacher_labels: TeacherLabels,
    *,
    temperature: float = 1.0,
    words: int | None = None,
    teacher_words: int | None = None,
) -> Scalar:
    """The mean sorted distance over the positions that both answers have; differentiable in the student's logits.

    Sorts a few positions at a time, in float32 whatever the logits are.

    Args:
        student: Logits of a causal model: those in column i predict the label in column i + 1.
        teacher: Logits of the teacher for its own tokens of the same texts, row by row.
        labels: The student's tokens; -100 for tokens that are no part of the answer.
        teacher_labels: The teacher's.
        temperature: Divides both models' logits.
        words: Size of the student's vocabulary, if logits beyond it are padding.
        teacher_words: Size of the teacher's vocabulary.

    Raises:
        InputError: The two have different numbers of rows, no position is in both, or logits are not finite.
    """
    rows, others = paired_places(labels, teacher_labels)
    if not len(rows):
        raise InputError("no answer has a token for both models, so nothing is compared. Check the labels.")
    mine, theirs = words or student.shape[-1], teacher_words or teacher.shape[-1]
    flat, other = student.reshape(-1, student.shape[-1]), teacher.detach().reshape(-1, teacher.shape[-1])
    size = tokens_at_once(student.device, max(mine, theirs))

    def job(some: Tensor, their: Tensor) -> Job:
        def value(logits: Tensor) -> Tensor:
            p = (other[their, :theirs].to(logits.dtype) / temperature).softmax(dim=1)
            return sorted_distance(p, (logits[:, :mine] / temperature).softmax(dim=1)).sum()

        return Job(some, value, 1 / len(rows), 0)

    jobs = (job(some, their) for some, their in zip(rows.split(size), others.split(size), strict=True))
    return by_jobs(flat, jobs, 1)[0]


def paired_places(labels: Labels, teacher_labels: TeacherLabels) -> tuple[Tensor, Tensor]:
    """The rows of both models' logits that predict the first, the second, ... token of each answer.

    Raises:
        InputError: The two have different numbers of rows.
    """
    if len(labels) != len(teacher_labels):
        raise InputError(f"the student has {len(labels)} rows, the teacher {len(teacher_labels)}. Give the same texts.")
    mine, theirs = ([p.rows for p in map(Places.of, x.split(1))] for x in (labels, teacher_labels))
    found = []
    for row, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        count = min(len(one), len(other))
        found.append((one[:count] + row * labels.shape[1], other[:count] + row * teacher_labels.shape[1]))
    rows, others = zip(*found, strict=True) if found else ((labels.new_zeros(0),), (labels.new_zeros(0),))
    return torch.cat(rows), torch.cat(others)


class UniversalLogitLoss(nn.Module):
    """`uld_loss` as a module.

    Args:
        temperature: Divides both models' logits.
        words: Size of the student's vocabulary, if logits beyond it are padding.
        teacher_words: Size of the teacher's vocabulary.
    """

    def __init__(self, temperature: float = 1.0, *, words: int | None = None, teacher_words: int | None = None) -> None:
        super().__init__()
        self.temperature, self.words, self.teacher_words = temperature, words, teacher_words

    def forward(self, student: Logits, teacher: TeacherLogits, labels: Labels, teacher_labels: TeacherLabels) -> Scalar:
        """The mean sorted distance."""
        return uld_loss(
            student,
            teacher,
            labels,
            teacher_labels,
            temperature=self.temperature,
            words=self.words,
            teacher_words=self.teacher_words,
        )
