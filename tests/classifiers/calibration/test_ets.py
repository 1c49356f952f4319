import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.calibration.calibration import Calibration
from attar.classifiers.calibration.ets import EnsembleScaling, ensemble_weights, on_simplex
from attar.classifiers.calibration.losses import brier
from attar.classifiers.calibration.ts import TemperatureScaling, searched
from calibration_cases import case, cases

NAME = "ensemble_scaling_isotonic"


def learned(temperature, weights):
    return {"temperature": torch.tensor(temperature).double(), "weights": torch.tensor(weights).double()}


@pytest.mark.parametrize("which", cases(NAME, "ref.weights_mse"))
def test_golden(which):
    given = case(NAME, which)
    logits, labels = given["in.logits"], given["in.labels"]
    temperature = float(given["ref.temperature_mse"])
    weights = ensemble_weights(logits, labels, temperature)
    assert weights.min() >= 0 and float(weights.sum()) == pytest.approx(1)
    method: Calibration = EnsembleScaling()
    found = method.applied({"temperature": torch.tensor(temperature).double(), "weights": weights}, logits)
    score = float(brier(found, labels).mean()) / logits.shape[1]
    assert score == pytest.approx(float(given["ref.objective_mse"]), rel=1e-6)
    assert torch.allclose(weights, given["ref.weights_mse"], atol=1e-6)
    theirs = {"temperature": given["out.temperature_mse"], "weights": given["out.weights_mse"].clamp_min(0)}
    p = method.applied(theirs, given["in.eval_logits"]).exp()
    assert torch.allclose(p, given["out.probs_ets"], atol=1e-9)
    if not 0.051 < temperature < 4.99:
        return
    inside = searched(lambda scaled: float(brier(scaled, labels).mean()), logits, 0.05, 5.0)
    assert inside == pytest.approx(temperature, rel=1e-4)


def test_weights_of_one_part_are_temperature_scaling():
    logits = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first = EnsembleScaling().applied(learned(2.0, [1.0, 0, 0]), logits)
    assert torch.allclose(first, TemperatureScaling().applied({"temperature": torch.tensor(2.0)}, logits), atol=1e-12)
    assert torch.allclose(EnsembleScaling().applied(learned(2.0, [0.0, 1, 0]), logits), F.log_softmax(logits, 1))
    assert torch.allclose(
        EnsembleScaling().applied(learned(2.0, [0.0, 0, 1]), logits).exp(), torch.tensor(0.2).double()
    )


def test_the_program_is_solved_on_every_face():
    """Against a fine grid of the simplex."""
    draw = torch.Generator().manual_seed(0)
    ticks = torch.linspace(0, 1, 101, dtype=torch.float64)
    grid = torch.stack([torch.stack([a, b, 1 - a - b]) for a in ticks for b in ticks if a + b <= 1 + 1e-12])
    faces = set()
    for _ in range(60):
        root = torch.randn(4, 3, dtype=torch.float64, generator=draw)
        gram, target = root.T @ root, torch.randn(3, dtype=torch.float64, generator=draw)
        found = on_simplex(gram, target)
        values = torch.einsum("ni,ij,nj->n", grid, gram, grid) - 2 * grid @ target
        assert float(found @ gram @ found - 2 * target @ found) <= float(values.min()) + 1e-12
        faces.add(int((found > 0).sum()))
    assert faces == {1, 2, 3}


def test_equal_parts_are_not_in_the_way():
    logits = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(dim=1)
    weights = ensemble_weights(logits, labels, 1.0)
    assert torch.equal(weights, torch.tensor([1.0, 0, 0]).double())


def test_it_is_not_worse_than_temperature_scaling_in_its_score():
    draw = torch.Generator().manual_seed(0)
    true = torch.randn(500, 5, dtype=torch.float64, generator=draw)
    labels = torch.multinomial(0.8 * true.softmax(1) + 0.04, 1, generator=draw).squeeze(1)
    scores = [
        float(brier(method.applied(method.fit(3 * true, labels, generator=draw), 3 * true), labels).mean())
        for method in (EnsembleScaling(loss="brier"), TemperatureScaling(loss="brier"))
    ]
    assert scores[0] <= scores[1] + 1e-12


def test_predictions_stay_where_all_rows_are_wrong():
    logits = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    wrong = (logits.argmax(dim=1) + 1) % 3
    with pytest.warns(UserWarning, match="say nothing about the labels"):
        found = EnsembleScaling().fit(logits, wrong, generator=torch.Generator())
    assert float(found["weights"][2]) > 0.999
    for seen in (logits, logits.double()):
        assert torch.equal(EnsembleScaling().applied(found, seen).argmax(dim=1), seen.argmax(dim=1))
