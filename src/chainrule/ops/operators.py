"""The operators and methods of Tensor: each is the function of the same meaning.

They stand here and not in tensor.py because the functions need Tensor first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..errors import MutationError, UnsupportedError
from . import arithmetic, contraction, creation, indexing, logic, reducing, shaping, special
from .dispatch import UNTYPED, astype, itself, to_tensor
from .number import TracedNumber
from .tensor import ArrayLike, Tensor

OPERANDS = (Tensor, np.ndarray, np.generic, list, tuple, complex, *UNTYPED)
Function = Callable[..., Any]

BINARY: dict[str, tuple[str, Function]] = {
    "add": ("+", arithmetic.add),
    "sub": ("-", arithmetic.subtract),
    "mul": ("*", arithmetic.multiply),
    "truediv": ("/", arithmetic.divide),
    "floordiv": ("//", arithmetic.floor_divide),
    "mod": ("%", arithmetic.remainder),
    "pow": ("**", arithmetic.pow),
    "matmul": ("@", contraction.matmul),
    "and": ("&", logic.bitwise_and),
    "or": ("|", logic.bitwise_or),
    "xor": ("^", logic.bitwise_xor),
    "lshift": ("<<", logic.bitwise_left_shift),
    "rshift": (">>", logic.bitwise_right_shift),
}
COMPARISONS: dict[str, Function] = {
    "eq": logic.equal, "ne": logic.not_equal, "lt": logic.less, "le": logic.less_equal,
    "gt": logic.greater, "ge": logic.greater_equal,
}  # fmt: skip


def _operator(function: Function, swapped: bool = False) -> Function:
    if swapped:

        def operator(self: Tensor, other: Any) -> Any:
            return function(other, self) if isinstance(other, OPERANDS) else NotImplemented
    else:

        def operator(self: Tensor, other: Any) -> Any:
            return function(self, other) if isinstance(other, OPERANDS) else NotImplemented

    return operator


def _number(function: Function) -> Function:
    """An operator of numbers: exact between numbers, with anything else the function itself."""

    def operator(*operands: Any) -> Any:
        if not all(isinstance(x, OPERANDS) for x in operands):
            return NotImplemented
        if not all(isinstance(x, UNTYPED) for x in operands):
            return function(*operands)
        result = function(*(x.exact if isinstance(x, TracedNumber) else x for x in operands))
        return TracedNumber(result, next(x.name for x in operands if isinstance(x, TracedNumber)))

    return operator


def _in_place(function: Function, symbol: str) -> Function:
    def operator(self: Tensor, other: Any) -> Any:
        if self.is_variable:
            raise MutationError(
                f"w {symbol}= … would make w a new, dependent Tensor instead of changing the "
                f"variable: write w.assign(w {symbol} …), for example "
                "w.assign(w - lr * w.grad)"
            )
        return function(self, other)  # a new Tensor under the old name, as for Python numbers

    return operator


def _method(function: Function) -> Function:
    """A method with axis and keepdims also by position, as NumPy's has."""

    def method(self: Tensor, axis: Any = None, *, keepdims: bool = False, **options: Any) -> Any:
        return function(self, axis=axis, keepdims=keepdims, **options)

    method.__doc__ = function.__doc__
    return method


def _spread(function: Function) -> Function:
    """std and var: also with NumPy's name for the correction."""

    def method(self: Tensor, axis: Any = None, *, correction: float = 0.0,
               ddof: float | None = None, keepdims: bool = False) -> Any:  # fmt: skip
        correction = correction if ddof is None else ddof
        return function(self, axis=axis, correction=correction, keepdims=keepdims)

    method.__doc__ = function.__doc__
    return method


def _reshape(self: Tensor, *shape: Any, copy: bool | None = None) -> Tensor:
    """The same entries in another shape; one size may be -1."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return shaping.reshape(self, tuple(sizes))


def transpose(x: ArrayLike, *axes: Any) -> Tensor:
    """The axes in another order (reversed by default)."""
    x = to_tensor(x)
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    return shaping.permute_dims(x, order or tuple(reversed(range(x.ndim))))


def flatten(x: ArrayLike) -> Tensor:
    """All entries in one axis."""
    x = to_tensor(x)
    return shaping.reshape(x, (x.size,))


def cumsum(x: ArrayLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running sums along an axis (of all entries by default)."""
    x = flatten(x) if axis is None else x
    return reducing.cumulative_sum(x, axis=axis or 0, dtype=dtype)


def cumprod(x: ArrayLike, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running products along an axis (of all entries by default)."""
    x = flatten(x) if axis is None else x
    return reducing.cumulative_prod(x, axis=axis or 0, dtype=dtype)


def rounded(x: ArrayLike, decimals: int = 0) -> Tensor:
    """x to so many decimals, with an even last digit at ties, as NumPy has it."""
    y = to_tensor(x)
    if not decimals or (y.dtype.kind in "iu" and decimals > 0):
        return arithmetic.round(y)
    if y.dtype.kind != "f":
        raise UnsupportedError(f"round to {decimals} decimals takes floats, received {y.dtype}")
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return arithmetic.divide(arithmetic.round(arithmetic.multiply(y, scale)), scale)
    return arithmetic.multiply(arithmetic.round(arithmetic.divide(y, scale)), scale)


def diagonal(x: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal of two axes, the first ones by default."""
    return shaping.diagonal(x, offset=offset, axis1=axis1, axis2=axis2)


def _astype(self: Tensor, dtype: Any, copy: bool = True) -> Tensor:
    """The entries in another dtype; between floats gradients are cast back."""
    return astype(self, dtype, copy=copy)


def _copy(self: Tensor) -> Tensor:
    """The same value; of a variable, the value it has now."""
    return itself(self)


def _sort(self: Tensor, axis: int = -1) -> NoReturn:
    raise MutationError("Tensors are immutable: instead of x.sort() write x = cr.sort(x)")


def _array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    import chainrule

    if api_version not in (None, "2022.12", "2023.12", "2024.12"):
        raise UnsupportedError(f"the Array API version here is 2024.12, asked for {api_version!r}")
    return chainrule


def attach() -> None:
    """Give Tensor its operators and methods."""
    methods: dict[str, Any] = {}
    for name, (symbol, function) in BINARY.items():
        methods[f"__{name}__"] = _operator(function)
        methods[f"__r{name}__"] = _operator(function, swapped=True)
        methods[f"__i{name}__"] = _in_place(function, symbol)
    for name, function in COMPARISONS.items():
        methods[f"__{name}__"] = _operator(function)
    for name in ("sum", "mean", "max", "min", "prod", "all", "any", "argmax", "argmin",
                 ):  # fmt: skip
        methods[name] = _method(getattr(reducing, name))
    for name in ("std", "var"):
        methods[name] = _spread(getattr(reducing, name))
    methods |= {
        "__hash__": object.__hash__,
        "__neg__": arithmetic.negative,
        "__pos__": arithmetic.positive,
        "__abs__": arithmetic.abs,
        "__invert__": logic.bitwise_invert,
        "__getitem__": indexing.getitem,
        "__array_namespace__": _array_namespace,
        "at": property(indexing.At, doc="Functional writes: x.at[i].set(v), x.at[i].add(v)."),
        "T": property(transpose, doc="The axes in reverse order."),
        "mT": property(shaping.matrix_transpose, doc="The last two axes swapped."),
        "real": property(_copy, doc="The Tensor itself."),
        "flat": property(flatten, doc="All entries in one axis."),
        "reshape": _reshape,
        "transpose": transpose,
        "swapaxes": shaping.swapaxes,
        "flatten": flatten,
        "ravel": flatten,
        "squeeze": shaping.squeeze,
        "astype": _astype,
        "clip": special.clip,
        "dot": contraction.dot,
        "copy": _copy,
        "sort": _sort,
        "argsort": lambda self, axis=-1: reducing.argsort(self, axis=axis),
        "cumsum": cumsum,
        "cumprod": cumprod,
        "diagonal": diagonal,
        "trace": lambda self, offset=0: contraction.trace(self, offset=offset),
        "round": rounded,
        "__round__": lambda self, ndigits=None: rounded(self, ndigits or 0),
        "repeat": lambda self, repeats, axis=None: indexing.repeat(self, repeats, axis=axis),
        "take": lambda self, indices, axis=None: indexing.take(self, indices, axis=axis),
        "nonzero": creation.nonzero,
        "conj": _copy,
        "__divmod__": lambda self, other: (self // other, self % other),
        "__rdivmod__": lambda self, other: (
            arithmetic.floor_divide(other, self),
            arithmetic.remainder(other, self),
        ),
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)
    for name, (_, function) in BINARY.items():
        exact = _number(function)
        setattr(TracedNumber, f"__{name}__", exact)
        setattr(TracedNumber, f"__r{name}__", lambda x, y, exact=exact: exact(y, x))
    for name, function in COMPARISONS.items():
        setattr(TracedNumber, f"__{name}__", _number(function))
    for name in ("neg", "pos", "abs", "invert"):
        setattr(TracedNumber, f"__{name}__", _number(methods[f"__{name}__"]))


attach()
