import dataclasses

import pytest
import torch

import attar
from attar.classifiers.recipe import Recipe
from attar.core.errors import InputError


def test_a_last_batch_of_one_image_is_left_out():
    assert Recipe(batch=50, images=101).batches == 2
    assert Recipe(batch=50, images=102).batches == 3


def test_what_is_left_open_comes_from_the_images(few_digits, shapes):
    digits, coloured = (Recipe().fitted_to(source) for source in (few_digits, shapes))
    assert (digits.images, digits.shift, digits.flips) == (len(few_digits.train), 1, "off")
    assert (coloured.images, coloured.flips) == (len(shapes.train), "on" if shapes.flips else "off")
    assert Recipe(smallest_crop=0.5).fitted_to(few_digits).shift == 0
    assert Recipe(shift=3, flips="on").fitted_to(few_digits) == Recipe(
        shift=3, flips="on", images=len(few_digits.train)
    )


def test_terms_warm_up_epoch_by_epoch_from_one_or_from_zero():
    recipe = Recipe(epochs=8, warm_up=0.5)
    assert [recipe.warmth(epoch) for epoch in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert [dataclasses.replace(recipe, warm_from=0).warmth(epoch) for epoch in range(5)] == [0, 0.25, 0.5, 0.75, 1]


def test_the_step_size_is_cut_unless_it_falls_by_a_cosine():
    assert [Recipe(epochs=4, lr=1, cuts=(0.5, 0.75)).lr_at(epoch) for epoch in range(4)] == [
        1,
        1,
        0.1,
        pytest.approx(0.01),
    ]
    assert Recipe(epochs=4, lr=1, schedule="cosine").lr_at(2) == pytest.approx(0.5)


def test_stored_views_are_shared_by_students_of_all_seeds(few_digits):
    anew, stored = (Recipe(views=views).fitted_to(few_digits) for views in (0, 2))
    for recipe, alike in ((anew, False), (stored, True)):
        first, second = (recipe.drawn_view(recipe.view_of(3), few_digits, seed) for seed in (0, 1))
        assert torch.equal(first.down, second.down) == alike
    assert [stored.view_of(epoch) for epoch in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cuts": (0.7, 0.5)}, "cuts are (0.7, 0.5); they must rise, from above 0 to at most 1."),
        (
            {"shift": 2, "smallest_crop": 0.5},
            "a view is either shifted or cropped. Give shift or smallest_crop, not both.",
        ),
        ({"smallest_crop": 0.0}, "smallest_crop is 0.0; it must be from 0.01 to 1."),
        ({"optimizer": "adam", "nesterov": True}, "nesterov needs SGD and a momentum above 0. Do not set nesterov."),
        ({"optimizer": "adamw", "nesterov": True}, "nesterov needs SGD and a momentum above 0. Do not set nesterov."),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, sentence):
    with pytest.raises(InputError) as refusal:
        Recipe(**settings)
    assert str(refusal.value) == sentence


def test_images_that_are_no_squares_are_not_turned():
    split = torch.zeros(4, 1, 8, 10, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])
    with pytest.raises(InputError, match=r"^turns needs square images, and those of .* are not\. Do not set turns\.$"):
        Recipe(turns=True).fitted_to(attar.load((split, split)))
