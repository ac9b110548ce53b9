"""How values look in texts and pictures: small arrays as numbers, large ones as shape and norm;
and how places in a program do."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable
from typing import Any

import numpy as np

FEW = 4
"""Arrays of at most so many entries are printed in full (6 for matrices)."""


def number(x: float, digits: int = 4) -> str:
    """A number in so many significant digits; whole ones without a point.

    >>> number(-12.0), number(0.73105857), number(1e-9)
    ('-12', '0.7311', '1e-09')
    """
    x = float(x)
    if x == 0:
        return "0"
    if abs(x) < 1e6 and x == int(x):
        return str(int(x))
    return f"{x:.{digits}g}"


def fixed(x: float) -> str:
    """A number with two decimals, as drawn in the course's notes; very small ones keep a digit.

    >>> fixed(0.73105857), fixed(-12.0), fixed(0.0001234)
    ('0.73', '-12.00', '1.2e-04')
    """
    x = float(x)
    if x != 0 and not 0.005 <= abs(x) < 1e5:
        return f"{x:.1e}" if np.isfinite(x) else str(x)
    return f"{x + 0.0:.2f}"


def array(value: Any, write: Callable[[float], str] = number) -> str:
    """An array: its entries if they are few, else its shape and Euclidean norm.

    >>> array(np.array([1.0, 2.5])), array(np.eye(3)), array(np.zeros((0, 3)))
    ('[1, 2.5]', '(3, 3) norm 1.732', '(0, 3) empty')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (tuple, list)):
        return "(" + "; ".join("nothing" if v is None else array(v, write) for v in value) + ")"
    values = np.asarray(value)
    if not values.size:
        return f"{values.shape} empty"
    if not values.ndim:
        return write(float(values))
    if not is_large(values):
        return _nested(values, write)
    return f"{values.shape} norm {write(norm(values))}"


def is_large(values: np.ndarray[Any, Any]) -> bool:
    """Whether an array has more entries than are printed."""
    return values.size > (FEW if values.ndim == 1 else 6) or values.ndim > 2


def norm(values: np.ndarray[Any, Any]) -> float:
    """The Euclidean norm of all entries."""
    with np.errstate(all="ignore"):
        return float(np.linalg.norm(values.astype(np.float64).reshape(-1)))


def _nested(values: np.ndarray[Any, Any], write: Callable[[float], str]) -> str:
    if values.ndim == 1:
        return "[" + ", ".join(write(float(v)) for v in values) + "]"
    return "[" + ", ".join(_nested(row, write) for row in values) + "]"


def place(where: str) -> str:
    """A place in a program without the folders: `train.py:12`; "" in an installed package."""
    return "" if _installed(where) else os.path.basename(where)


def source(where: str) -> str:
    """The line of the program there, "" where it cannot be read."""
    name, _, line = where.rpartition(":")
    known = line.isdigit() and not _installed(where)
    return linecache.getline(name, int(line)).strip() if known else ""


def _installed(where: str) -> bool:
    """Whether a place is in someone else's package: the program was a command line."""
    return not {"site-packages", "dist-packages"}.isdisjoint(where.replace("\\", "/").split("/"))
