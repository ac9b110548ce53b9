"""Variables as compiled functions hold them: written in place while nobody else can see it.

A `Slot` owns the memory of a variable that compiled code assigns. The variable's array, the array
that native code is given and every view that users take are views of that memory, so the count of
references to it (with those to the array and to the variable's node) tells whether anybody else
holds the value: a NumPy view, another Tensor, a graph recorded before. If so, a new value goes into
new memory, and what the others hold stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..core.node import Node
from ..core.types import size_of
from ..ops.tensor import Array, Tensor, leaf, variable

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Slot:
    """A variable, and the array that native code reads or writes for it.

    `array` is the variable's value when it was last seen, `native` what native code is given.
    `memory` and `node` are those of a value that the slot made itself, else None.
    """

    __slots__ = ("__weakref__", "array", "memory", "native", "node", "variable")

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable
        self.adopt()

    def adopt(self) -> None:
        """Take the variable's value as it was assigned elsewhere: to be read only."""
        self.array: Array = self.variable._value
        self.native = plain(self.array)
        self.memory: Any = None
        self.node: Node | None = None

    def bind(self, memory: Array) -> None:
        """Give the variable its new value, which native code has written to this memory."""
        v = self.variable
        self.array, self.native = (view(memory, v.shape, v.dtype) for _ in range(2))
        self.memory = memory
        v._value = self.array
        v._node = self.node = leaf(v, self.array)


def view(memory: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array on memory that `allocate` gave."""
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size_of(shape) * dtype.itemsize].view(dtype).reshape(shape)


def allocate(v: Tensor) -> Array:
    """Memory for a value of a variable."""
    return np.empty(v.nbytes + ALIGNMENT, np.uint8)


def plain(array: Array) -> Array:
    """An array as native code takes it: the array itself, or a contiguous and aligned copy."""
    return np.require(array, requirements=("C", "A"))


MEMORY, ARRAY, NATIVE, NODE = map(attrgetter, ("memory", "array", "native", "node"))
VALUE = attrgetter("_value")
_slots: WeakValueDictionary[int, Slot] = WeakValueDictionary()


def slot_of(v: Tensor) -> Slot:
    """The slot of a variable, the same for all compiled functions that use it."""
    slot = _slots.get(id(v))
    if slot is None:
        slot = _slots[id(v)] = Slot(v)
    return slot


def adopt_changed(variables: Sequence[Tensor], slots: Sequence[Slot]) -> None:
    """Bring slots up to date with variables that were assigned elsewhere."""
    if not all(map(is_, map(VALUE, variables), map(ARRAY, slots))):
        for v, slot in zip(variables, slots, strict=True):
            if v._value is not slot.array:
                slot.adopt()


def references(slots: Sequence[Slot]) -> list[int]:
    """How often memory, array and node of each slot are referred to."""
    return [
        *map(getrefcount, map(MEMORY, slots)),
        *map(getrefcount, map(ARRAY, slots)),
        *map(getrefcount, map(NODE, slots)),
    ]


def _references_alone() -> list[int]:
    """What `references` gives for a slot whose variable's value nobody else holds."""
    slot = Slot(variable(np.zeros(1)))
    slot.bind(allocate(slot.variable))
    return references([slot])


ALONE = _references_alone()


def free(slots: Sequence[Slot], expected: Sequence[int]) -> list[bool]:
    """For each slot whether its memory can be overwritten; `expected` is `alone(slots)`."""
    found = references(slots)
    n = len(slots)
    if found == expected:
        return [True] * n
    return [
        s.memory is not None and found[k::n] == ALONE for k, s in enumerate(slots)
    ]


def alone(slots: Sequence[Slot]) -> list[int]:
    """What `references` gives if nobody else holds the value of any of these slots."""
    return [count for count in ALONE for _ in slots]


__all__ = ["Slot", "adopt_changed", "allocate", "alone", "free", "plain", "slot_of", "view"]
