"""Trackers of a run: TensorBoard, Weights & Biases, Trackio and MLflow are told its curve, its settings and its scores.

Their classes are accelerate's. A tracker decides nothing: the bytes of a run are the same with it, and one that fails
is left out while the run goes on. `run/trackers.json` holds the name by which each tracker knows the run, and up to
which step it was told the curve. A run that is resumed goes on in the same place there, and tells no step twice.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from attar.core import store
from attar.core.errors import InputError, reason_of, shortened
from attar.core.extras import install
from attar.core.jsonfiles import lines_of, number
from attar.core.provenance import SECRET, written
from attar.core.settings import flat, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attar.core.runtime import Runtime

CURVE = "metrics.jsonl"
"""The file of a run's curve."""
FILE = "trackers.json"
"""The file of what trackers know of a run."""
BOARD = "tensorboard"
"""The folder that TensorBoard writes to."""
LONGEST = 250
"""Most characters of a setting: some trackers take no more."""
ADVICE = {
    "wandb": "Log in with `wandb login`, or set WANDB_MODE=offline.",
    "mlflow": "See to MLFLOW_TRACKING_URI.",
}
"""What to do where a tracker does not start."""
UNREACHED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""How long MLflow tries to reach its server, unless the environment says otherwise. A run waits for it meanwhile."""
ENDS = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
"""How a run ends, and MLflow's words for it."""


def check_installed(names: "Sequence[str]") -> None:
    """See that the packages of trackers are there, before any other work.

    Raises:
        InputError: One is not.
    """
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"--track {name} needs the package {name}: {install(name)}.")


def config_of(method: Any, source: Any, runtime: "Runtime") -> dict[str, bool | int | float | str]:
    """What trackers are told of a run before its first step: no secret, and no absolute path.

    Args:
        method: Resolved settings.
        source: What it works on.
        runtime: The machine and the seed.
    """
    if not runtime.engine.trackers:
        return {}
    data = runtime.call.data if runtime.call else str(getattr(source, "name", ""))
    facts = {"method": method.name, "data": data, "data_fingerprint": source.fingerprint, "seed": runtime.seed}
    settings = {name: value for name, value in flat(plain(method)) if name.rpartition(".")[2] not in SECRET}
    command = runtime.call.command(method.name, runtime.seed) if runtime.call else ""
    told = {**facts, **settings, **runtime.describe(), **({"command": command} if command else {})}
    return {name: _plain(value) for name, value in told.items() if value is not None}


def _plain(value: Any) -> bool | int | float | str:
    """A setting as every tracker takes it."""
    value = written(value)
    if isinstance(value, (bool, int, float)):
        return value
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return shortened(" ".join(text.split()), LONGEST)


def numbers_of(made: Any) -> dict[str, float]:
    """The scores of an artefact that were measured when it was made, by name."""
    found: dict[str, float] = {}
    for cell in getattr(made, "first_scores", ()):
        found[f"score/{cell.column}"] = cell.score.value
        found |= {f"score/{cell.column}, {name}": more.score.value for name, more in cell.further.items()}
    if not found and isinstance(getattr(made, "scores", None), Mapping):
        found = {f"score/{name}": value for name, value in flat(dict(made.scores)) if number(value) is not None}
    return found


def forget(inner: Path) -> None:
    """Drop what trackers know of a run that has been replaced.

    Args:
        inner: The folder `run` of the run.
    """
    store.remove(inner / FILE)
    store.remove(inner / BOARD)


def note_untold(runtime: "Runtime", inner: Path) -> None:
    """Say which trackers know nothing of a run that is finished, and so is told to none.

    Args:
        runtime: The machine; its engine names the trackers.
        inner: The folder `run` of the run.
    """
    known = _read(inner / FILE) if runtime.engine.trackers else {}
    untold = [name for name in runtime.engine.trackers if name not in known]
    if untold:
        runtime.say(
            f"note: {', '.join(untold)}: not told of this run, which is finished. Its curve is in {inner / CURVE}."
        )


class Tracked:
    """The trackers of one run, as far as they work."""

    def __init__(self, runtime: "Runtime | None" = None, inner: Path | None = None) -> None:
        """
        Args:
            runtime: The machine; its engine names the trackers. None tracks nothing.
            inner: The folder `run` of the run; None of a run in memory.
        """  # noqa: D205, D212
        first = runtime is not None and runtime.processes.first
        self._runtime = runtime
        self._names = runtime.engine.trackers if runtime is not None and first else ()
        self._inner = inner
        self._kept = _read(inner / FILE) if inner else {}
        self._at_work: dict[str, Any] = {}
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        how = "done" if kind is None else "stopped" if issubclass(kind, KeyboardInterrupt) else "failed"
        self._each(lambda name, tracker: _end(name, tracker, how))

    def start(self, title: str, config: Mapping[str, Any]) -> None:
        """Begin or continue the run in every tracker.

        Args:
            title: What it is called there.
            config: What is told of it.

        Raises:
            InputError: A tracker does not start.
        """
        self._count()
        for name in self._names:
            if name != "tensorboard" or self._inner:
                self._begin(name, title, config)
            elif self._runtime:
                self._runtime.say(
                    "note: TensorBoard is not told: it writes into a run's folder, and this run has none."
                )
        self._keep()

    def _count(self) -> None:
        """Note how far each tracker was told the curve, which may now grow without it."""
        last = _last_step(self._inner / CURVE) if self._inner and self._kept else 0
        for entry in self._kept.values():
            entry["told"] = max(entry["told"], last if entry["listening"] else 0)
            entry["listening"] = False

    def _begin(self, name: str, title: str, config: Mapping[str, Any]) -> None:
        assert self._runtime is not None
        project = self._runtime.engine.track_project
        known = self._kept.get(name)
        if known is not None and known["project"] != project:
            known = None
        entry = known or {"project": project, "id": os.urandom(4).hex(), "told": 0, "listening": False}
        try:
            with _elsewhere(quiet=self._runtime.engine.quiet):
                _prepare_accelerate(self._runtime)
                given = entry["id"] if known or name != "mlflow" else None
                tracker = _made(name, project, title, given, self._inner, config)
                getattr(tracker, "start", lambda: None)()  # older versions of accelerate have started it already
                self._kept[name], self._at_work[name] = entry, tracker
                if known is None and name != "trackio":
                    tracker.store_init_configuration(dict(config))
        except InputError:
            raise
        except Exception as error:  # whatever a tracker raises, or the connection that it needs
            advice = ADVICE.get(name, f"Leave out --track {name}.")
            raise InputError(f"the tracker {name} does not start ({_reason(error)}). {advice}") from None
        if name == "mlflow":
            entry["id"] = tracker.tracker.info.run_id

    def catch_up(self, path: Path) -> None:
        """Tell what stands in the file of a curve to trackers that have not heard it."""
        if not self._at_work:
            return
        if path.exists():
            for line in lines_of(path):
                step = None if line is None else number(line.get("step"))
                if line is not None and step is not None:
                    self.log(int(step), {name: value for name, value in line.items() if name != "step"})
        for name in self._at_work:
            self._kept[name]["listening"] = True
        self._keep()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell the metrics of a step."""
        if not self._at_work:
            return
        known = {name: value for name, value in values.items() if number(value) is not None}

        def tell(name: str, tracker: Any) -> None:
            if step > self._kept[name]["told"]:
                tracker.log(_named_for(name, known), step=step)
                self._kept[name]["told"] = step

        self._each(tell)

    def outcome(self, step: int, made: Any) -> None:
        """Tell what came out: seconds, scores and a picture.

        Args:
            step: The last one.
            made: The artefact.
        """
        if not self._at_work:
            return
        values = {"seconds": self._seconds(), **numbers_of(made)}
        finite = {name: value for name, value in values.items() if number(value) is not None}
        picture = made.picture() if hasattr(made, "picture") else None

        def tell(name: str, tracker: Any) -> None:
            tracker.log(_named_for(name, finite), step=step)
            if picture is not None:
                _show(name, tracker, picture, step)

        self._each(tell)

    def _seconds(self) -> float:
        cost = self._inner / "cost.json" if self._inner else None
        known = store.read_cost(cost)["seconds"] if cost and cost.is_file() else None
        return round(time.monotonic() - self._since, 3) if known is None else known

    def _each(self, tell: Callable[[str, Any], None]) -> None:
        """Do something with every tracker. One that fails is told of once, and left out."""
        for name, tracker in list(self._at_work.items()):
            try:
                assert self._runtime is not None
                with _elsewhere(quiet=self._runtime.engine.quiet):
                    tell(name, tracker)
            except Exception as error:  # whatever a tracker raises, or the connection that it needs
                self._leave_out(name, tracker, error)

    def _leave_out(self, name: str, tracker: Any, error: Exception) -> None:
        assert self._runtime is not None
        del self._at_work[name]
        self._kept[name]["listening"] = False
        with suppress(InputError):
            self._keep()
        with suppress(Exception), _elsewhere(quiet=True):
            _end(name, tracker, "failed")
        where = f" Its curve is in {self._inner / CURVE}." if self._inner else ""
        self._runtime.say(f"note: the tracker {name} failed ({_reason(error)}); the run goes on without it.{where}")

    def _keep(self) -> None:
        if self._inner and self._kept:
            store.write_json(self._inner / FILE, self._kept)


NONE = Tracked()
"""No tracker."""


def _made(name: str, project: str, title: str, known: str | None, inner: Path | None, config: Mapping[str, Any]) -> Any:
    """A tracker of accelerate's that is not started yet."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    family = LOGGER_TYPE_TO_CLASS.get(name)
    if family is None:
        raise InputError(f"--track {name} needs a newer accelerate. Upgrade it: pip install --upgrade accelerate.")
    if name == "tensorboard":
        return family(BOARD, logging_dir=inner)
    if name == "wandb":
        return family(project, id=known, name=title, resume="allow", settings=_quiet_wandb())
    if name == "trackio":  # which knows runs by their names, and keeps only those settings that it begins with
        return family(project, name=f"{title}-{known}", resume="allow", config=dict(config))
    for variable, value in UNREACHED.items():
        os.environ.setdefault(variable, value)
    return family(project, run_id=known, run_name=title, tags={"mlflow.source.name": "attar"})


def _quiet_wandb() -> Any:
    """Settings with which Weights & Biases is not told paths, the command line and the code of this machine."""
    from wandb import Settings

    known = getattr(Settings, "model_fields", {})
    wanted = {"console": "off", "disable_code": True, "disable_git": True, "x_disable_meta": True}
    return Settings(**{name: value for name, value in wanted.items() if name in known})


def _prepare_accelerate(runtime: "Runtime") -> None:
    """Have accelerate's trackers know the processes, without a change to how many threads compute."""
    import warnings

    import torch
    from accelerate import PartialState

    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PartialState(cpu=runtime.processes.count > 1 and runtime.device.type == "cpu")
    torch.set_num_threads(threads)


def _named_for(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """Metrics by names that a tracker takes."""
    if name != "mlflow":
        return dict(values)
    return {re.sub(r"[^\w./ -]", "_", metric, flags=re.ASCII): value for metric, value in values.items()}


def _show(name: str, tracker: Any, picture: bytes, step: int) -> None:
    """Show a picture, where a tracker takes one."""
    if not hasattr(tracker, "log_images"):
        return
    import io

    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    if name == "tensorboard":
        tracker.log_images({"preview": pixels[None]}, step=step, dataformats="NHWC")
    else:
        tracker.log_images({"preview": [pixels]}, step=step)


def _end(name: str, tracker: Any, how: str) -> None:
    """End the run in a tracker, which tells there how it ended where it has words for that."""
    if name == "mlflow":
        import mlflow

        mlflow.end_run(ENDS[how])
    elif name == "wandb":
        tracker.tracker.finish(exit_code=0 if how == "done" else 1)
    else:
        tracker.finish()


@contextmanager
def _elsewhere(*, quiet: bool) -> "Iterator[None]":
    """Have what a tracker prints on standard error, so that standard output holds results only; or nowhere."""
    with ExitStack() as stack:
        if quiet:
            nowhere: TextIO = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            stack.enter_context(redirect_stderr(nowhere))
            stack.enter_context(redirect_stdout(nowhere))
        else:
            stack.enter_context(redirect_stdout(sys.stderr))
        yield


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """What trackers know of a run; nothing of a file that is missing or damaged."""
    try:
        facts = store.read_json(path)
    except InputError:
        return {}
    types = {"project": str, "id": str, "told": int, "listening": bool}
    found = {}
    for name, entry in facts.items() if isinstance(facts, dict) else ():
        if isinstance(entry, dict) and all(type(entry.get(key)) is kind for key, kind in types.items()):
            found[name] = {key: entry[key] for key in types}
    return found


def _last_step(path: Path) -> int:
    """The last step of a curve; 0 if there is none."""
    if not path.is_file():
        return 0
    steps = [number(line.get("step")) for line in lines_of(path) if line]
    return int(max((step for step in steps if step is not None), default=0))


def _reason(error: Exception) -> str:
    """Why a tracker fails, in a part of a line: those of connections are long."""
    return shortened(reason_of(error), LONGEST)
