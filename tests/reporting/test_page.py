"""The page: whole, escaped, self-contained; and in a browser it sorts, filters, unfolds, compares, and fits a phone."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import attar
from attar.cli import main
from attar.core.artefact import Picture, Shown
from attar.core.cell import Beside, Cell
from attar.core.errors import InputError
from attar.core.score import Score
from attar.reporting.collect import collect
from attar.reporting.page import page

EMPTY = {"meta", "input", "img", "br", "line", "polyline"}
EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"


class Balance(HTMLParser):
    """Every element is closed, in order; nothing comes from elsewhere, and nothing runs but the page's own script."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.attributes, self.names = [], [], set(), []

    def handle_starttag(self, tag, attributes):
        if tag not in EMPTY:
            self.open.append(tag)
        self.names.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.links += [value for name, value in attributes if name in ("src", "href") and value]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    return parser


def assert_harmless(text):
    parser = parsed(text)
    assert parser.names.count("script") == 2
    assert parser.names.count("style") == 1
    assert not [name for name in parser.attributes if name.startswith("on") or name == "style"]
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in parser.links)


def test_it_is_whole_and_needs_nothing_else(folder):
    text = page(collect(folder))
    assert_harmless(text)
    assert "http" not in text.replace("http-equiv", "")


def test_the_policy_allows_the_pages_own_script_and_style_only(folder):
    text = page(collect(folder))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    own = {
        f"{name}-src": re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL)[1].encode() for name in ("script", "style")
    }
    hashes = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(code).digest()).decode()}'" for name, code in own.items()
    }
    assert {name: rules[name] for name in hashes} == hashes
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")


def test_a_score_stands_with_its_best_rival_and_in_full_with_all(folder):
    text = page(collect(folder))
    overview, details = text.split("<section class='method'>", 1)
    assert "66.5 ± 6.4<small class='ahead'>random, as many bytes: 99.7 %</small>" in overview
    assert "<small class=''>all the data: 98.0 %</small>" in overview
    for other in ("no augmentation", "always guessing", "random, as many bytes"):
        assert f"<span class='with'>{other}</span>" in details
    assert "5,000" in details


def test_a_rival_that_does_worse_is_not_told_apart(folder):
    found = collect(folder)
    section = found.sections[0]
    cell = dataclasses.replace(section.runs[0].scores[0], beside=(Beside("a rival", Score(12.0)),))
    run = dataclasses.replace(section.runs[0], scores=(cell,))
    rows = (dataclasses.replace(section.rows[0], runs=(run,)),)
    text = page(dataclasses.replace(found, sections=(dataclasses.replace(section, rows=rows),)))
    assert "<small class=''>a rival: 12.0 %</small>" in text


def test_it_shows_tables_and_curves_and_pictures(folder):
    text = page(collect(folder))
    for expected in ("10 of 12 per class are shown", "26.5 ± 0.7", "step 6", "+12.0", "▸ shows the seeds"):
        assert expected in text


def test_every_kind_has_a_section(every_kind):
    text = page(collect(every_kind))
    assert_harmless(text)
    for expected in (
        'Labelled images <span class="quiet">into a few images per class',
        "5 of 10 components",
        " of 2 switched",
        "blocks.0.0",
        "multiply-adds per image",
        "its teacher",
        "cross-entropy",
        "nodes per graph",
    ):
        assert expected in text


def test_nothing_in_a_file_can_become_code(folder):
    found = collect(folder)
    section = found.sections[0]
    run = section.runs[0]
    origin = dataclasses.replace(
        run.origin, source=EVIL, method=EVIL, fingerprint=EVIL, settings={EVIL: EVIL}, machine={"device": EVIL}
    )
    cell = Cell(Score(1.0, EVIL), column=EVIL, protocol=EVIL, full=Score(2.0, EVIL), whole=EVIL, chance=1.0)
    cell = dataclasses.replace(cell, further={EVIL: cell}, beside=(Beside(EVIL, Score(3.0, EVIL)),))
    picture = Picture(EVIL, run.shown.pictures[0].png, 1, 2, 8)
    shown = Shown(
        size=EVIL,
        facts={EVIL: EVIL},
        table=((EVIL, "b"), (EVIL, EVIL)),
        text=EVIL,
        pictures=(picture, Picture(EVIL, EVIL.encode())),
        snapshots=(picture,),
    )
    evil = dataclasses.replace(
        run,
        name=EVIL,
        origin=origin,
        shown=shown,
        scores=(cell,),
        commands=(EVIL, EVIL),
        curves={EVIL: ((1, 1.0), (2, 2.0))},
        number=0,
    )
    kind = dataclasses.replace(section.kind, name=EVIL, holds=EVIL, makes=EVIL)
    rows = tuple(dataclasses.replace(row, runs=(evil, evil), differs=EVIL) for row in section.rows)
    sections = (dataclasses.replace(section, kind=kind, rows=rows),)
    table = dataclasses.replace(found.tables[0], name=EVIL, data=EVIL, protocol=EVIL)
    cells = tuple(dataclasses.replace(one, label=EVIL) for one in table.cells)
    tables = (dataclasses.replace(table, cells=cells),)
    told = ((EVIL, EVIL),)
    text = page(dataclasses.replace(found, folder=EVIL, sections=sections, tables=tables, skipped=told))
    assert_harmless(text)
    assert "<script>alert" not in text
    assert "<img src=x" not in text


@pytest.mark.parametrize("n", [EVIL, [1], {"a": 1}, float("nan"), 1.5])
def test_the_number_of_values_of_a_score_is_a_number_or_left_out(n, folder, tmp_path):
    top = Path(shutil.copytree(folder, tmp_path / "runs"))
    row = {"network": "convnet", "protocol": "field", "score": {"value": 81.23, "spread": 1.0, "n": n}}
    (top / "dm-0" / "scores.json").write_text(json.dumps([row]), encoding="utf-8")
    text = page(collect(top))
    assert_harmless(text)
    assert "81.2" not in text.split('id="curves"')[0].split("<h3>dm")[0]
    assert "dm-0/scores.json" in text


def test_settings_that_differ_are_marked(folder):
    text = page(collect(folder))
    assert "<tr class=unusual><th scope='row'>lr</th>" in text
    assert "<tr><th scope='row'>momentum</th>" in text


def test_the_command_writes_it(folder, tmp_path, capsys):
    main(["report", str(folder), "--out", str(tmp_path / "page.html"), "--images", "3"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert "3 of 12 per class are shown" in (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds nothing to report"):
        attar.report(tmp_path / "empty")


@pytest.fixture(scope="module")
def written(folder):
    return attar.report(folder)


@pytest.fixture
def browser(browse, written):
    return browse(written)


ORDER = """return [...document.querySelectorAll('.overview tbody')]
    .filter(body => !body.hidden).map(body => body.querySelector('[data-runs]').dataset.label)"""
ONE, SLOW = "dm lr 1.0", "dm lr 0.5"


def click(heading):
    return f"[...document.querySelectorAll('thead button')].find(b => b.innerText.startsWith('{heading}')).click();"


def test_it_loads_without_a_complaint(browser):
    assert browser.complaints() == []
    assert browser.run("return document.querySelectorAll('details.run').length") == 4
    unfold = "document.querySelectorAll('details').forEach(d => d.open = true);"
    assert browser.run(unfold + "return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_a_script_that_got_in_would_not_run(written, tmp_path, browse):
    text = written.read_text(encoding="utf-8").replace(
        "<main>", "<main><script>document.title = 'taken'</script><b onclick='x()'>b</b>"
    )
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    browser = browse(tmp_path / "page.html")
    assert browser.run("return document.title") != "taken"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


def test_headings_sort_numbers_as_numbers_and_missing_ones_last(browser):
    down, up = (browser.run(click("convnet") + ORDER) for _ in range(2))
    assert down == [ONE, SLOW, "random"]
    assert up == [SLOW, ONE, "random"]
    assert browser.run("return document.querySelector('[aria-sort=ascending] button').innerText").startswith("convnet")


def test_the_filter_hides_what_does_not_fit(written, browse, folder, tmp_path):
    top = Path(shutil.copytree(folder, tmp_path / "runs"))
    for number in range(4):
        attar.condense("digits", attar.Random(ipc=number + 1), out=top / f"random-{number}")
    browser = browse(attar.report(top))
    fill = "const f = document.getElementById('filter'); f.value = '{}'; f.dispatchEvent(new Event('input'));"
    assert browser.run(fill.format("dm, seed 1") + ORDER) == [ONE]
    assert len(browser.run(fill.format("") + ORDER)) == 7


SEEDS = "return [...document.querySelectorAll('tr.seed')].filter(row => row.offsetParent).length"


def test_a_method_unfolds_to_its_seeds(browser):
    assert browser.run(SEEDS) == 0
    assert browser.run("document.querySelector('.fold input').click();" + SEEDS) == 2


def test_a_link_unfolds_the_run_that_it_leads_to(browser):
    leads = "document.querySelector('tr.seed:last-child a').click();"
    browser.run(leads)
    assert browser.run("return document.querySelectorAll('details.run')[1].open") is True


def test_the_slider_shows_one_step_at_a_time(browser):
    script = """const time = document.querySelector('.time'), slider = time.querySelector('input');
    slider.value = 0; slider.dispatchEvent(new Event('input'));
    return [time.querySelectorAll('figure.shown').length, time.querySelector('output').textContent];"""
    assert browser.run(script) == [1, "step 2"]


def test_ticked_rows_stand_side_by_side_with_all_their_seeds(browser):
    script = """const ticks = document.querySelectorAll('tr.method [data-runs]');
    for (const tick of [...ticks].slice(0, 2)) tick.click();
    const side = document.querySelector('.together'), count = (what) => side.querySelectorAll(what).length;
    return [side.hidden, count('.beside > div'), count('.linear polyline')];"""
    assert browser.run(script) == [False, 2, 3]


def test_a_curve_can_be_logarithmic_and_tells_its_values(browser):
    script = """const chart = document.querySelector('.run .chart'); chart.querySelector('.toggle input').click();
    const shown = [...chart.querySelectorAll('svg')].filter(s => getComputedStyle(s).display !== 'none');
    const box = shown[0].getBoundingClientRect();
    shown[0].dispatchEvent(new PointerEvent('pointermove', {clientX: box.right, clientY: box.top}));
    return [shown.length, shown[0].getAttribute('class'), chart.querySelector('output').textContent.split(':')[0]];"""
    assert browser.run(script) == [1, "logarithmic", "step 6"]


SMALL = """return [...document.querySelectorAll('button, summary, .tick, .fold, input[type=search]')]
    .filter(e => e.offsetParent && e.getBoundingClientRect().height < 39).length"""
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("width", [500, 1280])
def test_nothing_sticks_out_of_the_page(width, browser):
    browser.size(width)
    assert browser.run(OVERFLOW) <= 0
    assert browser.run(SMALL) == 0


def test_a_phone_sees_all_of_every_kind_and_where_there_is_more_to_the_side(every_kind, browse):
    browser = browse(attar.report(every_kind))
    browser.as_phone(360)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.run("return window.innerWidth") == 360
    assert browser.run(OVERFLOW) <= 0
    assert browser.run(SMALL) == 0
    hints = """const boxes = [...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth + 1);
    return [boxes.length > 0, boxes.every(b => b.nextElementSibling.offsetParent)]"""
    assert browser.run(hints) == [True, True]
    assert browser.picture()[:4] == b"\x89PNG"
    browser.as_desk()
    assert browser.complaints() == []


def test_it_reads_without_its_script(written, tmp_path, browse):
    (tmp_path / "page.html").write_text(
        re.sub(r"<script>.*?</script>", "", written.read_text(encoding="utf-8"), flags=re.DOTALL), encoding="utf-8"
    )
    browser = browse(tmp_path / "page.html")
    assert browser.run("return [...document.querySelectorAll('.scripted')].every(e => !e.offsetParent)")
    assert browser.run("document.querySelector('.fold input').click();" + SEEDS) == 2
    assert browser.run("return [...document.querySelectorAll('.time figure')].every(e => e.offsetParent)")


def test_dark_is_dark(browser):
    browser.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    colour = browser.run("return getComputedStyle(document.body).backgroundColor")
    browser.tell("Emulation.setEmulatedMedia", features=[])
    assert max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) < 60
