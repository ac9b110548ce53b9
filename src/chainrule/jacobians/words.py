"""The structure of a form in words, read off the positions of its terms and never off values.

Axes that carry the same symbol on both sides in all terms are blocks (or an identity ⊗, where no
factor knows of them); what is left of each term falls into a Kronecker product of parts that share
a symbol, and each part has a name. Every name is a promise about which entries can be other than
0, so where nothing better is known it is "dense", with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from math import prod
from typing import Any

import numpy as np

from ..core.types import Shape
from .apply import flat
from .form import Form
from .positions import Entry, Symbol, plain, span, symbols_of
from .sketch import (
    Axis,
    Pair,
    Sketch,
    covers,
    delta,
    flat_of,
    offset_of,
    parts_of,
    rank_of,
    refined,
    shared,
    sketch_of,
    stripped,
)


def words(form: Form) -> str:
    """What the structure of a form is called: "diagonal", "identity ⊗ dense 5×4", …"""
    if not form.terms:
        return "zero"
    shapes = [tuple(n for n in shape if n > 1) for shape in (form.out_shape, form.in_shape)]
    form = refined(form)
    sketches = [sketch_of(t, form) for t in form.terms]
    said = _permutation(form, sketches) or _said(sketches, form.shape)
    if said != _dense(form.shape):
        return "identity (reshaped)" if said == "identity" and shapes[0] != shapes[1] else said
    return f"{said}: {_reason(form)}" if said.startswith("dense") else said.split()[0]


def _reason(form: Form) -> str:
    if any("dense" in t.notes for t in form.terms):
        return "a gate that does not tell its structure"
    arrays = list(dict.fromkeys(_times(f.array.shape) for t in form.terms for f in t.factors
                                if f.array.ndim))  # fmt: skip
    if len(arrays) == 1:
        return f"all outputs depend on all inputs through a factor {arrays[0]}"
    return f"all outputs depend on all inputs through factors {', '.join(arrays)}"


def _dense(shape: Shape) -> str:
    """A part without structure; of one row or column by these names."""
    m, n = shape
    if m == 1 or n == 1:
        return f"row 1×{n}" if m == 1 else f"column {m}×1"
    return f"dense {m}×{n}"


def _times(numbers: Iterable[object]) -> str:
    return "×".join(str(n) for n in numbers)


# -- sums of terms -----------------------------------------------------------------------------


def _said(terms: Sequence[Sketch], shape: Shape) -> str:
    """The words for a sum of terms, m×n."""
    if len(terms) == 1:
        return _one(terms[0])
    pairs = shared(terms)
    if not pairs:
        return _sum(terms, shape)
    inner = [stripped(t, pairs) for t in terms]
    held = any(delta(t, p) in f for t in terms for p in pairs for f in t.factors)
    return _around(terms[0], pairs, held, _sum(inner, inner[0].shape))


def _sum(terms: Sequence[Sketch], shape: Shape) -> str:
    """The words for a sum in which no axis is a block."""
    m, n = shape
    if m == 1 and n == 1:
        return "diagonal" if any(t.factors for t in terms) else "identity"
    if m == 1 or n == 1:
        return _dense(shape)
    offsets: set[int] = set()
    rank, others = 0, []
    for t in terms:
        offset, r = offset_of(t), rank_of(t)
        if offset is not None:
            offsets.add(offset)
        elif r is not None:
            rank += r
        else:
            said = _one(t)
            others.append(f"({said})" if ":" in said else said)
    if rank >= min(m, n) or _dense(shape) in others:
        return _dense(shape)
    parts = [_bands(offsets, shape)] if offsets else []
    parts += [w if others.count(w) == 1 else f"{others.count(w)} · ({w})"
              for w in dict.fromkeys(others)]  # fmt: skip
    if rank:
        parts.append(f"rank {rank}" if parts or rank == 1 else f"rank ≤ {rank}")
    return " + ".join(parts)


def _bands(offsets: set[int], shape: Shape) -> str:
    """Diagonals at these offsets (input place - output place)."""
    m, n = shape
    if offsets == {0} and m == n:
        return "diagonal"
    if len(offsets) == max(m, n) and m == n:
        if max(offsets) == 0:
            return "lower triangular"
        if min(offsets) == 0:
            return "upper triangular"
    around = {(o + n // 2) % n - n // 2 for o in offsets} if m == n else offsets
    name = "banded"
    if len(around) < len(offsets):
        name, offsets = "banded, periodic", around
    plural = "s" if len(offsets) > 1 else ""
    return f"{name} (offset{plural} {_numbers(offsets)})"


def _numbers(offsets: Iterable[int]) -> str:
    """-3, 0 … 2: runs of four or more are shortened."""
    runs: list[list[int]] = []
    for o in sorted(offsets):
        if runs and o == runs[-1][-1] + 1:
            runs[-1].append(o)
        else:
            runs.append([o])
    texts = chain.from_iterable(
        [f"{r[0]} … {r[-1]}"] if len(r) > 3 else map(str, r) for r in runs
    )  # fmt: skip
    return ", ".join(texts).replace("-", "−")


def _permutation(form: Form, sketches: Sequence[Sketch]) -> str | None:
    """Several terms that move each entry to one place: a roll, slices put together."""
    m, n = form.shape
    size = sum(prod(t.sizes.values()) for t in sketches)
    if len(sketches) < 2 or m != n or size != n:
        return None
    if any(t.factors or not t.unit or t.above != t.below for t in sketches):
        return None
    for shape, sides in ((form.out_shape, [t.out for t in form.terms]),
                         (form.in_shape, [t.inn for t in form.terms])):  # fmt: skip
        seen = np.zeros(n, bool)
        for side, t in zip(sides, form.terms, strict=True):
            places = flat(side, shape, t.sizes, list(t.sizes)).reshape(-1)
            seen[places[places >= 0]] = True
        if not seen.all():
            return None
    return (
        "permutation (roll)" if all(offset_of(t) is not None for t in sketches) else "permutation"
    )


# -- blocks ------------------------------------------------------------------------------------


def _around(t: Sketch, pairs: Sequence[Pair], held: bool, inner: str) -> str:
    """What is inside, with the axes of these pairs around it."""
    rest = stripped(t, pairs)
    before, after = _order(t, pairs)
    m, n = rest.shape
    if m == n == 1:
        return "diagonal" if held else inner
    if not held:
        if before is None:
            return f"identity ⊗ {_bracket(inner)}, axes permuted"
        inner = _bracket(inner)
        return ("identity ⊗ " if before else "") + inner + (" ⊗ identity" if after else "")
    count = prod(a.n for a in t.out if a.number in {o for o, _ in pairs})
    said = f"block-diagonal, {count} blocks {m}×{n}"
    if before is None or after:
        said += ", interleaved"
    return said if inner == _dense((m, n)) else f"{said}: {inner}"


def _order(t: Sketch, pairs: Sequence[Pair]) -> tuple[int | None, int]:
    """How many of the pairs stand before and after the other axes on both sides; None: neither."""
    mine = [a.number for a in t.out if a.number in {o for o, _ in pairs}]
    rest = stripped(t, pairs)
    partner = dict(pairs)
    for k in reversed(range(len(mine) + 1)):
        out = [*mine[:k], *(a.number for a in rest.out), *mine[k:]]
        inn = [*(partner[o] for o in mine[:k]), *(a.number for a in rest.inn),
               *(partner[o] for o in mine[k:])]  # fmt: skip
        if out == [a.number for a in t.out] and inn == [a.number for a in t.inn]:
            return k, len(mine) - k
    return None, 0


def _bracket(text: str) -> str:
    """In brackets where something stands around a sum, a product or a list."""
    depth = np.cumsum([(c == "(") - (c == ")") for c in text])
    outside = "".join(c for c, d in zip(text, depth, strict=True) if not d)
    return f"({text})" if any(c in outside for c in ("+", ",", " · ", ":")) else text


# -- one term ----------------------------------------------------------------------------------


def _one(t: Sketch) -> str:
    """The words for one term."""
    if t.above == t.below or _reshaped(t):
        return _scaled(t, _matching(t))
    pairs = shared([t])
    deltas = {delta(t, p) for p in pairs}
    held = any(f & deltas for f in t.factors)
    both = t.above & t.below
    if any(f & both for f in t.factors):
        left, core, right = _outside(t)
        tied = any(plain(a.position) is None for a in (*t.out, *t.inn))
        if (core or tied) and not any(f & both for f in core) and (left or right):
            bare = _one(replace(t, factors=tuple(core)))
            bare = f"({bare})" if " ⊗ " in bare else _bracket(bare)
            return ("diagonal · " if left else "") + bare + (" · diagonal" if right else "")
    inner = stripped(t, pairs) if pairs else t
    said = _inner(inner)
    if said in ("copies", "sums") and not held:
        return _scaled(t, said)
    whole = _around(t, pairs, held, said) if pairs else said
    if t.unit or "(ones)" not in whole:
        return whole
    return f"c · ({whole})" if " ⊗ " in whole else f"c · {whole}"


def _scaled(t: Sketch, said: str) -> str:
    """With the number in front, and the diagonal that factors make."""
    if t.factors:
        return "diagonal" if said.startswith(("identity", "diagonal")) else f"{said} · diagonal"
    return said if t.unit else f"c · {said}"


def _outside(t: Sketch) -> tuple[list[Any], list[Any], list[Any]]:
    """The factors that are diagonals on the left, those that are not, those on the right."""
    above = {s for a in t.out if (s := plain(a.position)) is not None}
    below = {s for a in t.inn if (s := plain(a.position)) is not None}
    left = [f for f in t.factors if f <= above]
    right = [f for f in t.factors if f <= below and not f <= above]
    core = [f for f in t.factors if not f <= above and not f <= below]
    return left, core, right


def _inner(t: Sketch) -> str:
    """A Kronecker product of the parts that hang together, in the order of their axes."""
    loose: list[Sketch] = []  # parts on one side only
    named: list[str] = []
    for part in parts_of(t):
        if part.out and part.inn:
            named.append(_part(part))
        elif part.above or part.below:
            loose.append(part)
        else:
            named.append(_matching(part))
    above, below = [p for p in loose if p.out], [p for p in loose if p.inn]
    m, n = (prod(p.shape[k] for p in loose) for k in (0, 1))
    if above and below:
        named.append("rank 1")
    elif loose:
        bare = not any(p.factors for p in loose)
        named.append(("copies" if above else "sums") if bare else _dense((m, n)))
    start = "banded/Toeplitz (windows "
    windows = [w for w in named if w.startswith(start)]
    if len(windows) > 1:  # windows along several axes are one window
        sizes = _times(w[len(start) : -1] for w in windows)
        named[named.index(windows[0])] = f"{start}{sizes})"
        named = [w for w in named if w not in windows]
    return " ⊗ ".join(_bracket(w) for w in named) if len(named) > 1 else named[0]


def _part(t: Sketch) -> str:
    """The name of one part that is on both sides."""
    if not t.above & t.below:
        rank = rank_of(t)
        small = rank is not None and rank < min(t.shape)
        return f"rank {rank}" if small else _dense(t.shape)
    if t.above == t.below:
        return _scaled(replace(t, unit=True), _matching(t))
    return (
        triangle_of(t)
        or _triangle_of_blocks(t)
        or _windows(t)
        or _windows(t.T, "transposed ")
        or _blocks(t)
    )


def _blocks(t: Sketch) -> str:
    """Deltas inside a part: blocks; else positions that are tied in no way that has a name."""
    pairs = shared([t])
    if pairs:
        return _around(t, pairs, True, _inner(stripped(t, pairs)))
    if t.below < t.above and not t.factors:
        return "copies"
    if t.above < t.below and not t.factors:
        return "sums"
    return "sparse (tied positions)"


# -- names of parts ----------------------------------------------------------------------------


def _matching(t: Sketch) -> str:
    """The name of a part in which each entry joins one output to one input."""
    if _reshaped(t):
        same = [a.n for a in t.out] == [a.n for a in t.inn]
        return "identity" if same else "identity (reshaped)"
    out, inn = flat_of(t.out), flat_of(t.inn)
    tables = out is None or inn is None
    whole = [covers(side, t.sizes) and not t.guarded for side in (t.out, t.inn)]
    if out is not None and inn is not None and all(whole):
        strides = {s: abs(a) for s, a in out.terms}
        flipped = all(strides.get(s) == abs(a) for s, a in inn.terms)
        return f"permutation ({'flip' if flipped else 'transpose'})"
    offset = offset_of(t)
    if offset == 0 and t.shape[0] == t.shape[1]:
        return "diagonal"
    if whole[0]:
        return f"selection ({_through(t.inn, tables)})"
    if whole[1]:
        return _into(t.out, tables)
    if offset is not None:
        return _bands({offset}, t.shape)
    return "selection (table), embedded" if tables else "partial permutation"


def _reshaped(t: Sketch) -> bool:
    """Whether both sides are at the same flat place, whatever that is."""
    out, inn = flat_of(t.out), flat_of(t.inn)
    whole = any(covers(side, t.sizes) for side in (t.out, t.inn))
    return out is not None and out == inn and whole and t.shape[0] == t.shape[1]


def _through(axes: Sequence[Axis], tables: bool) -> str:
    """What a selection reads through."""
    if tables:
        return "table"
    if any(len(symbols_of(a.position)) > 1 for a in axes):
        return "windows"
    every = [s for a in axes for s in symbols_of(a.position)]
    return "diagonal" if len(every) > len(set(every)) else "slice"


def _into(axes: Sequence[Axis], tables: bool) -> str:
    """The transpose of a selection."""
    through = _through(axes, tables)
    if through == "windows":
        return "sums (overlapping windows)"
    if through == "table":
        return "sums (table)"
    return "embedding" if through == "slice" else "embedding (diagonal)"


def triangle_of(t: Sketch) -> str | None:
    """Triangular: the input stands at the place of the output, or all the way before (behind)."""
    if len(t.out) != 1 or len(t.inn) != 1:
        return None
    (out,), (inn,) = t.out, t.inn
    if isinstance(out.position, Entry) or isinstance(inn.position, Entry) or out.n != inn.n:
        return None
    difference = inn.position.plus(out.position, -1)
    if set(symbols_of(difference)) & t.above & t.below or len(difference.terms) != 1:
        return None
    low, high = span(difference, t.sizes)
    n, ((_, step),) = out.n, difference.terms
    side = "lower" if high <= 0 and low <= 1 - n else "upper" if low >= 0 and high >= n - 1 else ""
    if not side:
        return None
    strictly = "" if 0 in (low, high) else "strictly "
    return f"{strictly}{side} triangular" + (" (ones)" if not t.factors and abs(step) == 1 else "")


def _triangle_of_blocks(t: Sketch) -> str | None:
    """The same for two of several axes."""
    for o in t.out:
        for i in t.inn:
            side = triangle_of(replace(t, out=(o,), inn=(i,)))
            if side and set(symbols_of(o.position)) & set(symbols_of(i.position)):
                return f"block {side.removesuffix(' (ones)')}"
    return None


def _windows(t: Sketch, way: str = "") -> str | None:
    """Each output reads a window of the input, at stride · its place."""
    both = t.above & t.below
    if any(plain(a.position) is None for a in t.out):
        return None
    inside: list[Symbol] = []
    strides: set[int] = set()
    for a in t.inn:
        own = symbols_of(a.position)
        if isinstance(a.position, Entry):
            return None
        moving = [s for s in own if s in both]
        if moving:
            inside += [s for s in own if s not in both]
            if len(moving) > 1:
                return None
            strides.add(a.position.stride(moving[0]))
    if not inside:
        return None
    size = _times(t.sizes[s] for s in inside)
    if strides == {1}:  # of these the transpose is one, too
        way = ""
    steady = not any(f & both for f in t.factors)
    weights = any(f & set(inside) for f in t.factors) and steady
    kind = f"{way}{'convolution' if weights else 'windows'} {size}"
    return f"{'banded/Toeplitz' if steady else 'banded'} ({kind})"
