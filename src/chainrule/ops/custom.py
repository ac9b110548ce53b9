"""Users' own gates.

`Gate` is written in plain NumPy, as the course does: `forward(self, x, y)` remembers what it needs,
`backward(self, upstream)` returns a gradient for each input. `TensorGate` is written in chainrule's
operations and can be differentiated to any order, in both modes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.context import context
from ..core.local import Local
from ..core.primitive import Array, Params, Primitive
from ..core.types import CHARS, ArrayType, TupleType
from ..errors import GateError, GradientError
from .dispatch import bind, to_tensor
from .shaping import stack
from .tensor import ArrayLike, Tensor, constant

__all__ = [
    "Gate", "TensorGate",
]  # fmt: skip


class Gate:
    """A gate of your own in plain NumPy.

    `forward(self, *arrays)` returns an array (or a tuple of arrays) and may keep what it needs on
    self; `backward(self, upstream)` receives the gradient of the loss by the output (one for each
    output) and returns the gradient by each input: an array of its shape, or None for nothing.
    Every use of the gate works on a copy of the object, so what it keeps is its own.

    >>> import chainrule as cr
    >>> class Multiply(cr.Gate):
    ...     def forward(self, x, y):
    ...         self.x, self.y = x, y
    ...         return x * y
    ...     def backward(self, upstream):
    ...         return [upstream * self.y, upstream * self.x]
    >>> x, y = cr.tensor(3.0), cr.tensor(4.0)
    >>> Multiply()(x, y).backward()
    >>> float(x.grad), float(y.grad)
    (4.0, 3.0)
    """

    def forward(self, *inputs: Array) -> Any:
        """The output array (or a tuple of them) from the input arrays."""
        raise GateError(f"{type(self).__name__} must define forward(self, *inputs)")

    def backward(self, *upstream: Array) -> Any:
        """The gradient by each input, given the gradient by each output."""
        raise GateError(f"{type(self).__name__} must define backward(self, upstream)")

    def __call__(self, *inputs: ArrayLike) -> Any:
        return bind(Custom(copy.copy(self)), tuple(to_tensor(x) for x in inputs), {})


class Custom(Primitive):
    """The primitive around one use of a user's gate.

    Each run of `forward` works on a new copy, `gate`, of the object as it was `given`: compiled
    code and loops run it often, and what it keeps is for the backward of the same run.
    """

    joint = True  # one call of backward answers for all inputs

    def __init__(self, given: Any) -> None:
        self.gate = self.given = given
        self.name = type(given).__name__

    def forward(self, *inputs: Array) -> Any:
        self.gate = copy.copy(self.given)
        out = self.gate.forward(*map(read_only, inputs))
        if isinstance(out, (tuple, list)):
            return tuple(self._array(o) for o in out)
        return self._array(out)

    def _array(self, out: Any) -> Array:
        """A copy of what forward returned: the gate may keep and change its own array."""
        if isinstance(out, Tensor):
            out = out._concrete(f"{self.name}.forward")
        if not isinstance(out, (np.ndarray, np.generic, float, int)):
            raise GateError(
                f"{self.name}.forward must return an array (or a tuple of arrays), "
                f"it returned {type(out).__name__}"
            )
        array = np.array(out)
        if array.dtype.char not in CHARS:
            raise GateError(
                f"{self.name}.forward must return real numbers of a dtype chainrule has, "
                f"it returned {array.dtype}"
            )
        return array

    def type(self, *types: ArrayType, **params: Any) -> ArrayType | TupleType:
        # what a gate of plain NumPy makes is known only by running it
        zeros = [np.zeros(t.shape, t.dtype) for t in types]
        with np.errstate(all="ignore"):
            out = type(self)(self.given).forward(*zeros)
        if isinstance(out, tuple):
            return TupleType(tuple(ArrayType(o.shape, o.dtype) for o in out))
        return ArrayType(out.shape, out.dtype)

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return Opaque(self, i, out, inputs)

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool] = ()) -> Sequence[Any]:  # fmt: skip
        ups = filled(upstream, out)
        if xp.apply is bind:
            return bind(Derived(self), (*ups, *inputs), {"count": len(ups), "index": None})  # type: ignore[no-any-return]
        return [
            None if g is None else np.asarray(g, x.dtype)
            for g, x in zip(self.gradients(ups, inputs), inputs, strict=True)
        ]

    def only_first(self) -> str:
        return (
            f"{self.name} is a gate in plain NumPy, which has only a first derivative; "
            "write it as a cr.TensorGate, in chainrule's operations, for higher ones"
        )

    def gradients(self, upstream: Any, inputs: Sequence[Any]) -> list[Any]:
        """backward(upstream), checked: one gradient of the right shape for each input."""
        parts = upstream if isinstance(upstream, (tuple, list)) else (upstream,)
        return self.checked(self.gate.backward(*(read_only(np.asarray(p)) for p in parts)), inputs)

    def checked(self, result: Any, inputs: Sequence[Any]) -> list[Any]:
        if result is None:
            raise GateError(
                f"{self.name}.backward returned None: it must return a gradient for each input "
                "(is the return missing? [None] says that an input has no gradient)"
            )
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        if len(results) != len(inputs):
            raise GateError(
                f"{self.name}.backward returned {len(results)} gradients for {len(inputs)} inputs: "
                "it must return one for each input (None for no gradient)"
            )
        for k, (g, x) in enumerate(zip(results, inputs, strict=True)):
            if g is None:
                continue
            if not _is_real(g):
                raise GateError(
                    f"{self.name}.backward returned {g!r:.60} for input {k}: a gradient is an "
                    "array of real numbers"
                )
            if np.shape(g) != x.shape:
                raise GateError(
                    f"{self.name}.backward returned a gradient of shape {np.shape(g)} for input "
                    f"{k} of shape {x.shape}: a gradient has the shape of its input"
                )
        return results

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        rows = [
            self.given(*(x[k] if b else x for x, b in zip(inputs, batched, strict=True)))
            for k in range(n)
        ]
        if rows and isinstance(rows[0], tuple):
            return tuple(stack(parts) for parts in zip(*rows, strict=True))
        return stack(rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.given,), {"gate": self.gate})


def filled(upstream: Any, out: Any) -> tuple[Any, ...]:
    """The upstream gradient of each output: 0 where nothing came back."""
    if not isinstance(upstream, (tuple, list)):
        return (upstream,)
    return tuple(
        np.zeros(o.shape, o.dtype) if u is None else u for u, o in zip(upstream, out, strict=True)
    )


def read_only(x: Array) -> Array:
    """A view that users' code cannot write through."""
    view = np.asarray(x).view()
    view.flags.writeable = False
    return view


def _is_real(g: Any) -> bool:
    """Whether this is an array of real numbers, or can be made one."""
    try:
        return (g if hasattr(g, "dtype") else np.asarray(g)).dtype.kind in "fiub"
    except ValueError:
        return False


class Opaque(Local):
    """L of a user's gate, known by what its backward does."""

    __slots__ = ("index", "inputs", "out", "primitive")

    def __init__(self, primitive: Any, index: int, out: Any, inputs: Sequence[Any]) -> None:
        self.primitive, self.index, self.out, self.inputs = primitive, index, out, inputs

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        primitive: Custom = self.primitive
        return primitive.pull_all(xp, upstream, self.out, self.inputs, {})[self.index]

    def push(self, xp: Any, tangent: Any, /) -> Any:
        several = isinstance(self.out, tuple)
        outs = self.out if several else (self.out,)
        if isinstance(self.primitive, CustomTensor):
            moved = self.primitive.push(self.index, tangent, self.out, self.inputs)
            moved = moved if several else (moved,)
            if xp.apply is not bind:
                moved = tuple(np.asarray(m._value) for m in moved)
        else:
            params = {"count": 1 + len(outs), "index": self.index}
            moved = xp.apply(Derived(self.primitive), (tangent, *outs, *self.inputs), params)
        return moved if several else moved[0]


class Derived(Primitive):
    """A derivative of a gate in plain NumPy, which has no derivative itself.

    Of (upstreams, inputs) the gradient by each input; with `index`, of (tangent, outputs, inputs)
    how each output moves with that input. `count` says how many come before the inputs.
    """

    joint = True

    def __init__(self, custom: Custom) -> None:
        self.custom, self.name = custom, f"{custom.name}.backward"

    def forward(self, *arrays: Array, count: int, index: int | None) -> Any:
        before, inputs = arrays[:count], arrays[count:]
        custom = type(self.custom)(self.custom.given)
        custom.forward(*inputs)  # what backward needs is remembered by forward
        if index is not None:
            return push_by_pulling(custom, index, before[0], before[1:], inputs)
        return tuple(
            np.zeros_like(x) if g is None else np.asarray(g, x.dtype)
            for g, x in zip(custom.gradients(before, inputs), inputs, strict=True)
        )

    def type(self, *types: ArrayType, **params: Any) -> TupleType:
        count = params["count"]
        return TupleType(types[count:] if params["index"] is None else types[1:count])

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        raise GradientError(self.custom.only_first())

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool] = ()) -> Sequence[Any]:  # fmt: skip
        raise GradientError(self.custom.only_first())

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        rows = []
        for k in range(n):
            row = [x[k] if b else x for x, b in zip(inputs, batched, strict=True)]
            rows.append(bind(self, tuple(row), params))
        return tuple(stack(parts) for parts in zip(*rows, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Derived, (self.custom,))


def push_by_pulling(
    custom: Custom, index: int, tangent: Array, outs: Sequence[Array], inputs: Sequence[Array]
) -> tuple[Array, ...]:
    """L × tangent entry by entry: pull each unit upstream, multiply with the tangent."""
    results = []
    for k, out in enumerate(outs):
        moved = np.zeros(out.shape, tangent.dtype)
        for place in np.ndindex(out.shape):
            units = [np.zeros_like(o) for o in outs]
            units[k][place] = 1
            gradient = custom.gradients(units, inputs)[index]
            if gradient is not None:
                moved[place] = (np.asarray(gradient) * tangent).sum()
        results.append(moved)
    return tuple(results)


class TensorGate(Gate):
    """A gate of your own in chainrule's operations, which can be differentiated to any order.

    `forward(self, *inputs)` returns the output. `backward(self, upstream, out, *inputs)` returns
    the gradient by each input; it must be linear in `upstream` and keep nothing on self.

    >>> import chainrule as cr
    >>> class Cube(cr.TensorGate):
    ...     def forward(self, x):
    ...         return x * x * x
    ...     def backward(self, upstream, out, x):
    ...         return [upstream * 3 * x * x]
    >>> second = cr.grad(cr.grad(Cube()))
    >>> float(second(2.0))
    12.0
    """

    def __call__(self, *inputs: ArrayLike) -> Any:
        return bind(CustomTensor(copy.copy(self)), tuple(to_tensor(x) for x in inputs), {})


class CustomTensor(Custom):
    """The primitive around a gate written in chainrule's operations."""

    def forward(self, *inputs: Array) -> Any:
        self.gate = copy.copy(self.given)
        with context(trace=None, recording=False):
            out = self.gate.forward(*(constant(np.asarray(x)) for x in inputs))
        if isinstance(out, (tuple, list)):
            return tuple(self._array(o) for o in out)
        return self._array(out)

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool] = ()) -> Sequence[Any]:  # fmt: skip
        tensors = [x if isinstance(x, Tensor) else constant(np.asarray(x)) for x in inputs]
        outs = out if isinstance(out, tuple) else (out,)
        ups: Sequence[Any] = filled(upstream, out)
        bare = not any(isinstance(x, Tensor) for x in (*ups, *inputs))
        ups = [to_tensor(u) for u in ups]
        whole: Any = tuple(to_tensor(o) for o in outs)
        if not isinstance(out, tuple):
            whole = whole[0]

        def call() -> list[Any]:
            return self.checked(self.gate.backward(*ups, whole, *tensors), inputs)

        if not bare:
            return call()
        with context(recording=False, trace=None):
            return [g if g is None else np.asarray(to_tensor(g)._value) for g in call()]

    def push(self, index: int, tangent: Any, out: Any, inputs: Sequence[Any]) -> Any:
        """The transpose of pull: pull is linear in upstream, so it is differentiated by that."""
        from ..autodiff.reverse import linear_transpose

        outs = out if isinstance(out, tuple) else (out,)
        tensors = [to_tensor(x) for x in inputs]

        def pulled(*upstream: Tensor) -> Any:
            whole = upstream if isinstance(out, tuple) else upstream[0]
            return self.pull_all(None, whole, out, tensors, {})[index]

        moved = linear_transpose(pulled, [o.shape for o in outs], [o.dtype for o in outs], tangent)
        return tuple(moved) if isinstance(out, tuple) else moved[0]
