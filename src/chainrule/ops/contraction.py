"""contract: products summed over shared letters. einsum, matmul, dot and the like are made of it.

In `contract` each letter stands at most once in each operand and in the output, and in at least
two of the three, so the transpose by either operand is a contraction again. `einsum` first takes
repeated letters to diagonals and sums letters of a single operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..core.local import Contraction, Local
from ..core.primitive import Array, Params, Primitive
from ..core.types import ArrayType, Shape, normalize_axis, size_of
from ..errors import DTypeError, ShapeError
from .arithmetic import _add, _multiply
from .dispatch import bind, broadcast_to, to_tensor, unify
from .reducing import sum as sum_
from .shaping import diagonal, moveaxis, permute_dims, reshape
from .tensor import ArrayLike, Tensor

__all__ = [
    "contract", "dot", "einsum", "matmul", "outer", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@lru_cache(maxsize=4096)
def parse(spec: str) -> tuple[str, str, str]:
    """The letters of both operands and of the output of "ij,jk->ik"."""
    inputs, out = spec.split("->")
    first, second = inputs.split(",")
    return first, second, out


@lru_cache(maxsize=4096)
def transposed(spec: str, position: int) -> str:
    """The contraction that pulls back to one operand: upstream takes its place."""
    first, second, out = parse(spec)
    return f"{out},{second}->{first}" if position == 0 else f"{first},{out}->{second}"


@lru_cache(maxsize=4096)
def plan(spec: str, first: Shape, second: Shape) -> Callable[[Array, Array], Array]:
    """How to contract arrays of these shapes with one matrix product: found once, then reused."""
    a, b, out = parse(spec)
    sizes = dict(zip(a + b, first + second, strict=True))
    batch = [c for c in out if c in a and c in b]
    rows = [c for c in out if c in a and c not in b]
    columns = [c for c in out if c in b and c not in a]
    inner = [c for c in a if c in b and c not in out]

    def measure(letters: Sequence[str]) -> int:
        return size_of(tuple(sizes[c] for c in letters))

    def arrange(letters: str, *groups: list[str]) -> Callable[[Array], Array] | None:
        """Bring an operand into these groups of letters; None if it is so already."""
        order = tuple(letters.index(c) for group in groups for c in group)
        shape = tuple(measure(group) for group in (groups if batch else groups[1:]))
        in_order = order == tuple(range(len(order)))
        merged = shape != tuple(sizes[letters[k]] for k in order)
        if in_order:
            return (lambda x: x.reshape(shape)) if merged else None
        # an operand that lies the other way round is read transposed, which BLAS takes as it is
        return (
            (lambda x: x.transpose(order).reshape(shape))
            if merged
            else (lambda x: x.transpose(order))
        )

    left, right = arrange(a, batch, rows, inner), arrange(b, batch, inner, columns)
    found = [*batch, *rows, *columns]
    shape = tuple(sizes[c] for c in found)
    order = tuple(found.index(c) for c in out)
    product: Callable[[Array, Array], Array] = np.matmul if batch else np.dot
    if not inner and not batch:  # an outer product needs no matrix product
        product = np.multiply
    ready = shape == ((measure(batch),) if batch else ()) + (measure(rows), measure(columns))
    if order == tuple(range(len(order))) and ready:
        if left is None:
            return product if right is None else lambda x, y: product(x, right(y))
        return (
            (lambda x, y: product(left(x), y))
            if right is None
            else (lambda x, y: product(left(x), right(y)))
        )
    one, other = left or _same, right or _same
    return lambda x, y: product(one(x), other(y)).reshape(shape).transpose(order)


def _same(x: Array) -> Array:
    return x


class Contract(Primitive):
    """out = Σ over letters in no output of first · second."""

    name = "contract"
    analytic = True

    def forward(self, x: Array, y: Array, *, spec: str) -> Array:
        return plan(spec, x.shape, y.shape)(x, y)

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        a, b, out = parse(params["spec"])
        sizes = dict(zip(a + b, types[0].shape + types[1].shape, strict=True))
        return ArrayType(tuple(sizes[c] for c in out), types[0].dtype)

    def local(self, i: int, xp: Any, out: Any, inputs: Sequence[Any], params: Params) -> Local:
        spec = params["spec"]
        return Contraction(self, spec, transposed(spec, i), i, inputs[1 - i])

    def batch(self, xp: Any, n: int, inputs: Sequence[Any], batched: Sequence[bool],
              params: Params) -> Any:  # fmt: skip
        a, b, out = parse(params["spec"])
        z = next(c for c in LETTERS if c not in a + b + out)
        spec = f"{z if batched[0] else ''}{a},{z if batched[1] else ''}{b}->{z}{out}"
        return xp.apply(self, tuple(inputs), {"spec": spec})

    def flops(self, out: ArrayType, types: Sequence[ArrayType], params: Params) -> int:
        a, b, _ = parse(params["spec"])
        return 2 * size_of(
            tuple(dict(zip(a + b, types[0].shape + types[1].shape, strict=True)).values())
        )

    def describe(self, params: Params) -> str:
        return str(params["spec"])


CONTRACT = Contract()


def contract(x: ArrayLike, y: ArrayLike, /, spec: str) -> Tensor:
    """Σ x·y over the letters of `spec` ("ij,jk->ik") that the output does not have.

    Each letter stands at most once in an operand and in the output, and in two of the three.
    `einsum` takes any other pattern.
    """
    first, second = (to_tensor(t) for t in unify(_multiply, (to_tensor(x), to_tensor(y))))
    a, b, out = parse(spec)
    check_letters(spec, (a, b), (first.shape, second.shape))
    for c in set(a + b + out):
        counts = (a.count(c), b.count(c), out.count(c))
        if max(counts) > 1 or sum(counts) < 2:
            raise ShapeError(
                f"contract {spec!r}: letter {c!r} must stand once in two or three of the operands "
                "and the output; use einsum for other patterns"
            )
    return _contract(first, second, spec)


def _contract(x: Tensor, y: Tensor, spec: str) -> Tensor:
    result: Tensor = bind(CONTRACT, (x, y), {"spec": spec})
    return result


def check_letters(spec: str, letters: Sequence[str], shapes: Sequence[Shape]) -> dict[str, int]:
    """The size of each letter; an operand that does not fit is an error."""
    sizes: dict[str, int] = {}
    for k, (names, shape) in enumerate(zip(letters, shapes, strict=True)):
        if len(names) != len(shape):
            raise ShapeError(
                f"einsum {spec!r}: operand {k} has {len(names)} letters ({names!r}) "
                f"but shape {shape}"
            )
        for c, n in zip(names, shape, strict=True):
            if sizes.setdefault(c, n) != n:
                raise ShapeError(
                    f"einsum {spec!r}: letter {c!r} has size {sizes[c]} in one operand "
                    f"and {n} in operand {k} of shape {shape}"
                )
    return sizes


def einsum(spec: str, /, *operands: ArrayLike) -> Tensor:
    """Einstein summation: products of entries, summed over the letters the output does not have.

    Any pattern: repeated letters (diagonals), letters of one operand (sums), "..." for leading
    axes; without "->" the output has the letters that stand once, in alphabetical order.

    >>> import chainrule as cr
    >>> float(cr.einsum("ii->", cr.asarray([[1.0, 2.0], [3.0, 4.0]])))
    5.0
    """
    tensors = [to_tensor(x) for x in operands]
    letters, out = _parse_einsum(spec, [t.ndim for t in tensors])
    if not tensors:
        raise ShapeError("einsum takes at least one operand, received none")
    pairs = []
    for names, t in zip(letters, tensors, strict=True):
        shape = list(t.shape)
        pairs.append(_take_diagonals(names, reshape(t, tuple(shape))))
    sizes = _broadcast_sizes(spec, letters, [t.shape for t in tensors])
    pairs = [_drop_ones(names, t, sizes) for names, t in pairs]
    if len(pairs) > 1:
        pairs = [
            (names, to_tensor(t))
            for (names, _), t in zip(pairs, unify(_multiply, [t for _, t in pairs]), strict=True)
        ]
    for c in out:
        if c not in sizes:
            raise ShapeError(f"einsum {spec!r}: output letter {c!r} stands in no operand")
    names, result = _reduce(pairs, out)
    for c in names:
        if c not in out:
            result, names = sum_(result, axis=names.index(c)), names.replace(c, "")
    return _arrange(names, result, out, sizes)


def _arrange(names: str, x: Tensor, out: str, sizes: dict[str, int]) -> Tensor:
    """x with letters `names` in the order of `out`, repeated along letters it does not have."""
    present = [c for c in out if c in names]
    order = tuple(names.index(c) for c in present)
    if order != tuple(range(len(order))):
        x = permute_dims(x, order)
    if len(present) < len(out):
        x = reshape(x, tuple(sizes[c] if c in names else 1 for c in out))
    return broadcast_to(x, tuple(sizes[c] for c in out))


def _reduce(pairs: list[tuple[str, Tensor]], out: str) -> tuple[str, Tensor]:
    """Contract pair by pair, the pair with the smallest result first."""
    pairs = [_sum_lone(k, pairs, out) for k in range(len(pairs))]
    while len(pairs) > 1:
        best = None
        for i in range(len(pairs)):
            for j in range(i + 1, len(pairs)):
                kept = _kept(i, j, pairs, out)
                sizes = {
                    c: n
                    for k in (i, j)
                    for c, n in zip(pairs[k][0], pairs[k][1].shape, strict=True)
                }
                result = size_of(tuple(sizes[c] for c in kept))
                cost = (
                    result - pairs[i][1].size - pairs[j][1].size,
                    size_of(tuple(sizes.values())),
                )
                if best is None or cost < best[0]:
                    best = (cost, i, j, kept)
        assert best is not None
        _, i, j, kept = best
        (a, x), (b, y) = pairs[i], pairs[j]
        product = (kept, _contract(x, y, f"{a},{b}->{kept}"))
        pairs = [p for k, p in enumerate(pairs) if k not in (i, j)] + [product]
        pairs[-1] = _sum_lone(len(pairs) - 1, pairs, out)
    return pairs[0]


def _kept(i: int, j: int, pairs: list[tuple[str, Tensor]], out: str) -> str:
    """The letters of a product of two operands that are needed later, in the output's order."""
    rest = out + "".join(names for k, (names, _) in enumerate(pairs) if k not in (i, j))
    both = pairs[i][0] + "".join(c for c in pairs[j][0] if c not in pairs[i][0])
    kept = [c for c in both if c in rest]
    return "".join(sorted(kept, key=lambda c: out.index(c) if c in out else -1))


def _sum_lone(k: int, pairs: list[tuple[str, Tensor]], out: str) -> tuple[str, Tensor]:
    """Sum the letters that stand in this operand alone."""
    names, x = pairs[k]
    others = out + "".join(n for j, (n, _) in enumerate(pairs) if j != k)
    lone = tuple(a for a, c in enumerate(names) if c not in others)
    if not lone:
        return names, x
    return "".join(c for c in names if c in others), sum_(x, axis=lone)


def _take_diagonals(names: str, x: Tensor) -> tuple[str, Tensor]:
    """Letters that stand twice become one, along the diagonal."""
    for c in names:
        while names.count(c) > 1:
            i = names.index(c)
            j = names.index(c, i + 1)
            if x.shape[i] != x.shape[j]:
                raise ShapeError(
                    f"einsum: letter {c!r} stands for sizes {x.shape[i]} and {x.shape[j]} "
                    f"of an operand of shape {x.shape}"
                )
            x = diagonal(x, axis1=i, axis2=j)
            names = "".join(n for k, n in enumerate(names) if k not in (i, j)) + c
    return names, x


def _broadcast_sizes(spec: str, letters: Sequence[str], shapes: Sequence[Shape]) -> dict[str, int]:
    """Sizes of the letters; those that stand for "..." (capitals) broadcast."""
    sizes: dict[str, int] = {}
    for k, (names, shape) in enumerate(zip(letters, shapes, strict=True)):
        if len(names) != len(shape):
            raise ShapeError(
                f"einsum {spec!r}: operand {k} has {len(names)} letters ({names!r}) "
                f"but shape {shape}"
            )
        for c, n in zip(names, shape, strict=True):
            known = sizes.setdefault(c, n)
            if known == 1 or known == n:
                sizes[c] = n
            elif n != 1:
                raise ShapeError(
                    f"einsum {spec!r}: letter {c!r} has size {known} in one operand "
                    f"and {n} in operand {k} of shape {shape}"
                )
    return sizes


def _drop_ones(names: str, x: Tensor, sizes: dict[str, int]) -> tuple[str, Tensor]:
    """Without the axes of size 1 that broadcast against a larger one."""
    keep = [k for k, c in enumerate(names) if x.shape[k] == sizes[c]]
    if len(keep) == len(names):
        return names, x
    return "".join(names[k] for k in keep), reshape(x, tuple(x.shape[k] for k in keep))


@lru_cache(maxsize=1024)
def _split_spec(spec: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    text = spec.replace(" ", "")
    left, arrow, out = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ndims):
        raise ShapeError(f"einsum {spec!r} names {len(parts)} operands, received {len(ndims)}")
    used = set(left + out)
    spare = [c for c in reversed(LETTERS) if c not in used]
    widths = [
        n - len(p.replace("...", "")) if "..." in p else 0
        for p, n in zip(parts, ndims, strict=True)
    ]
    if min(widths) < 0:
        raise ShapeError(f"einsum {spec!r} has more letters than axes: operands have {ndims} axes")
    dots = "".join(spare[: max(widths)])
    expanded = []
    for p, width in zip(parts, widths, strict=True):
        expanded.append(p.replace("...", dots[len(dots) - width :], 1))
    if arrow:
        out = out.replace("...", dots, 1)
    else:
        every = "".join(expanded)
        out = dots + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c not in dots))
    for c in "".join(expanded) + out:
        if c not in LETTERS:
            raise ShapeError(f"einsum {spec!r}: {c!r} is not a letter")
    if len(set(out)) != len(out):
        raise ShapeError(f"einsum {spec!r}: a letter stands twice in the output {out!r}")
    return tuple(expanded), out


def _parse_einsum(spec: Any, ndims: Sequence[int]) -> tuple[tuple[str, ...], str]:
    if not isinstance(spec, str):
        raise DTypeError(f"einsum takes a pattern like 'ij,jk->ik' first, received {spec!r:.60}")
    return _split_spec(spec, tuple(ndims))


@lru_cache(maxsize=4096)
def _matmul_spec(first: Shape, second: Shape) -> tuple[str, Shape | None, Shape | None]:
    """The contraction of a matmul, and the operands' shapes without axes that broadcast, if any."""
    if not first or not second:
        raise ShapeError(
            f"matmul takes at least 1 axis on each side, received {first} and {second}"
        )
    if first[-1] != second[-2 if len(second) > 1 else 0]:
        raise ShapeError(
            f"matmul of shapes {first} and {second}: the last axis of the first ({first[-1]}) must "
            f"equal the {'second to last' if len(second) > 1 else 'only'} axis of the second "
            f"({second[-2 if len(second) > 1 else 0]})"
        )
    a_batch, b_batch = first[:-2], second[:-2]
    from ..core.types import broadcast_shapes

    batch = broadcast_shapes(a_batch, b_batch)
    letters = LETTERS[3 : 3 + len(batch)]

    def used(shape: Shape) -> list[int]:
        offset = len(batch) - len(shape)
        return [k for k, n in enumerate(shape) if n == batch[k + offset]]

    a_used, b_used = used(a_batch), used(b_batch)
    a = "".join(letters[k + len(batch) - len(a_batch)] for k in a_used)
    b = "".join(letters[k + len(batch) - len(b_batch)] for k in b_used)
    row, column = ("a" if len(first) > 1 else ""), ("c" if len(second) > 1 else "")
    spec = f"{a}{row}b,{b}b{column}->{letters}{row}{column}"
    a_shape = tuple(a_batch[k] for k in a_used) + first[-2:]
    b_shape = tuple(b_batch[k] for k in b_used) + second[-2:]
    return spec, None if a_shape == first else a_shape, None if b_shape == second else b_shape


def matmul(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The matrix product; leading axes broadcast, a vector stands for a row or a column.

    >>> import chainrule as cr
    >>> cr.matmul(cr.asarray([[1.0, 2.0]]), cr.asarray([3.0, 4.0]))
    asarray([11.])
    """
    x, y = to_tensor(x1), to_tensor(x2)
    if x.dtype is not y.dtype:
        x, y = (to_tensor(t) for t in unify(_add, (x, y)))
    spec, a_shape, b_shape = _matmul_spec(x.shape, y.shape)
    if a_shape is not None:
        x = reshape(x, a_shape)
    if b_shape is not None:
        y = reshape(y, b_shape)
    return _contract(x, y, spec)


def dot(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """NumPy's dot: the sum over the last axis of x1 and the second to last (or only) one of x2."""
    x, y = to_tensor(x1), to_tensor(x2)
    if not x.ndim or not y.ndim:
        return x * y
    return tensordot(x, y, axes=((x.ndim - 1,), (max(0, y.ndim - 2),)))


def tensordot(x1: ArrayLike, x2: ArrayLike, /, *, axes: Any = 2) -> Tensor:
    """The sum of products over pairs of axes: so many last of x1 with first of x2, or two lists."""
    x, y = to_tensor(x1), to_tensor(x2)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ShapeError(f"axes={axes} is too many for shapes {x.shape} and {y.shape}")
        axes = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    first, second = ((a,) if isinstance(a, int) else tuple(a) for a in axes)
    first = tuple(normalize_axis(a, x.ndim) for a in first)
    second = tuple(normalize_axis(a, y.ndim) for a in second)
    if len(first) != len(second):
        raise ShapeError(f"axes {axes} must name as many axes of x1 as of x2")
    for a, b in zip(first, second, strict=True):
        if x.shape[a] != y.shape[b]:
            raise ShapeError(
                f"tensordot of shapes {x.shape} and {y.shape}: axis {a} of the first has "
                f"{x.shape[a]} entries, axis {b} of the second {y.shape[b]}"
            )
    a_names = list(LETTERS[: x.ndim])
    b_names = list(LETTERS[x.ndim : x.ndim + y.ndim])
    for a, b in zip(first, second, strict=True):
        b_names[b] = a_names[a]
    out = [c for k, c in enumerate(a_names) if k not in first]
    out += [c for k, c in enumerate(b_names) if k not in second]
    x, y = (to_tensor(t) for t in unify(_add, (x, y)))
    return _contract(x, y, f"{''.join(a_names)},{''.join(b_names)}->{''.join(out)}")


def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """Σ x1·x2 along an axis, other axes broadcast."""
    from .shaping import broadcast_arrays

    x, y = to_tensor(x1), to_tensor(x2)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"vecdot takes at least 1 axis, received {x.shape} and {y.shape}")
    x, y = moveaxis(x, axis, -1), moveaxis(y, axis, -1)
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"vecdot of shapes {x.shape} and {y.shape}: axis {axis} must agree")
    x, y = (to_tensor(t) for t in unify(_add, broadcast_arrays(x, y)))
    names = LETTERS[: x.ndim]
    return _contract(x, y, f"{names},{names}->{names[:-1]}")


def outer(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1[i]·x2[j] of two vectors (other shapes are flattened)."""
    return tensordot(reshape(x1, (-1,)), reshape(x2, (-1,)), axes=0)


def trace(x: ArrayLike, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum along the diagonal of the last two axes."""
    return sum_(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def vector_norm(
    x: ArrayLike, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2
) -> Tensor:
    """(Σ |x|^ord)^(1/ord) along the axes; ord may be 0 (count of nonzeros), ∞ or -∞."""
    from .arithmetic import abs
    from .reducing import max, min
    from .transcendental import sqrt

    x = to_tensor(x)
    if ord == 2:
        return sqrt(sum_(x * x, axis=axis, keepdims=keepdims))
    if ord in (float("inf"), -float("inf")):
        return (max if ord > 0 else min)(abs(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum_((x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum_(abs(x), axis=axis, keepdims=keepdims)
    return sum_(abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)
