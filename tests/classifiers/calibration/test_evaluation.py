"""Calibration in `attar evaluate`: measures, shifted images, images of one's own, and pictures."""

import math

import numpy as np
import pytest
import torch

import attar
from attar.classifiers.calibration.evaluation import beyond_named, in_unit
from attar.classifiers.calibration.metrics import CalibrationReport
from attar.classifiers.calibration.pictures import reliability_picture, risk_coverage, risk_coverage_picture
from attar.classifiers.calibration.shifts import blurred, faded, noisy, rotated, shifts
from attar.classifiers.teacher import class_logits_of
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime

ENGINE = Engine(device="cpu", compile="off", quiet=True)
MEASURES = {"ECE, 15 bins", "ECE of a perfect model of as many samples", "KS error", "NLL", "Brier score"}


@pytest.fixture(scope="module")
def student(digits, tmp_path_factory):
    """The folder of a small classifier."""
    folder = tmp_path_factory.mktemp("student")
    attar.train(digits, attar.Classifier(network="convnet:norm=batch,width=8", epochs=2), out=folder, engine=ENGINE)
    return folder


# --------------------------------------------------------------------------------------------------------------- shifts


def test_a_quarter_turn_moves_pixels_and_no_turn_none():
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotated(pixels, 0), pixels)
    torch.testing.assert_close(rotated(pixels, 90), pixels.rot90(1, (2, 3)), atol=1e-4, rtol=0)
    wide = torch.rand(1, 1, 6, 10)
    torch.testing.assert_close(rotated(wide, 180), wide.flip(2, 3), atol=1e-4, rtol=0)


def test_blur_and_contrast_keep_the_mean_and_noise_stays_in_range():
    flat = torch.full((1, 1, 9, 9), 0.4)
    torch.testing.assert_close(blurred(flat, 1.0), flat)
    dot = torch.zeros(1, 2, 9, 9)
    dot[:, :, 4, 4] = 1
    assert float(blurred(dot, 0.8).sum()) == pytest.approx(2, rel=1e-4)
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(faded(pixels, 0.5).mean(dim=(1, 2, 3)), pixels.mean(dim=(1, 2, 3)))
    torch.testing.assert_close(faded(pixels, 1.0), pixels)
    seen = noisy(pixels, 0.25, torch.Generator().manual_seed(2))
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1
    assert torch.equal(seen, noisy(pixels, 0.25, torch.Generator().manual_seed(2)))
    assert list(shifts(["noise", "rotate"])) == ["noise 0.1", "noise 0.25", "rotated 15°", "rotated 25°", "rotated 30°"]
    assert torch.equal(in_unit(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)), torch.ones(1, 1, 2, 2))


# ----------------------------------------------------------------------------------------------------------- evaluation


def test_each_classifier_is_read_with_its_calibration(student, digits):
    found = attar.evaluate(student, digits, engine=ENGINE)
    (cell,) = found.networks
    assert set(cell.further) >= MEASURES
    made = attar.open_artefact(student)
    report = CalibrationReport.of(*class_logits_of(made.network, digits, Runtime(ENGINE, 0)))
    assert cell.further["ECE, 15 bins"].score.value == pytest.approx(100 * report.ece)
    assert cell.further["NLL"].score.value == pytest.approx(report.nll)
    assert 0 < cell.further["ECE of a perfect model of as many samples"].score.value < 10


def test_shifted_images_have_columns_of_their_own_and_are_harder(student, digits):
    found = attar.evaluate(student, digits, shifts=("rotate", "noise"), engine=ENGINE)
    columns = [cell.column for cell in found.networks]
    assert columns == ["accuracy", *(f"accuracy, {told}" for told in shifts(["rotate", "noise"]))]
    accuracy = {cell.column: cell.score.value for cell in found.networks}
    assert accuracy["accuracy"] > accuracy["accuracy, rotated 15°"] > accuracy["accuracy, rotated 30°"]
    for cell in found.networks:
        assert set(cell.further) >= MEASURES
    again = attar.evaluate(student, digits, shifts=("noise",), engine=ENGINE)
    assert again.networks[1].score.value == accuracy["accuracy, noise 0.1"]


def test_a_folder_of_ones_own_is_a_column_too(student, digits, tmp_path):
    from PIL import Image

    for name in digits.classes:
        (tmp_path / "mine" / name).mkdir(parents=True)
    pixels = digits.test.pixels[torch.arange(60)]
    for row, (image, label) in enumerate(zip(pixels, digits.test.labels[:60], strict=True)):
        grey = Image.fromarray(np.asarray(image[0]))
        grey.save(tmp_path / "mine" / digits.classes[int(label)] / f"{row}.png")
    found = attar.evaluate(student, digits, beyond=str(tmp_path / "mine"), engine=ENGINE)
    cell = found.networks[1]
    assert cell.column == "accuracy, mine"
    made = attar.open_artefact(student)
    logits, labels = class_logits_of(made.network, digits, Runtime(ENGINE, 0))
    assert cell.score.value == pytest.approx(100 * float((logits.argmax(dim=1) == labels)[:60].float().mean()))


def test_other_classes_beyond_are_refused(student, shapes):
    with pytest.raises(InputError, match="Give images of the same classes"):
        beyond_named(shapes, attar.open_artefact(student))


def test_pictures_lie_beside_the_classifier_and_stand_on_its_card(student):
    from attar.cli import main

    main(["evaluate", str(student), "--data", "digits", "--quiet"])
    for name in ("reliability", "risk-coverage"):
        assert (student / "evaluation" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(evaluation/{name}.png)" in (student / "README.md").read_text(encoding="utf-8")
    assert len(attar.open_artefact(student).shown().pictures) == 2


# ------------------------------------------------------------------------------------------------------------- pictures


def test_the_risk_of_all_samples_is_the_error_and_ties_share_theirs():
    confidence, right = torch.tensor([0.9, 0.5, 0.5, 0.2]), torch.tensor([1, 0, 1, 0])
    coverage, risk = risk_coverage(confidence, right)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 0.25, 1 / 3, 0.5])


def test_pictures_are_the_same_each_time_and_few_samples_have_no_bins():
    generator = torch.Generator().manual_seed(3)
    confidence = torch.rand(300, generator=generator)
    right = torch.bernoulli(confidence, generator=generator)
    curves = {"before": (confidence.sqrt(), right), "after": (confidence, right)}
    assert reliability_picture(curves) == reliability_picture(curves)
    assert risk_coverage_picture(curves) == risk_coverage_picture(curves)
    assert reliability_picture({"few": (confidence[:5], right[:5])}) is None
    assert not math.isnan(float(risk_coverage(confidence, right)[1].mean()))
