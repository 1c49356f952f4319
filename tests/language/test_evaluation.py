import math

import pytest
import torch

from attar.core.errors import InputError
from attar.core.score import Score
from attar.language.evaluation import (
    Measures,
    cross_entropy,
    divergence_by_position,
    excess_error,
    measured,
    repetition,
)
from attar.language.generation import Voice
from attar.language.sources import load
from attar.language.tokens import Tokeniser


@pytest.fixture
def tokens(source, tokenizer):
    return Tokeniser(tokenizer, 96, 48, 8).read(source, "test")


@pytest.fixture
def voice(student, tokenizer):
    return Voice(student, len(tokenizer), (tokenizer.eos_token_id,))


def test_cross_entropy_is_what_transformers_says(student, tokens, tokenizer):
    batch = tokens.batch(range(8))
    with torch.no_grad():
        theirs = student(input_ids=batch.ids, attention_mask=batch.mask.long(), labels=batch.labels).loss
    ours = cross_entropy(student, tokens, range(8), len(tokenizer))
    assert ours == pytest.approx(float(theirs), rel=1e-5)


def test_a_model_that_knows_nothing_has_the_logarithm_of_the_words(bigram, tokens):
    assert cross_entropy(bigram([[1 / 300] * 300] * 300), tokens, range(4), 300) == pytest.approx(
        math.log(300), rel=1e-5
    )


def test_repetition_is_the_share_of_runs_had_before():
    assert repetition("a b c d") == repetition("") == repetition("a b c") == 0
    assert repetition("a b c d a b c d") == pytest.approx(1 / 5)
    assert repetition("x " * 10) == pytest.approx(6 / 7)


def test_the_excess_error_grows_with_what_goes_wrong_on_the_own_prefixes():
    led = torch.tensor([1.0, 1.0, 1.0])
    assert excess_error(led, led).tolist() == [0, 0, 0]
    assert excess_error(torch.tensor([1.0, 2.0, 3.0, 9.0]), led).tolist() == [0, 50, 100]


def test_divergences_are_put_in_their_positions(bigram):
    student, teacher = bigram([[0.5, 0.5], [0.5, 0.5]]), bigram([[0.9, 0.1], [0.5, 0.5]])
    found = divergence_by_position(Voice(student, 2, ()), teacher, [[0], [1, 1]], [[0, 1], [0, 1, 1]])
    apart = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    torch.testing.assert_close(found, torch.tensor([apart / 2, apart, 0.0]))


def test_all_measures_of_a_model(voice, teacher, tokens):
    found = measured(voice, tokens, range(8), answers=4, seeds=(1, 2), teacher=teacher, at=3)
    assert found.rouge_l.n == found.excess_error.n == 2
    assert 0 <= found.rouge_l.value <= 100
    assert found.length_ratio.value > 0
    assert set(found.to_json()) == {
        "cross_entropy",
        "perplexity",
        "rouge_l",
        "length_ratio",
        "repetition",
        "excess_error",
    }
    assert "ROUGE-L" in str(found)
    assert found.perplexity == pytest.approx(math.exp(found.cross_entropy.value))
    assert found.rouge_l.value == pytest.approx(sum(found.rounds["rouge_l"]) / 2)
    assert {len(values) for values in found.rounds.values()} == {2}


def test_an_answer_is_held_against_all_its_references(bigram, tokenizer):
    """A chain that says one thing: of two references it is the other, and the length is that of the first."""
    one, other, end = tokenizer("xy")["input_ids"], tokenizer("ab")["input_ids"], tokenizer.eos_token_id
    assert len(one) == len(other) == 2
    rows = [[1e-9] * 300 for _ in range(300)]
    for now, after in zip((tokenizer("?")["input_ids"][0], *other), (*other, end), strict=True):
        rows[now][after] = 1.0
    found = {}
    for name, output in {"one": "xy xy", "both": ["xy xy", "ab"]}.items():
        data = [{"prompt": "?", "output": output}] * 3
        tokens = Tokeniser(tokenizer, 96, 48, 8).read(load({"train": data, "validation": data, "test": data}), "test")
        found[name] = measured(Voice(bigram(rows), 300, (end,)), tokens, range(3), answers=3)
    assert (found["one"].rouge_l.value, found["both"].rouge_l.value) == (0, 100)
    assert found["one"].length_ratio == found["both"].length_ratio
    assert found["both"].length_ratio.value == 0.5


def test_a_teacher_has_no_excess_error_against_itself(voice, student, tokens):
    found = measured(voice, tokens, range(4), answers=2, teacher=student)
    assert math.isnan(found.excess_error.value) or abs(found.excess_error.value) < 1e-3
    assert all(map(math.isfinite, found.to_json().values()))


def test_without_answers_there_is_the_cross_entropy_alone(voice, tokens):
    found = measured(voice, tokens, range(8), answers=0)
    assert found.rouge_l is None
    assert "ROUGE" not in str(found)


def test_a_model_of_no_numbers_is_refused(bigram, tokens):
    with pytest.raises(InputError, match="the logits of the model hold NaN"):
        cross_entropy(bigram([[float("nan")] * 300] * 300), tokens, range(4), 300)


def test_what_has_no_number_is_left_out():
    found = Measures(Score(math.inf, "nats", "lower"))
    assert found.perplexity == math.inf
    assert found.to_json() == {}
    assert Measures(Score(800.0, "nats", "lower")).to_json() == {"cross_entropy": 800.0}
