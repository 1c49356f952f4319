"""SogCLR: its defaults by the data, its runs on views, what it keeps, and what it refuses."""

import math

import pytest
import torch

import small
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.artefact import TrainedEncoder
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.selfsup.sogclr import SogCLR
from embeddings_selfsup_runs import SMALL, digits, images_of, mosaics, nearest, trained
from promises import EVERY_STEP, dying

RUNTIME = Runtime(Engine(device="cpu", quiet=True), 0)


def test_defaults_depend_on_whether_there_are_captions():
    views, pairs = SogCLR().resolve(digits(), RUNTIME), SogCLR().resolve(mosaics(), RUNTIME)
    assert (views.pairs, pairs.pairs) == ("off", "on")
    assert (views.drawn_views, pairs.drawn_views) == (2, 1)
    assert (views.contrast_temperature, pairs.contrast_temperature) == (0.1, 0.07)
    assert (views.normaliser_rate, pairs.normaliser_rate) == (0.9, 0.8)
    assert pairs.divergence_bound == pytest.approx(math.log(199) / 2)
    assert (views.view.smallest_crop, pairs.view.smallest_crop, pairs.view.jitter) == (0.2, 0.9, 0.0)
    of_captions = SogCLR(pairs="off", contrast_temperature=0.3).resolve(mosaics(), RUNTIME)
    assert (of_captions.drawn_views, of_captions.contrast_temperature) == (2, 0.3)
    assert SogCLR.from_json(pairs.to_json()).resolve(mosaics(), RUNTIME) == pairs


def test_small_batches_are_no_worse_than_simclr():
    settings = {**SMALL, "epochs": 3, "batch": 16}
    ours, theirs = (nearest(trained(one, digits())[0], digits()) for one in (SogCLR(**settings), SimCLR(**settings)))
    assert ours > theirs - 0.03 and ours > 0.6


def test_every_option_trains_and_the_falling_rate_ends():
    settings = {**SMALL, "epochs": 1, "batch": 64}
    for options in (
        {"learn_temperature": True, "normaliser_schedule": "cosine", "normaliser_rate": 0.2},
        {"hinge": 0.8, "positive_weight": "normalised", "optimizer": "lars", "lr": 0.5},
    ):
        _, state, found, told = trained(SogCLR(**settings, **options), digits(10))
        assert all(math.isfinite(float(one["loss"])) for one in told)
        assert state.memory["contrast"].seen.all()
        if found.learn_temperature:
            assert float(told[-1]["temperature"]) != pytest.approx(0.1, abs=1e-5)
            assert state.memory["contrast"].tau.grad is not None


def test_normalisers_are_kept_for_each_sample_and_held_out_ones_are_not_seen():
    artefact, state, _, _ = trained(SogCLR(**SMALL, held_out=0.2), digits(10))
    kept = artefact.remembered
    assert {*kept} == {"log_s", "seen"} and kept["log_s"].shape == (100,)
    assert kept["seen"][state.learn].all() and not kept["seen"][state.held].any()
    assert kept["log_s"][state.learn].all() and not kept["log_s"][state.held].any()


@pytest.mark.parametrize("pairs", [False, True])
def test_a_killed_run_goes_on_to_the_same_bytes(pairs, tmp_path):
    from attar.embeddings.selfsup.isogclr import ISogCLR

    method = ISogCLR(**{**SMALL, "epochs": 1, "text_encoder": "words:width=8,depth=1,heads=2"})
    source = mosaics(96, 20) if pairs else digits(8)
    small.run(method, "embeddings", data=source, out=tmp_path / "whole", engine=EVERY_STEP)
    with dying(method, 2):
        small.run(method, "embeddings", data=source, out=tmp_path / "killed", engine=EVERY_STEP)
    small.run(method, "embeddings", data=source, out=tmp_path / "killed", engine=EVERY_STEP)
    for name in ("encoder.safetensors", "remembered.safetensors", "artefact.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    found = TrainedEncoder.load(tmp_path / "killed")
    assert {*found.remembered} >= {"log_s", "temperature"} and found.paired == pairs
    if pairs:
        again = found.text_features(source.test.captions[:3])
        assert again.shape == (3, 128) and found.image_features(images_of(source.test)).shape == (20, 128)


def test_published_cells_have_the_scripts_settings():
    cell = SogCLR.paper("imagenet")
    assert (cell.batch, cell.epochs, cell.lr, cell.optimizer) == (256, 800, 1.2, "lars")
    pairs = SogCLR.paper("cc3m")
    assert (pairs.pairs, pairs.contrast_temperature, pairs.normaliser_schedule) == ("on", 0.01, "cosine")


def test_what_does_not_fit_is_refused_in_one_line():
    for method, source, sentence in (
        (SogCLR(pairs="on"), digits(), "pairs is on, but digits has no images with captions. Give --pairs off."),
        (SogCLR(learn_temperature=True, divergence_bound=7.0), digits(),
         "divergence_bound is 7; with 598 negatives it must be below their logarithm, 6.39, or temperatures stick at "
         "their lower end."),
        (SogCLR(learn_temperature=True, contrast_temperature=2.0), digits(),
         "contrast_temperature is 2, outside of temperature_range, 0.05 to 1."),
    ):  # fmt: skip
        with pytest.raises(InputError) as raised:
            method.resolve(source, RUNTIME)
        assert str(raised.value) == sentence
    with pytest.raises(InputError) as raised:
        SogCLR(temperature_range=(0.5, 0.1))
    assert str(raised.value) == "temperature_range is 0.5 0.1; give the smallest, above 0, and the largest: 0.05 1."


def test_memory_learns_and_is_part_of_the_state():
    _, state, _, _ = trained(SogCLR(**{**SMALL, "epochs": 1, "learn_temperature": True}), digits(8))
    learned = {id(one) for one in state.learned()}
    assert id(state.memory["contrast"].tau) in learned
    assert {*state.memory.state_dict()} == {"contrast.log_s", "contrast.seen", "contrast.tau"}
    assert isinstance(state.memory["contrast"].tau, torch.nn.Parameter)
