"""`derive`: how a result is computed and what its gradients are, line by line, as formulas."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import chain, count
from typing import Any

import numpy as np

from ...core.context import context
from ...core.node import Node
from ...core.primitive import Elementwise, LinearGate
from ...errors import GradientError, ShapeError
from ...ops.dispatch import to_tensor
from ...ops.tensor import Tensor, variable
from ..gates import Explanation, expression_of, gradients, opened
from ..names import Names, Naming
from ..numbers import number
from ..paths import named, node_of
from ..picture import escape
from .backward import Backward, backward, names
from .derivation import INDICES, Derivation, Line
from .syntax import Latex, MathML, Part, Python, Text
from .tidy import values_of
from .writing import NoForm, Writer, renumbers

DEEP, SUMMED = 12, 0.25
"""Formulas are nested so deep at most; what is inside gets a name. A sum counts less."""
ZERO_TIMES_INFINITY = (
    "a factor is infinite here: the engine gives 0 where another one is 0, the formulas do not"
)
LETTERED = {"weight": "W", "bias": "b"}


def derive(f: Any, wrt: Any = None, names: Names | None = None) -> Any:
    """The gradients of a result as formulas, in matrix form and in index form.

    Of a Tensor (or an Explanation): `derive(f)` by all its variables, or by those in `wrt`; names
    are those of the calling function, or of `names`. Of a function: `derive(f, wrt)(*arrays)`;
    there `wrt` are positions or names of arguments (all by default), which give the names.

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
        several = isinstance(wrt, Sequence) and not isinstance(wrt, str)
        places = range(len(args)) if wrt is None else list(wrt) if several else [wrt]
        own = _arguments(f, len(args))
        for p in places:
            if isinstance(p, str) and p not in own:
                raise GradientError(f"{p!r} is no argument; there are {', '.join(own)}")
        places = [own.index(p) if isinstance(p, str) else p for p in places]
        given: list[Any] = [to_tensor(a) for a in args]
        for k in places:
            if not -len(args) <= k < len(args):
                raise ShapeError(f"wrt={k} is no argument: the function was given {len(args)}")
            given[k] = variable(np.array(given[k].numpy(), np.float64))
        with context(recording=True, trace=None):
            result = f(*given)
        known = dict(zip(own, given, strict=True))
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
        found = [
            named(x, naming) if isinstance(x, str)
            else node_of(x, order) if isinstance(x, Tensor) else None
            for x in given
        ]  # fmt: skip
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
    used: dict[Node, int] = {}
    for k, n in enumerate(order):
        for x in n.inputs:
            if isinstance(x, Node) and x in dotted:
                used.setdefault(x, k)
    dotted = dict(sorted(dotted.items(), key=lambda pair: used.get(pair[0], 0)))
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


class _Deriving:
    """The lines of one derivation: which nodes stand by a name, and the forms of each."""

    def __init__(
        self, order: Sequence[Node], naming: Naming, found: Backward, wanted: Sequence[Node],
        legend: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.legend = list(legend)
        self.order, self.naming, self.found, self.wanted = order, naming, found, wanted
        self.root = order[-1]
        self.name = naming[self.root]
        self.forward: dict[Node, Node] = {}
        """The recorded node that a node of the graph has the value of, by the best name."""
        for n, now in reversed(found.values.items()):
            if not isinstance(now, Node) or self.forward.get(now) is self.root:
                continue
            known = self.forward.get(now)
            if known is None or n is self.root or n in naming.given or known not in naming.given:
                self.forward[now] = n
        self.place = {x: k for k, x in enumerate(found.graph.nodes)}
        self.gradients_of: dict[Node, list[Node]] = {}
        """The recorded nodes that a node of the graph is the gradient of."""
        for n, g in found.gradients.items():
            if isinstance(g, Node):
                self.gradients_of.setdefault(g, []).append(n)
        self.made: dict[int, tuple[str, Any]] = {}
        """Constants that are not from the program, by id, with their names."""

    def derivation(self) -> Derivation:
        found, naming = self.found, self.naming
        wanted = [(n, found.gradients.get(n)) for n in self.wanted]
        roots = [g for _, g in wanted if isinstance(g, Node)]
        symbols = self._symbols(roots)
        values = {x for x in symbols if x in self.inner and x.primitive is not None}
        result = found.values[self.root]
        if isinstance(result, Node) and result.primitive is not None:
            values.add(result)
        lines = []
        for v in sorted(values & self.place.keys(), key=self.place.__getitem__):
            name = naming[self.forward[v]] if v in self.forward else symbols[v]
            lines.append(self._line("value", name, v, symbols, v))
        rest = (symbols.keys() - values) & self.place.keys()
        for node in sorted(rest, key=self.place.__getitem__):
            label = self._named(self.gradients_of.get(node, []))
            lines.append(self._line("shared", symbols[node], node, symbols, node, label))
        for n, g in wanted:
            lines.append(self._line("gradient", f"∂{self.name}/∂{naming[n]}", g, symbols, None,
                                    by=n))  # fmt: skip
        legend = (*self.legend, *self._constants(lines))
        return Derivation(self.name, tuple(lines), self._arrays(symbols), legend)

    def _symbols(self, roots: Sequence[Node]) -> dict[Node, str]:
        """The nodes that stand by a name: leaves, values of the program, what would be written
        several times or nested too deep."""
        found, naming = self.found, self.naming
        symbols: dict[Node, str] = dict(found.names)
        used = self._reached(roots, symbols)
        results = [v for v in found.values.values() if isinstance(v, Node)]
        self.inner = self._below(results)
        """All that values are computed from."""
        for now, n in self.forward.items():  # values that gradients need stand by their names
            asked = n in naming.given or n in self.wanted or now in used
            if n.primitive is not None and asked:
                symbols[now] = naming[n]
        result = [x for x in (found.values[self.root],) if isinstance(x, Node)]
        below = self._below([*roots, *result, *(x for x in symbols if x in self.forward)])
        named = {*self._shared([*roots, *result], symbols)}
        for now in below & self.place.keys():  # what is called by name, and what it is called with
            if _without_form(now):
                named |= {x for x in (now, *now.inputs) if isinstance(x, Node)}
        named = {x for x in named if x.primitive is not None and x not in symbols}
        self._deep(below, symbols, named)
        for n, back in found.gradients.items():  # what a gradient on the way is taken by has a line
            value = found.values.get(n)
            if not isinstance(back, Node) or back not in named or not isinstance(value, Node):
                continue
            told = self._named(self.gradients_of[back]) == naming[n]
            if told and value.primitive is not None and value not in symbols and not _plain(value):
                symbols[value] = naming[n]
                named.discard(value)
        ordered = sorted(named, key=self.place.__getitem__)
        new = [x for x in ordered if x not in self.inner]
        taken = {*naming.nodes.values(), *symbols.values()}
        free = (t for t in (f"t{k}" for k in count(1)) if t not in taken)
        for x in ordered:
            if x in self.inner:
                symbols[x] = naming[self.forward[x]] if x in self.forward else next(free)
        taken = {*naming.nodes.values(), *naming.arrays.values(), *symbols.values()}
        alone = len(new) == 1 and "δ" not in taken
        deltas = chain(["δ"] if alone else [], (f"δ{k}" for k in count(1)))
        symbols.update(zip(new, (d for d in deltas if d not in taken), strict=False))
        return symbols

    def _below(self, roots: Sequence[Node]) -> set[Node]:
        """All nodes that these are computed from, themselves included."""
        seen: set[Node] = set()
        stack = list(roots)
        while stack:
            x = stack.pop()
            if x not in seen:
                seen.add(x)
                stack += [y for y in x.inputs if isinstance(y, Node)]
        return seen

    def _deep(self, below: set[Node], symbols: Mapping[Node, str], named: set[Node]) -> None:
        """Give names inside of formulas that would be nested too deep."""
        depth: dict[Node, float] = {}
        for x in self.found.graph.nodes:
            if x not in below:
                continue
            inner = [
                0.0 if y in symbols or y in named else depth.get(y, 0.0)
                for y in x.inputs if isinstance(y, Node)
            ]  # fmt: skip
            step = SUMMED if x.name in ("add", "sub") else 0.0 if _plain(x) else 1.0
            depth[x] = max(inner, default=0.0) + step
            if depth[x] > DEEP and x not in symbols and not _plain(x):
                named.add(x)

    def _constants(self, lines: Sequence[Line]) -> list[str]:
        """What the letters of constants stand for, and the column of ones, where they occur."""
        written = " ".join(f"{x.matrix or ''} {x.index or ''}" for x in lines)
        used = set(re.findall(r"[^\W_]+", written))
        found = []
        for n, name in self.found.names.items():
            if n in self.found.constants and name in used - set(self.naming.arrays.values()):
                array = self.found.arrays[n]
                what = "a condition, as it came out" if array.dtype == bool else "a constant"
                found.append(f"{name} is {what}: {_summary(array)}")
        for name, array in self.made.values():
            if name in used:
                one = array.ndim == 2 and np.array_equal(array, np.eye(*array.shape))
                found.append(f"{name} is {'the identity' if one else 'a constant'}: "
                             f"{_summary(array)}")  # fmt: skip
        found += self.found.notes
        graph = self._values()
        for n in self.wanted:
            g = self.found.gradients.get(n)
            engine, formula = self._engine()[n], graph[g] if isinstance(g, Node) else g
            if formula is not None and np.isfinite(engine).all() > np.isfinite(formula).all():
                found.append(ZERO_TIMES_INFINITY)
                break
        size = int(np.prod(self.root.shape, dtype=np.int64))
        if size != 1:
            found.insert(0, f"the gradients are of the sum of the {size} entries of {self.name}")
        return found + ([f"{Text.ones} is a column of ones"] if Text.ones in written else [])

    def _name(self, array: Any) -> str:
        """A name for a constant that is not from the program."""
        if id(array) not in self.made:
            made = (name for name, _ in self.made.values())
            known = (*self.naming.nodes.values(), *self.naming.arrays.values())
            taken = {*known, *self.found.names.values(), *made}
            one = array.ndim == 2 and np.array_equal(array, np.eye(*array.shape))
            letters = chain(["I"] if one else [], names())
            self.made[id(array)] = next(c for c in letters if c not in taken), array
        return self.made[id(array)][0]

    def _named(self, of: Sequence[Node]) -> str:
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
        """What several gradients, or several values, are made from, unless it is short."""
        uses: Counter[Node] = Counter()
        seen: set[Node] = set()
        named = [y for x in symbols for y in x.inputs if isinstance(y, Node)]
        stack = list(dict.fromkeys([*roots, *named]))
        uses.update(roots)
        uses.update(named)
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
        return many

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

    def _engine(self) -> dict[Node, Any]:
        """The gradients as `backward` computes them."""
        if not hasattr(self, "_pulled"):
            self._pulled = gradients(self.order, self.root)
        return self._pulled

    def _line(self, kind: str, name: str, x: Any, symbols: dict[Node, str], top: Any,
              label: str = "", by: Node | None = None) -> Line:  # fmt: skip
        shape = by.shape if by is not None else np.shape(x) if not isinstance(x, Node) else x.shape
        reasons: list[str] = []

        def forms(syntax: Text) -> tuple[str | None, str | None, Writer]:
            """Both forms in one syntax; of Python the right sides alone."""
            letters = [c if n != 1 else "0" for c, n in zip(INDICES, shape, strict=False)]
            writer = Writer(syntax, symbols, letters, self.found.arrays, self._name)
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
        if by is not None:
            value = self._engine()[by]
        why = "; ".join(dict.fromkeys(reasons))
        gates = {r.removesuffix(" matrix form").removesuffix(" index form") for r in reasons}
        if len(reasons) > 1 and len(gates) == 1:
            why = f"{gates.pop()} formula"  # … has no formula
        call = ""
        if isinstance(x, Node) and x.primitive is not None and not matrix and not index:
            names = [
                symbols.get(y, self.naming[self.forward[y]] if y in self.forward else "…")
                if isinstance(y, Node) else self.naming[y]
                for y in x.inputs
            ]  # fmt: skip
            call = expression_of(x, names)
        return Line(
            kind, name, tuple(shape), matrix, index, latex[0] or latex[1] or name,
            mathml[0] or mathml[1] or escape(name), value, why, (python[0], python[1]),
            python[2].constants, python[2].functions, call,
        )  # fmt: skip


def _without_form(x: Node) -> bool:
    """Whether no formula is known for a gate."""
    known = isinstance(x.primitive, (LinearGate, Elementwise)) or x.name == "contract"
    return x.primitive is not None and (not known or renumbers(x))


def _plain(x: Node) -> bool:
    """A gate that only copies, casts or moves."""
    return x.name in ("broadcast", "cast", "permute", "reshape") and isinstance(
        x.primitive, (LinearGate, Elementwise)
    )


def _summary(array: Any) -> str:
    """The shape of an array and the range of its entries."""
    shape = "×".join(map(str, array.shape))
    if not array.size:
        return f"{shape}, empty"
    ones = int((array == 1).sum())
    if ones + (array == 0).sum() == array.size:
        return f"{shape}, with {ones} ones and {array.size - ones} zeros"
    return f"{shape}, from {number(array.min())} to {number(array.max())}"
