"""Variables as compiled functions hold them: written in place while nobody else can see it.

A `Slot` owns the array of a variable that compiled code assigns. Native code is given a view of it,
and every view that users take holds the array, so the count of references to it (and to the
variable's node) tells whether anybody else holds the value: a NumPy view, another Tensor, a graph
recorded before. If so, a new value goes into a new array, and what the others hold stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ..core.node import Node
from ..ops.tensor import Array, Tensor, leaf, variable

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Slot:
    """A variable, and the array that native code reads or writes for it.

    `array` is the variable's value when it was last seen, `native` what native code is given.
    `node` is the variable's node if the slot made the array itself, else None.
    """

    __slots__ = ("__weakref__", "array", "native", "node", "variable")

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable
        self.adopt()

    def adopt(self) -> None:
        """Take the variable's value as it was assigned elsewhere: to be read only."""
        self.array: Array = self.variable._value
        self.native = plain(self.array)
        self.node: Node | None = None

    def bind(self, array: Array) -> None:
        """Give the variable its new value, an array that `allocate` gave."""
        v = self.variable
        self.array, self.native = array, array.view()
        v._value = array
        v._node = self.node = leaf(v, array)


def allocate(v: Tensor) -> Array:
    """An aligned array for a value of a variable. It is the base of all views of it."""
    memory = bytearray(v.nbytes + ALIGNMENT)
    start = -np.frombuffer(memory, np.uint8).ctypes.data % ALIGNMENT
    return np.ndarray(v.shape, v.dtype, memory, start)


def plain(array: Array) -> Array:
    """An array as native code takes it: the array itself, or a contiguous and aligned copy."""
    return np.require(array, requirements=("C", "A"))


ARRAY, NATIVE, NODE, VALUE = map(attrgetter, ("array", "native", "node", "_value"))
_slots: WeakValueDictionary[int, Slot] = WeakValueDictionary()


def slot_of(v: Tensor) -> Slot:
    """The slot of a variable, the same for all compiled functions that use it."""
    slot = _slots.get(id(v))
    if slot is None:
        slot = _slots[id(v)] = Slot(v)
    return slot


def natives(variables: Sequence[Tensor], slots: Sequence[Slot]) -> list[Array]:
    """The arrays for native code, brought up to date with what was assigned elsewhere."""
    if not all(map(is_, map(VALUE, variables), map(ARRAY, slots))):
        for v, slot in zip(variables, slots, strict=True):
            if v._value is not slot.array:
                slot.adopt()
    return list(map(NATIVE, slots))


def references(slots: Sequence[Slot]) -> list[int]:
    """How often the array, then the node of each slot are referred to."""
    return [*map(getrefcount, map(ARRAY, slots)), *map(getrefcount, map(NODE, slots))]


def _references_alone() -> list[int]:
    """What `references` gives for a slot whose variable's value nobody else holds."""
    slot = Slot(variable(np.zeros(1)))
    slot.bind(allocate(slot.variable))
    return references([slot])


ALONE = _references_alone()


def alone(slots: Sequence[Slot]) -> list[int]:
    """What `references` gives for slots whose variables' values nobody else holds."""
    return [count for count in ALONE for _ in slots]


def targets(slots: Sequence[Slot], expected: Sequence[int]) -> tuple[list[Array], Any]:
    """Where the new values of variables go, and which slots must be bound to new arrays then.

    `natives` of the same variables comes before; `expected` is `alone(slots)`.
    """
    found = references(slots)
    if found == expected:
        return list(map(NATIVE, slots)), ()
    arrays, fresh = [], []
    for k, slot in enumerate(slots):
        if slot.node is not None and found[k :: len(slots)] == ALONE:
            arrays.append(slot.native)
        else:
            new = allocate(slot.variable)
            arrays.append(new)
            fresh.append((slot, new))
    return arrays, fresh


__all__ = ["Slot", "alone", "natives", "plain", "slot_of", "targets"]
