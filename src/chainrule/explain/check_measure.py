"""Running a gate for a check, and measuring the derivative of its forward.

Slopes are differences in float64, at steps that shrink until they agree; what both sides of a point
say apart is a kink, what grows without end is a jump.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autodiff.reverse import vjp
from ..core.context import context
from ..errors import GateError
from ..ops.custom import TensorGate
from ..ops.tensor import constant

Array = np.ndarray[Any, Any]

LEVELS, COARSE_LEVELS = 9, 3
"""So many steps are tried from FIRST on, each an eighth of the last (fewer in float32)."""
FIRST = 1e-2
SETTLED = 1e-8
"""Slopes that differ by so little, relatively, from those at the last step are taken."""
FREE = 1e100
"""The room where nothing is known: at jumps, and where forward is not finite."""


class Runner:
    """A gate (NumPy or chainrule's operations) or a function, run on copies of everything.

    The object is copied before each forward, and NumPy's global random numbers start over, so a
    gate that draws random numbers draws the same each time.
    """

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.function = not hasattr(gate, "backward")
        self.tensors = isinstance(gate, TensorGate)
        called = gate if self.function else gate.forward
        self.name = gate.__name__ if hasattr(gate, "__name__") else type(gate).__name__
        try:
            parameters = list(inspect.signature(called).parameters.values())
        except (TypeError, ValueError):  # a callable that does not say
            parameters = []
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
        self.parameters = [p.name for p in parameters if p.kind in positional]
        self.needed = sum(p.kind in positional and p.default is p.empty for p in parameters)

    def run(self, inputs: Sequence[Array]) -> Run:
        """One forward, with what its backward needs."""
        before = np.random.get_state()  # noqa: NPY002 (the user's gate may draw from it)
        np.random.seed(0)  # noqa: NPY002
        try:
            with np.errstate(all="ignore"):
                return self._run(list(inputs))
        finally:
            np.random.set_state(before)  # noqa: NPY002

    def _run(self, inputs: list[Array]) -> Run:
        if self.function:
            floats = [k for k, x in enumerate(inputs) if x.dtype.kind == "f"]

            def call(*moving: Any) -> Any:
                given: list[Any] = [constant(x) for x in inputs]
                for k, x in zip(floats, moving, strict=True):
                    given[k] = x
                return self.gate(*given)

            out, pull = vjp(call, *(constant(inputs[k]) for k in floats))

            def pulled(*parts: Array) -> Any:
                ups = [constant(p) for p in parts]
                several = isinstance(out, (tuple, list))
                found = pull(type(out)(ups) if several else ups[0])
                grads: list[Any] = [None] * len(inputs)
                for k, g in zip(floats, found, strict=True):
                    grads[k] = np.asarray(g)
                return grads

            return Run(None, out, pulled)
        try:
            state = copy.deepcopy(self.gate)
        except Exception:  # something in it has no deep copy; gates are used on shallow ones, too
            state = copy.copy(self.gate)
        if not self.tensors:
            return Run(state, state.forward(*inputs), state.backward)
        with context(trace=None, recording=False):
            tensors = [constant(x) for x in inputs]
            out = state.forward(*tensors)

        def backward(*parts: Array) -> Any:
            with context(trace=None, recording=False):
                found = state.backward(*(constant(p) for p in parts), out, *tensors)
            several = isinstance(found, (tuple, list))
            grads = [None if g is None else np.asarray(g) for g in (found if several else [found])]
            return grads if several else grads[0]

        return Run(state, out, backward)


@dataclass
class Run:
    """One forward: the object as it left it, what it returned, and its backward."""

    state: Any
    out: Any
    backward: Callable[..., Any]

    def __post_init__(self) -> None:
        outs = self.out if isinstance(self.out, (tuple, list)) else (self.out,)
        arrays = [np.asarray(o) for o in outs]
        for o in arrays:
            if o.dtype.kind not in "fiub":
                raise GateError(f"forward must return arrays of real numbers, returned {o.dtype}")
        self.coarse = any(o.dtype.kind == "f" and o.dtype.itemsize < 8 for o in arrays)
        self.outs = [np.array(o, np.float64) for o in arrays]

    @property
    def flat(self) -> Array:
        return np.concatenate([o.reshape(-1) for o in self.outs]) if self.outs else np.zeros(0)


@dataclass
class Slopes:
    """∂outputs/∂(one entry): measured, with its error and the room that a kink leaves.

    Any slope from `low` to `high` is right.
    """

    value: Array
    error: Array
    low: Array
    high: Array
    kink: bool
    free: bool


def slopes(at: Callable[[float], Array], here: Array, size: float, coarse: bool) -> Slopes:
    """The slopes of at(step) at 0, where the entry has that size. `coarse`: float32 inside."""
    epsilon = 1e-7 if coarse else 2e-16
    h = FIRST * max(1.0, size)
    best, error = np.full_like(here, np.nan), np.full_like(here, np.inf)
    gaps: list[Array] = []
    central = right = left = best
    grown = np.zeros(here.shape, bool)
    for level in range(COARSE_LEVELS if coarse else LEVELS):
        f1, f2, b1, b2 = at(h), at(2 * h), at(-h), at(-2 * h)
        last = central, right, left
        with np.errstate(all="ignore"):
            size_f = np.maximum(np.abs(here), np.maximum(np.abs(f1), np.abs(b1)))
            central = (8 * (f1 - b1) - (f2 - b2)) / (12 * h)
            rounded = size_f + size * np.abs(central)  # of forward, and of entry ± step
            noise = epsilon * np.where(np.isfinite(rounded), rounded, 0) / h
            right = (-3 * here + 4 * f1 - f2) / (2 * h)
            left = (3 * here - 4 * b1 + b2) / (2 * h)
            edge = np.isnan(left) | np.isinf(left)
            both = np.isfinite(right) & np.isfinite(left)
            # at the edge of where forward is finite, one side has to do
            central = np.where(both & np.isfinite(central), central, np.where(edge, right, left))
            gaps.append(np.where(both, np.abs(right - left), 0.0))
            if level:
                new = np.abs(central - last[0]) + noise
                better = new <= error  # false for NaN
                best, error = np.where(better, central, best), np.where(better, new, error)
                one, before = (np.fmax(np.abs(s[0]), np.abs(s[1]))
                               for s in ((right, left), last[1:]))  # fmt: skip
                grown = (one > 1.5 * before) & (one > 100 * noise) & (level > 3)
                scale = np.abs(best)
                room = np.maximum(SETTLED * scale, 8 * noise)
                steady = (error <= room) & (gaps[-1] <= 1e3 * room) & ~grown
                if steady.all() or (noise > 1e-2 * scale).all():
                    break
        h /= 8
    return _judged(best, error, right, left, gaps, noise, grown)


def _judged(
    best: Array, error: Array, right: Array, left: Array, gaps: list[Array], noise: Array,
    grown: Array,
) -> Slopes:  # fmt: skip
    """Kinks and jumps, from how the slopes of both sides went when the step shrank."""
    with np.errstate(all="ignore"):
        free = grown | ~np.isfinite(best) | ~np.isfinite(error)
        gap, before = gaps[-1], gaps[max(0, len(gaps) - 2)]
        threshold = 1e-5 * np.fmax(np.abs(right), np.abs(left)) + 100 * noise
        kink = ~free & (gap > threshold) & (gap > 0.25 * before)
        low = np.where(kink, np.fmin(left, right), best)
        high = np.where(kink, np.fmax(left, right), best)
    value = np.where(free, 0.0, np.where(kink, (low + high) / 2, best))
    return Slopes(
        value,
        np.where(free, 0.0, np.where(kink, noise, error)),
        np.where(free, -FREE, low),
        np.where(free, FREE, high),
        bool(kink.any()),
        bool(free.any()),
    )


__all__ = ["FREE", "Array", "Run", "Runner", "Slopes", "slopes"]
