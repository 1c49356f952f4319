"""Spectra of a small run: columns by one or several workers, killed and resumed, pictures, words, and refusals."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.plasma.column import column_of
from attar.plasma.nonlte import CALCIUM, LINES, Lightweaver
from attar.plasma.snapshots import Snapshots
from attar.plasma.spectra import LineSpectra, Seen, read_answer
from attar.plasma.spectra_artefact import CAVEAT, CONVERGED, MOVING, UNSOLVED, Spectra

pytestmark = pytest.mark.skipif(importlib.util.find_spec("lightweaver") is None, reason="needs Lightweaver")
QUIET = Engine(device="cpu", quiet=True)
METHOD = LineSpectra(transfer=CALCIUM, columns=2, at_snapshots=(1, 2))


@pytest.fixture(scope="module")
def run():
    """A few steps of a small run."""
    method = attar.KelvinHelmholtz(cells=(12, 24), end=0.06, outputs=2, solver="numpy")
    return attar.simulate(method, engine=QUIET)


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    return attar.simulate(METHOD, run, out=tmp_path_factory.mktemp("spectra") / "made", engine=QUIET)


def test_a_column_of_it_is_what_the_code_answers(made, run):
    assert made.intensity.shape == (2, 2, 1, 81) and made.contribution.shape == (2, 2, 1, 48)
    assert (made.state == CONVERGED).all()
    column = column_of(run, 2, 9)
    assert made.places[1] == pytest.approx(float(run.x[9]))
    code = Lightweaver(CALCIUM)
    np.testing.assert_allclose(made.intensity[1, 1, 0], code.answer(column), rtol=1e-10)
    np.testing.assert_allclose(made.wavelengths[0], code.wavelengths)
    np.testing.assert_allclose(made.temperature[1, 1], column.temperature, rtol=1e-6)
    assert made.balance.sub(1).abs().max() < 0.03  # few cells: see test_nonlte for finer columns
    assert made.hydrogen_change.max() == 0


def test_the_thread_is_mirrored_and_tau_one_lies_before_the_mirror_or_behind(made):
    heat = made.temperature.numpy()
    np.testing.assert_allclose(heat, heat[..., ::-1])
    depth, tau = made.at_core("depth"), made.at_core("tau")
    assert (np.isnan(depth) == (tau < 1)).all()
    thick = np.isfinite(depth)
    assert (depth[thick] > 0).all() and (depth[thick] < 2 * made.middle).all()


def test_it_says_what_it_leaves_out(made):
    card = (made.folder / "README.md").read_text()
    assert CAVEAT in card and made.shown().text == CAVEAT
    assert "mirror image" in CAVEAT and "1.5D" in CAVEAT
    assert "| converged | 4 of 4 |" in card and "W m⁻² Hz⁻¹ sr⁻¹" in card
    assert str(made) == "Ca II K of 2 columns at 2 times: 4 of 4 columns converged"
    assert len(made.table()) == 3 and made.facts()["columns"] == "2 at each of 2 times"
    assert all(one > 0 for row in json.loads((made.folder / "timing.json").read_text())["seconds"] for one in row)


def test_it_opens_as_it_was_saved(made, tmp_path):
    again = attar.open_artefact(made.folder)
    assert isinstance(again, Spectra) and torch.equal(again.intensity, made.intensity)
    again.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"spectra.safetensors", "preview.png", "artefact.json", "README.md", "timing.json"} <= names
    assert all((tmp_path / name).read_bytes() == (made.folder / name).read_bytes() for name in names)


def test_the_preview_marks_tau_one_in_the_colour_of_the_line(made):
    import io

    from PIL import Image

    from attar.plasma.spectra_pictures import COLOURS, FLAT, GAP, HIGH, WIDE

    pixels = np.array(Image.open(io.BytesIO(made.picture())))
    assert pixels.shape == (FLAT + HIGH + 2 * GAP, 2 * WIDE + GAP, 3)
    marked = (pixels == COLOURS["ca-k"]).all(axis=-1).any()
    assert marked == bool(np.isfinite(made.at_core("depth")).any())


def test_columns_without_a_solution_and_those_still_moving_are_kept_and_told(made):
    state = torch.tensor([[CONVERGED, MOVING], [UNSOLVED, CONVERGED]])
    odd = replace(made, state=state)
    assert str(odd).endswith("2 of 4 columns converged; 2 did not and are marked")
    facts = odd.facts()
    assert (facts["kept though not converged"], facts["without a solution"]) == ("1", "1")
    assert np.isnan(odd.at_core("intensity")[1, 0]).all() and np.isfinite(odd.at_core("intensity")[0, 1]).all()


def test_a_column_that_fails_does_not_end_the_run(run, monkeypatch):
    import attar.plasma.spectra as spectra

    whole, calls = spectra.formed, []

    def failing(column, *given):
        calls.append(column)
        if len(calls) == 2:
            raise spectra.NotConverged("a column has no solution (as told).")
        return whole(column, *given)

    monkeypatch.setattr(spectra, "formed", failing)
    found = attar.simulate(METHOD, run, engine=QUIET)
    assert found.state.tolist() == [[CONVERGED, UNSOLVED], [CONVERGED, CONVERGED]]
    assert found.intensity[0, 1].abs().max() == 0


def test_answers_of_workers_are_taken_as_they_are(made, run, tmp_path, monkeypatch):
    """Without Ray: what workers have kept is read, and gives the same bytes."""
    import attar.plasma.spectra as spectra

    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    asked = []

    def run_all(tasks, **how):
        asked.append((len(tasks), how["workers"]))
        return [task.call(*task.given) for task in tasks]

    monkeypatch.setattr(spectra, "run_all", run_all)
    found = attar.simulate(METHOD, run, out=tmp_path / "made", engine=QUIET, workers=2)
    assert asked == [(4, 2)]
    for name in ("spectra.safetensors", "preview.png", "artefact.json", "README.md"):
        assert (found.folder / name).read_bytes() == (made.folder / name).read_bytes()
    monkeypatch.setattr(spectra, "answer_of", lambda *given: pytest.fail("it was solved again"))
    attar.simulate(METHOD, run, engine=QUIET, workers=2)


def test_no_answer_is_none(tmp_path):
    assert read_answer(tmp_path, 0) is None


def test_the_usual_snapshots_are_three_with_the_last(run):
    long = replace(run, times=torch.arange(31.0), snapshots=Snapshots([run.snapshots[2]] * 31))
    said: list[str] = []
    resolved = LineSpectra(columns=12).resolve(Seen(long), Runtime(QUIET, say=said.append))
    assert resolved.at_snapshots == (10, 20, 30) and resolved.transfer.lines == ("h-alpha", "ca-k", "mg-h")
    assert said == ["36 columns, about 10 minutes; can be stopped and resumed."]


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"at_snapshots": (3,)}, "snapshot 3 is not in this run; it has the snapshots 0 to 2."),
        ({"at_snapshots": (1, 1)}, r"at_snapshots is \[1, 1\]; name each once."),
        ({"columns": 13}, "columns is 13, but the run has 12 columns of cells. Ask for fewer."),
    ],
)
def test_what_the_run_does_not_have_is_refused(run, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        attar.simulate(replace(METHOD, **settings), run, engine=QUIET)


def test_spectra_of_spectra_are_refused(made):
    with pytest.raises(InputError, match="spectra are made of a run, and this is spectra of"):
        attar.simulate(METHOD, made, engine=QUIET)


def test_gas_that_is_too_cold_is_refused(run):
    cold = replace(run, units=replace(run.units, unit_temperature=1e5))
    with pytest.raises(InputError, match=r"snapshot 1 has gas of .* K; the codes of radiative transfer have no data"):
        attar.simulate(METHOD, cold, engine=QUIET)


def test_a_missing_library_is_told_before_anything_is_done(run, monkeypatch):
    monkeypatch.setattr("attar.plasma.nonlte.find_spec", lambda name: None)
    with pytest.raises(InputError, match="need Lightweaver"):
        attar.simulate(METHOD, run, engine=QUIET)


def test_pictures_tell_of_the_mirror(made):
    from attar.core.pictures import can_draw
    from attar.plasma.spectra_pictures import NOTE, drawn

    assert "mirror" in NOTE and "1.5D" in NOTE
    assert set(drawn(made)) == ({"spectra", "surfaces"} if can_draw() else set())
    unseen = replace(made, state=torch.zeros_like(made.state))
    assert drawn(unseen) == {} and unseen.picture()[:4] == b"\x89PNG"


def test_each_line_has_its_colour():
    from attar.plasma.spectra_pictures import COLOURS

    assert set(COLOURS) == set(LINES)
