"""Distillation inside a trainer of transformers or TRL: `class Mine(DistillationMixin, trl.SFTTrainer)`.

The trainer owns the loop, its checkpoints and its logs, and parts of its checkpoints are pickles. For checkpoints that
resume to the same bytes use `attar.language.distill`. The mixin adds the clipping network and the state of the schedule
to a checkpoint: its threshold, its buffer and its generators.
"""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from attar.core import store
from attar.core.errors import InputError
from attar.core.state import pack, unpack
from attar.language.answers import StoredAnswers, opened_answers
from attar.language.distillation import DistillLanguage
from attar.language.generation import Voice
from attar.language.losses import UNCOUNTED, Places
from attar.language.memory import Memory
from attar.language.models import check_runs, longest_input
from attar.language.objective import Counts, Loss, Parts
from attar.language.offloaded import placed
from attar.language.pair import Model, opened
from attar.language.recalled import Recalled, check_recall
from attar.language.schedules import Answers, Scheduled
from attar.language.stops import ended_by_words, stops_of, write_stops
from attar.language.tokens import Batch, Tokeniser
from attar.language.vocabulary import shared_words, size_of, width

NETWORK = "attar_clipping.safetensors"
"""File in a checkpoint with the clipping network."""

SCHEDULE = "attar_schedule.safetensors"
"""File in a checkpoint with the state of the schedule; with several processes, that of the first."""


class DistillationMixin:
    """Adds a teacher to a trainer of causal models.

    The data are the trainer's: batches with input_ids, labels (-100 for tokens that are not learned) and, if padded,
    attention_mask. Rows packed with several sequences work off-policy only. If the student answers, it answers the last
    turn whose tokens are learned; a text that is learned from its start it continues after `context` tokens. Evaluation
    remains the references' cross-entropy, which DistiLLM's schedule uses; of several sets it uses the mean.

    Logs contain the parts of the loss. Of TRL's own measures the token count is kept in training; the others (entropy,
    accuracy) come with evaluation. The balancing loss of a mixture of experts is not added.

    Args:
        args: Positional arguments of the trainer.
        teacher: A causal model of transformers or a distilled one, its folder, or its name on the hub. It has the
            student's vocabulary, and is moved to the trainer's device, unless it is dealt out or quantised. None with
            stored answers, unless the student answers.
        stored_answers: A teacher's answers to the same rows (`attar.language.label`), or their folder.
        distillation: Settings. Its objective, clipping, spans, schedule, correction and sampling are used; the rest
            (epochs, step size, adapters) is the trainer's. Default: forward divergence together with the labels.
        kwargs: Keyword arguments of the trainer. `processing_class`, the tokenizer, is needed for spans and for the
            student's answers.

    Raises:
        InputError: There is no such teacher, or it cannot run; the vocabularies differ; a needed tokenizer is missing;
            a policy gradient, a learned mask on several processes, or another loss of the trainer is asked for; or the
            student has to answer packed rows, or is sharded and has to answer. In training: the student has to answer
            packed rows that the trainer's settings do not mention, or rows beyond `max_length`.
    """

    def __init__(
        self,
        *args: Any,
        teacher: Model = None,
        distillation: DistillLanguage | None = None,
        stored_answers: StoredAnswers | str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        known, beside = opened(teacher, "teacher")  # before the trainer, which reads its data first
        self.stored = opened_answers(stored_answers)
        if known is None and self.stored is None:
            raise InputError("the mixin needs a teacher. Give a causal model, its folder, or its name on the hub.")
        super().__init__(*args, **kwargs)
        trainer: Any = self
        method = distillation or DistillLanguage()
        self.distillation = method
        tokenizer = getattr(trainer, "processing_class", None)
        student = trainer.accelerator.unwrap_model(trainer.model)
        if self.stored is not None:
            self.stored.check_tokenizer(tokenizer)
            check_recall(method, SimpleNamespace(stored=self.stored, teacher=known))
            beside = self.stored.tokenizer if known is None else beside
        words = _words(tokenizer, beside, known, student, self.stored)
        self.teacher = None if known is None else placed(known, trainer.args.device).eval().requires_grad_(False)
        self._check(tokenizer, trainer.accelerator.num_processes)
        if self.teacher is not None:
            check_runs(self.teacher, "teacher", words, answers=self._own)
        self.tokens_known = 0 if tokenizer is None else size_of(tokenizer)
        if tokenizer is not None:
            stops = {*stops_of(self.teacher, tokenizer, student), *(self.stored.origin.stops if self.stored else ())}
            self.stops = tuple(stop for stop in sorted(stops) if stop < words)
            self.ended = ended_by_words(tokenizer)
            write_stops(student, tokenizer, self.stops, words)
        loss = Loss(method.objective, method.clipping, method.spans, words)
        network = loss.network_for()
        self.quantiles = None if network is None else network.to(trainer.args.device)
        self.loss = Loss(method.objective, method.clipping, method.spans, words, self.quantiles)
        cut = getattr(trainer.args, "max_length", None) or 512  # where TRL cuts rows
        longest = method.max_length or min(cut, longest_input(self.teacher, student))
        prompt = method.max_prompt or longest // 2
        spans = method.spans
        self.by = Tokeniser(tokenizer, longest, prompt, method.context, spans.chunk(), spans.span_length, words)
        self.scheduled = Scheduled.start(method.schedule, 0, longest)
        self.coin = torch.Generator().manual_seed(trainer.args.seed)
        self.draws = torch.Generator(trainer.args.device).manual_seed(trainer.args.seed)
        self.seen: dict[str, list[float]] = {}

    @property
    def _own(self) -> bool:
        """Whether the student's answers are used."""
        return self.distillation.schedule.answers_by != "off-policy"

    def _check(self, tokenizer: Any, processes: int) -> None:
        method, own, trainer = self.distillation, self._own, self._trainer
        if method.alignment.aligns:
            raise InputError(
                f"align_by={method.alignment.align_by!r} does not work in trainers, where teacher and student read one "
                "batch. Use language.distill."
            )
        if method.objective.divergence == "policy" or method.schedule.answers_by == "teacher":
            raise InputError(
                "policy gradients and the teacher's answers do not work in trainers. Use language.distill."
            )
        if method.memory != Memory():
            raise InputError(
                "gradient checkpointing, precision and packing are settings of the trainer. Set them in its arguments, "
                "and not in distillation=."
            )
        if tokenizer is None and (own or method.spans.span_weight):
            raise InputError("spans and the student's answers need the tokenizer. Give the trainer processing_class=.")
        if method.clipping.teacher_clip == "learned" and processes > 1:
            raise InputError("a learned mask works in one process only. Use teacher_clip='top-p' on several.")
        if own and (getattr(trainer.args, "packing", False) or getattr(trainer.args, "padding_free", False)):
            raise self._packed_rows()
        if own and _sharded(trainer):
            raise InputError(
                f"with answers_by {method.schedule.answers_by} the student answers prompts, which a sharded student "
                "(FSDP, DeepSpeed ZeRO-3) cannot. Set answers_by='off-policy'."
            )
        other = getattr(trainer.args, "loss_type", "nll") != "nll" or trainer.args.label_smoothing_factor > 0
        if other or getattr(trainer, "compute_loss_func", None) is not None:
            raise InputError(
                "the mixin sets the loss itself. Do not set loss_type, label_smoothing_factor or compute_loss_func."
            )

    def _packed_rows(self) -> InputError:
        return InputError(
            f"with answers_by {self.distillation.schedule.answers_by} the student answers prompts, but rows hold "
            "several of them (packed, or padding-free). Do not pack rows, or set answers_by='off-policy'."
        )

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's optimiser, with the parameters of the clipping network."""
        parent: Any = super()
        optimizer = parent.create_optimizer(*args, **kwargs)
        if self.quantiles is not None:
            network, parameters = self.quantiles, list(self.quantiles.parameters())
            known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            if id(parameters[0]) not in known:
                rate = self.distillation.clipping.quantile_lr
                optimizer.add_param_group({"params": parameters, "lr": rate, "weight_decay": 0.0})
                # The trainer clears the gradients of its model alone.
                optimizer.register_step_post_hook(lambda *_: network.zero_grad())
        return optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The distillation loss in training; the trainer's own in evaluation.

        Args:
            model: The student, as wrapped by the trainer.
            inputs: A batch.
            return_outputs: Whether to return the student's outputs too.
            num_items_in_batch: Number of labels in all batches whose gradients are summed, if the trainer counts them.
        """
        parent: Any = super()
        if not model.training:
            return parent.compute_loss(model, inputs, return_outputs, num_items_in_batch)
        trainer: Any = self
        trainer.loss_is_scaled_for_ga = num_items_in_batch is not None
        self._count(inputs)
        labels = inputs["labels"]
        reference = Places.of(labels)
        total = None if num_items_in_batch is None else float(num_items_in_batch)
        share = 1.0 if total is None else len(reference) / max(total, 1.0)
        drawn = self._drawn(model, inputs)
        outputs = None
        if drawn is None:
            places, said = Places.of(labels, self._spans(inputs)), self._recalled(inputs)
            loss, outputs = self._loss(model, _without_labels(inputs), places, share, Parts(), said)
        else:
            batch = drawn.to(labels.device)
            given = batch.inputs
            loss, _ = self._loss(model, given, Places.of(batch.labels, batch.spans), share, Parts(labels=False))
            if self.distillation.objective.label_weight or return_outputs:
                parts = Parts(teacher=False)
                more, outputs = self._loss(model, _without_labels(inputs), reference, share, parts)
                loss = loss + more
        if total is not None and getattr(trainer.args, "average_tokens_across_devices", False):
            loss = loss * trainer.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _loss(
        self,
        model: nn.Module,
        given: dict[str, Any],
        places: Places,
        share: float,
        parts: Parts,
        said: Tensor | Recalled | None = None,
    ) -> tuple[Tensor, Any]:
        """The mean loss over these tokens, which are a share of all tokens whose gradients are summed."""
        trainer: Any = self
        given = {**given, "use_cache": False}
        outputs = model(**given)
        if said is None and parts.teacher and self.loss.needs_teacher:
            assert self.teacher is not None
            with torch.no_grad(), trainer.accelerator.autocast():
                said = self.teacher(**self._known(given)).logits
        if share == 0:  # a batch without a label among others that have some
            return outputs.logits.sum() * 0, outputs
        own = Counts.of([places])
        loss, shown = self.loss(outputs.logits, said, places, Counts(own.tokens / share, own.pairs / share), parts)
        for name, value in shown.items():
            if name != "loss":
                self.seen.setdefault(name, []).append(float(value) / share)
        return loss, outputs

    def _recalled(self, inputs: Mapping[str, Any]) -> Recalled | None:
        """What is stored of a batch; None without a store, or where the teacher itself has to be asked."""
        if self.stored is None:
            return None
        ids, labels = inputs["input_ids"].cpu(), inputs["labels"].cpu()
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).cpu().bool()
        prompts, responses, whole = [], [], not _packed(inputs)
        for row, label, inside in zip(ids, labels, mask, strict=True):
            tokens, counted = row[inside].tolist(), (label[inside] != UNCOUNTED).tolist()
            start = counted.index(True) if True in counted else len(counted)
            whole = whole and all(counted[start:])
            prompts.append(tokens[:start])
            responses.append(tokens[start:])
        found = self.stored.recall(Batch.of(prompts, responses), self.distillation.recall.rest) if whole else None
        if found is None and self.teacher is None:
            raise InputError(
                "a row of the trainer is not in the stored answers: it has other tokens, or other labels are learned. "
                "Learn the responses only, cut to the same length, and do not pack rows; or give the teacher as well."
            )
        return None if found is None else found.to(inputs["labels"].device)

    def _known(self, given: dict[str, Any]) -> dict[str, Any]:
        """A batch whose padding the teacher knows; the student's padding token may be one that was added."""
        assert self.teacher is not None
        ids, mask, most = given["input_ids"], given.get("attention_mask"), width(self.teacher)
        if self.by.tokenizer is None or self.tokens_known <= most:
            return given
        if mask is not None:
            ids = ids.masked_fill(mask == 0, 0)
        if int(ids.max()) >= most:
            raise InputError(
                f"a row has token {int(ids.max())}, but the teacher knows {most} tokens. Remove it from the text, or "
                "give models of one vocabulary."
            )
        return {**given, "input_ids": ids}

    def _drawn(self, model: nn.Module, inputs: Mapping[str, Any]) -> Batch | None:
        """The batch that the schedule gives in place of this batch; None keeps this batch."""
        method, trainer = self.distillation, self._trainer
        if not self._own:
            return None
        if _packed(inputs):
            raise self._packed_rows()
        student = trainer.accelerator.unwrap_model(model)
        voice = Voice(student, self.loss.words, self.stops, method.sampling, self.ended)
        answers = Answers(
            voice,
            self.teacher,
            self.by,
            method.schedule,
            method.correction,
            method.sampling,
            trainer.accelerator.autocast,
        )
        progress = trainer.state.global_step / max(trainer.state.max_steps, 1)
        drawn = answers.draw(self._batch(inputs), [], self.scheduled, progress, self.coin, self.draws)
        if drawn.corrected is not None:
            self.seen.setdefault("corrected", []).append(drawn.corrected)
        return None if drawn.origin == "data" else drawn.batch

    @property
    def _trainer(self) -> Any:
        return self

    def _count(self, inputs: Mapping[str, Any]) -> None:
        """Count tokens for the reports of TRL's trainers."""
        trainer = self._trainer
        if hasattr(trainer, "_total_train_tokens"):
            tokens = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).sum()
            trainer._total_train_tokens += int(trainer.accelerator.gather(tokens).sum())
            trainer._metrics["train"]["num_tokens"] = [trainer._total_train_tokens]

    def _batch(self, inputs: Mapping[str, Any]) -> Batch:
        """A trainer's batch as prompts and responses, with padding on any side."""
        ids, labels = inputs["input_ids"].cpu(), inputs["labels"].cpu()
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).cpu().bool()
        prompts, responses = [], []
        for row, label, inside in zip(ids, labels, mask, strict=True):
            tokens = row[inside].tolist()
            if len(tokens) > self.by.max_length:
                raise InputError(
                    f"a row has {len(tokens)} tokens, but the student's answers end at {self.by.max_length}. Set "
                    "DistillLanguage.of(max_length=...) to the trainer's row length."
                )
            start, stop = _last_answer((label[inside] != UNCOUNTED).tolist(), self.by.context)
            prompts.append(tokens[:start])
            responses.append(tokens[start:stop])
        return Batch.of(prompts, responses, pad=self.by.pad)

    def _spans(self, inputs: Mapping[str, Any]) -> Tensor | None:
        """The number of each counted token's span."""
        if self.by.chunker is None:
            return None
        found = torch.full_like(inputs["labels"], -1)
        for row, label in enumerate(inputs["labels"]):
            places = (label != UNCOUNTED).nonzero().flatten()
            spans = self.by.spans(inputs["input_ids"][row, places].tolist())
            found[row, places] = torch.tensor(spans, dtype=found.dtype, device=found.device)
        return found

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """The trainer's evaluation. Its loss goes to the adaptive schedule."""
        parent: Any = super()
        metrics = parent.evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        given = self._trainer.eval_dataset if eval_dataset is None else eval_dataset
        names = [f"eval_{name}_loss" for name in given] if isinstance(given, dict) else ["eval_loss"]
        losses = [float(metrics[name]) for name in names if name in metrics]
        # Called for each of several sets, under longer names, and by users for sets by which nothing is chosen.
        if metric_key_prefix == "eval" and losses and self.distillation.schedule.answers_by == "adaptive":
            self.scheduled.validated(sum(losses) / len(losses), self.distillation.schedule)
        return metrics

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The trainer's log, with the parts of the loss since the last log."""
        parent: Any = super()
        if "loss" in logs:
            logs = {**logs, **{name: sum(values) / len(values) for name, values in self.seen.items()}}
            self.seen.clear()
        parent.log(logs, *args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The trainer's files and the clipping network; in a checkpoint, the state of the schedule too."""
        parent: Any = super()
        parent.save_model(output_dir, _internal_call)
        folder = Path(output_dir or self._trainer.args.output_dir)
        if self.quantiles is not None:
            store.write_tensors(folder / NETWORK, self.quantiles.state_dict(), {})
        # Only in a checkpoint's folder: a model that is shared must not contain the prompts of its training.
        if self._own and _internal_call and output_dir is not None and self._trainer.args.should_save:
            store.write_tensors(folder / SCHEDULE, *pack(self._memory()))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        parent: Any = super()
        parent._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        network, schedule = (Path(resume_from_checkpoint) / name for name in (NETWORK, SCHEDULE))
        if self.quantiles is not None and network.is_file():
            self.quantiles.load_state_dict(store.read_tensors(network)[0])
        if self._own and schedule.is_file():
            memory = self._memory()
            unpack(memory, store.read_tensors(schedule))
            self.coin.set_state(memory["coin"])
            self.draws.set_state(memory["draws"])

    def _memory(self) -> dict[str, Any]:
        return {"scheduled": self.scheduled, "coin": self.coin.get_state(), "draws": self.draws.get_state()}


def _sharded(trainer: Any) -> bool:
    """Whether each process has a part of the student's parameters only."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return bool(getattr(trainer, "is_fsdp_enabled", False)) or getattr(plugin, "zero_stage", 0) == 3


def _words(
    tokenizer: Any, beside: Any, teacher: nn.Module | None, student: nn.Module, stored: StoredAnswers | None = None
) -> int:
    """The size of the vocabulary: the tokenizer's, as far as the teacher's has the same, or that of both models."""
    if tokenizer is not None:
        found = shared_words(tokenizer, beside, teacher=teacher, student=student)
        return found if stored is None else stored.shared(found)
    if teacher is None or stored is not None:
        raise InputError("stored answers need the tokenizer of the rows. Give the trainer processing_class=.")
    one, other = width(teacher), width(student)
    if one != other:
        raise InputError(
            f"the teacher has logits for {one} tokens and the student for {other}. Give the trainer "
            "processing_class=, so that padding is known, or models of one vocabulary."
        )
    return one


def _packed(inputs: Mapping[str, Any]) -> bool:
    """Whether a row holds several sequences, whose positions restart."""
    positions = inputs.get("position_ids")
    return positions is not None and "attention_mask" not in inputs and bool((positions[:, 1:] == 0).any())


def _without_labels(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name != "labels"}


def _last_answer(counted: list[bool], context: int) -> tuple[int, int]:
    """Start and end of the last run of learned tokens. A whole text has some context before it."""
    if True not in counted:
        return len(counted), len(counted)
    stop = len(counted) - counted[::-1].index(True)
    start = next((place for place in range(stop, 0, -1) if not counted[place - 1]), 0)
    return start or max(1, min(context, stop - 1)), stop
