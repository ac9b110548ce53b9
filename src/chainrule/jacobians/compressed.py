"""Sparse Jacobians in few compiled passes: prepared once for a pattern, evaluated at any point."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..autodiff.batching import vmap
from ..autodiff.reverse import Linearized
from ..compiler.compile import compile
from ..core.types import FLOATS, ArrayType
from ..errors import DTypeError, GradientError, ShapeError, UnsupportedError
from ..ops.dispatch import astype
from ..ops.indexing import take
from ..ops.shaping import concat, reshape
from ..ops.tensor import ArrayLike, Tensor, as_array
from .coloring import Array, Mode, Pattern, color

LIMIT = 2**28
"""Bytes of results of passes that are made at once; more are made in batches."""


class Batch(NamedTuple):
    """Passes that are made at once, and the places whose values they hold.

    colors  the first color and the one after the last
    peeled  the same of the peeled rows or columns
    places  which places of the pattern these passes find
    slots   where in their results, flat; with zeros at the end so that all batches have as many
    """

    colors: tuple[int, int]
    peeled: tuple[int, int]
    places: Array
    slots: Array


class Compressed:
    """The sparse Jacobian of a function of one array, whose pattern is known, at any point.

    `function` takes an array of `type` with n entries and returns one of m entries, and `pattern`,
    of shape (m, n), has all places where ∂output/∂input can be other than 0: a place that is
    missing is added to others, silently. The pattern is coloured, and each colour is one push (or
    pull) along the sum of its unit vectors; all are one compiled function, made at the first call.

    >>> import numpy as np
    >>> import chainrule as cr
    >>> i = np.arange(4)
    >>> bidiagonal = Pattern.of(np.r_[i, i[1:]], np.r_[i, i[:-1]], (4, 4))
    >>> type = ArrayType((4,), np.dtype("float32"))
    >>> J = Compressed(lambda x: cr.concat([x[:1], x[1:] * x[:-1]]), type, bidiagonal)
    >>> J.coloring.passes, J(np.array([1, 2, 3, 4], np.float32))
    (2, array([1., 2., 1., 3., 2., 4., 3.], dtype=float32))

    Sources: Curtis, Powell, Reid 1974; Coleman, Moré 1983.
    """

    def __init__(self, function: Callable[[Any], Any], type: ArrayType, pattern: Pattern,
                 mode: Mode | None = None) -> None:  # fmt: skip
        if type.dtype.char not in FLOATS:
            raise DTypeError(f"cannot differentiate by {type.dtype} values: float32 or float64")
        if type.size != pattern.shape[1]:
            raise ShapeError(f"a pattern of shape {pattern.shape} does not fit an input {type}")
        self.function, self.type, self.pattern = function, type, pattern
        self.coloring = color(pattern, mode)
        self._batches = self._plan()
        if len(self._batches) == 1:
            only = self._batches[0]
            seeds = self._seeds(only)
            self._entries = compile(lambda x: self._found(x, only.slots, *seeds))
        else:
            self._entries = compile(self._found)

    def __call__(self, x: ArrayLike) -> Array:
        """The values at x in the order of the pattern, row by row; zeros among them."""
        array = as_array(x)
        if array.dtype != self.type.dtype:
            raise DTypeError(f"prepared for {self.type}, received {array.dtype}: convert x")
        if array.shape != self.type.shape:
            raise ShapeError(
                f"prepared for {self.type}, received shape {array.shape}: prepare it anew"
            )
        if len(self._batches) == 1:
            return as_array(self._entries(array))
        found = [
            as_array(self._entries(array, b.slots, *self._seeds(b)))[: b.places.size]
            for b in self._batches
        ]
        values = np.zeros(self.pattern.nnz, found[0].dtype if found else self.type.dtype)
        for batch, own in zip(self._batches, found, strict=True):
            values[batch.places] = own
        return values

    def csr(self, x: ArrayLike) -> Any:
        """The Jacobian at x as a scipy.sparse.csr_array of shape (m, n)."""
        try:
            sparse: Any = import_module("scipy.sparse")
        except ImportError as error:
            raise UnsupportedError(
                "a sparse array needs SciPy, which is not installed: pip install scipy"
            ) from error
        indices, indptr = self.pattern.indices.copy(), self.pattern.indptr.copy()
        return sparse.csr_array((self(x), indices, indptr), shape=self.pattern.shape)

    def __repr__(self) -> str:
        (m, n), c = self.pattern.shape, self.coloring
        other = "pull" if c.mode == "push" else "push"
        passes = f"{c.count} {c.mode}" + (f", {c.peeled.size} {other}" if c.peeled.size else "")
        return f"Compressed({m}×{n}, {self.pattern.nnz} nonzeros, passes: {passes})"

    # -- passes -------------------------------------------------------------------------------

    def _plan(self) -> list[Batch]:
        """The passes in batches of about LIMIT bytes."""
        c, pattern = self.coloring, self.pattern
        m, n = pattern.shape if c.mode == "push" else pattern.shape[::-1]
        ends = np.cumsum(np.repeat([m, n], [c.count, c.peeled.size]))
        starts = np.concatenate(([0], ends))
        number = starts[:-1] * self.type.dtype.itemsize // LIMIT
        cuts = [*np.flatnonzero(np.diff(number, prepend=-1)).tolist(), c.passes]
        slots = c.slots(pattern)
        batches = []
        for first, last in pairwise(cuts):
            places = np.flatnonzero((slots >= starts[first]) & (slots < starts[last]))
            colors = min(first, c.count), min(last, c.count)
            peeled = max(first - c.count, 0), max(last - c.count, 0)
            batches.append(Batch(colors, peeled, places, slots[places] - starts[first]))
        most = max((b.slots.size for b in batches), default=0)
        return [b._replace(slots=np.pad(b.slots, (0, most - b.slots.size))) for b in batches]

    def _seeds(self, batch: Batch) -> tuple[Array, Array]:
        """The sums of unit vectors for the colours, and the unit vectors for the peeled."""
        c, dtype = self.coloring, self.type.dtype
        colored = c.colors == np.arange(*batch.colors)[:, None]
        (m, n), own = self.pattern.shape, c.peeled[slice(*batch.peeled)]
        peeled = np.arange(m if c.mode == "push" else n) == own[:, None]
        return colored.astype(dtype), peeled.astype(dtype)

    def _found(self, x: Tensor, slots: ArrayLike, colored: ArrayLike, peeled: ArrayLike) -> Tensor:
        """The entries at `slots` of what the passes along these seeds give."""
        line = Linearized(lambda xs: self.function(xs[0]), [x])
        types = [o.type for o in line.outputs]
        if [t.size for t in types] != [self.pattern.shape[0]]:
            received = ", ".join(map(str, types)) or "none"
            raise ShapeError(
                f"a pattern of shape {self.pattern.shape} is for one output of "
                f"{self.pattern.shape[0]} entries, received {received}"
            )
        (out,) = types
        if out.dtype.char not in FLOATS:
            raise GradientError(f"the Jacobian of a result of dtype {out.dtype} is not defined")

        def push(seed: Tensor) -> Tensor:
            return line.push([reshape(seed, self.type.shape)])[0]

        def pull(seed: Tensor) -> Tensor:
            return line.pull([astype(reshape(seed, out.shape), out.dtype)])[0]

        ways = (push, pull) if self.coloring.mode == "push" else (pull, push)
        found = [
            reshape(vmap(way)(seeds), (-1,))
            for way, seeds in zip(ways, (colored, peeled), strict=True)
            if np.shape(seeds)[0]
        ]
        return take(concat(found), slots)


__all__ = ["Compressed"]
