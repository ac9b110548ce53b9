"""The part of linear algebra that is made of contractions; the rest says that it is not there."""

from __future__ import annotations

from typing import NoReturn

from ..errors import UnsupportedError
from .contraction import matmul, outer, tensordot, trace, vecdot, vector_norm
from .shaping import diagonal, matrix_transpose

__all__ = [
    "diagonal", "matmul", "matrix_transpose", "outer", "tensordot", "trace", "vecdot",
    "vector_norm",
]  # fmt: skip


def __getattr__(name: str) -> NoReturn:
    raise UnsupportedError(
        f"linalg.{name} is not in chainrule, which has {', '.join(__all__)}. "
        f"Without gradients use np.linalg.{name}(np.asarray(x))"
    )
