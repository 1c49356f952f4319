"""A browser to look at pages with: headless Chromium, spoken to as WebDriver has it."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest


class Browser:
    """One window of headless Chromium."""

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


def browser_in(scratch):
    """A browser whose profile lies in that folder; skipped where there is none."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        pytest.skip("no chromium and chromedriver here: apt install chromium chromium-driver")
    return Browser(driver, chromium, scratch)
