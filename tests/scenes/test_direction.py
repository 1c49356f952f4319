"""Scores of the direction of an edit: closed forms, CLIP from a folder, and a classifier in its place."""

import pytest
import torch

from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture
from attar.scenes.direction import (
    ByClassifier,
    ByCLIP,
    direction_score,
    source_similarity,
    target_similarity,
    unit,
    view_consistency,
)
from clip_files import save_clip

X, Y, Z = torch.eye(3, dtype=torch.float64)


def test_an_edit_along_the_texts_scores_one_and_against_them_minus_one():
    source = torch.stack([X, 3 * X])
    edited = torch.stack([2 * Y, Y])
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(direction_score(edited, source, Y, X), ones)
    torch.testing.assert_close(direction_score(edited, source, X, Y), -ones)
    half = direction_score(edited, source, Z, X)
    torch.testing.assert_close(half, 0.5 * ones)


def test_its_definition(generator):
    edited, source = torch.randn(2, 5, 7, dtype=torch.float64, generator=generator)
    target_text, source_text = torch.randn(2, 7, dtype=torch.float64, generator=generator)
    found = direction_score(edited, source, target_text, source_text)
    for row in range(5):
        moved = edited[row] / edited[row].norm() - source[row] / source[row].norm()
        wanted = target_text / target_text.norm() - source_text / source_text.norm()
        torch.testing.assert_close(found[row], moved @ wanted / moved.norm() / wanted.norm())
    pairs = view_consistency(edited, source)
    moved = unit(unit(edited) - unit(source))
    torch.testing.assert_close(pairs, (moved[:-1] * moved[1:]).sum(dim=1))
    torch.testing.assert_close(target_similarity(edited, target_text), unit(edited) @ unit(target_text))
    torch.testing.assert_close(source_similarity(edited, edited), torch.ones(5, dtype=torch.float64))


def test_the_same_edit_of_every_view_is_consistent():
    source, edited = X.expand(4, 3), Y.expand(4, 3)
    torch.testing.assert_close(view_consistency(edited, source), torch.ones(3, dtype=torch.float64))
    with pytest.raises(InputError, match="Give two or more"):
        view_consistency(edited[:1], source[:1])


def test_no_edit_scores_nothing():
    assert direction_score(X[None], X[None], Y, X) == 0


def test_clip_from_a_folder(tmp_path, generator):
    pytest.importorskip("transformers")
    clip = ByCLIP(save_clip(tmp_path / "clip", ["a red cube", "a blue sphere"]))
    images = torch.rand(3, 3, 16, 16, generator=generator) * 2 - 1
    assert clip.images(images).shape == (3, 8) and clip.text("a red cube").shape == (8,)
    found = direction_score(
        clip.images(images), clip.images(-images), clip.text("a blue sphere"), clip.text("a red cube")
    )
    assert found.isfinite().all() and (found.abs() <= 1 + 1e-6).all()


def test_a_folder_without_clip_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match="is not a CLIP"):
        ByCLIP(tmp_path)


def test_a_classifier_stands_for_clip(generator):
    images = torch.rand(30, 1, 8, 8, generator=generator) * 2 - 1
    labels = torch.arange(30) % 3
    network = Architecture(network="mlp", width=16).build((1, 8, 8), 3, generator)
    by = ByClassifier.of(network, images, labels, ("a", "b", "c"))
    wanted = unit(network.embed(images[labels == 1])).mean(dim=0)
    torch.testing.assert_close(by.text("b"), wanted)
    with pytest.raises(InputError, match="unknown class 'd'"):
        by.text("d")
