"""A gate at one point: the gradients that its backward gives, and those that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import GateError
from .check_measure import FREE, Array, Run, Runner, slopes

BASIS = 64
"""Of at most so many output entries each is an upstream gradient of its own."""
COLUMNS = 300
"""At most so many entries of an input are measured one by one."""
TOLERANCE, COARSE = 1e-6, 3e-4
"""Relative differences that pass in float64, and where float32 is computed in."""


@dataclass(frozen=True)
class Cause:
    """One mistake: its name, the input whose gradient it spoils, what was seen, what to do."""

    name: str
    input: str
    text: str
    advice: str

    def __str__(self) -> str:
        of = f"gradient of {self.input}: " if self.input else ""
        return f"{of}{self.name}. {self.text}\n    {self.advice}"


@dataclass
class Measured:
    """The right gradients of one input: a row an upstream gradient, a column a measured entry."""

    columns: Array
    truth: Array
    room: Array
    """How far from truth is right, too."""
    plain: Array
    """Which columns have one derivative."""
    free: Array
    """Which columns have none at all: a jump, or forward is not finite."""
    jacobian: Array | None
    """∂outputs/∂columns, where it is small."""
    whole: bool
    """Whether the columns are all entries, in order."""


class Trial:
    """One gate at one point. `found[k]` are the gradients of input k, one an upstream gradient."""

    def __init__(self, runner: Runner, given: Sequence[Array], seed: int) -> None:
        self.runner = runner
        self.given = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in given]
        self.floats = [k for k, x in enumerate(self.given) if x.dtype.kind == "f"]
        names = runner.parameters[: len(given)]
        self.names = [*names, *(f"input {k}" for k in range(len(names), len(given)))]
        try:
            first, second = self.run(), self.run()
        except GateError:
            raise
        except Exception as error:  # whatever a user's code raises
            raise GateError(f"forward of {runner.name} raises {said(error)}") from error
        if not np.array_equal(first.flat, second.flat, equal_nan=True):
            raise GateError(
                f"forward of {runner.name} gives other numbers each time, so its slopes cannot be "
                "measured: draw random numbers from a generator that the gate keeps"
            )
        self.outs, self.here, self.size = first.outs, first.flat, first.flat.size
        if not np.isfinite(self.here).all():
            bad = int((~np.isfinite(self.here)).sum())
            raise GateError(
                f"forward of {runner.name} is not finite in {bad} of {self.size} entries: give "
                "inputs where it is"
            )
        self.coarse = first.coarse
        self.generator = np.random.default_rng(seed)
        self.basis = self.size if self.size <= BASIS else 0
        self.upstreams = self._upstreams()
        self.found: list[list[Any]] = []
        self.measured: dict[int, Measured] = {}
        self.notes: list[str] = []

    def _upstreams(self) -> Array:
        """Rows: each entry alone (where they are few), random ones, ones, zeros."""
        m = self.size
        if not m:
            return np.zeros((1, 0))
        count = 4 if self.basis else int(np.clip(1e7 / m, 3, 16))
        drawn = self.generator.normal(size=(count, m))
        return np.concatenate([np.eye(self.basis, m), drawn, np.ones((1, m)), np.zeros((1, m))])

    def run(self, inputs: Sequence[Array] | None = None) -> Run:
        """A fresh forward, of copies."""
        return self.runner.run([x.copy() for x in (self.given if inputs is None else inputs)])

    def split(self, flat: Array) -> list[Array]:
        """A flat upstream gradient as arrays of the outputs' shapes."""
        parts = np.split(flat, np.cumsum([o.size for o in self.outs])[:-1])
        return [p.reshape(o.shape).copy() for p, o in zip(parts, self.outs, strict=True)]

    # -- what is given --------------------------------------------------------------------------

    def call(self) -> Cause | None:
        """Call backward with every upstream gradient; the mistake that makes this useless."""
        results = []
        for flat in self.upstreams:
            inputs = [x.copy() for x in self.given]
            run = self.runner.run(inputs)
            damage = self.damaged(inputs, "forward")
            if damage:
                return damage
            parts = self.split(flat)
            try:
                with np.errstate(all="ignore"):
                    given = listed(run.backward(*parts))
            except Exception as error:  # whatever a user's code raises
                return Cause("raises", "", f"backward raises {said(error)}", self.raised(error))
            if len(given) != len(inputs):
                got, want = counted(len(given), "gradient"), counted(len(inputs), "input")
                advice = f"Return one for each of {', '.join(self.names)}; None where it has none."
                return Cause("count", "", f"backward returns {got} for {want}", advice)
            if not all(map(np.array_equal, parts, self.split(flat))):
                seen = "backward writes into the upstream gradient, which other gates read, too"
                return Cause("in-place damage", "", seen, NEW_ARRAYS)
            damage = self.damaged(inputs, "backward")
            if damage:
                return damage
            for name, g in zip(self.names, given, strict=True):
                if g is not None and not is_real(g):
                    seen = f"It is {g!r:.60}"
                    return Cause("shape", name, seen, "Return an array of real numbers, or None.")
            results.append([None if g is None else np.array(g, np.float64) for g in given])
        self.found = [[r[k] for r in results] for k in range(len(self.given))]
        return self.repeated()

    def repeated(self) -> Cause | None:
        """A second call with the same upstream gradient has to give the same."""
        run = self.run()
        for _ in range(3):
            try:
                with np.errstate(all="ignore"):
                    given = listed(run.backward(*self.split(self.upstreams[self.basis])))
            except Exception as error:  # whatever a user's code raises
                seen = f"a second call of backward raises {said(error)}"
                return Cause("in-place damage", "", seen, NEW_ARRAYS)
            for g, found in zip(given, self.found, strict=True):
                before = found[self.basis]
                same = g is None or before is None or np.array_equal(g, before, equal_nan=True)
                if not same:
                    seen = (
                        "a second call with the same upstream gives other numbers: "
                        "backward changes what forward saved"
                    )
                    return Cause("in-place damage", "", seen, NEW_ARRAYS)
        return None

    def damaged(self, inputs: Sequence[Array], who: str) -> Cause | None:
        """Whether somebody wrote into the inputs."""
        for name, x, before in zip(self.names, inputs, self.given, strict=True):
            if not np.array_equal(x, before, equal_nan=x.dtype.kind == "f"):
                seen = f"{who} writes into its input {name}, which other gates read, too"
                return Cause("in-place damage", name, seen, NEW_ARRAYS)
        return None

    def raised(self, error: Exception) -> str:
        """What to do about an error in backward."""
        ups, ins = shapes(self.outs), shapes(self.given)
        if isinstance(error, AttributeError):
            return "Keep in forward what backward reads: self.x = x."
        if isinstance(error, NameError):
            return "backward sees only upstream and self: keep it in forward, self.x = x."
        if isinstance(error, TypeError) and "argument" in str(error):
            count = counted(len(self.outs), "upstream gradient")
            return f"backward is called with {count}, one for each output."
        return (
            f"It is called with upstream of shape {ups}; the inputs {', '.join(self.names)} have "
            f"{ins}: which product gives these?"
        )

    # -- what it should be ----------------------------------------------------------------------

    def measure(self, k: int, columns: Array | None = None) -> Measured:
        """The right gradients of input k: at all entries, at some of many, or at those given."""
        x, u = self.given[k], self.upstreams
        budget = int(np.clip(1e7 / (1 + self.size + x.size), 16, COLUMNS))
        if columns is None:
            columns = np.arange(x.size)
            if x.size > budget:
                columns = np.sort(self.generator.choice(x.size, budget, replace=False))
        n = len(columns)
        truth, room, scale = np.zeros((len(u), n)), np.zeros((len(u), n)), np.zeros(n)
        kinks, free, rough = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
        small = self.size <= COLUMNS and self.size * n <= 1e5
        jacobian = np.zeros((self.size, n)) if small else None
        weights = np.abs(u)
        relative = COARSE if self.coarse else TOLERANCE
        for j, column in enumerate(columns):

            def at(step: float, column: int = int(column)) -> Array:
                moved = x.copy()
                moved.flat[column] += step
                return self.run([moved if i == k else g for i, g in enumerate(self.given)]).flat

            s = slopes(at, self.here, abs(float(x.flat[column])), self.coarse)
            truth[:, j] = u @ s.value
            spread = (s.high - s.low) / 2 + 4 * s.error + relative * np.abs(s.value)
            room[:, j] = weights @ spread
            scale[j] = np.abs(s.value).max(initial=0)
            kinks[j], free[j] = s.kink, s.free
            rough[j] = s.error.max(initial=0) > 1e-2 * scale[j] > 0
            if jacobian is not None:
                jacobian[:, j] = s.value
        # rounding of the gate's own: next to its largest slope, or where all are 0
        largest = scale.max(initial=0)
        room += (1e-4 * relative * largest if largest else 1e-12) * weights.sum(1, keepdims=True)
        self.noted(k, columns, kinks, free, rough)
        whole = n == x.size
        result = Measured(columns, truth, room, ~(kinks | free), free, jacobian, whole)
        self.measured[k] = result
        return result

    def noted(self, k: int, columns: Array, kinks: Array, free: Array, rough: Array) -> None:
        """Remember where there is no one derivative."""
        for which, text in (
            (kinks, "a kink, where any slope between both sides is right"),
            (free, "no derivative (a jump, or an infinite slope), not compared"),
            (rough, "forward is too rough to measure the slope to 1 part in 100"),
        ):
            if which.any():
                more = f" and {which.sum() - 1} more" if which.sum() > 1 else ""
                self.notes.append(f"at {self.entry(k, columns[which.argmax()])}{more}: {text}")

    def entry(self, k: int, column: Any) -> str:
        """The name of an entry of input k."""
        place = np.unravel_index(int(column), self.given[k].shape)
        return self.names[k] + (f"[{', '.join(map(str, map(int, place)))}]" if place else "")

    # -- whether they agree ---------------------------------------------------------------------

    def wrong(self) -> list[int]:
        """The inputs whose gradients are not what was measured."""
        result = []
        for k in self.floats:
            if not self.right(self.found[k], k, self.measure(k)):
                result.append(k)
            elif not self.measured[k].whole:
                suspects = self.suspects(k)
                if suspects is not None:
                    sampled = self.measured[k]
                    if not self.right(self.found[k], k, self.measure(k, suspects)):
                        result.append(k)
                    else:
                        self.measured[k] = sampled
        if self.size and all(self.measured[k].free.all() for k in self.floats):
            raise GateError(
                f"nothing could be compared: {self.runner.name} has no derivative at these inputs "
                "(a jump, or an infinite slope); give others"
            )
        return result

    def right(self, given: list[Any], k: int, measured: Measured) -> bool:
        """Whether the gradients are within the room around those that were measured."""
        compared = ~measured.free
        if any(g is None for g in given):
            return bool((np.abs(measured.truth) <= measured.room)[:, compared].all())
        if any(g.shape != self.given[k].shape for g in given):
            return False
        off = np.abs(self.rows(given, k) - measured.truth)
        return bool((off <= measured.room)[:, compared].all())  # false for NaN

    def rows(self, given: list[Any], k: int) -> Array:
        """The gradients as rows, at the entries that were measured."""
        columns = self.measured[k].columns
        flat = [g.reshape(-1)[columns] for g in given]
        return np.array(flat).reshape(len(given), len(columns))

    def suspects(self, k: int) -> Array | None:
        """Of an input with many entries those where directions show something wrong, by halving."""
        if any(g is None for g in self.found[k]):
            return None
        block = np.arange(self.given[k].size)
        if not self.differs(k, block):
            return None
        while len(block) > COLUMNS:
            half = len(block) // 2
            first, second = block[:half], block[half:]
            block = first if self.differs(k, first) else second
        return block

    def differs(self, k: int, block: Array) -> bool:
        """Whether the slope along a random direction of these entries is another than given."""
        x, u = self.given[k], self.upstreams
        v = self.generator.normal(size=len(block))
        h = (1e-3 if self.coarse else 1e-6) * max(1.0, float(np.abs(x).max()))

        def at(step: float) -> Array:
            moved = x.copy()
            moved.flat[block] += step * v
            return self.run([moved if i == k else g for i, g in enumerate(self.given)]).flat

        with np.errstate(all="ignore"):
            measured = u @ ((at(h) - at(-h)) / (2 * h))
            given = np.array([g.reshape(-1)[block] @ v for g in self.found[k]])
            noise = (1e-6 if self.coarse else 1e-15) / h * (np.abs(u) @ np.abs(self.here))
            room = 1e-4 * max(np.abs(measured).max(), np.abs(given).max()) + noise
            return not bool((np.abs(measured - given) <= room).all())


NEW_ARRAYS = (
    "Compute into new arrays: y = y * z instead of y *= z (in a graph, what a gate receives is "
    "read-only)."
)


def listed(given: Any) -> list[Any]:
    """What backward returned, as a list."""
    return list(given) if isinstance(given, (tuple, list)) else [given]


def is_real(g: Any) -> bool:
    """Whether this is an array of real numbers."""
    try:
        return np.asarray(g).dtype.kind in "fiub"
    except ValueError:
        return False


def shapes(arrays: Sequence[Array]) -> str:
    return ", ".join(str(x.shape) for x in arrays)


def counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


__all__ = ["FREE", "Array", "Cause", "Measured", "Trial", "counted", "listed", "said"]
