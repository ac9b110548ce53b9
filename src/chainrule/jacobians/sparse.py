"""Sparse Jacobians: a pattern found once from the structure of gates, evaluated in few passes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from ..autodiff.batching import vmap
from ..core.types import ArrayType
from ..errors import GradientError, StructureError, UnsupportedError
from ..ops.dispatch import to_tensor
from ..ops.tensor import ArrayLike, Tensor, as_array, constant
from . import apply
from .coloring import Pattern, color
from .compressed import Compressed
from .eliminate import eliminate
from .form import Form
from .graph import locals_of
from .jacobian import Jacobian, Recorded
from .relation import Relation, of_form, pattern_of, relation_of


class Sparse(Jacobian):
    """Of a pattern and the values in it, row by row (CSR)."""

    def __init__(self, out: ArrayType, inn: ArrayType, pattern: Pattern, values: Any,
                 passes: str) -> None:  # fmt: skip
        super().__init__(out, inn)
        self.pattern, self.values, self._passes = pattern, values, passes

    def _find_form(self) -> Form:
        raise StructureError("it was made as a sparse array")

    @property
    def structure(self) -> str:
        """How many nonzeros there can be, and what finds them."""
        m, n = self.shape
        share = 100 * self.pattern.nnz / max(1, m * n)
        return f"sparse, {self.pattern.nnz:,} nonzeros ({share:.3g} %), {self._passes}"

    @property
    def nbytes(self) -> int:
        """Bytes of the values and of the pattern."""
        return int(self.values.nbytes + self.pattern.indptr.nbytes + self.pattern.indices.nbytes)

    def _sums(self, at: Any, of: Any, v: Any, count: int) -> Any:
        found = np.bincount(at, weights=self.values * v.reshape(-1)[of], minlength=count)
        return found.astype(np.result_type(self.dtype, v.dtype), copy=False)

    def _push(self, v: Tensor) -> Tensor:
        found = self._sums(
            self.pattern.rows, self.pattern.indices, v._concrete("J @ v"), self.shape[0]
        )
        return constant(found.reshape(self.out_shape))

    def _pull(self, u: Tensor) -> Tensor:
        found = self._sums(
            self.pattern.indices, self.pattern.rows, u._concrete("u @ J"), self.shape[1]
        )
        return constant(found.reshape(self.in_shape))

    def _materialize(self) -> Tensor:
        self._check_size()
        dense = np.zeros(self.shape, self.dtype)
        dense[self.pattern.rows, self.pattern.indices] = self.values
        return constant(dense.reshape(self.out_shape + self.in_shape))

    def diagonal(self) -> Tensor:
        """J[i, i]: in the shape of the input where the output has it, too, else flat."""
        on = self.pattern.rows == self.pattern.indices
        found = np.zeros(min(self.shape), self.dtype)
        found[self.pattern.rows[on]] = self.values[on]
        return constant(found.reshape(self.in_shape) if self.in_shape == self.out_shape else found)

    def trace(self) -> Tensor:
        """Σ J[i, i]."""
        return constant(np.asarray(self.values[self.pattern.rows == self.pattern.indices].sum()))

    def tosparse(self) -> Any:
        """The entries that can be nonzero, as a scipy.sparse.csr_array of shape (m, n)."""
        arrays = (self.values, self.pattern.indices.copy(), self.pattern.indptr.copy())
        return scipy_sparse().csr_array(arrays, shape=self.shape)


class SparseFunction:
    """x → the sparse Jacobian of a function at x; what does not depend on x is prepared once.

    The first call (or `prepare`) traces the function, finds which entries can be nonzero from the
    structure of its gates, colours them and compiles the passes; later calls with arrays of the
    same type only run these.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._prepared: dict[ArrayType, tuple[Compressed, ArrayType, Relation, list[Any]]] = {}

    def prepare(self, x: ArrayLike) -> Compressed:
        """What is needed at all points of the type of x: pattern, colours, compiled passes."""
        return self._for(to_tensor(x).type)[0]

    def _for(self, type: ArrayType) -> tuple[Compressed, ArrayType, Relation, list[Any]]:
        known = self._prepared.get(type)
        if known is None or not all(np.array_equal(a, b) for a, b in known[3]):
            relation, out, tables = relation_of(self.function, type)
            made = Compressed(self.function, type, pattern_of(relation))
            kept = [(t, t.copy()) for t in tables]  # a selection that changes is another pattern
            known = self._prepared[type] = made, out, relation, kept
        return known

    def __call__(self, *args: Any, **kwargs: Any) -> Sparse:
        if len(args) != 1 or kwargs:
            raise GradientError(
                'a Jacobian in mode="sparse" is that of a function of one array; bind other '
                'arguments: cr.jacobian(lambda x: f(x, a), mode="sparse")'
            )
        x = as_array(args[0])
        made, out, _, _ = self._for(ArrayType(x.shape, x.dtype))
        c = made.coloring
        passes = f"{c.passes} {'pushes' if c.mode == 'push' else 'pulls'}"
        return Sparse(out, made.type, made.pattern, made(x), passes)


def scipy_sparse() -> Any:
    """SciPy's module of sparse arrays."""
    try:
        return import_module("scipy.sparse")
    except ImportError as error:
        raise UnsupportedError(
            "a sparse array needs SciPy, which is not installed: pip install scipy"
        ) from error


def csr(jacobian: Jacobian) -> Any:
    """A Jacobian as a scipy.sparse.csr_array: from its form, else by coloured passes."""
    form = jacobian.form
    if form is not None:
        count = apply.entries(form)
        if count > apply.WRITTEN:
            raise StructureError(
                f"a sparse array of {count:,} entries ({jacobian.structure}) is too large; "
                "use J @ v and u @ J"
            )
        rows, columns, values = apply.coordinates(form)
        made = scipy_sparse().coo_array((values, (rows, columns)), shape=jacobian.shape)
        return made.tocsr()
    if not isinstance(jacobian, Recorded):
        raise StructureError(f"tosparse() needs a closed form; {jacobian.reason}")
    return _passed(jacobian).tosparse()


def _passed(jacobian: Recorded) -> Sparse:
    """By passes along the colours of what can be nonzero at this point."""
    line, output, input = jacobian.ends
    assert output is not None
    assert input is not None
    relation, _ = eliminate(
        line.order, output, input, lambda node: locals_of(node, line.active, loose=True),
        algebra=of_form,
    )  # fmt: skip
    pattern = pattern_of(relation or Relation(jacobian.out_shape, jacobian.in_shape, ()))
    c = color(pattern)
    (m, n), push = jacobian.shape, c.mode == "push"
    seeds = [c.colors == k for k in range(c.count)]
    ways = (jacobian._push, jacobian._pull)
    there, back = ways if push else ways[::-1]
    into, out_of = (jacobian.in_shape, jacobian.out_shape)[:: 1 if push else -1]
    found = [_batch(there, np.array(seeds), into, jacobian.dtype)]
    if c.peeled.size:
        units = np.arange(m if push else n) == c.peeled[:, None]
        found.append(_batch(back, units, out_of, jacobian.dtype))
    values = np.concatenate([f.reshape(-1) for f in found])[c.slots(pattern)]
    return Sparse(jacobian._out, jacobian._in, pattern, values, f"{c.passes} passes")


def _batch(one_way: Callable[[Tensor], Tensor], seeds: Any, shape: Any, dtype: Any) -> Any:
    if not len(seeds):
        return np.zeros(0, dtype)
    stacked = constant(seeds.astype(dtype).reshape(len(seeds), *shape))
    return np.asarray(vmap(one_way)(stacked))
