"""Python numbers that are not known while tracing: 0-d, of the dtype of their neighbours."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import TraceError
from .tensor import Tensor, program_line


class TracedNumber:
    """A Python float or int that a traced function was called with, or what was computed of some.

    It takes the dtype of the Tensors it meets, as the number itself does. Between numbers it is
    computed as Python does: in float64, int64 and bool, which is what `exact` holds. Operators are
    attached in `operators.py`.
    """

    __slots__ = ("exact", "name")
    __array_ufunc__ = None  # NumPy arrays leave operators to the number

    def __init__(self, exact: Tensor, name: str) -> None:
        self.exact, self.name = exact, name

    @property
    def kind(self) -> type:
        """The Python type: float, int or bool."""
        return {"f": float, "i": int, "b": bool}[self.exact.dtype.kind]

    def astype(self, dtype: Any) -> Tensor:
        """The number as a 0-d Tensor of this dtype."""
        from .dispatch import CAST, bind

        return (
            self.exact if dtype == self.exact.dtype else bind(CAST, (self.exact,), {"dtype": dtype})
        )

    def _refuse(self, what: str) -> NoReturn:
        raise TraceError(
            f"{what} needs the value of {self.name}, a number that is not known while the "
            f"function is traced ({program_line()}): name it in "
            f'static=("{self.name.partition("[")[0]}",), so that it is part of what is compiled, '
            "or compute with functions of chainrule, such as where"
        )

    def __index__(self) -> int:
        self._refuse("a shape, index or range")

    def __hash__(self) -> int:
        self._refuse("an axis or a key")

    def __int__(self) -> int:
        self._refuse("int()")

    def __float__(self) -> float:
        self._refuse("float()")

    def __bool__(self) -> bool:
        self._refuse("a branch (bool())")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self._refuse("NumPy")

    def __round__(self, digits: int | None = None) -> NoReturn:
        self._refuse("round() (cr.round gives a Tensor)")

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return other // self, other % self

    def __format__(self, spec: str) -> str:
        if spec:
            self._refuse(f"the format {spec!r}")
        return str(self)

    def __repr__(self) -> str:
        return f"traced({self.kind.__name__} {self.name})"
