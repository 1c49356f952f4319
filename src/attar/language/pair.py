"""The input of a distillation: a teacher, the student at its start, and data, in one vocabulary."""

import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from attar.core import store
from attar.core.errors import InputError
from attar.language.answers import StoredAnswers
from attar.language.artefact import DistilledLanguageModel, check_model, parameter_count
from attar.language.generation import Sampling, Voice
from attar.language.models import (
    byte_tokenizer,
    causal_model,
    check_fresh,
    is_fresh,
    longest_input,
    tokenizer_beside,
    tokenizer_of,
)
from attar.language.offloaded import Stored
from attar.language.placement import Teacher
from attar.language.server import Server
from attar.language.sources import TextSource
from attar.language.stops import EndWords, ended_by_words, stops_of
from attar.language.tokens import Tokeniser, Tokens
from attar.language.vocabulary import check_same, shared_words, size_of

Model = nn.Module | DistilledLanguageModel | str | Path | None

ADVICE = "Give models of one family, or let each of them read its own tokens (--align-by spans)."
"""What to do about two vocabularies, where there is a setting for them."""
VOCABULARY = 512
"""Number of tokens of the tokenizer that is learned from the data, if no model has one."""


@dataclass(frozen=True)
class LanguagePair:
    """Teacher, student and data."""

    data: TextSource
    tokenizer: Any
    """The tokenizer of both models, from transformers."""
    teacher: nn.Module | None = None
    student: nn.Module | None = None
    """A trained or given student; None for a fresh one, which the method describes."""
    corpus: TextSource | None = None
    """Further text whose cross-entropy is added."""
    others: Any = None
    """The teacher's tokenizer, if it has other special tokens at its end."""
    foreign: Any = None
    """The teacher's tokenizer, if it is another one and the teacher reads its own tokens."""
    answers: int = 0
    """Number of test prompts that both answer at the end."""
    stored: StoredAnswers | None = None
    """A teacher's stored answers to the training references."""
    server: Server | None = None
    """A server that answers the training prompts."""
    _read: dict[Any, Tokens] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data, the tokenizer, the teacher's parameters, and a given student's initial parameters."""
        tensors = Stored({"teacher": self.teacher, "student": self.student})
        facts: dict[str, Any] = {"data": self.data.fingerprint, "corpus": self.corpus and self.corpus.fingerprint}
        if self.stored is not None:
            facts["stored"] = self.stored.fingerprint
        if self.server is not None:
            facts["server"] = self.server.answerer
        if self.foreign is not None:
            facts["teacher's tokens"] = self.foreign.get_vocab()
        return store.digest_of(tensors, {**facts, "tokens": self.tokenizer.get_vocab()})

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.data.name

    @cached_property
    def words(self) -> int:
        """The size of the vocabulary.

        Raises:
            InputError: A model has fewer logits.
        """
        found = shared_words(self.tokenizer, self.others, teacher=self._alike, student=self.student)
        return found if self.stored is None else self.stored.shared(found)

    @property
    def teacher_parameters(self) -> int | None:
        """Number of parameters of the teacher; of the one whose answers are stored, if there are any."""
        if self.stored is not None:
            return self.stored.origin.teacher_parameters
        return None if self.teacher is None else parameter_count(self.teacher)

    @property
    def theirs(self) -> Any:
        """The teacher's tokenizer."""
        return next(one for one in (self.foreign, self.others, self.tokenizer) if one is not None)

    @property
    def teacher_words(self) -> int:
        """The size of the vocabulary that the teacher answers with.

        Raises:
            InputError: It has fewer logits.
        """
        return self.words if self.foreign is None else shared_words(self.foreign, teacher=self.teacher)

    @property
    def _alike(self) -> nn.Module | None:
        """The teacher, if it has the student's tokens."""
        return self.teacher if self.foreign is None else None

    def of_teacher(self) -> "LanguagePair":
        """The teacher alone, with its own tokenizer."""
        return LanguagePair(self.data, self.theirs, student=self.teacher, answers=self.answers)

    @cached_property
    def stops(self) -> tuple[int, ...]:
        """The tokens that end an answer of either model."""
        found = stops_of(self._alike, self.tokenizer, self.student)
        more = self.stored.origin.stops if self.stored else ()
        return tuple(token for token in sorted({*found, *more}) if token < self.words)

    def voice(self, model: nn.Module, sampling: Sampling) -> Voice:
        """A model that answers with the vocabulary and the ends of both."""
        return Voice(model, self.words, self.stops, sampling, self._ended)

    @cached_property
    def _ended(self) -> EndWords | None:
        return ended_by_words(self.tokenizer)

    @property
    def longest(self) -> int:
        """The largest number of tokens that teacher and student can read; the student, if the teacher's are others."""
        return longest_input(self._alike, self.student)

    def lengths_for(self, method: Any, *, of: str) -> tuple[int, int]:
        """Largest numbers of tokens of a sequence and of its prompt: those that settings give, or the usual ones.

        Args:
            method: Settings with `max_length` and `max_prompt`.
            of: Who reads how, for messages: "the models read".

        Raises:
            InputError: They are too large for the models or for one another.
        """
        longest = method.max_length or (self.stored.origin.max_length if self.stored else min(512, self.longest))
        if longest > self.longest:
            raise InputError(f"max_length is {longest}, but {of} at most {self.longest} tokens.")
        prompt = method.max_prompt or max(1, longest // 2)
        if prompt >= longest:
            raise InputError(
                f"max_prompt is {prompt} of {longest} tokens, so no token is left for a response. Give a smaller "
                "max_prompt."
            )
        return longest, prompt

    def tokens(self, part: str, by: Tokeniser, *, on_disk: bool = False) -> Tokens:
        """A part of the data as tokens, read once. `corpus` is the further text.

        Args:
            part: train, validation, test or corpus.
            by: The conversion.
            on_disk: Whether they lie in a file, not in memory, if they are read now.
        """
        key = (part, by.max_length, by.max_prompt, by.context, by.chunker, by.span_length)
        if key not in self._read:
            further = self.corpus if part == "corpus" else None
            of, name = (further, "train") if further is not None else (self.data, part)
            self._read[key] = by.read(of, name, on_disk=on_disk)
        return self._read[key]

    def __str__(self) -> str:
        return str(self.data)


def paired(
    data: TextSource,
    teacher: Model | Teacher,
    student: Model,
    tokenizer: Any = None,
    corpus: TextSource | None = None,
    stored: StoredAnswers | None = None,
    *,
    apart: bool | None = None,
    called: str = "student",
) -> LanguagePair:
    """Open a teacher and a student by name, and check that they have one vocabulary.

    Args:
        data: Text.
        teacher: A model, the folder of one, or a name on the hub, or either with its place; None for none.
        student: A model in the same forms; for a fresh one None, or a description such as gpt2:layers=1,width=64.
        tokenizer: A tokenizer of transformers, its folder, or its name on the hub, if no model has one. If there is
            none at all, a byte-level one is learned from the data.
        corpus: Further text.
        stored: A teacher's stored answers. Without a teacher the tokenizer is theirs.
        apart: Whether their vocabularies may differ, and the teacher reads its own tokens. None: they may not, and no
            setting would change that.
        called: What the student is, for messages.

    Raises:
        InputError: There is no such model, it exists only as a pickle, the vocabularies differ, or a trainer has
            replaced the student's forward.
    """
    place = teacher if isinstance(teacher, Teacher) else Teacher(model=teacher)
    if place.asks and place.model is None:
        raise InputError("a place or a precision is given for the teacher, but no teacher. Give one (--teacher).")
    if isinstance(student, str) and is_fresh(student):
        check_fresh(student)
        student = None
    one, other = opened(place.model, "teacher", place=place), opened(student, called, to_train=True)
    if isinstance(tokenizer, (str, Path)):
        tokenizer = tokenizer_of(tokenizer)
    elif tokenizer is not None and not hasattr(tokenizer, "get_vocab"):
        raise InputError(
            f"the tokenizer is of type {type(tokenizer).__name__}. Give one of transformers, or its folder."
        )
    theirs, mine = one[1], other[1] if other[1] is not None else tokenizer
    if stored is not None:
        for known in (theirs, mine):
            stored.check_tokenizer(known)
        theirs = theirs if one[0] is not None else stored.tokenizer
    check_same(mine, tokenizer)
    if apart and one[0] is not None and _differ(theirs, mine):
        return _apart(LanguagePair(data, mine, one[0], other[0], corpus, foreign=theirs))
    check_same(theirs, mine, advice=ADVICE if apart is False else None)
    found, others = _chosen(theirs, mine)
    if found is None:
        if one[0] is not None or other[0] is not None:
            raise InputError("the model has no tokenizer, so its tokens are not known. Give one (tokenizer=).")
        found = byte_tokenizer(data.texts(), VOCABULARY)
    pair = LanguagePair(data, found, one[0], other[0], corpus, others, stored=stored)
    assert pair.words
    return pair


def _differ(teacher: Any, student: Any) -> bool:
    """Whether both have a tokenizer, and these give numbers to tokens differently."""
    try:
        check_same(teacher, student)
    except InputError:
        return True
    return False


def _apart(pair: LanguagePair) -> LanguagePair:
    """A pair whose models have tokenizers of their own, with enough logits for them.

    Raises:
        InputError: A tokenizer has no tokens, or a model has too few logits.
    """
    for who, tokenizer in (("teacher", pair.foreign), ("student", pair.tokenizer)):
        if size_of(tokenizer) < 2:  # what transformers makes of a folder that has a model alone
            raise InputError(f"the {who}'s tokenizer has no tokens. Save one into the folder of the {who}.")
    assert pair.words
    assert pair.teacher_words
    return pair


def _chosen(teacher: Any, student: Any) -> tuple[Any, Any]:
    """The tokenizer of a pair, and the teacher's where that is another one.

    Where they differ in special tokens it is the student's, with which the student is saved, and with the teacher's
    chat template if it has none.
    """
    if teacher is None or student is None or teacher.get_vocab() == student.get_vocab():
        return teacher if teacher is not None else student, None
    if student.chat_template is None and teacher.chat_template is not None:
        student = copy.deepcopy(student)
        student.chat_template = teacher.chat_template
    return student, teacher


def opened(
    model: Model, who: str, *, to_train: bool = False, place: Teacher | None = None
) -> tuple[nn.Module | None, Any]:
    """A model by itself or by name, and its tokenizer where that is known.

    Args:
        model: A model, the folder of one, or a name on the hub; None for none.
        who: What it is, for messages.
        to_train: Whether it is trained; from a folder it is then read as float32.
        place: Where it lies, and in which precision; for a folder or a name.

    Raises:
        InputError: There is no such model, or it is none that can be used.
    """
    if model is None:
        return None, None
    if place is not None and place.asks and not isinstance(model, (str, Path)):
        raise InputError(f"the {who} is in memory already, so it is not placed anew. Give its folder, or no placement.")
    if isinstance(model, DistilledLanguageModel):
        return model.model, model.tokenizer
    if isinstance(model, nn.Module):
        if not hasattr(model, "config"):
            raise InputError(f"the {who} is a {type(model).__name__}. Give a causal model of transformers.")
        if to_train and any("forward" in vars(module) for module in model.modules()):
            # A copy would run on the parameters of the original.
            raise InputError(f"a trainer has replaced the {who}'s forward. Save the model and give its folder.")
        return model, tokenizer_beside(model)
    if isinstance(model, StoredAnswers):
        raise InputError(f"the {who} is a teacher's stored answers, no model. Give them as stored answers.")
    if not isinstance(model, (str, Path)) or str(model) == "":
        what = "an empty name" if model == "" else f"of type {type(model).__name__}"
        raise InputError(
            f"the {who} is {what}. Give a causal model of transformers, its folder or its name on the hub."
        )
    if str(model).startswith(("http://", "https://")):
        raise InputError(
            f"the {who} is the address of a server. Name it with --server, and its model with --server.model."
        )
    if is_fresh(str(model)):
        raise InputError(
            f"the {who} is {str(model)!r}, which is not trained yet. Train it first, by language.train, or by attar "
            f"distill language --divergence none --student {model}."
        )
    model = Path(model).expanduser() if str(model).startswith("~") else model
    check_model(Path(model))
    return causal_model(model, to_train=to_train, place=place), tokenizer_of(model)
