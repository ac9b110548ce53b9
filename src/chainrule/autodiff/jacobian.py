"""Jacobians and Hessians as linear operators on the recorded graph; dense when asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.context import CONTEXT
from ..core.types import ArrayType, Shape, size_of
from ..errors import GradientError, ShapeError
from ..ops.dispatch import astype, to_tensor
from ..ops.shaping import moveaxis, reshape, stack, unstack
from ..ops.tensor import ArrayLike, Tensor, constant
from .batching import vmap
from .containers import flatten, select, unflatten
from .reverse import Function, Linearized, grad

DENSE_LIMIT = 8 * 2**30


class Jacobian:
    """∂output/∂input at a point: an exact linear map from the input's shape to the output's.

    `shape` is (m, n) with both sides flat. `J @ v` pushes a tangent, `u @ J` pulls an upstream
    gradient; v and u have the input's (output's) shape, or are flat. `todense()` is the array of
    all partial derivatives.

    >>> import chainrule as cr
    >>> J = cr.jacobian(lambda x: cr.stack([x[0] * x[1], x[0]]))(cr.asarray([2.0, 3.0]))
    >>> J.shape
    (2, 2)
    >>> J.todense()
    asarray([[3., 2.],
             [1., 0.]])
    """

    __array_ufunc__ = None  # NumPy arrays on the left of @ leave the product to us

    def __init__(self, line: Linearized, output: int, input: int) -> None:
        self._line, self._output, self._input = line, output, input
        self._out: ArrayType = line.outputs[output].type
        self._in: ArrayType = line.inputs[input].type
        self._dense: Tensor | None = None

    @property
    def out_shape(self) -> Shape:
        """The shape of the output."""
        return self._out.shape

    @property
    def in_shape(self) -> Shape:
        """The shape of the input."""
        return self._in.shape

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): the sizes of output and input."""
        return self._out.size, self._in.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the entries."""
        return self._out.dtype

    ndim = 2

    @property
    def structure(self) -> str:
        """The structure in words; here the only form is dense."""
        return "dense"

    def __matmul__(self, vector: ArrayLike) -> Tensor:
        """J @ v for v of the input's shape or flat (or a matrix of flat columns)."""
        result = self._through(self._push, to_tensor(vector), self.in_shape, self.out_shape, 1)
        if result is None:
            raise ShapeError(
                f"J @ v takes v of shape {self.in_shape}, or flat ({self.shape[1]},) or "
                f"({self.shape[1]}, k); received {np.shape(vector)}"
            )
        return result

    def __rmatmul__(self, vector: ArrayLike) -> Tensor:
        """u @ J for u of the output's shape or flat (or a matrix of flat rows)."""
        result = self._through(self._pull, to_tensor(vector), self.out_shape, self.in_shape, 0)
        if result is None:
            raise ShapeError(
                f"u @ J takes u of shape {self.out_shape}, or flat ({self.shape[0]},) or "
                f"(k, {self.shape[0]}); received {np.shape(vector)}"
            )
        return result

    def _through(self, one_way: Callable[[Tensor], Tensor], v: Tensor, source: Shape,
                 target: Shape, axis: int) -> Tensor | None:  # fmt: skip
        """one_way(v) for v in its shape or flat, or for each flat slice of v along `axis`."""
        if v.shape == source:
            return one_way(v)
        if v.shape == (size_of(source),):
            return reshape(one_way(reshape(v, source)), (size_of(target),))
        if v.ndim != 2 or v.shape[1 - axis] != size_of(source):
            return None
        m = size_of(target)
        slices = [reshape(one_way(reshape(u, source)), (m,)) for u in unstack(v, axis=axis)]
        if not slices:
            return constant(np.zeros((m, 0) if axis else (0, m), self.dtype))
        return stack(slices, axis=axis)

    def _pull(self, u: Tensor) -> Tensor:
        ups = [constant(np.zeros(o.shape, o.dtype)) for o in self._line.outputs]
        ups[self._output] = u if u.dtype == self._out.dtype else astype(u, self._out.dtype)
        return self._line.pull(ups)[self._input]

    def _push(self, v: Tensor) -> Tensor:
        tangents = [constant(np.zeros(x.shape, x.dtype)) for x in self._line.inputs]
        tangents[self._input] = v if v.dtype == self._in.dtype else astype(v, self._in.dtype)
        return self._line.push(tangents)[self._output]

    def todense(self) -> Tensor:
        """All partial derivatives, of shape output + input; itself differentiable."""
        if self._dense is not None:
            return self._dense
        dense = self._materialize()
        now = CONTEXT.get()
        if now.recording and now.trace is None:  # else it is good for this context only
            self._dense = dense
        return dense

    def _materialize(self) -> Tensor:
        m, n = self.shape
        nbytes = m * n * self.dtype.itemsize
        if nbytes > DENSE_LIMIT:
            raise ShapeError(
                f"the dense Jacobian of shape ({m}, {n}) takes {nbytes / 1e9:,.0f} "
                "GB; use J @ v and u @ J, which need none of it"
            )
        shape = self.out_shape + self.in_shape
        if not m * n:
            return constant(np.zeros(shape, self.dtype))
        by_rows = m <= n
        side = self._out if by_rows else self._in
        one_way = self._pull if by_rows else self._push
        units = np.eye(side.size, dtype=side.dtype).reshape(side.size, *side.shape)
        found = vmap(one_way)(constant(units))
        if by_rows:
            return reshape(found, shape)
        return reshape(moveaxis(reshape(found, (n, m)), 0, 1), shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        dense = np.asarray(self.todense()).reshape(self.shape)
        return dense if dtype is None else dense.astype(dtype)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"Jacobian({m}×{n}, {self.structure}, from {self._in} to {self._out})"


def jacobian(function: Function, wrt: Any = 0) -> Callable[..., Any]:
    """The Jacobian of a function by one argument, as a function that returns a `Jacobian`.

    Containers of outputs or arguments give containers of Jacobians: outputs outside, arguments
    inside. `wrt` names the argument: its position, its name, or a tuple of them.

    >>> import chainrule as cr
    >>> A = cr.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> cr.jacobian(lambda x: A @ x)(cr.asarray([1.0, 1.0])).todense()
    asarray([[1., 2.],
             [3., 4.],
             [5., 6.]])
    """

    def at(*args: Any, **kwargs: Any) -> Any:
        chosen, call = select(function, wrt, args, kwargs)
        leaves, structure = flatten(chosen, what="the argument to differentiate by")
        line = Linearized(lambda xs: call(unflatten(structure, xs)), leaves)
        for o in line.outputs:
            if o.dtype.kind != "f":
                raise GradientError(f"the Jacobian of a result of dtype {o.dtype} is not defined")
        rows = [
            unflatten(structure, [Jacobian(line, i, j) for j in range(len(line.inputs))])
            for i in range(len(line.outputs))
        ]
        return unflatten(line.structure, rows)

    return at


def hessian(function: Function, wrt: Any = 0) -> Callable[..., Any]:
    """The Hessian of a scalar function: the Jacobian of its gradient, as a `Jacobian`.

    >>> import chainrule as cr
    >>> cr.hessian(lambda x: x[0] ** 2 * x[1])(cr.asarray([1.0, 2.0])).todense()
    asarray([[4., 2.],
             [2., 0.]])
    """
    return jacobian(grad(function, wrt), wrt)


__all__ = ["Jacobian", "hessian", "jacobian"]
