import pytest

from attar.language.wordmap import WordMap, same_words, texts_of
from tokenizer_cases import tokenizer_named


def test_equal_tokenizers_pair_all_tokens():
    one = tokenizer_named("bytes300")
    words = WordMap.between(one, one)
    assert words.student.tolist() == words.teacher.tolist() == list(range(300))
    assert not len(words.student_rest)
    assert not len(words.teacher_rest)
    assert words.words == (300, 300)


@pytest.mark.parametrize("other", ["bytes400", "pieces", "characters", "words", "slow"])
def test_pairs_are_of_one_text_and_one_to_one(other):
    one, two = tokenizer_named("bytes300"), tokenizer_named(other)
    pairs = same_words(one, two)
    mine, theirs = texts_of(one), texts_of(two)
    assert len(set(pairs.values())) == len(pairs) > 0
    for number, partner in pairs.items():
        (word, text), (their_word, their_text) = mine[number], theirs[partner]
        assert text == their_text
        assert text is not None or word == their_word


def test_a_mark_before_a_word_is_a_space():
    one, two = tokenizer_named("bytes300"), tokenizer_named("pieces")
    pairs = same_words(one, two)
    mine, theirs = one.get_vocab(), two.get_vocab()
    spaced = {word[1:] for word in mine if word.startswith("Ġ")} & {word[1:] for word in theirs if word.startswith("▁")}
    assert spaced - {""}
    assert all(pairs[mine[f"Ġ{word}"]] == theirs[f"▁{word}"] for word in spaced)
    assert pairs[mine["a"]] == theirs["a"]


def test_bytes_of_a_character_are_paired_where_they_are_written_alike():
    one, two = tokenizer_named("bytes300"), tokenizer_named("bytes400")
    pairs = same_words(one, two)
    assert pairs[one.get_vocab()["ð"]] == two.get_vocab()["ð"]
    assert same_words(one, tokenizer_named("slow"))[one.get_vocab()["ð"]] == 0xF0 + 3


def test_words_beyond_a_models_logits_are_left_out():
    words = WordMap.of({0: 1, 1: 7, 5: 0}, 4, 6)
    assert (words.student.tolist(), words.teacher.tolist()) == ([0], [1])
    assert (words.student_rest.tolist(), words.teacher_rest.tolist()) == ([1, 2, 3], [0, 2, 3, 4, 5])
    assert words.words == (4, 6)
