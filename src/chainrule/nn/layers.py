"""Layers: modules with weights, and modules made of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, overload

import numpy as np

from ..core.types import as_dtype, float32
from ..errors import AxisError, DTypeError, ShapeError
from ..ops.contraction import matmul
from ..ops.tensor import ArrayLike, Parameter, Tensor
from . import init
from .module import Module


class Linear(Module):
    """y = x·W + b: x (…, inputs), W (inputs, outputs), b (outputs,), y (…, outputs).

    W is drawn by `initializer(key, shape, dtype)`, by default He normal; b is 0. Without `seed`
    (a whole number or a key) the numbers follow from the shapes and the place in the model: see
    `Module.initialize`. An x whose last axis is not `inputs` is a ShapeError.

    >>> import chainrule as cr
    >>> layer = cr.nn.Linear(3, 2, seed=1)
    >>> layer(cr.ones((5, 3))).shape
    (5, 2)
    >>> layer
    Linear  weight (3, 2), bias (2,)  8
    8 parameters
    """

    def __init__(
        self, inputs: int, outputs: int, bias: bool = True, *, seed: Any = None,
        initializer: init.Initializer = init.he_normal, dtype: Any = float32,
    ) -> None:  # fmt: skip
        sizes = (inputs, outputs)
        if not all(hasattr(n, "__index__") and n >= 1 for n in sizes):
            raise ShapeError(f"Linear takes positive sizes (inputs, outputs), received {sizes}")
        dtype = as_dtype(dtype)
        self.initializer = initializer
        self.weight = Parameter(np.zeros(sizes, dtype))
        self.bias = Parameter(np.zeros(outputs, dtype)) if bias else None
        self.initialize(seed)

    def draw(self, key: Tensor) -> None:
        """W from the initializer, b = 0."""
        self.weight.assign(self.initializer(key, self.weight.shape, self.weight.dtype))
        if self.bias is not None:
            self.bias.assign(np.zeros(self.bias.shape))

    def forward(self, x: ArrayLike) -> Tensor:
        """x·W + b."""
        try:
            y = matmul(x, self.weight)
        except ShapeError:
            inputs, outputs = self.weight.shape
            name = ".".join(self._path) and f"layer {'.'.join(self._path)}, "
            raise ShapeError(
                f"{name}Linear({inputs}, {outputs}) takes arrays with a last axis of {inputs}, "
                f"received shape {np.shape(x)}"
            ) from None
        return y if self.bias is None else y + self.bias


class Sequential(Module):
    """y = f_n(… f_2(f_1(x)) …): modules and functions one after another.

    `training=` is handed on to modules. Indexing gives a layer, slicing a Sequential that shares
    the layers. With `seed` the layers that have no seed of their own are drawn from it and their
    position; without it from seed 0.

    >>> import chainrule as cr
    >>> model = cr.nn.Sequential(cr.nn.Linear(64, 32), cr.nn.relu, cr.nn.Linear(32, 10), seed=3)
    >>> model(cr.ones((5, 64))).shape
    (5, 10)
    >>> model
    Sequential
      0 Linear  weight (64, 32), bias (32,)  2,080
      1 relu
      2 Linear  weight (32, 10), bias (10,)  330
    2,410 parameters
    """

    def __init__(self, *layers: Callable[..., Any], seed: Any = None) -> None:
        for k, layer in enumerate(layers):
            if isinstance(layer, type) or not callable(layer):
                hint = f"; write {layer.__name__}(…)" if isinstance(layer, type) else ""
                raise DTypeError(
                    f"Sequential takes modules and functions; entry {k} is {layer!r:.60}{hint}"
                )
            setattr(self, str(k), layer)
        if seed is not None:
            self.initialize(seed)

    def forward(self, x: Any, training: bool = False) -> Any:
        """Each layer on what the one before it gave."""
        for layer in self:
            x = layer(x, training=training) if isinstance(layer, Module) else layer(x)
        return x

    def __len__(self) -> int:
        return sum(map(str.isdigit, vars(self)))

    def __iter__(self) -> Iterator[Any]:
        return iter([layer for name, layer in vars(self).items() if name.isdigit()])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Any:
        layers = list(self)
        if isinstance(index, slice):
            part = Module.__new__(Sequential)  # not adopted: layers keep names and numbers
            vars(part).update((str(k), layer) for k, layer in enumerate(layers[index]))
            return part
        try:
            return layers[index]
        except IndexError:
            raise AxisError(f"layer {index} is out of range: there are {len(layers)}") from None

    def _parts(self) -> list[tuple[str, Any]]:
        return [(str(k), layer) for k, layer in enumerate(self)]


__all__ = ["Linear", "Sequential"]
