"""Groups of gates that are computed in one loop nest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.node import Node
from ..core.types import ArrayType, Shape, TupleType


def has_parts(node: Node) -> bool:
    """Whether a gate has several outputs."""
    kind: Any = node.type
    return isinstance(kind, TupleType)


def types_of(node: Node) -> Sequence[ArrayType]:
    """The types of the outputs of a gate."""
    kind: Any = node.type
    return kind.items if isinstance(kind, TupleType) else (kind,)


@dataclass(eq=False)
class Group:
    """Gates computed in one loop nest over `space`; `anchor` is the contraction in front."""

    space: Shape
    members: dict[Node, None] = field(default_factory=dict)
    anchor: Node | None = None
    special: bool = False
    plain: bool = True
    """Whether it may be an epilogue: no reduction, no table, no guard."""
    splits: dict[int, Shape] = field(default_factory=dict)
    """Axes that are several loops, so that a reshape that joins axes can be read."""


@dataclass
class Use:
    """How a group uses a value: at its own index, and each entry at most once."""

    aligned: bool
    once: bool
