"""Formulas as text, computed by chainrule: `evaluate("(x + y) * z", {"x": -2, "y": 5, "z": -4})`.

The text is parsed, never run: numbers, names, + - * / **, parentheses and calls of the functions
in `FUNCTIONS`. Everything else is refused with a caret under the place.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn
from unicodedata import normalize

import numpy as np

from .. import ops
from ..core.context import context
from ..errors import DataError
from ..ops.tensor import Tensor, constant, variable

Value = Tensor | float

MAX_LENGTH = 10_000
MAX_DEPTH = 500

UNARY = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfinv", "exp",
    "expm1", "log", "log10", "log1p", "log2", "relu", "sigmoid", "sign", "sin", "sinh", "softplus",
    "sqrt", "square", "tan", "tanh",
)  # fmt: skip
BINARY = ("atan2", "hypot", "logaddexp", "maximum", "minimum", "pow")
FUNCTIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    **{name: (1, getattr(ops, name)) for name in UNARY},
    **{name: (2, getattr(ops, name)) for name in BINARY},
    "max": (2, ops.maximum),
    "min": (2, ops.minimum),
}
"""What an expression may call: how many arguments each takes, and chainrule's function."""

OPERATORS: dict[type[ast.operator], Callable[..., Tensor]] = {
    ast.Add: ops.add,
    ast.Sub: ops.subtract,
    ast.Mult: ops.multiply,
    ast.Div: ops.divide,
    ast.Pow: ops.pow,
}
GRAMMAR = "numbers, names, + - * / **, parentheses and function calls"
HINTS: dict[type[ast.AST], str] = {
    ast.Attribute: "names have no parts",
    ast.Subscript: "names have no entries",
    ast.Compare: "comparisons have no gradient; use max, min or relu",
    ast.IfExp: "a choice has no gate; use max, min or relu",
    ast.BoolOp: "there is no and, or",
    ast.Tuple: "write one expression, without a comma",
    ast.NamedExpr: "nothing can be assigned",
}
OPERATOR_HINTS: dict[type[ast.AST], str] = {
    ast.BitXor: "write ** for a power",
    ast.MatMult: "write * for a product of numbers",
    ast.FloorDiv: "write / for a quotient",
}


class ExpressionError(DataError):
    """An expression that cannot be computed; the message shows where, with a caret.

    `problem` is the first line alone, `column` the place counted from 0, or None.
    """

    def __init__(self, problem: str, expression: str, column: int | None = None, width: int = 1):
        self.problem, self.expression, self.column = problem, expression, column
        lines = [problem]
        if column is not None:
            column = min(column, len(expression))
            start = max(0, column - 60)  # of a long expression, what is around the place
            part = expression[start : start + 78]
            width = max(1, min(width, start + len(part) - column))
            lines += [f"  {part}", "  " + " " * (column - start) + "^" + "~" * (width - 1)]
        elif expression:
            lines.append(f"  {expression[:78]}")
        super().__init__("\n".join(lines))


def evaluate(expression: str, values: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """The result of an expression, and its variables by name, in float64, with the graph.

    >>> f, variables = evaluate("(x + y) * z", {"x": -2, "y": 5, "z": -4})
    >>> f.backward()
    >>> {name: float(v.grad) for name, v in variables.items()}
    {'x': -4.0, 'y': -4.0, 'z': 3.0}
    """
    source = _Source(expression)
    names = source.names()
    values = {normalize("NFKC", name): value for name, value in values.items()}  # as Python does
    _check_values(source, names, values)
    variables = {
        name: variable(np.array(_number(source, name, values[name]), np.float64)) for name in names
    }
    with np.errstate(all="ignore"), context(recording=True, trace=None):
        result = _compute(source, variables)
    return result, variables


class _Source:
    """A parsed expression: its text, and its syntax tree in the order of computation."""

    def __init__(self, expression: str) -> None:
        if not isinstance(expression, str):
            raise ExpressionError(
                f"an expression is text like '(x + y) * z', received {expression!r:.60}", ""
            )
        self.text = " ".join(expression.split("\n")).replace("\t", " ").strip()
        if not self.text:
            raise ExpressionError(f"the expression is empty: write one of {GRAMMAR}", "")
        if len(self.text) > MAX_LENGTH:
            raise ExpressionError(
                f"the expression has {len(self.text)} characters; at most {MAX_LENGTH} are read",
                self.text,
                MAX_LENGTH,
            )
        if "#" in self.text:
            raise ExpressionError("an expression has no comments", self.text, self.text.index("#"))
        self.order = list(self._walk(self._parse()))

    def _parse(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            reason = error.msg
            if "invalid decimal literal" in reason:
                reason = "a number and a name stand together: write 2*x for a product"
            # the places Python gives are counted from 1, and can lie behind the end
            column = min(max((error.offset or 1) - 1, 0), len(self.text))
            raise ExpressionError(
                f"the expression cannot be read: {reason}", self.text, column
            ) from None
        except (RecursionError, MemoryError):
            self._too_deep(0)
        except ValueError as error:  # null bytes, lone surrogates
            raise ExpressionError(f"the expression cannot be read: {error}", "") from None

    def _too_deep(self, column: int) -> NoReturn:
        raise ExpressionError(
            f"the expression is nested more than {MAX_DEPTH} deep: compute parts of it first",
            self.text,
            column,
        )

    def place(self, node: ast.AST) -> tuple[int, int]:
        """Column and width of a part, in characters (the parser counts bytes)."""
        code = self.text.encode()
        start, end = (
            len(code[: getattr(node, name, 0) or 0].decode(errors="ignore"))
            for name in ("col_offset", "end_col_offset")
        )
        return start, max(1, end - start)

    def error(self, node: ast.AST, problem: str) -> ExpressionError:
        return ExpressionError(problem, self.text, *self.place(node))

    def _walk(self, root: ast.expr) -> Iterator[ast.expr]:
        """Every allowed part, operands before what uses them; anything else is refused."""
        stack: list[tuple[ast.expr, int, bool]] = [(root, 1, False)]
        while stack:
            node, depth, done = stack.pop()
            if done:
                yield node
                continue
            if depth > MAX_DEPTH:
                self._too_deep(self.place(node)[0])
            stack.append((node, depth, True))
            stack += [(part, depth + 1, False) for part in reversed(self._operands(node))]

    def _operands(self, node: ast.expr) -> list[ast.expr]:
        match node:
            case ast.Constant():
                self._check_number(node)
                return []
            case ast.Name():
                return []
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return [operand]
            case ast.BinOp(left=left, op=operator, right=right):
                if type(operator) not in OPERATORS:
                    hint = OPERATOR_HINTS.get(type(operator), f"it takes {GRAMMAR}")
                    raise self.error(node, f"an expression has no such operator: {hint}")
                return [left, right]
            case ast.Call():
                return self._arguments(node)
        hint = HINTS.get(type(node), f"it takes {GRAMMAR}")
        raise self.error(node, f"an expression cannot hold this: {hint}")

    def _arguments(self, node: ast.Call) -> list[ast.expr]:
        if not isinstance(node.func, ast.Name):
            raise self.error(node.func, f"only functions can be called: {_listed(FUNCTIONS)}")
        name = node.func.id
        if name not in FUNCTIONS:
            raise self.error(
                node.func,
                f"unknown function {name!r}{_nearest(name, FUNCTIONS)}; "
                f"the functions are {_listed(FUNCTIONS)}",
            )
        count = FUNCTIONS[name][0]
        starred = any(isinstance(a, ast.Starred) for a in node.args)
        if node.keywords or starred or len(node.args) != count:
            given = "others" if node.keywords or starred else str(len(node.args))
            raise self.error(
                node, f"{name} takes {count} argument{'s' * (count > 1)}, received {given}"
            )
        return node.args

    def _check_number(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(node, f"{value!r:.40} is not a real number")
        if not _finite(value):
            raise self.error(node, "this number is too large: float64 ends at 1.8e308")

    def names(self) -> dict[str, ast.Name]:
        """The names in it, each with its first place, in the order of appearance."""
        found = sorted(
            (n for n in self.order if isinstance(n, ast.Name)), key=lambda n: n.col_offset
        )
        result: dict[str, ast.Name] = {}
        for node in found:
            result.setdefault(node.id, node)
        return result


def _check_values(
    source: _Source, names: Mapping[str, ast.Name], values: Mapping[str, float]
) -> None:
    """Every name has a value, and every value a name."""
    unused = [name for name in values if name not in names]
    for name, node in names.items():
        if name in values:
            continue
        if name in FUNCTIONS:
            raise source.error(node, f"{name} is a function: write {name}(…)")
        raise source.error(
            node, f"no value for {name!r}{_nearest(name, unused)}: give one, as {name}=1.5"
        )
    if unused:
        there = f"its names are {', '.join(names)}" if names else "it has no names"
        raise ExpressionError(
            f"a value was given for {unused[0]!r}, which the expression does not use"
            f"{_nearest(unused[0], names)}; {there}",
            source.text,
        )
    if not names:
        raise ExpressionError(
            "the expression has no names: there is nothing to take a gradient by", source.text
        )


def _number(source: _Source, name: str, value: Any) -> float:
    """A given value as a float."""
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)):
            raise TypeError
        return float(value)
    except OverflowError:
        problem = f"the value of {name} is too large: float64 ends at 1.8e308"
    except (TypeError, ValueError):
        problem = f"the value of {name} must be a number, received {value!r:.60}"
    raise source.error(source.names()[name], problem)


def _compute(source: _Source, variables: Mapping[str, Tensor]) -> Tensor:
    """The value of the whole, part by part; literals go to the gates as Python numbers."""
    stack: list[Value] = []
    for node in source.order:
        match node:
            case ast.Constant():
                stack.append(float(node.value))  # type: ignore[arg-type]
            case ast.Name():
                stack.append(variables[node.id])
            case ast.UnaryOp(op=ast.USub()):
                x = stack.pop()
                stack.append(-x if isinstance(x, float) else ops.negative(x))
            case ast.BinOp():
                y, x = stack.pop(), stack.pop()
                stack.append(_apply(OPERATORS[type(node.op)], x, y))
            case ast.Call(func=ast.Name(id=name)):
                count, function = FUNCTIONS[name]
                operands = stack[len(stack) - count :]
                del stack[len(stack) - count :]
                stack.append(_apply(function, *operands))
    return _tensor(stack.pop())


def _apply(function: Callable[..., Tensor], *operands: Value) -> Tensor:
    """A gate on Tensors and literals; literals alone become float64 constants."""
    if not any(isinstance(x, Tensor) for x in operands):
        operands = tuple(_tensor(x) for x in operands)
    return function(*operands)


def _tensor(x: Value) -> Tensor:
    return x if isinstance(x, Tensor) else constant(np.array(x, np.float64))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _nearest(name: str, known: Iterable[str]) -> str:
    """ ", did you mean …?" if a known name is much like this one."""
    close = get_close_matches(name, list(known), 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
