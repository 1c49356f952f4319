"""Distil a causal language model into a smaller one, with losses on tokens, spans and whole answers.

Begin with plain forward divergence on the references and the right step size; it is hard to beat. A student that will
write long answers gains from its own answers (answers_by), corrected at their errors (corrections). Clipping the
teacher
and the spans are the two finer of the three levels of the multi-granularity paper. Each can be used alone.
Liu, Zhang, Li, Li, Huang, Chen, Tang, Hu, Xiong and Wang, Multi-Granularity Semantic Revision for Large Language Model
Distillation, arXiv:2407.10068. Its sizes and steps are not published in full: see each setting.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError, named, unknown
from attar.core.masters import Masters, in_precision
from attar.core.precision import DTYPES
from attar.core.presets import table_of
from attar.core.runtime import Runtime
from attar.core.seeds import permutation
from attar.core.settings import Hidden, Range, Settings
from attar.core.training import half_cosine, in_float32, linear_rise, set_lr
from attar.language.alignment import Alignment, check_alignment
from attar.language.answered import fill
from attar.language.artefact import DistilledLanguageModel, Origin
from attar.language.clipping import Clipping
from attar.language.correction import Correction
from attar.language.crossing import Crossing
from attar.language.divergences import Objective
from attar.language.generation import Sampling
from attar.language.memory import Memory, recompute_activations
from attar.language.models import (
    Lora,
    causal_model,
    check_runs,
    fresh_model,
    is_fresh,
    with_lora,
    without_padding,
)
from attar.language.objective import Loss, Spans, check_clipping, seeded_globally
from attar.language.offloaded import placed
from attar.language.packing import check_packs
from attar.language.pair import LanguagePair
from attar.language.policy import Policy, Rollouts
from attar.language.presets import BASELINES
from attar.language.recalled import Recall, check_recall
from attar.language.schedules import Answers, Schedule, Scheduled
from attar.language.steps import Distilling, descend, end_epoch, finished, validation_loss
from attar.language.tokens import Tokeniser


@dataclass(frozen=True, kw_only=True)
class DistillLanguage(Settings):
    """Distil a causal language model (Liu et al., arXiv 2024, arXiv:2407.10068, and the methods that it builds on).

    L = a CE(references) + b D(p ‖ q) + c spans. D is taken on the references or on the student's own, corrected
    answers. p
    is the teacher's whole distribution or its dense part.
    """

    student: str = "gpt2:layers=1,width=64"
    """The student. A folder, a name on the hub, or a fresh model by kind and sizes (gpt2:layers=1,width=64,heads=2)."""
    epochs: Annotated[int, Range(1)] = 10
    """Passes over the training data."""
    steps: Annotated[int, Range(1)] | None = None
    """Steps in all. If given, it replaces the number of epochs. Default: whole epochs."""
    batch: Annotated[int, Range(1)] = 16
    """Batch size: sequences per step."""
    micro: Annotated[int, Range(1)] | None = None
    """Number of sequences per pass through the models; the gradients of the passes are summed. Default: the whole
    batch."""
    lr: Annotated[float, Range(0)] | None = None
    """Step size of AdamW at the start. Default: 5e-4 for a trained student, 2e-3 for a fresh one."""
    weight_decay: Annotated[float, Range(0)] = 1e-2
    """Weight decay of AdamW."""
    lr_warm_up: Annotated[float, Range(0, 1)] = 0.0
    """Share of the run over which the step size rises first, step by step. Afterwards it falls to 0 along a cosine."""
    clip_norm: Annotated[float, Range(0)] = 1.0
    """Norm to which a longer gradient of all that is learned is cut. 0 turns it off."""
    max_length: Annotated[int, Range(2)] | None = None
    """Largest number of tokens of a prompt and its response together. Default: 512, or the most that both models can
    read."""
    max_prompt: Annotated[int, Range(1)] | None = None
    """Largest number of tokens of a prompt; the beginning of a longer prompt is cut off. Default: half of
    --max-length."""
    context: Annotated[int, Range(0)] = 16
    """Number of tokens of plain text before each block, which serve as its prompt."""
    objective: Objective = field(default_factory=Objective)
    """The divergence, and the weights of the labels and the teacher (`divergence`, `label_weight`, ...)."""
    clipping: Clipping = field(default_factory=Clipping)
    """The part of the teacher's distribution that the student learns from (`teacher_clip`, `top_k`, `clip_mass`,
    ...)."""
    spans: Spans = field(default_factory=Spans)
    """Weight and kind of the spans (`span_weight`, `chunker`, ...)."""
    correction: Correction = field(default_factory=Correction)
    """Number and kind of the corrections of the student's answers (`corrections`, ...)."""
    schedule: Schedule = field(default_factory=Schedule)
    """The source of the answers that the student learns from (`answers_by`, `student_share`, ...)."""
    sampling: Sampling = field(default_factory=Sampling)
    """How the student samples its answers (`sampling_temperature`, `nucleus`, ...)."""
    alignment: Alignment = field(default_factory=Alignment)
    """How a teacher of another tokenizer is compared (`align_by`, ...)."""
    policy: Policy = field(default_factory=Policy)
    """MiniLLM's policy gradient, used with divergence policy."""
    recall: Recall = field(default_factory=Recall)
    """The use of a teacher's stored answers, with --stored-answers (`rest`)."""
    lora: Lora = field(default_factory=Lora)
    """Low-rank adapters that are trained in place of the whole student (`lora_rank`, ...)."""
    memory: Memory = field(default_factory=Memory)
    """Precision and memory of a large student, and rows of several examples (`student_precision`, `packing`, ...)."""
    select: Literal["last", "loss", "rouge"] = "last"
    """Epoch whose student is kept: the last, or the best by validation cross-entropy or by ROUGE-L of the student's
    answers."""
    validation_rows: Annotated[int, Range(1)] = 256
    """Number of validation rows on which the cross-entropy is measured after an epoch."""
    validation_answers: Annotated[int, Range(1)] = 32
    """Number of validation prompts that the student answers for ROUGE-L."""
    rows: Annotated[int, Hidden()] = 0
    """Number of training rows; filled in from the data."""

    moved = MappingProxyType({"warm_up": "lr_warm_up"})
    name = "language"
    kind = "language"
    shares = True

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, own = self.objective.divergence, self.schedule.answers_by not in ("off-policy", "teacher")
        check_clipping(self.objective, self.clipping)
        check_alignment(self)
        if self.correction.corrections and not own:
            raise InputError(
                f"corrections need the student's answers, but --answers-by {self.schedule.answers_by} has none. Give "
                "--answers-by on-policy, mixed or adaptive."
            )
        if kind == "none" and own and not self.spans.span_weight:
            raise InputError(
                f"--answers-by {self.schedule.answers_by} compares student and teacher on the student's answers, but "
                "--divergence is none. Choose another --divergence."
            )
        if kind == "policy" and (self.schedule.answers_by != "off-policy" or self.spans.span_weight):
            raise InputError("--divergence policy samples its own answers. Do not set --answers-by and --span-weight.")
        if kind == "policy" and (self.sampling.sampling_temperature != 1 or self.sampling.nucleus != 1):
            raise InputError(
                "--divergence policy weighs answers by their probability. Leave sampling_temperature and nucleus at 1."
            )
        if self.objective.temperature != 1 and kind in ("none", "policy") and not self.spans.span_weight:
            raise InputError(
                f"--temperature {self.objective.temperature:g} has no effect with --divergence {kind}. Leave it at 1, "
                "or set --sampling-temperature for the student's answers."
            )
        compares = kind == "policy" or (kind != "none" and self.objective.teacher_weight > 0)
        if not self.objective.label_weight and not compares and not self.spans.span_weight:
            raise InputError(
                "--label-weight and every other weight are 0, so the student learns nothing. Give one of them a weight."
            )

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """Settings by their own names, also those of nested settings. Older names are understood.

        `DistillLanguage.of(divergence="jsd", corrections=1, answers_by="mixed", epochs=3)`

        Raises:
            InputError: There is no such setting, or a value is out of its range.
        """
        own, homes, groups = cls._homes()
        newer = {old: new for one in (cls, *groups.values()) for old, new in one.moved.items() if new}
        outer: dict[str, Any] = {}
        inner: dict[str, dict[str, Any]] = {}
        for given, value in settings.items():
            name = given if given in homes or given in own else newer.get(given, given)
            if name in homes:
                inner.setdefault(homes[name], {})[name] = value
            elif name in own:
                outer[name] = value
            else:
                raise unknown(f"setting of {cls.__name__}", name, [*own, *homes])
        return cls(**outer, **{group: groups[group](**found) for group, found in inner.items()})

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names that `of` takes, older ones too."""
        own, homes, groups = cls._homes()
        return frozenset({*own, *homes, *(old for one in (cls, *groups.values()) for old in one.moved)})

    @classmethod
    def _homes(cls) -> tuple[list[str], dict[str, str], dict[str, Any]]:
        """The settings of its own, the group of each nested one, and the class of each group."""
        kinds = {f.name: f.default_factory for f in dataclasses.fields(cls)}
        groups: dict[str, Any] = {name: kind for name, kind in kinds.items() if kind is not dataclasses.MISSING}
        homes = {f.name: group for group, kind in groups.items() for f in dataclasses.fields(kind)}
        return [name for name in kinds if name not in groups], homes, groups

    @classmethod
    def baseline(cls, name: str, **settings: Any) -> Self:
        """The settings of a method of the field, by name.

        Args:
            name: sft, seqkd, kd, imitkd, gkd, distillm, minillm; uld, gold, alm, for a teacher of another tokenizer; or
                full, with all three levels.
            settings: Settings that differ.

        Raises:
            InputError: There is no such method.
        """
        return cls.of(**_chosen(name, {}, settings))

    @classmethod
    def paper(cls, family: str, method: str = "full", **settings: Any) -> Self:
        """The released scripts' settings for a family of students: gpt2-0.1b, opt, openllama2-3b, ...

        Args:
            family: The students.
            method: All three levels (full), or a method of the field as in `baseline`.
            settings: Settings that differ.

        Raises:
            InputError: There is no such family or method.
        """
        return cls.of(**_chosen(method, dict(table_of(cls).cell(family).settings), settings))

    @property
    def needs_teacher(self) -> bool:
        """Whether the settings need a teacher."""
        return bool(self._teacher_needed_by())

    def _teacher_needed_by(self, *, asks_server: bool = False) -> str:
        """The flag that needs a teacher; empty for none. A server gives answers in its place."""
        kind, weight = self.objective.divergence, self.objective.teacher_weight
        needs = {
            f"--divergence {kind}": kind == "policy" or (kind != "none" and weight > 0),
            "--span-weight": self.spans.span_weight > 0,
            "--answers-by teacher": self.schedule.answers_by == "teacher" and not asks_server,
            f"--align-by {self.alignment.align_by}": self.alignment.aligns,
        }
        return next((flag for flag, needed in needs.items() if needed), "")

    @property
    def _answers(self) -> bool:
        """Whether a model answers prompts in training."""
        return (
            self.schedule.answers_by != "off-policy" or self.objective.divergence == "policy" or self.select == "rouge"
        )

    # --------------------------------------------------------------------------------------------------------- the run

    def resolve(self, pair: LanguagePair, runtime: Runtime) -> Self:
        """Fill in the settings that have no value yet.

        Raises:
            InputError: A teacher is needed but missing, lengths are too large for the models, or no token can be
                learned.
        """
        flag = self._teacher_needed_by(asks_server=pair.server is not None)
        if pair.stored is None and pair.teacher is None and flag:
            raise InputError(f"{flag} needs a teacher. Give one (--teacher).")
        if pair.stored is not None:
            check_recall(self, pair)
        longest, prompt = pair.lengths_for(self, of="the models read")
        fresh = pair.student is None and is_fresh(self.student)
        given = dataclasses.replace(
            self, max_length=longest, max_prompt=prompt, lr=self.lr if self.lr is not None else 2e-3 if fresh else 5e-4
        )
        by = given.tokeniser(pair)
        if pair.stored is not None:
            pair.stored.check_lengths(given)
            pair.stored.check_rows(pair.tokens("train", by), pair.name)
        validates = self.select != "last" or self.schedule.answers_by == "adaptive"
        for part in ("validation", "test") if validates else ("test",):  # a row that cannot be used is refused now
            pair.tokens(part, by)
        return dataclasses.replace(given, rows=len(pair.tokens("train", by)))

    def tokeniser(self, pair: LanguagePair) -> Tokeniser:
        """The conversion of the pair's text to tokens."""
        assert self.max_length is not None and self.max_prompt is not None, "resolve the settings first"
        return Tokeniser(
            pair.tokenizer,
            self.max_length,
            self.max_prompt,
            self.context,
            self.spans.chunk(),
            self.spans.span_length,
            pair.words,
        )

    @property
    def batches(self) -> int:
        """Steps per epoch."""
        return math.ceil(self.rows / self.batch)

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps or self.epochs * self.batches

    def _student(self, pair: LanguagePair, generator: torch.Generator) -> nn.Module:
        """The student at its start, in float32 wherever it comes from, without logits beyond the tokenizer's tokens."""
        if pair.student is not None:
            return without_padding(in_float32(copy.deepcopy(pair.student)), pair.tokenizer)
        if is_fresh(self.student):
            assert self.max_length is not None
            return fresh_model(self.student, pair.tokenizer, self.max_length, generator)
        return without_padding(causal_model(self.student, to_train=True), pair.tokenizer)

    def build(self, pair: LanguagePair, runtime: Runtime) -> Distilling:
        """The student at its start, the optimiser, and the data as tokens."""
        device = runtime.device
        student = with_lora(self._student(pair, runtime.generator("network")), self.lora, runtime.generator("adapters"))
        student = student.to(device).train()
        teacher = None if pair.teacher is None else placed(pair.teacher, device)
        answers = pair.answers > 0 or self._answers
        for who, model in (("teacher", teacher), ("student", student)):
            if model is not None:
                words = pair.teacher_words if who == "teacher" else pair.words
                check_runs(model, who, words, answers=answers)
                if self.memory.packing:
                    check_packs(model, who, words)
        loss = Loss(self.objective, self.clipping, self.spans, pair.words)
        with seeded_globally(runtime.generator("clipping"), device):
            network = loss.network_for()
        network = None if network is None else network.to(device)
        learned, masters = self._learned(student)
        assert self.max_length is not None
        groups: list[dict[str, Any]] = [{"params": list(learned.values())}]
        if network is not None:
            groups.append({"params": list(network.parameters()), "weight_decay": 0.0})
        by = self.tokeniser(pair)
        voice = pair.voice(student, self.sampling)
        policy = self.objective.divergence == "policy"
        schedule = Scheduled.start(self.schedule, self.rows, self.max_length)
        if pair.server is not None:
            assert schedule.store is not None
            fill(schedule.store, pair, by, self.sampling, runtime)
        crosses = self.alignment.aligns and teacher is not None
        crossing = Crossing.of(pair, by, self.alignment) if crosses else None
        context = runtime.autocast
        return Distilling(
            learned=learned,
            network=network if network is not None else nn.Module(),
            optimizer=torch.optim.AdamW(groups, self._rates()[0], weight_decay=self.weight_decay),
            schedule=schedule,
            rollouts=Rollouts.empty(self.policy, self.max_length) if policy else None,
            best={} if self.select == "last" else {name: value.detach().clone() for name, value in learned.items()},
            student=student,
            teacher=teacher,
            pair=pair,
            tokens=pair.tokens("train", by),
            corpus=None if pair.corpus is None else pair.tokens("corpus", by),
            loss=dataclasses.replace(loss, network=network),
            answers=Answers(
                voice, teacher, by, self.schedule, self.correction, self.sampling, context, crossing=crossing
            ),
            crossing=crossing,
            rest=self.recall.rest,
            memory=self.memory,
            masters=masters,
        )

    def _learned(self, student: nn.Module) -> tuple[dict[str, Tensor], Masters | None]:
        """What the optimiser changes: parameters of the student, or the master copies of those in bfloat16.

        Raises:
            InputError: Nothing is to be trained, or the student's family cannot compute its activations again.
        """
        if self.memory.gradient_checkpointing:
            recompute_activations(student)
        trained = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
        if not trained:
            raise InputError("every parameter of the student is frozen. Set requires_grad for those to be trained.")
        if self.memory.student_precision == "float32":
            return dict(trained), None
        dtype = DTYPES[self.memory.student_precision]
        masters = Masters(trained, dtype)
        in_precision(student, dtype)  # what is not trained has no master
        return masters.values, masters

    def step(self, state: Distilling, runtime: Runtime) -> Metrics:
        """Run one batch."""
        epoch, number = divmod(state.done, self.batches)
        if state.done == 0 and self.schedule.answers_by == "adaptive":
            state.schedule.validated(validation_loss(self, state, runtime), self.schedule)
        if state.masters is not None and state.order is None:  # the first step since the network was built
            state.masters.write()
        if number == 0 or state.order is None:
            state.order = permutation(runtime.seed, f"epoch {epoch}", self.rows)
        rows = state.order[number * self.batch :][: self.batch].tolist()
        groups, pace = len(state.optimizer.param_groups), self.pace(state.done)
        set_lr(state.optimizer, *(start * pace for start in self._rates()[:groups]))
        state.optimizer.zero_grad(set_to_none=True)
        with seeded_globally(runtime.generator("dropout"), runtime.device):
            metrics = descend(self, rows, state, runtime)
        if self.clip_norm:
            nn.utils.clip_grad_norm_(list(state.learned.values()), self.clip_norm)
        state.optimizer.step()
        if state.masters is not None:
            state.masters.write()
        state.done += 1
        if number + 1 == self.batches or state.done == self.total_steps:
            end_epoch(self, state, runtime)
        return metrics if state.validation is None else {**metrics, "validation": state.validation}

    def _rates(self) -> tuple[float, float]:
        """Step sizes of the student and of the clipping network."""
        assert self.lr is not None, "resolve the settings first"
        return self.lr, self.clipping.quantile_lr

    def pace(self, done: int) -> float:
        """The share of the step size at a step: a linear rise in the warm-up, then a cosine down to 0."""
        warm = round(self.lr_warm_up * self.total_steps)
        return linear_rise(done + 1, warm) * half_cosine(max(0, done - warm), max(1, self.total_steps - warm))

    def learned(self, state: Distilling) -> dict[str, Tensor]:
        """The trained weights of the student; the artefact would have to copy them first."""
        return dict(state.learned)

    def result(self, state: Distilling, runtime: Runtime) -> DistilledLanguageModel:
        """The student as it is now, or as it was after its best epoch. The model is made when it is first used."""
        origin = Origin.of(state.pair, self, runtime, state.student)
        return DistilledLanguageModel(partial(finished, state), state.pair.tokenizer, origin)


def _chosen(name: str, scripts: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A method of the field on the scripts' shared settings, with changes. Given epochs replace its steps."""
    found = {**scripts, **named("method", name, BASELINES)}
    if "epochs" in settings:
        found.pop("steps", None)
    return {**found, **settings}
