"""Primitives: one class states a gate's forward rule and its local Jacobian; the rest follows.

The kinds here carry what their members share, so that most members need no formula at all:

- `Elementwise`: one forward function, one partial derivative for each input (`ops.dispatch.gate`
  makes one, and the function users call, in one statement).
- `LinearGate`: an index map (the parameter `map`) is the whole statement; `dual` is its transpose.
- `Reducing`: works along `axes`, which batching shifts.
- `Primitive` itself, for gates that are none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, ClassVar

import numpy as np

from .local import IDENTITY, ZERO, Diagonal, Linear, Local
from .types import BOOLS, FLOATS, INTEGERS, ArrayType, TupleType, to_float

Array = np.ndarray[Any, Any]
Params = dict[str, Any]


class Primitive:
    """A gate. Subclasses give `name`, `forward`, `type` and `local`; one instance serves all uses.

    `inputs` are positional; `params` are static data by keyword (never arrays).
    """

    name: str = ""
    differentiable: ClassVar[bool] = True
    analytic: ClassVar[bool] = False
    """Whether forward, on complex numbers, is the analytic continuation (for complex steps)."""
    joint: ClassVar[bool] = False
    """Whether `pull_all` and `push_all` answer for all inputs at once (always so for a gate with
    several outputs)."""
    dual: Primitive

    def forward(self, *inputs: Any, **params: Any) -> Any:
        """The values of the output from the values of the inputs, in NumPy."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, *inputs, …)")

    def type(self, *types: ArrayType, **params: Any) -> ArrayType | TupleType:
        """The type of the output from the types of the inputs, without values."""
        raise NotImplementedError(f"{type(self).__name__} must define type(self, *types, …)")

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        """The local Jacobian for input i. Never branches on values; computes on `xp`."""
        if not self.differentiable:
            return ZERO
        raise NotImplementedError(
            f"{type(self).__name__} must define local(self, i, xp, out, inputs, params): "
            "the partial derivatives of the output by input i, as one of the forms in core/local.py"
        )

    def pull_all(self, xp: Any, upstream: Any, out: Any, inputs: Sequence[Any], params: Params,
                 wanted: Sequence[bool]) -> Sequence[Any]:  # fmt: skip
        """upstream × local for every wanted input (`joint` primitives only).

        With several outputs `upstream` is a list, None where nothing came back.
        """
        raise NotImplementedError(f"{type(self).__name__} must define pull_all(…)")

    def push_all(self, xp: Any, tangents: Sequence[Any], out: Any, inputs: Sequence[Any],
                 params: Params) -> Any:  # fmt: skip
        """Σ local × tangent over the inputs (`joint` primitives only).

        `tangents` has None for an input that does not move; so may the result, an output each.
        """
        total: Any = None
        for i, tangent in enumerate(tangents):
            if tangent is not None:
                moved = self.local(i, xp, out, inputs, params).push(xp, tangent)
                if total is not None and isinstance(moved, tuple):
                    moved = tuple(a + b for a, b in zip(total, moved, strict=True))
                elif total is not None:
                    moved = total + moved
                total = moved
        return total

    def replay(self, xp: Any, inputs: Sequence[Any], params: Params) -> Any:
        """The gate once more, in the present context."""
        return xp.apply(self, tuple(inputs), params)

    def bodies(self, params: Params) -> Sequence[Any]:
        """The graphs inside the gate (of a loop, a branch)."""
        return ()

    def needed(self, params: Params, used: frozenset[int]) -> Params:
        """The parameters once it is known which of several outputs are used."""
        return params

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        """The gate on inputs some of which have one more leading axis of n; so has the result.

        As it stands, for gates to which leading axes make no difference.
        """
        return xp.apply(self, tuple(inputs), params)

    def flops(self, out: ArrayType, types: Sequence[ArrayType], params: Params) -> int:
        """Arithmetic operations of one forward call."""
        return 0

    def describe(self, params: Params) -> str:
        """The parameters as printed in a graph."""
        return ", ".join(f"{k}={v}" for k, v in params.items())

    def __repr__(self) -> str:
        return self.name


class Elementwise(Primitive):
    """out[s] = f(x[s], y[s], …): all inputs have the shape of the output, L is diagonal."""

    forward: Callable[..., Any]
    partials: ClassVar[tuple[Any, ...]] = ()
    """For each input ∂out/∂input, entry by entry: a function (xp, out, *inputs), or a form of
    local Jacobian where that depends on nothing."""
    takes: ClassVar[str] = BOOLS + INTEGERS + FLOATS
    """The dtypes it computes in, by NumPy's letters."""
    result: ClassVar[np.dtype[Any] | None] = None
    """The dtype of the result where that is not the dtype of the inputs."""
    casts: ClassVar[bool] = True
    """Whether operands are brought to a common dtype first."""
    selectors: ClassVar[int] = 0
    """How many of its first operands are conditions, of dtype bool whatever the others are."""

    def computes(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype it computes in for operands of this common dtype."""
        return dtype

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return ArrayType(types[-1].shape, self.result or types[-1].dtype)

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        form: Any = self.partials[i]
        if form.__class__ is FunctionType:
            form = Diagonal(form(xp, out, *inputs))
        return form  # type: ignore[no-any-return]

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        if len(inputs) == 1:
            return xp.apply(self, tuple(inputs), params)
        return xp.elementwise(self, *inputs)

    def flops(self, out: ArrayType, types: Sequence[ArrayType], params: Params) -> int:
        return out.size


class Numeric(Elementwise):
    """An elementwise gate on numbers: bools are refused."""

    takes = INTEGERS + FLOATS


class Floating(Elementwise):
    """An elementwise gate on floats; integers are cast to float first."""

    takes = FLOATS

    def computes(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return to_float(dtype)


class LinearGate(Primitive):
    """y = L x where L is the parameter `map`. Further inputs are the integer tables of the map."""

    analytic = True

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return ArrayType(params["map"].out_shape, types[0].dtype)

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        return Linear(self, params["map"], tuple(inputs[1:])) if i == 0 else ZERO

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        return xp.apply(self, tuple(inputs), {"map": params["map"].batched(n)})

    def flops(self, out: ArrayType, types: Sequence[ArrayType], params: Params) -> int:
        return int(params["map"].additions)

    def describe(self, params: Params) -> str:
        return str(params["map"])


class Reducing(Primitive):
    """Works along the parameter `axes`, counted from the front."""

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        axes = tuple(a + 1 for a in params["axes"])
        return xp.apply(self, tuple(inputs), {**params, "axes": axes})

    def flops(self, out: ArrayType, types: Sequence[ArrayType], params: Params) -> int:
        return types[0].size


class Linked(Elementwise):
    """y = x, the same entries: a link between an array and what is differentiated by it."""

    name = "identity"
    analytic = True
    partials = (IDENTITY,)

    def forward(self, x: Array) -> Array:
        return x


class Item(Primitive):
    """y = x[index] of a gate with several outputs."""

    name = "item"

    def forward(self, x: tuple[Array, ...], index: int) -> Array:
        return x[index]

    def type(self, *types: Any, **params: Any) -> ArrayType:
        item: ArrayType = types[0].items[params["index"]]
        return item

    def replay(self, xp: Any, inputs: Sequence[Any], params: Params) -> Any:
        return inputs[0][params["index"]]


LINK, ITEM = Linked(), Item()
