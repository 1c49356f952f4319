import pytest
import torch

from attar.language.correction import KEEP, Correction, correct, error_places
from attar.language.generation import Voice, generate

# Tokens 0 and 1, and 2, the end. The teacher goes 0 -> 0 -> ... ; the student goes 0 -> 1 -> 1 -> ... but not always.
TEACHER = [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [1 / 3] * 3]
STUDENT = [[0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [1 / 3] * 3]


def corrected(student, teacher, answers, limit=6, seed=0, **settings):
    prompts = [[0]] * len(answers)
    voice = Voice(student, 3, (2,))
    generator = torch.Generator().manual_seed(seed)
    settings = Correction(**{"corrections": 1, **settings})
    return correct(voice, teacher, prompts, answers, [limit] * len(answers), settings, generator)


def test_the_error_is_the_largest_divergence_that_is_not_the_teacher_s_word():
    divergence = torch.tensor([3.0, 9.0, 5.0, 1.0, 2.0, 2.0, 7.0])
    said, choice = torch.tensor([0, 1, 0, 0, 0, 0, 1]), torch.tensor([1, 1, 1, 1, 1, 1, 1])
    answer = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    assert error_places(divergence, said, choice, answer, 4).tolist() == [2, 4, KEEP, KEEP]


def test_on_two_states_the_error_is_where_they_part(bigram):
    """After 0 the teacher wants 0 and the student said 1; after 1 both want 1. KL is the same for equal last tokens."""
    student, teacher = bigram(STUDENT), bigram(TEACHER)
    answers = [[0, 0, 1, 1, 2], [1, 1, 2]]
    said, changed = corrected(student, teacher, answers)
    assert changed == [True, True]
    assert said[0][:3] == [0, 0, 0]
    assert said[1][0] == 0
    assert all(len(answer) <= 6 for answer in said)


def test_the_begun_answer_differs_from_the_old_one_at_the_error_alone(bigram):
    student, teacher = bigram(STUDENT), bigram(TEACHER)
    for seed in range(5):
        ((said,), _) = corrected(student, teacher, [[0, 0, 1, 1, 1, 1]], seed=seed)
        assert said[:2] == [0, 0]
        assert said[2] == 0


def test_an_answer_that_the_teacher_would_give_stays(bigram):
    model = bigram(STUDENT)
    answers = [[1, 1, 1, 1]]  # the most probable token each time
    assert corrected(model, bigram(STUDENT), answers) == (answers, [False])


def test_of_identical_models_no_answer_changes_whatever_was_drawn(student, tokenizer, bigram):
    answers = [[0, 1, 0, 0, 1, 2], [2], [0, 0]]
    assert corrected(bigram(STUDENT), bigram(STUDENT), answers) == (answers, [False] * 3)
    voice, generator = Voice(student, len(tokenizer), (tokenizer.eos_token_id,)), torch.Generator().manual_seed(0)
    prompts, limits = [[5, 6, 7], [8]], [12, 20]
    said = generate(voice, prompts, limits, generator)
    settings = Correction(corrections=2)
    assert correct(voice, student, prompts, said, limits, settings, generator) == (said, [False] * 2)


def test_no_corrections_leave_the_answers(bigram):
    answers = [[0, 1, 2], [1, 0, 2]]
    assert corrected(bigram(STUDENT), bigram(TEACHER), answers, corrections=0) == (answers, [False, False])


def test_a_correction_that_ends_the_answer_ends_it(bigram):
    ends = bigram([[0.1, 0.1, 0.8]] * 3)
    said, changed = corrected(bigram(STUDENT), ends, [[0, 1, 1, 1]])
    assert said == [[2]] or said[0][-1] == 2
    assert changed == [True]


def test_a_correction_at_the_limit_says_nothing_more(bigram):
    said, _ = corrected(bigram(STUDENT), bigram(TEACHER), [[0, 0, 0, 1]], limit=4)
    assert said == [[0, 0, 0, 0]]


def test_corrections_bring_answers_nearer_to_the_teacher(bigram):
    """Mean divergence on what is said falls, since 0 -> 0 is what the teacher says and 1 comes less often."""
    student, teacher = bigram(STUDENT), bigram(TEACHER)
    answers = [[1] * 6] * 200
    shares = []
    for count in (0, 1, 3):
        said, _ = corrected(student, teacher, answers, corrections=count)
        words = [token for answer in said for token in answer]
        shares.append(words.count(1) / len(words))
    assert shares[0] > shares[1]
    assert shares[0] > shares[2]


def test_the_teacher_s_word_may_be_drawn(bigram):
    student, teacher = bigram(STUDENT), bigram([[0.5, 0.01, 0.49]] * 3)
    firsts = {
        corrected(student, teacher, [[1]], seed=seed, correct_with="sample", limit=1)[0][0][0] for seed in range(30)
    }
    assert firsts == {0, 2}


@pytest.mark.parametrize("length", [1, 3])
def test_prompts_and_answers_of_any_lengths_go_together(length, student, teacher, tokenizer):
    prompts = [[9] * length, [7, 8, 9, 10, 11]]
    answers = [[20, 21, 22], [30]]
    voice = Voice(student, len(tokenizer), (tokenizer.eos_token_id,))
    found = [
        correct(voice, teacher, prompts[:n], answers[:n], [3, 1][:n], Correction(corrections=1), torch.Generator())
        for n in (1, 2)
    ]
    place = [
        next((i for i, (a, b) in enumerate(zip(f[0][0], answers[0], strict=False)) if a != b), None) for f in found
    ]
    assert place[0] == place[1]
