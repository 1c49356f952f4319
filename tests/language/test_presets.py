import pytest

from attar.core.errors import InputError
from attar.core.presets import table_of
from attar.language.distillation import DistillLanguage
from attar.language.presets import BASELINES

FAMILIES = [cell.data for cell in table_of(DistillLanguage).cells]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_scripts_is_a_method(family):
    method = DistillLanguage.paper(family)
    assert (method.max_length, method.max_prompt, method.clip_norm, method.lr_warm_up) == (512, 256, 1.0, 0.0)
    assert method.correction.corrections == 1
    assert method.clipping.teacher_clip == "learned"
    assert method.spans.span_weight == method.objective.label_weight == method.objective.teacher_weight == 1.0


def test_families_differ_as_the_scripts_do():
    large = DistillLanguage.paper("openllama2-3b")
    assert (large.schedule.init_threshold, large.schedule.loss_tolerance, large.lora.lora_rank > 0) == (0.2, 0.2, True)
    assert DistillLanguage.paper("opt").lr == 5e-5
    assert DistillLanguage.paper("gpt2-0.7b", epochs=3).epochs == 3


@pytest.mark.parametrize("name", BASELINES)
def test_every_method_of_the_field_is_a_setting(name):
    assert DistillLanguage.baseline(name).name == "language"


def test_a_method_of_the_field_takes_the_scripts_of_a_family():
    found = DistillLanguage.paper("openllama2-3b", "distillm", epochs=2)
    assert (found.objective.divergence, found.objective.label_weight) == ("skew-reverse", 0.0)
    assert (found.schedule.answers_by, found.schedule.init_threshold) == ("adaptive", 0.2)
    assert (found.lr, found.epochs) == (5e-4, 2)
    assert (found.correction.corrections, found.select) == (0, "rouge")


def test_minillm_has_steps_unless_epochs_are_asked_for():
    found = DistillLanguage.baseline("minillm")
    assert (found.total_steps, found.lr, found.batch) == (5000, 5e-6, 16)
    assert DistillLanguage.baseline("minillm", epochs=3).steps is None


def test_other_names_are_refused():
    with pytest.raises(InputError, match="unknown method 'gdk'; did you mean 'gkd'"):
        DistillLanguage.baseline("gdk")
    with pytest.raises(InputError, match="DistiLLM has no cell of 'gpt2'; did you mean"):
        DistillLanguage.paper("gpt2")
    with pytest.raises(InputError, match="unknown method 'gdk'"):
        DistillLanguage.paper("opt", "gdk")
