"""A folder with something of every kind in it, and a browser to look at the page with."""

import base64
import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import attar
import small
from attar.core.cell import Beside, Cell
from attar.core.score import Score
from attar.core.scores import keep_scores
from attar.images.networks.architecture import Architecture

DM = {"ipc": 1, "steps": 6, "real_batch": 4, "architecture": Architecture(width=4)}


@pytest.fixture(scope="session")
def folder(digits, engine, tmp_path_factory):
    """Two seeds of one method, another with other settings, one without steps; scores with rivals; and a table."""
    top = tmp_path_factory.mktemp("runs")
    snapped = dataclasses.replace(engine, snapshots=3)
    for seed in (0, 1):
        attar.condense(digits, attar.DM(**DM), out=top / f"dm-{seed}", seed=seed, engine=snapped)
    attar.condense(digits, attar.DM(**{**DM, "lr": 0.5}), out=top / "dm-slow", engine=engine)
    attar.condense(digits, attar.Random(ipc=12), out=top / "random", engine=engine)
    for name, values in (("dm-0", (61.0, 63.0)), ("dm-1", (70.0, 72.0)), ("dm-slow", (50.0, 52.0))):
        beside = (Beside("random, as many bytes", Score(99.7), 20, 5000), Beside("no augmentation", Score(40.0)))
        full, chance = Score(98.0), 10.0
        cell = Cell.of([values], column="convnet", protocol="quick", full=full, chance=chance, beside=beside)
        keep_scores(top / name, [cell if name != "dm-1" else dataclasses.replace(cell, beside=())])
    cells = [
        {"label": name, "ipc": 1, "values": [[value], [value + 1]], "bytes": 9, "seconds": 1.0}
        for name, value in (("random", 14), ("DM", 26))
    ]
    table = {"data": "cifar10", "protocol": {"name": "field"}, "full": None, "cells": cells}
    (top / "table.json").write_text(json.dumps(table), encoding="utf-8")
    return top


ENTRIES = (
    *("dm", "graph-random", "runnalls", "conv", "kd", "language", "table-random", "simclr", "edm"),
    "latent-field",
    "kelvin-helmholtz",
)
"""One of each kind."""


@pytest.fixture(scope="session")
def every_kind(engine, tmp_path_factory):
    """One finished run of each kind."""
    top = tmp_path_factory.mktemp("kinds")
    for entry in ENTRIES:
        small.run(small.method_of(entry), small.kind_of(entry), out=top / entry, engine=engine)
    return top


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

    def open(self, path):
        self.ask("POST", f"{self.base}/url", {"url": path.resolve().as_uri()})

    def tell(self, command, **settings):
        """A command of Chromium's own."""
        return self.ask("POST", f"{self.base}/goog/cdp/execute", {"cmd": command, "params": settings})

    def as_phone(self, width):
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True)

    def as_desk(self):
        self.tell("Emulation.clearDeviceMetricsOverride")

    def picture(self):
        return base64.b64decode(self.ask("GET", f"{self.base}/screenshot"))

    def complaints(self):
        log = self.ask("POST", f"{self.base}/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def size(self, width, height=900):
        self.ask("POST", f"{self.base}/window/rect", {"width": width, "height": height})

    def close(self):
        self.ask("DELETE", self.base)
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """Opens a page in the one browser of the session, as wide as a desk's; skipped where there is none."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("no chromium and chromedriver here: apt install chromium chromium-driver")
    browser = Browser(driver, chromium, tmp_path_factory.mktemp("chromium"))

    def opened(path):
        browser.size(1280)
        browser.open(path)
        return browser

    yield opened
    browser.close()
