"""`derive`: how a result is computed and what its gradients are, line by line, as formulas."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.context import context
from ...core.node import Node
from ...core.primitive import Elementwise, LinearGate
from ...errors import GradientError, ShapeError
from ...ops.dispatch import to_tensor
from ...ops.tensor import Tensor, variable
from ..gates import Explanation, opened
from ..names import Names, Naming
from ..numbers import number
from ..paths import node_of
from ..picture import escape
from .backward import Backward, backward
from .syntax import Latex, MathML, Part, Python, Text
from .tidy import values_of
from .writing import NoForm, Writer

INDICES = "ijklmnpqrtuvw"
LETTERED = {"weight": "W", "bias": "b"}
TITLES = {"value": "Values", "shared": "Needed by several gradients", "gradient": "Gradients"}


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

    @property
    def text(self) -> str:
        """The matrix form if there is one, else the index form, else what stops it."""
        return self.matrix or self.index or f"{self.name}: {self.reason}"


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
        widths = [max((len(r[k]) for r in rows), default=0) for k in range(2)]
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
        """Evaluate every formula, in both forms: the largest error, relative to the largest entry.

        The formulas are computed as they stand, from the values of the names in them.
        """
        worst = 0.0
        for line in self.lines:
            for k, form in enumerate(line.python):
                if form is None:
                    continue
                found = _evaluated(form, self.arrays, line, matrix=k == 0)
                value = np.asarray(line.value, np.float64)
                scale = float(np.abs(value).max(initial=0)) or 1.0
                worst = max(worst, float(np.abs(found - value).max(initial=0)) / scale)
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


def derive(f: Any, wrt: Any = None, names: Names | None = None) -> Any:
    """The gradients of a result as formulas, in matrix form and in index form.

    Of a Tensor (or an Explanation): `derive(f)` by all its variables, or by those in `wrt`; names
    are those of the calling function, or of `names`. Of a function: `derive(f, wrt)(*arrays)`;
    there `wrt` are positions of arguments (all by default), which give the names.

    Every line is the engine's own backward pass, traced and simplified. Gradients that several
    others need are named once, δ, and vectors are columns. Raises GraphError for loops and other
    gates with several outputs, GradientError for what depends on no variable.

    >>> import chainrule as cr
    >>> W, x = cr.tensor([[0.1, 0.5], [-0.3, 0.8]]), cr.tensor([0.2, 0.4])
    >>> q = W @ x
    >>> f = (q * q).sum()
    >>> for line in derive(f, names={"W": W, "x": x, "q": q, "f": f}).of("gradient"):
    ...     print(line.matrix, " ", line.index)
    ∂f/∂W = 2 q xᵀ   ∂f/∂W_ij = 2 q_i x_j
    ∂f/∂x = 2 Wᵀ q   ∂f/∂x_i = 2 Σ_j W_ji q_j
    """
    if isinstance(f, (Tensor, Explanation)):
        return _derive(f, wrt, names)
    if not callable(f):
        raise GradientError(f"derive takes a Tensor or a function, received {type(f).__name__}")

    def at(*args: Any) -> Derivation:
        places = range(len(args)) if wrt is None else (wrt if isinstance(wrt, Sequence) else [wrt])
        given: list[Any] = [to_tensor(a) for a in args]
        for k in places:
            if not -len(args) <= k < len(args):
                raise ShapeError(f"wrt={k} is no argument: the function was given {len(args)}")
            given[k] = variable(np.array(given[k].numpy(), np.float64))
        with context(recording=True, trace=None):
            result = f(*given)
        known = dict(zip(_arguments(f, len(args)), given, strict=True))
        return _derive(result, [given[k] for k in places], known)

    return at


def _arguments(f: Any, count: int) -> list[str]:
    try:
        named = [p.name for p in inspect.signature(f).parameters.values()]
    except (TypeError, ValueError):
        named = []
    return [*named[:count], *(f"x{k + 1}" for k in range(len(named), count))]


def _derive(result: Any, wrt: Any, names: Names | None) -> Derivation:
    order, naming = opened(result, names)
    wanted = [n for n in order if n.primitive is None]
    if wrt is not None:
        given = list(wrt) if isinstance(wrt, (list, tuple)) else [wrt]
        found = [node_of(x, order) for x in given]
        for x, n in zip(given, found, strict=True):
            if n is None:
                raise GradientError(f"the result does not depend on {x!r:.60}")
        wanted = [n for n in found if n is not None]
    naming, letters = lettered(order, naming)
    return _Deriving(order, naming, backward(order, naming), wanted, letters).derivation()


def lettered(order: Sequence[Node], naming: Naming) -> tuple[Naming, list[str]]:
    """Short names for parameters such as 0.weight, as in the notes: W1, b1, W2 …, with a legend.

    The number is that of the module among those with parameters.
    """
    dotted = {n: naming[n] for n in order if n.primitive is None and "." in naming[n]}
    if not dotted:
        return naming, []
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in dotted.values()))
    result = copy(naming)
    result.nodes = dict(naming.nodes)
    taken = set(naming.nodes.values())
    legend = []
    for n, name in dotted.items():
        module, _, own = name.rpartition(".")
        short = LETTERED.get(own, own.partition("#")[0]) + str(modules.index(module) + 1)
        while short in taken:
            short += "′"
        taken.add(short)
        result.nodes[n] = short
        legend.append(f"{short} = {name}")
    return result, [", ".join(legend)]


def _evaluated(form: str, arrays: dict[str, Any], line: Line, matrix: bool) -> Any:
    """The numbers that a formula in Python gives; it was written here and holds nothing else."""
    names = {k: np.asarray(v, np.float64) for k, v in {**arrays, **line.constants}.items()}
    scope: dict[str, Any] = {"F": {**line.functions, "sum": np.sum}, "N": names}
    scope |= {"ones": lambda n: np.ones((n, 1)), "inf": np.inf, "nan": np.nan}
    with np.errstate(all="ignore"):
        if matrix:  # vectors are columns
            scope["N"] = {
                k: np.reshape(v, (-1, 1)) if np.ndim(v) == 1 else v for k, v in names.items()
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


def _summary(array: Any) -> str:
    """The shape of an array and the range of its entries."""
    shape = "×".join(map(str, array.shape))
    if not array.size:
        return f"{shape}, empty"
    ones = int((array == 1).sum())
    if ones + (array == 0).sum() == array.size:
        return f"{shape}, with {ones} ones and {array.size - ones} zeros"
    return f"{shape}, from {number(array.min())} to {number(array.max())}"


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1) if len(shape) == 1 else shape if shape else (1, 1)


class _Deriving:
    def __init__(
        self, order: Sequence[Node], naming: Naming, found: Backward, wanted: Sequence[Node],
        legend: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.legend = list(legend)
        self.order, self.naming, self.found, self.wanted = order, naming, found, wanted
        self.root = order[-1]
        self.name = naming[self.root]
        self.forward = {
            now: n for n, now in reversed(found.values.items()) if isinstance(now, Node)
        }
        """The recorded node that a node of the graph has the value of."""

    def derivation(self) -> Derivation:
        found, naming = self.found, self.naming
        gradients = [(n, found.gradients.get(n)) for n in self.wanted]
        symbols: dict[Node, str] = dict(found.names)
        roots = [g for _, g in gradients if isinstance(g, Node)]
        used = self._reached(roots, symbols)
        for now, n in self.forward.items():  # values that gradients need stand by their names
            given = n in naming.given
            if n.primitive is not None and (given or now in used):
                symbols[now] = naming[n]
        shared = self._shared(roots, symbols)
        for k, node in enumerate(shared):
            symbols[node] = "δ" if len(shared) == 1 else f"δ{k + 1}"
        values = self._needed(symbols)
        lines = [self._line("value", naming[self.forward[v]], v, symbols, v) for v in values]
        for node in shared:
            of = [n for n, g in found.gradients.items() if g is node]
            label = self._named(of, symbols)
            lines.append(self._line("shared", symbols[node], node, symbols, node, label))
        for n, g in gradients:
            lines.append(self._line("gradient", f"∂{self.name}/∂{naming[n]}", g, symbols, None,
                                    by=n))  # fmt: skip
        legend = (*self.legend, *self._constants(lines))
        return Derivation(self.name, tuple(lines), self._arrays(symbols), legend)

    def _constants(self, lines: Sequence[Line]) -> list[str]:
        """What the letters of constants stand for, and the column of ones, where they occur."""
        written = " ".join(f"{x.matrix or ''} {x.index or ''}" for x in lines)
        used = set(re.findall(r"[^\W_]+", written))
        found = []
        for n, name in self.found.names.items():
            if n in self.found.constants and name in used - set(self.naming.arrays.values()):
                found.append(f"{name} is a constant, {_summary(self.found.arrays[n])}")
        return found + ([f"{Text.ones} is a column of ones"] if Text.ones in written else [])

    def _named(self, of: Sequence[Node], symbols: dict[Node, str]) -> str:
        """The recorded value that a shared gradient is the gradient of, by the best name."""
        given = [n for n in of if n in self.naming.given]
        named = [n for n in given if n.primitive is not None] or given or list(of)
        return self.naming[named[-1]] if named else ""

    def _reached(self, roots: Sequence[Any], stops: dict[Node, str]) -> set[Node]:
        """The forward values that gradients are written with: not what is inside of them."""
        seen: set[Node] = set()
        stack = [x for x in roots if isinstance(x, Node)]
        forward: set[Node] = set()
        while stack:
            x = stack.pop()
            if x in seen or x in stops:
                continue
            seen.add(x)
            if x in self.forward and not _plain(x):
                forward.add(x)
                continue
            stack += [y for y in x.inputs if isinstance(y, Node)]
        return forward

    def _shared(self, roots: Sequence[Node], symbols: dict[Node, str]) -> list[Node]:
        """What several gradients are made from, unless it is short."""
        uses: Counter[Node] = Counter()
        seen: set[Node] = set()
        stack = list(dict.fromkeys(roots))
        uses.update(roots)
        while stack:
            x = stack.pop()
            if x in seen or x in symbols:
                continue
            seen.add(x)
            for y in x.inputs:
                if isinstance(y, Node):
                    uses[y] += 1
                    stack.append(y)
        many = [
            x for x, n in uses.items()
            if n > 1 and x not in symbols and x in seen and not self._short(x, symbols)
        ]  # fmt: skip
        place = {x: k for k, x in enumerate(self.found.graph.nodes)}
        return sorted(many, key=lambda x: place[x])

    def _short(self, x: Any, symbols: dict[Node, str], depth: int = 2) -> bool:
        """A number times a named value, or a copy of one."""
        if not isinstance(x, Node) or x in symbols:
            return True
        if x.primitive is None or not depth:
            return False
        if _plain(x):
            return self._short(x.inputs[0], symbols, depth)
        if x.name in ("mul", "scale_gradient", "neg"):
            nodes = [y for y in x.inputs if isinstance(y, Node)]
            return len(nodes) <= 1 and all(self._short(y, symbols, depth - 1) for y in nodes)
        return False

    def _needed(self, symbols: dict[Node, str]) -> list[Node]:
        """The values to define: those used by name, and those the program names."""
        result = self.found.values[self.root]
        inner = {n for n in symbols if n in self.forward and n.primitive is not None}
        if isinstance(result, Node) and result.primitive is not None:
            inner.add(result)
        place = {x: k for k, x in enumerate(self.found.graph.nodes)}
        return sorted((x for x in inner if x in place), key=lambda x: place[x])

    def _arrays(self, symbols: dict[Node, str]) -> dict[str, Any]:
        """The numbers behind all names."""
        arrays = {name: self.found.arrays[n] for n, name in self.found.names.items()}
        values = self._values()
        arrays.update({name: values[n] for n, name in symbols.items() if n in values})
        return arrays

    def _values(self) -> dict[Node, Any]:
        if not hasattr(self, "_computed"):
            self._computed = values_of(self.found.graph, self.found.arrays)
        return self._computed

    def _line(self, kind: str, name: str, x: Any, symbols: dict[Node, str], top: Any,
              label: str = "", by: Node | None = None) -> Line:  # fmt: skip
        shape = by.shape if by is not None else np.shape(x) if not isinstance(x, Node) else x.shape
        reasons: list[str] = []

        def forms(syntax: Text) -> tuple[str | None, str | None, Writer]:
            """Both forms in one syntax; of Python the right sides alone."""
            letters = [
                c if n != 1 else "0" for c, n in zip(INDICES, shape, strict=False)
            ]
            writer = Writer(syntax, symbols, letters, self.found.arrays)
            found: list[str | None] = []
            for form in ("matrix", "index"):
                try:
                    if x is None:
                        right: Part = syntax.number("0")
                    elif form == "matrix":
                        right = writer.matrix(x, top is not None)
                    else:
                        right = writer.index(x, letters, top is not None)
                except NoForm as error:
                    reasons.append(str(error))
                    found.append(None)
                    continue
                if syntax.python:
                    found.append(right[0])
                    continue
                at = letters if form == "index" else []
                if by is not None:
                    left = syntax.derivative(self.name, syntax.name(self.naming[by], at))
                else:
                    left = syntax.name(name, at)
                    if label:
                        grad = syntax.derivative(self.name, syntax.name(label, at))
                        right = (syntax.both(grad, right), 0)
                found.append(syntax.equals(left, right))
            return found[0], found[1], writer

        matrix, index, _ = forms(Text())
        latex, mathml = forms(Latex()), forms(MathML())
        python = forms(Python())
        values = self._values()
        value = values[x] if isinstance(x, Node) else np.asarray(0.0 if x is None else x)
        why = "; ".join(dict.fromkeys(reasons))
        return Line(
            kind, name, tuple(shape), matrix, index, latex[0] or latex[1] or name,
            mathml[0] or mathml[1] or escape(name), value, why, (python[0], python[1]),
            python[2].constants, python[2].functions,
        )  # fmt: skip


def _plain(x: Node) -> bool:
    """A gate that only copies, casts or moves."""
    return x.name in ("broadcast", "cast", "permute", "reshape") and isinstance(
        x.primitive, (LinearGate, Elementwise)
    )
