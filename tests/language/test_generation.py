import pytest
import torch

from attar.core.errors import InputError
from attar.language.generation import Reader, Sampling, Voice, accepted, generate
from attar.language.models import fresh_model

SURE = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]


def voice(model, words=4, stops=(3,), **sampling):
    return Voice(model, words, stops, Sampling(**sampling))


def test_a_chain_is_followed_to_its_end(bigram, generator):
    assert generate(voice(bigram(SURE)), [[0], [2, 1], [2]], [9, 9, 9], generator) == [[1, 2, 3], [2, 3], [3]]


def test_answers_end_at_their_limit(bigram, generator):
    model = voice(bigram(SURE), stops=())
    assert generate(model, [[0], [0], [1]], [2, 0, 5], generator) == [[1, 2], [], [2, 3, 0, 1, 2]]
    assert generate(model, [], [], generator) == []
    assert generate(model, [[0]], [0], generator) == [[]]


def test_the_same_seed_says_the_same(student, tokenizer):
    prompts = [tokenizer(text)["input_ids"] for text in ("Tell as past: the fox", "Answer who:")]
    model = voice(student, len(tokenizer), (tokenizer.eos_token_id,))
    one, other, third = (generate(model, prompts, [12, 12], torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one == other != third


def test_frequencies_are_the_model_s(bigram, generator):
    model = voice(bigram([[0.1, 0.2, 0.3, 0.4]] * 4), stops=())
    said = torch.tensor(generate(model, [[0]] * 50, [100] * 50, generator))
    shares = torch.bincount(said.flatten(), minlength=4) / said.numel()
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.03, rtol=0)


def test_the_nucleus_and_the_temperature_shape_what_is_drawn(bigram):
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    model = bigram(SURE)
    torch.testing.assert_close(voice(model, nucleus=0.6).probabilities(logits), torch.tensor([[0, 0, 3 / 7, 4 / 7]]))
    assert voice(model, sampling_temperature=0).probabilities(logits).tolist() == [[0, 0, 0, 1]]
    hot = voice(model, sampling_temperature=2.0).probabilities(logits)
    flat = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).sqrt()
    torch.testing.assert_close(hot, flat / flat.sum())
    assert voice(model, words=3).probabilities(logits).shape == (1, 3)


def test_prompts_of_other_lengths_change_nothing(student, tokenizer):
    """Left padding, positions and the cache: a text read beside a longer one is read as alone."""
    short, long = (
        tokenizer(text)["input_ids"] for text in ("Answer who", "Tell as past: the old heron sees the spoon")
    )
    together, alone = Reader(student, [short, long]), Reader(student, [short])
    whole = student(input_ids=torch.tensor([short])).logits[:, -1]
    with torch.no_grad():
        for token in (5, 9, 40):
            torch.testing.assert_close(together.logits[:1], alone.logits, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(alone.logits, whole, rtol=1e-5, atol=1e-5)
            for reader, count in ((together, 2), (alone, 1)):
                reader.go_on([token] * count)
            short = [*short, token]
            whole = student(input_ids=torch.tensor([short])).logits[:, -1]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt", "qwen2"])
def test_the_most_probable_words_are_those_that_transformers_finds(kind, tokenizer, generator):
    model = fresh_model(f"{kind}:layers=2,width=32,heads=2", tokenizer, 64, generator).eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # so that no two words are nearly as probable
    prompts = [tokenizer(text)["input_ids"] for text in ("Answer who", "Tell as past: the old heron", "on")]
    greedy = voice(model, len(tokenizer), stops=(), sampling_temperature=0)
    ours = generate(greedy, prompts, [8, 8, 8], generator)
    for prompt, said in zip(prompts, ours, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=[],
            pad_token_id=1,
        )
        assert said == theirs[0, len(prompt) :].tolist()


def test_a_model_is_put_back_in_its_mode(student, tokenizer, generator):
    student.train()
    generate(voice(student, len(tokenizer)), [[5]], [2], generator)
    assert student.training
    student.eval()


def test_texts_that_have_ended_may_run_past_the_positions(student, tokenizer, generator):
    prompts = [[5], [5] * 90]
    said = generate(voice(student, len(tokenizer), stops=()), prompts, [95, 6], generator)
    assert list(map(len, said)) == [95, 6]


def test_what_a_model_takes_is_seen_through_its_adapters(student):
    class Adapted(torch.nn.Module):
        def get_base_model(self):
            return student

    assert "position_ids" in accepted(Adapted())


def test_bad_input_is_refused(bigram, generator):
    with pytest.raises(InputError, match="a prompt has no token"):
        generate(voice(bigram(SURE)), [[0], []], [3, 3], generator)
    with pytest.raises(InputError, match="logits of a model that generates hold NaN"):
        generate(voice(bigram([[float("nan")] * 4] * 4)), [[0]], [3], generator)
