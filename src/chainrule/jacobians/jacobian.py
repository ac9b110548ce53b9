"""Jacobians as exact linear operators that know their structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ..autodiff.batching import vmap
from ..autodiff.reverse import Linearized
from ..core import bare
from ..core.context import CONTEXT
from ..core.node import Node
from ..core.types import ArrayType, Shape, TupleType, size_of
from ..errors import ShapeError, StructureError
from ..ops.dispatch import astype, to_tensor
from ..ops.shaping import moveaxis, reshape, stack, unstack
from ..ops.tensor import ArrayLike, Tensor, constant
from . import apply
from .eliminate import Plan, eliminate
from .form import Form, unit
from .graph import gate_of, local_form, local_of, locals_of, operand_type

DENSE_LIMIT = 8 * 2**30
"""Bytes up to which a dense Jacobian is made."""


class Jacobian:
    """∂output/∂input at a point: an exact linear map from the input's shape to the output's.

    `shape` is (m, n) with both sides flat. `J @ v` pushes a tangent, `u @ J` pulls an upstream
    gradient; v and u have the input's (output's) shape, or are flat. Its structure is found from
    the local Jacobians of the gates when it is first asked for: `structure` says it in words,
    `nbytes` what it takes. Nothing dense is made unless `todense()` is called.

    >>> import chainrule as cr
    >>> J = cr.jacobian(cr.relu)(cr.asarray([[2.0, -1.0], [0.5, 3.0]]))
    >>> J.shape, J.structure, J.nbytes
    ((4, 4), 'diagonal', 4)
    >>> J.diagonal()
    asarray([[1., 0.],
             [1., 1.]])
    """

    __array_ufunc__ = None  # NumPy arrays on the left of @ leave the product to us
    ndim = 2

    def __init__(self, out: ArrayType, inn: ArrayType) -> None:
        self._out, self._in = out, inn
        self._dense: Tensor | None = None

    # -- what it is -----------------------------------------------------------------------------

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

    @cached_property
    def form(self) -> Form | None:
        """The sum of terms it is in closed form; None if it has none (`reason` says why)."""
        try:
            return self._find_form()
        except StructureError as error:
            self._reason = str(error)
            return None

    _reason = ""

    @property
    def reason(self) -> str:
        """Why there is no closed form; "" if there is one."""
        return "" if self.form is not None else self._reason

    def _find_form(self) -> Form:
        raise NotImplementedError(f"{type(self).__name__} must define _find_form()")

    def _closed(self, what: str) -> Form:
        if self.form is None:
            raise StructureError(
                f"{what} needs a closed form, and this Jacobian has none: {self.reason}; "
                "J @ v, u @ J and todense() work"
            )
        return self.form

    @property
    def structure(self) -> str:
        """The structure in words."""
        from .words import words

        return f"dense ({self.reason})" if self.form is None else words(self.form)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays it is made of; without a closed form those of the dense array."""
        return self.dense_nbytes if self.form is None else self.form.nbytes

    @property
    def dense_nbytes(self) -> int:
        """Bytes that the dense array takes."""
        m, n = self.shape
        return m * n * self.dtype.itemsize

    # -- products -------------------------------------------------------------------------------

    def __matmul__(self, other: Any) -> Any:
        """J @ v for v of the input's shape or flat (or a matrix of flat columns); J @ K."""
        if isinstance(other, Jacobian):
            return compose(self, other)
        result = self._through(self._push, to_tensor(other), self.in_shape, self.out_shape, 1)
        if result is None:
            raise ShapeError(
                f"J @ v takes v of shape {self.in_shape}, or flat ({self.shape[1]},) or "
                f"({self.shape[1]}, k); received {np.shape(other)}"
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

    def _push(self, v: Tensor) -> Tensor:
        return constant(apply.push(self._closed("J @ v"), v._concrete("J @ v")))

    def _pull(self, u: Tensor) -> Tensor:
        return constant(apply.pull(self._closed("u @ J"), u._concrete("u @ J")))

    def matvec(self, v: Any) -> Any:
        """J v for flat v, as SciPy's iterative solvers call it (scipy.sparse.linalg)."""
        return np.array(self @ np.reshape(v, -1))  # a copy: solvers write into it

    def rmatvec(self, u: Any) -> Any:
        """uᵀ J for flat u, as SciPy's iterative solvers call it."""
        return np.array(np.reshape(u, -1) @ self)

    @property
    def T(self) -> Jacobian:
        """The transpose: from the output's shape to the input's."""
        return Transposed(self)

    def __add__(self, other: Any) -> Jacobian:
        if not isinstance(other, Jacobian):
            return NotImplemented
        return Total(self, other)

    def __mul__(self, scale: Any) -> Jacobian:
        if np.ndim(scale) or isinstance(scale, Jacobian):
            return NotImplemented
        return Scaled(self, float(scale))

    __rmul__ = __mul__

    def __neg__(self) -> Jacobian:
        return Scaled(self, -1.0)

    def __sub__(self, other: Any) -> Jacobian:
        return self + -other if isinstance(other, Jacobian) else NotImplemented

    # -- entries --------------------------------------------------------------------------------

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
        self._check_size()
        if self._is_constant() and self.form is not None:
            return constant(apply.dense(self.form))
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

    def _check_size(self) -> None:
        m, n = self.shape
        if self.dense_nbytes > DENSE_LIMIT:
            raise ShapeError(
                f"the dense Jacobian of shape ({m}, {n}) takes {self.dense_nbytes / 1e9:,.0f} "
                "GB; use J @ v and u @ J, which need none of it"
            )

    def _is_constant(self) -> bool:
        """Whether it depends on nothing that is being recorded or traced."""
        return CONTEXT.get().trace is None

    def tosparse(self) -> Any:
        """The entries that can be nonzero, as a scipy.sparse.csr_array of shape (m, n)."""
        from .sparse import csr

        return csr(self)

    def diagonal(self) -> Tensor:
        """J[i, i]: in the shape of the input where the output has it, too, else flat."""
        return constant(apply.diagonal(self._closed("diagonal()")))

    def trace(self) -> Tensor:
        """Σ J[i, i]; of a vector field its divergence."""
        return constant(np.asarray(apply.trace(self._closed("trace()"))))

    def solve(self, b: ArrayLike) -> Tensor:
        """x with J x = b, where the structure makes it cheap."""
        from .solve import solve

        return constant(solve(self._closed("solve()"), to_tensor(b)._concrete("solve")))

    def logdet(self) -> Tensor:
        """log |det J|, where the structure makes it cheap."""
        from .solve import logdet

        return constant(np.asarray(logdet(self._closed("logdet()"))))

    def jacobian_form(self) -> Tensor:
        """The m×n matrix; of a scalar function the row vector that makes the chain rule easy."""
        return reshape(self.todense(), self.shape)

    def shape_convention(self) -> Tensor:
        """The gradient of a scalar function in the shape of the variable, as updates need it."""
        if self.shape[0] != 1:
            raise ShapeError(
                f"the shape convention is for scalar functions, this has {self.shape[0]} outputs"
            )
        return reshape(self.todense(), self.in_shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        dense = np.asarray(self.todense()).reshape(self.shape)
        return dense if dtype is None else dense.astype(dtype)

    # -- for people -----------------------------------------------------------------------------

    def formula(self, output: str = "y", input: str = "x") -> str:
        """The entries in index form: "∂y_ij/∂x_kl = δ_ik W_lj"."""
        from .formula import formula

        return formula(self._closed("formula()"), output, input)

    def svg(self, width: int = 320) -> str:
        """A picture of the structure, to scale: diagonals as lines, blocks as blocks."""
        from .picture import svg

        return svg(self, width)

    _repr_svg_ = svg

    def __repr__(self) -> str:
        m, n = self.shape
        return f"Jacobian({m}×{n}, {self.structure}, from {self._in} to {self._out})"


# -- where they come from ----------------------------------------------------------------------


class Recorded(Jacobian):
    """Of a function that was run: products go through its graph, the structure is found from it."""

    def __init__(self, line: Linearized, output: int, input: int, mode: str | None = None) -> None:
        super().__init__(line.outputs[output].type, line.inputs[input].type)
        self._line, self._output, self._input, self._mode = line, output, input, mode
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan | None:
        """The order in which gates were eliminated for the structure, and what others would cost.

        None where there was nothing to eliminate.
        """
        return self._plan if self.form is not None else None

    @property
    def ends(self) -> tuple[Linearized, Node | None, Node | None]:
        """The recorded graph, and the nodes of output and input in it."""
        line = self._line
        return line, line.outputs[self._output]._node, line.inputs[self._input]._node

    def _find_form(self) -> Form:
        line, output, input = self.ends
        assert input is not None
        if CONTEXT.get().trace is not None or input.data is None:
            raise StructureError("it is found from values, and this is being traced")
        zero = Form(self.out_shape, self.in_shape, self.dtype, ())
        if output is None or output not in line.active:
            return zero
        if output is input:
            return unit(self.in_shape, self.dtype)
        active = line.active
        form, self._plan = eliminate(
            line.order, output, input, lambda node: locals_of(node, active), self._mode
        )
        return zero if form is None else replace(form, dtype=self.dtype)

    def _is_constant(self) -> bool:
        return super()._is_constant() and not self._line.differentiable

    def _pull(self, u: Tensor) -> Tensor:
        ups = [constant(np.zeros(o.shape, o.dtype)) for o in self._line.outputs]
        ups[self._output] = u if u.dtype == self._out.dtype else astype(u, self._out.dtype)
        return self._line.pull(ups)[self._input]

    def _push(self, v: Tensor) -> Tensor:
        tangents = [constant(np.zeros(x.shape, x.dtype)) for x in self._line.inputs]
        tangents[self._input] = v if v.dtype == self._in.dtype else astype(v, self._in.dtype)
        return self._line.push(tangents)[self._output]


class Gate(Jacobian):
    """Of one recorded gate by one of its operands."""

    def __init__(self, node: Node, operand: int) -> None:
        if node.primitive is None or node.data is None:
            raise StructureError("only a gate that was run has a local Jacobian")
        count = len(gate_of(node).inputs)
        if not 0 <= operand < count:
            raise ShapeError(f"{node.name} has operands 0 to {count - 1}, received {operand}")
        out, inn = node.type, operand_type(node, operand)
        if isinstance(out, TupleType) or isinstance(inn, TupleType):
            raise StructureError(
                f"{node.name} has several outputs: local Jacobians are of gates with one (take it "
                "from the whole function, by cr.jacobian)"
            )
        super().__init__(out, inn)
        self._node, self._operand = node, operand

    def _find_form(self) -> Form:
        return local_form(self._node, self._operand)

    def _moved(self, direction: str, v: Tensor, into: ArrayType) -> Tensor:
        found = getattr(local_of(self._node, self._operand), direction)(bare.xp, v._concrete("J"))
        return constant(np.zeros(*into) if found is None else np.asarray(found))

    def _push(self, v: Tensor) -> Tensor:
        return self._moved("push", v, self._out)

    def _pull(self, u: Tensor) -> Tensor:
        return self._moved("pull", u, self._in)


class Closed(Jacobian):
    """Of a closed form alone."""

    def __init__(self, form: Form) -> None:
        super().__init__(
            ArrayType(form.out_shape, form.dtype), ArrayType(form.in_shape, form.dtype)
        )
        self.form = form


class Transposed(Jacobian):
    """The transpose of another."""

    def __init__(self, of: Jacobian) -> None:
        super().__init__(of._in._replace(dtype=of.dtype), of._out)
        self._of = of

    def _find_form(self) -> Form:
        if self._of.form is None:
            raise StructureError(self._of.reason)
        return self._of.form.T

    def _push(self, v: Tensor) -> Tensor:
        return self._of._pull(v)

    def _pull(self, u: Tensor) -> Tensor:
        return self._of._push(u)

    def _is_constant(self) -> bool:
        return self._of._is_constant()

    @property
    def T(self) -> Jacobian:
        return self._of


class Scaled(Jacobian):
    """A number times another."""

    def __init__(self, of: Jacobian, scale: float) -> None:
        super().__init__(of._out, of._in)
        self._of, self._scale = of, scale

    def _find_form(self) -> Form:
        if self._of.form is None:
            raise StructureError(self._of.reason)
        return self._of.form.scaled(self._scale)

    def _push(self, v: Tensor) -> Tensor:
        return self._of._push(v) * self._scale

    def _pull(self, u: Tensor) -> Tensor:
        return self._of._pull(u) * self._scale

    def _is_constant(self) -> bool:
        return self._of._is_constant()


class Pair(Jacobian):
    """Of two others."""

    def __init__(self, first: Jacobian, second: Jacobian, out: ArrayType, inn: ArrayType) -> None:
        super().__init__(out, inn)
        self._first, self._second = first, second

    def _forms(self) -> tuple[Form, Form]:
        for one in (self._first, self._second):
            if one.form is None:
                raise StructureError(one.reason)
        assert self._first.form is not None
        assert self._second.form is not None
        return self._first.form, self._second.form

    def _is_constant(self) -> bool:
        return self._first._is_constant() and self._second._is_constant()


class Total(Pair):
    """The sum of two."""

    def __init__(self, first: Jacobian, second: Jacobian) -> None:
        if (first.out_shape, first.in_shape) != (second.out_shape, second.in_shape):
            raise ShapeError(
                f"J + K takes Jacobians of the same shapes, received {first.out_shape} by "
                f"{first.in_shape} and {second.out_shape} by {second.in_shape}"
            )
        dtype = np.result_type(first.dtype, second.dtype)
        super().__init__(first, second, first._out._replace(dtype=dtype), first._in)

    def _find_form(self) -> Form:
        one, other = self._forms()
        return one + other

    def _push(self, v: Tensor) -> Tensor:
        return self._first._push(v) + self._second._push(v)

    def _pull(self, u: Tensor) -> Tensor:
        return self._first._pull(u) + self._second._pull(u)


class Product(Pair):
    """first ∘ second."""

    def _find_form(self) -> Form:
        one, other = self._forms()
        return one @ other

    def _push(self, v: Tensor) -> Tensor:
        return self._first._push(self._second._push(v))

    def _pull(self, u: Tensor) -> Tensor:
        return self._second._pull(self._first._pull(u))


def compose(first: Jacobian, second: Jacobian) -> Jacobian:
    """first @ second: the Jacobian of one function after another."""
    if first.in_shape != second.out_shape:
        raise ShapeError(
            f"J @ K takes a K whose output has the shape of J's input, {first.in_shape}; "
            f"received {second.out_shape}"
        )
    dtype = np.result_type(first.dtype, second.dtype)
    return Product(first, second, first._out._replace(dtype=dtype), second._in)
