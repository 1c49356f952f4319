"""Where an answer ends: the same for student and teacher, in training, in sampling, and in the saved student."""

import copy

import pytest
import torch

import attar.language as language
from attar.core.errors import InputError
from attar.language.generation import Voice, generate
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.pair import paired
from attar.language.sources import load
from attar.language.stops import closing_of, ended_by_words, stops_of, write_stops
from attar.language.tokens import Tokeniser

TURNS = "{% for m in messages %}"
TEMPLATES = {
    "chatml": TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "eos": TURNS + "[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
    "words": TURNS + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} </s>"
    "{% endif %}{% endfor %}",
    "open": TURNS + "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
    "thinking": TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}",
}
ENDS = {
    "chatml": "ho.<|im_end|>",
    "eos": "ho.<|endoftext|>",
    "words": " ho. </s><|endoftext|>",
    "open": "ho.<|endoftext|>",
    "thinking": "ho.<|im_end|>",
}
ROWS = [
    {"messages": [{"role": "user", "content": f"{a}{b}"}, {"role": "assistant", "content": f"so {b} it is"}]}
    for a in "abcd"
    for b in "abcd"
]


def speaking(name, special=("<|im_start|>", "<|im_end|>")):
    tokenizer = byte_tokenizer(["user assistant [INST] [/INST] </s>"] * 3, 290)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = TEMPLATES[name]
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_response_is_learned_up_to_what_closes_it(name):
    tokenizer = speaking(name)
    turns = [("user", "hi"), ("assistant", "hm"), ("user", "well"), ("assistant", "ho.")]
    rows = [{"messages": [{"role": role, "content": said} for role, said in turns]}] * 3
    batch = Tokeniser(tokenizer, 200, 150, 8).read(load(rows), "train").batch([0])
    assert tokenizer.decode(batch.response_ids[0]) == ENDS[name]
    assert batch.response_ids[0][-1] in stops_of(None, tokenizer)


def test_the_token_that_closes_a_response_is_found_in_the_template():
    chatml = speaking("chatml")
    end = chatml.convert_tokens_to_ids("<|im_end|>")
    assert closing_of(chatml).stop == end
    assert closing_of(chatml).words == ""
    assert stops_of(None, chatml) == (chatml.eos_token_id, end)
    added = byte_tokenizer(["x"], 290)
    added.add_tokens(["<|im_end|>"])  # as some families add it: to the vocabulary, not as a special token
    added.chat_template = TEMPLATES["chatml"]
    assert closing_of(added).stop == added.convert_tokens_to_ids("<|im_end|>")
    llama = speaking("words", special=("</s>",))
    assert closing_of(llama).stop == llama.convert_tokens_to_ids("</s>")
    assert closing_of(speaking("words")).words == "</s>"
    assert closing_of(speaking("open")).words == ""
    assert closing_of(byte_tokenizer(["x"], 290)) is None
    formal = speaking("chatml")
    needs = "{% if messages[0].role != 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    formal.chat_template = needs + TEMPLATES["chatml"]
    assert closing_of(formal) == closing_of(chatml)
    strict = speaking("chatml")
    strict.chat_template = "{{ raise_exception('only system turns') }}"
    assert closing_of(strict) is None


def test_ends_are_those_of_all_models(student, teacher):
    tokenizer = speaking("chatml")
    one, other = copy.deepcopy(student), copy.deepcopy(teacher)
    one.generation_config.eos_token_id = 7
    other.generation_config.eos_token_id = [9, 5000, 0]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert stops_of(one, tokenizer, other) == (0, 7, 9, end)
    assert stops_of(None, tokenizer, None) == (0, end)


def test_plain_words_end_an_answer_however_they_are_cut():
    tokenizer = speaking("words")
    ended = ended_by_words(tokenizer)
    for text in ("ho. </s>", "ho.</s>", "ho</s>\n", "</s>"):
        assert ended(tokenizer(text)["input_ids"])
    for text in ("ho. </s", "</s> and on", "ho."):
        assert not ended(tokenizer(text)["input_ids"])
    assert ended_by_words(speaking("chatml")) is None
    assert ended_by_words(byte_tokenizer(["x"], 290)) is None


def test_an_answer_ends_with_plain_words(bigram, generator):
    tokenizer = speaking("words")
    ends, before = tokenizer("</s>")["input_ids"], tokenizer("a")["input_ids"][0]
    chain = torch.eye(len(tokenizer))
    for one, other in zip([before, *ends], [*ends, before], strict=True):
        chain[one] = torch.eye(len(tokenizer))[other]
    voice = Voice(bigram(chain), len(tokenizer), (), ended=ended_by_words(tokenizer))
    assert generate(voice, [[before], [before]], [20, 2], generator) == [ends, ends[:2]]
    assert voice.ended.without("ho. </s>\n") == "ho."
    assert voice.ended.without("ho. ") == "ho. "


def test_generation_settings_name_ends_and_what_is_never_said(student):
    tokenizer = byte_tokenizer(["x"], 290)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    model = copy.deepcopy(student)  # of 300 words
    write_stops(model, tokenizer, (0, 5), len(tokenizer) - 1)
    size = len(tokenizer)
    assert model.generation_config.eos_token_id == [0, 5]
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.suppress_tokens == list(range(size - 1, 300))


@pytest.mark.parametrize(("name", "listed"), [("chatml", ()), ("chatml", ("<|im_start|>",)), ("words", ())])
def test_student_and_teacher_end_their_answers_and_so_does_the_saved_student(name, listed, engine, tmp_path):
    """Greedy answers are as long as the references, by attar and by plain transformers."""
    import transformers

    tokenizer = speaking(name)
    source = load({"train": ROWS, "validation": ROWS[:2], "test": ROWS[::2]})
    settings = {"epochs": 20, "batch": 4, "lr": 1e-2, "max_length": 64, "new_tokens": 30, "sampling_temperature": 0.0}
    teacher = language.train(
        source, "gpt2:layers=1,width=24,heads=2", tokenizer=tokenizer, engine=engine, answers=0, **settings
    )
    teacher.model.generation_config.eos_token_id = [0, *map(tokenizer.convert_tokens_to_ids, listed)]
    method = language.DistillLanguage.of(student="gpt2:layers=1,width=16,heads=2", **settings)
    made = language.distill(source, method, teacher=teacher, out=tmp_path, engine=engine, answers=8)
    for who in ("student", "teacher"):
        assert made.scores[who]["length_ratio"] == pytest.approx(1, abs=0.2)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    named = model.generation_config.eos_token_id
    stops = stops_of(teacher.model, tokenizer)
    assert named == (list(stops) if len(stops) > 1 else stops[0])
    prompt = tokenizer.apply_chat_template(ROWS[1]["messages"][:1], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt")
    said = model.generate(**ids, max_new_tokens=30, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert len(said) < 25
    assert int(said[-1]) in stops
    assert "it is" in tokenizer.decode(said)
    assert "it is" in made.answer(prompt, temperature=0.0)


def test_a_template_that_refuses_a_conversation_is_named_with_the_row():
    tokenizer = speaking("chatml")
    tokenizer.chat_template = (
        "{% if messages[0].role == 'assistant' %}{{ raise_exception('Conversations start with a user.') }}{% endif %}"
        + TEMPLATES["chatml"]
    )
    turn = {"role": "assistant", "content": "hi"}
    rows = [*ROWS, {"messages": [turn, *ROWS[0]["messages"]]}]
    source = load({"train": rows, "validation": ROWS[:1], "test": ROWS[:1]})
    with pytest.raises(InputError) as refusal:
        paired(source, None, None, tokenizer).tokens("train", Tokeniser(tokenizer, 64, 32, 8))
    assert str(refusal.value) == (
        "the tokenizer's chat template refuses row 17 of data (train) (Conversations start with a user)."
    )
    with pytest.raises(InputError, match=r"row 17 of data \(train\) has nothing before the response"):
        load({"train": [*ROWS, {"messages": [turn]}], "validation": ROWS[:1], "test": ROWS[:1]})


def test_padding_is_cut_from_a_student_and_never_said(engine, tmp_path):
    """Teacher and student are padded differently; the saved student says only tokens that decode."""
    import transformers

    tokenizer = byte_tokenizer(["x"], 258)
    source = load([{"prompt": "ab", "completion": "ba"}] * 6)
    draw = torch.Generator().manual_seed(0)
    teacher, student = (fresh_model("gpt2:layers=1,width=16,heads=2", tokenizer, 32, draw) for _ in range(2))
    teacher.resize_token_embeddings(500, mean_resizing=False)
    student.resize_token_embeddings(640, mean_resizing=False)
    method = language.DistillLanguage.of(label_weight=0.0, epochs=1, max_length=32, lr=1e-3)
    made = language.distill(
        source, method, teacher=teacher, student=student, tokenizer=tokenizer, out=tmp_path, engine=engine, answers=0
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path)
    size = len(saved)
    assert model.config.vocab_size == size == 258
    assert model.get_output_embeddings().weight.shape == model.get_input_embeddings().weight.shape == (size, 16)
    assert made.origin.parameters == sum(parameter.numel() for parameter in model.parameters())
    torch.manual_seed(0)
    said = model.generate(
        torch.tensor([[70, 71]] * 8), attention_mask=torch.ones(8, 2), do_sample=True, max_new_tokens=30
    )
    assert all(token is not None for token in saved.convert_ids_to_tokens(said.flatten()))
    assert student.config.vocab_size == 640
