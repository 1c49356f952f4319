"""`attar calibrate`: which images calibrate a classifier, what comes out, and where it is taken as a classifier."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import attar
from attar.classifiers.calibration.calibrated import CalibratedModule, CalibratedNetwork, calibrated
from attar.classifiers.calibration.metrics import calibration_error, negative_log_likelihood, probabilities_of, top
from attar.classifiers.calibration.opening import found
from attar.classifiers.calibration.platt import PlattScaling
from attar.classifiers.calibration.ts import TemperatureScaling, temperature_of
from attar.classifiers.calibration.work import Calibrating, chosen
from attar.classifiers.classifier import Classifier
from attar.classifiers.selection import parted, reserved_rows
from attar.classifiers.tasks import Distill, Teacher
from attar.classifiers.watched import Watched
from attar.cli import main
from attar.core import engine
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.networks.architecture import parse
from attar.images.protocols import PROTOCOLS
from attar.images.sources import held_out
from attar.images.training import TrainNetwork

ENGINE = Engine(device="cpu", quiet=True)
BRIEF = {"network": "mlp:width=32", "epochs": 6, "batch": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def reserving(digits, place):
    """A classifier that reserved a fifth of the digits, and chose its epoch on a tenth of the others."""
    method = Classifier(**BRIEF, reserved=0.2, keep="accuracy")
    return attar.train(digits, method, out=place / "reserving", seed=3, engine=ENGINE)


@pytest.fixture(scope="module")
def greedy(digits, place):
    """A classifier that was trained on all training images."""
    return attar.train(digits, Classifier(**BRIEF), out=place / "greedy", engine=ENGINE)


@pytest.fixture(scope="module")
def scaled(digits, reserving, place):
    return attar.calibrate(digits, TemperatureScaling(), classifier=reserving.folder, out=place / "ts", engine=ENGINE)


def logits_on(made, split):
    return made.logits(made.transform.forward(split.pixels[torch.arange(len(split))])).double()


# ------------------------------------------------------------------------------------------------------- which images


def test_the_reserved_images_calibrate_and_the_classifier_has_not_seen_them(digits, reserving, scaled):
    rows = reserved_rows(digits, 0.2, 3)
    wanted = temperature_of(logits_on(reserving, digits.train.select(rows)), digits.train.labels[rows])
    assert float(scaled.calibrator["temperature"]) == pytest.approx(wanted, rel=1e-6)
    assert scaled.rows["which"] == "reserved"
    assert scaled.rows["count"] == len(rows)
    seen = parted(digits.without(rows), 0.1, 3).train
    mine = {row.numpy().tobytes() for row in digits.train.select(rows).pixels[torch.arange(len(rows))]}
    assert sum(row.numpy().tobytes() in mine for row in seen.pixels[torch.arange(len(seen))]) <= 2  # twins in the data


def test_the_images_held_out_for_choosing_an_epoch_are_taken_if_nothing_is_reserved(digits, reserving):
    rows = reserved_rows(digits, 0.2, 3)
    rest = digits.without(rows)
    expected = rest.train.select(held_out(rest, 3, 0.1)).labels
    one = chosen(found(reserving.folder), digits, "held-out", Runtime(ENGINE))
    assert torch.equal(one.images.labels, expected)
    assert "the epoch of the classifier was chosen on the images" in one.note


def test_a_classifier_that_was_trained_on_everything_is_refused_and_told_how_to_train(digits, greedy):
    with pytest.raises(InputError, match=r"was trained on all training images\. Train it with --reserved 0\.1, give"):
        attar.calibrate(digits, TemperatureScaling(), classifier=greedy.folder, engine=ENGINE)
    with pytest.raises(InputError, match="has no reserved images"):
        attar.calibrate(digits, TemperatureScaling(), classifier=greedy.folder, calibrate_on="reserved", engine=ENGINE)


def test_who_insists_is_told_and_the_card_keeps_it(digits, greedy, tmp_path):
    told = []
    made = attar.calibrate(
        digits,
        TemperatureScaling(),
        classifier=greedy.folder,
        calibrate_on="train",
        out=tmp_path,
        engine=ENGINE,
        say=told.append,
    )
    assert any(line.startswith("note: ") and "stays too confident" in line for line in told)
    assert "stays too confident" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert made.rows["count"] == len(digits.train)


def test_other_data_of_the_same_classes_calibrate(digits, greedy, reserving):
    rows = held_out(digits, 5, 0.2)
    other = dataclasses.replace(digits.subset(rows), name="mine")
    made = attar.calibrate(
        digits, TemperatureScaling(), classifier=greedy.folder, calibration_data=other, engine=ENGINE
    )
    assert (made.rows["which"], made.rows["count"], made.rows["source"]) == ("other data", len(rows), "mine")
    with pytest.raises(InputError, match="the calibration data are the training images of digits"):
        attar.calibrate(digits, TemperatureScaling(), classifier=greedy.folder, calibration_data=digits, engine=ENGINE)
    few = digits.with_classes([0, 1, 2])
    with pytest.raises(InputError, match="mine has 3 classes"):
        attar.calibrate(
            digits,
            TemperatureScaling(),
            classifier=greedy.folder,
            calibration_data=dataclasses.replace(few, name="mine"),
            engine=ENGINE,
        )


def test_data_that_the_classifier_was_not_trained_on_are_refused(digits, reserving):
    others = dataclasses.replace(digits.subset(torch.arange(500)), name="others", split="given")
    with pytest.raises(InputError, match="was not trained on these images of others"):
        attar.calibrate(others, TemperatureScaling(), classifier=reserving.folder, engine=ENGINE)


# ------------------------------------------------------------------------------------------------------ what comes out


def test_the_scores_are_those_of_the_test_images_before_and_after(digits, reserving, scaled):
    for who, made in (("calibrated", scaled), ("uncalibrated", reserving)):
        logits, labels = logits_on(made, digits.test), digits.test.labels
        confidence, right = top(probabilities_of(logits), labels)
        assert scaled.scores["ece"][who] == pytest.approx(100 * calibration_error(confidence, right), abs=1e-3)
        assert scaled.scores["nll"][who] == pytest.approx(negative_log_likelihood(logits, labels), abs=1e-5)
    assert scaled.scores["accuracy"]["calibrated"] == scaled.scores["accuracy"]["uncalibrated"]
    assert scaled.scores["nll"]["calibrated"] < scaled.scores["nll"]["uncalibrated"]
    assert scaled.picture().startswith(b"\x89PNG")


def test_its_logits_are_log_probabilities_and_the_predictions_stay(digits, reserving, scaled):
    images = digits.inputs(torch.arange(50))
    said = scaled.logits(images)
    torch.testing.assert_close(said.exp().sum(dim=1), torch.ones(50))
    assert torch.equal(said.argmax(dim=1), reserving.logits(images).argmax(dim=1))
    torch.testing.assert_close(scaled.predict_proba(images), said.exp())
    assert isinstance(scaled.network, CalibratedNetwork)


def test_a_rival_stands_beside_every_other_calibrator(digits, reserving, scaled):
    made = attar.calibrate(digits, find("vector-scaling"), classifier=reserving.folder, engine=ENGINE)
    assert made.scores["ece"]["ts"] == scaled.scores["ece"]["calibrated"]
    (cell,) = made.cells()
    assert [other.label for other in cell.beside] == ["uncalibrated", "ts"]
    assert cell.score.better == "lower"


def find(name):
    from attar.core.registry import METHODS

    return METHODS[name].load()()


def test_correctness_aware_calibration_looks_at_copies_in_its_forward_pass(digits, reserving, tmp_path):
    method = dataclasses.replace(find("ca"), epochs=20)
    made = attar.calibrate(digits, method, classifier=reserving.folder, out=tmp_path, engine=ENGINE)
    assert isinstance(made.network, CalibratedModule)
    images = digits.inputs(torch.arange(9))
    copies = [digits.transform.forward(one) for one in method.copies(digits.transform.inverse(images).clamp(0, 1))]
    views = [reserving.logits(one) for one in copies]
    wanted = method.applied(made.calibrator, reserving.logits(images), views)
    torch.testing.assert_close(made.logits(images), wanted, rtol=1e-4, atol=1e-4)
    seen, plain = (Watched(one.network)(images).embedding for one in (made, reserving))
    torch.testing.assert_close(seen, plain, rtol=1e-4, atol=1e-4)  # the features of the images, not of a copy
    each = torch.cat([made.logits(image[None]) for image in images])  # one isolated image at a time
    torch.testing.assert_close(made.logits(images), each, rtol=1e-4, atol=1e-4)
    assert attar.evaluate(made, digits, engine=ENGINE).rows[0].cells[0].score.value == pytest.approx(
        made.scores["accuracy"]["calibrated"], abs=1e-6
    )


def test_the_same_seed_gives_the_same_bytes(digits, reserving, scaled, tmp_path):
    attar.calibrate(digits, TemperatureScaling(), classifier=reserving.folder, out=tmp_path / "ts", engine=ENGINE)
    for name in ("calibrator.safetensors", "preview.png"):
        assert (tmp_path / "ts" / name).read_bytes() == (scaled.folder / name).read_bytes()


# ------------------------------------------------------------------------------------------ classifiers made elsewhere


def test_a_module_of_ones_own_is_calibrated_on_a_tenth(digits, greedy, tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = greedy.network

        def forward(self, images):
            return {"logits": 3 * self.inner(images)}

    told, module = [], Own().train()
    made = attar.calibrate(
        digits, TemperatureScaling(), classifier=module, out=tmp_path, engine=ENGINE, say=told.append
    )
    assert module.training
    assert made.rows["which"] == "tenth"
    assert any("nothing tells on which images the classifier was trained" in line for line in told)
    with pytest.raises(InputError, match="is a module of its maker's own"):
        attar.open_artefact(tmp_path)
    images = digits.inputs(torch.arange(4))
    again = attar.calibrate(digits, TemperatureScaling(), classifier=module, out=tmp_path, engine=ENGINE)
    assert torch.equal(again.logits(images), made.logits(images))


def test_a_classifier_of_transformers_is_calibrated_and_found_again(few_digits, digits, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=10, num_channels=1
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "model")
    made = attar.calibrate(
        digits,
        find("vector-scaling"),
        classifier=f"transformers:{tmp_path / 'model'}",
        out=tmp_path / "vector",
        engine=ENGINE,
    )
    facts = json.loads((tmp_path / "vector" / "artefact.json").read_text(encoding="utf-8"))["classifier"]
    assert (facts["how"], facts["place"], facts["local"]) == ("transformers", "../model", True)
    images = digits.inputs(torch.arange(4))
    assert torch.equal(attar.open_artefact(tmp_path / "vector").logits(images), made.logits(images))


def test_a_network_that_attar_trained_on_everything_is_refused(digits, tmp_path):
    method = TrainNetwork(
        architecture=parse("mlp:width=4"), protocol=dataclasses.replace(PROTOCOLS["ceiling"], epochs=1)
    )
    engine.run(method.resolve(digits), digits, Runtime(ENGINE), out=tmp_path)
    with pytest.raises(InputError, match="was trained on all training images"):
        attar.calibrate(digits, TemperatureScaling(), classifier=tmp_path, engine=ENGINE)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "--classifier must be given"),
        ("nowhere", "nowhere is no classifier that is there"),
        ("{folder}/artefact.json", "is a file"),
        ("{place}", "holds no classifier"),
        ("{ts}", "is calibrated already, by ts"),
    ],
)
def test_what_is_no_classifier_is_refused_in_one_line(given, words, digits, reserving, scaled, place):
    names = {"folder": reserving.folder, "place": place, "ts": scaled.folder}
    with pytest.raises(InputError, match=words) as refusal:
        attar.calibrate(digits, TemperatureScaling(), classifier=given and given.format(**names), engine=ENGINE)
    assert "\n" not in str(refusal.value)


def test_logits_that_are_not_numbers_are_refused(digits):
    class Broken(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 10), torch.nan)

    with pytest.raises(InputError, match=r"the classifier's logits for image 0 are not finite"):
        attar.calibrate(digits, TemperatureScaling(), classifier=Broken(), engine=ENGINE)


class Scaled(nn.Module):
    def __init__(self, outputs=lambda logits: logits):
        super().__init__()
        self.linear, self.outputs = nn.Linear(64, 10), outputs

    def forward(self, images):
        return self.outputs(self.linear(images.flatten(1)))


def test_probabilities_of_a_classifier_are_told_once_and_log_probabilities_are_logits(few_digits):
    for outputs, count in ((lambda logits: logits.softmax(1), 1), (lambda logits: logits.log_softmax(1), 0)):
        told = []
        attar.calibrate(few_digits, PlattScaling(), classifier=Scaled(outputs), engine=ENGINE, say=told.append)
        assert sum("the classifier gives probabilities, where logits are wanted" in line for line in told) == count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_in_another_precision_is_calibrated_in_single(few_digits, dtype):
    module = Scaled().to(dtype)
    made = attar.calibrate(few_digits, PlattScaling(), classifier=module, engine=ENGINE)
    assert made.logits(few_digits.inputs(torch.arange(3))).dtype == torch.float32
    assert module.linear.weight.dtype == dtype


def test_a_method_is_given_by_its_settings(few_digits):
    with pytest.raises(InputError, match=r"the method is the text 'ts'\. Give its settings"):
        attar.calibrate(few_digits, "ts", classifier=Scaled(), engine=ENGINE)


# ------------------------------------------------------------------------------------------------------------ teachers


def teacher(digits, **settings):
    return Teacher(**settings).found(digits, Runtime(ENGINE))


def test_a_teacher_is_calibrated_before_it_teaches(digits, reserving, scaled):
    images = digits.inputs(torch.arange(20))
    with torch.no_grad():
        by_setting = teacher(digits, network=str(reserving.folder), calibrate="ts")(images)
        by_folder = teacher(digits, network=str(scaled.folder))(images)
        plain = teacher(digits, network=str(reserving.folder))(images)
    torch.testing.assert_close(by_setting, by_folder)
    torch.testing.assert_close(by_folder, scaled.logits(images))
    assert not torch.allclose(by_folder, plain.log_softmax(dim=1), atol=1e-3)


def test_a_teacher_that_is_trained_here_leaves_images_out_for_its_calibration(digits, tmp_path):
    told = []
    brief = {"network": "mlp:width=8", "epochs": 2, "batch": 256}
    network = Teacher(**brief, calibrate="ts").found(digits, Runtime(ENGINE, say=told.append))
    rows = reserved_rows(digits, 0.1, 0)
    assert f"the teacher is calibrated by ts on {len(rows)} images of digits, that the classifier reserved" in told
    half = teacher(digits.without(rows), **brief)
    images = digits.inputs(rows)
    with torch.no_grad():
        temperature = temperature_of(half(images).double(), digits.train.labels[rows])
        torch.testing.assert_close(network(images), (half(images) / temperature).log_softmax(dim=1))


def test_stored_answers_of_a_calibrated_teacher_are_not_those_of_the_plain_one(digits, reserving, tmp_path):
    keys, method = set(), attar.KD(student="mlp:width=4", epochs=1, views=1, batch=256)
    for how in (
        {},
        {"calibrate": "ts"},
        {"calibrate": TemperatureScaling(loss="brier")},
        {"calibrate": "vector-scaling"},
    ):
        pair, resolved = Distill(teacher=Teacher(network=str(reserving.folder), **how)).prepare(
            digits, method, Runtime(ENGINE)
        )
        resolved = resolved.resolve(pair, Runtime(ENGINE))
        keys |= {pair.fingerprint, resolved.build(pair, Runtime(ENGINE)).answers.key}
    assert len(keys) == 8


def test_methods_that_compare_features_take_a_calibrated_teacher(few_digits, digits, tmp_path):
    method = Classifier(network="convnet:norm=batch,width=8", epochs=1, batch=256, reserved=0.1)
    attar.train(digits, method, out=tmp_path / "base", engine=ENGINE)
    attar.calibrate(digits, TemperatureScaling(), classifier=tmp_path / "base", out=tmp_path / "ts", engine=ENGINE)
    student = attar.FitNets(student="convnet:norm=batch,width=4", epochs=1, batch=60)
    made = attar.distill(few_digits, student, teacher=str(tmp_path / "ts"), engine=ENGINE)
    assert made.origin.teacher.parameters > made.origin.student.parameters


def test_a_classifier_of_text_teaches_calibrated_inside_a_trainer(digits):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    config = transformers.DistilBertConfig(vocab_size=20, num_labels=3, **sizes)
    text = transformers.DistilBertForSequenceClassification(config).eval()
    module = calibrated(text, TemperatureScaling(), {"temperature": torch.tensor(2.0)})
    inputs = {"input_ids": torch.arange(12).view(3, 4), "attention_mask": torch.ones(3, 4, dtype=torch.long)}
    with torch.no_grad():
        said = Watched(module)({**inputs, "token_type_ids": torch.zeros(3, 4, dtype=torch.long)})
        wanted = (text(**inputs).logits / 2).log_softmax(dim=1)
    torch.testing.assert_close(said.logits, wanted)
    assert said.embedding.shape == (3, 8)
    with pytest.raises(InputError, match="ca looks at copies of images"):
        calibrated(text, find("ca"), {})


def test_an_unknown_calibrator_of_a_teacher_is_refused(digits, reserving):
    with pytest.raises(InputError, match="unknown method 'tss'"):
        teacher(digits, network=str(reserving.folder), calibrate="tss")
    with pytest.raises(InputError, match="is calibrated already, by ts"):
        teacher(digits, network=str(reserving.folder.parent / "ts"), calibrate="ts")


# --------------------------------------------------------------------------------------------------------- the command


def test_the_command(digits, reserving, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--data", "digits", "--device", "cpu", "--quiet"]
    main(["calibrate", "ts", "--classifier", str(reserving.folder), *words])
    folder = tmp_path / "runs" / "ts-digits-seed0"
    assert "ECE" in capsys.readouterr().out
    main(["evaluate", str(folder), "--device", "cpu", "--quiet"])
    assert "accuracy" in capsys.readouterr().out
    main(["distill", "kd", "--teacher", str(folder), "--student", "mlp:width=4", "--epochs", "1", *words])
    main(["report", str(tmp_path / "runs")])
    page = (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
    assert "reliability diagram" in page
    assert "ts-digits-seed0" in page
    with pytest.raises(SystemExit):
        main(["calibrate", "ts", *words])


def test_stored_labels_are_those_of_a_calibrated_teacher(digits, scaled, tmp_path):
    small = attar.condense(digits, attar.Random(ipc=1), out=tmp_path, engine=ENGINE)
    labelled = attar.label(small.folder, attar.StoreLabels(epochs=1, teacher=str(scaled.folder)), engine=ENGINE)
    assert labelled.soft.epochs == 1


def test_a_calibrated_classifier_observes_and_other_artefacts_do_not(digits, scaled, tmp_path):
    method = attar.RDED(ipc=1, candidates=3, factor=1, observer=str(scaled.folder))
    assert len(attar.condense(digits, method, engine=ENGINE).labels) == 10
    attar.condense(digits, attar.Random(ipc=1), out=tmp_path, engine=ENGINE)
    with pytest.raises(InputError, match="holds no classifier of images, but a few images per class"):
        attar.condense(digits, dataclasses.replace(method, observer=str(tmp_path)), engine=ENGINE)


def test_work_is_recognised(digits, reserving, greedy):
    work = [
        Calibrating.of(found(one.folder), digits, Runtime(ENGINE), asked="train").fingerprint
        for one in (reserving, greedy)
    ]
    assert len(set(work)) == 2
