"""The exponential moving average of a model's weights, which often does better than the last."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ..core.context import no_grad
from ..core.types import float64
from ..errors import DataError, DTypeError
from ..nn.module import Module
from ..ops import astype
from ..ops.tensor import Tensor, variable
from .optimizer import Number, _number
from .state import restore, snapshot


class Average:
    """a_t = Σ_k β^(t-k)·w_k / Σ_k β^(t-k): the average of the weights after steps k = 1 … t.

    Call `update()` after each step of the optimizer. β is `decay`, 0 ≤ β < 1; the weights of about
    the last 1/(1 - β) steps count. The sum of the factors is divided out (as in Adam), so the
    first values of the weights are not in it; before the first update the average is the weights
    as they are. Parameters only: running statistics stay the model's own. Works in eager and in
    traces; all that lasts is a variable. Polyak & Juditsky 1992.

    >>> import chainrule as cr
    >>> model = cr.nn.Linear(1, 1)
    >>> average = cr.optim.Average(model, decay=0.5)
    >>> for value in (0.0, 3.0):
    ...     model.weight.assign([[value]])
    ...     average.update()
    >>> with average:
    ...     print(model.weight.item())  # (0.5·0 + 3)/(0.5 + 1)
    2.0
    >>> model.weight.item()
    3.0
    """

    decay = Number()

    def __init__(self, module: Module, decay: Any = 0.999) -> None:
        if not isinstance(module, Module):
            raise DTypeError(f"Average takes a Module, received {type(module).__name__}")
        self._numbers = {
            "decay": _number("decay", decay),
            "updates": variable(np.zeros((), float64)),
        }
        self._parameters = dict(module.named_parameters())
        if not self._parameters:
            raise DataError(f"{type(module).__name__} has no parameters to average")
        self._averages = {
            name: variable(np.array(p.numpy())) for name, p in self._parameters.items()
        }
        self._own: list[dict[str, np.ndarray[Any, Any]]] = []  # while in a with-block

    def update(self) -> None:
        """a ← a + (1 - β)/(1 - β^t)·(w - a), at the t-th call."""
        decay, updates = self._numbers["decay"], self._numbers["updates"]
        with no_grad():
            t = updates + 1.0
            updates.assign(t)
            gain = (1.0 - decay) / (1.0 - decay**t)
            for name, a in self._averages.items():
                step = astype(gain, a.dtype, copy=False) * (self._parameters[name] - a)
                a.assign(a + step)

    def copy_to(self, module: Module) -> None:
        """Give the parameters of a module of the same build the averages as values."""
        if not isinstance(module, Module):
            raise DTypeError(f"copy_to takes a Module, received {type(module).__name__}")
        restore(dict(module.named_parameters()), snapshot(self._averages), "Average")

    def __enter__(self) -> Self:
        """Until the end of the with-block the model has the averages as weights.

        After it the model has its own again; what is assigned to them in the block is lost.
        """
        self._own.append(snapshot(self._parameters))
        restore(self._parameters, snapshot(self._averages), "Average")
        return self

    def __exit__(self, *error: object) -> None:
        restore(self._parameters, self._own.pop(), "Average")

    def _variables(self) -> dict[str, Tensor]:
        return {**self._numbers, **{f"{name}.average": a for name, a in self._averages.items()}}

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """What it remembers, as copies by name: "decay", "updates", "0.weight.average", … ."""
        return snapshot(self._variables())

    def load_state(self, state: Any) -> None:
        """Go on from what `state()` gave; nothing changes unless names and shapes all fit."""
        restore(self._variables(), state, "Average")


__all__ = ["Average"]
