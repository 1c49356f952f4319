"""One vocabulary for teacher and student: which vocabularies are equal, and which logits are cut off.

A model may have more logits than its tokenizer has tokens, padded to a round number, and two models of one family may
be padded differently. The rules: the tokens must be equal, with equal numbers. At the end of either vocabulary there
may be special tokens that the other one lacks, such as an added padding token. Both are compared without them, and
without the logits beyond the tokenizer's. Otherwise a model with fewer logits than tokens is refused.
"""

from typing import Any

from torch import nn

from attar.core.errors import InputError


def width(model: nn.Module) -> int:
    """Number of logits of a causal model."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(head, "weight", None)
    return int(weight.shape[0] if weight is not None else model.config.vocab_size)  # type: ignore[union-attr, arg-type]


def size_of(tokenizer: Any) -> int:
    """Number of logits that a tokenizer needs: the largest number of a token, and one."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def special_tokens(tokenizer: Any) -> set[int]:
    """The tokens that are no part of a text: special ones, and those that were added to the vocabulary."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {*tokenizer.all_special_ids, *added}


def shared_words(tokenizer: Any, other: Any = None, **models: nn.Module | None) -> int:
    """The size of the vocabulary, to which logits are cut.

    Args:
        tokenizer: The tokenizer of the data.
        other: The tokenizer of the teacher, if it is another one.
        models: Models by their names: teacher, student.

    Raises:
        InputError: The tokenizers differ, or a model has fewer logits than the tokenizer has tokens.
    """
    words = size_of(tokenizer) if other is None else check_same(other, tokenizer)
    special = special_tokens(tokenizer)
    for who, model in models.items():
        if model is None or width(model) >= words:
            continue
        if not special.issuperset(range(width(model), words)):
            raise InputError(
                f"the {who} has logits for {width(model)} tokens, but the tokenizer has {words}. Give teacher and "
                "student of one model family."
            )
        words = width(model)
    return words


def check_same(teacher: Any, student: Any, *, advice: str | None = None) -> int:
    """Check that two tokenizers give the same numbers to the same tokens, apart from special tokens at the end.

    Args:
        teacher: The teacher's tokenizer; None for none.
        student: The student's.
        advice: What to do if they do not. Default: give models of one family.

    Returns:
        The number of tokens that both have; of one tokenizer, if the other is None, all.

    Raises:
        InputError: They do not.
    """
    known = [one for one in (teacher, student) if one is not None]
    sizes = [size_of(one) for one in known]
    if len(known) < 2:
        return max(sizes, default=0)
    one, other = teacher.get_vocab(), student.get_vocab()
    if one == other:
        return sizes[0]
    changed = sorted(token for token in {*one, *other} if one.get(token) != other.get(token))
    first = min(vocabulary[token] for token in changed for vocabulary in (one, other) if token in vocabulary)
    for tokenizer, vocabulary in zip(known, (one, other), strict=True):
        if not special_tokens(tokenizer).issuperset(number for number in vocabulary.values() if number >= first):
            raise InputError(
                f"teacher and student have different vocabularies: {len(one)} and {len(other)} tokens, {len(changed)} "
                f"of them different, the first {changed[0]!r}. {advice or 'Give models of one family.'}"
            )
    return first
