"""Pictures that matplotlib draws, and those that an evaluation leaves beside an artefact, in `evaluation`."""

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attar.core import store
from attar.core.artefact import Picture

FOLDER = "evaluation"
KEPT = f"{FOLDER}/*.png"
Draw = Callable[[Any], None]
"""What draws on a figure."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def figure(draw: Draw, width: float, height: float, dpi: int = 100) -> bytes:
    """A PNG of so many inches, the same bytes each time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(fig)
    draw(fig)
    sink = io.BytesIO()
    fig.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def keep(folder: Path, drawn: Mapping[str, bytes], titles: Mapping[str, str]) -> None:
    """Write pictures beside an artefact, in place of all earlier ones.

    Args:
        folder: The artefact's.
        drawn: PNG by name.
        titles: What each name shows.
    """
    if drawn:
        store.make_folder(folder / FOLDER)
    for name in titles:
        path = folder / FOLDER / f"{name}.png"
        if name in drawn:
            store.write_bytes(path, drawn[name])
        else:
            path.unlink(missing_ok=True)


def kept_in(folder: Path | None, titles: Mapping[str, str]) -> Iterator[Picture]:
    """The pictures that lie beside an artefact."""
    for title, path in _files(folder, titles):
        yield Picture(title, path.read_bytes())


def links(folder: Path | None, titles: Mapping[str, str]) -> str:
    """The same as links for a card that lies in the folder."""
    return "".join(f"\n![{title}]({FOLDER}/{path.name})\n" for title, path in _files(folder, titles))


def _files(folder: Path | None, titles: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for name, title in titles.items():
        if folder is not None and (path := folder / FOLDER / f"{name}.png").is_file():
            yield title, path
