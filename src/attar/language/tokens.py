"""Text as tokens: prompts and responses cut to length, in batches that are masked by length, not by a padding token."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attar.core.errors import InputError, reason_of
from attar.language.chunkers import NONE, Chunker, token_spans
from attar.language.lines import passing_file
from attar.language.losses import UNCOUNTED
from attar.language.sources import TextSource, rows_named
from attar.language.stops import Closing, closing_of

Ids = Int[Tensor, "sequence token"]


@dataclass(frozen=True)
class Batch:
    """Sequences of tokens, prompt first, padded on the right."""

    ids: Ids
    prompts: Int[Tensor, " sequence"]
    """Number of tokens of each prompt."""
    lengths: Int[Tensor, " sequence"]
    """Number of tokens of each sequence."""
    spans: Ids | None = None
    """The number of each token's span."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def mask(self) -> Bool[Tensor, "sequence token"]:
        """Which tokens are not padding."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths.unsqueeze(1)

    @property
    def labels(self) -> Ids:
        """The tokens of the responses; `UNCOUNTED` elsewhere."""
        inside = torch.arange(self.ids.shape[1], device=self.ids.device) >= self.prompts.unsqueeze(1)
        return self.ids.masked_fill(~(self.mask & inside), UNCOUNTED)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a model is given."""
        return {"input_ids": self.ids, "attention_mask": self.mask.long()}

    @property
    def prompt_ids(self) -> list[list[int]]:
        """The prompts."""
        return [row[:end] for row, end in zip(self.ids.tolist(), self.prompts.tolist(), strict=True)]

    @property
    def response_ids(self) -> list[list[int]]:
        """The responses."""
        ends = zip(self.ids.tolist(), self.prompts.tolist(), self.lengths.tolist(), strict=True)
        return [row[start:end] for row, start, end in ends]

    def rows(self, rows: slice | Sequence[int] | Tensor) -> "Batch":
        """Some of the sequences, as wide as the longest of them."""
        lengths = self.lengths[rows]
        widest = int(lengths.max()) if len(lengths) else 0
        spans = None if self.spans is None else self.spans[rows, :widest]
        return Batch(self.ids[rows, :widest], self.prompts[rows], lengths, spans)

    def cut(self, size: int) -> list["Batch"]:
        """Batches of so many sequences, the last of which has what is left."""
        return [self.rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        spans = None if self.spans is None else self.spans.to(device)
        return Batch(self.ids.to(device), self.prompts.to(device), self.lengths.to(device), spans)

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        spans: Sequence[Sequence[int]] | None = None,
        *,
        pad: int = 0,
    ) -> "Batch":
        """A batch from lists: prompts, responses, and the responses' spans."""
        lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
        widest = max(lengths, default=0)
        ids = torch.full((len(prompts), widest), pad, dtype=torch.long)
        inside = None if spans is None else torch.full_like(ids, NONE)
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            ids[row, : lengths[row]] = torch.tensor([*prompt, *response], dtype=torch.long)
            if inside is not None and spans is not None:
                inside[row, len(prompt) : lengths[row]] = torch.tensor(spans[row], dtype=torch.long)
        return cls(ids, torch.tensor([len(p) for p in prompts]), torch.tensor(lengths), inside)


@dataclass(frozen=True)
class Tokeniser:
    """The conversion of text to tokens."""

    tokenizer: Any
    """The tokenizer of transformers."""
    max_length: int
    """Largest number of tokens of a prompt and its response together."""
    max_prompt: int
    """Largest number of tokens of a prompt; the beginning of a longer one is cut off."""
    context: int
    """Number of tokens of plain text before a block, which are not learned again."""
    chunker: Chunker | None = None
    span_length: int = 8
    words: int | None = None
    """Size of the vocabulary that all models share. A text with other tokens is refused. Default: the tokenizer's."""

    @property
    def pad(self) -> int:
        """The padding token. Masks use lengths, so any token will do that all models know."""
        pad = self.tokenizer.pad_token_id
        found = int(pad if pad is not None else self.tokenizer.eos_token_id or 0)
        return found if self.words is None or found < self.words else 0

    @cached_property
    def closing(self) -> Closing | None:
        """How the chat template closes a response; None without a template."""
        return closing_of(self.tokenizer)

    def read(self, source: TextSource, part: str, *, on_disk: bool = False) -> "Tokens":
        """A part of the data as tokens, through `datasets`.

        Args:
            source: Text.
            part: train, validation or test.
            on_disk: Whether the tokens lie in a file that goes with the process, not in memory.

        Raises:
            InputError: It has no token to learn from, a prompt or a response of a row has none, the chat template
                refuses a conversation, or a row has a token that a model does not know.
        """
        rows = getattr(source, part)
        code = {"pair": self._pairs, "chat": self._chats, "text": self._texts}[source.form]
        where = f"of {source.name} ({part})"
        import datasets

        numbers = datasets.Sequence(datasets.Value("int64"))
        columns = {"prompt": numbers, "response": numbers, "spans": numbers, "others": datasets.Sequence(numbers)}
        with _without_bars(), passing_file() if on_disk else nullcontext() as file:
            found = rows.map(
                partial(code, where=where),
                batched=True,
                with_indices=True,
                remove_columns=rows.column_names,
                keep_in_memory=not on_disk,
                cache_file_name=file,
                load_from_cache_file=False,
                features=datasets.Features(columns),
                new_fingerprint=f"{source.fingerprint}{part}",
            )
        if not len(found):
            raise InputError(f"{source.name} has no token to learn from in its part {part}: every response is empty.")
        self._check(found, source, where)
        return Tokens(found, self)

    def _check(self, found: Any, source: TextSource, where: str) -> None:
        """Check that prompts and responses have tokens, all of which all models know."""
        import pyarrow.compute as compute

        for name in ("prompt", "response"):
            column = found.data.column(name)
            empty = compute.equal(compute.list_value_length(column), 0).to_pylist()
            if source.form != "text" and any(empty):
                raise InputError(
                    f"{rows_named(empty)} {where} {'have' if sum(empty) > 1 else 'has'} a {name} without a token. Give "
                    "every row a prompt and a response, or give plain text."
                )
            largest = compute.max(compute.list_flatten(column)).as_py()
            if self.words is not None and largest is not None and largest >= self.words:
                row = next(n for n, ids in enumerate(column.to_pylist(), start=1) if max(ids, default=0) >= self.words)
                token = self.tokenizer.convert_ids_to_tokens(largest)
                raise InputError(
                    f"row {row} {where} has the token {token!r}, which not all models know: they share the first "
                    f"{self.words} tokens. Remove it from the text, or give models of one vocabulary."
                )

    def spans(self, response: Sequence[int]) -> list[int]:
        """The number of the span of each token of a response."""
        assert self.chunker is not None
        return token_spans(response, self.tokenizer, self.chunker, self.span_length)

    def batch(self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Batch:
        """Prompts and responses as a batch, with spans of the responses if there is a chunker."""
        spans = None if self.chunker is None else [self.spans(response) for response in responses]
        return Batch.of(prompts, responses, spans, pad=self.pad)

    def _coded(self, text: str, *, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _columns(
        self, rows: Iterable[tuple[list[int], list[int], list[list[int]]]], *, every: bool = True
    ) -> dict[str, list[Any]]:
        """Prompts, responses and further references, cut to length; every one, or only those with a token to learn."""
        columns: dict[str, list[Any]] = {"prompt": [], "response": [], "spans": [], "others": []}
        for prompt, response, others in rows:
            prompt = prompt[-min(self.max_prompt, self.max_length - 1) :] if prompt else prompt
            room = self.max_length - len(prompt)
            response = response[:room]
            if every or len(response) > (not prompt):  # a token that nothing stands before cannot be foretold
                columns["prompt"].append(prompt)
                columns["response"].append(response)
                columns["spans"].append(self.spans(response) if self.chunker is not None else [])
                columns["others"].append([other[:room] for other in others])
        return columns

    def _end(self) -> list[int]:
        end = self.tokenizer.eos_token_id
        return [] if end is None else [end]

    def _prompt(self, text: str, *, special: bool) -> list[int]:
        ids = self._coded(text, special=special)
        return ids[:-1] if ids[-1:] == self._end() and ids else ids

    def _response(self, text: str) -> list[int]:
        """The tokens of a response, with its end token if the tokenizer adds one."""
        return self._coded(text.removesuffix(self.tokenizer.eos_token or "\0"), special=False) + self._end()

    def _pairs(self, rows: Mapping[str, Any], numbers: list[int], where: str) -> dict[str, list[Any]]:
        further = rows["others"] if "others" in rows else [[]] * len(rows["prompt"])
        return self._columns(
            (self._prompt(prompt, special=True), self._response(response), list(map(self._response, others)))
            for prompt, response, others in zip(rows["prompt"], rows["response"], further, strict=True)
        )

    def _chats(self, rows: Mapping[str, Any], numbers: list[int], where: str) -> dict[str, list[Any]]:
        several = zip(rows["messages"], numbers, strict=True)
        return self._columns((*self._conversation(messages, f"row {n + 1} {where}"), []) for messages, n in several)

    def _conversation(self, messages: list[dict[str, str]], where: str) -> tuple[list[int], list[int]]:
        *before, last = messages
        if self.tokenizer.chat_template is None:
            turns = "".join(f"{turn['role']}: {turn['content']}\n" for turn in before)
            return self._prompt(f"{turns}assistant: ", special=True), self._response(last["content"])
        try:
            prompt = self.tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
            whole = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # a template raises what it likes
            reason = reason_of(error)
            raise InputError(f"the tokenizer's chat template refuses {where} ({reason}).") from None
        closing = self.closing
        if whole.startswith(prompt):
            said = whole.removeprefix(prompt)
        else:  # a template that opens a turn in another way than it writes one
            said = last["content"] + ("" if closing is None else closing.text)
        return self._prompt(prompt, special=False), self._closed(self._coded(said, special=False))

    def _closed(self, response: list[int]) -> list[int]:
        """A response of a conversation up to the token that ends it."""
        closing = self.closing
        if closing is None or closing.stop is None:
            return response if response[-1:] == self._end() else response + self._end()
        tail = len(closing.after)
        if tail and tuple(response[-tail:]) == closing.after:
            response = response[:-tail]
        return response if response[-1:] in ([closing.stop], self._end()) else [*response, closing.stop]

    def _texts(self, rows: Mapping[str, Any], numbers: list[int], where: str) -> dict[str, list[Any]]:
        """Texts one after the other, in blocks: the tokens before a block are its prompt, but are not learned twice."""
        stream = [token for text in rows["text"] for token in (*self._coded(text, special=False), *self._end())]
        stream = stream[: len(stream) - len(self._end())]
        context = min(self.context, self.max_length - 1)
        fresh = self.max_length - max(context, 1)
        starts = range(min(1, len(stream)), len(stream), fresh)
        empty: list[list[int]] = []
        blocks = ((stream[max(0, s - max(context, 1)) : s], stream[s : s + fresh], empty) for s in starts)
        return self._columns(blocks, every=False)


@dataclass(frozen=True)
class Tokens:
    """A part of the data as tokens."""

    rows: Any
    """A `datasets.Dataset` of prompt, response, spans and other references."""
    by: Tokeniser

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Some of the sequences."""
        found = self.rows[list(rows)]
        spans = None if self.by.chunker is None else found["spans"]
        return Batch.of(found["prompt"], found["response"], spans, pad=self.by.pad)

    @property
    def count(self) -> int:
        """Number of tokens of the responses."""
        return sum(map(len, self.rows["response"]))

    @property
    def letters(self) -> int:
        """Number of characters of the responses."""
        return sum(len(self.by.tokenizer.decode(ids, skip_special_tokens=True)) for ids in self.rows["response"])

    @property
    def cut(self) -> bool:
        """Whether a row is as long as rows may be, so that it may have been cut."""
        both = zip(self.rows["prompt"], self.rows["response"], strict=True)
        return any(len(prompt) + len(response) >= self.by.max_length for prompt, response in both)

    def references(self, rows: Sequence[int]) -> list[list[list[int]]]:
        """All references for an answer to each prompt, the response first."""
        found = self.rows[list(rows)]
        pairs = zip(found["response"], found["others"], strict=True)
        return [[response, *others] for response, others in pairs]


@contextmanager
def _without_bars() -> Iterator[None]:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
