"""A derivation: the lines of formulas, how they are shown, and their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..picture import escape

INDICES = "ijklmnpqrtuvw"
WIDE = 60
"""Formulas that are longer do not push the columns behind them away."""
NOISE = 1e-4
"""Values smaller than that share of the largest one may be rounding."""
TITLES = {"value": "Values", "shared": "Gradients on the way", "gradient": "Gradients"}


@dataclass(frozen=True, eq=False)
class Line:
    """One formula: a value ("value"), a gradient that several need ("shared"), or a gradient.

    `matrix` and `index` are its forms as text, None where there is none (`reason` says why).
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    matrix: str | None
    index: str | None
    latex: str
    mathml: str
    value: Any
    reason: str
    python: tuple[str | None, str | None]
    """Both forms in Python, as `Derivation.verify` evaluates them."""
    constants: dict[str, Any]
    functions: dict[str, Any]
    call: str = ""
    """Of a value: its gate as it is called."""

    @property
    def text(self) -> str:
        """The matrix form if there is one, else the index form, else what there is to say."""
        other = f"{self.name} = {self.call}" if self.call else f"{self.name}: {self.reason}"
        return self.matrix or self.index or other


@dataclass(frozen=True, eq=False)
class Derivation:
    """All lines: values in forward order, shared gradients once, then the gradients."""

    result: str
    lines: tuple[Line, ...]
    arrays: dict[str, Any]
    legend: tuple[str, ...] = ()
    """What the names stand for that are not from the program."""

    def of(self, kind: str) -> tuple[Line, ...]:
        """The lines of a kind: "value", "shared", "gradient"."""
        return tuple(line for line in self.lines if line.kind == kind)

    def text(self) -> str:
        """As aligned text: matrix form, shape, index form; then both conventions."""
        rows: list[tuple[str, str, str]] = [
            (
                x.text,
                "×".join(map(str, x.shape)) or "a number",
                x.index if x.matrix and x.index and x.index != x.matrix else "",
            )
            for x in self.lines
        ]
        widths = [min(max((len(r[k]) for r in rows), default=0), WIDE) for k in range(2)]
        out: list[str] = []
        before = ""
        for line, row in zip(self.lines, rows, strict=True):
            if line.kind != before:
                out += ["", TITLES[line.kind]] if out else [TITLES[line.kind]]
                before = line.kind
            out.append(f"  {row[0].ljust(widths[0])}  {row[1].ljust(widths[1])}  {row[2] or ''}"
                       .rstrip())  # fmt: skip
        if self.legend:
            out += ["", "where", *(f"  {text}" for text in self.legend)]
        out += ["", *self.conventions()]
        return "\n".join(out)

    def conventions(self) -> list[str]:
        """Jacobian form and shape convention of every gradient, side by side."""
        lines = ["Jacobian form (a row, for the chain rule) and shape convention (for descent)"]
        for x in self.of("gradient"):
            flat = int(np.prod(x.shape, dtype=np.int64))
            shape = "×".join(map(str, x.shape)) or "a number"
            lines.append(f"  {x.name}: 1×{flat} and {shape}")
        return lines

    def verify(self) -> float:
        """Evaluate every formula, in both forms: the largest error, relative to the largest entry
        (of its own value; where that is only rounding, of all).

        The formulas are computed as they stand, from the values of the names in them; those of
        gradients are compared with what the engine computes. Where one is
        NaN and the other not, it is infinite.
        """
        worst = 0.0
        every = [*(line.value for line in self.lines), *self.arrays.values()]
        least = NOISE * max(map(_largest, every), default=0.0)
        for line in self.lines:
            for k, form in enumerate(line.python):
                if form is None:
                    continue
                found = _evaluated(form, self.arrays, line, matrix=k == 0)
                value = np.asarray(line.value, np.float64)
                scale = max(_largest(value), least) or 1.0
                with np.errstate(all="ignore"):
                    same = (found == value) | (np.isnan(found) & np.isnan(value))
                    error = np.where(same, 0, np.abs(found - value)).max(initial=0) / scale
                worst = max(worst, np.inf if np.isnan(error) else float(error))
        return worst

    def latex(self) -> str:
        """All lines in LaTeX, for an aligned environment."""
        body = " \\\\\n".join(x.latex.replace(" = ", " &= ", 1) for x in self.lines)
        return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"

    def mathml(self) -> str:
        """All lines in MathML under their titles, for a page."""
        body, before = "", ""
        for line in self.lines:
            if line.kind != before:
                body += f"<h4>{TITLES[line.kind]}</h4>"
                before = line.kind
            body += f"<p>{line.mathml}</p>"
        legend = f"<p>where {escape('; '.join(self.legend))}</p>" if self.legend else ""
        return body + legend

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def _repr_html_(self) -> str:
        return self.mathml()

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def _largest(value: Any) -> float:
    """The largest entry that is finite, without its sign."""
    array = np.asarray(value, np.float64)
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def _evaluated(form: str, arrays: dict[str, Any], line: Line, matrix: bool) -> Any:
    """The numbers that a formula in Python gives; it was written here and holds nothing else."""
    names = {k: np.asarray(v, np.float64) for k, v in {**arrays, **line.constants}.items()}
    scope: dict[str, Any] = {"F": {**line.functions, "sum": _sum}, "N": names}
    scope |= {"ones": lambda n: np.ones((n, 1)), "inf": np.inf, "nan": np.nan}
    with np.errstate(all="ignore"):
        if matrix:  # vectors are columns
            scope["N"] = {
                k: np.reshape(v, (-1, 1)) if np.ndim(v) < 2 else v for k, v in names.items()
            }
            found = np.asarray(eval(form, {"__builtins__": {}}, scope), np.float64)
            return np.broadcast_to(found, _matrix_shape(line.shape)).reshape(line.shape)
        out = np.zeros(line.shape)
        code = compile(form, "<formula>", "eval")
        scope |= {"range": range, "sum": sum, "int": int}
        for place in np.ndindex(*line.shape):
            local = {**scope, **dict(zip(INDICES, place, strict=False))}
            out[place] = eval(code, {"__builtins__": {}, **local})
        return out


def _sum(array: Any) -> Any:
    """The sum of all entries, as a matrix."""
    return np.reshape(np.sum(array), (1, 1))


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1) if len(shape) == 1 else shape if shape else (1, 1)
