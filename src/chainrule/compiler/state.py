"""Variables as compiled functions hold them: written in place while nobody else can see it.

A `Slot` owns the array of a variable that compiled code assigns. Native code is given a view of it,
and every view that users take holds the array, so the count of references to it (and to the
variable's node) tells whether anybody else holds the value: a NumPy view, another Tensor, a graph
recorded before. If so, new values go into new arrays, and what the others hold stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from sys import getrefcount
from weakref import WeakValueDictionary

import numpy as np

from ..core.node import Node
from ..ops.tensor import Array, Tensor, leaf, variable

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
PAGE = 4096  # bytes
STEP = 5 * ALIGNMENT  # from page to page


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
    """An aligned array for a value of a variable. It is the base of all views of it.

    Large ones begin in different places of their pages, by the number of the page: arrays that
    are read and written side by side, entry by entry, would drive each other out of the caches.
    """
    spread = PAGE if v.nbytes > 8 * PAGE else ALIGNMENT
    memory = bytearray(v.nbytes + ALIGNMENT + spread)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    start = -address % ALIGNMENT + address // PAGE * STEP % spread
    return np.ndarray(v.shape, v.dtype, memory, start)


def plain(array: Array) -> Array:
    """An array as native code takes it: the array itself, or a contiguous and aligned copy."""
    return np.require(array, requirements=("C", "A"))


ARRAY, NODE = attrgetter("array"), attrgetter("node")
_slots: WeakValueDictionary[int, Slot] = WeakValueDictionary()


def slot_of(v: Tensor) -> Slot:
    """The slot of a variable, the same for all compiled functions that use it."""
    slot = _slots.get(id(v))
    if slot is None:
        slot = _slots[id(v)] = Slot(v)
    return slot


def references(slots: Sequence[Slot]) -> list[int]:
    """How often the array, then the node of each slot are referred to."""
    return [*map(getrefcount, map(ARRAY, slots)), *map(getrefcount, map(NODE, slots))]


def _references_alone() -> list[int]:
    """What `references` gives for a slot whose variable's value nobody else holds."""
    slot = Slot(variable(np.zeros(1)))
    slot.bind(allocate(slot.variable))
    return references([slot])


ALONE = _references_alone()


class Slots:
    """The slots of the variables that a compiled function reads, and of those that it assigns.

    `beside` are arrays that it reads, too, after those of the variables.
    With `in_place` False new values always go into new arrays: for code that may fail on its way.
    """

    def __init__(
        self, read: Sequence[Tensor], assigned: Sequence[Tensor], beside: Sequence[Array] = (),
        in_place: bool = True,
    ) -> None:  # fmt: skip
        self.in_place, self.beside = in_place, beside
        self.read, self.assigned = list(map(slot_of, read)), list(map(slot_of, assigned))
        self.slots = list(dict.fromkeys([*self.read, *self.assigned]))
        self.variables = [s.variable for s in self.slots]
        self.targets = assigned
        self.alone = [count for count in ALONE for _ in self.assigned]
        self.newest, self.version = -1, 0
        """Of the arrays that `arrays` gives, if it gives none to bind."""

    def arrays(self) -> tuple[list[Array], list[Array], Sequence[tuple[Slot, Array]]]:
        """What native code reads, what it writes, and the slots to bind to new arrays then.

        All are written in place, or none: so a step that is interrupted is done or not done.
        """
        newest = Tensor._newest
        if self.newest != newest:
            for slot in self.slots:
                if slot.variable._value is not slot.array:  # assigned elsewhere
                    slot.adopt()
            read = [*(s.native for s in self.read), *self.beside]
            self.natives = read, [s.native for s in self.assigned]
            self.version += 1
            self.newest = newest  # last: after an interrupt on the way all is done again
        read, written = self.natives
        if self.in_place and references(self.assigned) == self.alone:
            return read, written, ()
        written = list(map(allocate, self.targets))
        return read, written, list(zip(self.assigned, written, strict=True))
