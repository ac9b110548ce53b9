"""Formulas in matrix form, read as a person reads them: a way to numbers beside `verify`.

    expression   [-] term {(+ | −) term}
    term         quotient {(∘ | · | a space) quotient}
    quotient     power {/ power}
    power        Σ power | - power | atom {ᵀ | ² | ^ atom}
    atom         number | name | name(expression, …) | (expression) | [expression < expression]

Vectors are columns. A sum Σ that other factors follow could be read in two ways, and is refused.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

POWERS = {c: str(k) for k, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")} | {"⁻": "-"}
TOKEN = re.compile(
    r"\s*(\d+(?:\.\d+)?(?:e-?\d+)?|[A-Za-zδ_][A-Za-zδ_0-9.]*|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+|[∘·+−/()\[\],^ᵀΣ<>=≥≤≠-])"
)
TESTS = {
    "<": operator.lt, ">": operator.gt, "=": operator.eq, "≥": operator.ge, "≤": operator.le,
    "≠": operator.ne,
}  # fmt: skip
FUNCTIONS = {
    "exp": np.exp, "tanh": np.tanh, "maximum": np.maximum,
    "relu": lambda a: np.maximum(a, 0), "where": lambda c, a, b: np.where(np.asarray(c) != 0, a, b),
}  # fmt: skip


class Unread(Exception):
    """What cannot be read, or in two ways."""


def read(text: str, known: Mapping[str, Any]) -> Any:
    """The value of a formula, from those of the names in it."""
    reader = _Reader(text, known)
    value = reader.expression()
    if reader.place < len(reader.tokens):
        raise Unread(f"{reader.tokens[reader.place :]} is left of {text}")
    return value


class _Reader:
    def __init__(self, text: str, known: Mapping[str, Any]) -> None:
        self.known, self.place = known, 0
        self.tokens: list[tuple[str, bool]] = []
        at = 0
        while at < len(text.rstrip()):
            found = TOKEN.match(text, at)
            if found is None:
                raise Unread(text[at:])
            self.tokens.append((found[1], text[at] == " "))
            at = found.end()

    @property
    def next(self) -> str:
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.next
        if wanted and token != wanted:
            raise Unread(f"{token} for {wanted} in {self.tokens}")
        self.place += 1
        return token

    def expression(self) -> Any:
        value = -self.term() if self.next == "-" and self.take() else self.term()
        while self.next in ("+", "−"):
            sign = self.take()
            other = self.term()
            value = value + other if sign == "+" else value - other
        return value

    def term(self) -> Any:
        value, total = self.quotient()
        while self.next in ("∘", "·") or self._beside():
            if total:
                raise Unread(f"a factor behind Σ: {self.tokens}")
            plain = self.next in ("∘", "·") and bool(self.take())
            other, total = self.quotient()
            numbers = plain or np.ndim(value) == 0 or np.ndim(other) == 0
            value = value * other if numbers else _product(value, other)
        return value

    def _beside(self) -> bool:
        starts = bool(self.next) and (self.next[0].isalnum() or self.next[0] in "([Σδ_")
        return starts and self.tokens[self.place][1]

    def quotient(self) -> tuple[Any, bool]:
        value, total = self.power()
        while self.next == "/":
            self.take()
            other, below = self.power()
            if below:
                raise Unread(f"Σ below: {self.tokens}")
            value, total = value / other, total and np.ndim(other) > 0
        return value, total

    def power(self) -> tuple[Any, bool]:
        if self.next == "Σ":
            self.take()
            return np.reshape(np.sum(self.power()[0]), (1, 1)), True
        if self.next == "-":
            self.take()
            value, total = self.power()
            return -value, total
        value = self.atom()
        while self.next in ("ᵀ", "^") or self.next[:1] in POWERS:
            token = self.take()
            if token == "ᵀ":
                value = np.transpose(value)
            else:
                digits = "".join(POWERS[c] for c in token) if token != "^" else ""
                value = value ** (float(digits) if digits else self.atom())
        return value, False

    def atom(self) -> Any:
        token = self.take()
        if token == "(":
            value = self.expression()
            self.take(")")
            return value
        if token == "[":
            first, test = self.expression(), TESTS[self.take()]
            found = test(first, self.expression()) * 1.0
            self.take("]")
            return found
        if token[0].isdigit():
            return float(token)
        if self.next == "(" and not self.tokens[self.place][1]:
            self.take()
            given = [self.expression()]
            while self.next == ",":
                self.take()
                given.append(self.expression())
            self.take(")")
            return FUNCTIONS[token](*given)
        return self.known[token]


def _product(a: Any, b: Any) -> Any:
    """A product of matrices; one of a single entry may stand for a number."""
    fits = a.shape[1] == b.shape[0]
    return a @ b if fits else a * b if 1 in (a.size, b.size) else a @ b
