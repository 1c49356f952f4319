"""Fair tables: a code that does not depend on the group, distilled into a small encoder, and decoded into rows.

Use it where a table has to be handed over and the real rows may not be. It costs accuracy: where the real rows may be
used, reweighing them or moving thresholds by group is better. Codes are independent of the group, but P(label | rest)
is that of the data, so columns that go with the group may keep a gap. There is no privacy guarantee: codes are of real
rows.
Sikder, Ramachandranpillai, de Leng and Heintz, Generating Synthetic Fair Syntax-agnostic Data by Learning and
Distilling Fair Representation, 2024, arXiv:2408.10755. No code is released; teacher and settings are those of FairDisCo
(Liu et al., KDD 2022) and FLDGM (Ramachandranpillai et al., ECAI 2023), on which it builds.
"""

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.errors import InputError, unknown
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Hidden, Range
from attar.core.state import rebuilt
from attar.core.training import linear_rise, next_rows
from attar.tables import student as students
from attar.tables import teacher as teachers
from attar.tables.artefact import Origin, SyntheticTable
from attar.tables.condensation import TableMethod
from attar.tables.decoding import Decoding, FairGenerator
from attar.tables.dependence import Codes, Groups, dependence, permuted_dependence
from attar.tables.design import design
from attar.tables.discrete import Coded, Coding, Cutting
from attar.tables.leakage import auc_from, forgot
from attar.tables.sources import Rows, TableSource
from attar.tables.student import FairStudent, Student
from attar.tables.teacher import Autoencoder, FairTeacher, sampled

STUDENTS = ("data", "noise", "none")
STEPS, FEWEST, MOST = 6000, 20, 1000
"""Steps of the teacher by default, and the fewest and most passes over the data that they may become."""
STORED = 50_000
"""Most codes that a generator holds; and it holds no fewer than a fifth of that, so that further tables differ."""
COMPARED = 2048
"""Rows of which V² is told at the end."""
PERMUTATIONS = 20
MANY = 20
"""Most groups. More of them are too small for V² to tell anything."""


@dataclass(frozen=True, kw_only=True)
class FairTables(TableMethod):
    """Synthetic rows from codes that are independent of the group (Sikder et al., arXiv 2024, arXiv:2408.10755).

    Teacher: L = R + KL + β V². Student: L = L_Q + λ L_U on frozen codes of the teacher. Rows are decoded from sampled
    codes by the teacher's decoder.
    """

    float64 = True  # the penalty on dependence, on the device

    fairness_weight: Annotated[float, Range(0)] = 3.0
    """Weight β of the dependence penalty. 0 is a plain autoencoder; V² without its scale needs about 1e7."""
    student: str = "data"
    """The student. data reads rows, noise reads noise, none leaves it out: the teacher's own codes are decoded."""
    decoding: Decoding = "neutral"
    """Group that the decoder is told: none of them (and the column is drawn apart), the row's own, or another row's."""
    tables: Annotated[int, Range(1)] = 10
    """Tables that are decoded. One alone says little: scores differ between tables of the same teacher."""
    cutting: Cutting = Cutting()  # noqa: RUF009
    """How numbers are coded."""
    teaching: FairTeacher = FairTeacher()  # noqa: RUF009
    """The teacher."""
    learning: FairStudent = FairStudent()  # noqa: RUF009
    """How the student learns."""
    training_rows: Annotated[int, Hidden()] = 0
    """Number of training rows. Filled in from the data."""

    name = "fair"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.student not in STUDENTS:
            raise unknown("student", self.student, STUDENTS)

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of one row of the papers' tables (`attar condense fair --paper` lists them).

        Raises:
            InputError: There is none of that data set.
        """
        return published(cls, data)

    # ------------------------------------------------------------------------------------------------------ settings

    @property
    def teacher_steps(self) -> int:
        """Steps of the teacher."""
        return (self.teaching.epochs or 0) * self._batches

    @property
    def total_steps(self) -> int:
        """Steps of teacher and student."""
        own = 0 if self.student == "none" else (self.learning.student_epochs or 0) * self._batches
        return self.teacher_steps + own

    @property
    def _batches(self) -> int:
        return math.ceil(self.training_rows / self.teaching.batch)

    def resolve(self, source: TableSource, runtime: Runtime) -> Self:
        """The same settings with the numbers of rows and epochs filled in.

        Raises:
            InputError: There is a single group or a single outcome among the training rows, or hardly any of one.
        """
        _check(source)
        found = dataclasses.replace(super().resolve(source, runtime), training_rows=len(source.train))
        epochs = self.teaching.epochs or min(max(round(STEPS / found._batches), FEWEST), MOST)
        teaching = dataclasses.replace(self.teaching, epochs=epochs)
        own = self.learning.student_epochs or math.ceil(epochs / 3)
        learning = dataclasses.replace(self.learning, student_epochs=own)
        return dataclasses.replace(found, teaching=teaching, learning=learning)

    # ----------------------------------------------------------------------------------------------------- the run

    def build(self, source: TableSource, runtime: Runtime) -> "State":
        """Coding of the training rows, teacher and student before their training."""
        coding = Coding.of(source.train, self.cutting)
        groups, device = source.train.groups, runtime.device
        count = len(source.schema.groups)
        start = runtime.generator("start")
        teacher = teachers.fresh(coding.width, count, self.teaching, start).to(device)
        latents, noise = self.teaching.latents, self.student == "noise"
        sizes = (latents, 0) if noise else (coding.width, count)
        student = students.fresh(*sizes, latents, self.learning.student_width, start).to(device)
        return State(
            teacher=teacher,
            student=student,
            teacher_optimizer=torch.optim.Adam(teacher.parameters(), self.teaching.lr),
            student_optimizer=torch.optim.Adam(student.parameters(), self.teaching.lr),
            order=torch.zeros(len(source.train), dtype=torch.long),
            source=source,
            coding=coding,
            coded=coding.coded(source.train).to(device),
            groups=groups.to(device),
        )

    def step(self, state: "State", runtime: Runtime) -> Metrics:
        """One step of the teacher, or, once it is trained, one of the student."""
        picks = next_rows(state.order, state.done, self.teaching.batch, runtime.generator("batches"))
        picks = picks.to(state.groups.device)
        learn = self._teach if state.done < self.teacher_steps else self._distil
        parts = learn(state, state.coded.select(picks), state.groups[picks], runtime)
        optimizer = state.teacher_optimizer if learn == self._teach else state.student_optimizer
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        optimizer.step()
        state.done += 1
        return {name: part.detach() for name, part in parts.items()}

    def _teach(self, state: "State", coded: Coded, groups: Groups, runtime: Runtime) -> dict[str, Tensor]:
        frequencies = None
        if self.teaching.penalty == "spectral":
            frequencies = self._noise("frequencies", self.teaching.frequencies, runtime)
        return teachers.teacher_loss(
            state.teacher,
            state.coding,
            coded,
            groups,
            self._noise("codes", len(coded), runtime),
            weight=self.fairness_weight * linear_rise(state.done, self.teaching.fairness_warm_up * self.teacher_steps),
            form=self.teaching.penalty,
            frequencies=frequencies,
            share=len(coded) / min(self.teaching.batch, self.training_rows),
        )

    def _distil(self, state: "State", coded: Coded, groups: Groups, runtime: Runtime) -> dict[str, Tensor]:
        features, count = state.coding.features(coded), len(coded)
        with torch.no_grad():
            target = state.teacher.encode(features, groups)
        read = (self._noise("input", count, runtime),) if self.student == "noise" else (features, groups)
        found: tuple[Codes, Codes] = state.student(*read)
        paired = self.student == "data"
        if paired and self.learning.quality == "paired":
            parts = students.paired_loss(found, target)
        else:
            codes = sampled(*found, self._noise("student", count, runtime))
            wanted = sampled(*target, self._noise("codes", count, runtime))
            pairs = (target, found) if paired else (students.moments(wanted), students.moments(codes))
            parts = {"quality": students.mmd(codes, wanted), "utility": students.gaussian_kl(*pairs)}
        return {"loss": parts["quality"] + self.learning.utility_weight * parts["utility"], **parts}

    def _noise(self, purpose: str, rows: int, runtime: Runtime) -> Codes:
        found = torch.randn(rows, self.teaching.latents, generator=runtime.generator(purpose))
        return found.to(runtime.device)

    def learned(self, state: "State") -> dict[str, Tensor]:
        """The weights of teacher and student."""
        parts = {"teacher": state.teacher, "student": state.student}
        return {f"{part}.{name}": value for part, one in parts.items() for name, value in one.state_dict().items()}

    # ---------------------------------------------------------------------------------------------------- the result

    def result(self, state: "State", runtime: Runtime) -> SyntheticTable:
        """The tables, what draws further ones, and what was found in the codes; before the end, one table only."""
        finished = state.done >= self.total_steps
        rows = self.rows or self.training_rows
        generator = self._generator(state, runtime.seed)
        seeds = [derived_seed(runtime.seed, f"table {number}") for number in range(self.tables if finished else 1)]
        first, *further = [generator.sample(rows, seed) for seed in seeds]
        scores = self._told(state, runtime.seed) if finished else {}
        if finished:
            runtime.say(_lost(scores))
        if "collapsed" in scores:
            runtime.say(f"note: {scores['collapsed']}")
        return SyntheticTable(
            first,
            Origin.made(state.source, self, runtime, full=self.training_rows),
            scores=scores,
            further=tuple(further),
            generator=generator,
        )

    def _generator(self, state: "State", seed: int) -> FairGenerator:
        """What draws tables, on the CPU, with codes of its own if no network makes them."""
        draws = torch.Generator().manual_seed(derived_seed(seed, "stored codes"))
        counts = state.groups.bincount(minlength=state.teacher.groups).cpu()
        sampler = _on_cpu(state.student) if self.student == "noise" else None
        codes, groups = torch.empty(0, self.teaching.latents), torch.empty(0, dtype=torch.long)
        if sampler is None:
            mean, log_variance = self._encoded(state)
            picks = torch.arange(min(max(len(mean), STORED // 5), STORED)) % len(mean)
            noise = torch.randn(len(picks), self.teaching.latents, generator=draws)
            codes, groups = sampled(mean[picks], log_variance[picks], noise), state.groups.cpu()[picks]
        return FairGenerator(
            coding=state.coding,
            decoder=_on_cpu(state.teacher.decoder),
            decoding=self.decoding,
            shares=counts / counts.sum(),
            codes=codes,
            groups=groups,
            sampler=sampler,
        )

    @torch.no_grad()
    def _encoded(self, state: "State") -> tuple[Codes, Codes]:
        """μ and log σ² of the training rows, on the CPU: of what reads them, the student or the teacher."""
        trained = state.done > self.teacher_steps and self.student == "data"
        read = state.student if trained else state.teacher.encode
        parts = []
        for picks in torch.arange(len(state.groups), device=state.groups.device).split(8192):
            parts.append(read(state.coding.features(state.coded.select(picks)), state.groups[picks]))
        return torch.cat([mean for mean, _ in parts]).cpu(), torch.cat([spread for _, spread in parts]).cpu()

    def _told(self, state: "State", seed: int) -> dict[str, Any]:
        """V² beside its permutations, and the AUC of group and label from codes and of the group from their means.

        Of a student that reads noise, whose codes belong to no row, all but AUC(y|z) is the teacher's; that is of the
        labels decoded from its codes.
        """
        draws = torch.Generator().manual_seed(derived_seed(seed, "what is told of codes"))
        (mean, log_variance), groups = self._encoded(state), state.groups.cpu()
        codes = sampled(mean, log_variance, torch.randn(mean.shape, generator=draws))
        labels = (codes, state.source.train.labels)
        if self.student == "noise":
            labels = self._generator(state, seed).labelled(len(codes), draws)
        told = _dependence_told(mean, log_variance, groups, draws)
        read = {"AUC(s|z)": (codes, groups), "AUC(s|μ)": (mean, groups), "AUC(y|z)": labels}
        told |= {name: auc for name, one in read.items() if (auc := auc_from(*one, draws)) is not None}
        told |= _of_real_rows(state.source.train, draws)
        if forgot(told.get("AUC(y|z)")):
            told["collapsed"] = COLLAPSED.format(auc=told["AUC(y|z)"])
        return told


def _of_real_rows(rows: Rows, draws: torch.Generator) -> dict[str, float]:
    """The AUC of label and group from the other columns of real rows, which codes are compared with."""
    features = design(rows.schema, with_sensitive=False).fit(rows).matrix(rows)
    read = {"AUC(y|real rows)": rows.labels, "AUC(s|real rows)": rows.groups}
    return {name: auc for name, one in read.items() if (auc := auc_from(features, one, draws)) is not None}


def _lost(scores: Mapping[str, Any]) -> str:
    """What codes have lost of the label and of the group, in a line."""
    pairs = (("label", "AUC(y|z)", "AUC(y|real rows)"), ("group", "AUC(s|z)", "AUC(s|real rows)"))
    words = [
        f"{what}: AUC {scores[of_codes]:.2f} from codes, {scores[of_rows]:.2f} from real rows"
        for what, of_codes, of_rows in pairs
        if of_codes in scores and of_rows in scores
    ]
    chance = scores[f"V², largest of {PERMUTATIONS} permutations of s"]
    return "; ".join([*words, f"V² {scores['V²']:.2g}, by chance at most {chance:.2g}"])


COLLAPSED = (
    "collapsed: the codes no longer tell the label (AUC {auc:.2f}), so that their independence of the group is no "
    "merit. Lower --fairness-weight, or raise --epochs"
)


@dataclass
class State:
    """What a run learns and remembers."""

    teacher: Autoencoder
    student: Student
    teacher_optimizer: torch.optim.Optimizer
    student_optimizer: torch.optim.Optimizer
    order: Int[Tensor, " row"]
    """The order of this pass over the rows."""
    source: TableSource = rebuilt()
    coding: Coding = rebuilt()
    coded: Coded = rebuilt()
    groups: Groups = rebuilt()
    done: int = 0
    """Steps taken so far."""


def _dependence_told(mean: Codes, log_variance: Codes, groups: Groups, draws: torch.Generator) -> dict[str, Any]:
    """V² of a part of the rows, beside its values under permutations of the groups."""
    picks = torch.randperm(len(mean), generator=draws)[:COMPARED]
    codes = (mean[picks].double(), log_variance[picks].double(), groups[picks])
    chance = permuted_dependence(*codes, permutations=PERMUTATIONS, generator=draws)
    return {
        "V²": float(dependence(*codes)),
        "V² of its scale": float(dependence(*codes, normalise=True)),
        f"V², mean of {PERMUTATIONS} permutations of s": float(chance.mean()),
        f"V², largest of {PERMUTATIONS} permutations of s": float(chance.max()),
    }


def _on_cpu(network: Any) -> Any:
    """A copy of a network on the CPU, which further steps do not change."""
    return copy.deepcopy(network).cpu().eval()


def _check(source: TableSource) -> None:
    """See that there is something to be fair about.

    Raises:
        InputError: A group or an outcome is missing among the training rows.
    """
    rows, sensitive, label = source.train, source.schema.sensitive, source.schema.label
    counts = rows.groups.bincount(minlength=len(sensitive.levels))
    present = [name for name, count in zip(sensitive.levels, counts.tolist(), strict=True) if count]
    if len(present) < 2:
        raise InputError(
            f"all training rows of {source.name} have {sensitive.name} {present[0]!r}; a fair table needs two groups."
        )
    if len(present) > MANY:
        raise InputError(f"{sensitive.name} has {len(present)} groups; give a sensitive column of {MANY} or fewer.")
    for name, count in zip(sensitive.levels, counts.tolist(), strict=True):
        if count == 1:
            raise InputError(
                f"group {name!r} of {sensitive.name} has a single training row. Leave it out, or join it with another."
            )
    positive = int(rows.labels.sum())
    if positive in (0, len(rows)):
        wanted = "no" if positive == 0 else "only"
        raise InputError(
            f"label {label.name} has {wanted} {source.schema.positive!r} among training rows of {source.name}; both "
            "outcomes are needed."
        )
