from attar.language.phrases import VERBS, drawn


def test_every_prompt_has_its_one_right_answer():
    for row in drawn(200, "train"):
        task, _, sentence = row["prompt"].partition(": ")
        assert sentence.endswith(".\n")
        assert any(past in row["response"] for past in VERBS.values()) or task == "Turn round"


def test_parts_are_drawn_apart_and_stay():
    assert drawn(5, "train") == drawn(5, "train")
    assert drawn(5, "train") != drawn(5, "test")
    assert drawn(5, "train") == drawn(8, "train")[:5]
