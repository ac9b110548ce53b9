"""Networks as scikit-learn estimators: in its pipelines, grid searches and cross-validation."""

# scikit-learn has no types: its classes are Any to mypy.
# mypy: disable-error-code="import-untyped, import-not-found", allow-subclassing-any
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import nn, optim
from ..core.context import no_grad
from ..data import Dataset, arrays, batches, split
from ..errors import DataError
from ..train import fit, mlp
from ..train.options import LOSSES, OPTIMIZERS, Options

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    raise ImportError(
        "chainrule.sklearn needs scikit-learn 1.6 or later: pip install 'chainrule[sklearn]'"
    ) from error

DTYPES = (np.float64, np.float32)
"""What X may be; anything else becomes the first."""
ROWS_AT_ONCE = 4096
"""So that the memory of a prediction does not grow with all rows times the hidden units."""


class _Network(BaseEstimator):
    """What both estimators share: the settings, standardised inputs, training, outputs."""

    def __init__(
        self, hidden: int | Sequence[int] = (64,), *, activation: str = "relu",
        optimizer: str = "adam", rate: float = 5e-3, batch: int = 32, epochs: int = 100,
        penalty: float = 3e-3, validation_fraction: float = 0.0, patience: int | None = None,
        random_state: Any = None, verbose: bool = False,
    ) -> None:  # fmt: skip
        self.hidden = hidden
        self.activation = activation
        self.optimizer = optimizer
        self.rate = rate
        self.batch = batch
        self.epochs = epochs
        self.penalty = penalty
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def _train(self, X: Any, targets: Any, outputs: int, classes: Sequence[str] | None) -> None:
        """Train a new network on checked X (n, d) and targets, and keep it in `model_`."""
        seed = int(check_random_state(self.random_state).randint(2**31))
        self.scaler_ = _scaler(X, "the columns of X")
        data = arrays(self.scaler_.transform(X), targets, classes=classes)
        given: Any = self.hidden
        hidden = tuple(given) if np.iterable(given) else (given,)
        options = Options(
            hidden=hidden, activation=self.activation, optimizer=self.optimizer,
            rate=self.rate, penalty=self.penalty, batch=self.batch, epochs=self.epochs,
            patience=self.patience, seed=seed,
        ).for_data(data)  # fmt: skip
        train, validation = self._held_out(data, seed)
        model = mlp(X.shape[1], hidden, outputs, activation=self.activation, seed=seed)
        self.history_ = fit(
            model, train, validation, loss=LOSSES[options.loss], seed=seed,
            optimizer=OPTIMIZERS[self.optimizer](model, lr=self.rate), schedule=optim.cosine(),
            epochs=self.epochs, batch=self.batch, penalty=self.penalty, patience=self.patience,
            progress=bool(self.verbose),
        )  # fmt: skip
        self.model_ = model
        if self.history_.interrupted:
            raise KeyboardInterrupt  # fitted so far; a grid search stops as a whole

    def _held_out(self, data: Dataset, seed: int) -> tuple[Dataset, Dataset | None]:
        """The part to train on and, if a fraction is to be held out, the part to watch."""
        share = self.validation_fraction
        if not 0 <= share < 1:
            raise DataError(f"validation_fraction must be at least 0 and below 1, received {share}")
        if share == 0:
            if self.patience is not None:
                raise DataError(
                    f"patience={self.patience} needs examples to watch: set validation_fraction, "
                    "for example to 0.1"
                )
            return data, None
        parts = split(data.targets, (1 - share, share, 0.0), seed=seed)
        if not len(parts.train) or not len(parts.validation):
            raise DataError(
                f"validation_fraction={share} of {len(data)} examples leaves one part empty; "
                "give more examples, or another fraction"
            )
        return data.take(parts.train), data.take(parts.validation)

    def _outputs(self, X: Any) -> NDArray[Any]:
        """The network's outputs (n, outputs) for X (n, d), in the dtype of X."""
        check_is_fitted(self)
        X = self.scaler_.transform(validate_data(self, X, dtype=DTYPES, reset=False))
        with no_grad():
            parts = [
                np.asarray(self.model_(x))
                for x, _ in batches((X, X), ROWS_AT_ONCE, seed=0, shuffle=False)
            ]
        return np.concatenate(parts)


def _scaler(values: NDArray[Any], what: str) -> Any:
    """Mean and standard deviation of each column; constant ones are left at deviation 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaler = StandardScaler().fit(values)
    if not np.isfinite(scaler.scale_).all():
        raise DataError(
            f"{what} hold {float(np.abs(values).max()):g}, whose square is beyond the range of "
            "float64; scale them"
        )
    return scaler


class ChainClassifier(ClassifierMixin, _Network):
    """p = softmax(network(standardised x)): a scikit-learn classifier, trained by cross-entropy.

    The network has layers of `hidden` units (one number, or one for each layer; none at all is a
    linear classifier) with `activation` between them. `optimizer` ("sgd", "momentum", …,
    "adamw") takes batches of `batch` rows for `epochs` epochs; its rate starts at `rate` and
    falls to 0 along a half cosine; `penalty`·Σ W² is added to the loss. With
    `validation_fraction` that share of the rows is held out, class by class, and the weights of
    the best epoch are kept; `patience` stops after so many epochs without a better one.
    `random_state` decides first weights, the order of rows and what is held out.

    Columns are brought to mean 0 and standard deviation 1, so units do not matter. There is no
    `sample_weight`: a row of weight 2 in one batch is not the same step as two rows in two.

    After `fit`: `classes_`, `n_features_in_`, `feature_names_in_` (of a table), `model_` (a
    chainrule Module, on standardised inputs), `scaler_`, `history_` (an epoch a row).
    Ctrl-C in `fit` keeps what is trained so far and raises KeyboardInterrupt.

    Raises ValueError (DataError, RunError) for settings and data that cannot be used.

    >>> from sklearn.datasets import load_iris
    >>> from chainrule.sklearn import ChainClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> classifier = ChainClassifier(random_state=0).fit(x, y)
    >>> bool(classifier.score(x, y) > 0.9)
    True
    >>> classifier.predict_proba(x[:2]).shape
    (2, 3)
    """

    def fit(self, X: Any, y: Any) -> ChainClassifier:
        """Train on X (n, d) in numbers and y (n,), labels of any kind."""
        X, y = validate_data(self, X, y, dtype=DTYPES)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._train(X, labels, len(self.classes_), [str(c) for c in self.classes_])
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """The scores before softmax (n, classes); of two classes z_1 - z_0 (n,)."""
        z = self._outputs(X)
        return z[:, 1] - z[:, 0] if z.shape[1] == 2 else z

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """softmax of the scores: float64 (n, classes), in the order of `classes_`."""
        return np.asarray(nn.softmax(self._outputs(X).astype(np.float64)))

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of the largest score for each row (n,)."""
        best = self._outputs(X).argmax(axis=1)
        return np.asarray(self.classes_[best])


class ChainRegressor(MultiOutputMixin, RegressorMixin, _Network):
    """y = μ + σ·network(standardised x): a scikit-learn regressor, trained by squared error.

    μ and σ are mean and standard deviation of the targets, which may be (n,) or (n, k); settings,
    attributes and errors are those of `ChainClassifier`, without `classes_` and with
    `target_scaler_`.

    >>> import numpy as np
    >>> from chainrule.sklearn import ChainRegressor
    >>> x = np.linspace(-2, 2, 100)[:, None]
    >>> regressor = ChainRegressor(random_state=0).fit(x, 1000 * x**2)
    >>> bool(regressor.score(x, 1000 * x**2) > 0.95)
    True
    """

    def fit(self, X: Any, y: Any) -> ChainRegressor:
        """Train on X (n, d) and y (n,) or (n, k) in numbers."""
        X, y = validate_data(self, X, y, dtype=DTYPES, multi_output=True, y_numeric=True)
        self._shape = y.shape[1:]
        y = y.reshape(len(y), -1)
        self.target_scaler_ = _scaler(y, "the targets")
        self._train(X, self.target_scaler_.transform(y), y.shape[1], None)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The prediction for each row: (n,) or (n, k), as the targets were."""
        outputs = self._outputs(X)
        y = np.asarray(self.target_scaler_.inverse_transform(outputs))
        return y.reshape(len(y), *self._shape)


__all__ = ["ChainClassifier", "ChainRegressor"]
