"""A small text of commands, a tokenizer of its own, a tiny teacher and student, and models that are tables."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from attar.core.runtime import Engine
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.phrases import drawn
from attar.language.sources import TextSource, load


class Bigram(nn.Module):
    """A model whose next token depends on the last one alone."""

    def __init__(self, rows):
        super().__init__()
        self.table = nn.Parameter(torch.as_tensor(rows, dtype=torch.float32).log())
        self.config = SimpleNamespace(vocab_size=len(rows))

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=False):
        return SimpleNamespace(logits=self.table[input_ids], past_key_values=None)


@pytest.fixture(scope="session")
def bigram():
    return Bigram


@pytest.fixture(scope="session")
def source() -> TextSource:
    """Forty prompts with responses to learn from, and eight of either other part."""
    parts = {part: drawn(count, part) for part, count in {"train": 40, "validation": 8, "test": 8}.items()}
    return load({part: list(rows) for part, rows in parts.items()})


@pytest.fixture(scope="session")
def tokenizer(source):
    return byte_tokenizer(source.texts(), 300)


@pytest.fixture(scope="session")
def teacher(tokenizer):
    return fresh_model("gpt2:layers=2,width=32,heads=2", tokenizer, 96, torch.Generator().manual_seed(1)).eval()


@pytest.fixture(scope="session")
def student(tokenizer):
    return fresh_model("gpt2:layers=1,width=16,heads=2", tokenizer, 96, torch.Generator().manual_seed(2)).eval()


@pytest.fixture(scope="session")
def engine():
    return Engine(device="cpu", compile="off", quiet=True)


@pytest.fixture
def logits():
    """A student's and a teacher's, of seven tokens and nine words, in float64."""
    return torch.randn(2, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture(scope="session")
def differences():
    """The gradient of a function by finite differences, for functions that go backward once."""

    def gradient(function, point, step=1e-6):
        found = torch.zeros_like(point)
        for index in range(point.numel()):
            moved = [point.clone() for _ in range(2)]
            for one, sign in zip(moved, (1, -1), strict=True):
                one.view(-1)[index] += sign * step
            found.view(-1)[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
        return found

    return gradient
