"""The task of training an encoder."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from attar.core import tasks
from attar.core.settings import Hidden


@dataclass(frozen=True, kw_only=True)
class Train(tasks.Task):
    """What stands beside a method that trains an encoder."""

    module: Annotated[Any, Hidden()] = None
    """A module of the caller's own to be used as the encoder, in place of the method's; it is not changed."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The data with the module of the caller's own, if there is one."""
        if self.module is None:
            return source, method
        from attar.embeddings.encoders import WithModule

        return WithModule.of(source, copy.deepcopy(self.module)), method

    def open(self, folder: Path, kind: Any) -> Any:
        """Read a finished encoder. A module of the caller's own can be built only by the caller."""
        if self.module is None:
            return kind.load(folder)
        return kind.made.load(folder, build=lambda: copy.deepcopy(self.module))
