"""Transposed windows without additions: contractions over windows of the upstream.

The gradient of a convolution by its input, and a transposed convolution, come as a contraction P of
the upstream u with the kernel W, folded: y[s·o + d·k] += P[o, k] = Σ u[o]·W[k], along each axis.
Seen from one entry t of y that is a sum over those k for which s divides t - d·k. Entries t of one
residue r modulo s have the same k's: k = k0 + s'·j, with s' = s / gcd(s, d), and with t = s·q + r

    y[s·q + r] = Σ_j u[q + e - d'·j]·W[k0 + s'·j],   d' = d / gcd(s, d), e = (r - d·k0) / s

which is a contraction of W, turned round and thinned, with windows of the padded u. No zero is
multiplied that was not in u or in the padding; residues are interleaved by a join and a reshape.
(Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", chapter 4.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from ..core.graph import Graph
from ..core.indexmap import IndexMap, permute_map, reshape_map, slice_map, windows_map
from ..core.node import Node
from ..core.types import ArrayType, Shape
from ..ops.contraction import CONTRACT, parse
from ..ops.shaping import CONCAT, FOLD, PAD, PERMUTE, RESHAPE, SLICE, WINDOWS
from .algebra import Gate, rule, type_of, zeros

WASTE = 4
"""How many times the arithmetic may grow: a large kernel over few outputs is left as it is."""


@dataclass
class Axis:
    """One axis along which windows lie: y[stride·o + dilation·k - start] for 0 ≤ that < size."""

    axis: int
    outer: str
    inner: str
    """The letter of k; "" for a kernel of 1 that has none."""
    stride: int
    dilation: int
    kernel: int
    start: int
    size: int


def transposed_windows(graph: Graph) -> dict[Node, Callable[[Any], Any]]:
    """For each fold (or slice of one) that is a contraction: what makes it, given a sweep."""
    results = [*graph.outputs, *(v for _, v in graph.assignments)]
    read = [x for node in graph.nodes for x in node.inputs] + results
    uses = Counter(x for x in read if isinstance(x, Node))
    found: dict[Node, Transposed] = {}
    for node in graph.nodes:
        if node.primitive is FOLD:
            match = _match(node, uses)
            if match is not None:
                found[node] = match
        elif node.primitive is SLICE:
            (x,) = node.inputs
            if isinstance(x, Node) and x in found and uses[x] == 1:
                map: IndexMap = node.params["map"]  # type: ignore[index]
                if found[x].cut(map):
                    found[node] = found.pop(x)
    return {node: match.build for node, match in found.items() if match.worthwhile()}


def _match(node: Node, uses: Counter[Node]) -> Transposed | None:
    """The contraction behind a fold, and which letters stand along each axis of what is folded."""
    chain, x = [], node.inputs[0]
    while isinstance(x, Node) and x.primitive in (PERMUTE, RESHAPE) and uses[x] == 1:
        chain.append(x)
        x = x.inputs[0]
    if not isinstance(x, Node) or x.primitive is not CONTRACT or uses[x] != 1:
        return None
    map: IndexMap = node.params["map"]  # type: ignore[index]
    if 0 in map.sizes or 0 in map.out_shape:
        return None
    a, b, out = parse(x.params["spec"])  # type: ignore[index]
    sizes = dict(zip(out, x.type.shape, strict=True))
    groups: list[str] | None = list(out)
    for step in reversed(chain):
        moved: IndexMap = step.params["map"]  # type: ignore[index]
        if step.primitive is PERMUTE:
            groups = [groups[k] for k in moved.permutation]  # type: ignore[index]
        else:
            groups = _regrouped(groups, sizes, moved.out_shape)  # type: ignore[arg-type]
        if groups is None:
            return None
    assert groups is not None
    ndim = len(map.out_shape)
    axes = []
    for axis, p in enumerate(map.writes):
        if len(p.terms) == 2:
            (_, stride), (k, dilation) = p.terms
            size = map.out_shape[axis]
            axes.append(
                Axis(axis, groups[axis], groups[k], stride, dilation, map.sizes[k], 0, size)
            )
    for i, (own, other) in enumerate(((a, b), (b, a))):
        if all(
            len(x.outer) == 1 and x.outer in own and x.outer not in other
            and len(x.inner) <= 1 and x.inner in other and (not x.inner or x.inner not in own)
            for x in axes
        ):  # fmt: skip
            return Transposed(x, i, own, other, groups[:ndim], axes, list(map.out_shape))
    return None


def _regrouped(groups: Sequence[str], sizes: dict[str, int], shape: Shape) -> list[str] | None:
    """The letters along each axis after a reshape that joins axes; None if it splits one."""
    rest, found = list(groups), []
    for n in shape:
        own, size = "", 1
        if n == 1 and rest and prod(sizes[c] for c in rest[0]) == 1:
            own = rest.pop(0)
        while size < n and rest:
            size *= prod(sizes[c] for c in rest[0])
            own += rest.pop(0)
        if size != n:
            return None
        found.append(own)
    if rest and found:
        found[-1] += "".join(rest)  # axes of size 1
    return found


@dataclass
class Transposed:
    """A fold of a contraction of u (operand `place`, letters `own`) with W (letters `other`)."""

    contraction: Node
    place: int
    own: str
    other: str
    groups: list[str]
    axes: list[Axis]
    shape: list[int]

    def cut(self, map: IndexMap) -> bool:
        """Keep the entries of a slice alone, if it goes along the windows and step by step."""
        along = {x.axis for x in self.axes}
        for axis, (p, n) in enumerate(zip(map.reads, map.sizes, strict=True)):
            whole = p.offset == 0 and n == self.shape[axis]
            if p.terms[0][1] != 1 or not (whole or axis in along) or n == 0:
                return False
        for x in self.axes:
            x.start, x.size = map.reads[x.axis].offset, map.sizes[x.axis]
        self.shape = list(map.sizes)
        return True

    def worthwhile(self) -> bool:
        sizes = dict(zip(self.own, self._operands()[0].shape, strict=True))
        return bool(prod(x.size / x.stride / sizes[x.outer] for x in self.axes) <= WASTE)

    def _operands(self) -> tuple[Any, Any]:
        first, second = self.contraction.inputs
        return (second, first) if self.place else (first, second)

    def build(self, sweep: Any) -> Any:
        """The value of the fold."""
        u, w = map(sweep.value, self._operands())
        parts = {
            residues: self._part(sweep, u, w, residues)
            for residues in product(*(range(x.stride) for x in self.axes))
        }
        for k, x in reversed(list(enumerate(self.axes))):
            if x.stride > 1:
                rows: dict[Any, list[Any]] = {}
                for residues, part in parts.items():
                    rows.setdefault(residues[:k], []).append(part)
                parts = {key: self._interleaved(sweep, row, x.axis) for key, row in rows.items()}
            else:
                parts = {residues[:k]: part for residues, part in parts.items()}
        y = parts[()]
        shape = type_of(y).shape
        none = (0,) * len(shape)
        map_ = slice_map(shape, none, tuple(self.shape), (1,) * len(shape))
        return sweep.make(SLICE, (y,), {"map": map_})

    @staticmethod
    def _interleaved(sweep: Any, row: Sequence[Any], axis: int) -> Any:
        """y[…, s·q + r, …] from the arrays of each r."""
        shape = type_of(row[0]).shape
        apart = (*shape[: axis + 1], 1, *shape[axis + 1 :])
        rows = [sweep.make(RESHAPE, (x,), {"map": reshape_map(shape, apart)}) for x in row]
        joined = sweep.make(CONCAT, rows, {"axis": axis + 1})
        full = (*shape[:axis], shape[axis] * len(row), *shape[axis + 1 :])
        map = reshape_map(type_of(joined).shape, full)
        return sweep.make(RESHAPE, (joined,), {"map": map})

    def _part(self, sweep: Any, u: Any, w: Any, residues: Sequence[int]) -> Any:
        """The entries of one residue along each axis."""
        shape = list(self.shape)
        for x in self.axes:
            shape[x.axis] = -(-x.size // x.stride)
        before, after = [0] * len(self.own), [0] * len(self.own)
        taken = [(0, n, 1) for n in type_of(w).shape]  # start, size, step along each axis of W
        windows: list[tuple[int, int, int]] = []  # axis of u, size, dilation
        inner = ""
        for x, r in zip(self.axes, residues, strict=True):
            place = self.own.index(x.outer)
            ks = [k for k in range(x.kernel) if (x.start + r - x.dilation * k) % x.stride == 0]
            if not ks:
                return zeros(sweep, ArrayType(tuple(shape), type_of(u).dtype))
            step = ks[1] - ks[0] if len(ks) > 1 else 1
            gap = x.dilation * step // x.stride
            reach = gap * (len(ks) - 1)
            before[place] = reach - (x.start + r - x.dilation * ks[0]) // x.stride
            after[place] = shape[x.axis] + reach - before[place] - type_of(u).shape[place]
            if x.inner:
                taken[self.other.index(x.inner)] = (ks[-1], len(ks), -step)
            if len(ks) > 1:
                windows.append((place, len(ks), gap))
                inner += x.inner
        u = _padded(sweep, u, before, after)
        if u is None:
            return zeros(sweep, ArrayType(tuple(shape), type_of(w).dtype))
        if windows:
            map = windows_map(type_of(u).shape, *map_columns(windows))
            u = sweep.make(WINDOWS, (u,), {"map": map})
        starts, sizes, steps = zip(*taken, strict=True)
        w = sweep.make(SLICE, (w,), {"map": slice_map(type_of(w).shape, starts, sizes, steps)})
        single = {x.inner for x in self.axes} - set(inner)
        kept = "".join(c for c in self.other if c not in single)
        thin = tuple(n for c, n in zip(self.other, sizes, strict=True) if c not in single)
        w = sweep.make(RESHAPE, (w,), {"map": reshape_map(sizes, thin)})
        letters, operands = (self.own + inner, kept), (u, w)
        if self.place:
            letters, operands = letters[::-1], operands[::-1]
        spec = f"{letters[0]},{letters[1]}->{''.join(self.groups)}"
        y = sweep.make(CONTRACT, operands, {"spec": spec})
        return sweep.make(RESHAPE, (y,), {"map": reshape_map(type_of(y).shape, tuple(shape))})


def map_columns(windows: Sequence[tuple[int, int, int]]) -> tuple[Any, ...]:
    """Axes, sizes, strides (1), dilations of windows."""
    axes, sizes, gaps = zip(*windows, strict=True)
    return axes, sizes, (1,) * len(axes), gaps


def _padded(sweep: Any, u: Any, before: Sequence[int], after: Sequence[int]) -> Any:
    """u with zeros around it; negative widths cut off. None if nothing is left of u."""
    shape = type_of(u).shape
    starts = tuple(max(0, -n) for n in before)
    sizes = tuple(n - start - max(0, -m) for n, start, m in zip(shape, starts, after, strict=True))
    if min(sizes) <= 0:
        return None
    ones = (1,) * len(shape)
    u = sweep.make(SLICE, (u,), {"map": slice_map(shape, starts, sizes, ones)})
    full = tuple(max(0, a) + n + max(0, b) for a, n, b in zip(before, sizes, after, strict=True))
    place = slice_map(full, tuple(max(0, n) for n in before), sizes, ones)
    return sweep.make(PAD, (u,), {"map": place.T})


@rule(FOLD)
def _apart(sweep: Any, gate: Gate) -> Any:
    """Windows that do not overlap lie side by side: nothing is added, entries are moved.

    Gaps between windows and what no window reaches are 0.
    """
    map: IndexMap = gate.params["map"]
    ndim = len(map.out_shape)
    axes = {axis: p.terms for axis, p in enumerate(map.writes) if len(p.terms) == 2}
    near = all(
        stride >= map.sizes[k] and (dilation == 1 or map.sizes[k] == 1)
        for (_, stride), (k, dilation) in axes.values()
    )
    if not near or 0 in map.sizes or len(map.sizes) != ndim + len(axes):
        return None
    (x,) = gate.inputs
    strides = {k: stride for (_, stride), (k, _) in axes.values()}
    wide = tuple(strides.get(k, n) for k, n in enumerate(map.sizes))
    x = sweep.make(PAD, (x,), {"map": slice_map(wide, (0,) * len(wide), map.sizes,
                                                (1,) * len(wide)).T})  # fmt: skip
    order: list[int] = []
    joined = []
    for axis in range(ndim):
        order.append(axis)
        joined.append(map.sizes[axis])
        if axis in axes:
            k = axes[axis][1][0]
            order.append(k)
            joined[-1] *= strides[k]
    x = sweep.make(PERMUTE, (x,), {"map": permute_map(wide, tuple(order))})
    x = sweep.make(RESHAPE, (x,), {"map": reshape_map(type_of(x).shape, tuple(joined))})
    missing = [n - m for n, m in zip(map.out_shape, joined, strict=True)]
    found = _padded(sweep, x, [0] * ndim, missing)
    assert found is not None, "each window has an entry"
    return found


__all__ = ["transposed_windows"]
