"""contract: products summed over shared letters. einsum, matmul, dot and the like are made of it.

In `contract` each letter stands at most once in each operand and in the output, and in at least
two of the three, so the transpose by either operand is a contraction again. `einsum` first takes
repeated letters to diagonals and sums letters of a single operand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import combinations
from typing import Any

import numpy as np

from ..core.local import Contraction, Local
from ..core.primitive import Array, Params, Primitive
from ..core.types import ArrayType, Shape, ordered_axes, size_of
from ..errors import DTypeError, ShapeError
from .arithmetic import abs as abs_
from .dispatch import as_tensors, bind, broadcast_to, floats, together
from .reducing import max as max_
from .reducing import min as min_
from .reducing import sum as sum_
from .shaping import diagonal, moveaxis, permute_dims, reshape
from .tensor import ArrayLike, Tensor
from .transcendental import sqrt

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

    def arrange(letters: str, *groups: list[str]) -> Callable[[Array], Array]:
        """Bring an operand into these groups of letters."""
        order = tuple(letters.index(c) for group in groups for c in group)
        shape = tuple(measure(group) for group in (groups if batch else groups[1:]))
        turned = order != tuple(range(len(order)))
        merged = shape != tuple(sizes[letters[k]] for k in order)
        first, middle, last = groups
        # an operand that lies the other way round is read transposed, which BLAS takes as it is
        if turned and merged and [*first, *last, *middle] == list(letters):
            other = (*shape[:-2], shape[-1], shape[-2])
            return lambda x: x.reshape(other).swapaxes(-1, -2)
        if turned and merged:
            return lambda x: x.transpose(order).reshape(shape)
        if turned:
            return lambda x: x.transpose(order)
        return (lambda x: x.reshape(shape)) if merged else _same

    left, right = arrange(a, batch, rows, inner), arrange(b, batch, inner, columns)
    found = [*batch, *rows, *columns]
    shape = tuple(sizes[c] for c in found)
    order = tuple(found.index(c) for c in out)
    product: Callable[[Array, Array], Array] = np.matmul if batch else np.dot
    if measure(inner) == 1 and not batch:  # no sum; and dot skips a 1×1 operand of 0, also by ∞
        product = np.multiply
    ready = shape == ((measure(batch),) if batch else ()) + (measure(rows), measure(columns))
    if order != tuple(range(len(order))) or not ready:
        return lambda x, y: product(left(x), right(y)).reshape(shape).transpose(order)
    if left is _same and right is _same:
        return product
    return lambda x, y: product(left(x), right(y))


def _same(x: Array) -> Array:
    return x


class Contract(Primitive):
    """out = Σ over letters in no output of first · second."""

    name = "contract"
    analytic = True

    def forward(self, x: Array, y: Array, *, spec: str) -> Array:
        return plan(spec, x.shape, y.shape)(x, y)

    def type(self, *types: ArrayType, **params: Any) -> ArrayType:
        sizes = _sizes_of(params["spec"], types)
        return ArrayType(tuple(sizes[c] for c in parse(params["spec"])[2]), types[0].dtype)

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
        return 2 * size_of(tuple(_sizes_of(params["spec"], types).values()))

    def describe(self, params: Params) -> str:
        return str(params["spec"])


def _sizes_of(spec: str, types: Sequence[ArrayType]) -> dict[str, int]:
    """The size of each letter of a contraction of these types."""
    a, b, _ = parse(spec)
    return dict(zip(a + b, types[0].shape + types[1].shape, strict=True))


CONTRACT = Contract()


def contract(x: ArrayLike, y: ArrayLike, /, spec: str) -> Tensor:
    """Σ x·y over the letters of `spec` ("ij,jk->ik") that the output does not have.

    Each letter stands at most once in an operand and in the output, and in two of the three.
    `einsum` takes any other pattern.
    """
    if not isinstance(spec, str) or spec.count(",") != 1 or spec.count("->") != 1:
        raise DTypeError(f"contract takes a pattern like 'ij,jk->ik', received {spec!r:.60}")
    a, b, out = parse(spec)
    for c in set(a + b + out):
        counts = (a.count(c), b.count(c), out.count(c))
        if max(counts) > 1 or sum(counts) < 2:
            raise ShapeError(
                f"contract {spec!r}: letter {c!r} must stand once in two or three of the operands "
                "and the output; use einsum for other patterns"
            )
    return einsum(spec, x, y)


def _contract(x: Tensor, y: Tensor, spec: str) -> Tensor:
    return bind(CONTRACT, (x, y), {"spec": spec})


def einsum(spec: str, /, *operands: ArrayLike) -> Tensor:
    """Einstein summation: products of entries, summed over the letters the output does not have.

    Any pattern: repeated letters (diagonals), letters of one operand (sums), "..." for leading
    axes; without "->" the output has the letters that stand once, in alphabetical order.

    >>> import chainrule as cr
    >>> float(cr.einsum("ii->", cr.asarray([[1.0, 2.0], [3.0, 4.0]])))
    5.0
    """
    if not isinstance(spec, str):
        raise DTypeError(f"einsum takes a pattern like 'ij,jk->ik' first, received {spec!r:.60}")
    return _run(spec, as_tensors(*operands))


def _run(spec: str, tensors: list[Tensor]) -> Tensor:
    """The steps of an einsum, found once for a pattern and shapes."""
    dtype = tensors[0].dtype if tensors else None
    if any(t.dtype is not dtype for t in tensors):
        tensors = together(*tensors)
    if len(tensors) == 2:
        x, y = tensors
        pattern = _direct(spec, x.shape, y.shape)
        if pattern is not None:
            return _contract(x, y, pattern)
    for step in _steps(spec, *[t.shape for t in tensors]):
        tensors = step(tensors)
    return tensors[0]


@lru_cache(maxsize=4096)
def _direct(spec: str, first: Shape, second: Shape) -> str | None:
    """The contraction that an einsum of two operands is, where it takes no other step."""
    steps = _steps(spec, first, second)
    single = len(steps) == 1 and isinstance(steps[0], partial)
    return str(steps[0].args[2]) if single else None  # type: ignore[attr-defined]


Step = Callable[[list[Tensor]], list[Tensor]]


@lru_cache(maxsize=4096)
def _steps(spec: str, *shapes: Shape) -> tuple[Step, ...]:
    """An einsum of operands of these shapes as steps, each from a list of Tensors to the next.

    Diagonals of repeated letters first, then sums over letters of a single operand, then
    contractions pair by pair, the one with the smallest result first.
    """
    letters, out = _split_spec(spec, tuple(map(len, shapes)))
    sizes = _sizes(spec, letters, shapes)
    steps: list[Step] = []
    names, current = list(letters), list(shapes)

    def change(k: int, new: str, function: Callable[[Tensor], Tensor]) -> None:
        """Operand k goes through a function and has other letters after it."""
        steps.append(lambda ts: [function(t) if j == k else t for j, t in enumerate(ts)])
        names[k] = new

    for k, shape in enumerate(current):
        wide = [n == sizes[c] for c, n in zip(names[k], shape, strict=True)]
        if not all(wide):  # axes of size 1 that broadcast against others are left out
            sized = tuple(n for n, w in zip(shape, wide, strict=True) if w)
            few = "".join(c for c, w in zip(names[k], wide, strict=True) if w)
            change(k, few, partial(reshape, shape=sized))
        for c in names[k]:
            while names[k].count(c) > 1:
                i = names[k].index(c)
                j = names[k].index(c, i + 1)
                rest = names[k][:i] + names[k][i + 1 : j] + names[k][j + 1 :]
                change(k, rest + c, partial(diagonal, axis1=i, axis2=j))

    def sum_lone(k: int) -> None:
        others = out + "".join(n for j, n in enumerate(names) if j != k)
        lone = tuple(a for a, c in enumerate(names[k]) if c not in others)
        if lone:
            kept = "".join(c for c in names[k] if c in others)
            change(k, kept, partial(sum_, axis=lone))

    for k in range(len(names)):
        sum_lone(k)
    while len(names) > 1:
        i, j, kept = _cheapest(names, out, sizes)
        pattern = f"{names[i]},{names[j]}->{kept}"
        steps.append(partial(_pair, i, j, pattern))
        names = [*(n for k, n in enumerate(names) if k not in (i, j)), kept]
        sum_lone(len(names) - 1)
    present = [c for c in out if c in names[0]]
    order = tuple(names[0].index(c) for c in present)
    if order != tuple(range(len(order))):
        change(0, "".join(present), partial(permute_dims, axes=order))
    if len(present) < len(out):  # letters that only the output has (broadcast ones)
        ones = tuple(sizes[c] if c in present else 1 for c in out)
        full = tuple(sizes[c] for c in out)
        change(0, out, lambda t: broadcast_to(reshape(t, ones), full))
    return tuple(steps)


def _pair(i: int, j: int, pattern: str, tensors: list[Tensor]) -> list[Tensor]:
    """Two operands become their contraction, which goes last."""
    if len(tensors) == 2:
        return [_contract(tensors[0], tensors[1], pattern)]
    rest = [t for k, t in enumerate(tensors) if k not in (i, j)]
    return [*rest, _contract(tensors[i], tensors[j], pattern)]


def _cheapest(names: Sequence[str], out: str, sizes: dict[str, int]) -> tuple[int, int, str]:
    """The pair to contract next, and the letters its product keeps, in the output's order."""
    best: tuple[tuple[int, int], int, int, str] | None = None
    for i, j in combinations(range(len(names)), 2):
        rest = out + "".join(n for k, n in enumerate(names) if k not in (i, j))
        both = names[i] + "".join(c for c in names[j] if c not in names[i])
        kept = "".join(sorted((c for c in both if c in rest), key=out.find))
        size = [size_of(tuple(sizes[c] for c in n)) for n in (kept, names[i], names[j], both)]
        cost = (size[0] - size[1] - size[2], size[3])
        if best is None or cost < best[0]:
            best = (cost, i, j, kept)
    assert best is not None
    return best[1:]


def _sizes(spec: str, letters: Sequence[str], shapes: Sequence[Shape]) -> dict[str, int]:
    """The size of each letter; operands that do not fit are an error. Size 1 broadcasts."""
    sizes: dict[str, int] = {}
    for k, (names, shape) in enumerate(zip(letters, shapes, strict=True)):
        if len(names) != len(shape):
            raise ShapeError(
                f"einsum {spec!r}: operand {k} has {len(names)} letters ({names!r}) "
                f"but shape {shape}"
            )
        for c, n in zip(names, shape, strict=True):
            known = sizes.setdefault(c, n)
            if any(d == c and m != n for d, m in zip(names, shape, strict=True)):
                raise ShapeError(
                    f"einsum {spec!r}: letter {c!r} stands for different sizes in operand {k} "
                    f"of shape {shape}"
                )
            if known == 1:
                sizes[c] = n
            elif n not in (1, known):
                raise ShapeError(
                    f"einsum {spec!r}: letter {c!r} has size {known} in one operand "
                    f"and {n} in operand {k}; the operands have shapes "
                    f"{' and '.join(map(str, shapes))}"
                )
    return sizes


@lru_cache(maxsize=1024)
def _split_spec(spec: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """The letters of each operand and of the output, "..." written out."""
    left, arrow, out = spec.replace(" ", "").partition("->")
    parts = left.split(",")
    if not ndims:
        raise ShapeError("einsum takes at least one operand, received none")
    if len(parts) != len(ndims):
        raise ShapeError(f"einsum {spec!r} names {len(parts)} operands, received {len(ndims)}")
    spare = [c for c in reversed(LETTERS) if c not in left + out]
    widths = [
        n - len(p.replace("...", "")) if "..." in p else 0
        for p, n in zip(parts, ndims, strict=True)
    ]
    if min(widths) < 0:
        raise ShapeError(f"einsum {spec!r} has more letters than axes: operands have {ndims} axes")
    dots = "".join(spare[: max(widths)])
    expanded = [
        p.replace("...", dots[len(dots) - width :], 1)
        for p, width in zip(parts, widths, strict=True)
    ]
    every = "".join(expanded)
    if arrow:
        out = out.replace("...", dots, 1)
    else:
        out = dots + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c not in dots))
    for c in every + out:
        if c not in LETTERS:
            raise ShapeError(f"einsum {spec!r}: {c!r} is not a letter")
    if len(set(out)) != len(out):
        raise ShapeError(f"einsum {spec!r}: a letter stands twice in the output {out!r}")
    for c in out:
        if c not in every:
            raise ShapeError(f"einsum {spec!r}: output letter {c!r} stands in no operand")
    return tuple(expanded), out


def matmul(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The matrix product; leading axes broadcast, a vector stands for a row or a column.

    >>> import chainrule as cr
    >>> cr.matmul(cr.asarray([[1.0, 2.0]]), cr.asarray([3.0, 4.0]))
    asarray([11.])
    """
    x, y = as_tensors(x1, x2)
    spec, pattern = _matmul(x.shape, y.shape)
    if pattern is None or x.dtype is not y.dtype:
        return _run(spec, [x, y])
    return _contract(x, y, pattern)


@lru_cache(maxsize=4096)
def _matmul(first: Shape, second: Shape) -> tuple[str, str | None]:
    """A matmul of these shapes as an einsum, and as the contraction that it is, if it is one."""
    if not first or not second:
        raise ShapeError(f"matmul takes at least 1 axis each, received {first} and {second}")
    rows, columns = len(first) > 1, len(second) > 1
    if first[-1] != second[-2 if columns else 0]:
        raise ShapeError(
            f"matmul of shapes {first} and {second}: the last axis of the first ({first[-1]}) "
            f"must equal the {'second to last' if columns else 'only'} axis of the second "
            f"({second[-2 if columns else 0]})"
        )
    spec = MATMUL[rows, columns]
    return spec, _direct(spec, first, second)


MATMUL = {
    (True, True): "...ij,...jk->...ik",
    (True, False): "...ij,j->...i",
    (False, True): "j,...jk->...k",
    (False, False): "j,j->",
}


def dot(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """NumPy's dot: the sum over the last axis of x1 and the second to last (or only) one of x2."""
    x, y = as_tensors(x1, x2)
    if not x.ndim or not y.ndim:
        return x * y
    return tensordot(x, y, axes=((x.ndim - 1,), (max(0, y.ndim - 2),)))


def tensordot(x1: ArrayLike, x2: ArrayLike, /, *, axes: Any = 2) -> Tensor:
    """The sum of products over pairs of axes: so many last of x1 with first of x2, or two lists."""
    x, y = as_tensors(x1, x2)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ShapeError(
                f"axes={axes} must be from 0 to {min(x.ndim, y.ndim)} for shapes {x.shape} and "
                f"{y.shape}"
            )
        axes = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise DTypeError(f"axes is a number or a pair of tuples of axes, received {axes!r:.60}")
    first, second = ordered_axes(axes[0], x.ndim), ordered_axes(axes[1], y.ndim)
    if len(first) != len(second):
        raise ShapeError(f"axes {axes} must name as many axes of x1 as of x2")
    a_names, b_names = list(LETTERS[: x.ndim]), list(LETTERS[x.ndim : x.ndim + y.ndim])
    for a, b in zip(first, second, strict=True):
        if x.shape[a] != y.shape[b]:
            raise ShapeError(
                f"tensordot of shapes {x.shape} and {y.shape}: axis {a} of the first has "
                f"{x.shape[a]} entries, axis {b} of the second {y.shape[b]}"
            )
        b_names[b] = a_names[a]
    out = [c for k, c in enumerate(a_names) if k not in first]
    out += [c for k, c in enumerate(b_names) if k not in second]
    return _run(f"{''.join(a_names)},{''.join(b_names)}->{''.join(out)}", [x, y])


def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """Σ x1·x2 along an axis, other axes broadcast."""
    x, y = as_tensors(x1, x2)
    if not x.ndim or not y.ndim:
        raise ShapeError(f"vecdot takes at least 1 axis, received {x.shape} and {y.shape}")
    shapes = x.shape, y.shape
    x, y = moveaxis(x, axis, -1), moveaxis(y, axis, -1)
    if x.shape[-1] != y.shape[-1]:
        raise ShapeError(f"vecdot of shapes {shapes[0]} and {shapes[1]}: axis {axis} must agree")
    return _run("...i,...i->...", [x, y])


def outer(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """x1[i]·x2[j] of two vectors (other shapes are flattened)."""
    x, y = as_tensors(x1, x2)
    return tensordot(reshape(x, (-1,)), reshape(y, (-1,)), axes=0)


def trace(x: ArrayLike, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum along the diagonal of the last two axes."""
    return sum_(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def vector_norm(
    x: ArrayLike, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2
) -> Tensor:
    """(Σ |x|^ord)^(1/ord) along the axes; ord may be 0 (count of nonzeros), ∞ or -∞.

    Integers count as floats, so that their squares do not overflow.
    """
    (x,) = floats(x)
    if ord == 2:
        return sqrt(sum_(x * x, axis=axis, keepdims=keepdims))
    if ord in (float("inf"), -float("inf")):
        return (max_ if ord > 0 else min_)(abs_(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum_((x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum_(abs_(x), axis=axis, keepdims=keepdims)
    return sum_(abs_(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)
