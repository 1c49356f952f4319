"""A distilled language model on disk and in memory: a folder that transformers opens, with attar's facts about it."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES, escaped, made, model_header, score_table, table
from attar.core.cell import Cell, Measure
from attar.core.errors import InputError
from attar.core.notes import note
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.language.generation import Sampling, Voice, generate
from attar.language.models import causal_model, longest_input, silent, tokenizer_of
from attar.language.stops import ended_by_words, stops_of
from attar.language.vocabulary import size_of, width

SCHEMA = 1
KIND = "language"
MODEL, ANSWERS = "model", "answers"
"""What a folder of this kind may hold."""
DRAFT = ".draft-"
READ = (
    "*.bpe",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "*config*.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "additional_chat_templates/*",
    "added_tokens.json",
    "chat_template*",
    "custom_generate/*",
    "merges.txt",
    "special_tokens_map.json",
    "token*",
    "vocab*",
)
"""Files that decide what transformers makes of a folder, as patterns."""


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a student."""

    parameters: int
    teacher_parameters: int | None
    max_length: int
    content: str | None = None
    """The data's own fingerprint; None in the first students."""

    @classmethod
    def of(cls, pair: Any, method: Any, runtime: Runtime, student: nn.Module) -> Self:
        """The origin of the student that `method` makes from a `LanguagePair`."""
        return cls.made(
            pair,
            method,
            runtime,
            parameters=parameter_count(student),
            teacher_parameters=pair.teacher_parameters,
            max_length=method.max_length,
            content=pair.data.fingerprint,
        )


@dataclass(frozen=True)
class DistilledLanguageModel(core.Shareable):
    """A causal model of transformers and its tokenizer, without the modules that were trained beside it."""

    make: Callable[[], nn.Module] = field(repr=False, compare=False)
    """Function that makes the model, so that training copies it only when it is used."""
    tokenizer: Any
    origin: Origin
    scores: dict[str, Any] = field(default_factory=dict)
    """Measures on the test part for `student` and `teacher`, and `kept`: the teacher's perplexity divided by the
    student's, in per cent."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which it was last saved."""

    kind = KIND
    repo_type = "model"
    files = (core.ARTEFACT, core.CARD, SCORES)

    @property
    def title(self) -> str:
        """A title of a few words."""
        return f"A student of {self.origin.source}"

    @classmethod
    def files_in(cls, folder: Path) -> list[str]:
        """Names of its files, including those of transformers."""
        return [*_facts(folder)["files"], *cls.files]

    @cached_property
    def model(self) -> nn.Module:
        """The model, in evaluation mode."""
        return self.make().eval()

    def answer(self, prompt: str, *, tokens: int | None = None, seed: int = 0, temperature: float = 1.0) -> str:
        """The model's answer to a prompt.

        A prompt that leaves no room for an answer loses its beginning, as in training; a warning says so.

        Args:
            prompt: Text.
            tokens: Largest number of tokens. Default: what its training length leaves. Never more than the model reads.
            seed: Seed of the sampling.
            temperature: Temperature of the sampling; 0 takes the most probable token.

        Raises:
            InputError: The prompt has no token.
        """
        ids, most = self._with_room(list(self.tokenizer(prompt, verbose=False)["input_ids"]), tokens)
        device = next(self.model.parameters()).device
        voice = Voice(
            self.model,
            min(size_of(self.tokenizer), width(self.model)),
            stops_of(self.model, self.tokenizer),
            Sampling(sampling_temperature=temperature),
            ended_by_words(self.tokenizer),
        )
        (said,) = generate(voice, [ids], [most], torch.Generator(device).manual_seed(seed))
        said = said[:-1] if said and said[-1] in voice.stops else said
        text = str(self.tokenizer.decode(said, skip_special_tokens=True))
        return text if voice.ended is None else voice.ended.without(text)

    def _with_room(self, ids: list[int], tokens: int | None) -> tuple[list[int], int]:
        """A prompt with room for an answer, and the largest number of tokens of that answer."""
        trained = min(self.origin.max_length, longest_input(self.model))
        reads = trained if tokens is None else longest_input(self.model)
        if len(ids) >= reads:
            kept = min(int(self.origin.settings.get("max_prompt") or trained // 2), trained - 1)
            note(
                f"the prompt has {len(ids)} tokens, and prompt and answer together {reads} at most: only the last "
                f"{kept} tokens of the prompt are read, as in training.",
                stacklevel=3,
            )
            ids = ids[-kept:]
        room = reads - len(ids)
        return ids, room if tokens is None else min(tokens, room)

    def save(self, folder: str | Path) -> Self:
        """Write the model to a folder, as `from_pretrained` reads it, and return the saved copy.

        Each file is written whole or not at all.
        """
        folder = Path(folder)
        store.make_folder(folder)
        for left_by_a_kill in folder.glob(f"{DRAFT}*"):
            store.remove(left_by_a_kill)
        store.check_finite(self.model.state_dict(), f"{folder} is not written")
        with tempfile.TemporaryDirectory(prefix=DRAFT, dir=folder) as draft, silent():
            self.model.save_pretrained(draft, safe_serialization=True)  # type: ignore[operator]
            self.tokenizer.save_pretrained(draft)
            names = sorted(str(path.relative_to(draft)) for path in Path(draft).rglob("*") if path.is_file())
            digests = core.digests_of(Path(draft), names)
            for name in names:
                (folder / name).parent.mkdir(exist_ok=True)
                (Path(draft) / name).replace(folder / name)
        facts = {
            "digests": digests,
            "files": names,
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: There is no student, or a file is damaged or altered.
        """
        folder = Path(folder).expanduser()
        facts = _facts(folder)
        core.check_files(folder, facts["files"], facts["digests"])
        _check_nothing_added(folder, facts["files"])
        model = causal_model(folder)
        store.check_finite(model.state_dict(), f"{folder} is of a run that diverged")
        return cls(lambda: model, tokenizer_of(folder), Origin(**facts["origin"]), facts["scores"], folder)

    @property
    def first_scores(self) -> tuple[Cell, ...]:
        """The cross-entropy on the test part."""
        return tuple(_as_scores(self.scores))

    def shown(self, images: int = 10) -> core.Shown:
        """The sizes of the student and its teacher, and their scores."""
        student, teacher = self.origin.parameters, self.origin.teacher_parameters
        sizes = {"student" if teacher else "model": student, "teacher": teacher}
        return core.Shown(
            size=f"{student:,} parameters",
            count=student,
            share=100 * student / teacher if teacher else None,
            facts={who: f"{size:,} parameters{_told(self.scores.get(who))}" for who, size in sizes.items() if size},
            scores=self.first_scores,
        )

    def _header(self, scores: list[Cell]) -> str:
        words = {"library": "transformers", "pipeline": "text-generation"}
        return model_header("knowledge-distillation", made=self, scores=scores, **words)

    def card(self, scores: list[Cell]) -> str:
        """The text of README.md, in the form that the hub reads."""
        return f"""{self._header(scores)}
# {escaped(self.title)}

{self}

```python
import attar.language as language

student = language.DistilledLanguageModel.load("FOLDER")
print(student.answer("..."))
```

`transformers.AutoModelForCausalLM.from_pretrained` opens the folder as well.
{_measured(self.scores)}{score_table(scores)}
## How it was made

{made(self.origin)}
"""

    def __str__(self) -> str:
        who = "model" if self.origin.teacher_parameters is None else "student"
        lines = [f"{who}: {self.origin.parameters:,} parameters{_told(self.scores.get('student'))}"]
        if self.origin.teacher_parameters is not None:
            lines.append(f"teacher: {self.origin.teacher_parameters:,} parameters{_told(self.scores.get('teacher'))}")
        if "kept" in self.scores:
            lines.append(f"kept: {self.scores['kept']:.1f} % (the teacher's perplexity over the student's)")
        return "\n".join(lines)


def check_model(folder: Path, facts: Any = None) -> None:
    """Check that a folder does not hold stored answers, where a model is asked for.

    Args:
        folder: The folder, which need not be there.
        facts: What its `artefact.json` says. Default: it is read, if there is one.

    Raises:
        InputError: It does.
    """
    path = folder / core.ARTEFACT
    facts = store.read_json(path) if facts is None and path.is_file() else facts
    if isinstance(facts, dict) and facts.get(core.FORM) == ANSWERS:
        raise InputError(f"{folder} holds a teacher's stored answers, no model. Give them as --stored-answers.")


def _facts(folder: Path) -> dict[str, Any]:
    facts = core.read_facts(folder, KIND, SCHEMA, "distilled language model")
    check_model(folder, facts)
    return facts


def _check_nothing_added(folder: Path, names: Sequence[str]) -> None:
    """Refuse files that transformers would read besides those that attar wrote.

    Raises:
        InputError: There is one.
    """
    found = [str(path.relative_to(folder)) for pattern in READ for path in folder.glob(pattern)]
    added = sorted(set(found) - {*names, *DistilledLanguageModel.files})
    if added:
        raise InputError(f"{folder / added[0]} is not part of the student, but transformers would read it. Remove it.")


def parameter_count(model: nn.Module) -> int:
    """Number of parameters.

    Tied ones count once; those of adapters do not count, because adapters are merged at the end.
    """
    count = sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" not in name)
    return count - _counted_twice(model)


def _counted_twice(model: nn.Module) -> int:
    """The size of an output embedding that is the input embedding too, where both are offloaded, each by itself."""
    sides = [getattr(model, f"get_{side}_embeddings", lambda: None)() for side in ("input", "output")]
    one, other = (getattr(side, "weight", None) for side in sides)
    tied = getattr(getattr(model, "config", None), "tie_word_embeddings", False)
    if not tied or one is None or other is None or one is other or "meta" not in (one.device.type, other.device.type):
        return 0
    return int(other.numel())


def _as_scores(scores: dict[str, Any]) -> Iterator[Cell]:
    """The cross-entropy on the test part, with ROUGE-L and compared with the teacher's, as a score."""
    student, teacher = scores.get("student"), scores.get("teacher")
    student, teacher = (found if found and "cross_entropy" in found else None for found in (student, teacher))
    if student:
        yield Cell(
            Score(student["cross_entropy"], "nats", "lower"),
            column="cross-entropy",
            full=Score(teacher["cross_entropy"], "nats", "lower") if teacher else None,
            whole="its teacher",
            kept_by_set=(scores.get("kept"),),
            further={"ROUGE-L": Measure(Score(student["rouge_l"], "×100"))} if "rouge_l" in student else {},
        )


def _told(scores: dict[str, Any] | None) -> str:
    if not scores or "cross_entropy" not in scores:
        return ""
    words = [f"cross-entropy {scores['cross_entropy']:.4f} nats"]
    if "rouge_l" in scores:
        words.append(f"ROUGE-L {scores['rouge_l']:.1f}")
    return ", " + ", ".join(words)


def _measured(scores: dict[str, Any]) -> str:
    rows = {who: found for who, found in scores.items() if isinstance(found, dict)}
    columns = list(next(iter(rows.values()), {}))
    cells = [[who, *(_cell(found.get(column)) for column in columns)] for who, found in rows.items()]
    shown = table(["", *(column.replace("_", " ") for column in columns)], cells)
    return f"\n{shown}\n" if rows else ""


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "–"
