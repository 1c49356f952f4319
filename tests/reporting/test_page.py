"""The page: whole, escaped, self-contained; and in a browser it sorts, filters, compares, and fits a phone."""

import base64
import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser

import pytest

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture
from attar.reporting.collect import collect
from attar.reporting.page import page

EMPTY = {"meta", "input", "img", "br", "line", "polyline"}
EVIL = "<script>alert('x')</script>"


class Balance(HTMLParser):
    """Every element is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in EMPTY:
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href") and value]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def folder(digits, engine, tmp_path_factory):
    """Three runs and a table."""
    top = tmp_path_factory.mktemp("runs")
    snapped = dataclasses.replace(engine, snapshots=3)
    settings = {"steps": 6, "real_batch": 4, "architecture": Architecture(width=4)}
    for seed in (0, 1):
        out = top / f"dm-{seed}"
        attar.condense(digits, attar.DM(ipc=1, lr=seed + 0.5, **settings), out=out, seed=seed, engine=snapped)
    attar.condense(digits, attar.Random(ipc=12), out=top / "random", engine=engine)
    score = {"value": 80.0, "unit": "%", "better": "higher", "spread": 1.5, "n": 5}
    for name, value in (("dm-0", 61.5), ("dm-1", 70.0)):
        row = {"network": "convnet", "protocol": "field", "score": {**score, "value": value}, "kept": value}
        (top / name / "scores.json").write_text(json.dumps([row]))
    cells = [
        {"label": name, "ipc": 1, "values": [[value], [value + 1]], "bytes": 9, "seconds": 1.0}
        for name, value in (("random", 14), ("DM", 26))
    ]
    table = {"data": "cifar10", "protocol": {"name": "field"}, "full": None, "cells": cells}
    (top / "table.json").write_text(json.dumps(table))
    return top


def test_it_is_whole_and_needs_nothing_else(folder):
    text = page(collect(folder))
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert all(link.startswith(("data:", "#")) for link in parser.links)
    assert "http" not in text.replace("http-equiv", "")


def test_it_shows_runs_scores_tables_and_curves(folder):
    text = page(collect(folder))
    for expected in ("61.5 ± 1.5", "10 of 12 a class are shown", "26.0 ± 0.8", "step 6", "Best of 2", "70.0 %"):
        assert expected in text or expected in text.replace(",", "")


def test_names_cannot_become_code(folder):
    found = collect(folder)
    evil = dataclasses.replace(
        found.runs[0],
        name=EVIL,
        data=EVIL,
        command=EVIL,
        settings={EVIL: EVIL},
        curves={EVIL: ((1, 1.0), (2, 2.0))},
        strips=(dataclasses.replace(found.runs[0].strips[0], label=EVIL),),
    )
    text = page(dataclasses.replace(found, folder=EVIL, runs=(evil,), skipped=((EVIL, EVIL),)))
    assert EVIL not in text
    Balance().feed(text)


def test_settings_that_differ_are_marked(folder):
    text = page(collect(folder))
    assert "<tr class=unusual><th scope='row'>lr</th>" in text
    assert "<tr><th scope='row'>momentum</th>" in text


def test_the_command_writes_it(folder, tmp_path, capsys):
    main(["report", str(folder), "--out", str(tmp_path / "page.html"), "--images", "3"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert "3 of 12 a class are shown" in (tmp_path / "page.html").read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds nothing to report"):
        attar.report(tmp_path / "empty")


class Browser:
    """Headless Chromium, spoken to as WebDriver has it."""

    def __init__(self, driver, chromium, scratch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen([driver, f"--port={self.port}", "--silent"], stdout=subprocess.DEVNULL)
        quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", *quiet]
        arguments.append(f"--user-data-dir={scratch}")
        options = {"binary": chromium, "args": arguments}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        deadline = time.monotonic() + 20
        while True:
            try:
                session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
                break
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self.base = f"/session/{session['sessionId']}"

    def ask(self, verb, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=verb,
            data=json.dumps(body or {}).encode() if verb == "POST" else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())["value"]

    def run(self, script):
        return self.ask("POST", f"{self.base}/execute/sync", {"script": script, "args": []})

    def size(self, width, height=900):
        self.ask("POST", f"{self.base}/window/rect", {"width": width, "height": height})

    def close(self):
        self.ask("DELETE", self.base)
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def browser(folder, tmp_path_factory):
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("no chromium and chromedriver here: apt install chromium chromium-driver")
    browser = Browser(driver, chromium, tmp_path_factory.mktemp("chromium"))
    path = attar.report(folder)
    browser.ask("POST", f"{browser.base}/url", {"url": path.resolve().as_uri()})
    yield browser
    browser.close()


ORDER = """return [...document.querySelectorAll('#comparison tbody tr')]
    .filter(row => !row.hidden).map(row => row.cells[1].innerText)"""


def click(heading):
    return f"[...document.querySelectorAll('thead button')].find(b => b.innerText.startsWith('{heading}')).click();"


def test_it_loads_without_a_complaint(browser):
    log = browser.ask("POST", f"{browser.base}/se/log", {"type": "browser"})
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []
    assert browser.run("return document.querySelectorAll('section.run').length") == 3
    assert browser.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_headings_sort_numbers_as_numbers_and_missing_ones_last(browser):
    assert browser.run(click("accuracy") + ORDER) == ["dm-1", "dm-0", "random"]
    assert browser.run(click("accuracy") + ORDER) == ["dm-0", "dm-1", "random"]
    assert browser.run("return document.querySelector('[aria-sort=ascending] button').innerText").startswith("accuracy")
    assert browser.run(click("run") + ORDER) == ["dm-0", "dm-1", "random"]


def test_the_filter_hides_what_does_not_fit(browser):
    fill = "const f = document.getElementById('filter'); f.value = '{}'; f.dispatchEvent(new Event('input'));"
    assert browser.run(fill.format("dm, seed 1") + ORDER) == ["dm-1"]
    assert len(browser.run(fill.format("") + ORDER)) == 3


def test_the_slider_shows_one_step_at_a_time(browser):
    script = """const time = document.querySelector('.time'), slider = time.querySelector('input');
    slider.value = 0; slider.dispatchEvent(new Event('input'));
    return [time.querySelectorAll('figure.shown').length, time.querySelector('output').textContent];"""
    assert browser.run(script) == [1, "2"]


def test_ticked_runs_stand_side_by_side(browser):
    script = """const ticks = document.querySelectorAll('[data-run][type=checkbox]');
    for (const tick of [...ticks].slice(0, 2)) tick.click();
    const side = document.getElementById('together');
    return [side.hidden, side.querySelectorAll('#beside > div').length, side.querySelectorAll('polyline').length];"""
    assert browser.run(script) == [False, 2, 2]


def test_a_curve_can_be_logarithmic_and_tells_its_values(browser):
    script = """const chart = document.querySelector('.run .chart'); chart.querySelector('.toggle input').click();
    const shown = [...chart.querySelectorAll('svg')].filter(s => getComputedStyle(s).display !== 'none');
    const box = shown[0].getBoundingClientRect();
    shown[0].dispatchEvent(new PointerEvent('pointermove', {clientX: box.right, clientY: box.top}));
    return [shown.length, shown[0].getAttribute('class'), chart.querySelector('output').textContent.split(':')[0]];"""
    assert browser.run(script) == [1, "logarithmic", "step 6"]


@pytest.mark.parametrize("width", [500, 1280])
def test_nothing_sticks_out_of_the_page(width, browser):
    browser.size(width)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(overflow) <= 0
    small = """return [...document.querySelectorAll('button, summary, .tick, input[type=search]')]
    .filter(e => e.offsetParent && e.getBoundingClientRect().height < 39).length"""
    assert browser.run(small) == 0


def test_a_phone_sees_all_of_it_and_a_picture_can_be_taken(browser):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
    browser.ask("POST", f"{browser.base}/goog/cdp/execute", command)
    assert browser.run("return window.innerWidth") == 390
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    assert base64.b64decode(browser.ask("GET", f"{browser.base}/screenshot"))[:4] == b"\x89PNG"
    browser.ask(
        "POST", f"{browser.base}/goog/cdp/execute", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}}
    )


def test_dark_is_dark(browser):
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.ask("POST", f"{browser.base}/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": scheme})
    colour = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) < 60
