"""Is the backward of this gate right; and if not, what is wrong with it?

The forward is measured (differences, in float64), the backward is called with several upstream
gradients, and both are compared. Where they differ, the usual mistakes are tried one by one: the
one that explains every number exactly is named.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import CheckError, GateError
from .numbers import array, number

BASIS = 64
"""Of at most so many output entries each is an upstream gradient of its own."""
COLUMNS = 300
"""At most so many entries of an input are measured."""
STEP = 1e-3
TOLERANCE = 1e-6
KINK = 1e-3
"""Slopes on both sides that differ by more are a kink: any slope between them is right."""

Array = np.ndarray[Any, Any]


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


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What was found: `ok`, and `causes` where it is not. True if the backward is right."""

    gate: str
    inputs: str
    causes: tuple[Cause, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.causes

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "is right" if self.ok else "is wrong"
        lines = [f"the backward of {self.gate} {verdict}, with {self.inputs}"]
        lines += [f"  {c}" for c in self.causes] + [f"  note: {n}" for n in self.notes]
        return "\n".join(lines)

    __repr__ = __str__


def check(gate: Any, *inputs: Any, seed: int = 0, raise_error: bool = False) -> CheckReport:
    """Compare the backward of a Gate with its forward, and say what is wrong.

    `gate` is a class or an object with `forward(self, …)` and `backward(self, upstream)` in NumPy.
    `inputs` are arrays; without them, small ones are chosen that forward takes. Nothing that is
    given is changed. With `raise_error` a wrong backward is a CheckError.

    Raises GateError if forward does not run with the inputs, or takes none that were tried.

    >>> import chainrule as cr
    >>> class Square(cr.Gate):
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * x
    ...     def backward(self, upstream):
    ...         return upstream * self.x
    >>> check(Square, np.array([1.0, -2.0]))
    the backward of Square is wrong, with x = [1, -2]
      gradient of x: factor. It is 0.5 times what it should be.
        Multiply it by 2.
    """
    made = gate() if isinstance(gate, type) else gate
    for method in ("forward", "backward"):
        if not callable(getattr(made, method, None)):
            raise GateError(f"check takes a gate with forward and backward, received {gate!r:.60}")
    trial = _Trial(made, _given(made, inputs, seed), seed)
    causes = tuple(trial.causes())
    report = CheckReport(trial.name, trial.described(), causes, tuple(trial.notes))
    if raise_error and causes:
        raise CheckError(str(report))
    return report


def _given(gate: Any, inputs: Sequence[Any], seed: int) -> list[Array]:
    """The inputs as arrays of their own; or some that forward takes."""
    if inputs:
        return [np.array(x) for x in inputs]
    try:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = inspect.signature(gate.forward).parameters.values()
        count = sum(p.kind in kinds and p.default is p.empty for p in names)
    except (TypeError, ValueError):
        count = 0
    generator = np.random.default_rng(seed)
    for shapes in SHAPES.get(count, ()):
        drawn = [generator.normal(size=s) for s in shapes]
        for arrays in (drawn, [np.abs(x) + 0.5 for x in drawn]):
            try:
                with np.errstate(all="ignore"):
                    out = copy.copy(gate).forward(*map(np.array, arrays))
                if all(np.isfinite(o).all() for o in _outputs(out)):
                    return [np.array(x) for x in arrays]
            except Exception as error:  # whatever a user's code raises: these inputs do not fit
                last = error
    said = f" (the last attempt: {last})" if "last" in locals() else ""
    raise GateError(
        f"forward of {type(gate).__name__} takes none of the inputs that were tried: give some, as "
        f"check(gate, x, y){said}"
    )


SHAPES: dict[int, list[tuple[tuple[int, ...], ...]]] = {
    1: [((3, 4),), ((5,),), ((),), ((2, 5, 5, 3),)],
    2: [((3, 4), (4, 2)), ((3, 4), (3, 4)), ((3, 4), (4,)), ((5,), (5,)), ((), ())],
    3: [((4, 3), (3, 2), (2,)), ((3, 4), (3, 4), (3, 4)), ((3, 4), (4,), (4,)), ((), (), ())],
}
"""What is tried for forwards of so many inputs: sides differ, so that a transpose shows."""


def _outputs(out: Any) -> list[Array]:
    return [np.asarray(o, np.float64) for o in (out if isinstance(out, (tuple, list)) else [out])]


@dataclass
class _Trial:
    """One gate at one point: what its backward gives, and what it should."""

    gate: Any
    given: list[Array]
    seed: int
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = type(self.gate).__name__
        names = [
            p.name
            for p in inspect.signature(self.gate.forward).parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY)
        ]
        self.names = [
            *names[: len(self.given)],
            *(f"input {k}" for k in range(len(names), len(self.given))),
        ]
        self.floats = [k for k, x in enumerate(self.given) if x.dtype.kind == "f"]
        self.given = [
            x.astype(np.float64) if x.dtype.kind == "f" else x for x in self.given
        ]  # float32 is too coarse to measure slopes
        try:
            self.outs = self.forward(self.given)
        except Exception as error:  # a user's code
            raise GateError(f"forward of {self.name} raises {_said(error)}") from error
        self.size = sum(o.size for o in self.outs)
        generator = np.random.default_rng(self.seed)
        basis = np.eye(self.size) if self.size <= BASIS else np.zeros((0, self.size))
        drawn = generator.normal(size=(4 if len(basis) else 16, self.size))
        self.upstreams = np.concatenate([basis, drawn]) if self.size else basis
        self.columns = {
            k: np.arange(self.given[k].size)
            if self.given[k].size <= COLUMNS
            else np.sort(generator.choice(self.given[k].size, COLUMNS, replace=False))
            for k in self.floats
        }

    def described(self) -> str:
        return ", ".join(f"{n} = {array(x)}" for n, x in zip(self.names, self.given, strict=True))

    def forward(self, inputs: Sequence[Array]) -> list[Array]:
        """The outputs of a fresh run."""
        with np.errstate(all="ignore"):
            return _outputs(copy.copy(self.gate).forward(*map(np.array, inputs)))

    def split(self, flat: Array) -> list[Array]:
        """A flat upstream gradient as arrays of the outputs' shapes."""
        ends = np.cumsum([o.size for o in self.outs])[:-1]
        parts = np.split(flat, ends)
        return [p.reshape(o.shape).copy() for p, o in zip(parts, self.outs, strict=True)]

    # -- what it should be ----------------------------------------------------------------------

    def measure(self, k: int) -> tuple[Array, Array, Array]:
        """∂outputs/∂(input k) at its columns: central, and the bounds between both sides."""
        x, columns = self.given[k], self.columns[k]
        central = np.zeros((self.size, len(columns)))
        low, high = central.copy(), central.copy()
        here = self.flat(self.given)
        for j, column in enumerate(columns):
            h = STEP * max(1.0, abs(float(x.flat[column])))

            def at(step: float, column: int = int(column), h: float = h) -> Array:
                moved = x.copy()
                moved.flat[column] += step * h
                return self.flat([moved if i == k else g for i, g in enumerate(self.given)])

            f1, f2, b1, b2 = at(1), at(2), at(-1), at(-2)
            central[:, j] = (8 * (f1 - b1) - (f2 - b2)) / (12 * h)
            right = (-3 * here + 4 * f1 - f2) / (2 * h)
            left = (3 * here - 4 * b1 + b2) / (2 * h)
            kink = np.abs(right - left) > KINK * np.maximum(1, np.abs(central[:, j]))
            low[:, j] = np.where(kink, np.minimum(left, right), central[:, j])
            high[:, j] = np.where(kink, np.maximum(left, right), central[:, j])
            if kink.any() and not self.notes:
                self.notes.append(
                    "the inputs lie on a kink, where any slope between both sides is right"
                )
        return central, low, high

    def flat(self, inputs: Sequence[Array]) -> Array:
        outs = self.forward(inputs)
        return np.concatenate([o.reshape(-1) for o in outs]) if outs else np.zeros(0)

    # -- what it is -----------------------------------------------------------------------------

    def causes(self) -> Iterator[Cause]:
        """Every mistake, one an input at most; the first that spoils all is the only one."""
        if not self.size:
            self.notes.append("forward gives nothing (an empty array): nothing can be compared")
        gate, inputs = copy.copy(self.gate), [x.copy() for x in self.given]
        with np.errstate(all="ignore"):
            gate.forward(*inputs)
            found = self.called(gate, inputs)
        if isinstance(found, Cause):
            yield found
            return
        measured = {k: self.measure(k) for k in self.floats}
        self.truth = {k: self.upstreams @ m[0] for k, m in measured.items()}
        wrong = [k for k in self.floats if not self.right(found[k], k, *measured[k])]
        for k in wrong:
            yield self.named(k, found, wrong, measured[k][0])

    def called(self, gate: Any, inputs: list[Array]) -> Any:
        """For each input its gradients, one for each upstream gradient; or what went wrong."""
        results: list[list[Any]] = []
        for flat in self.upstreams:
            parts = self.split(flat)
            kept = [p.copy() for p in parts]
            try:
                given = gate.backward(*parts)
            except Exception as error:  # a user's code
                return Cause(
                    "raises",
                    "",
                    f"backward raises {_said(error)}",
                    f"It is called with upstream of shape {self.shapes(parts)}, and the "
                    f"inputs have {self.shapes(inputs)}: which product gives these?",
                )
            given = list(given) if isinstance(given, (tuple, list)) else [given]
            if len(given) != len(inputs):
                return Cause(
                    "count",
                    "",
                    f"backward returns {len(given)} gradient{'s' * (len(given) != 1)} for "
                    f"{len(inputs)} input{'s' * (len(inputs) != 1)}",
                    f"Return one for each of {', '.join(self.names)}, None where there is none.",
                )
            damaged = self.damaged(parts, kept, inputs)
            if damaged:
                return damaged
            results.append([None if g is None else np.array(g, np.float64) for g in given])
        if results and not self.repeats(gate, results[0]):
            return Cause(
                "in-place damage",
                "",
                "a second call with the same upstream gives other "
                "numbers: backward changes what forward saved",
                "Compute into new arrays: y = y * z instead of y *= z.",
            )
        return [[r[k] for r in results] for k in range(len(inputs))]

    def damaged(self, parts: Any, kept: Any, inputs: list[Array]) -> Cause | None:
        advice = "Compute into new arrays: y = y * z instead of y *= z."
        if not all(map(np.array_equal, parts, kept)):
            return Cause(
                "in-place damage",
                "",
                "backward writes into the upstream gradient, which other gates read, too",
                advice,
            )
        for name, x, before in zip(self.names, inputs, self.given, strict=True):
            if not np.array_equal(x, before, equal_nan=x.dtype.kind == "f"):
                return Cause(
                    "in-place damage", name, f"the gate writes into its input {name}", advice
                )
        return None

    def repeats(self, gate: Any, first: list[Any]) -> bool:
        again = gate.backward(*self.split(self.upstreams[0]))
        again = list(again) if isinstance(again, (tuple, list)) else [again]
        return all(
            a is None or b is None or np.array_equal(np.asarray(a, np.float64), b, equal_nan=True)
            for a, b in zip(again, first, strict=True)
        )

    def shapes(self, arrays: Sequence[Array]) -> str:
        return ", ".join(str(x.shape) for x in arrays)

    def right(self, found: list[Any], k: int, central: Array, low: Array, high: Array) -> bool:
        """Whether the gradients are what was measured, up to kinks."""
        shape = self.given[k].shape
        if any(g is None for g in found):
            return not np.abs(central).max(initial=0) > TOLERANCE
        if any(g.shape != shape for g in found):
            return False
        rows = self.rows(found, k)
        truth, u = self.truth[k], self.upstreams
        room = np.abs(u) @ (high - low) + TOLERANCE * (1 + np.abs(u) @ np.abs(central))
        return bool((np.abs(rows - truth) <= room).all())

    def rows(self, found: list[Any], k: int) -> Array:
        """The gradients as rows, at the entries that were measured."""
        flat = [g.reshape(-1)[self.columns[k]] for g in found]
        return np.array(flat).reshape(len(found), len(self.columns[k]))

    # -- what explains it -----------------------------------------------------------------------

    def named(self, k: int, found: list[list[Any]], wrong: list[int], J: Array) -> Cause:
        """The mistake that explains the gradients of input k, of all upstream gradients."""
        name, x = self.names[k], self.given[k]
        given = found[k]
        nothing = any(g is None for g in given) or not any(np.any(g) for g in given)
        if nothing:
            came = "None" if given[0] is None else "zeros"
            return Cause(
                "missing gradient",
                name,
                f"{came} came, but the output depends on {name}",
                f"Return upstream × ∂out/∂{name}.",
            )
        for j in self.floats:
            if j != k and self.matches(given, j):
                back = j in wrong and self.matches(found[j], k)
                if back:
                    return Cause(
                        "swapped",
                        name,
                        f"it is the gradient of {self.names[j]}, and that one is this one's",
                        "Return the gradients in the order of forward's inputs.",
                    )
        if any(g.shape != x.shape for g in given):
            return self.misshapen(k, given)
        rows, truth = self.rows(given, k), self.truth[k]
        ratio = _ratio(rows, truth)
        if ratio is not None:
            if np.isclose(ratio, -1):
                return Cause("sign", name, "It has the wrong sign.", "Put a minus before it.")
            return Cause(
                "factor",
                name,
                f"It is {number(ratio)} times what it should be.",
                f"Multiply it by {number(1 / ratio)}{self.sizes(ratio)}.",
            )
        if len(rows) > 1 and _close(rows, np.broadcast_to(rows[0], rows.shape)):
            return Cause(
                "upstream forgotten",
                name,
                "It is the same for every upstream gradient: the local derivative alone",
                "downstream = upstream × local: multiply by upstream.",
            )
        for j in self.floats:
            if j != k and self.matches(given, j):
                return Cause(
                    "wrong input",
                    name,
                    f"It is the gradient of {self.names[j]}.",
                    f"Compute that of {name}: upstream × ∂out/∂{name}.",
                )
        if x.size == self.size and _close(rows, self.upstreams[:, self.columns[k]]):
            return Cause(
                "local forgotten",
                name,
                "It is the upstream gradient as it came.",
                f"downstream = upstream × local: multiply by ∂out/∂{name}.",
            )
        if self.transposed(given, k, J):
            return Cause(
                "transposed",
                name,
                "It is right with the other order of axes",
                "Transpose: for out = x @ W it is upstream @ W.T, and x.T @ upstream.",
            )
        return self.unexplained(k, rows, truth)

    def matches(self, given: list[Any], j: int) -> bool:
        """Whether gradients are those that input j should have."""
        shape = self.given[j].shape
        if any(g is None or g.shape != shape for g in given):
            return False
        return _close(self.rows(given, j), self.truth[j])

    def misshapen(self, k: int, given: list[Any]) -> Cause:
        name, shape = self.names[k], self.given[k].shape
        came = next(g.shape for g in given if g.shape != shape)
        seen = f"It has shape {came}, {name} has {shape}"
        whole = self.columns[k].size == self.given[k].size
        if (
            whole
            and came == shape[::-1]
            and _close(np.array([g.T.reshape(-1) for g in given]), self.truth[k])
        ):
            return Cause(
                "transposed",
                name,
                seen,
                "Transpose it, or exchange the factors: x.T @ upstream instead of upstream.T @ x.",
            )
        for axes in _axes(len(came)):
            sums = [g.sum(axes).reshape(-1) for g in given]
            if (
                whole
                and sums[0].size == self.given[k].size
                and _close(np.array(sums), self.truth[k])
            ):
                return Cause(
                    "not summed",
                    name,
                    f"{seen}: {name} was used several times",
                    f"The gradients of all uses add up: .sum({_written(axes)}).",
                )
        if len(came) >= len(shape) and np.prod(came) > np.prod(shape):
            return Cause(
                "not summed",
                name,
                f"{seen}: {name} was used several times",
                "Add up the gradients of all uses, over the batch or the axes along which "
                "it was broadcast; beside that its numbers differ, too.",
            )
        return Cause("shape", name, seen, f"A gradient has the shape of its input, {shape}.")

    def transposed(self, given: list[Any], k: int, J: Array) -> bool:
        """Whether it is the transpose, or upstream was multiplied by the transposed matrix."""
        whole = self.columns[k].size == self.given[k].size
        x = self.given[k]
        if not whole:
            return False
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            turned = np.array([g.T.reshape(-1) for g in given])
            if _close(turned, self.truth[k]):
                return True
        return J.shape[0] == J.shape[1] and _close(self.rows(given, k), self.upstreams @ J.T)

    def sizes(self, ratio: float) -> str:
        """Where a factor may come from: the size of an axis, or of all."""
        for k, x in enumerate([*self.given, *self.outs]):
            what = self.names[k] if k < len(self.given) else "the output"
            for axis, n in enumerate(x.shape):
                if n > 2 and np.isclose(ratio, n):
                    return f": {n} is the size of axis {axis} of {what}; the mean divides by it"
                if n > 2 and np.isclose(ratio, 1 / n):
                    return f": a mean over axis {axis} of {what} where a sum belongs"
        return ""

    def unexplained(self, k: int, rows: Array, truth: Array) -> Cause:
        """No usual mistake: where the numbers differ, and whether a simple factor is missing."""
        name = self.names[k]
        for what, values in self.values(k):
            with np.errstate(all="ignore"):
                if _close(rows * values, truth):
                    return Cause(
                        "wrong local", name, f"A factor {what} is missing.", f"Multiply by {what}."
                    )
                if _close(rows, truth * values):
                    return Cause(
                        "wrong local",
                        name,
                        f"There is a factor {what} too many.",
                        f"Take the factor {what} away.",
                    )
        hint = self.hint(rows, truth) or (
            f"Derive ∂out/∂{name} again; look at entries that the output depends on in more than "
            "one way."
        )
        off = np.abs(rows - truth) > TOLERANCE * (1 + np.abs(truth))
        u, j = (int(i) for i in np.unravel_index(np.abs(rows - truth).argmax(), rows.shape))
        place = np.unravel_index(self.columns[k][j], self.given[k].shape)
        entry = f"[{', '.join(str(int(i)) for i in place)}]" if self.given[k].ndim else ""
        return Cause(
            "wrong local",
            name,
            f"{off.any(0).sum()} of {rows.shape[1]} entries differ; most at {name}{entry} = "
            f"{number(float(self.given[k].flat[self.columns[k][j]]))}: {number(rows[u, j])} came, "
            f"{number(truth[u, j])} was measured",
            hint,
        )

    def hint(self, rows: Array, truth: Array) -> str:
        """What the matrix from upstream to downstream shows, where each output was tried alone."""
        m = self.size
        if not 1 < m < len(rows):
            return ""
        matrix, true = rows[:m], truth[:m]
        if not _close(self.upstreams[m:] @ matrix, rows[m:]):
            return "It is no product with upstream: twice the upstream does not give twice of it."
        own = np.eye(m, matrix.shape[1], dtype=bool)
        if m == matrix.shape[1] and _close(matrix[own], true[own]) and not matrix[~own].any():
            return "It has only the diagonal of the Jacobian: outputs depend on other entries, too."
        return ""

    def values(self, k: int) -> Iterator[tuple[str, Array]]:
        """Arrays of the shape of input k that could be a factor."""
        for what, x in [*zip(self.names, self.given, strict=True), ("the output", self.outs[0])]:
            if x.dtype.kind == "f" and x.shape == self.given[k].shape:
                yield what, x.reshape(-1)[self.columns[k]]


def _close(a: Array, b: Array) -> bool:
    scale = np.abs(b).max(initial=0.0)
    return a.shape == b.shape and bool((np.abs(a - b) <= 10 * TOLERANCE * (scale or 1.0)).all())


def _ratio(a: Array, b: Array) -> float | None:
    """c where a = c·b; None if there is none."""
    square = float((b * b).sum())
    if not square:
        return None
    c = float((a * b).sum()) / square
    return c if c and _close(a, c * b) and _close(a / c, b) else None


def _axes(n: int) -> Iterator[tuple[int, ...]]:
    """Sets of axes, those in front first."""
    for k in range(1, n + 1):
        yield tuple(range(k))
    for axis in range(1, n):
        yield (axis,)


def _written(axes: tuple[int, ...]) -> str:
    return str(axes[0]) if len(axes) == 1 else str(axes)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


__all__ = ["Cause", "CheckReport", "check"]
