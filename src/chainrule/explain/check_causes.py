"""Naming what is wrong with a gradient: the usual mistakes, tried on the numbers.

A mistake is named only if it explains all entries, for all upstream gradients. What none explains
is a wrong local derivative, and then it is said where the numbers differ.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from .check_compare import Array, Cause, Trial, listed
from .numbers import number

FACTORS = (
    ("{}", lambda v: v), ("(1 - {})", lambda v: 1 - v), ("(1 + {})", lambda v: 1 + v),
    ("{}²", lambda v: v * v), ("(1 - {}²)", lambda v: 1 - v * v), ("exp({})", np.exp),
)  # fmt: skip
"""What may be missing in a local derivative, of the inputs and the output."""


class Diagnosis:
    """Which mistake explains the gradients of one input."""

    def __init__(self, trial: Trial, k: int, wrong: list[int]) -> None:
        self.trial, self.k, self.wrong = trial, k, wrong
        self.name, self.x, self.given = trial.names[k], trial.given[k], trial.found[k]
        self.measured = trial.measured[k]
        plain = self.measured.plain
        self.kept = plain if plain.any() else np.ones(len(plain), bool)
        self.truth = self.measured.truth[:, self.kept]
        self.room = self.measured.room[:, self.kept]
        self.local = f"∂out/∂{self.name}"

    def cause(self) -> Cause:
        """The first mistake, from the plainest on, that explains everything."""
        if not self.measured.plain.any() and self.x.size:
            return self.missing() or self.misshapen() or self.at_kinks()
        for guess in (
            self.missing, self.not_finite, self.swapped, self.misshapen, self.scaled,
            self.forgotten, self.of_another, self.transposed,
        ):  # fmt: skip
            found = guess()
            if found is not None:
                return found
        return self.unexplained()

    def of(self, name: str, text: str, advice: str) -> Cause:
        return Cause(name, self.name, text, advice)

    @property
    def rows(self) -> Array:
        return self.trial.rows(self.given, self.k)[:, self.kept]

    def close(self, a: Array, b: Array, room: Array | None = None) -> bool:
        """Whether a is b, column by column, up to what the measurement leaves open."""
        if a.shape != b.shape:
            return False
        with np.errstate(all="ignore"):
            scale = np.abs(b).max(0, initial=0)
            slack = (1e-3 if self.trial.coarse else 1e-5) * (scale + 1e-6 * scale.max(initial=0))
            room = self.room if room is None else room
            if room.shape[1] == b.shape[1]:
                slack = np.maximum(slack, room.max(0, initial=0))
            return bool((np.abs(a - b) <= slack).all()) and bool(a.size)

    def seen(self) -> str:
        """The entry that is furthest off: what came, what was expected."""
        off = np.abs(self.rows - self.truth)
        # upstream gradients that a reader can try come first: one entry alone, then all ones
        starts = (slice(0, self.trial.basis), slice(len(off) - 2, len(off) - 1), slice(0, None))
        tried = next(
            t for t in starts if t == starts[-1] or off[t].max(initial=0) > 1e-6 * off.max()
        )
        part, start = off[tried], tried.start
        u, j = (int(i) for i in np.unravel_index(part.argmax(), part.shape))
        u += start
        entry = self.trial.entry(self.k, self.measured.columns[self.kept][j])
        return (
            f"At {entry} {number(self.rows[u, j])} came, {number(self.truth[u, j])} was expected"
            f"{self.upstream(u)}."
        )

    def upstream(self, u: int) -> str:
        """Which upstream gradient that was."""
        if self.trial.size == 1 and u < 1:
            return ""
        if u == len(self.trial.upstreams) - 2:
            return " (upstream 1 everywhere)"
        if u >= self.trial.basis:
            return " (a random upstream)"
        if len(self.trial.outs) > 1:
            return f" (upstream 1 at output entry {u}, else 0)"
        place = np.unravel_index(u, self.trial.outs[0].shape)
        return f" (upstream 1 at out[{', '.join(map(str, map(int, place)))}], else 0)"

    def at_kinks(self) -> Cause:
        """Where every entry lies on a kink, the numbers name no mistake."""
        rows, truth, room = self.rows, self.truth, self.room
        beyond = np.abs(rows - truth) - room
        if (beyond[: self.trial.basis] > 0).any():  # upstream gradients that a reader can try
            beyond = beyond[: self.trial.basis]
        u, j = (int(i) for i in np.unravel_index(beyond.argmax(), beyond.shape))
        entry = self.trial.entry(self.k, self.measured.columns[self.kept][j])
        low, high = (round(float(truth[u, j] + s * room[u, j]), 5) for s in (-1, 1))
        return self.of(
            "wrong local", f"At {entry}, a kink, {number(rows[u, j])} came; from {number(low)} to "
            f"{number(high)} is right{self.upstream(u)}.",
            "Check at other inputs, too: there the mistake may have a name.",
        )  # fmt: skip

    # -- the usual mistakes ---------------------------------------------------------------------

    def missing(self) -> Cause | None:
        none = any(g is None for g in self.given)
        if not none and any(np.any(g) for g in self.given):
            return None
        for j, found in enumerate(self.trial.found):
            if j != self.k and self.matches(found, self.k):
                return self.exchanged(j)
        came = "None" if none else "zeros"
        hint = " (is `return` missing?)" if none and len(self.trial.given) == 1 else ""
        return self.of(
            "missing gradient", f"It is {came}, but the output depends on {self.name}.",
            f"Return upstream × {self.local}{hint}.",
        )  # fmt: skip

    def not_finite(self) -> Cause | None:
        if any(g.shape != self.x.shape for g in self.given):
            return None
        bad = ~np.isfinite(self.rows).all(0)
        if not bad.any():
            return None
        first = self.trial.entry(self.k, self.measured.columns[self.kept][bad.argmax()])
        return self.of(
            "wrong local", f"NaN or infinity came at {bad.sum()} of {bad.size} entries, first at "
            f"{first}, where the slope is finite.",
            "Look for a division by 0, a logarithm of 0, or an overflow of exp.",
        )  # fmt: skip

    def matches(self, given: list[Any], j: int) -> bool:
        """Whether gradients are those that input j should have."""
        measured = self.trial.measured[j]
        if any(g is None or g.shape != self.trial.given[j].shape for g in given):
            return False
        keep = measured.plain if measured.plain.any() else np.ones(len(measured.plain), bool)
        return self.close(
            self.trial.rows(given, j)[:, keep], measured.truth[:, keep], measured.room[:, keep]
        )

    def swapped(self) -> Cause | None:
        for j in self.trial.floats:
            back = j in self.wrong and self.matches(self.trial.found[j], self.k)
            if j != self.k and back and self.matches(self.given, j):
                return self.exchanged(j)
        return None

    def exchanged(self, j: int) -> Cause:
        return self.of(
            "swapped", f"It came as the gradient of {self.trial.names[j]}.",
            "Return the gradients in the order of forward's inputs: "
            f"{', '.join(self.trial.names)}.",
        )  # fmt: skip

    def of_another(self) -> Cause | None:
        for j in self.trial.floats:
            if j != self.k and self.matches(self.given, j):
                return self.of(
                    "wrong input", f"It is the gradient of {self.trial.names[j]}.",
                    f"Compute that of {self.name}: upstream × {self.local}.",
                )  # fmt: skip
        return None

    def scaled(self) -> Cause | None:
        ratio = self.ratio(self.rows, self.truth)
        if ratio is not None and abs(ratio + 1) < 1e-3:
            return self.of(
                "sign", f"It has the wrong sign. {self.seen()}", "Put a minus before it."
            )
        untouched = self.untouched()
        if ratio is None or untouched is not None:
            return untouched
        return self.of(
            "factor", f"It is {number(ratio)} times what it should be. {self.seen()}",
            f"Multiply it by {number(1 / ratio)}{self.sizes(ratio)}.",
        )  # fmt: skip

    def ratio(self, a: Array, b: Array) -> float | None:
        """c where a = c·b; None if there is none."""
        scale = np.abs(b).max(0, initial=0)
        use = scale > 0
        if not use.any():
            return None
        p, q = a[:, use] / scale[use], b[:, use] / scale[use]
        c = float((p * q).sum() / (q * q).sum())
        return c if abs(c) > 1e-9 and self.close(a / c, b) else None

    def sizes(self, ratio: float) -> str:
        """Where a factor may come from: the size of an axis, or of all."""
        names = [*self.trial.names, "the output"]
        for what, x in zip(names, [*self.trial.given, self.trial.outs[0]], strict=True):
            counts = [(f"axis {a} of {what}", n) for a, n in enumerate(x.shape)]
            counts.append((f"all entries of {what}", x.size))
            for where, n in counts:
                if n > 2 and np.isclose(ratio, n, rtol=1e-3):
                    return f": there are {n} along {where}, and a mean divides by {n}"
                if n > 2 and np.isclose(ratio, 1 / n, rtol=1e-3):
                    return f": there are {n} along {where}; a mean stands where a sum belongs"
        return ""

    def forgotten(self) -> Cause | None:
        rows = self.rows
        if len(rows) < 2 or not self.close(rows, np.broadcast_to(rows[0], rows.shape)):
            return None
        if self.close(rows[-2:-1], self.truth[-2:-1]):
            what = f"{self.local} alone"
        elif all(np.array_equal(g, self.x) for g in self.given):
            what = f"{self.name} itself"
        else:
            what = "the same"
        return self.of(
            "upstream forgotten", f"It is {what}, whatever upstream is.",
            f"downstream = upstream × local: multiply by upstream ({self.name} gets upstream × "
            f"{self.local}).",
        )  # fmt: skip

    def untouched(self) -> Cause | None:
        if len(self.trial.outs) > 1 or not all(map(np.array_equal, self.given, self.ups())):
            return None
        came = self.given[0].shape
        fits = came == self.x.shape
        seen = self.seen() if fits else f"It has shape {came}, {self.name} has {self.x.shape}."
        return self.of(
            "local forgotten", f"It is the upstream gradient as it came. {seen}",
            f"downstream = upstream × local: multiply by {self.local}.",
        )  # fmt: skip

    def ups(self) -> list[Array]:
        """The upstream gradients of the first output, in its shape."""
        return [self.trial.split(u)[0] for u in self.trial.upstreams]

    def transposed(self) -> Cause | None:
        if not self.measured.whole or not self.kept.all():
            return None
        x, jacobian = self.x, self.measured.jacobian
        if x.ndim == 2 and x.shape[0] == x.shape[1]:
            turned = np.array([g.T.reshape(-1) for g in self.given])
            if self.close(turned, self.truth):
                return self.of("transposed", f"It is right when transposed. {self.seen()}",
                               "Take .T of it.")  # fmt: skip
        if jacobian is None or jacobian.shape[0] != jacobian.shape[1]:
            return None
        if not self.close(self.rows, self.trial.upstreams @ jacobian.T):
            return None
        return self.of(
            "transposed", "It is local × upstream instead of upstream × local: the Jacobian "
            f"is used the wrong way round. {self.seen()}",
            "Transpose the factor: for out = x @ W it is upstream @ W.T, and x.T @ upstream; what "
            "runs forward along an axis runs backward here.",
        )  # fmt: skip

    def misshapen(self) -> Cause | None:
        shape = self.x.shape
        other = [g.shape for g in self.given if g.shape != shape]
        if not other:
            return None
        came = other[0]
        seen = f"It has shape {came}, {self.name} has {shape}."
        whole = self.measured.whole and bool(self.kept.all())

        def equal(change: Any) -> bool:
            try:
                return whole and self.close(
                    np.array([np.reshape(change(g), -1) for g in self.given]), self.truth
                )
            except ValueError:
                return False

        if came == shape[::-1] and equal(np.transpose):
            return self.of(
                "transposed", seen,
                "Transpose it, or exchange the factors: x.T @ upstream instead of upstream.T @ x.",
            )  # fmt: skip
        for axes in _axes(len(came)):
            if equal(lambda g, axes=axes: g.sum(axes)):
                keep = ", keepdims=True" if len(came) == len(shape) else ""
                axis = axes[0] if len(axes) == 1 else axes
                written = "" if len(axes) == len(came) else f"{axis}{keep}"
                return self.of(
                    "not summed", f"{seen} {self.name} was used several times.",
                    f"The gradients of all uses add up: .sum({written}).",
                )  # fmt: skip
        for guess in (self.of_another, self.untouched):
            found = guess()
            if found is not None:
                return found
        if np.prod(came) == np.prod(shape) and equal(lambda g: g):
            return self.of("shape", f"{seen} The numbers are right.",
                           f"Reshape it: .reshape({shape}).")  # fmt: skip
        if np.prod(came) > np.prod(shape) and len(came) >= len(shape):
            return self.of(
                "not summed", f"{seen} {self.name} was used several times; beside that the "
                "numbers differ.",
                "Add up the gradients of all uses: over the batch, or the axes along which it was "
                "broadcast.",
            )  # fmt: skip
        return self.of("shape", seen, f"A gradient has the shape of its input, {shape}.")

    # -- what is no usual mistake ---------------------------------------------------------------

    def unexplained(self) -> Cause:
        """A wrong local derivative: what is missing in it, or where it is wrong."""
        advice = self.factor() or self.substituted() or self.hint() or (
            f"Derive {self.local} again; look for terms that are missing."
        )  # fmt: skip
        return self.of("wrong local", f"{self.where()} {self.seen()}", advice)

    def factor(self) -> str:
        """A simple factor that is missing, or one too many."""
        rows, truth = self.rows, self.truth
        outs = self.trial.outs
        named = [*zip(self.trial.names, self.trial.given, strict=True), ("out", outs[0])]
        for what, v in named:
            if v.dtype.kind != "f" or v.shape != self.x.shape:
                continue
            for form, function in FACTORS:
                with np.errstate(all="ignore"):
                    values = function(v.reshape(-1)[self.measured.columns][self.kept])
                if not np.isfinite(values).all() or not values.any():
                    continue
                written = form.format(what)
                for c in (1, -1, 2, 0.5):
                    times = "" if c == 1 else f"{number(c)}·" if c != -1 else "-"
                    if self.close(c * rows * values, truth):
                        return f"A factor {times}{written} is missing: multiply by it."
                    if self.close(rows, truth * values * c):
                        return f"There is a factor {times}{written} too many: take it away."
        return ""

    def substituted(self) -> str:
        """Something else that was saved, with which the gradient would be right."""
        run = self.trial.run()
        state = run.state
        if state is None or self.trial.runner.tensors or not hasattr(state, "__dict__"):
            return ""
        outs = self.trial.outs
        candidates = [*zip(self.trial.names, self.trial.given, strict=True), ("out", outs[0])]
        for attribute, kept in list(vars(state).items()):
            if not isinstance(kept, (np.ndarray, np.generic)) or kept.dtype.kind != "f":
                continue
            for what, v in candidates:
                if v.shape == kept.shape and not np.array_equal(v, kept) and self.runs(
                    state, attribute, v
                ):  # fmt: skip
                    return f"It is right with {what} in the place of self.{attribute}."
        return ""

    def runs(self, state: Any, attribute: str, value: Array) -> bool:
        """Whether the gradient is right with another array kept."""
        results = []
        for flat in self.trial.upstreams:
            other = copy.copy(state)
            setattr(other, attribute, value.copy())
            try:
                with np.errstate(all="ignore"):
                    results.append(
                        np.asarray(listed(other.backward(*self.trial.split(flat)))[self.k])
                    )
            except Exception:  # a user's code, with what it was not written for: not this one
                return False
        if any(g.shape != self.x.shape or g.dtype.kind != "f" for g in results):
            return False
        return self.trial.right(results, self.k, self.measured)

    def hint(self) -> str:
        """What the gradient is as a function of upstream."""
        m, rows, u = self.trial.basis, self.rows, self.trial.upstreams
        if rows[-1].any():
            return (
                "With upstream 0 it is not 0: something is added that upstream does not multiply."
            )
        if m == self.trial.size and m and not self.close(rows[m:], u[m:] @ rows[:m]):
            return (
                "It is no product with upstream (twice the upstream does not give twice of it): "
                "does a mask or a formula use upstream where an input or the output belongs?"
            )
        if not m or m != rows.shape[1] or not self.kept.all():
            return self.spread()
        matrix, true = rows[:m], self.truth[:m]
        own = np.eye(m, dtype=bool)
        tiny = 1e-6 * np.abs(true).max(initial=0)
        if (np.abs(matrix[~own]) <= tiny).all() and (np.abs(true[~own]) > tiny).any():
            same = "right there, but" if self.close(matrix[own][None], true[own][None]) else "and"
            return (
                f"It has only the diagonal of the Jacobian, {same} every output depends on other "
                "entries, too (through a sum, a mean, a maximum): their terms are missing."
            )
        return ""

    def spread(self) -> str:
        """The upstream gradient given to all entries along an axis."""
        if len(self.trial.outs) > 1:
            return ""
        ups = self.ups()
        for axis in range(self.x.ndim):
            for shape in (self.x.shape[:axis] + self.x.shape[axis + 1 :], None):
                if ups[0].shape == shape and all(
                    np.array_equal(g, np.broadcast_to(np.expand_dims(u, axis), g.shape))
                    for g, u in zip(self.given, ups, strict=True)
                ):
                    return (
                        f"It is upstream, for every entry along axis {axis} alike: multiply it by "
                        f"{self.local}, which differs along that axis."
                    )
        return ""

    def where(self) -> str:
        """Which entries differ."""
        rows, truth = self.rows, self.truth
        off = ~(np.abs(rows - truth) <= self.room).all(0)
        columns = self.measured.columns[self.kept]
        n, total = int(off.sum()), off.size
        if n < total:
            live = (np.abs(truth).max(0) > 0) | (np.abs(rows).max(0) > 0)
            values = self.x.reshape(-1)[columns]
            for sign, mask in (("<", values < 0), (">", values > 0)):
                if 0 < n == (off | (mask & live)).sum() and not (off & ~mask).any():
                    return f"It is wrong exactly where {self.name} {sign} 0."
            places = np.unravel_index(columns[off], self.x.shape)
            for axis, place in enumerate(places):
                if self.x.shape[axis] > 1 and (place == place[0]).all() and self.x.ndim > 1:
                    return f"It is wrong only at index {int(place[0])} of axis {axis}."
        some = "" if self.measured.whole else " that were tried"
        return f"{n} of {total} entries{some} differ."


def _axes(n: int) -> Iterator[tuple[int, ...]]:
    """Sets of axes, those in front first."""
    for k in range(1, n + 1):
        yield tuple(range(k))
    for axis in range(1, n):
        yield (axis,)


__all__ = ["Diagnosis"]
