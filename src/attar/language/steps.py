"""One step of distillation: a batch drawn as the schedule wants it, its loss pass by pass, and the end of an epoch."""

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attar.core.masters import Masters, in_precision
from attar.core.precision import DTYPES
from attar.core.processes import Processes
from attar.core.runtime import Runtime
from attar.core.seeds import permutation
from attar.core.sharing import add_each_gradient
from attar.core.state import rebuilt
from attar.core.training import in_float32
from attar.language.crossing import Crossing
from attar.language.evaluation import cross_entropy, measured
from attar.language.generation import answering
from attar.language.losses import Places, Terms, chunked_loss, log_probabilities
from attar.language.memory import Memory, keep_activations
from attar.language.models import merged
from attar.language.objective import Counts, Loss, Parts
from attar.language.packing import Packed, packed
from attar.language.pair import LanguagePair
from attar.language.policy import Norm, Rollouts, collect, push
from attar.language.recalled import Recalled, Rest
from attar.language.schedules import Answers, Scheduled
from attar.language.stops import write_stops
from attar.language.tokens import Batch, Tokens

Method = Any
"""A `DistillLanguage`, which itself imports this file."""

Shown = dict[str, Tensor | float]


@dataclass
class Distilling:
    """A student in training, with the modules and the state beside it."""

    learned: dict[str, Tensor]
    """The student's parameters that are trained, or their float32 master copies."""
    network: nn.Module
    """The clipping network, which is dropped at the end."""
    optimizer: torch.optim.Optimizer
    schedule: Scheduled
    rollouts: Rollouts | None
    best: dict[str, Tensor]
    """The parameters of the best epoch so far, if the best one is kept."""
    best_score: float | None = None
    validation: float | None = None
    """The last validation cross-entropy."""
    done: int = 0
    student: nn.Module = rebuilt(default=None)
    teacher: nn.Module | None = rebuilt(default=None)
    pair: LanguagePair = rebuilt(default=None)
    tokens: Tokens = rebuilt(default=None)
    corpus: Tokens | None = rebuilt(default=None)
    loss: Loss = rebuilt(default=None)
    answers: Answers = rebuilt(default=None)
    rest: Rest = rebuilt(default="lump")
    """The use of the mass that stored answers do not name."""
    crossing: Crossing | None = rebuilt(default=None)
    """The way to the teacher's tokens, if it reads its own."""
    order: Tensor | None = rebuilt(default=None)
    memory: Memory = rebuilt(default=Memory())
    masters: Masters | None = rebuilt(default=None)
    """The master copies, if the student's parameters are in bfloat16."""


def descend(method: Method, rows: list[int], state: Distilling, runtime: Runtime) -> Shown:
    """Compute the gradient of one step on some rows; return the values to show."""
    reference = state.tokens.batch(rows)
    by = _descend_by_policy if state.rollouts is not None else _descend_by_schedule
    shown = by(method, rows, reference, state, runtime)
    if state.corpus is not None and method.objective.corpus_weight:
        picks = torch.randint(len(state.corpus), (len(rows),), generator=runtime.generator("corpus")).tolist()
        parts = Parts(teacher=False, corpus=True)
        _add(shown, add_gradient(state.corpus.batch(picks), parts, method.micro, state, runtime))
    add_each_gradient((*state.learned.values(), *state.network.parameters()), runtime.processes)
    return shown


def _descend_by_schedule(
    method: Method, rows: list[int], reference: Batch, state: Distilling, runtime: Runtime
) -> Shown:
    generator = runtime.generator("answers", str(runtime.device))
    drawn = state.answers.draw(
        reference, rows, state.schedule, state.done / method.total_steps, runtime.generator("schedule"), generator
    )
    alone = drawn.origin in ("data", "teacher")
    shown = add_gradient(drawn.batch, Parts(labels=alone), method.micro, state, runtime)
    if not alone and method.objective.label_weight:
        _add(shown, add_gradient(reference, Parts(teacher=False), method.micro, state, runtime))
    if method.schedule.answers_by == "adaptive":
        shown["threshold"] = state.schedule.threshold
    return shown if drawn.corrected is None else {**shown, "corrected": drawn.corrected}


def add_gradient(batch: Batch, parts: Parts, micro: int | None, state: Distilling, runtime: Runtime) -> Shown:
    """Add the gradient of a batch's loss to the gradient so far, pass by pass.

    The passes are shared among processes.
    """
    processes = runtime.processes
    several = batch.cut(micro or math.ceil(len(batch) / processes.count))
    packing = state.memory.packing
    micros = [packed(one, state.tokens.by.max_length) if packing else one for one in several]
    places = [Places.of(one.labels, one.spans) for one in micros]
    compares = parts.teacher and state.loss.needs_teacher
    beside = [state.crossing.beside(one) for one in several] if compares and state.crossing is not None else []
    counts = Counts.of(places, [one.aligned for one in beside])
    found: list[Shown] = []
    for number in processes.share(len(micros)):
        theirs, aligned = (beside[number].batch, beside[number].aligned.to(runtime.device)) if beside else (None, None)
        student, teacher = _logits(micros[number], state, runtime, teacher=compares, theirs=theirs)
        loss, shown = state.loss(student, teacher, _moved(places[number], runtime.device), counts, parts, aligned)
        loss.backward()
        found.append(dict(shown))
    return _together(found, processes)


def _descend_by_policy(method: Method, rows: list[int], reference: Batch, state: Distilling, runtime: Runtime) -> Shown:
    """A step of MiniLLM on some of the rollouts and on the references."""
    rollouts, policy = state.rollouts, method.policy
    assert rollouts is not None
    per_round = math.ceil(policy.rollouts / method.batch)
    if state.done % (per_round * policy.rollout_epochs) == 0:
        _draw_rollouts(method, state, runtime)
    number, place = divmod(state.done, per_round)
    order = permutation(runtime.seed, f"rollouts {number}", policy.rollouts)
    picked = order[place * method.batch :][: method.batch]
    batch = rollouts.batch(picked)
    all_places = Places.of(batch.labels)
    earned = rollouts.at(rollouts.advantage, picked, all_places, batch.ids.shape[1])
    count, norm = Counts.of([all_places]).tokens, Norm.of(earned) if policy.whiten else Norm()
    some = picked.split(method.micro or math.ceil(method.batch / runtime.processes.count))
    found = [_push_some(method, some[n], count, norm, state, runtime) for n in runtime.processes.share(len(some))]
    shown = {**_together(found, runtime.processes), "reward": rollouts.reward}
    if method.objective.label_weight:
        _add(shown, add_gradient(reference, Parts(teacher=False), method.micro, state, runtime))
    return shown


def _push_some(method: Method, rows: Tensor, count: float, norm: Norm, state: Distilling, runtime: Runtime) -> Shown:
    """The gradient on some of the rollouts of a step, which have `count` tokens and one `norm` together."""
    rollouts, policy, words = state.rollouts, method.policy, state.loss.words
    assert rollouts is not None
    batch = rollouts.batch(rows)
    here, width = Places.of(batch.labels), batch.ids.shape[1]
    places = _moved(here, runtime.device)
    student, teacher = _logits(batch, state, runtime, teacher=True)
    log_q = log_probabilities(student.detach(), places, words=words)
    old, advantage, weight = (
        rollouts.at(values, rows, places, width) for values in (rollouts.old, rollouts.advantage, rollouts.weight)
    )
    strength, objective = push(log_q, old, norm(advantage), weight, policy.ratio_clip)
    single = dataclasses.replace(method.objective, divergence="reverse")
    each = weight if policy.weigh_single else torch.ones_like(weight)
    terms = Terms(labels=strength / count, teacher=method.objective.teacher_weight * each / count, objective=single)
    loss, sums = chunked_loss(student, teacher, places, terms, words=words, columns=words)
    loss.backward()
    reverse = loss.detach() + (strength * log_q).sum() / count  # of which the first term is no more than a direction
    return {"loss": objective / count + reverse, "policy": objective / count, "teacher": sums.teacher / count}


def _draw_rollouts(method: Method, state: Distilling, runtime: Runtime) -> None:
    """Sample new answers to prompts drawn from the training rows."""
    assert state.rollouts is not None
    assert state.teacher is not None
    picks = torch.randint(len(state.tokens), (method.policy.rollouts,), generator=runtime.generator("prompts")).tolist()
    batches = []
    for start in range(0, len(picks), method.batch):
        prompts = state.tokens.batch(picks[start : start + method.batch]).prompt_ids
        batches.append((prompts, state.answers.limits(prompts)))
    generator = runtime.generator("answers", str(runtime.device))
    collect(state.rollouts, state.answers.student, state.teacher, batches, method.policy, generator, runtime.autocast)


def end_epoch(method: Method, state: Distilling, runtime: Runtime) -> None:
    """Validate if the schedule or the choice of an epoch needs it."""
    adaptive = method.schedule.answers_by == "adaptive"
    if method.select == "last" and not adaptive:
        return
    state.validation = validation_loss(method, state, runtime)
    if adaptive:
        state.schedule.validated(state.validation, method.schedule)
    if method.select == "last":
        return
    score = -state.validation if method.select == "loss" else _validation_rouge(method, state, runtime)
    if state.best_score is None or score > state.best_score:
        state.best_score = score
        for name, value in state.learned.items():
            state.best[name].copy_(value.detach())


def validation_loss(method: Method, state: Distilling, runtime: Runtime) -> float:
    """Cross-entropy on the validation rows, in nats per token."""
    tokens = state.pair.tokens("validation", state.tokens.by)
    rows = range(min(len(tokens), method.validation_rows))
    return cross_entropy(state.student, tokens, rows, state.pair.words, context=runtime.autocast)


def _validation_rouge(method: Method, state: Distilling, runtime: Runtime) -> float:
    tokens = state.pair.tokens("validation", state.tokens.by)
    rows = range(min(len(tokens), method.validation_answers))
    found = measured(state.answers.student, tokens, rows, answers=len(rows), context=runtime.autocast)
    assert found.rouge_l is not None
    return found.rouge_l.value


def finished(state: Distilling) -> nn.Module:
    """A copy of the student with the chosen parameters and merged adapters, in the precision in which it is saved."""
    student = copy.deepcopy(state.student)
    if state.memory.gradient_checkpointing:
        keep_activations(student)
    if state.masters is not None:
        in_float32(student)
    chosen = state.learned if state.best_score is None else state.best
    parameters = dict(student.named_parameters())
    with torch.no_grad():
        for name, value in chosen.items():
            parameters[name].copy_(value)
    made = merged(student).cpu().eval()
    if state.memory.saved_precision != "float32":
        in_precision(made, DTYPES[state.memory.saved_precision])
    write_stops(made, state.pair.tokenizer, state.pair.stops, state.pair.words)
    return made


def _logits(
    batch: Batch | Packed, state: Distilling, runtime: Runtime, *, teacher: bool, theirs: Batch | None = None
) -> tuple[Tensor, Tensor | Recalled | None]:
    stored = state.pair.stored if teacher else None
    recalled = stored.recall(batch, state.rest) if stored is not None and isinstance(batch, Batch) else None
    given = _given(batch, runtime)
    with runtime.autocast(training=True):
        mine = state.student(**given).logits
    if not teacher:
        return mine, None
    if recalled is not None:
        return mine, recalled.to(runtime.device)
    assert state.teacher is not None
    if theirs is not None:
        given = {**theirs.to(runtime.device).inputs, "use_cache": False}
    with torch.no_grad(), answering(state.teacher), runtime.autocast():
        return mine, state.teacher(**given).logits


def _given(batch: Batch | Packed, runtime: Runtime) -> dict[str, Any]:
    return {**batch.to(runtime.device).inputs, "use_cache": False}


def _moved(places: Places, device: torch.device) -> Places:
    return Places(*(getattr(places, field.name).to(device) for field in dataclasses.fields(places)))


def _together(found: list[Shown], processes: Processes) -> Shown:
    """The values to show from all passes of a step and all processes."""
    if processes.count > 1:
        found = [{name: float(value) for name, value in one.items()} for one in found]
    total: Shown = {}
    for one in processes.collect(found):
        _add(total, one)
    return total


def _add(total: Shown, more: Shown) -> None:
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value
