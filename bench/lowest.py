"""Install the lowest versions that pyproject.toml allows, and run the promises of a few methods of each kind on them.

    make lowest                                  # or: python bench/lowest.py FOLDER [--dry-run] [--torch VERSION]

Every package that attar names itself is installed at its lower bound; pip chooses what those need. The tools of the
tests are those of constraints.txt. With `--dry-run` pip says only whether the versions go together. With `--torch` that
version of torch is taken where another one would be a large download; everything else stays at its bound.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("beartype", "hypothesis", "pytest", "pytest-xdist")
EXTRAS = ("convolution", "graphs", "plasma", "samplers", "scenes", "tables", "tensorboard", "transformers")
ENTRIES = {
    "images": ("dm", "edf", "rded", "sre2l"),
    "graphs": ("gstam", "graph-herding"),
    "mixtures": ("oggmr", "gmrc"),
    "convolution": ("conv",),
    "classifiers": ("kd", "crd", "classifier", "ts"),
    "language": ("language",),
    "tables": ("tvae", "fair", "copula"),
    "embeddings": ("simclr", "clip"),
    "samplers": ("edm", "dmd2", "consistency"),
    "scenes": ("autoencoder", "ed-nerf"),
    "plasma": ("kelvin-helmholtz",),
}
"""The methods whose promises are run: some that lean on each package."""
FILES = (
    "tests/core/test_help.py",
    "tests/core/test_flags.py",
    "tests/core/test_hub.py",
    "tests/language/test_models.py",
)
"""Tests of what leans on packages that the promises leave out: the command line, the hub, models of transformers."""
PLAINLY = ("-o", "addopts=--import-mode=importlib -q", "-o", "filterwarnings=")
"""Without the checker of shapes, which needs a newer jaxtyping, and with warnings of old versions left alone."""
BOUND = re.compile(r"([A-Za-z0-9_-]+)(?:\[[^]]*\])?\s*>=\s*([0-9][0-9.]*)")


def requirements() -> Iterator[tuple[str, str]]:
    """The packages that attar names, with their lower bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(one for name in EXTRAS for one in extras.get(name, ()))]:
        found = BOUND.match(text)
        if found:
            yield found[1], found[2]
        elif not text.startswith("attar["):
            raise SystemExit(f"{text} has no lower bound in pyproject.toml.")


def pins(torch: str | None = None) -> dict[str, str]:
    """The version of each package; the highest of its bounds where it has several."""
    found: dict[str, str] = {}
    for name, version in requirements():
        found[name] = max(found.get(name, "0"), version, key=_parts)
    return {**found, **({"torch": torch} if torch else {})}


def _parts(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def tools() -> list[str]:
    """What the tests need besides, as it is pinned for everybody."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in TOOLS]


def chosen() -> str:
    """The tests of the battery that are run, for pytest's -k."""
    return " or ".join(f"[{name}]" for names in ENTRIES.values() for name in names)


def main() -> None:
    """Make the environment, and run the tests in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the environment")
    parser.add_argument("--torch", help="version of torch to take in place of the lowest one")
    parser.add_argument("--torch-index", default="", help="index of PyTorch's builds without CUDA")
    parser.add_argument("--dry-run", action="store_true", help="only see whether the versions go together")
    given = parser.parse_args()

    versions = pins(given.torch)
    print("\n".join(f"{name} {version}" for name, version in sorted(versions.items())), flush=True)
    python = environment(given.folder)
    torch = f"torch=={versions.pop('torch')}"
    rest = [f"{name}=={version}" for name, version in versions.items()]
    if given.dry_run:
        pip(python, "--dry-run", "--quiet", torch, *rest, *tools())
        return
    pip(python, *(["--index-url", given.torch_index] if given.torch_index else []), torch)
    pip(python, torch, *rest, *tools())
    test = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *PLAINLY]
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    everywhere = {**os.environ, **paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for words in (["tests/test_promises.py", "-k", chosen()], [*FILES]):
        subprocess.run([*test, *words], cwd=ROOT, env=everywhere, check=True)


def environment(folder: Path) -> Path:
    """The Python of a new virtual environment, or of one that is there."""
    if not (folder / "pyvenv.cfg").exists():
        venv.create(folder, with_pip=True)
        python = _python(folder)
        pip(python, "--quiet", "--upgrade", "pip")
    return _python(folder)


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def pip(python: Path, *words: str) -> None:
    """Install something."""
    subprocess.run([str(python), "-m", "pip", "install", *words], check=True)


if __name__ == "__main__":
    main()
