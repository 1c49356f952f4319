"""The task of training on tables: the columns as features of a network that else sees images."""

from dataclasses import dataclass
from typing import Annotated, Any

from attar.core import tasks
from attar.core.settings import Hidden


@dataclass(frozen=True, kw_only=True)
class Train(tasks.Task):
    """What a classifier of rows is trained from besides the data: a module of the caller's own, if it is given."""

    module: Annotated[Any, Hidden()] = None
    """A module of the caller's own to be trained, in place of the method's; it is not changed."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The rows as images of one pixel, and the module to train."""
        from attar.tables.classifier import as_images

        return self._of_images.prepare(as_images(source), method, runtime)

    def measured_on(self, source: Any) -> Any:
        """The rows as images of one pixel."""
        from attar.tables.classifier import as_images

        return as_images(source)

    def open(self, folder: Any, kind: Any) -> Any:
        """Read a finished classifier."""
        from attar.core.kinds import kind_named

        return self._of_images.open(folder, kind_named("classifiers"))

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Score the classifier on the test rows, once, at the end."""
        return self._of_images.score(made, work, method, runtime)

    @property
    def _of_images(self) -> Any:
        """The same task of classifiers of images."""
        from attar.classifiers import tasks as classifiers

        return classifiers.Train(module=self.module)
