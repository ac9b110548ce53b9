"""The forms a local Jacobian takes: for one input of one gate, a linear map to its output.

`pull` is backprop, downstream = upstream × local; `push` is forward mode. Both receive the
namespace `xp` that they compute with: NumPy on bare arrays when nothing is recorded, chainrule's
own operations when something is, so that every rule can be differentiated again.

Identity · Scale · Diagonal · Mask · Linear (an index map) · Contraction · Product · Zero · Opaque
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .indexmap import IndexMap
    from .primitive import Primitive


class Local:
    """A linear map L from one input of a gate to its output."""

    __slots__ = ()

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        """upstream × L: the contribution to the gradient of the input."""
        raise NotImplementedError(f"{type(self).__name__} must define pull")

    def push(self, xp: Any, tangent: Any, /) -> Any:
        """L × tangent: how the output moves when the input moves along the tangent."""
        raise NotImplementedError(f"{type(self).__name__} must define push")


class Identity(Local):
    """L = I: the gate passes gradients on unchanged."""

    __slots__ = ()

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        return upstream

    push = pull


class Zero(Local):
    """L = 0: the output does not move with this input. pull and push give None, "nothing"."""

    __slots__ = ()

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        return None

    push = pull


class Scale(Local):
    """L = c·I with a finite number c other than 0."""

    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        return -upstream if self.factor == -1 else upstream * self.factor

    push = pull


class Diagonal(Local):
    """L = diag(partial), of an elementwise gate; products are strong at zero (0·∞ = 0)."""

    __slots__ = ("partial",)

    def __init__(self, partial: Any) -> None:
        self.partial = partial

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        return xp.scale_gradient(upstream, self.partial)

    push = pull


class Mask(Local):
    """L = diag(mask) with entries 0 and 1: gradients pass where `mask` is `passes`."""

    __slots__ = ("mask", "passes")

    def __init__(self, mask: Any, passes: bool = True) -> None:
        self.mask, self.passes = mask, passes

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        mask = self.mask if self.passes else xp.logical_not(self.mask)
        return xp.select_gradient(upstream, mask)

    push = pull


class Linear(Local):
    """L is a linear gate itself, known by its index map; integer `tables` for gather."""

    __slots__ = ("map", "primitive", "tables")

    def __init__(self, primitive: Primitive, map: IndexMap, tables: tuple[Any, ...] = ()) -> None:
        self.primitive, self.map, self.tables = primitive, map, tables

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        return xp.apply(self.primitive.dual, (upstream, *self.tables), {"map": self.map.T})

    def push(self, xp: Any, tangent: Any, /) -> Any:
        return xp.apply(self.primitive, (tangent, *self.tables), {"map": self.map})


class Contraction(Local):
    """L of one operand of a contraction: contract with the other operand."""

    __slots__ = ("other", "position", "primitive", "spec", "transposed")

    def __init__(
        self, primitive: Primitive, spec: str, transposed: str, position: int, other: Any
    ) -> None:
        self.primitive, self.spec, self.transposed = primitive, spec, transposed
        self.position, self.other = position, other

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        pair = (upstream, self.other) if self.position == 0 else (self.other, upstream)
        return xp.apply(self.primitive, pair, {"spec": self.transposed})

    def push(self, xp: Any, tangent: Any, /) -> Any:
        pair = (tangent, self.other) if self.position == 0 else (self.other, tangent)
        return xp.apply(self.primitive, pair, {"spec": self.spec})


class Product(Local):
    """L = first × second × …: push applies the last factor first."""

    __slots__ = ("factors",)

    def __init__(self, *factors: Local) -> None:
        self.factors = factors

    def pull(self, xp: Any, upstream: Any, /) -> Any:
        for factor in self.factors:
            upstream = factor.pull(xp, upstream)
        return upstream

    def push(self, xp: Any, tangent: Any, /) -> Any:
        for factor in reversed(self.factors):
            tangent = factor.push(xp, tangent)
        return tangent


IDENTITY, ZERO, NEGATE = Identity(), Zero(), Scale(-1)
