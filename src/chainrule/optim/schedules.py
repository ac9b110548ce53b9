"""Schedules: how the rate changes while training goes on.

A schedule is a function from the share of the training that is done, 0 to 1, to a factor of the
rate. `cr.train.fit(…, schedule=…)` asks it before each step; in a loop of one's own the share is
step/steps:

>>> import chainrule as cr
>>> optimizer, steps = cr.optim.SGD(cr.nn.Linear(2, 1), lr=0.5), 4
>>> schedule = cr.optim.linear()
>>> for step in range(steps):
...     optimizer.lr = 0.5 * schedule(step / steps)
...     print(optimizer.lr.item())
0.5
0.375
0.25
0.125

`Plateau` goes by the measured loss instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.types import float64
from ..errors import DataError, DTypeError
from ..nn.arguments import as_number, check_number
from ..ops.tensor import variable
from .state import restore, snapshot

Schedule = Callable[[float], float]
"""From the share of the training that is done, 0 to 1, to a factor of the rate."""


def _share(done: float) -> float:
    share = as_number("the share that is done", done)
    if not 0 <= share <= 1:
        raise DataError(
            f"a schedule takes the share of the training that is done, 0 to 1 (step / steps), "
            f"received {done}"
        )
    return share


def _number(name: str, value: Any, low: float, high: float) -> float:
    return float(check_number(name, as_number(name, value), low, high))


def constant() -> Schedule:
    """1: the rate stays as it is.

    >>> import chainrule as cr
    >>> cr.optim.constant()(0.5)
    1.0
    """
    return lambda done: 1.0


def linear(final: float = 0.0) -> Schedule:
    """1 - (1 - final)·s: from 1 straight to `final` at the end.

    >>> import chainrule as cr
    >>> [cr.optim.linear(final=0.5)(s) for s in (0, 0.5, 1)]
    [1.0, 0.75, 0.5]
    """
    final = _number("final", final, 0, math.inf)
    return lambda done: 1 - (1 - final) * _share(done)


def cosine(final: float = 0.0) -> Schedule:
    """final + (1 - final)·(1 + cos π·s)/2: slow at both ends, half way at s = 1/2.

    Loshchilov & Hutter 2017, "SGDR", without restarts.

    >>> import chainrule as cr
    >>> [round(cr.optim.cosine()(s), 4) for s in (0, 0.25, 0.5, 1)]
    [1.0, 0.8536, 0.5, 0.0]
    """
    final = _number("final", final, 0, math.inf)
    return lambda done: final + (1 - final) * (1 + math.cos(math.pi * _share(done))) / 2


def step(at: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> Schedule:
    """factor^k, k the number of shares in `at` that are reached.

    >>> import chainrule as cr
    >>> [cr.optim.step(at=(0.5, 0.75), factor=0.5)(s) for s in (0.49, 0.5, 1)]
    [1.0, 0.5, 0.25]
    """
    if not hasattr(at, "__iter__"):
        raise DTypeError(f"at must be a list of shares, such as (0.5, 0.75), received {at!r:.60}")
    shares = [_number("each share in at", share, 0, 1) for share in at]
    factor = _number("factor", factor, 0, math.inf)
    return lambda done: factor ** sum(share <= _share(done) for share in shares)


def warmup(share: float, then: Schedule | None = None) -> Schedule:
    """s/share up to `share`, from there on `then` over what is left (1 without it).

    The first step of all, at s = 0, has rate 0. Goyal et al. 2017.

    >>> import chainrule as cr
    >>> schedule = cr.optim.warmup(0.2, then=cr.optim.linear())
    >>> [round(schedule(s), 4) for s in (0, 0.1, 0.2, 0.6, 1)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    share = _number("share", share, 0, 1)
    rest = constant() if then is None else then
    if not callable(rest):
        raise DTypeError(f"then must be a schedule, such as linear(), received {then!r:.60}")

    def schedule(done: float) -> float:
        if _share(done) < share:
            return done / share
        return rest((done - share) / (1 - share) if share < 1 else 0.0)

    return schedule


class Plateau:
    """The factor of the rate by the measured loss: ·factor after `patience` epochs without gain.

    Call it with the loss of each epoch (of the validation set, best); it returns the factor for
    the next. A loss gains if it is below best·(1 - threshold) (for a best below 0, best·(1 +
    threshold)); NaN never does. When more than `patience` epochs in a row bring none, the factor
    is multiplied and counting starts again. The numbers are those of PyTorch's ReduceLROnPlateau
    with its default modes; `state()` and `load_state` are for checkpoints.

    >>> import chainrule as cr
    >>> plateau = cr.optim.Plateau(factor=0.5, patience=1)
    >>> [plateau(loss) for loss in (3.0, 2.0, 2.5, 2.2, 1.0)]
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(self, factor: float = 0.1, patience: int = 10, *, threshold: float = 1e-4) -> None:
        self.factor = _number("factor", factor, 0, 1)
        self.patience = _number("patience", patience, 0, math.inf)
        self.threshold = _number("threshold", threshold, 0, 1)
        self._variables = {
            name: variable(np.array(first, float64))
            for name, first in (("current", 1.0), ("best", math.inf), ("waiting", 0.0))
        }

    @property
    def current(self) -> float:
        """The factor of the rate now."""
        return float(self._variables["current"])

    def __call__(self, loss: Any) -> float:
        """Take in the loss of an epoch; the factor of the rate for the next."""
        now, best, waiting = self._variables.values()
        value, least = as_number("the loss of an epoch", loss), float(best)
        if value < (least - self.threshold * abs(least) if least < math.inf else least):
            best.assign(value)
            waiting.assign(0)
        elif float(waiting) < self.patience:
            waiting.assign(float(waiting) + 1)
        else:
            now.assign(float(now) * self.factor)
            waiting.assign(0)
        return float(now)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """What it remembers, as copies by name: "current", "best", "waiting"."""
        return snapshot(self._variables)

    def load_state(self, state: Any) -> None:
        """Go on from what `state()` gave."""
        restore(self._variables, state, "Plateau")


__all__ = ["Plateau", "constant", "cosine", "linear", "step", "warmup"]
