"""What every test may use: a cache of its own, the digits, and a small set of coloured shapes."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

# Read when the hub's library is first imported, which collecting the tests already does.
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import checker

checker.quicken()

import pytest
import torch

import attar
from attar.core.runtime import Engine, Runtime
from attar.images.sources import ImageSource
from browser import browser_in

HERE = Path(__file__).parent
BATTERY = ("scenario", "any_scenario", "counting")
"""Fixtures whose parameter is an entry of `small.py`."""


LONG = frozenset((HERE / "long.txt").read_text(encoding="utf-8").split())
"""Files whose tests train networks or start processes. A new file is quick until it is written there."""


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="leave out the files in tests/long.txt")


def pytest_ignore_collect(collection_path, config):
    """With `--quick`, leave out the long files."""
    if config.getoption("quick") and collection_path.is_relative_to(HERE):
        return str(collection_path.relative_to(HERE)) in LONG or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Keep together, on one worker of xdist, what shares a run or a fixture."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(group_of(item)))


def group_of(item: pytest.Item) -> str:
    """An entry of the battery, whose runs several files share; pages and examples, for their process; or a file."""
    file, given = item.path, getattr(item, "callspec", None)
    entries = [value for name, value in given.params.items() if name in BATTERY] if given else []
    if entries:
        return str(entries[0])
    if "briefly" in item.fixturenames:
        return "briefly"
    return "reporting" if file.parent.name == "reporting" else str(file.relative_to(HERE))


def pytest_collection_finish(session):
    """What collecting has imported stays: the collector, which accelerate calls often, need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def offline_with_a_cache_of_its_own(tmp_path_factory):
    """No look at the net; and a cache for all workers of the session, of which each network is trained once."""
    mine = tmp_path_factory.getbasetemp()
    everyones = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(everyones / "cache"))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tensors here are small, and threads that wait for each other on a busy machine are slower than one alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def briefly(offline_with_a_cache_of_its_own, tmp_path_factory):
    """A function that runs a script in a folder, with few steps for each training; what it prints, once it is right."""
    paths = [str(HERE / "brief"), *filter(None, [os.environ.get("PYTHONPATH")])]
    places = {"PYTHONPATH": os.pathsep.join(paths), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = [sys.executable, "-m", "warm"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **places}
    ) as warm:

        def run(script: Path, place: Path) -> str:
            files = [tmp_path_factory.mktemp("printed") / name for name in ("output", "errors")]
            print(json.dumps([str(path) for path in (script, place, *files)]), file=warm.stdin, flush=True)
            status = warm.stdout.readline()
            assert int(status) == 0, files[1].read_text(encoding="utf-8")
            return files[0].read_text(encoding="utf-8")

        yield run
        warm.stdin.close()


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """Opens a page in the one browser of the session, as wide as a desk's; skipped where there is none."""
    browser = browser_in(tmp_path_factory.mktemp("chromium"))

    def opened(path):
        browser.size(1280)
        browser.open(path)
        return browser

    yield opened
    browser.close()


@pytest.fixture(scope="session")
def digits() -> ImageSource:
    return attar.load("digits")


@pytest.fixture(scope="session")
def few_digits(digits) -> ImageSource:
    """Twelve training images of each digit, and all the test images."""
    return digits.subset(torch.cat([rows[:12] for rows in digits.rows_of]))


@pytest.fixture(scope="session")
def shapes() -> ImageSource:
    """Discs, squares and stripes in colour, 3×16×16: 20 of each to train on and 8 to test on."""
    generator = torch.Generator().manual_seed(0)
    return attar.load((draw_shapes(20, generator), draw_shapes(8, generator)))


def draw_shapes(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` uint8 images of each of three classes, and their labels."""
    down, right = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    disc = (down - 8) ** 2 + (right - 8) ** 2 < 25
    square = ((down - 8).abs() < 4) & ((right - 8).abs() < 4)
    masks = torch.stack([disc, square, right % 4 < 2]).float().repeat_interleave(count, dim=0).unsqueeze(1)
    colours = 0.4 + 0.6 * torch.rand(3 * count, 3, 1, 1, generator=generator)
    noise = 0.2 * torch.rand(3 * count, 3, 16, 16, generator=generator)
    pixels = ((masks * colours * 0.8 + noise) * 255).byte()
    return pixels, torch.arange(3).repeat_interleave(count)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Plain float32 on a CPU."""
    return Engine(device="cpu", compile="off", quiet=True)


@pytest.fixture
def runtime(engine) -> Runtime:
    """A machine with seed 0, its generators untouched."""
    return Runtime(engine, 0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
