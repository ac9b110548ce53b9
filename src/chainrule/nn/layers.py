"""Layers: dense ones, lookups, and modules made of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any, overload

import numpy as np

from ..core.types import as_dtype, float32
from ..errors import AxisError, DataError, DTypeError, ShapeError
from ..ops import matmul, reshape, take
from ..ops.dispatch import to_tensor
from ..ops.tensor import ArrayLike, Parameter, Tensor
from . import init
from .activations import maxout
from .arguments import check_sizes
from .module import Module

UNIT_NORMAL = partial(init.normal, std=1.0)


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
        check_sizes("Linear", inputs=inputs, outputs=outputs)
        dtype = as_dtype(dtype)
        self.initializer = init.as_initializer(initializer)
        self.weight = Parameter(np.zeros((inputs, outputs), dtype))
        self.bias = Parameter(np.zeros(outputs, dtype)) if bias else None
        self.initialize(seed)

    def draw(self, key: Tensor) -> None:
        """W from the initializer, b = 0."""
        self.weight.assign(self.initializer(key, self.weight.shape, self.weight.dtype))
        if self.bias is not None:
            self.bias.assign(np.zeros(self.bias.shape))

    def forward(self, x: ArrayLike) -> Tensor:
        """x·W + b."""
        inputs, outputs = self.weight.shape
        title = f"{self._where()}Linear({inputs}, {outputs}) takes"
        if isinstance(x, tuple) and any(isinstance(part, (tuple, Tensor)) for part in x):
            raise DTypeError(
                f"{title} one array, received a tuple of {len(x)}: of what a recurrent layer "
                "gives, (outputs, state), take the first"
            )
        x = to_tensor(x)
        try:
            y = matmul(x, self.weight)
        except ShapeError:
            raise ShapeError(
                f"{title} arrays with a last axis of {inputs}, received shape {x.shape}"
            ) from None
        return y if self.bias is None else y + self.bias


class Maxout(Module):
    """y_j = max over k of (x·W + b)_(j·pieces + k): the largest of several linear pieces.

    x (…, inputs), y (…, outputs), with a Linear layer of inputs by outputs·pieces; the gradient
    goes to the largest piece, ties share it. Goodfellow et al. 2013.

    >>> import chainrule as cr
    >>> cr.nn.Maxout(3, 2, pieces=4)(cr.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self, inputs: int, outputs: int, pieces: int = 2, *, seed: Any = None,
        initializer: init.Initializer = init.he_normal, dtype: Any = float32,
    ) -> None:  # fmt: skip
        check_sizes("Maxout", inputs=inputs, outputs=outputs, pieces=pieces)
        self.pieces = pieces
        self.linear = Linear(
            inputs, outputs * pieces, seed=seed, initializer=initializer, dtype=dtype
        )

    def forward(self, x: ArrayLike) -> Tensor:
        """The largest piece of each output."""
        return maxout(self.linear(x), self.pieces)


class Embedding(Module):
    """y = W[indices]: a row of the weight (count, size) for each index.

    Indices are integers from 0 to count - 1, of any shape; y has one more axis, of `size`. Others
    are a DataError that names the first one (when traced, where values are not known, none is).
    The gradient of a row is the sum over the places where it was taken. W is drawn from N(0, 1).

    >>> import chainrule as cr
    >>> cr.nn.Embedding(10, 4)([[1, 2, 3], [9, 9, 0]]).shape
    (2, 3, 4)
    """

    def __init__(
        self, count: int, size: int, *, seed: Any = None,
        initializer: init.Initializer = UNIT_NORMAL, dtype: Any = float32,
    ) -> None:  # fmt: skip
        check_sizes("Embedding", count=count, size=size)
        self.initializer = init.as_initializer(initializer)
        self.weight = Parameter(np.zeros((count, size), as_dtype(dtype)))
        self.initialize(seed)

    def draw(self, key: Tensor) -> None:
        """W from the initializer."""
        self.weight.assign(self.initializer(key, self.weight.shape, self.weight.dtype))

    def forward(self, indices: ArrayLike) -> Tensor:
        """The rows of the weight that the indices name."""
        indices = to_tensor(indices)
        count, size = self.weight.shape
        title = f"{self._where()}Embedding({count}, {size}) takes"
        if indices.dtype.kind not in "iu":
            raise DTypeError(f"{title} integers, received {indices.dtype}")
        if indices._value is not None:
            outside = np.argwhere((indices._value < 0) | (indices._value >= count))
            if len(outside):
                place = tuple(outside[0].tolist())
                raise DataError(
                    f"{title} indices from 0 to {count - 1}, received {indices._value[place]} at "
                    f"{place}"
                )
        return take(self.weight, indices, axis=0)


def flatten(x: ArrayLike) -> Tensor:
    """(batch, …) to (batch, product of the others): what stands between images and Linear layers.

    >>> import chainrule as cr
    >>> cr.nn.flatten(cr.ones((5, 7, 7, 8))).shape
    (5, 392)
    """
    x = to_tensor(x)
    if not x.ndim:
        raise ShapeError("flatten takes arrays (batch, …), received a 0-d array")
    return reshape(x, (x.shape[0], prod(x.shape[1:])))


class Residual(Module):
    """y = x + f(x): a module (or function) around which x is passed on. He et al. 2016.

    f(x) must have the shape of x. `training=` is handed on.

    >>> import chainrule as cr
    >>> block = cr.nn.Residual(cr.nn.Sequential(cr.nn.LayerNorm(4), cr.nn.Linear(4, 4), cr.nn.relu))
    >>> block(cr.ones((5, 4))).shape
    (5, 4)
    """

    def __init__(self, module: Callable[..., Any]) -> None:
        self.module = _layer("Residual", "it", module)

    def forward(self, x: ArrayLike, training: bool = False) -> Tensor:
        """x + f(x)."""
        x = to_tensor(x)
        y = _run(self.module, x, training)
        if y.shape != x.shape:
            raise ShapeError(
                f"{self._where()}Residual takes a module that keeps the shape: {x.shape} became "
                f"{y.shape}"
            )
        return x + y  # type: ignore[no-any-return]

    def _parts(self) -> list[tuple[str, Any]]:
        return [("module", self.module)]


def _layer(name: str, which: str, layer: Any) -> Any:
    """A module or function that stands in another module; classes and others are refused."""
    if isinstance(layer, type) or not callable(layer):
        hint = f"; write {layer.__name__}(…)" if isinstance(layer, type) else ""
        raise DTypeError(f"{name} takes modules and functions; {which} is {layer!r:.60}{hint}")
    return layer


def _run(layer: Callable[..., Any], x: Any, training: bool) -> Any:
    return layer(x, training=training) if isinstance(layer, Module) else layer(x)


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
            setattr(self, str(k), _layer("Sequential", f"entry {k}", layer))
        if seed is not None:
            self.initialize(seed)

    def forward(self, x: Any, training: bool = False) -> Any:
        """Each layer on what the one before it gave."""
        for layer in self:
            x = _run(layer, x, training)
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


__all__ = ["Embedding", "Linear", "Maxout", "Residual", "Sequential", "flatten"]
