"""Architecture search with proxies."""

import json

import pytest
import torch
from scipy import stats

import attar
from attar.cli import main
from attar.images.search import (
    EARLY,
    WHOLE,
    ArchitectureSearch,
    Judgement,
    buildable,
    grid,
    sample,
    search,
    summary,
)
from attar.images.sources import held_out

BRIEF = ArchitectureSearch(sampled=3, proxy_epochs=2, whole_epochs=1)


def judged(way, values, test=None):
    return Judgement(way, tuple(values), tuple(test or values), 60.0, 10)


def condensed(rest, engine, ipc=1):
    return attar.condense(rest, attar.Random(ipc=ipc), engine=engine)


def test_the_space_has_720_networks_of_which_a_twentieth_are_36():
    assert len({json.dumps(network.to_json()) for network in grid()}) == 720
    assert summary([judged("x", range(720)), judged(WHOLE, range(720))])[0]["top_5"] == 36


def test_what_is_too_deep_for_small_images_is_left_out(digits, shapes):
    assert len(buildable(shapes)) == 720
    shallow = buildable(digits)
    assert all(network.depth < 4 or network.pooling == "none" for network in shallow)
    assert len(shallow) == 720 - 4 * 5 * 3 * 2


def test_a_sample_is_drawn_by_seed_in_the_order_of_the_grid():
    first, again, other = (sample(grid(), 20, seed) for seed in (0, 0, 1))
    assert first == again != other
    places = [grid().index(network) for network in first]
    assert places == sorted(set(places))
    assert sample(grid(), 720, 3) == grid()


def test_a_proxy_that_is_the_truth_correlates_perfectly():
    values = [50.0, 60.0, 55.0, 70.0, 65.0]
    whole = judged(WHOLE, values)
    assert judged("proxy", values).correlation(whole) == pytest.approx(1)
    assert judged("proxy", [-v for v in values]).correlation(whole) == pytest.approx(-1)


def test_correlation_is_over_the_top_of_the_proxys_ranking():
    proxy = judged("proxy", [10, 9, 8, 7, 1, 2, 3, 4, 5, 6])
    whole = judged(WHOLE, [1, 3, 2, 4, 9, 8, 7, 6, 5, 0])
    wanted = stats.spearmanr([10, 9, 8, 7], [1, 3, 2, 4]).statistic
    assert proxy.correlation(whole, 0.4) == pytest.approx(wanted)
    assert proxy.correlation(whole, count=4) == pytest.approx(wanted)
    assert proxy.correlation(whole, 0.2) is None


def test_ranks_that_are_all_alike_have_no_correlation():
    assert judged("proxy", [5.0, 5.0, 5.0]).correlation(judged(WHOLE, [1, 2, 3])) is None


def test_the_best_is_told_by_the_proxy_and_scored_on_all_the_data():
    whole = judged(WHOLE, [1, 2, 3], test=[90.0, 80.0, 70.0])
    assert judged("proxy", [3, 1, 2]).best(whole) == 90
    assert whole.best(whole) == 70


def test_every_way_judges_the_same_networks_and_none_again_without_the_held_out_images(
    few_digits, engine, tmp_path, monkeypatch
):
    seen = []

    def proxy(rest):
        seen.append(rest)
        return condensed(rest, engine)

    ways = search({"random": proxy}, few_digits, BRIEF, out=tmp_path, engine=engine)
    assert [way.way for way in ways] == ["random", EARLY, WHOLE]
    assert all(len(way.validation) == 3 for way in ways)
    rest = len(few_digits.train) - len(held_out(few_digits, 0))
    assert [way.images for way in ways] == [10, rest, rest]
    assert len(seen[0].train) == rest
    monkeypatch.setattr("attar.images.search.trainings", lambda *a, **k: pytest.fail("trained again"))
    again = search({"random": proxy}, few_digits, BRIEF, out=tmp_path, engine=engine)
    assert again == ways


def test_early_stopping_takes_as_many_steps_as_the_proxy(digits, engine, monkeypatch):
    import attar.images.search as module

    taken = []
    real = module.trainings
    monkeypatch.setattr(module, "trainings", lambda *a, **k: taken.append(k["steps"]) or real(*a, **k))
    one = ArchitectureSearch(sampled=1, proxy_epochs=3, whole_epochs=1)
    some = digits.subset(torch.cat([rows[:50] for rows in digits.rows_of]))
    search({"random": lambda rest: condensed(rest, engine, ipc=40)}, some, one, engine=engine)
    assert taken == [None, 3 * 2, None]


def test_the_papers_scale_is_a_preset():
    cell = ArchitectureSearch.paper()
    assert (cell.sampled, cell.runs, cell.batch, cell.proxy_epochs, cell.whole_epochs) == (720, 5, 250, 200, 100)


def test_the_table_prints_every_way_and_is_kept(tmp_path, capsys):
    words = "--methods random --ipc 1 --sampled 3 --proxy-epochs 2 --whole-epochs 1 --quiet"
    main(["bench", "search", *words.split(), "--out", str(tmp_path / "out"), "--record", str(tmp_path / "kept.json")])
    text = capsys.readouterr().out
    assert "120 of the 720 networks are too deep for images of this size" in text
    assert EARLY in text
    assert len(json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))["rows"]) == 3
