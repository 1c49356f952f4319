"""The mixin inside TRL's SFTTrainer, and its loss beside those of TRL's own distillation trainers."""

import copy

import pytest
import torch

import attar.language as language
from attar.core.errors import InputError
from attar.language.generation import Voice, generate
from attar.language.models import fresh_model
from attar.language.objective import distillation_loss
from attar.language.stops import stops_of

trl = pytest.importorskip("trl", reason="TRL is not installed: pip install trl")
datasets = pytest.importorskip("datasets")

pytestmark = pytest.mark.filterwarnings(
    # TRL's own settings still use transformers' former name, whether the user sets it or not.
    "ignore:`gradient_checkpointing` is deprecated:FutureWarning",
)

CHAT = (
    "{% for message in messages %}{{ message['role'] + ': ' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
ANSWERS = {"new_tokens": 4, "max_length": 96}


class Trainer(language.DistillationMixin, trl.SFTTrainer):
    pass


@pytest.fixture(scope="module", autouse=True)
def without_bars():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def chatty(tokenizer):
    """The tokenizer, with a template for conversations that marks what the assistant says."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture(scope="module")
def rows(source):
    """The same rows as TRL takes them."""
    pairs = [{"prompt": row["prompt"], "completion": row["response"]} for row in list(source.train)[:12]]
    turns = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        for row in pairs
    ]
    one = [{"role": "user", "content": "Hi.\n"}, {"role": "assistant", "content": "Ho."}]
    return {
        "pairs": pairs,
        "text": [{"text": row["prompt"] + row["completion"]} for row in pairs],
        "chat": [{"messages": turn} for turn in turns],
        "long chat": [{"messages": [*one, *one]}] * 6,
    }


@pytest.fixture
def trainer(student, teacher, chatty, rows, tmp_path):
    def made(method=None, *, data="pairs", dropout=True, teacher=teacher, peft_config=None, **given):
        settings = {
            "output_dir": str(tmp_path / "out"),
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_strategy": "no",
            "learning_rate": 1e-3,
            "disable_tqdm": True,
            "max_length": 96,
            **given,
        }
        model = copy.deepcopy(student)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout) and not dropout:
                module.p = 0.0
        return Trainer(
            model=model,
            args=trl.SFTConfig(**settings),
            train_dataset=datasets.Dataset.from_list(rows[data]),
            eval_dataset=datasets.Dataset.from_list(rows[data][:4]) if "eval_strategy" in given else None,
            processing_class=copy.deepcopy(chatty),
            peft_config=peft_config,
            teacher=copy.deepcopy(teacher),
            distillation=None if method is None else language.DistillLanguage.of(**method),
        )

    return made


def first_batch(trainer):
    return next(iter(trainer.get_train_dataloader()))


def in_training(trainer):
    trainer.model.train()
    return trainer.model


@pytest.mark.parametrize(
    ("data", "settings", "masked"),
    [
        ("pairs", {}, True),
        ("pairs", {"completion_only_loss": False}, False),
        ("text", {}, False),
        ("chat", {"assistant_only_loss": True}, True),
        ("long chat", {"assistant_only_loss": True}, True),
    ],
)
def test_the_loss_is_over_the_tokens_that_trl_counts(data, settings, masked, trainer, student, teacher):
    mine = trainer({"divergence": "jsd", "jsd_beta": 0.3}, data=data, dropout=False, **settings)
    inputs = first_batch(mine)
    labels, given = inputs["labels"], {name: inputs[name] for name in ("input_ids", "attention_mask")}
    inside = inputs["attention_mask"].bool()
    assert bool((labels[inside] == -100).any()) == masked
    if masked and data != "pairs":
        text = mine.processing_class.decode(labels[0][labels[0] != -100])
        assert text.count(mine.processing_class.eos_token) == (2 if data == "long chat" else 1)
        assert "user" not in text
    objective = language.Objective(divergence="jsd", jsd_beta=0.3)
    expected = distillation_loss(student(**given).logits, teacher(**given).logits, labels, objective=objective)
    torch.testing.assert_close(mine.compute_loss(in_training(mine), inputs), expected)


def test_rows_free_of_padding_give_the_same_loss(trainer):
    padded = trainer(dropout=False, shuffle_dataset=False)
    free = trainer(dropout=False, shuffle_dataset=False, padding_free=True, max_length=None)
    packed = trainer(dropout=False, shuffle_dataset=False, packing=True)
    losses = []
    for mine in (padded, free):
        inputs = first_batch(mine)
        assert ("position_ids" in inputs) == (mine is free)
        losses.append(mine.compute_loss(in_training(mine), inputs))
    torch.testing.assert_close(losses[0], losses[1])
    assert "seq_idx" in first_batch(packed)
    packed.train()


@pytest.mark.parametrize(
    "settings", [{"packing": True}, {"packing": True, "packing_strategy": "wrapped"}, {"padding_free": True}]
)
def test_packed_rows_are_not_answered(settings, trainer):
    length = {"max_length": None} if "padding_free" in settings else {}
    with pytest.raises(InputError, match=r"rows hold several of them \(packed, or padding-free\)"):
        trainer({"answers_by": "mixed", **ANSWERS}, **length, **settings)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ({"teacher_clip": "learned", "span_weight": 1.0}, {"data": "long chat", "assistant_only_loss": True}),
        ({"answers_by": "mixed", "corrections": 1, **ANSWERS}, {"bf16": True, "gradient_accumulation_steps": 2}),
        ({"answers_by": "adaptive", "init_threshold": 1.0, "capacity": 8, **ANSWERS}, {"data": "text"}),
    ],
)
def test_it_trains_logs_and_evaluates(method, settings, trainer):
    mine = trainer(method, eval_strategy="steps", eval_steps=1, **settings)
    before = [parameter.clone() for parameter in mine.model.parameters()]
    mine.train()
    assert any(not torch.equal(*pair) for pair in zip(before, mine.model.parameters(), strict=True))
    lines = [line for line in mine.state.log_history if "loss" in line]
    assert {"teacher", "num_tokens"} <= set(lines[0])
    evaluated = [line for line in mine.state.log_history if "eval_loss" in line]
    assert {"eval_entropy", "eval_mean_token_accuracy"} <= set(evaluated[0])
    assert evaluated[0]["eval_num_tokens"] == lines[0]["num_tokens"] < lines[1]["num_tokens"]
    if method and method.get("answers_by") == "adaptive":
        assert mine.scheduled.reference == pytest.approx(evaluated[0]["eval_loss"])
        assert mine.scheduled.store.filled


def test_the_student_answers_as_it_would_outside(trainer, tokenizer, student):
    """Through the forward that TRL patches, and with activations that are checkpointed."""
    mine = trainer({"answers_by": "on-policy", "new_tokens": 6, "max_length": 96})
    model, inputs = in_training(mine), first_batch(mine)
    drawn = mine._drawn(model, inputs)
    assert model.training
    reference = mine._batch(inputs)
    voice = Voice(student, len(tokenizer), stops_of(student, tokenizer))
    said = generate(voice, reference.prompt_ids, [6] * 4, torch.Generator().manual_seed(mine.args.seed))
    assert drawn.prompt_ids == reference.prompt_ids
    assert drawn.response_ids == said
    assert all(answer[-1] == tokenizer.eos_token_id for answer in reference.response_ids)


def test_of_a_conversation_the_last_turn_is_answered_and_of_a_text_what_follows_the_context(trainer, tokenizer):
    method = {"answers_by": "mixed", "context": 5, "new_tokens": 4}
    mine = trainer(method, data="long chat", assistant_only_loss=True)
    batch = mine._batch(first_batch(mine))
    for prompt, response in zip(batch.prompt_ids, batch.response_ids, strict=True):
        said, asked = tokenizer.decode(response), tokenizer.decode(prompt)
        assert said.endswith(tokenizer.eos_token) and "user" not in said
        assert asked.endswith("assistant: ") and asked.count("user: ") == 2
    plain = trainer(method, data="text")
    inputs = first_batch(plain)
    batch = plain._batch(inputs)
    assert batch.prompts.tolist() == [5] * 4
    assert batch.lengths.tolist() == inputs["attention_mask"].sum(1).tolist()


def test_a_checkpoint_is_gone_on_with(trainer, tmp_path):
    """The clipping's network, and the schedule's buffer and generators, come back."""
    method = {"teacher_clip": "learned", "answers_by": "adaptive", "init_threshold": 0.7, "capacity": 8, **ANSWERS}
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "seed": 1}
    whole = trainer(method, **settings)
    whole.train()
    again = trainer(method, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert again.state.global_step == 4
    for part in ("model", "quantiles"):
        one, other = (getattr(mine, part).parameters() for mine in (whole, again))
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert torch.equal(whole.scheduled.store.ids, again.scheduled.store.ids)
    again.save_model(str(tmp_path / "away"))
    again.save_model(_internal_call=True)  # as before a model is pushed to the hub
    for folder in (tmp_path / "away", tmp_path / "out"):
        assert (folder / "attar_clipping.safetensors").exists()
        assert not (folder / "attar_schedule.safetensors").exists()


def test_gradient_accumulation_is_one_large_batch(trainer):
    found = []
    for size, steps in ((8, 1), (2, 4)):
        mine = trainer(
            {"span_weight": 1.0},
            dropout=False,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=1,
        )
        mine.train()
        found.append(next(line for line in mine.state.log_history if "grad_norm" in line))
    for name in ("loss", "grad_norm", "num_tokens"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4), name


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
def test_adapters_of_peft_are_trained_alone(trainer):
    peft = pytest.importorskip("peft")
    adapters = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    mine = trainer({"answers_by": "on-policy", **ANSWERS}, peft_config=adapters, max_steps=1)
    before = {name: value.clone() for name, value in mine.model.state_dict().items()}
    mine.train()
    moved = {name for name, value in mine.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora" in name for name in moved)


def test_another_loss_and_rows_that_leave_no_room_are_refused(trainer):
    with pytest.raises(InputError, match="Do not set loss_type"):
        trainer(loss_type="dft")
    short = trainer({"answers_by": "on-policy", "max_length": 12})
    with pytest.raises(InputError, match=r"a row has \d+ tokens, but the student's answers end at 12"):
        short.compute_loss(in_training(short), first_batch(short))


# ------------------------------------------------------------------------------------------- TRL's own distillation


@pytest.fixture(scope="module")
def gkd():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")  # or it warns that it may change
        return pytest.importorskip("trl.experimental.gkd")


@pytest.mark.parametrize(("beta", "divergence"), [(0.0, "forward"), (0.1, "jsd"), (0.5, "jsd"), (1.0, "reverse")])
def test_gkd_s_loss_is_the_same_function(beta, divergence, gkd):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 11, dtype=torch.float64, generator=generator) * 3
    labels = torch.randint(11, (3, 8), generator=generator)
    labels[:, :3], labels[1, 6:] = -100, -100
    found = []
    for mine in (True, False):
        student = logits[0].clone().requires_grad_()
        if mine:
            objective = language.Objective(divergence=divergence, jsd_beta=beta, label_weight=0.0)
            loss = distillation_loss(student, logits[1], labels, objective=objective)
        else:
            loss = gkd.GKDTrainer.generalized_jsd_loss(student[:, :-1], logits[1, :, :-1], labels[:, 1:], beta)
        loss.backward()
        found.append((loss.detach(), student.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_the_chunked_loss_of_trl_s_distillation_trainer_is_the_same_function(tokenizer, teacher, student):
    chunked = pytest.importorskip("trl.trainer.distillation_trainer")._chunked_divergence_loss
    ids = torch.randint(300, (2, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :5] = -100
    hidden = [model.base_model(ids).last_hidden_state[:, 4:-1] for model in (student, teacher)]
    heads = [model.get_output_embeddings().weight for model in (student, teacher)]
    theirs, *_ = chunked(*hidden, *heads, torch.ones(2, 7), 0.5)
    objective = language.Objective(divergence="jsd", jsd_beta=0.5, label_weight=0.0)
    mine = distillation_loss(student(ids).logits, teacher(ids).logits, labels, objective=objective)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)


def test_a_step_of_gkd_s_trainer_off_policy_is_the_mixin_s(gkd, trainer, tokenizer, student, teacher, tmp_path):
    mine = trainer({"divergence": "jsd", "jsd_beta": 0.5, "label_weight": 0.0}, dropout=False, max_steps=1)
    settings = {name: getattr(mine.args, name) for name in ("report_to", "use_cpu", "bf16", "disable_tqdm")}
    theirs = gkd.GKDTrainer(
        model=copy.deepcopy(student),
        teacher_model=copy.deepcopy(teacher),
        args=gkd.GKDConfig(str(tmp_path / "gkd"), beta=0.5, lmbda=0.0, logging_steps=1, save_strategy="no", **settings),
        data_collator=mine.data_collator,
        train_dataset=mine.train_dataset,
        processing_class=tokenizer,
    )
    inputs = first_batch(mine)
    for count in (None, 50):
        expected = theirs.compute_loss(theirs.model.eval(), dict(inputs), num_items_in_batch=count)
        found = mine.compute_loss(in_training(mine), dict(inputs), num_items_in_batch=count)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_a_teacher_with_padded_logits_is_cut_to_the_tokenizer_s(trainer, tokenizer):
    wide = fresh_model("gpt2:layers=1,width=16", tokenizer, 96, torch.Generator())
    wide.resize_token_embeddings(310, mean_resizing=False)
    mine = trainer(teacher=wide)
    assert mine.loss.words == 300
    assert mine.compute_loss(in_training(mine), first_batch(mine)).isfinite()
