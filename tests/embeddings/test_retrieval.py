"""Recall at k of pairs, in both directions, with equal captions and ties."""

import pytest
import torch

from attar.core.errors import InputError
from attar.embeddings import retrieval
from attar.embeddings.retrieval import chance_of_recall, recalls


def words(count):
    return [f"number {n}" for n in range(count)]


def test_pairs_that_agree_are_found_and_a_point_is_no_answer(generator):
    images = torch.randn(20, 5, generator=generator)
    assert recalls(images, 3 * images, words(20), at=(1,)) == {"image to text": {1: 1.0}, "text to image": {1: 1.0}}
    nothing = torch.ones(20, 5)
    assert recalls(nothing, nothing, words(20))["image to text"] == {1: 0.0, 5: 0.0, 10: 0.0}


@pytest.mark.parametrize("pairs", [1, 70, 2**22])
def test_it_is_a_plain_loop_in_chunks_that_do_not_divide(pairs, generator, monkeypatch):
    monkeypatch.setattr(retrieval, "PAIRS", pairs)
    images, texts = torch.randn(2, 13, 4, dtype=torch.float64, generator=generator)
    captions = [f"{n % 9}" for n in range(13)]
    found = recalls(images, texts, captions, at=(1, 3))
    for way, (queries, gallery) in {"image to text": (images, texts), "text to image": (texts, images)}.items():
        for k in (1, 3):
            hits = 0
            for n in range(13):
                cosines = torch.cosine_similarity(queries[n][None], gallery)
                best = cosines.argsort(descending=True)[:k].tolist()
                hits += any(captions[row] == captions[n] for row in best)
            assert found[way][k] == hits / 13


def test_a_sample_with_the_same_caption_is_right():
    images = torch.eye(3)
    texts = images[[1, 0, 2]]
    assert recalls(images, texts, ["a", "a", "b"], at=(1,))["image to text"] == {1: 1.0}
    assert recalls(images, texts, ["a", "c", "b"], at=(1,))["image to text"] == {1: pytest.approx(1 / 3)}


def test_chance_is_that_of_a_random_order():
    assert chance_of_recall(words(20), 5) == pytest.approx(0.25)
    assert chance_of_recall(["a", "a", "b", "b"], 1) == pytest.approx(0.5)
    assert chance_of_recall(["a", "a", "b", "b"], 3) == 1.0
    assert chance_of_recall(["a", "b"], 10) == 1.0


def test_what_is_no_pair_is_refused():
    with pytest.raises(InputError, match="retrieval needs pairs; there are 3 images, 3 texts and 2 captions"):
        recalls(torch.eye(3), torch.eye(3), ["a", "b"])
