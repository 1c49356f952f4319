import pytest
import transformers

import attar.language as language
from attar.core.errors import InputError
from attar.language.distillation import DistillLanguage


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"divergence": "policy"}, "--divergence policy"),
        ({"teacher_clip": "top-k"}, "--teacher-clip top-k"),
        ({"span_weight": 1.0}, "--span-weight"),
        ({"corrections": 1, "answers_by": "mixed"}, "--corrections"),
    ],
)
@pytest.mark.parametrize("align_by", ["uld", "spans", "likelihood"])
def test_what_needs_one_tokenizer_is_refused(settings, flag, align_by):
    with pytest.raises(InputError) as refusal:
        DistillLanguage.of(align_by=align_by, **settings)
    assert str(refusal.value) == (
        f"{flag} compares token by token, so it needs one tokenizer and does not go with --align-by {align_by}. "
        "Leave one of them out."
    )
    DistillLanguage.of(**settings)


def test_a_divergence_without_effect_is_refused():
    with pytest.raises(InputError, match="--divergence jsd has no effect with --align-by uld"):
        DistillLanguage.of(align_by="uld", divergence="jsd")
    DistillLanguage.of(align_by="uld", divergence="none", answers_by="teacher")


def test_packed_rows_and_stored_answers_are_refused(source, tmp_path):
    with pytest.raises(InputError, match=r"--packing does not work with --align-by spans\. Leave out one"):
        DistillLanguage.of(align_by="spans", packing=True)
    with pytest.raises(InputError, match="--align-by spans needs the teacher itself, in whose tokens"):
        language.distill(source, DistillLanguage.of(align_by="spans"), stored_answers=tmp_path)


def test_settings_survive_json():
    method = DistillLanguage.of(align_by="likelihood", likelihood_temperature=10.0, hybrid_weight="count")
    assert DistillLanguage.from_json(method.to_json()) == method


def test_methods_of_the_field_have_their_settings():
    uld, gold, alm = map(DistillLanguage.baseline, ("uld", "gold", "alm"))
    assert (uld.alignment.align_by, uld.objective.teacher_weight) == ("uld", 1.5)
    assert (gold.alignment.align_by, gold.alignment.hybrid_weight) == ("spans", "count")
    assert (gold.objective.divergence, gold.schedule.answers_by) == ("jsd", "on-policy")
    assert (alm.alignment.align_by, alm.alignment.likelihood_temperature) == ("likelihood", 100.0)


def test_trainers_refuse_it_in_a_line(teacher, student, tokenizer, tmp_path):
    class Trainer(language.DistillationMixin, transformers.Trainer):
        pass

    with pytest.raises(InputError) as refusal:
        Trainer(
            model=student,
            teacher=teacher,
            distillation=DistillLanguage.of(align_by="spans"),
            args=transformers.TrainingArguments(str(tmp_path), report_to="none", use_cpu=True),
            processing_class=tokenizer,
        )
    assert str(refusal.value) == (
        "align_by='spans' does not work in trainers, where teacher and student read one batch. Use language.distill."
    )
