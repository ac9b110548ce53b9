"""NumPy functions applied to a Tensor: those with a counterpart here use it, the others refuse."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ..core.context import CONTEXT
from ..errors import MutationError, TraceError, UnsupportedError
from . import arithmetic, contraction, creation, indexing, logic, reducing, shaping, special
from . import transcendental as transcendentals
from .dispatch import asarray, astype, broadcast_to, itself, to_tensor
from .operators import cumsum, diagonal, flatten, transpose
from .tensor import Tensor, program_line

ROOMS = (
    arithmetic, transcendentals, logic, special, reducing, shaping, contraction, indexing, creation,
)  # fmt: skip
ALIASES = {
    "absolute": "abs", "true_divide": "divide", "power": "pow", "float_power": "pow",
    "mod": "remainder", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "rint": "round", "around": "round",
    "fabs": "abs", "invert": "bitwise_invert", "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift", "concatenate": "concat", "amax": "max", "amin": "min",
}  # fmt: skip


def _cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    return reducing.cumulative_prod(flatten(x) if axis is None else x, axis=axis or 0, dtype=dtype)


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    if ord is not None and (isinstance(axis, tuple) or (axis is None and to_tensor(x).ndim > 1)):
        _refuse(f"linalg.norm of a matrix with ord={ord}")
    return contraction.vector_norm(x, axis=axis, keepdims=keepdims, ord=2 if ord is None else ord)


def _size(x: Any, axis: int | None = None) -> int:
    return to_tensor(x).size if axis is None else to_tensor(x).shape[axis]


def _join(axis: int) -> Any:
    def join(arrays: Any) -> Tensor:
        parts = [to_tensor(a) for a in arrays]
        if axis == 0:
            parts = [shaping.reshape(p, (1, -1)) if p.ndim < 2 else p for p in parts]
            return shaping.concat(parts, axis=0)
        return shaping.concat(parts, axis=0 if parts[0].ndim < 2 else 1)

    return join


OWN: dict[str, Any] = {
    "transpose": lambda x, axes=None: transpose(x, axes),
    "cumsum": cumsum,
    "shape": lambda x: to_tensor(x).shape,
    "ndim": lambda x: to_tensor(x).ndim,
    "size": _size,
    "ravel": flatten,
    "vstack": _join(0),
    "hstack": _join(1),
    "allclose": lambda a, b, **k: bool(np.allclose(np.asarray(a), np.asarray(b), **k)),
    "broadcast_to": broadcast_to,
    "astype": astype,
    "array_equal": lambda a, b: bool(np.array_equal(np.asarray(a), np.asarray(b))),
    "array_repr": lambda x: repr(x),
    "array_str": lambda x: str(x),
    "array2string": lambda x, *a, **k: np.array2string(x.numpy(), *a, **k),
    "may_share_memory": lambda a, b: np.may_share_memory(np.asarray(a), np.asarray(b)),
    "shares_memory": lambda a, b: np.shares_memory(np.asarray(a), np.asarray(b)),
    "isclose": lambda a, b, **k: asarray(np.isclose(np.asarray(a), np.asarray(b), **k)),
    "iscomplexobj": lambda x: False,
    "isrealobj": lambda x: True,
    "copy": itself,
    "cumprod": _cumprod,
    "take": lambda x, indices, axis=None: indexing.take(
        flatten(x) if axis is None else x, indices, axis=axis
    ),
    "norm": _norm,
    "inner": lambda a, b: contraction.tensordot(a, b, axes=((-1,), (-1,))),
    "vdot": lambda a, b: contraction.vecdot(flatten(a), flatten(b)),
    "exp2": lambda x: arithmetic.pow(2.0, x),
    "flipud": lambda x: shaping.flip(x, axis=0),
    "fliplr": lambda x: shaping.flip(x, axis=1),
    "trace": lambda x, offset=0, axis1=0, axis2=1: reducing.sum(
        diagonal(x, offset, axis1, axis2), axis=-1
    ),
    "diagonal": diagonal,
    "split": lambda x, parts, axis=0: list(shaping.split(x, parts, axis=axis)),
}


COUNTERPARTS = {name: getattr(room, name) for room in ROOMS for name in room.__all__}
COUNTERPARTS |= {theirs: COUNTERPARTS[ours] for theirs, ours in ALIASES.items()}
COUNTERPARTS |= OWN


def array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    """np.exp(t), array * t and the like."""
    function = COUNTERPARTS.get(ufunc.__name__)
    if options.pop("out", None) is not None:
        raise MutationError(
            f"np.{ufunc.__name__} cannot write to out= with a Tensor: Tensors are immutable, "
            "use the returned value"
        )
    if method == "reduce" and ufunc in (np.add, np.multiply, np.maximum, np.minimum):
        names = {np.add: "sum", np.multiply: "prod", np.maximum: "max", np.minimum: "min"}
        options.setdefault("axis", 0)
        return getattr(reducing, names[ufunc])(*inputs, **options)
    if method != "__call__" or function is None:
        return _refuse(f"{ufunc.__name__}{'' if method == '__call__' else '.' + method}")
    if options:
        raise UnsupportedError(f"np.{ufunc.__name__} on a Tensor takes no {', '.join(options)}=")
    return function(*inputs)


def array_function(self: Tensor, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """np.concatenate([t, u]) and the like."""
    function = COUNTERPARTS.get(func.__name__)
    if function is None or func.__module__ not in ("numpy", "numpy.linalg"):
        return _refuse(
            f"{func.__module__.removeprefix('numpy').lstrip('.')}.{func.__name__}".lstrip(".")
        )
    if kwargs.get("out", None) is not None:
        raise MutationError(f"np.{func.__name__} cannot write to out=: Tensors are immutable")
    kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue and k != "out"}
    if "ddof" in kwargs:
        kwargs["correction"] = kwargs.pop("ddof")
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        try:
            return _renamed(func, function, args, kwargs)
        except (TypeError, ValueError):
            raise UnsupportedError(f"np.{func.__name__} on a Tensor: {error}") from None


def _renamed(func: Any, function: Any, args: Any, kwargs: Any) -> Any:
    """Call the counterpart with the arguments named as NumPy names them, where it takes names."""
    given = inspect.signature(func).bind(*args, **kwargs).arguments
    ours = inspect.signature(function).parameters.values()
    count = sum(p.kind is p.POSITIONAL_ONLY for p in ours)
    values = list(given.values())
    return function(*values[:count], **dict(list(given.items())[count:]))


def _refuse(name: str) -> Any:
    if CONTEXT.get().trace is not None:
        raise TraceError(
            f"np.{name} has no counterpart in chainrule, and NumPy cannot take a Tensor that is "
            f"being traced ({program_line()}): use functions of chainrule, or put it into a gate "
            "of your own (cr.Gate)"
        )
    raise UnsupportedError(
        f"np.{name} has no counterpart in chainrule. If no gradient is needed, give it "
        "np.asarray(x) (a read-only view of the values)"
    )


Tensor.__array_ufunc__ = array_ufunc  # type: ignore[attr-defined]
Tensor.__array_function__ = array_function  # type: ignore[attr-defined]
