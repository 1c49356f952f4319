"""Masks of edits: given ones, where the prompts differ, and CLIPSeg's."""

import pytest
import torch

from attar.core.errors import InputError
from attar.samplers.schedules import Grid
from attar.scenes.masks import CLIPSeg, difference_mask, given_mask, grown
from clip_files import save_clipseg


def test_a_mask_of_latents_stays_as_it_is_and_one_of_pictures_is_halved():
    latents = torch.eye(4)
    assert torch.equal(given_mask(latents, (4, 4), (8, 8), 3), latents.expand(3, 4, 4))
    pictures = torch.zeros(2, 8, 8)
    pictures[1, :3, :4] = 1
    found = given_mask(pictures, (4, 4), (8, 8), 2)
    wanted = torch.zeros(2, 4, 4)
    wanted[1, :2, :2] = 1
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.ones(5, 4), "must be 4×4 as of the latents, or 8×8 as of the pictures"),
        (torch.ones(2, 3, 4, 4), "the mask is [2, 3, 4, 4]"),
        (torch.ones(3, 4, 4), "the mask is of 3 views, but there are 2"),
        (2 * torch.ones(4, 4), "values below 0 or above 1"),
        (torch.full((4, 4), torch.nan), "values below 0 or above 1"),
    ],
)
def test_other_masks_are_refused(mask, said):
    with pytest.raises(InputError) as refused:
        given_mask(mask, (4, 4), (8, 8), 2)
    assert said in str(refused.value)


def test_the_mask_of_differences_is_where_the_prompts_differ(generator):
    z = torch.randn(3, 2, 10, 10, generator=generator)

    def denoise(x, sigma, condition=None):
        found = x.clone()
        found[:, :, 2:4, 5:10] += condition.view(-1, 1, 1, 1)
        return found

    ones, zeros = torch.ones(3), torch.zeros(3)
    levels = Grid(schedule="scaled-linear").levels(1000)
    found = difference_mask(denoise, z, ones, zeros, levels, generator, draws=4, percentile=85)
    wanted = torch.zeros(3, 10, 10)
    wanted[:, 2:4, 5:10] = 1
    assert torch.equal(found, wanted)
    nothing = difference_mask(denoise, z, ones, ones, levels, generator, draws=2)
    assert not nothing.any()


def test_a_mask_grows_on_every_side():
    mask = torch.zeros(1, 5, 5)
    mask[0, 2, 2] = 1
    assert torch.equal(grown(mask, 0), mask)
    assert grown(mask, 1).sum() == 9 and grown(mask, 2).sum() == 25


# ------------------------------------------------------------------------------------------------------------ CLIPSeg


def test_clipseg_gives_a_mask_of_each_picture(tmp_path, generator):
    pytest.importorskip("transformers")
    model = CLIPSeg(save_clipseg(tmp_path / "clipseg", ["a cube", "a sphere"]))
    images = torch.rand(2, 3, 20, 20, generator=generator) * 2 - 1
    found = model.mask(images, "a cube", threshold=0.0)
    assert found.shape == (2, 20, 20) and (found == 1).all()
    assert not model.mask(images[:1], "a cube", threshold=1.0).any()


def test_a_folder_without_clipseg_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        CLIPSeg(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no CLIPSeg model of transformers with its tokenizer"):
        CLIPSeg(tmp_path)


def test_code_in_a_folder_is_refused(tmp_path):
    pytest.importorskip("transformers")
    folder = save_clipseg(tmp_path / "clipseg", ["a cube", "a sphere"])
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(
        config.replace("{", '{"auto_map": {"AutoModel": "mine.Model"},', 1), encoding="utf-8"
    )
    with pytest.raises(InputError, match="auto_map"):
        CLIPSeg(folder)
