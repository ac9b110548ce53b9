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
        if any(o is None for o in outs):
            raise GateError("forward returned None where an output belongs: is `return` missing?")
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
    settled: bool


def slopes(at: Callable[[float], Array], here: Array, size: float, coarse: bool) -> Slopes:
    """The slopes of at(step) at 0, where the entry has that size. `coarse`: float32 inside."""
    size = size if np.isfinite(size) else 0.0
    found = _slopes(at, here, size, coarse, FIRST * max(1.0, size))
    if not found.settled and 0 < size < 1:  # as log near 0: steps as small as the entry
        closer = _slopes(at, here, size, coarse, FIRST * size)
        return closer if closer.settled else found
    return found


def _slopes(
    at: Callable[[float], Array], here: Array, size: float, coarse: bool, h: float
) -> Slopes:
    """The slopes with steps from h on."""
    epsilon = 1e-7 if coarse else 2e-16
    best, error = np.full_like(here, np.nan), np.full_like(here, np.inf)
    central = right = left = gap = best
    grown = np.zeros(here.shape, bool)
    past, settled = np.zeros(here.shape, bool), False
    for level in range(COARSE_LEVELS if coarse else LEVELS):
        f1, f2, b1, b2 = at(h), at(2 * h), at(-h), at(-2 * h)
        last = central, right, left
        with np.errstate(all="ignore"):
            size_f = np.maximum(np.abs(here), np.maximum(np.abs(f1), np.abs(b1)))
            central = (8 * (f1 - b1) - (f2 - b2)) / (12 * h)
            rounded = size_f + size * np.abs(central)  # of forward, and of entry ± step
            still = (f1 == here) & (f2 == here) & (b1 == here) & (b2 == here)
            rounded = np.where(still, 0, rounded)  # nothing moved: nothing to round
            noise = epsilon * np.where(np.isfinite(rounded), rounded, 0) / h
            right = (4 * (f1 - here) - (f2 - here)) / (2 * h)
            left = (4 * (here - b1) - (here - b2)) / (2 * h)
            edge = np.isnan(left) | np.isinf(left)
            both = np.isfinite(right) & np.isfinite(left)
            # at the edge of where forward is finite, one side has to do
            central = np.where(both & np.isfinite(central), central, np.where(edge, right, left))
            gap = np.where(both, np.abs(right - left), 0.0)
            if level:
                # slopes across a pole may agree; those of both sides do not
                new = np.maximum(np.abs(central - last[0]), gap) + noise
                # after the first minimum rounding or roughness takes over, and later agreement is
                # chance, unless it is entire: as inside of a pole, or off a kink
                agrees = new <= SETTLED * np.abs(central)
                better = (agrees | ~past) & (new <= error)  # false for NaN
                past |= new > error
                best, error = np.where(better, central, best), np.where(better, new, error)
                one, before = (np.fmax(np.abs(s[0]), np.abs(s[1]))
                               for s in ((right, left), last[1:]))  # fmt: skip
                grown = (one > 1.5 * before) & (one > 100 * noise) & (level > 3)
                scale = np.abs(best)
                heard = noise <= 1e-6 * scale.max(initial=0)  # not drowned in rounding
                room = np.maximum(SETTLED * scale, np.where(heard, 8 * noise, 0))
                settled = bool(((error <= room) & ~grown).all())
                if settled or (noise > 1e-2 * scale).all():
                    break
        h /= 8
    result = _judged(best, error, right, left, gap, noise, grown)
    result.settled = settled
    return result


def _judged(
    best: Array, error: Array, right: Array, left: Array, gap: Array, noise: Array, grown: Array,
) -> Slopes:  # fmt: skip
    """Kinks and jumps, from how the slopes of both sides went when the step shrank."""
    with np.errstate(all="ignore"):
        # what only became rough when steps were small was measured with larger ones
        grown = grown & (error > 0.05 * np.abs(best))
        free = grown | ~np.isfinite(best) | ~np.isfinite(error)
        threshold = 1e-5 * np.fmax(np.abs(right), np.abs(left)) + 100 * noise
        kink = ~free & (gap > threshold) & (error > 0.5 * gap)
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
        False,
    )


__all__ = ["FREE", "Array", "Run", "Runner", "Slopes", "slopes"]
