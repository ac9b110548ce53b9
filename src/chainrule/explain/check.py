"""Is the backward of this gate right; and if not, what is wrong with it?

The forward is measured (differences, in float64), the backward is called with several upstream
gradients, and both are compared. Where they differ, the usual mistakes are tried one by one: the
one that explains every number exactly is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CheckError, GateError
from .check_causes import Diagnosis
from .check_compare import Array, Cause, Trial, said
from .check_measure import Runner
from .numbers import array

SHAPES: dict[int, list[tuple[tuple[int, ...], ...]]] = {
    1: [((3, 4),), ((5,),), ((2, 5, 5, 3),), ((),)],
    2: [((3, 4), (4, 2)), ((3, 4), (3, 4)), ((3, 4), (4,)), ((7,), (3,)), ((5,), (5,)), ((), ())],
    3: [((4, 3), (3, 2), (2,)), ((3, 4), (3, 4), (3, 4)), ((3, 4), (4,), (4,)), ((), (), ())],
}
"""What is tried for so many inputs: sides differ, so that a transpose shows."""


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What was found: `ok`, and `causes` where it is not. True if the backward is right.

    `causes` are records with `name` (as "factor"), `input`, `text` (what was seen) and `advice`;
    `inputs` says at which inputs; `notes` are what else is worth knowing.
    """

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
    """Compare the backward of a gate with its forward, and say what is wrong.

    `gate` is a class or an object with `forward(self, …)` and `backward(self, upstream)`, as
    cr.Gate and cr.TensorGate are, or a function in chainrule's operations. `inputs` are arrays
    or numbers; without them, small ones of several shapes are chosen that forward takes. Nothing
    that is given is changed. With `raise_error` a wrong backward is a CheckError.

    Raises GateError if forward does not run with the inputs, takes none that were tried, or
    gives other numbers each time.

    >>> import chainrule as cr
    >>> class Square(cr.Gate):
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * x
    ...     def backward(self, upstream):
    ...         return upstream * self.x
    >>> check(Square, np.array([1.0, -2.0]))
    the backward of Square is wrong, with x = [1, -2]
      gradient of x: factor. It is 0.5 times what it should be. At x[1] -2 came, -4 was expected
      (upstream 1 at out[1], else 0).
        Multiply it by 2.
    """
    runner = Runner(_made(gate))
    report = _at(runner, _given(runner, inputs), seed) if inputs else _chosen(runner, seed)
    if raise_error and not report:
        raise CheckError(str(report))
    return report


def _made(gate: Any) -> Any:
    """The gate as an object."""
    if isinstance(gate, type):
        try:
            gate = gate()
        except TypeError as error:
            raise GateError(
                f"{gate.__name__}() needs arguments ({error}): give check a gate that is made, "
                f"check({gate.__name__}(…), x)"
            ) from error
    methods = [callable(getattr(gate, name, None)) for name in ("forward", "backward")]
    if not all(methods) and (any(methods) or not callable(gate)):
        raise GateError(
            f"check takes a gate with forward and backward, or a function, received {gate!r:.60}"
        )
    return gate


def _at(runner: Runner, given: Sequence[Array], seed: int) -> CheckReport:
    """What is found with these inputs."""
    trial = Trial(runner, given, seed)
    causes = tuple(_causes(trial))
    described = ", ".join(f"{n} = {array(x)}" for n, x in zip(trial.names, given, strict=True))
    return CheckReport(runner.name, described, causes, tuple(trial.notes))


def _causes(trial: Trial) -> Iterator[Cause]:
    """Every mistake, one an input at most; one that spoils all is the only one."""
    whole = [n for k, n in enumerate(trial.names) if k not in trial.floats]
    if not trial.floats:
        raise GateError(
            "nothing to check: only floats have a derivative, and "
            f"{', '.join(whole) or 'no input'} has whole numbers"
        )
    if whole:
        trial.notes.append(f"{', '.join(whole)} has whole numbers: its gradient is not compared")
    if not trial.size:
        trial.notes.append("forward gives nothing (an empty array): only shapes are compared")
    spoilt = trial.call()
    if spoilt is not None:
        yield spoilt
        return
    wrong = trial.wrong()
    for k in wrong:
        yield Diagnosis(trial, k, wrong).cause()


def _given(runner: Runner, inputs: Sequence[Any]) -> list[Array]:
    """The inputs as arrays of their own. Python's whole numbers count as floats if they may."""
    arrays = []
    for x in inputs:
        try:
            made = np.array(x)
        except ValueError:  # a ragged list
            made = np.array(None)
        if made.dtype.kind not in "fiub":
            raise GateError(f"the inputs of a check are arrays of real numbers, received {x!r:.60}")
        arrays.append(made)
    written = [a.dtype.kind in "iu" and not hasattr(x, "dtype")
               for x, a in zip(inputs, arrays, strict=True)]  # fmt: skip
    if any(written):
        floats = [a.astype(np.float64) if w else a for a, w in zip(arrays, written, strict=True)]
        try:
            runner.run([x.copy() for x in floats])
        except Exception:  # a user's code that needs whole numbers, as for an index
            return arrays
        return floats
    return arrays


OF_SHAPES = ("not summed", "shape", "raises")
"""Causes that may show only that a gate was not meant for such inputs."""


def _chosen(runner: Runner, seed: int) -> CheckReport:
    """The report for inputs that forward takes: the first that are right, else the first.

    A backward may be meant for some shapes only (matrices, operands that are not broadcast); wrong
    numbers at operands of one shape are wrong.
    """
    generator = np.random.default_rng(seed)
    reports: list[tuple[list[Array], CheckReport]] = []
    last = ""
    for shapes in SHAPES.get(runner.needed, ()):
        if reports and not any(map(len, shapes)):
            break  # single numbers show neither transposes nor sums: only if nothing else runs
        drawn = [generator.normal(size=s) for s in shapes]
        for arrays in (drawn, [np.abs(x) + 0.5 for x in drawn]):
            try:
                run = runner.run([x.copy() for x in arrays])
            except Exception as error:  # whatever a user's code raises: these do not fit
                last = f" (the last attempt: {said(error)})"
                continue
            if run.flat.size and np.isfinite(run.flat).all():
                reports.append((arrays, _at(runner, arrays, seed)))
                break
    if not reports:
        raise GateError(
            f"forward of {runner.name} takes none of the inputs that were tried: give some, as "
            f"check(gate, x, y){last}"
        )
    right = [r for _, r in reports if r.ok]
    report = right[0] if right else reports[0][1]
    for arrays, other in reports:  # wrong where nothing is broadcast, and not for a shape only
        alike = len({x.shape for x in arrays}) == 1
        if report.ok and alike and any(c.name not in OF_SHAPES for c in other.causes):
            report = other
    notes = list(report.notes)
    for arrays, other in reports:
        if report.ok and not other.ok:
            said_of = "; ".join(
                f"{c.name} ({c.input})" if c.input else c.name for c in other.causes
            )
            taken = ", ".join(str(x.shape) for x in arrays)
            notes.append(f"forward takes shapes {taken}, too, and there it is wrong: {said_of}")
    return CheckReport(report.gate, report.inputs, report.causes, tuple(notes))


__all__ = ["Cause", "CheckReport", "check"]
