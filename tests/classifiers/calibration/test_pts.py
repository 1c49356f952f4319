import pytest
import torch

from attar.classifiers.calibration.pts import CLIP, ParameterisedScaling
from calibration_cases import case, cases

NAME = "parameterised_temperature_scaling"


def parameters(given, home="param"):
    """Keras has weights as [inputs, outputs]."""
    found = {}
    for name, value in given.items():
        if name.startswith(f"{home}."):
            found[name.removeprefix(f"{home}.")] = value.T.contiguous() if value.ndim == 2 else value
    return found


@pytest.mark.parametrize("which", cases(NAME, "out.loss"))
def test_golden(which):
    given = case(NAME, which)
    logits, labels = given["in.logits"].clamp(-CLIP, CLIP), given["in.labels"]
    method = ParameterisedScaling(top_classes=int(given["in.top_k"]), weight_decay=float(given["in.weight_decay"]))
    learned = {name: value.clone().requires_grad_() for name, value in parameters(given).items()}
    temperature = method.temperature(learned, given["in.logits"])
    if "ref.temperature" in given:
        assert torch.allclose(temperature[:, None], given["ref.temperature"], rtol=1e-10)
    assert torch.allclose(method.applied(learned, logits).exp(), given["out.probs"], atol=1e-10)
    loss = method.loss_at(logits / temperature[:, None], labels, learned)
    assert torch.isclose(loss, given["out.loss"], atol=1e-10)
    loss.backward()
    for name, value in parameters(given, "out.grad").items():
        assert torch.allclose(learned[name].grad, value, atol=1e-10), name


def test_it_starts_at_one_temperature_and_finds_two():
    """Samples whose first logits lie far apart are over-confident here, the others are not."""
    draw = torch.Generator().manual_seed(0)
    true = 1.5 * torch.randn(4000, 4, dtype=torch.float64, generator=draw)
    labels = torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)
    top = true.topk(2, dim=1).values
    sure = top[:, 0] - top[:, 1] > 1.5
    logits = torch.where(sure[:, None], 4 * true, true)
    method = ParameterisedScaling(loss="nll")
    learned = method.fit(logits, labels, generator=torch.Generator().manual_seed(0))
    temperature = method.temperature(learned, logits)
    assert temperature[sure].mean() > temperature[~sure].mean() + 1
    assert {name: list(value.shape) for name, value in learned.items()}["weight0"] == [5, 4]


def test_batches_and_no_hidden_layers_are_settings():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 3, generator=draw)
    method = ParameterisedScaling(hidden=(), batch=16, epochs=3, held_out=0.0)
    learned = method.fit(3 * logits, logits.argmax(dim=1), generator=draw)
    assert set(learned) == {"weight0", "bias0"}
