"""Networks as scikit-learn estimators: `ChainClassifier` and `ChainRegressor`."""

from .interop.sklearn import ChainClassifier, ChainRegressor

__all__ = ["ChainClassifier", "ChainRegressor"]
