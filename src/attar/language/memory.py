"""Settings that make room for large students: activations computed again, 16-bit parameters, and packed rows."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from attar.core.errors import InputError, reason_of
from attar.core.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Memory(Settings):
    """How a large student is held in memory, and how short examples are put into rows."""

    gradient_checkpointing: bool = False
    """Whether the student's activations are computed again in the backward pass instead of being kept, layer by layer
    (Chen et al., arXiv:1604.06174). It saves memory and costs one more forward pass of the student."""
    student_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the student's parameters in training. With bfloat16 the optimiser keeps float32 master copies, in
    which it takes its steps."""
    saved_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision in which the trained student is saved."""
    packing: bool = False
    """Whether several short examples share one row of at most --max-length tokens. They do not see each other."""


def recompute_activations(student: nn.Module) -> None:
    """Have a student compute its activations again in the backward pass, with the same dropout.

    Raises:
        InputError: Its family cannot.
    """
    base = _base(student)
    turn = _named(base, "activation_checkpointing_enable", "gradient_checkpointing_enable")
    try:
        if turn is None:
            raise ValueError(f"{type(base).__name__} has no gradient checkpointing")
        turn({"use_reentrant": False})
    except ValueError as error:
        raise InputError(f"--gradient-checkpointing does not work with this student: {reason_of(error)}.") from None
    if hasattr(base, "disable_input_require_grads") and getattr(base, "_require_grads_hooks", None):
        base.disable_input_require_grads()  # what only the reentrant form needs


def keep_activations(student: nn.Module) -> None:
    """Undo `recompute_activations`."""
    turn = _named(_base(student), "activation_checkpointing_disable", "gradient_checkpointing_disable")
    if turn is not None:
        turn()


def _base(model: nn.Module) -> Any:
    """A model without its adapters."""
    return getattr(model, "get_base_model", lambda: model)()


def _named(thing: Any, *names: str) -> Any:
    """The first of these attributes that there is."""
    return next((getattr(thing, name) for name in names if hasattr(thing, name)), None)
