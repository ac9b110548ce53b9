"""What the Array API standard wants to know of the namespace."""

from __future__ import annotations

from typing import Any

from .core.types import (
    DTYPES,
    FLOATS,
    INTEGERS,
    bool_,
    float32,
    int64,
)  # fmt: skip
from .errors import UnsupportedError


class __array_namespace_info__:
    """Facts about this namespace: devices, dtypes, capabilities."""

    def capabilities(self) -> dict[str, Any]:
        """Boolean indexing and shapes that depend on values work (in eager)."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """The only device."""
        return "cpu"

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """float32 for floats, int64 for integers and indices."""
        return {"real floating": float32, "integral": int64, "indexing": int64}

    def devices(self) -> list[str]:
        """The only device."""
        return ["cpu"]

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """The dtypes by name, of one kind or of several."""
        kinds = {
            "bool": (bool_,),
            "signed integer": tuple(d for d in DTYPES if d.kind == "i"),
            "unsigned integer": tuple(d for d in DTYPES if d.kind == "u"),
            "integral": tuple(d for d in DTYPES if d.char in INTEGERS),
            "real floating": tuple(d for d in DTYPES if d.char in FLOATS),
            "complex floating": (),
            "numeric": tuple(d for d in DTYPES if d.kind != "b"),
            None: DTYPES,
        }
        wanted = kind if isinstance(kind, tuple) else (kind,)
        for k in wanted:
            if k not in kinds:
                raise UnsupportedError(f"unknown kind of dtype {k!r}; one of {list(kinds)}")
        return {d.name: d for k in wanted for d in kinds[k]}
