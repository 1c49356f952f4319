"""Packed rows: their loss and its gradient are those of the examples apart, for families that keep them apart."""

import copy

import pytest
import torch

from attar.core.errors import InputError
from attar.language.clipping import Clipping
from attar.language.divergences import Objective
from attar.language.losses import UNCOUNTED, Places
from attar.language.models import fresh_model
from attar.language.objective import Counts, Loss, Parts
from attar.language.objective import Spans as SpanSettings
from attar.language.packing import check_packs, packed, rows_for
from attar.language.tokens import Batch, Tokeniser

FAMILIES = ("gpt2", "llama", "qwen2")
LONGEST = 300
"""Tokens of a row; an example has about sixty."""


def model_of(family, tokenizer, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return fresh_model(f"{family}:layers=2,width=32,heads=2", tokenizer, LONGEST, generator).eval()


@pytest.fixture(scope="module")
def batch(source, tokenizer):
    """Twelve examples with the numbers of their spans."""
    by = Tokeniser(tokenizer, 96, 48, 8)
    found = by.read(source, "train").batch(range(12))
    spans = [[place // 3 for place in range(len(ids))] for ids in found.response_ids]
    return Batch.of(found.prompt_ids, found.response_ids, spans)


def test_every_sequence_has_one_place_and_no_row_is_too_long():
    lengths = [3, 9, 4, 4, 1, 6, 12]
    rows = rows_for(lengths, 10)
    assert sorted(number for row in rows for number in row) == list(range(7))
    assert [sum(lengths[number] for number in row) <= 10 for row in rows] == [False, True, True, True]
    assert rows_for([5], 10) == [[0]]


def test_the_tokens_that_count_are_the_same(batch):
    found = packed(batch, LONGEST)
    assert 1 < len(found.ids) < len(batch) / 2
    counted = [sorted(one.targets.tolist()) for one in (Places.of(batch.labels), Places.of(found.labels))]
    assert counted[0] == counted[1]
    starts = (found.positions == 0) & (found.labels != UNCOUNTED)
    assert not starts.any()
    pairs = [int(Places.of(one.labels, one.spans).joined.sum()) for one in (batch, found)]
    assert pairs[0] == pairs[1] > 0


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_examples_apart(family, attention, batch, tokenizer):
    student, teacher = model_of(family, tokenizer), model_of(family, tokenizer, 2)
    for model in (student, teacher):
        model.set_attn_implementation(attention)
    loss = Loss(Objective(divergence="jsd"), Clipping(), SpanSettings(span_weight=1.0), len(tokenizer))
    found = []
    for one in (batch, packed(batch, LONGEST)):
        places = Places.of(one.labels, one.spans)
        student.zero_grad()
        with torch.no_grad():
            said = teacher(**one.inputs).logits
        value, _ = loss(student(**one.inputs).logits, said, places, Counts.of([places]), Parts())
        value.backward()
        found.append((value.detach(), [parameter.grad.clone() for parameter in student.parameters()]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-5, atol=0)
    for one, other in zip(found[1][1], found[0][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_keep_examples_apart_are_known(family, tokenizer):
    check_packs(model_of(family, tokenizer), "student", len(tokenizer))


def test_families_that_do_not_are_refused(tokenizer, bigram):
    for family, name in {"bloom": "Bloom", "opt": "OPT"}.items():
        with pytest.raises(InputError, match=f"packing does not work with the teacher: {name}ForCausalLM"):
            check_packs(model_of(family, tokenizer), "teacher", len(tokenizer))
    with pytest.raises(InputError, match="does not work"):
        check_packs(bigram(torch.rand(5, 5)), "student", 5)

    class Forgetful(torch.nn.Module):
        """Takes positions, and reads across the examples all the same."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, position_ids=None, use_cache=False):
            return self.model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids))

    with pytest.raises(InputError, match="reads across the examples"):
        check_packs(Forgetful(copy.deepcopy(model_of("llama", tokenizer))), "student", len(tokenizer))
