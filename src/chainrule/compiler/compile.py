"""`compile`: a function as native code for the shapes it is called with.

The function is traced at its first call (capture.py) and made into an Executable. Later calls with
arguments of the same shapes, dtypes and plain values only collect arrays, run it, and give
variables their new values (state.py).
"""

from __future__ import annotations

import inspect
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from functools import update_wrapper
from itertools import repeat
from operator import attrgetter, is_
from types import MethodType
from typing import Any, overload

import numpy as np
import optree

from ..core.context import CONTEXT
from ..core.node import Node, caller
from ..core.types import CHARS, ArrayType
from ..errors import CompileError, DTypeError
from ..ops.tensor import Array, Parameter, Tensor, as_array, constant, leaked
from ..ops.tracing import SEVERED
from .capture import NUMBERS, Captured, Given, capture
from .executable import Executable
from .machine import host
from .state import Slots, plain

ndarray = np.ndarray
GRADIENT = attrgetter("_grad")
LOWEST, HIGHEST = -(2**63), 2**63 - 1
MOST = 8
"""Specialisations that a function keeps."""


class Turn:
    """Compiled functions run one at a time: they share variables, and each uses the whole machine.

    `busy` in a thread that has the lock: a gate in Python, or a signal handler, calls a compiled
    function in the midst of another.
    """

    def __init__(self) -> None:
        self.lock, self.busy = threading.RLock(), False


TURN = Turn()
if hasattr(os, "register_at_fork"):  # a child has none of the threads that may hold the lock
    os.register_at_fork(after_in_child=TURN.__init__)  # type: ignore[misc]


INTERRUPTS = 10
"""Interrupts that may come while new values are bound."""


class Specialization:
    """The native code of a function for one key, and how it is called."""

    def __init__(self, captured: Captured, key: Any, function: Any, recording: bool,
                 marked: tuple[tuple[Any, ...], dict[str, Any]]) -> None:  # fmt: skip
        graph = captured.graph
        self.key, self.recording, self.captured = key, recording, captured
        self.surroundings = captured.surroundings
        self.executable = Executable(graph, host())
        assigned = [v for v, _ in graph.assignments]
        whole = not self.executable.calls_python and not captured.added  # done, or not done
        self.plain = all(plain(x) is x for x in captured.constants)
        self.same = self.plain and not captured.entered
        """Whether the arrays that are read, beside arguments, are those of `slots`."""
        beside = captured.constants if self.same else []
        self.slots = Slots(captured.variables, assigned, beside, in_place=whole)
        self.outputs = [
            (x.type.shape, x.type.dtype) if isinstance(x, Node) else (x.shape, x.dtype)
            for x in graph.outputs
        ]
        self.holders = [x for x, _ in captured.gradients]
        self.without = [not there for _, there in captured.gradients]
        for x in self.holders:
            x._grad = x.grad  # a constant has none, not even None
        self.results = len(self.outputs) - len(captured.added)
        marks = captured.dependent(key[1])
        self.severed = [k for k, mark in enumerate(marks[: self.results]) if mark]
        self._prepare(*marked)

    def _prepare(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """The quick check of calls whose arguments are arrays and plain values, no containers."""
        self.keywords = tuple(kwargs)
        self.tests: list[tuple[Any, Any]] | None = []
        for x in (*args, *kwargs.values()):
            if x.__class__ is ndarray or (x.__class__ is Tensor and x._node is None):
                self.tests.append((x.shape, x.dtype))
            elif _is_number(x):
                self.tests.append((x.__class__, NUMBERS[x.__class__].dtype))
            elif x.__class__ in (bool, int, str, type(None), Parameter, Given) or _is_known(x):
                self.tests.append((x.value if x.__class__ is Given else x, None))
            else:
                self.tests = None
                return

    def accept(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Array] | None:
        """The arrays of the arguments if they are as those this was made for; else None.

        None also where it would take long to find out.
        """
        tests = self.tests
        if kwargs:
            if tuple(kwargs) != self.keywords:
                return None
            args = (*args, *kwargs.values())
        if tests is None or len(args) != len(tests):
            return None
        arrays = []
        for x, (shape, dtype) in zip(args, tests, strict=True):
            if x.__class__ is not ndarray:
                if dtype is None:
                    if x is not shape:
                        return None
                    continue
                if x.__class__ is shape:
                    if shape is int and not LOWEST <= x <= HIGHEST:
                        return None
                    arrays.append(np.array(x, dtype))
                    continue
                if x.__class__ is not Tensor or x._node is not None:
                    return None
                x = x._value
            if x.dtype is not dtype or x.shape != shape:
                return None
            flags = x.flags
            if not flags.carray and not (flags.c_contiguous and flags.aligned):
                return None
            arrays.append(x)
        return arrays

    def fits(self) -> bool:
        """Whether all is outside as it was when the function was traced."""
        return self.surroundings.same() and (not self.holders or self.has_gradients())

    def has_gradients(self) -> bool:
        """Whether gradients are there, or not, as they were when the function was traced."""
        return [*map(is_, map(GRADIENT, self.holders), repeat(None))] == self.without

    def __call__(self, arrays: list[Array]) -> Any:
        """Run it: results, and the new values of variables."""
        captured = self.captured
        read, written, fresh = self.slots.arrays()
        version = None if fresh else self.slots.version
        if not self.same:
            gradients = [plain(x.grad._value) for x in captured.entered]  # type: ignore[union-attr]
            constants = captured.constants if self.plain else map(plain, captured.constants)
            read, version = [*read, *gradients, *constants], None
        outputs = [np.empty(shape, dtype) for shape, dtype in self.outputs]
        self.executable.run(arrays, read, outputs, written, version=version)
        results = list(map(constant, outputs))
        if fresh or captured.added:
            self._settle(fresh, results[self.results :])
            del results[self.results :]
        elif captured.cleared:
            _clear(captured.cleared)
        for k in self.severed:
            y = results[k]
            y._node = Node(SEVERED, (), {}, y._value, None, caller())
        return captured.result.build(results)

    def _settle(self, fresh: Sequence[tuple[Any, Array]], gradients: Sequence[Tensor]) -> None:
        """Bind variables to their new arrays and gradients to theirs, all of them.

        An interrupt on the way (Ctrl-C is an error at any line) waits until that is done.
        """
        interrupt = None
        for _ in range(INTERRUPTS):
            try:
                for slot, array in fresh:
                    slot.bind(array)
                _clear(self.captured.cleared)
                for x, gradient in zip(self.captured.added, gradients, strict=True):
                    x._grad = gradient
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


def _clear(tensors: Sequence[Tensor]) -> None:
    """Take away the gradients of all of them: no interrupt comes in between."""
    deque(map(setattr, tensors, repeat("_grad"), repeat(None)), 0)


class Compiled:
    """A function that runs as native code; see `compile`.

    Of the code used last: `graph`, `kernels`, `llvm`, `assembly`, `memory`, and `profile(*args)`.
    """

    def __init__(self, function: Callable[..., Any], static: Sequence[str]) -> None:
        update_wrapper(self, function, updated=())
        self.__wrapped__ = function
        self._name = getattr(function, "__name__", type(function).__name__)
        self._positions, self._rest = _parameters(function)
        self._static = frozenset(static)
        unknown = self._static - {*self._positions, *_keywords(function)}
        if unknown and not self._rest:
            raise CompileError(
                f"static= names arguments of {self._name}, which has {self._positions}; received "
                f"{', '.join(sorted(unknown))}"
            )
        self._kept: list[Specialization] = []  # the one used last is the last

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        now = CONTEXT.get()
        if now.trace is not None or now.functional:
            return self.__wrapped__(*args, **kwargs)
        with TURN.lock:
            if TURN.busy:
                return self.__wrapped__(*args, **kwargs)
            TURN.busy = True
            try:
                if self._kept:
                    last = self._kept[-1]
                    arrays = last.accept(args, kwargs)
                    if arrays is not None and last.recording is now.recording and last.fits():
                        return last(arrays)
                special, arrays = self._find(args, kwargs, now.recording)
                return special(arrays)
            finally:
                TURN.busy = False

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The method of an instance."""
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"compile({self._name}), {len(self._kept)} specialisations"

    def clear(self) -> None:
        """Forget all specialisations: the next call traces and compiles anew."""
        self._kept.clear()

    # -- specialisations ----------------------------------------------------------------------

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any], recording: bool
              ) -> tuple[Specialization, list[Array]]:  # fmt: skip
        """The specialisation for these arguments, made if there is none yet, and the arrays."""
        marked = (
            tuple(self._mark(x, self._title(k)) for k, x in enumerate(args)),
            {name: self._mark(x, name) for name, x in kwargs.items()},
        )
        fixed: list[Given] = []  # what the copies of modules share that hold other arrays

        def is_leaf(x: Any) -> bool:
            known = _is_known(x)
            if not known and hasattr(type(x), "_fixed"):
                fixed.extend(Given(None, v) for v in x._fixed())
            return known

        everything: Any = marked
        leaves, structure = optree.tree_flatten(everything, is_leaf, namespace="chainrule")
        given = [self._given(x, structure, k, recording) for k, x in enumerate(leaves)]
        key = (structure, given, recording, fixed)
        found = next((s for s in self._kept if s.key == key and s.has_gradients()), None)
        if found is None:
            names = [self._leaf_name(p) for p in structure.paths()]
            captured = capture(self.__wrapped__, leaves, given, structure, names, recording)
            found = Specialization(captured, key, self.__wrapped__, recording, marked)
            if len(self._kept) >= MOST:
                self._warn(found, names)
                del self._kept[0]
        else:
            found.surroundings.check(self._name)
            self._kept.remove(found)
        self._kept.append(found)
        arrays = [
            plain(_array(x, g)) for x, g in zip(leaves, given, strict=True) if g.type is not None
        ]
        return found, arrays

    def _mark(self, value: Any, name: str) -> Any:
        """A value of `static=` as one leaf."""
        if name not in self._static:
            return value
        try:
            hash(value)
        except (TypeError, ValueError):
            raise DTypeError(
                f"the static argument {name} must be hashable (a tuple in place of a list), "
                f"received {type(value).__name__}"
            ) from None
        return Given(None, value)

    def _given(self, x: Any, structure: Any, place: int, recording: bool) -> Given:
        """What the key says of a leaf."""
        if isinstance(x, Given):
            return x
        if isinstance(x, (ndarray, np.generic)):
            array = x if isinstance(x, ndarray) else np.asarray(x)
            if array.dtype.char not in CHARS or not array.dtype.isnative:
                array = as_array(array)  # says which dtypes there are
            return Given(ArrayType(array.shape, array.dtype))
        if isinstance(x, Tensor) and not isinstance(x, Parameter):
            if x._value is None:
                raise leaked("a compiled function")
            return Given(x.type, None, recording and x._node is not None)
        if _is_number(x):
            return Given(x.__class__)
        try:
            hash(x)
        except (TypeError, ValueError):  # a memoryview says ValueError
            raise DTypeError(
                f"{self._leaf_name(structure.paths()[place])} is a {type(x).__name__}: a compiled "
                "function takes arrays, Tensors, numbers, and values that are hashable, in tuples, "
                "lists, dicts or Modules"
            ) from None
        return Given(None, x)

    def _title(self, place: int) -> str:
        """The name of an argument by position."""
        if place < len(self._positions):
            return self._positions[place]
        return f"{self._rest or 'argument '}{place - len(self._positions)}"

    def _leaf_name(self, path: tuple[Any, ...]) -> str:
        named, first, *rest = path
        title = str(first) if named else self._title(first)
        return title + "".join(f"[{p!r}]" for p in rest)

    def _warn(self, new: Specialization, names: list[str]) -> None:
        """Say which argument varies, and how."""
        structure, given, *_ = new.key
        alike = [s.key[1] for s in self._kept if s.key[0] == structure]
        kinds = [{g[k] for g in alike} | {given[k]} for k in range(len(given))]
        most = max(range(len(kinds)), key=lambda k: len(kinds[k]), default=None)
        if most is None or len(kinds[most]) < 2:
            what = "the containers of its arguments, or what is recorded, vary"
        else:
            other = next(g[most] for g in reversed(alike) if g[most] != given[most])
            what = (
                f"the {other.differs(given[most])} of {names[most]} varies: now {given[most]!r}, "
                f"before {other!r}"
            )
        warnings.warn(
            f"{self._name} has been compiled {MOST} times, the one used least is dropped; {what}. "
            "Pad to one size, or leave what varies to Python",
            RuntimeWarning,
            stacklevel=4,
        )

    # -- what was made ------------------------------------------------------------------------

    def _last(self) -> Any:
        if not self._kept:
            raise CompileError(f"{self._name} has not been called yet: call it first")
        return self._kept[-1].executable

    graph = property(lambda self: self._last().graph, doc="The simplified graph.")
    kernels = property(lambda self: self._last().kernels, doc="The loop nests, with their costs.")
    llvm = property(lambda self: self._last().llvm, doc="The code as LLVM IR.")
    assembly = property(lambda self: self._last().assembly, doc="The code as assembly.")
    memory = property(lambda self: self._last().memory, doc="The plan of the memory.")

    def profile(self, *args: Any, **kwargs: Any) -> Any:
        """Time by kernel and by gate for these arguments; the function is called once."""
        with TURN.lock:
            special, _ = self._find(args, kwargs, CONTEXT.get().recording)
            special.executable.sample = []
            self(*args, **kwargs)
            return special.executable.profile()

    def explain(self, *args: Any, **kwargs: Any) -> Any:
        """The gates of the result for these arguments, with the kernel that computes each.

        The graph is run gate by gate, nothing outside changes. `chainrule.explain` has what shows
        it: `show`, `explore`. Raises GradientError if the first result depends on no variable.
        """
        from ..explain.compiled import explain

        with TURN.lock:
            special, arrays = self._find(args, kwargs, CONTEXT.get().recording)
            given = {**dict(zip(self._positions, args, strict=False)), **kwargs}
            return explain(special, arrays, given)


def _array(x: Any, given: Given) -> Array:
    """The array of a leaf."""
    if isinstance(x, Tensor):
        return x._value  # type: ignore[no-any-return]
    if given.type in NUMBERS:
        return np.array(x, NUMBERS[given.type].dtype)
    return as_array(x)


def _is_number(x: Any) -> bool:
    """Whether a number is an input; an int that int64 does not have is a part of the code."""
    return x.__class__ is float or (x.__class__ is int and LOWEST <= x <= HIGHEST)


def _is_known(x: Any) -> bool:
    """Whether a container is a leaf, known by identity: a Module with Parameters of its own."""
    return hasattr(type(x), "_marks") and all(isinstance(p, Parameter) for p in x.parameters())


def _parameters(function: Callable[..., Any]) -> tuple[list[str], str]:
    """The names of arguments by position, and that of the rest (`*rest`)."""
    try:
        every = inspect.signature(getattr(function, "forward", function)).parameters.values()
    except (TypeError, ValueError):
        return [], ""
    rest = next((p.name for p in every if p.kind is p.VAR_POSITIONAL), "")
    return [p.name for p in every if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)], rest


def _keywords(function: Callable[..., Any]) -> list[str]:
    try:
        every = inspect.signature(getattr(function, "forward", function)).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in every if p.kind is p.KEYWORD_ONLY]


@overload
def compile(function: Callable[..., Any], /, *, static: Sequence[str] = ()) -> Compiled: ...
@overload
def compile(*, static: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Compiled]: ...
def compile(function: Any = None, /, *, static: Any = ()) -> Any:
    """The function as native code, for the shapes it is called with. Also a decorator.

    What is written in Python runs at the first call with arguments of new shapes, dtypes or plain
    values; it is traced and compiled, and later calls run native code only. Results are Tensors,
    equal to those of the function itself within rounding.

    - Arguments: containers of arrays, Tensors and plain values. Arrays, Tensors and Python floats
      and ints (of 64 bits) are inputs; bools, strings, None and other hashable values are part of
      what is compiled, and so are arguments named in `static` (an int that is a shape must be).
      Modules and Parameters are known by identity. At most 8 specialisations are kept, then the one
      used least is dropped with a warning.
    - Variables that the function reads or assigns (Parameters, the state of optimizers and layers)
      are read at each call and written in place, unless somebody else holds the value (a view, a
      graph recorded before): that stays as it is. Arrays from outside are read at each call, too.
    - Gradients that the function makes are gone after the call; only a Parameter that had one on
      entry to which the function adds has the sum.
    - Inside another trace or derivative (`vmap`, `grad`, another compiled function) the function
      itself runs. A gradient that reaches the result of a call outside of these is an error.

    What Python does itself happens once, while tracing: side effects, NumPy on arrays from outside,
    the places that masks and `x.at[…]` name. Raises TraceError for what depends on values (a
    branch, `float()`, a shape, a mask as an index), for results that hold traced Tensors, and for
    globals, defaults and attributes of modules that were replaced after tracing (docs/compiler.md
    says which are watched).

    >>> import chainrule as cr
    >>> w = cr.Parameter([1.0, 2.0])
    >>> optimizer = cr.optim.SGD([w], lr=0.25)
    >>> @cr.compile
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = ((w - x) ** 2).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> float(step(cr.asarray([0.0, 0.0])))
    5.0
    >>> w
    Parameter([0.5, 1. ], name='')
    """
    static = (static,) if isinstance(static, str) else tuple(static)
    if function is None:
        return lambda f: Compiled(f, static)
    if not callable(function):
        raise DTypeError(f"compile takes a function, received {type(function).__name__}")
    return Compiled(function, static)
