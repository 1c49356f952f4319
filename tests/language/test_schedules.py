import pytest
import torch

from attar.language.correction import Correction
from attar.language.generation import Sampling, Voice
from attar.language.schedules import Answers, Schedule, Scheduled, Store, choice
from attar.language.tokens import Batch, Tokeniser


@pytest.fixture
def reference(tokenizer):
    return Batch.of([[5, 6], [7, 8, 9], [10]], [[20, 21], [22], [23, 24, 25]])


@pytest.fixture
def asked(student, teacher, tokenizer):
    def draw(reference, memory=None, seed=0, progress=0.0, corrections=0, rows=(0, 1, 2), **settings):
        schedule = Schedule(**settings)
        by = Tokeniser(tokenizer, 24, 12, 0)
        voice = Voice(student, len(tokenizer), (tokenizer.eos_token_id,))
        answers = Answers(voice, teacher, by, schedule, Correction(corrections=corrections), Sampling())
        memory = memory or Scheduled.start(schedule, 10, 24)
        generators = (torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed))
        return answers.draw(reference, list(rows), memory, progress, *generators), memory

    return draw


def test_off_policy_keeps_the_references(asked, reference):
    assert asked(reference)[0].batch is reference


def test_on_policy_lets_the_student_answer_all(asked, reference):
    drawn, _ = asked(reference, answers_by="on-policy")
    assert drawn.origin == "fresh"
    assert drawn.batch.prompt_ids == reference.prompt_ids
    assert drawn.batch.response_ids != reference.response_ids
    assert (drawn.batch.lengths <= 24).all()


def test_on_policy_by_share_is_whole_batches(asked, reference):
    origins = [asked(reference, seed=seed, answers_by="on-policy", student_share=0.5)[0].origin for seed in range(20)]
    assert set(origins) == {"fresh", "data"}


def test_mixed_answers_some_prompts_and_keeps_the_other_references(asked, reference):
    kept = 0
    for seed in range(6):
        drawn, _ = asked(reference, seed=seed, answers_by="mixed")
        assert drawn.batch.prompt_ids == reference.prompt_ids
        pairs = zip(drawn.batch.response_ids, reference.response_ids, strict=True)
        kept += sum(one == other for one, other in pairs)
    assert 3 < kept < 15


def test_the_teacher_answers_once_and_is_remembered(asked, reference):
    first, memory = asked(reference, answers_by="teacher", seed=0)
    again, _ = asked(reference, answers_by="teacher", seed=1, memory=memory)
    assert first.origin == "teacher"
    assert first.batch.response_ids == again.batch.response_ids != reference.response_ids
    other, _ = asked(reference, answers_by="teacher", seed=1, memory=memory, rows=[4, 5, 6])
    assert other.batch.response_ids != first.batch.response_ids


def test_corrections_are_counted(asked, reference):
    drawn, _ = asked(reference, answers_by="on-policy", corrections=1)
    assert drawn.corrected == 1.0  # an untrained student hardly says what the teacher would
    assert asked(reference, answers_by="on-policy")[0].corrected == 0.0


@pytest.mark.parametrize(
    ("draw", "threshold", "progress", "full", "wanted"),
    [
        (0.5, 0.0, 0.0, False, "data"),
        (0.5, 0.6, 0.0, True, "fresh"),
        (0.5, 0.6, 0.5, True, "stored"),
        (0.5, 0.6, 0.5, False, "fresh"),
        (0.7, 0.6, 0.5, True, "data"),
    ],
)
def test_the_adaptive_rule(draw, threshold, progress, full, wanted):
    assert choice(draw, threshold, progress, full=full) == wanted


def test_adaptive_fills_its_store_and_then_draws_from_it(asked, reference):
    settings = {"answers_by": "adaptive", "init_threshold": 1.0, "capacity": 6}
    memory = Scheduled.start(Schedule(**settings), 10, 24)
    origins = []
    for seed in range(12):
        drawn, _ = asked(reference, memory, seed=seed, progress=0.9, **settings)
        origins.append(drawn.origin)
        assert len(drawn.batch) == 3
    assert origins[:2] == ["fresh", "fresh"]
    assert memory.store.filled == 6
    assert "stored" in origins[2:]


def test_no_answer_comes_twice_in_a_stored_batch(asked, reference):
    settings = {"answers_by": "adaptive", "init_threshold": 1.0, "capacity": 3}
    memory = Scheduled.start(Schedule(**settings), 10, 24)
    for token in (5, 6, 7):
        memory.store.put(Batch.of([[token]], [[token]]))
    for seed in range(10):
        drawn, _ = asked(reference, memory, seed=seed, progress=1.0, **settings)
        assert drawn.origin == "stored"
        assert sorted(drawn.batch.ids[:, 0].tolist()) == [5, 6, 7]


def test_the_threshold_grows_when_the_loss_does_not_fall():
    schedule = Schedule(answers_by="adaptive", capacity=1)
    memory = Scheduled.start(schedule, 1, 4)
    found = []
    for loss in (3.0, 2.0, 3.05, 3.1, 3.15, 3.2):
        memory.validated(loss, schedule)
        found.append(round(memory.threshold, 3))
    assert found == [0.0, 0.0, 0.0, 0.1, 0.1, 0.2]
    assert memory.reference == 3.2
    for _ in range(20):
        memory.validated(memory.reference + 1, schedule)
    assert memory.threshold == 1.0


def test_a_store_gives_up_the_oldest(tokenizer):
    store, by = Store.empty(2, 5), Tokeniser(tokenizer, 5, 3, 0)
    for token in (1, 2, 3):
        store.put(Batch.of([[token]], [[token, token]]))
    assert store.filled == 2
    assert store.rows([0, 1], by).ids.tolist() == [[3, 3, 3], [2, 2, 2]]


def test_shares_by_schedule():
    assert [Schedule(answers_by=name).share for name in ("on-policy", "mixed")] == [1.0, 0.5]
    assert Schedule(answers_by="mixed", student_share=0.2).share == 0.2
