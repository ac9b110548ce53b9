"""Applying gates: compute the value, and record the node if something depends on a variable.

`bind` applies any gate; `elementwise` those that broadcast and promote their operands (`gate` makes
them). Both ask the context: in eager they compute at once, while tracing they only record. The
gates that dispatch itself inserts (broadcast with its transpose sum, cast) are defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec
from weakref import ref

import numpy as np

from ..core.context import CONTEXT, Context
from ..core.indexmap import broadcast_map
from ..core.local import ZERO, Local
from ..core.node import Node, Where, caller
from ..core.primitive import ITEM, LINK, Array, Elementwise, LinearGate, Params, Primitive
from ..core.types import (
    FLOATS,
    ArrayType,
    Shape,
    as_dtype,
    as_shape,
    bool_,
    broadcast_shapes,
    float32,
    promote,
    size_of,
    to_float,
)  # fmt: skip
from ..errors import DTypeError, ShapeError, UnsupportedError
from .number import TracedNumber
from .tensor import ArrayLike, Tensor, as_array, constant, is_typed, leaked

Arguments = ParamSpec("Arguments")
NO_PARAMS: Params = {}
ndarray = np.ndarray
new_tensor = object.__new__
NUMBERS = (bool, int, float)  # in the order of promotion
UNTYPED = (*NUMBERS, TracedNumber)


class Broadcast(LinearGate):
    """Copies along new and stretched axes."""

    name = "broadcast"

    def forward(self, x: Array, *, map: Any) -> Array:
        x = x.reshape(map.alignment)
        if size_of(map.out_shape) > 4096:
            return np.broadcast_to(x, map.out_shape)
        out = np.empty(map.out_shape, x.dtype)  # a small copy is made quicker than a view
        out[...] = x
        return out


class Sum(LinearGate):
    """Adds along axes: the transpose of broadcast."""

    name = "sum"

    def forward(self, x: Array, *, map: Any) -> Array:
        summed = map.summed
        out: Array
        if summed == (0,) and x.ndim == 2 and x.size < 2**16 and x.dtype.char in FLOATS:
            # a small sum over rows (the gradient of a bias) is four times quicker as a product
            out = _ones(x.shape[0], x.dtype.char).dot(x)
        else:
            out = np.add.reduce(x, summed, x.dtype)  # without it small integers grow
        return out if out.shape == map.out_shape else out.reshape(map.out_shape)


@lru_cache(maxsize=64)
def _ones(n: int, dtype: str) -> Array:
    return np.ones(n, dtype)


class Cast(Elementwise):
    """The same numbers in another dtype; gradients are cast back."""

    name = "cast"

    def forward(self, x: Array, *, dtype: Any) -> Array:
        return x.astype(dtype)

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        return ArrayType(types[0].shape, params["dtype"])

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        source = inputs[0].dtype
        return CastBack(source, params["dtype"]) if source.char in FLOATS else ZERO


class CastBack(Local):
    """L = I between dtypes."""

    __slots__ = ("dtype", "source")

    def __init__(self, source: Any, dtype: Any) -> None:
        self.source, self.dtype = source, dtype

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        return xp.apply(CAST, (upstream,), {"dtype": self.source})

    def push(self, xp: Any, tangent: Any, /) -> Any:
        return xp.apply(CAST, (tangent,), {"dtype": self.dtype})


class StopGradient(Elementwise):
    """The same value; nothing flows back. A constant in eager, a node when traced."""

    name = "stop_gradient"
    differentiable = False

    def forward(self, x: Array) -> Array:
        return x


BROADCAST, SUM, CAST, STOP_GRADIENT = Broadcast(), Sum(), Cast(), StopGradient()
BROADCAST.dual, SUM.dual = SUM, BROADCAST


def operand(x: ArrayLike) -> Any:
    """A Tensor, an array, or a Python number: what gates take."""
    if isinstance(x, ndarray):
        return as_array(x)
    return x if x.__class__ in UNTYPED else to_tensor(x)


def to_tensor(x: ArrayLike) -> Tensor:
    """A Tensor of anything array-like; Python numbers become float32, int64 or bool."""
    if isinstance(x, Tensor):
        return x
    return constant(as_array(x)) if isinstance(x, ndarray) else asarray(x)


def itself(x: Tensor) -> Tensor:
    """x, for functions that change nothing; of a variable, which may be assigned, its value now."""
    if not x.is_variable:
        return x
    return bind(LINK, (x,), {})


def bind(primitive: Primitive, inputs: tuple[Any, ...], params: Params) -> Tensor:
    """Apply a gate to Tensors and arrays: its value now, or a node of the trace.

    Gates with several outputs give a tuple of Tensors.
    """
    context = CONTEXT.get()
    if context.trace is not None:
        return context.trace.bind(primitive, inputs, params)  # type: ignore[no-any-return]
    values, nodes = [], []
    dependent = False
    for x in inputs:
        node = x
        if isinstance(x, Tensor):
            node, x = x._node, x._value
            if x is None:
                raise leaked()
            if node is None:
                node = x
            else:
                dependent = True
        values.append(x)
        nodes.append(node)
    out = primitive.forward(*values, **params)
    recorded = dependent and context.recording and primitive.differentiable
    if out.__class__ is tuple:
        if not recorded:
            return tuple(constant(np.asarray(o)) for o in out)  # type: ignore[return-value]
        parent = Node(primitive, tuple(nodes), params, out, None, caller(), context.scope)
        return tuple(  # type: ignore[return-value]
            _item(parent, k, o, context) for k, o in enumerate(out)
        )
    result = constant(out if out.__class__ is ndarray else np.asarray(out))
    if recorded and out.dtype.char in FLOATS:
        node = Node(primitive, tuple(nodes), params, result._value, None, caller(), context.scope)
        node.handle = ref(result)
        result._node = node
    return result


def _item(parent: Node, index: int, value: Array, context: Context) -> Tensor:
    """One output of a gate that has several."""
    result = constant(value)
    if value.dtype.char in FLOATS:
        result._node = Node(
            ITEM, (parent,), {"index": index}, value, None, parent.where, context.scope
        )
        result._node.handle = ref(result)
    return result


def spread(node: Node, shape: Shape, where: Where, scope: tuple[str, ...]) -> Node:
    """The broadcast node between an operand and an elementwise gate; its value is not computed."""
    data = node.data
    map = broadcast_map(data.shape if node._type is None else node.shape, shape)
    return Node(
        BROADCAST, (node,), {"map": map}, data, ArrayType(shape, data.dtype), where, scope
    )  # fmt: skip


def elementwise(primitive: Elementwise, *operands: ArrayLike) -> Tensor:
    """Apply an elementwise gate: broadcast, promote, compute, record."""
    context = CONTEXT.get()
    if context.trace is not None:
        return context.trace.elementwise(primitive, unify(primitive, operands))  # type: ignore[no-any-return]
    values = []
    dependent = False
    dtype: Any = None
    for x in operands:
        if isinstance(x, Tensor):
            if x._node is not None:
                dependent = True
            x = x._value
            if x is None:
                raise leaked()
        values.append(x)
        # the quick way: arrays of one floating dtype, and Python numbers beside them
        if x.__class__ is ndarray:
            if dtype is None:
                if not primitive.selectors or x.dtype.char != "?":
                    dtype = x.dtype
            elif x.dtype is not dtype:
                dtype = False
        elif x.__class__ is not float and x.__class__ is not int:
            dtype = False
    if primitive.selectors and getattr(values[0], "dtype", None) != np.bool_:
        dtype = False  # a condition that is not bool yet
    if not dtype or dtype.char not in FLOATS:
        operands = unify(primitive, operands)
        values = [x._value if isinstance(x, Tensor) else x for x in operands]
        # a list that came in may hold Tensors with a history
        dependent = any(isinstance(x, Tensor) and x._node is not None for x in operands)
    try:
        out = primitive.forward(*values)
    except ValueError as error:
        broadcast_shapes(*(np.shape(v) for v in values))  # says it with both shapes, if that is it
        if "negative integer powers" in str(error):
            raise DTypeError(f"{primitive.name}: {error} Cast to a float first") from None
        raise
    except TypeError:
        unify(primitive, operands)  # says it in words, if it is a dtype that the gate does not take
        raise
    except OverflowError as error:
        raise DTypeError(f"{primitive.name}: {error}; cast the array first") from None
    if out.__class__ is not ndarray:
        out = np.asarray(out)
    result = new_tensor(Tensor)
    result._value = out
    if not dependent or not context.recording or out.dtype.char not in FLOATS:
        result._node = None
        return result
    nodes = []
    where = caller()
    for x in operands:
        if isinstance(x, Tensor):
            node = x._node
            if node is None:
                x = x._value
            elif x._value.shape == out.shape:
                x = node
            else:
                x = spread(node, out.shape, where, context.scope)
        elif x.__class__ is not ndarray:
            x = np.asarray(x, out.dtype)
        nodes.append(x)
    node = Node(primitive, tuple(nodes), NO_PARAMS, out, None, where, context.scope)
    result._node = node
    node.handle = ref(result)
    return result


def gate(
    forward: Callable[..., Any], *partials: Any, kind: type[Elementwise] = Elementwise,
    name: str = "", **attributes: Any,
) -> Callable[[Callable[Arguments, Tensor]], Callable[Arguments, Tensor]]:  # fmt: skip
    """Make the function that follows an elementwise gate: its primitive and what users call.

    The function below brings the names of the operands and the docstring; `partials` are
    ∂out/∂input for each operand, `kind` and `attributes` as `Elementwise` describes them.
    """

    def make(signature: Any) -> Any:
        attributes.update(
            name=name or signature.__name__, partials=partials, __doc__=signature.__doc__,
            forward=forward if isinstance(forward, np.ufunc) else staticmethod(forward),
        )  # fmt: skip
        primitive = type(signature.__name__, (kind,), attributes)()

        def unary(x: ArrayLike, /) -> Tensor:
            return elementwise(primitive, x)

        def binary(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
            return elementwise(primitive, x1, x2)

        def ternary(x1: ArrayLike, x2: ArrayLike, x3: ArrayLike, /) -> Tensor:
            return elementwise(primitive, x1, x2, x3)

        return wraps(signature)((unary, binary, ternary)[signature.__code__.co_argcount - 1])

    return make


def unify(primitive: Elementwise, operands: Sequence[ArrayLike]) -> tuple[Any, ...]:
    """The operands in the common dtype; Python numbers beside arrays stay and take that dtype."""
    k = primitive.selectors
    values = [_meeting(x) for x in operands[k:]]
    if primitive.casts:
        dtype = primitive.computes(common_dtype(values))
        if dtype.char not in primitive.takes:
            raise DTypeError(f"{primitive.name} does not take {dtype}; it takes {kinds(primitive)}")
        alone = not any(hasattr(x, "dtype") for x in values)
        values = [x if x.__class__ in UNTYPED and not alone else in_dtype(x, dtype) for x in values]
    return (*(in_dtype(operand(x), bool_) for x in operands[:k]), *values)


def _meeting(x: ArrayLike) -> Any:
    """An operand; a list of Python numbers as it is, since it takes the dtype of arrays, too."""
    return x if isinstance(x, (list, tuple)) and not is_typed(x) else operand(x)


def in_dtype(x: Any, dtype: np.dtype[Any]) -> Any:
    """An operand in this dtype."""
    if isinstance(x, TracedNumber):
        return x.astype(dtype)
    if isinstance(x, (list, tuple)):
        return asarray(x, dtype=dtype)
    if isinstance(x, Tensor):
        return astype(x, dtype, copy=False)
    if isinstance(x, np.ndarray) and x.dtype != dtype and CONTEXT.get().trace is not None:
        return astype(constant(x), dtype)  # it may change between the runs of what is traced
    try:
        return np.asarray(x, dtype)
    except OverflowError:
        raise DTypeError(f"{x} does not fit into {dtype}; cast the array first") from None


RANKS = {"b": 0, "i": 1, "u": 1, "f": 2}
DEFAULTS = (np.dtype("bool"), np.dtype("int64"), float32)


def common_dtype(operands: Sequence[Any]) -> np.dtype[Any]:
    """NumPy's promotion: a Python number takes the dtype of the arrays, unless of a higher kind."""
    dtype: np.dtype[Any] | None = None
    rank = 0
    for x in operands:
        if hasattr(x, "dtype"):
            dtype = x.dtype if dtype is None else promote(dtype, x.dtype)
        elif isinstance(x, (list, tuple)):
            rank = max(rank, RANKS[as_array(x).dtype.kind])
        else:
            kind = x.kind if isinstance(x, TracedNumber) else x.__class__
            rank = max(rank, NUMBERS.index(kind))
    if dtype is None:
        return DEFAULTS[rank]
    if rank > RANKS[dtype.kind]:
        return np.dtype("int64" if rank == 1 else "float64")
    return dtype


def together(*operands: ArrayLike, floating: bool = False) -> list[Tensor]:
    """The operands as Tensors of the dtype in which they meet; with `floating`, of a float."""
    given = [_meeting(x) for x in operands]
    dtype = common_dtype(given)
    if floating:
        dtype = to_float(dtype)
    return [to_tensor(in_dtype(x, dtype)) for x in given]


def as_tensors(*operands: ArrayLike) -> list[Tensor]:
    """The operands as Tensors; Python numbers, and lists of them, in the dtype of the others."""
    if all(isinstance(x, (Tensor, ndarray)) for x in operands):
        return [to_tensor(x) for x in operands]
    return together(*operands)


def floats(*operands: ArrayLike) -> list[Tensor]:
    """The operands as Tensors in the floating dtype in which they meet."""
    return together(*operands, floating=True)


def kinds(primitive: Elementwise) -> str:
    """The kinds of dtype a gate takes, in words."""
    names = {"?": "bool", "l": "integers", "f": "floats"}
    return " and ".join(name for char, name in names.items() if char in primitive.takes)


def astype(x: ArrayLike, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """x in another dtype. Between floats, gradients are cast back; from or to others they end.

    >>> import chainrule as cr
    >>> cr.astype(cr.asarray([1.5, -1.5]), cr.int32)
    asarray([ 1, -1], dtype=int32)
    """
    target = as_dtype(dtype)
    if isinstance(x, TracedNumber) or not is_typed(x):
        return asarray(x, dtype=target)  # exactly, not by way of float32
    source = to_tensor(x)
    if source.dtype == target and not copy:
        return source
    return bind(CAST, (source,), {"dtype": target})


def asarray(
    obj: ArrayLike, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Tensor:
    """A constant: nothing is differentiated by it. A Tensor stays what it is.

    Python floats become float32, integers int64; arrays keep their dtype and are not copied
    unless `copy=True` (writing to them later changes the constant).

    >>> import chainrule as cr
    >>> cr.asarray([1, 2, 3])
    asarray([1, 2, 3], dtype=int64)
    """
    check_device(device)
    if isinstance(obj, Tensor):
        result = obj if dtype is None else astype(obj, dtype, copy=False)
        if copy is False and result is not obj:
            raise ValueError("this change of dtype needs a copy, and copy=False")
        if copy and result is obj:
            return constant(obj._value.copy()) if obj.is_constant else obj + 0
        return result
    if isinstance(obj, TracedNumber):
        default = DEFAULTS[NUMBERS.index(obj.kind)]
        return obj.astype(default if dtype is None else as_dtype(dtype))
    if copy is False and not isinstance(obj, np.ndarray):
        raise ValueError(f"an array of a {type(obj).__name__} needs a copy, and copy=False")
    if isinstance(obj, (list, tuple)) and _holds_tensor(obj):
        from .shaping import stack

        lists = (list, tuple)
        parts = [o if dtype is None and not isinstance(o, lists) else asarray(o, dtype=dtype)
                 for o in obj]  # fmt: skip
        return stack(parts)
    array = as_array(obj)
    target = None if dtype is None else as_dtype(dtype)
    if not is_typed(obj) and array.dtype.char in FLOATS:
        if target is None:
            target = float32
        elif target.kind == "u":  # NumPy reads whole numbers from 2**63 on beside small as floats
            array = np.asarray(obj, target)
    if not is_typed(obj) and target is not None and {target.kind, array.dtype.kind} <= {"i", "u"}:
        _check_range(array, target)
    if target is not None and target != array.dtype:
        if copy is False:
            raise ValueError("this change of dtype needs a copy, and copy=False")
        array = array.astype(target)
    elif copy:
        array = array.copy()
    return constant(array)


def _check_range(array: Array, dtype: np.dtype[Any]) -> None:
    """Refuse whole numbers that a dtype does not have: they would wrap around."""
    limits = np.iinfo(dtype)
    if array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise DTypeError(
            f"{array.min()} to {array.max()} do not fit into {dtype}, which goes from {limits.min} "
            f"to {limits.max}"
        )


def _holds_tensor(obj: Sequence[Any]) -> bool:
    return any(
        isinstance(x, Tensor) or (isinstance(x, (list, tuple)) and _holds_tensor(x)) for x in obj
    )


def check_device(device: Any) -> None:
    if device not in (None, "cpu"):
        raise UnsupportedError(f'the only device is "cpu", received {device!r}')


def stop_gradient(x: ArrayLike, /) -> Tensor:
    """The value of x as a constant: derivatives do not go through here.

    >>> import chainrule as cr
    >>> x = cr.tensor(2.0)
    >>> (cr.stop_gradient(x) * x).backward()
    >>> float(x.grad)
    2.0
    """
    source = to_tensor(x)
    if CONTEXT.get().trace is None:
        return source.detach()
    return bind(STOP_GRADIENT, (source,), {})


def broadcast_to(x: ArrayLike, /, shape: Shape) -> Tensor:
    """x repeated along new leading axes and along axes of size 1. Gradients sum over them.

    >>> import chainrule as cr
    >>> cr.broadcast_to(cr.asarray([1, 2]), (2, 2))
    asarray([[1, 2],
             [1, 2]], dtype=int64)
    """
    source = to_tensor(x)
    target = as_shape(shape)
    if source.shape == target:
        return itself(source)
    if broadcast_shapes(source.shape, target) != target:
        raise ShapeError(f"cannot broadcast shape {source.shape} to {target}")
    return bind(BROADCAST, (source,), {"map": broadcast_map(source.shape, target)})
