"""The arguments of a Trainer that a method cannot take. Each is refused when the Trainer is made, on one line."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attar.classifiers.distillation import Distillation
from attar.core.errors import InputError

ALONE = ("NO",)
REPLICATED = "MULTI_"
"""How accelerate calls one process, and several of which each holds the whole student."""

LAYER_BY_LAYER = ("lomo", "layerwise")
"""Words in the names of optimisers that update the layers of a model in the backward pass."""


def check_arguments(trainer: Any, method: Distillation) -> None:
    """Check that a Trainer has no argument without effect, or with another effect than it says.

    Args:
        trainer: The Trainer, after its own `__init__`.
        method: Settings of a method.

    Raises:
        InputError: It has one.
    """
    for reason in (*_of_the_loss(trainer), *_of_the_machine(trainer), *_of(method, trainer)):
        raise InputError(reason)


def check_problem(network: nn.Module, who: str) -> None:
    """Check that a network chooses one class of several.

    Raises:
        InputError: Its configuration says that it does something else.
    """
    config = getattr(network, "config", None)
    problem, labels = getattr(config, "problem_type", None), getattr(config, "num_labels", None)
    if problem == "multi_label_classification":
        raise InputError(
            f"the {who} gives several classes to one sample (multi_label_classification). The losses here are for one "
            "class each. Train it with its own loss."
        )
    if problem == "regression" or labels == 1:
        raise InputError(f"the {who} gives one number for each sample, not classes. The losses here are for classes.")


def check_optimizer(args: Any, method: Distillation) -> None:
    """Check that the optimiser trains more than the layers of the student.

    Raises:
        InputError: It updates each layer of the student by itself, in the backward pass.
    """
    name = str(getattr(args.optim, "value", args.optim))
    if any(word in name for word in LAYER_BY_LAYER):
        raise InputError(
            f"{method.name} trains modules beside the student, which the optimiser {name} does not reach. Choose "
            "another optim."
        )


def check_labels(labels: Tensor, method: Distillation) -> None:
    """Check that each sample has one class, or shares of classes.

    Raises:
        InputError: The labels are something else, or shares where the method needs one class.
    """
    if not labels.is_floating_point():
        if labels.ndim != 1:
            raise InputError(
                f"the labels have shape {list(labels.shape)}, not one class for each sample. The losses here are for "
                "one class each."
            )
        return
    if method.hard_labels or method.label_loss.name != "cross-entropy":
        raise InputError(f"{method.name} needs one class for each sample, but the labels are real numbers.")
    if labels.ndim != 2 or not torch.allclose(labels.sum(dim=1), labels.new_ones(len(labels)), atol=1e-2):
        raise InputError(
            "the labels are real numbers, but not shares of classes that sum to one. The losses here are for one class "
            "each."
        )


def _of_the_loss(trainer: Any) -> Iterator[str]:
    args = trainer.args
    if args.label_smoothing_factor:
        yield (
            "label_smoothing_factor has no effect, because the method sets the loss. Give the method "
            f"smoothing={args.label_smoothing_factor:g} instead."
        )
    if getattr(trainer, "compute_loss_func", None) is not None:
        yield "compute_loss_func has no effect, because the method sets the loss. Leave it out."
    if args.label_names not in (None, ["labels"]):
        yield f"label_names is {args.label_names}, but the labels must be called `labels`. Rename the column."


def _of_the_machine(trainer: Any) -> Iterator[str]:
    kind = trainer.accelerator.distributed_type.value
    if kind not in ALONE and not kind.startswith(REPLICATED):
        yield (
            f"{kind} splits the student among processes, which does not work here. Start the processes with torchrun "
            "or accelerate launch --multi_gpu."
        )
    if trainer.args.n_gpu > 1:
        yield (
            f"one process does not share {trainer.args.n_gpu} GPUs here. Start one process for each with torchrun, or "
            "set CUDA_VISIBLE_DEVICES."
        )
    if getattr(trainer.accelerator.state.dynamo_plugin, "use_regional_compilation", False):
        yield "regional compilation does not work here. Compile the whole student (torch_compile)."


def _of(method: Distillation, trainer: Any) -> Iterator[str]:
    args, processes = trainer.args, trainer.args.world_size
    if method.remembers_rows and processes > 1:
        yield f"{method.name} remembers samples in one process, but there are {processes}. Use one process."
    if method.dropout and compiles(trainer):
        yield "dropout does not work with torch_compile here. Leave one of them out."
    again = _computed_again(args)
    if again and method.uses_stages:
        yield (
            f"{method.name} compares maps, which get no gradient under reentrant checkpointing. Set use_reentrant to "
            "False."
        )
    if not method.changes_gradients:
        return
    reasons = {
        f"gradient_accumulation_steps={args.gradient_accumulation_steps}": args.gradient_accumulation_steps > 1,
        f"{processes} processes": processes > 1,
        "fp16": args.fp16,
        "torch_compile": compiles(trainer),
        "reentrant checkpointing": again,
    }
    for reason in (reason for reason, holds in reasons.items() if holds):
        yield (
            f"{method.name} aligns the gradients of one whole batch, which does not work with {reason}. Set "
            "alignment='off', or leave that out."
        )


def compiles(trainer: Any) -> bool:
    """Whether the Trainer compiles its model."""
    return str(trainer.accelerator.state.dynamo_plugin.backend.value) != "NO"


def _computed_again(args: Any) -> bool:
    """Whether layers are computed again in the backward pass by the older, reentrant way."""
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        if getattr(args, name, False):
            return bool((getattr(args, f"{name}_kwargs", None) or {}).get("use_reentrant", False))
    return False
