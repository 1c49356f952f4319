"""One vocabulary for teacher and student: which vocabularies are equal, and which logits are cut off.

A model may have more logits than its tokenizer has tokens, padded to a round number, and two models of one family may
be padded differently. The rules: the tokens must be equal, with equal numbers. Logits beyond the tokenizer's are
padding and are ignored for both models, in losses and in sampling. A model with fewer logits than tokens is refused.
"""

from typing import Any

from torch import nn

from attar.core.errors import InputError


def width(model: nn.Module) -> int:
    """Number of logits of a causal model."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(head, "weight", None)
    return int(weight.shape[0] if weight is not None else model.config.vocab_size)  # type: ignore[union-attr, arg-type]


def shared_words(tokenizer: Any, **models: nn.Module | None) -> int:
    """The size of the vocabulary, to which logits are cut.

    Args:
        tokenizer: The tokenizer of both models.
        models: Models by their names: teacher, student.

    Raises:
        InputError: A model has fewer logits than the tokenizer has tokens.
    """
    words = len(tokenizer)
    for who, model in models.items():
        if model is not None and width(model) < words:
            raise InputError(
                f"the {who} has logits for {width(model)} tokens, but the tokenizer has {words}. Give teacher and "
                "student of one model family."
            )
    return words


def check_same(teacher: Any, student: Any) -> None:
    """Check that two tokenizers give the same numbers to the same tokens.

    Raises:
        InputError: They do not.
    """
    if teacher is None or student is None:
        return
    one, other = teacher.get_vocab(), student.get_vocab()
    if one == other:
        return
    changed = sorted(token for token in {*one, *other} if one.get(token) != other.get(token))
    raise InputError(
        f"teacher and student have different vocabularies: {len(one)} and {len(other)} tokens, {len(changed)} of them "
        f"different, the first {changed[0]!r}. Give models of one family."
    )
