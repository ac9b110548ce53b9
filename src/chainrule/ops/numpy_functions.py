"""NumPy functions applied to a Tensor: those with a counterpart here use it, the others refuse."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ..core.context import CONTEXT
from ..errors import MutationError, TraceError, UnsupportedError
from . import (
    arithmetic,
    compositions,
    contraction,
    creation,
    indexing,
    logic,
    reducing,
    shaping,
    special,
)
from . import transcendental as transcendentals
from .dispatch import astype, broadcast_to, itself, to_tensor
from .operators import cumprod, cumsum, diagonal, flatten, rounded, transpose
from .tensor import Tensor, program_line

ROOMS = (
    arithmetic, transcendentals, logic, special, reducing, shaping, contraction, indexing, creation,
)  # fmt: skip
ALIASES = {
    "absolute": "abs", "true_divide": "divide", "power": "pow", "mod": "remainder",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "invert": "bitwise_invert", "left_shift": "bitwise_left_shift",
    "right_shift": "bitwise_right_shift", "concatenate": "concat", "amax": "max", "amin": "min",
}  # fmt: skip


def _size(x: Any, axis: int | None = None) -> int:
    return to_tensor(x).size if axis is None else to_tensor(x).shape[axis]


OWN: dict[str, Any] = {
    "transpose": lambda x, axes=None: transpose(x, axes),
    "cumsum": cumsum,
    "cumprod": cumprod,
    "round": rounded,
    "around": rounded,
    "sort": compositions.flat_or_along(reducing.sort),
    "argsort": compositions.flat_or_along(reducing.argsort),
    "shape": lambda x: to_tensor(x).shape,
    "ndim": lambda x: to_tensor(x).ndim,
    "size": _size,
    "ravel": flatten,
    "allclose": lambda a, b, **k: bool(np.allclose(np.asarray(a), np.asarray(b), **k)),
    "broadcast_to": broadcast_to,
    "astype": astype,
    "array_equal": lambda a, b: bool(np.array_equal(np.asarray(a), np.asarray(b))),
    "array_repr": lambda x: repr(x),
    "array_str": lambda x: str(x),
    "array2string": lambda x, *a, **k: np.array2string(x.numpy(), *a, **k),
    "may_share_memory": lambda a, b: np.may_share_memory(np.asarray(a), np.asarray(b)),
    "shares_memory": lambda a, b: np.shares_memory(np.asarray(a), np.asarray(b)),
    "iscomplexobj": lambda x: False,
    "isrealobj": lambda x: True,
    "copy": itself,
    "take": lambda x, indices, axis=None: indexing.take(
        flatten(x) if axis is None else x, indices, axis=axis
    ),
    "exp2": lambda x: arithmetic.pow(2.0, x),
    "flipud": lambda x: shaping.flip(x, axis=0),
    "fliplr": lambda x: shaping.flip(x, axis=1),
    "trace": lambda x, offset=0, axis1=0, axis2=1: reducing.sum(
        diagonal(x, offset, axis1, axis2), axis=-1
    ),
    "diagonal": diagonal,
    "clip": compositions.clip_as_numpy,
    "pad": compositions.pad_as_numpy,
    "split": compositions.split_as_numpy,
    "einsum": compositions.einsum_as_numpy,
    "real": itself,
    "conjugate": itself,
    "vstack": compositions.joined(2, 0),
    "hstack": compositions.joined(1, 1),
    "dstack": compositions.joined(3, 2),
    "vsplit": compositions.split_along(0),
    "hsplit": compositions.split_along(1),
    "dsplit": compositions.split_along(2),
    "atleast_1d": compositions.at_least(1),
    "atleast_2d": compositions.at_least(2),
    "atleast_3d": compositions.at_least(3),
    "deg2rad": compositions.radians,
    "rad2deg": compositions.degrees,
}
OWN |= {
    f.__name__: f for f in (
        compositions.append, compositions.array_split, compositions.column_stack,
        compositions.cross, compositions.degrees, compositions.fabs, compositions.float_power,
        compositions.fmax,
        compositions.fmin, compositions.inner, compositions.isclose, compositions.kron,
        compositions.logaddexp2, compositions.nan_to_num, compositions.norm, compositions.radians,
        compositions.rint, compositions.rollaxis, compositions.rot90, compositions.sinc,
        compositions.vdot,
    )
}  # fmt: skip


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
