"""iSogCLR: temperatures of samples, in runs on views and on pairs."""

import pytest
import torch

from attar.core.runtime import Engine, Runtime
from attar.embeddings.selfsup.isogclr import ISogCLR
from attar.embeddings.selfsup.sogclr import SogCLR
from embeddings_selfsup_runs import SMALL, digits, mosaics, nearest, trained


def test_temperatures_of_samples_move_and_are_kept():
    artefact, state, found, told = trained(ISogCLR(**{**SMALL, "epochs": 3, "held_out": 0.2}), digits(15))
    kept, learn = artefact.remembered, state.learn
    assert {*kept} == {"log_s", "seen", "temperature"} and kept["temperature"].shape == (150,)
    assert (kept["temperature"][learn] != 0.1).all() and (
        kept["temperature"][state.held] == kept["temperature"][state.held][0]
    ).all()
    assert float(told[-1]["temperature"]) == pytest.approx(float(kept["temperature"][learn].mean()), rel=1e-5)
    assert nearest(artefact, digits(15)) > 0.4
    loss = state.memory["contrast"]
    assert (loss.eta, loss.beta, loss.rho, loss.temperature_range) == (0.03, 0.5, 0.4, (0.05, 1.0))
    assert found.scheme == "individual" and found.temperature_lr == 0.03


def test_pairs_have_temperatures_of_images_and_of_texts():
    method = ISogCLR(**{**SMALL, "epochs": 1}, text_encoder="words:width=8,depth=0")
    artefact, state, _, _ = trained(method, mosaics(96, 20))
    kept = artefact.remembered
    assert {*kept} == {f"{side}{name}" for side in ("", "text_") for name in ("log_s", "seen", "temperature")}
    assert torch.equal(kept["temperature"], state.memory["contrast"].tau[0])
    assert torch.equal(kept["text_temperature"], state.memory["contrast"].tau[1])
    assert state.memory["contrast"].eta == 0.003


def test_without_a_step_of_temperatures_it_is_sogclr_bit_for_bit():
    settings = {**SMALL, "epochs": 1}
    still, plain = (trained(one, digits(8))[0] for one in (ISogCLR(**settings, temperature_lr=0.0), SogCLR(**settings)))
    for one, other in zip(still.encoder.state_dict().values(), plain.encoder.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("data", ["cifar100", "imagenet", "cifar100-libauc", "cc3m", "cc3m-libauc"])
def test_published_cells_can_be_started(data):
    cell = ISogCLR.paper(data)
    source = mosaics(3200, 20) if cell.pairs == "on" else digits()
    found = ISogCLR.from_json({**cell.to_json(), "encoder": "auto", "view": {}}).resolve(
        source, Runtime(Engine(device="cpu", quiet=True), 0)
    )
    loss = found.loss(len(source.train))
    assert (
        loss.temperatures == "individual" and loss.gamma == cell.normaliser_rate and loss.rho == cell.divergence_bound
    )
