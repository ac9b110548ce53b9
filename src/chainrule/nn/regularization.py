"""Dropout: entries left out at random while training."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import random, where
from ..ops.dispatch import floats, itself, to_tensor
from ..ops.tensor import ArrayLike, Tensor, variable
from .arguments import check_rate
from .module import Module


def dropout(x: ArrayLike, rate: float, key: ArrayLike) -> Tensor:
    """x/(1 - rate) with probability 1 - rate, else 0, entry by entry; its mean is x.

    `rate` from 0 up to, not 1; `key` from `cr.random.key`: the same key leaves out the same
    entries. Any shape, floats. Srivastava et al. 2014.

    >>> import chainrule as cr
    >>> cr.nn.dropout(cr.ones((6,)), 0.5, cr.random.key(0))
    asarray([2., 0., 2., 0., 2., 0.])
    """
    keep = 1.0 - check_rate("rate", rate)
    (x,) = floats(x)
    if keep == 1.0:
        return itself(x)
    return where(random.bernoulli(key, keep, x.shape), x / keep, 0.0)


class Dropout(Module):
    """`dropout` in training, with other entries at each call; else the identity.

    The random numbers follow from `key` (drawn from the seed and the place in the model) and
    `counter` (the calls in training so far). Both are state: a model that is saved and loaded
    continues the same stream.

    >>> import chainrule as cr
    >>> layer = cr.nn.Dropout(0.5, seed=0)
    >>> layer(cr.ones((3,)))
    asarray([1., 1., 1.])
    >>> [int((layer(cr.ones((100,)), training=True) == 0).sum()) for step in range(3)]
    [47, 45, 48]
    """

    def __init__(self, rate: float, *, seed: Any = None) -> None:
        self.rate = self._checked(check_rate, "rate", rate)
        self.key = variable(np.zeros(2, np.uint32))
        self.counter = variable(np.zeros((), np.uint32))
        self.initialize(seed)

    def draw(self, key: Tensor) -> None:
        """The key itself; no calls so far."""
        self.key.assign(key)
        self.counter.assign(0)

    def forward(self, x: ArrayLike, training: bool = False) -> Tensor:
        """x with entries left out, in training."""
        if not training or not self.rate:
            return itself(to_tensor(x))
        y = dropout(x, self.rate, random.fold_in(self.key, self.counter))
        self.counter.assign(self.counter + 1)
        return y


__all__ = ["Dropout", "dropout"]
