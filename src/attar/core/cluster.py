"""Ray on this machine or on a cluster: reached or refused within seconds, and asked for what it has.

Ray itself waits for minutes where nobody answers. Its errors have many lines; attar's have one.
"""

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.core import store
from attar.core.errors import InputError, reason_of
from attar.core.extras import install
from attar.core.signals import TERMINATE
from attar.core.version import __version__

ANSWER = 4.0
"""Seconds in which the head of a cluster must take a connection."""
TRIES = "RAY_gcs_server_port_wait_time_s"
"""The variable of the environment that says for how many seconds Ray tries to reach a head."""
OWN = {"address": "local", "include_dashboard": False}
"""A Ray of its own, also on a machine that belongs to a cluster or where RAY_ADDRESS is set."""
LOOK = 60.0
"""Seconds in which the machines of a cluster must look into a folder."""


@dataclass(frozen=True)
class Cluster:
    """Ray, connected."""

    ray: Any
    name: str
    """How it is called in messages."""
    head: str | None
    """Host and port of its head, if they are known."""

    @property
    def cores(self) -> int:
        """CPU cores of all machines, as Ray counts them."""
        return int(self.ray.cluster_resources().get("CPU", 0))

    @property
    def gpus(self) -> float:
        """GPUs of all machines."""
        return float(self.ray.cluster_resources().get("GPU", 0))

    @property
    def machines(self) -> list[dict[str, Any]]:
        """The machines that can be given tasks."""
        return [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    def check_alive(self) -> None:
        """See that the head is there.

        Raises:
            InputError: It is not.
        """
        if self.head is None:
            return
        try:
            check_answers(self.head)
        except InputError as error:
            raise InputError(
                f"the head of {self.name} has stopped ({error.args[0].rstrip('.')}). Results so far are kept. "
                "When it is back, run the same command again."
            ) from None

    def check_shared(self, folder: Path) -> None:
        """See that all machines have the same folder under its path.

        Args:
            folder: Where tasks write.

        Raises:
            InputError: Some have not, or have another version of attar.
        """
        store.make_folder(folder)
        mark = folder / f".{uuid.uuid4().hex}.tmp"
        mark.touch()
        try:
            found = self._asked(mark)
        finally:
            mark.unlink(missing_ok=True)
        blind = [host for host, (sees, _) in found.items() if not sees]
        if blind:
            raise InputError(
                f"{folder} is not the same folder on every machine of {self.name} (not on {_some(blind)}). Results are "
                "written there, so choose a folder on storage that all machines share."
            )
        others = {host: version for host, (_, version) in found.items() if version != __version__}
        if others:
            told = _some([f"{version} on {host}" for host, version in others.items()])
            raise InputError(f"attar is {__version__} here, but {told}. Install the same version everywhere.")

    def _asked(self, mark: Path) -> dict[str, tuple[bool, str]]:
        """Whether each machine sees a file, and its version of attar."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        looking = self.ray.remote(num_cpus=0, max_retries=0)(_looked)
        asked = {
            node["NodeManagerAddress"]: looking.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(mark))
            for node in self.machines
        }
        try:
            return dict(zip(asked, self.ray.get(list(asked.values()), timeout=LOOK), strict=True))
        except self.ray.exceptions.RayError as error:
            why = "they do not answer" if isinstance(error, TimeoutError) else _last_line(error)
            raise InputError(
                f"the machines of {self.name} cannot run attar ({why}). Install the same version on all of them."
            ) from None


def _looked(path: str) -> tuple[bool, str]:
    """On a machine of the cluster: whether a file is there, and the version of attar."""
    return Path(path).exists(), __version__


@contextmanager
def joined(workers: int, address: str | None) -> Iterator[Cluster]:
    """Ray with so many workers on this machine, or a cluster by its address.

    Args:
        workers: How many tasks at once on this machine, if no address is given.
        address: As `ray.init` takes it: `host:port`, `ray://host:10001`, or `auto`.

    Raises:
        InputError: Ray is not installed, cannot be started, or does not answer.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError(f"several workers need Ray: {install('cluster')}.") from None
    where = reached(address)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    how = {"address": address} if address else {**OWN, "num_cpus": workers}
    usual = signal.getsignal(TERMINATE)
    os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # Numba cannot compile the function that Ray puts in its place
    try:
        with _in_brief(address):
            ray.init(**how, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = " It runs, but refuses: see to its version and, with RAY_AUTH_MODE, its token." if where else ""
        raise InputError(f"Ray could not be started ({reason_of(error)}).{hint}") from None
    if where is None:
        with suppress(AttributeError, RuntimeError):
            where = str(ray.get_runtime_context().gcs_address)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(TERMINATE, usual)  # Ray has taken it
        yield Cluster(ray, f"the Ray cluster at {address}" if address else "Ray on this machine", where)
    finally:
        ray.shutdown()


@contextmanager
def _in_brief(address: str | None) -> Iterator[None]:
    """Have Ray try for some seconds to reach a head, instead of twenty, and print nothing of each try."""
    if address is None:
        yield
        return
    given, before = os.environ.get(TRIES), os.dup(2)
    os.environ.setdefault(TRIES, str(int(ANSWER)))
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)  # below Python: Ray's own code writes there
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        if given is None:
            del os.environ[TRIES]


def reached(address: str | None) -> str | None:
    """Host and port of a cluster that answers; None where there is no address, or Ray has to find them.

    Raises:
        InputError: Nobody answers there.
    """
    where = None if address is None else place_of(address)
    if where is not None:
        check_answers(where)
    return where


def check_answers(place: str) -> None:
    """See that something takes connections at a host and port.

    Raises:
        InputError: It does not.
    """
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{place!r} is no address of Ray. Give host:port, ray://host:10001, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or reason_of(error)
        raise InputError(f"no Ray answers at {place} ({reason}). Look there with: ray status.") from None


def place_of(address: str) -> str | None:
    """Host and port of an address; None where Ray has to find them."""
    if address == "auto":
        named = os.environ.get("RAY_ADDRESS", "")
        place = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        latest = Path(place) / "ray" / "ray_current_cluster"
        address = named or (latest.read_text(encoding="utf-8").strip() if latest.is_file() else "")
    address = address.removeprefix("ray://")
    return None if address in ("", "auto", "local") else address


def _last_line(error: BaseException) -> str:
    """What another machine's traceback ends in."""
    lines = str(error).strip().splitlines()
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _some(names: list[str]) -> str:
    """Up to three names of several."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
