"""Libraries of the results page: taken by npm from packages of a locked version and digest, and kept below `_build`.

`assets.lock` names them. Nothing of them is committed, and no page loads anything from elsewhere when it is read.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOCK = HERE / "assets.lock"
KEPT = HERE.parent / "_build" / "assets"
LICENCE = "LICENSE"
PATIENCE = 60
"""Seconds that a package may take."""


class Missing(Exception):  # noqa: N818
    """A library that cannot be had, in one line."""


def assets(folder: Path = KEPT, lock: Path = LOCK) -> list[Path]:
    """The files of all locked packages, scripts in the order in which a page loads them; fetched unless they are there.

    Args:
        folder: Where they are kept: a folder for each package and version.
        lock: The names, versions, digests and files of the packages.

    Raises:
        Missing: A package cannot be fetched, or is not the one that was locked.
    """
    found = []
    for name, facts in json.loads(lock.read_text(encoding="utf-8")).items():
        place = folder / f"{name}-{facts['version']}"
        if not (place / LICENCE).exists():
            _fetch(name, facts, place)
        found += [place / Path(file).name for file in facts["files"]]
    return found


def _fetch(name: str, facts: dict[str, Any], place: Path) -> None:
    """Fetch a package, compare its digest, and keep the files that are asked for; its licence last."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = _packed(f"{name}@{facts['version']}", Path(scratch))
        check(archive, facts["integrity"])
        place.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as members:
            for file in (*facts["files"], LICENCE):
                try:
                    content = members.extractfile(f"package/{file}")
                except KeyError:
                    content = None
                if content is None:
                    raise Missing(f"{archive.name} has no file {file}; correct {LOCK.name}")
                (place / Path(file).name).write_bytes(content.read())


def _packed(wanted: str, scratch: Path) -> Path:
    """The archive of a package, by npm."""
    npm = shutil.which("npm")
    if npm is None:
        raise Missing(f"npm is not installed, so {wanted} cannot be fetched")
    quick = ["--fetch-retries=0", f"--fetch-timeout={1000 * PATIENCE}", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(
            [npm, "pack", wanted, *quick, f"--pack-destination={scratch}"],
            cwd=scratch,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=2 * PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{wanted} cannot be fetched: npm took more than {2 * PATIENCE} seconds") from None
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        why = next(iter((done.stderr or "no archive").strip().splitlines()), "no archive")
        raise Missing(f"{wanted} cannot be fetched: {why}")
    return archives[0]


def check(archive: Path, integrity: str) -> None:
    """Compare an archive with its locked digest.

    Args:
        archive: The file.
        integrity: The digest as npm writes it, such as `sha512-...`.

    Raises:
        Missing: It has another one.
    """
    name, _, digest = integrity.partition("-")
    found = base64.b64encode(hashlib.new(name, archive.read_bytes()).digest()).decode()
    if found != digest:
        raise Missing(f"{archive.name} has the digest {name}-{found[:12]}…, and {name}-{digest[:12]}… was locked")
