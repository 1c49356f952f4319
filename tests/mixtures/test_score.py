"""Reduced mixtures measured against their original, beside the cheap rivals."""

import pytest

import attar
import attar.mixtures as mixtures
from attar.cli import main
from attar.core.errors import InputError
from attar.core.scores import scores_in


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of Runnalls' reduction of a bundled mixture, and of Salmond's."""
    home = tmp_path_factory.mktemp("mixtures")
    for method in (mixtures.Runnalls(n_components=3), mixtures.Salmond(n_components=3)):
        attar.compress("standard-1d", method, out=home / method.name)
    return home


def test_a_distance_is_read_with_the_rivals_at_as_many_components(made):
    found = attar.evaluate(made / "salmond")
    small, runnalls = (attar.open_artefact(made / name) for name in ("salmond", "runnalls"))
    assert found.columns == ("angle", "nise", "ise")
    for cell in found.networks:
        assert (cell.score.value, cell.score.better, cell.kept) == (small.distance(cell.column), "lower", None)
        by_name = {other.label: other for other in cell.beside}
        assert by_name["runnalls, as many components"].score.value == pytest.approx(runnalls.distance(cell.column))
        assert {other.count for other in cell.beside} == {3}
    assert (found.count, found.rows[0].full_count) == (3, small.original.n_components)
    assert str(found).startswith(
        f"angle: {small.distance():.5f} rad from 3 components\n  beside it, k-means of samples"
    )


def test_a_method_is_no_rival_of_itself(made):
    (cell, *_) = attar.evaluate(made / "runnalls").networks
    assert [other.label for other in cell.beside] == ["k-means of samples, as many components"]


def test_methods_are_rows_and_distances_are_chosen(made):
    found = attar.evaluate([made / "runnalls", made / "salmond"], distances=["chord"], beside="skip")
    assert ([row.label for row in found.rows], found.columns) == (["runnalls", "salmond"], ("chord",))
    first, second = (row.cells[0].score.value for row in found.rows)
    assert found.difference(1).interval.difference == pytest.approx(second - first)
    with pytest.raises(InputError, match="unknown distance 'kl'"):
        attar.evaluate(made / "runnalls", distances=["kl"])


def test_the_command_reads_no_data_and_leaves_the_distances_on_the_card(made, capsys):
    main(["evaluate", str(made / "salmond"), "--quiet"])
    assert capsys.readouterr().out.startswith("angle: ")
    cells = scores_in(made / "salmond")
    text = (made / "salmond" / "README.md").read_text(encoding="utf-8")
    assert [cell.column for cell in cells] == ["angle", "nise", "ise"]
    assert f"| beside it, runnalls, as many components |  | {cells[0].beside[1].score} | 1 | " in text
