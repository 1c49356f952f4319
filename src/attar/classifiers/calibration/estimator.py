"""`Calibrator`: every calibrator as an estimator of scikit-learn, on logits or on a fitted classifier."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from attar.classifiers.calibration.calibration import SUM, Calibration, are_probabilities
from attar.core.errors import InputError, unknown
from attar.core.notes import note
from attar.core.registry import METHODS
from attar.core.seeds import Generators


class Refused(InputError, ValueError):  # noqa: N818
    """Bad input to an estimator, which scikit-learn expects to be a ValueError."""


class Calibrator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Calibrate logits, or the scores of a fitted classifier, by any of attar's calibrators.

    Args:
        method: The name of a calibrator, such as "ts", or its settings, such as `attar.TemperatureScaling(loss="ca")`.
        estimator: A fitted classifier whose scores are calibrated. None: samples are logits, one column a class.
        classes: The class of each column of the logits. Default: those of the estimator; whole numbers from 0 on if
            labels are numbers below the number of columns; otherwise the labels, sorted.
        seed: Seed of the draws of `pts` and `ca`.

    Attributes:
        classes_: The classes, in the order of the columns.
        method_: The settings of the calibrator.
        learned_: What was learned, as tensors.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[9.0, 0.0], [8.0, 0.0], [7.0, 0.0], [0.0, 9.0]])
        >>> sure = Calibrator("ts").fit(logits, ["cat", "dog", "cat", "dog"])
        >>> sure.predict(logits[:1]).tolist()
        ['cat']
        >>> bool(sure.predict_proba(logits[:1]).max() < 0.9)
        True
    """

    def __init__(
        self, method: Any = "ts", *, estimator: Any = None, classes: Any = None, seed: Any = 0
    ) -> None:  # parameters are checked by fit, as everywhere in scikit-learn
        self.method = method
        self.estimator = estimator
        self.classes = classes
        self.seed = seed

    @classmethod
    def on(cls, estimator: Any, method: Any = "ts", *, seed: int = 0) -> Self:
        """A calibrator of a fitted classifier with decision_function, predict_log_proba or predict_proba.

        The classifier stays as it is, also when the calibrator is cloned or fitted again. Give `fit` samples that the
        classifier has not seen.

        Args:
            estimator: The fitted classifier.
            method: The name of a calibrator, or its settings.
            seed: Seed of the draws.
        """
        return cls(method, estimator=FrozenEstimator(estimator), seed=seed)

    def fit(self, X: Any, y: Any, views: Sequence[Any] | None = None) -> Self:  # noqa: N803
        """Fit the calibrator.

        Args:
            X: Logits, as an array or a tensor; or samples, if there is an estimator. Probabilities are told by a
                warning, and their logarithms are taken.
            y: The class of each sample.
            views: Logits of transformed copies of the samples (or such copies, if there is an estimator), for `ca`.

        Raises:
            InputError: There is one column, one class, or a label that is no column; or the method is unknown.
            ValueError: Samples or classes are not what scikit-learn takes.
        """
        try:
            return self._fitted(X, _plain(y), views)
        except InputError as error:
            raise Refused(str(error)) from error

    def _fitted(self, X: Any, y: Any, views: Sequence[Any] | None) -> Self:  # noqa: N803
        self.method_ = calibration_named(self.method)
        logits, y = self._checked(X, y, reset=True)
        check_classification_targets(y)
        self.classes_ = self._classes_of(y, logits.shape[1])
        labels = torch.from_numpy(_places(y, self.classes_))
        self._probabilities_ = are_probabilities(logits)
        if self._probabilities_:
            note("rows are probabilities, where logits are wanted; their logarithms are taken.", stacklevel=3)
        copies = [self._scores(view) for view in self._views(views)]
        self.learned_ = dict(
            self.method_.fit(
                self._logits(logits), labels, copies, generator=Generators(int(self.seed or 0))("calibrator")
            )
        )
        return self

    def predict_proba(self, X: Any, views: Sequence[Any] | None = None) -> Float[np.ndarray, "sample classes"]:  # noqa: N803
        """The calibrated probability of each class."""
        return np.exp(self.predict_log_proba(X, views))

    def predict_log_proba(self, X: Any, views: Sequence[Any] | None = None) -> Float[np.ndarray, "sample classes"]:  # noqa: N803
        """The calibrated log-probability of each class.

        Raises:
            InputError: Rows are of another form than those that the calibrator was fitted to.
        """
        check_is_fitted(self)
        rows = self._checked(X, reset=False)
        self._check_form(rows)
        copies = [self._scores(view) for view in self._views(views)]
        try:
            return self.method_.applied(self.learned_, self._logits(rows), copies).numpy()
        except InputError as error:
            raise Refused(str(error)) from error

    def _check_form(self, rows: np.ndarray) -> None:
        """Check that rows are what the calibrator was fitted to: logits, or probabilities.

        Raises:
            InputError: It was fitted to probabilities, and they are none.
        """
        if self.estimator is not None:
            return
        if self._probabilities_ and ((rows < 0) | (rows > 1 + SUM)).any():
            raise Refused("the calibrator was fitted to probabilities, and these rows are none. Give probabilities.")
        if not self._probabilities_ and len(rows) > 1 and are_probabilities(rows):
            note("rows are probabilities, but the calibrator was fitted to logits. Give the logits.", stacklevel=3)

    def predict(self, X: Any, views: Sequence[Any] | None = None) -> np.ndarray:  # noqa: N803
        """The class of each sample."""
        best = self.predict_log_proba(X, views).argmax(axis=1)
        return self.classes_[best]

    # --------------------------------------------------------------------------------------------------- saving by hand

    def to_tensors(self) -> dict[str, Tensor]:
        """What was learned, as tensors that safetensors can save."""
        check_is_fitted(self)
        return {**self.learned_, "rows_are_probabilities": torch.tensor(self._probabilities_)}

    @classmethod
    def from_tensors(cls, method: Any, tensors: Mapping[str, Tensor], classes: Any) -> Self:
        """The inverse of `to_tensors`.

        Args:
            method: The name of the calibrator, or its settings.
            tensors: What was learned.
            classes: The class of each column.

        Raises:
            InputError: They are of another calibrator.
        """
        made = cls(method, classes=classes)
        made.method_, made.classes_ = calibration_named(method), np.asarray(classes)
        made.learned_ = {name: value for name, value in tensors.items() if name != "rows_are_probabilities"}
        made._probabilities_ = bool(tensors["rows_are_probabilities"])
        made.n_features_in_ = len(made.classes_)
        if not made.method_.looks_at_views:
            try:
                made.method_.applied(made.learned_, torch.zeros(1, len(made.classes_), dtype=torch.float64))
            except (KeyError, RuntimeError, InputError) as error:
                raise InputError(
                    f"these tensors are not what {made.method_.name} learns of {len(made.classes_)} classes. Give the "
                    "calibrator and the classes that they are of."
                ) from error
        return made

    # -------------------------------------------------------------------------------------------------------- the input

    def _checked(self, samples: Any, *y: Any, reset: bool) -> Any:
        """Logits or scores as an array, with the classes if there are any."""
        if self.estimator is not None:
            scores = scores_of(self.estimator, samples)
            self.n_features_in_ = getattr(self.estimator, "n_features_in_", scores.shape[1])
            return (scores, np.asarray(y[0]).reshape(-1)) if y else scores
        return validate_data(self, _plain(samples), *y, reset=reset, dtype=[np.float64, np.float32])

    def _scores(self, view: Any) -> Tensor:
        scores = scores_of(self.estimator, view) if self.estimator is not None else np.asarray(_plain(view))
        return self._logits(scores)

    def _logits(self, scores: np.ndarray) -> Tensor:
        logits = torch.tensor(scores)
        return logits.clamp_min(torch.finfo(logits.dtype).tiny).log() if self._probabilities_ else logits

    def _views(self, views: Sequence[Any] | None) -> Sequence[Any]:
        return views if views is not None and self.method_.looks_at_views else ()

    def _classes_of(self, y: np.ndarray, columns: int) -> np.ndarray:
        """The class of each column.

        Raises:
            InputError: There are other classes than columns.
        """
        given = self.classes if self.classes is not None else getattr(self.estimator, "classes_", None)
        if given is not None:
            classes = np.asarray(given)
            if len(np.unique(classes)) < len(classes):
                raise InputError(f"classes are {_few(classes)}, and one is there twice. Name each column once.")
        elif np.issubdtype(y.dtype, np.integer) and y.min() >= 0 and y.max() < columns:
            classes = np.arange(columns)
        else:
            classes = np.unique(y)
            if np.issubdtype(y.dtype, np.number) and classes[0] < 0 and classes.tolist() != [-1, 1]:
                raise InputError(
                    f"a label is {classes[0]:g}. Leave such rows out, or name the class of each column by classes=."
                )
        if len(classes) != columns and columns > 1:
            raise InputError(
                f"there are {len(classes)} classes ({_few(classes)}), but {columns} columns of logits. Give one "
                "column a class; if the labels lack some, name them all by classes=."
            )
        return classes


def calibration_named(method: Any) -> Calibration:
    """The settings of a calibrator.

    Raises:
        InputError: It is no calibrator.
    """
    if isinstance(method, Calibration):
        return method
    known = {entry.name: entry for entry in METHODS.values() if entry.verb == "calibrate"}
    if not isinstance(method, str) or method not in known:
        raise unknown("calibrator", str(method), known)
    found: Calibration = known[method].load()()
    return found


def scores_of(estimator: Any, samples: Any) -> Float[np.ndarray, "sample classes"]:
    """Scores of a fitted classifier as logits: decision_function, predict_log_proba, or the logarithm of predict_proba.

    A single column of scores is that of the second of two classes.

    Raises:
        InputError: The classifier has none of the three.
    """
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(samples), dtype=np.float64)
        return np.stack([np.zeros_like(scores), scores], axis=1) if scores.ndim == 1 else scores
    if hasattr(estimator, "predict_log_proba"):
        with np.errstate(divide="ignore"):
            scores = np.asarray(estimator.predict_log_proba(samples), dtype=np.float64)
        return np.maximum(scores, np.log(np.finfo(float).tiny))
    if hasattr(estimator, "predict_proba"):
        return np.log(np.maximum(np.asarray(estimator.predict_proba(samples)), np.finfo(float).tiny))
    raise InputError(
        f"estimator is a {type(estimator).__name__}, without decision_function, predict_log_proba or predict_proba."
    )


def _plain(values: Any) -> Any:
    """Tensors as arrays. NumPy has no bfloat16."""
    if not isinstance(values, Tensor):
        return values
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def _places(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The column of each label.

    Raises:
        InputError: A label is none of the classes.
    """
    places = {value: place for place, value in enumerate(classes.tolist())}
    for label in np.unique(y).tolist():
        if label not in places:
            raise InputError(f"a label is {label!r}, which is none of the {len(classes)} classes ({_few(classes)}).")
    return np.array([places[label] for label in y.tolist()], dtype=np.int64)


def _few(classes: np.ndarray) -> str:
    names = [str(name) for name in classes[:4].tolist()]
    return ", ".join(names) + (", …" if len(classes) > len(names) else "")
