"""The Tensor: an immutable handle on a value, and on the node that made it.

A Tensor is a *variable* (made by `tensor` or `Parameter`), *dependent* (computed from one), or a
*constant* (no node, no cost). Operators and methods are attached in `operators.py`: each is the
function of the same meaning.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from weakref import ref

import numpy as np

from ..core.context import CONTEXT, context
from ..core.node import Node, caller, line_number
from ..core.types import FLOATS, ArrayType, Shape, as_dtype, check_dtype, float32, size_of
from ..errors import AxisError, DTypeError, GradientError, MutationError, ShapeError, TraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..core.graph import Graph

Array = np.ndarray[Any, Any]
ArrayLike = Any  # Tensor, NumPy array or scalar, Python number, or nested sequences of these


class Tensor:
    """A handle on an array, and on the record of how it came about.

    Make variables with `cr.tensor`, constants with `cr.asarray`; every operation gives a Tensor.

    >>> import chainrule as cr
    >>> x = cr.tensor(3.0)
    >>> y = x * x
    >>> y.backward()
    >>> float(x.grad)
    6.0
    """

    __slots__ = ("__weakref__", "_grad", "_node", "_value")
    _value: Any
    _node: Node | None
    _grad: Tensor | None
    _newest: ClassVar[int] = 0
    """The serial number of the newest leaf: it is another if any variable was assigned."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise DTypeError("make a variable with cr.tensor(value), a constant with cr.asarray(value)")

    if TYPE_CHECKING:  # attached in operators.py

        def _unary(self) -> Tensor: ...
        def _binary(self, other: ArrayLike, /) -> Tensor: ...
        def __eq__(self, other: object, /) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: object, /) -> Tensor: ...  # type: ignore[override]
        def __getattr__(self, name: str, /) -> Any: ...  # the methods

        __neg__ = __pos__ = __abs__ = __invert__ = _unary
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rpow__ = __rmatmul__ = _binary
        __matmul__ = __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = _binary
        __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = _binary

    # -- what it is ---------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The size along each axis."""
        return self._value.shape if self._value is not None else self._node.shape  # type: ignore[union-attr]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the entries, a NumPy dtype."""
        return self._value.dtype if self._value is not None else self._node.type.dtype  # type: ignore[union-attr]

    @property
    def type(self) -> ArrayType:
        """Shape and dtype together."""
        return ArrayType(self.shape, self.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._value.size if self._value is not None else size_of(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the entries."""
        return self.size * self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """The bytes of one entry."""
        return self.dtype.itemsize

    @property
    def device(self) -> str:
        """Always "cpu"."""
        return "cpu"

    @property
    def is_variable(self) -> bool:
        """Whether this is a leaf that gradients are taken by."""
        node = self._node
        return node is not None and node.primitive is None and self._value is not None

    @property
    def is_constant(self) -> bool:
        """Whether this depends on no variable (as far as recorded)."""
        return self._node is None

    @property
    def node(self) -> Node | None:
        """The record of the gate that made this Tensor; None for a constant."""
        return self._node

    @property
    def graph(self) -> Graph:
        """The recorded graph that computes this Tensor."""
        from ..core.graph import Graph  # only this property needs it

        if self._node is None:
            raise GradientError("a constant has no graph: it was computed from no variable")
        return Graph.of([self._node])

    @property
    def grad(self) -> Tensor | None:
        """The gradient that the last `backward` left here: a constant of this shape, or None.

        In a traced function it is the gradient that the function itself has made so far. What is
        set is cast to the dtype of the Tensor; another shape is refused.
        """
        trace = CONTEXT.get().trace
        return getattr(self, "_grad", None) if trace is None else trace.gradient(self)

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        if value is not None:
            gradient = value if isinstance(value, Tensor) else constant(np.array(value, self.dtype))
            if gradient.shape != self.shape:
                raise ShapeError(
                    f"a gradient has the shape of its tensor: {self.shape}, received "
                    f"{gradient.shape}"
                )
            value = gradient.detach()
            if value.dtype != self.dtype:
                from .dispatch import astype

                value = astype(value, self.dtype)
        trace = CONTEXT.get().trace
        if trace is None:
            self._grad = value
        else:
            trace.set_gradient(self, value)

    # -- values -------------------------------------------------------------------------------

    def numpy(self) -> Array:
        """The value as a read-only NumPy view."""
        view: Array = self._concrete("numpy()").view()
        view.flags.writeable = False
        return view

    def item(self, *index: Any) -> Any:
        """The one entry (or the entry at `index`) as a Python number."""
        if not index:
            return self._scalar("item()").item()
        try:
            return self._concrete("item()").item(*index)
        except (IndexError, ValueError) as error:
            raise AxisError(f"item{index} of a Tensor of shape {self.shape}: {error}") from None

    def tolist(self) -> Any:
        """The entries as nested lists of Python numbers."""
        return self._concrete("tolist()").tolist()

    def detach(self) -> Tensor:
        """The same value as a constant: nothing flows back from here."""
        if self._node is None:
            return self
        trace = CONTEXT.get().trace
        # what a compiled function reads of a variable is its value at each call
        if self._value is None or (trace is not None and trace.compiled and self.is_variable):
            if trace is None:
                raise leaked("detach()")
            from .dispatch import stop_gradient  # a traced Tensor keeps its node

            return stop_gradient(self)
        return constant(self._value)

    def to_device(self, device: Any, /, *, stream: Any = None) -> Tensor:
        """The Tensor itself, for "cpu", the only device."""
        if device != "cpu":
            raise DTypeError(f'the only device is "cpu", received {device!r}')
        return self

    def _concrete(self, what: str) -> Array:
        trace = CONTEXT.get().trace
        if trace is not None and trace.compiled and self.is_variable:
            raise TraceError(
                f"{what} reads the value of a variable while the function is compiled, which would "
                f"keep the value it has now ({program_line()}): compute with the variable itself, "
                "or read it outside of the compiled function"
            )
        if self._value is None:
            if trace is None:
                raise leaked(what)
            raise TraceError(
                f"{what} needs the value of a Tensor that is being traced and has none yet "
                f"({program_line()}). Python cannot branch on "
                "it: use where(condition, a, b), or do this outside of the traced function"
            )
        value: Array = self._value
        return value

    def _scalar(self, what: str) -> Any:
        if self.size != 1:
            raise ShapeError(
                f"{what} takes a Tensor of one entry, received shape {self.shape}: index it first, "
                "or use tolist()"
            )
        return self._concrete(what).reshape(())[()]

    def _path_ends(self, what: str, meant: str) -> None:
        """Warn where a derivative is taken through this, and something else is made of it."""
        if self._node is not None and CONTEXT.get().functional:
            warnings.warn(
                f"{what} was made of a Tensor that a derivative is being taken through; the path "
                f"ends there ({program_line()}). Use chainrule's functions to keep it, or {meant} "
                "to say that you mean it",
                stacklevel=3,
            )

    def __float__(self) -> float:
        self._path_ends("a Python float", "item()")
        return float(self._scalar("float()"))

    def __int__(self) -> int:
        return int(self._scalar("int()"))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of a Tensor of shape {self.shape} is ambiguous: use cr.any or cr.all"
            )
        return bool(self._scalar("bool()"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex()"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.ndim:
            raise DTypeError(f"only a 0-d integer Tensor is an index, received {self.type}")
        return int(self._scalar("an index"))

    def __len__(self) -> int:
        if not self.shape:
            raise DTypeError("len() of a 0-d Tensor: it has no axes, its one entry is .item()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise DTypeError("iteration over a 0-d Tensor: it has one entry, .item()")
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return value in self._concrete("in")

    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        if spec and self.size == 1:
            return format(self.item(), spec)
        try:
            return format(str(self), spec)
        except ValueError:
            raise ShapeError(
                f"the format {spec!r} is for a Tensor of one entry, received shape {self.shape}"
            ) from None

    def __repr__(self) -> str:
        kind = "tensor" if self.is_variable else "asarray" if self.is_constant else "dependent"
        if self._value is None:
            return f"traced({self.type})"
        body = np.array2string(self._value, separator=", ", prefix=kind + "(", threshold=200)
        dtype = "" if self.dtype == float32 else f", dtype={self.dtype}"
        name = f", name={self.name!r}" if isinstance(self, Parameter) else ""
        if isinstance(self, Parameter):
            kind = "Parameter"
        return f"{kind}({body}{dtype}{name})"

    def __str__(self) -> str:
        return str(self._value) if self._value is not None else repr(self)

    # -- NumPy and other libraries ------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        self._path_ends("a NumPy array", "stop_gradient")
        value = self._concrete("np.asarray()")
        if dtype is not None and np.dtype(dtype) != value.dtype:
            if copy is False:
                raise ValueError(f"a change of dtype to {np.dtype(dtype)} needs a copy")
            return value.astype(dtype)
        return value.copy() if copy else self.numpy()

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
                   copy: bool | None = None) -> Any:  # fmt: skip
        value = self._concrete("__dlpack__")
        if max_version is None or tuple(max_version) < (1, 0):
            # the older protocol cannot say "read-only", so what leaves must be a copy
            if copy is False:
                raise BufferError("a Tensor is read-only; DLPack before 1.0 needs copy=True")
            return value.copy().__dlpack__()
        value = value.copy() if copy else self.numpy()
        return value.__dlpack__(max_version=max_version, dl_device=dl_device)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def __reduce__(self) -> tuple[Any, ...]:
        make = variable if self.is_variable else constant
        return (make, (self._concrete("pickle"),))

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        # a dependent Tensor is its value and its history, which is immutable; a variable is its own
        copy = variable(self._value.copy()) if self.is_variable else self
        memo[id(self)] = copy
        return copy

    # -- writing ------------------------------------------------------------------------------

    def assign(self, value: ArrayLike) -> None:
        """Give a variable a new value: the one mutation there is.

        The value is cast to the variable's dtype and copied; another shape is refused. Nothing is
        recorded, and graphs recorded before keep the old value.
        """
        if not self.is_variable:
            kind = "constant" if self.is_constant else "computed"
            if self._value is None:
                kind = "traced: a compiled function assigns variables that it closes over"
            raise MutationError(
                f"assign is for variables (cr.tensor, cr.Parameter); this Tensor is {kind}"
            )
        trace = CONTEXT.get().trace
        if trace is not None:
            trace.assign(self, value)
            return
        new = value._value if isinstance(value, Tensor) else np.asarray(value)
        if new is None:
            raise leaked("assign")
        computed = isinstance(value, Tensor) and value._node is not None and new.base is None
        if not computed or new.dtype != self.dtype:  # else nobody writes to it: no copy is needed
            new = np.array(new, self.dtype)
        if new.shape != self.shape:
            raise ShapeError(
                f"assign cannot change the shape: the variable has {self.shape}, "
                f"the new value {new.shape}"
            )
        self._value = new
        self._node = leaf(self, new)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise MutationError(
            "Tensors are immutable: instead of x[i] = v write x = x.at[i].set(v) "
            "(or x.at[i].add(v))"
        )

    def __delitem__(self, index: Any) -> NoReturn:
        raise MutationError("Tensors are immutable: use indexing and concat to leave entries out")

    # -- differentiation and explanation (later rooms, imported where they are used) ----------

    def backward(self, gradient: ArrayLike | None = None) -> None:
        """Set `.grad` on every variable and every held intermediate that this Tensor depends on.

        downstream = upstream × local, gate by gate in reverse. `gradient` is the upstream gradient
        at this Tensor; a Tensor of one entry takes 1. Parameters add to the gradient they have.
        """
        from ..autodiff.reverse import backward

        backward(self, gradient)

    def show(self, path: Any = None, *, inside: str = "", flat: bool = False) -> Any:
        """The graph as a picture: values above and gradients below each wire.

        Returns an object that Jupyter displays; with `path` it is also written there as SVG. Of
        more than 40 gates, modules are closed boxes: `inside` names one to look into, `flat` draws
        without boxes.
        """
        from ..explain.picture import show

        return show(self, path, inside=inside, flat=flat)

    def explore(self, path: Any = None) -> Any:
        """A page to walk through the graph, forward and backward, gate by gate.

        Returns an object that Jupyter displays; with `path` it is also written there as one HTML
        file that needs no network.
        """
        from ..explain.explorer import explore

        return explore(self, path)

    def walk(self) -> Any:
        """The steps of the forward and of the backward pass, gate by gate: prints as text."""
        from ..explain.walk import walk

        return walk(self)

    def paths(self, variable: Any, index: Any = None, limit: int = 20) -> Any:
        """Why a gradient is what it is: the paths from an entry of a variable to this result.

        They add up to the gradient; `index` is by default the entry with the largest one.
        """
        from ..explain.paths import paths

        return paths(self, variable, index, limit)

    def why(self, variable: Any, index: Any = None) -> Any:
        """Why the gradient of this result by an entry of a variable is zero, or missing.

        Says the places where the way from the variable to the result ends.
        """
        from ..explain.why import why

        return why(self, variable, index)


class Parameter(Tensor):
    """A variable with a name that belongs to a Module; `backward` adds to its gradient.

    >>> import chainrule as cr
    >>> cr.Parameter([1.0, 2.0], name="bias")
    Parameter([1., 2.], name='bias')
    """

    __slots__ = ("name",)
    name: str

    def __new__(cls, value: ArrayLike, name: str = "", dtype: Any = None) -> Parameter:
        parameter = object.__new__(cls)
        parameter._value = variable_value(value, dtype)
        parameter._node = leaf(parameter, parameter._value)
        parameter.name = name
        return parameter

    def __init__(self, value: ArrayLike, name: str = "", dtype: Any = None) -> None:
        pass  # all is done in __new__

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Parameter, (self._concrete("pickle"), self.name))

    def __deepcopy__(self, memo: Any) -> Parameter:
        copy = Parameter(self._value, self.name)
        memo[id(self)] = copy
        return copy


def program_line() -> str:
    """The line of the user's program that is being run, as `file.py:12`."""
    code, instruction = caller()
    return f"{code.co_filename}:{line_number(code, instruction)}"


def leaked(what: str = "an operation") -> TraceError:
    """The error of using a Tensor after the trace that made it is over."""
    return TraceError(
        f"{what} needs the value of a Tensor from inside a traced function (vmap, compile), but "
        "that is over: return the Tensor from the function instead of storing it"
    )


def leaf(handle: Tensor, value: Array) -> Node:
    """The node of a variable."""
    node = Node(None, (), None, value)
    node.handle = ref(handle)
    Tensor._newest = node.serial
    return node


def constant(value: Array) -> Tensor:
    """A Tensor without a node."""
    result = object.__new__(Tensor)
    result._value = value
    result._node = None
    return result


def variable(value: Array) -> Tensor:
    """A leaf on a value that nobody else writes to."""
    result = object.__new__(Tensor)
    result._value = value
    result._node = leaf(result, value)
    return result


def variable_value(value: ArrayLike, dtype: Any = None) -> Array:
    """A copy of a value for a variable: Python numbers become float32, arrays keep their dtype."""
    array = as_array(value)
    if dtype is None:
        dtype = array.dtype if is_typed(value) else float32
    dtype = as_dtype(dtype)
    if dtype.char not in FLOATS:
        raise DTypeError(
            f"a variable must be float32 or float64 to have a gradient, received {dtype}; "
            "pass dtype=cr.float32, or make a constant with cr.asarray"
        )
    return np.array(array, dtype)


def is_typed(value: Any) -> bool:
    """Whether the value brings a dtype of its own (arrays and NumPy scalars do)."""
    if isinstance(value, (list, tuple)):
        return any(is_typed(v) for v in value)
    return hasattr(value, "dtype") or hasattr(value, "__array__")


def as_array(value: ArrayLike) -> Array:
    """The NumPy array of anything array-like, of a dtype chainrule has."""
    if isinstance(value, Tensor):
        return value._concrete("a NumPy array")
    if isinstance(value, np.ndarray):
        array = np.asarray(value)
    else:
        with context(functional=False):
            try:
                array = np.asarray(value)
            except ValueError as error:
                raise ShapeError(f"this is not an array: {error}") from None
    if array.dtype.char == "O":
        raise DTypeError(f"cannot make an array of {type(value).__name__}: {value!r:.80}")
    dtype = check_dtype(array.dtype)
    if array.dtype is dtype:
        return array
    trace = CONTEXT.get().trace
    if trace is not None and trace.compiled and not array.dtype.isnative:
        raise TraceError(
            "an array in the byte order of other machines is converted while the function is "
            f"compiled, which would keep the value it has now ({program_line()}): convert it "
            'outside with x.astype(x.dtype.newbyteorder("=")), or pass it as an argument'
        )
    return array.astype(dtype)


def tensor(value: ArrayLike, dtype: Any = None) -> Tensor:
    """A variable: a leaf that gradients are taken by. The value is copied.

    Python numbers become float32; arrays and NumPy scalars keep their dtype, which must be
    float32 or float64.

    >>> import chainrule as cr
    >>> cr.tensor([1.0, 2.0])
    tensor([1., 2.])
    """
    return variable(variable_value(value, dtype))
