import copy
import json

import pytest
import torch
import transformers

import attar.language as language
from attar.core.errors import InputError
from attar.language.models import fresh_model
from attar.language.objective import distillation_loss
from attar.language.tokens import Tokeniser
from attar.language.trainer import _last_answer


class Trainer(language.DistillationMixin, transformers.Trainer):
    pass


@pytest.fixture
def rows(source, tokenizer):
    """Rows as trainers have them, already padded, with labels."""
    batch = Tokeniser(tokenizer, 96, 48, 8).read(source, "train").batch(range(16))
    return [
        {"input_ids": ids, "labels": labels, "attention_mask": mask.long()}
        for ids, labels, mask in zip(batch.ids, batch.labels, batch.mask, strict=True)
    ]


@pytest.fixture
def trainer(student, teacher, tokenizer, rows, tmp_path):
    def made(method=None, *, teacher=teacher, processing_class=tokenizer, **arguments):
        settings = {
            "output_dir": str(tmp_path),
            "report_to": "none",
            "use_cpu": True,
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_steps": 1,
            "disable_tqdm": True,
            **arguments,
        }
        return Trainer(
            model=copy.deepcopy(student),
            args=transformers.TrainingArguments(**settings),
            train_dataset=rows,
            eval_dataset=rows[:4],
            processing_class=processing_class,
            teacher=copy.deepcopy(teacher),
            distillation=None if method is None else language.DistillLanguage.of(**method),
        )

    return made


def collated(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def test_the_loss_is_the_function_s(trainer, rows, student, teacher):
    mine = trainer({"divergence": "jsd", "jsd_beta": 0.3})
    mine.model.train()
    for module in mine.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inputs = collated(rows[:3])
    objective = language.Objective(divergence="jsd", jsd_beta=0.3)
    given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    expected = distillation_loss(
        student(**given).logits, teacher(**given).logits, inputs["labels"], objective=objective
    )
    torch.testing.assert_close(mine.compute_loss(mine.model, inputs), expected)
    # As one of two micro-batches: half of the labels are here.
    count = int((inputs["labels"][:, 1:] != -100).sum())
    half = mine.compute_loss(mine.model, inputs, num_items_in_batch=2 * count)
    torch.testing.assert_close(half, expected / 2)
    _, outputs = mine.compute_loss(mine.model, inputs, return_outputs=True)
    assert outputs.logits.shape[:2] == inputs["labels"].shape


@pytest.mark.parametrize(
    "method",
    [
        None,
        {"teacher_clip": "learned", "span_weight": 1.0},
        {"answers_by": "on-policy", "corrections": 1, "new_tokens": 4, "max_length": 96},
        {"answers_by": "mixed", "label_weight": 0.0, "new_tokens": 4, "max_length": 96},
        {"answers_by": "adaptive", "init_threshold": 1.0, "capacity": 8, "new_tokens": 4, "max_length": 96},
    ],
)
def test_it_trains_logs_and_saves(method, trainer, tmp_path):
    mine = trainer(method)
    before = [parameter.clone() for parameter in mine.model.parameters()]
    mine.train()
    assert any(not torch.equal(*pair) for pair in zip(before, mine.model.parameters(), strict=True))
    shown = set().union(*mine.state.log_history)
    assert {"loss", "teacher"} <= shown
    if method and "teacher_clip" in method:
        assert {"spans", "kept mass", "upper"} <= shown
        assert (tmp_path / "checkpoint-1" / "attar_clipping.safetensors").exists()
    if method and "corrections" in method:
        assert "corrected" in shown
    mine.evaluate()
    if method and method.get("answers_by") == "adaptive":
        assert mine.scheduled.reference == pytest.approx(mine.state.log_history[-1]["eval_loss"])


def test_a_checkpoint_of_the_trainer_s_is_gone_on_with(trainer, tmp_path):
    whole = trainer({"teacher_clip": "learned"}, max_steps=3, seed=1)
    whole.train()
    network = [parameter.clone() for parameter in whole.quantiles.parameters()]
    again = trainer({"teacher_clip": "learned"}, max_steps=3, seed=1)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 3
    for one, other in ((network, again.quantiles.parameters()), (whole.model.parameters(), again.model.parameters())):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_what_a_schedule_remembers_is_gone_on_with_too(trainer, tmp_path):
    method = {"answers_by": "adaptive", "init_threshold": 0.5, "capacity": 8, "new_tokens": 4, "max_length": 96}
    whole = trainer(method, max_steps=4, save_steps=2)
    whole.train()
    again = trainer(method, max_steps=4, save_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(torch.equal(*pair) for pair in zip(whole.model.parameters(), again.model.parameters(), strict=True))
    assert torch.equal(whole.scheduled.store.ids, again.scheduled.store.ids)


def test_the_schedule_hears_of_the_mean_of_several_sets_and_of_no_test(trainer, rows):
    mine = trainer({"answers_by": "adaptive"})
    found = mine.evaluate({"one": rows[:4], "other": rows[4:6]})
    expected = (found["eval_one_loss"] + found["eval_other_loss"]) / 2
    assert mine.scheduled.reference == pytest.approx(expected)
    again = trainer({"answers_by": "adaptive"})
    again.evaluate(rows[:4], metric_key_prefix="test")
    assert again.scheduled.reference is None


def test_gradient_accumulation_is_one_large_batch(trainer):
    found = []
    for size, steps in ((8, 1), (2, 4)):
        mine = trainer(
            {"span_weight": 1.0}, per_device_train_batch_size=size, gradient_accumulation_steps=steps, max_steps=1
        )
        for module in mine.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        mine.train()
        logs = json.loads(json.dumps(mine.state.log_history))
        found.append(next(line["grad_norm"] for line in logs if "grad_norm" in line))
    assert found[0] == pytest.approx(found[1], rel=5e-3)


def test_padding_on_the_left_changes_nothing(trainer, rows):
    mine = trainer()
    inputs = collated(rows[:2])
    batch = mine._batch(inputs)
    moved = {name: value.clone() for name, value in inputs.items()}
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        shift = inputs["input_ids"].shape[1] - length
        moved = {
            name: value.index_copy(0, torch.tensor([row]), value[row].roll(shift)[None])
            for name, value in moved.items()
        }
    again = mine._batch(moved)
    assert batch.prompt_ids == again.prompt_ids
    assert batch.response_ids == again.response_ids


def test_what_cannot_be_is_refused(trainer, source, tokenizer):
    with pytest.raises(InputError, match=r"Use language\.distill"):
        trainer({"divergence": "policy"})
    with pytest.raises(InputError, match="packing are settings of the trainer"):
        trainer({"packing": True})
    with pytest.raises(InputError, match="Do not set loss_type, label_smoothing_factor"):
        trainer(label_smoothing_factor=0.1)
    with pytest.raises(InputError, match=r"need the tokenizer\. Give the trainer processing_class="):
        trainer({"span_weight": 1.0}, processing_class=None)
    wide = fresh_model("gpt2:layers=1,width=16", tokenizer, 96, torch.Generator())
    wide.resize_token_embeddings(310, mean_resizing=False)
    assert trainer(teacher=wide).loss.words == 300
    with pytest.raises(InputError, match="the teacher has logits for 310 tokens and the student for 300"):
        trainer(teacher=wide, processing_class=None)


def test_rows_longer_than_answers_may_be_are_refused(trainer, rows):
    mine = trainer({"answers_by": "on-policy", "max_length": 16})
    mine.model.train()
    with pytest.raises(InputError, match=r"a row has \d+ tokens, but the student's answers end at 16"):
        mine.compute_loss(mine.model, collated(rows[:2]))


@pytest.mark.parametrize(
    ("counted", "place"),
    [
        ([False, False, True, True, False], (2, 4)),
        ([False, True, False, True, True], (3, 5)),
        ([True, True, True, True, True, True], (3, 6)),
        ([True, True], (1, 2)),
        ([True], (1, 1)),
        ([False, False], (2, 2)),
    ],
)
def test_the_last_answer_is_what_is_learned_in_one_piece(counted, place):
    assert _last_answer(counted, context=3) == place


def test_packed_rows_are_learned_from_but_not_answered(trainer, rows):
    """Two sequences in one row, as trainers free of padding have them: the first token of each is not learned."""
    some = [{name: value[row["attention_mask"].bool()] for name, value in row.items()} for row in rows[:2]]
    packed = {name: torch.cat([row[name] for row in some])[None] for name in ("input_ids", "labels")}
    packed["position_ids"] = torch.cat([torch.arange(len(row["input_ids"])) for row in some])[None]
    for settings in ({}, {"answers_by": "on-policy", "new_tokens": 4, "max_length": 96}):
        mine = trainer(settings)
        mine.model.train()
        if settings:
            with pytest.raises(InputError, match=r"rows hold several of them \(packed, or padding-free\)"):
                mine.compute_loss(mine.model, packed)
        else:
            assert mine.compute_loss(mine.model, packed).isfinite()


def test_a_batch_without_a_label_is_refused_alone_and_nothing_beside_others(trainer, rows):
    mine = trainer()
    mine.model.train()
    inputs = collated(rows[:2])
    inputs["labels"] = torch.full_like(inputs["labels"], -100)
    with pytest.raises(InputError, match="a batch holds no token to learn from"):
        mine.compute_loss(mine.model, inputs)
    loss = mine.compute_loss(mine.model, inputs, num_items_in_batch=20)
    assert loss == 0
    loss.backward()


def test_a_teacher_comes_by_name_too(trainer, teacher, tokenizer, tmp_path):
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    for one in (tmp_path / "teacher", str(tmp_path / "teacher")):
        mine = trainer(teacher=one)
        assert all(torch.equal(*pair) for pair in zip(mine.teacher.parameters(), teacher.parameters(), strict=True))
        assert not any(parameter.requires_grad for parameter in mine.teacher.parameters())
    with pytest.raises(InputError, match="the mixin needs a teacher"):
        trainer(teacher=None)
    with pytest.raises(InputError, match="is not trained yet"):
        trainer(teacher="gpt2:layers=1,width=16")
    with pytest.raises(InputError, match="'nobody/nothing' is not a causal language model"):
        trainer(teacher="nobody/nothing")


@pytest.mark.parametrize("method", [{"label_weight": 0.0}, {"answers_by": "on-policy", "new_tokens": 4}])
def test_padding_that_was_added_for_the_student_alone(method, student, teacher, tokenizer, rows, tmp_path):
    """The student never says what its teacher does not know, and the teacher reads no token that it lacks."""
    mine, wide = copy.deepcopy(tokenizer), copy.deepcopy(student)
    mine.add_special_tokens({"pad_token": "[PAD]"})
    wide.resize_token_embeddings(320, mean_resizing=False)
    rows = [{**row, "input_ids": row["input_ids"].masked_fill(row["attention_mask"] == 0, 300)} for row in rows]
    made = Trainer(
        model=wide,
        args=transformers.TrainingArguments(
            str(tmp_path), report_to="none", use_cpu=True, max_steps=2, per_device_train_batch_size=4, disable_tqdm=True
        ),
        train_dataset=rows,
        processing_class=mine,
        teacher=copy.deepcopy(teacher),
        distillation=language.DistillLanguage.of(**method),
    )
    made.train()
    made.save_model(str(tmp_path / "made"))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    assert model.generation_config.suppress_tokens == list(range(300, 320))
    torch.manual_seed(0)
    given = {"input_ids": torch.tensor([[70, 71]] * 8), "attention_mask": torch.ones(8, 2)}
    said = model.generate(**given, do_sample=True, max_new_tokens=20)
    assert int(said[said != 300].max()) < 300 and not (said[:, 2] == 300).any()
    made.model.train()
    bad = {name: torch.stack([row[name] for row in rows[:2]]) for name in rows[0]}
    bad["input_ids"] = bad["input_ids"].clone()
    bad["input_ids"][0, 0] = 310
    if "answers_by" not in method:
        with pytest.raises(InputError, match="a row has token 310, but the teacher knows 300 tokens"):
            made.compute_loss(made.model, bad)
