"""Gradient checks: derivatives by reverse and forward mode against derivatives by measurement.

Three independent ways. Complex steps on the recorded graph, Im f(x + ih·v)/h with h = 1e-30, which
lose nothing to rounding, where every gate between is analytic (Squire & Trapp 1998). Else central
differences with Richardson extrapolation (Ridders 1982), in float64. And at kinks, where no
derivative exists, the interval between the one-sided derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.context import no_grad
from ..core.graph import Graph
from ..core.node import Node
from ..core.primitive import Array
from ..core.types import FLOATS
from ..errors import CheckError, GradientError
from ..ops.tensor import as_array, constant
from .containers import flatten, unflatten
from .reverse import Function, Linearized

COMPLEX_STEP = 1e-30


@dataclass
class Direction:
    """One comparison: the derivative of u·f along a direction, derived and measured."""

    where: str
    derived: float
    measured: float
    error: float
    method: str
    ok: bool
    at_kink: bool = False

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "WRONG"
        kink = ", at a kink: within the one-sided derivatives" if self.at_kink else ""
        return (
            f"{verdict:5} {self.where}: derived {self.derived:.10g}, measured "
            f"{self.measured:.10g} ± {self.error:.1g} ({self.method}{kink})"
        )


@dataclass
class GradientCheck:
    """The outcome of `check_gradients`: true if every comparison held; prints them."""

    directions: list[Direction] = field(default_factory=list)

    def __bool__(self) -> bool:
        return all(d.ok for d in self.directions)

    @property
    def at_kink(self) -> bool:
        """Whether some point was a kink, where the derivative is one of several."""
        return any(d.at_kink for d in self.directions)

    def __str__(self) -> str:
        return "\n".join(map(str, self.directions)) or "nothing to check: no floating arguments"


def check_gradients(
    function: Function, *args: Any, every_entry: bool = False, directions: int = 4,
    rtol: float = 1e-6, atol: float = 1e-9, seed: int = 0, raise_error: bool = True,
) -> GradientCheck:  # fmt: skip
    """Compare the derivatives of function(*args), in both modes, with measured ones.

    Everything runs in float64. By default so many random directions are tried; `every_entry` tries
    each entry of each argument by itself, and so names the wrong one. A mismatch is a CheckError
    (or, with raise_error=False, a false result).

    >>> import chainrule as cr
    >>> bool(cr.check_gradients(lambda x: cr.tanh(x) * x, cr.asarray([0.3, -2.0])))
    True
    """
    leaves, structure = flatten(args, what="the arguments")
    points = [_point(x) for x in leaves]
    floats = [k for k, p in enumerate(points) if p.dtype.char in FLOATS]

    def values(floating: Iterable[Any]) -> list[Any]:
        given = iter(floating)
        return [next(given) if k in floats else constant(p) for k, p in enumerate(points)]

    line = Linearized(
        lambda xs: function(*unflatten(structure, values(xs))), [points[k] for k in floats]
    )
    floating = [o.dtype.char in FLOATS for o in line.outputs]
    if not any(floating):
        raise GradientError("check_gradients: the function has no floating result")
    generator = np.random.default_rng(seed)
    # results without a derivative take part with weight 0
    weights = [
        np.zeros(o.shape) if not floats
        else generator.uniform(0.5, 1.5, o.shape) if o.size > 1 else np.ones(o.shape)
        for o, floats in zip(line.outputs, floating, strict=True)
    ]  # fmt: skip
    gradients = line.pull(
        [constant(w.astype(o.dtype)) for w, o in zip(weights, line.outputs, strict=True)]
    )

    def measure(arrays: Sequence[Array]) -> float:
        with no_grad():
            result = function(*unflatten(structure, values(map(constant, arrays))))
            return _dot(weights, map(as_array, flatten(result)[0]))

    base = [points[k] for k in floats]
    complex_step = _complex_step(line, weights)
    check = GradientCheck()
    for where, vector in _vectors(leaves, floats, base, every_entry, directions, generator):
        derived = _dot(gradients, vector)
        forward = _dot(weights, line.push([constant(v) for v in vector]))
        check.directions.append(
            _compare(where, derived, forward, base, vector, measure, complex_step, rtol, atol)
        )
    if raise_error and not check:
        name = getattr(function, "__name__", type(function).__name__)
        wrong = [d for d in check.directions if not d.ok]
        raise CheckError(
            f"the gradient of {name} is wrong in {len(wrong)} of {len(check.directions)} "
            "directions:\n" + "\n".join(map(str, wrong[:8]))
        )
    return check


def _point(x: Any) -> Array:
    """The argument in float64 (integers and bools stay)."""
    array = as_array(float(x) if x.__class__ is int else x)
    return array.astype(np.float64) if array.dtype.char in FLOATS else array


def _vectors(
    leaves: Sequence[Any], floats: Sequence[int], base: Sequence[Array], every_entry: bool,
    directions: int, generator: np.random.Generator,
) -> Any:  # fmt: skip
    """The directions to try, each with its name."""
    if not sum(b.size for b in base):
        return
    if not every_entry:
        for k in range(directions):
            yield f"random direction {k}", [generator.normal(size=b.shape) for b in base]
        return
    for place, number in enumerate(floats):
        for index in np.ndindex(base[place].shape):
            vector = [np.zeros(b.shape) for b in base]
            vector[place][index] = 1
            entry = f"[{', '.join(map(str, index))}]" if index else ""
            yield f"argument {number}{entry}", vector


def _complex_step(
    line: Linearized, weights: Sequence[Array]
) -> Callable[[Sequence[Array], Sequence[Array]], float | None] | None:
    """Im u·f(x + ih·v)/h on the recorded graph; None where a gate is not analytic."""
    graph = Graph.of([o._node if o._node is not None else o._value for o in line.outputs],
                     line.wanted)  # fmt: skip
    for node in graph.nodes:
        if node in line.active and not getattr(node.primitive, "analytic", False):
            return None

    def step(base: Sequence[Array], vector: Sequence[Array]) -> float | None:
        leaves: dict[Node, Any] = {
            n: b + 1j * COMPLEX_STEP * v for n, b, v in zip(line.wanted, base, vector, strict=True)
        }
        for _, leaf in graph.captured:
            leaves[leaf] = leaf.data
        try:
            with np.errstate(all="ignore"):
                found, _ = graph.run(
                    leaves,
                    lambda n, xs: n.primitive.forward(*xs, **(n.params or {})),  # type: ignore[union-attr]
                )
        except TypeError:  # a NumPy function without a complex version
            return None
        return _dot(weights, [np.asarray(f).imag for f in found]) / COMPLEX_STEP

    return step


def _compare(
    where: str, derived: float, forward: float, base: Sequence[Array], vector: Sequence[Array],
    measure: Callable[[Sequence[Array]], float], complex_step: Any, rtol: float, atol: float,
) -> Direction:  # fmt: skip
    if not _close(derived, forward, 1e-9):
        return Direction(where, derived, forward, 0.0, "reverse differs from forward mode", False)
    exact = complex_step(base, vector) if complex_step is not None else None
    if exact is not None and np.isfinite(exact):
        ok = _close(derived, exact, 1e-10)
        return Direction(where, derived, exact, 1e-10 * abs(exact), "complex step", ok)

    def along(h: float) -> float:
        with np.errstate(all="ignore"):
            return measure([b + h * v for b, v in zip(base, vector, strict=True)])

    scale = 1e-2 / max(1.0, max((np.abs(v).max() for v in vector if v.size), default=1.0))
    here = along(0.0)
    slope, error = richardson(lambda h: (along(h) - along(-h)) / (2 * h), scale, 2)
    tolerance = max(atol, rtol * abs(slope), 4 * error)
    if abs(derived - slope) <= tolerance and error <= 1e-3 * max(1.0, abs(slope)):
        return Direction(where, derived, slope, error, "central differences", True)
    right, e1 = richardson(lambda h: (along(h) - here) / h, scale, 1)
    left, e2 = richardson(lambda h: (here - along(-h)) / h, scale, 1)
    slack = max(atol, rtol * max(abs(left), abs(right)), 4 * max(e1, e2))
    kink = abs(left - right) > 10 * slack
    if kink and min(left, right) - slack <= derived <= max(left, right) + slack:
        return Direction(where, derived, slope, abs(right - left) / 2, "one-sided", True, True)
    ok = abs(derived - slope) <= tolerance
    return Direction(where, derived, slope, error, "central differences", ok)


def _close(a: float, b: float, rtol: float) -> bool:
    return bool(np.isclose(a, b, rtol, 1e-12, equal_nan=True))


def _dot(first: Iterable[Any], second: Iterable[Any]) -> float:
    """Σ first · second over all entries of two lists of arrays."""
    pairs = zip(first, second, strict=True)
    return float(sum((np.asarray(u) * np.asarray(v)).sum() for u, v in pairs))


def richardson(slope: Callable[[float], float], h: float, order: int) -> tuple[float, float]:
    """The limit of slope(h) for h → 0 and its error, by Ridders' table of extrapolations.

    slope(h) = limit + c·h^order + …, in steps of `order`.
    """
    shrink, table, best, error = 1.6, [[slope(h)]], slope(h), float("inf")
    for i in range(1, 14):
        h /= shrink
        row = [slope(h)]
        factor = shrink**order
        for j in range(i):
            row.append((row[j] * factor - table[i - 1][j]) / (factor - 1))
            factor *= shrink**order
            e = max(abs(row[j + 1] - row[j]), abs(row[j + 1] - table[i - 1][j]))
            if e <= error:
                error, best = e, row[j + 1]
        table.append(row)
        if abs(row[i] - table[i - 1][i - 1]) >= 4 * error:
            break
    return best, error
