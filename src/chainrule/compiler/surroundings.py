"""What Python reads of a function's surroundings while it is traced, and whether it has changed.

The value that a global, a closed-over name, an attribute has while tracing is a part of the
compiled code. Starting from the function and its arguments, `Search` finds those that its code can
read; `Surroundings` compares them at each call, by identity, which costs about 20 ns each.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from operator import attrgetter, length_hint
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..core.node import PACKAGE
from ..errors import TraceError
from ..ops.tensor import Tensor

SCALARS = (bool, int, float, complex, str, bytes, type(None))
LEAVES = (*SCALARS, Tensor, np.ndarray, np.generic, np.dtype)
ENTRIES = 256
"""Of longer lists and dicts only the object itself is watched: it takes 30 ns an entry."""
CALLED = ("__call__", "__init__", "forward", "backward")
"""Methods that are called without being named."""
MISSING = object()
VERSION = attrgetter("_version")
Reader = Callable[[Any, Any], Any]
ATTRIBUTE: Reader = getattr
ENTRY: Reader = dict.get
MEMBER: Reader = MappingProxyType.get
ITEM: Reader = list.__getitem__
SIZE: Reader = length_hint
LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def alike(a: Any, b: Any) -> bool:
    """Whether two values that are parts of compiled code give the same code.

    Equal is not enough: 2, 2.0 and True are equal, 0.0 and -0.0, too.
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, SCALARS):
        return repr(a) == repr(b)
    try:
        return hash(a) == hash(b) and bool(a == b) and repr(a) == repr(b)
    except TypeError:  # not hashable: it may change
        return False


@dataclass(slots=True)
class Watch:
    """A place outside: `read(holder, key)` was `value` when the function was traced."""

    read: Callable[[Any, Any], Any]
    holder: Any
    key: Any
    value: Any
    title: str

    def now(self) -> Any:
        """The value that is there; MISSING for an empty cell, or one past the end of a list."""
        try:
            return self.read(self.holder, self.key)
        except (AttributeError, IndexError, ValueError):
            return MISSING


class Surroundings:
    """What a function and the Modules among its arguments read from outside.

    Made before the function is traced, and settled afterwards.
    """

    def __init__(self, function: Any, arguments: Iterable[tuple[Any, str]]) -> None:
        self._search = Search()
        self._search.run([(function, ""), *arguments])

    def settle(self, called: Mapping[Any, dict[str, Any]]) -> None:
        """After the trace: leave out what the function itself has replaced.

        `called` are the modules that were called, with the attributes they had.
        """
        search = self._search
        search.called = called
        search.run((module, "") for module in called)
        del self._search
        self.watches = [w for w in search.watches if w.now() is w.value]
        self.attributes = [w for w in search.attributes if w.now() is w.value]
        self.modules = search.modules
        self._names: dict[str, Any] = {}
        for k, w in enumerate(self.watches):
            self._names.update({f"read{k}": w.read, f"holder{k}": w.holder, f"key{k}": w.key})
        # one expression of all, in Python's own code: half of the time that a loop takes
        terms = [f"read{k}(holder{k}, key{k}) is value{k}" for k in range(len(self.watches))]
        self._unchanged = eval("lambda: " + (" and ".join(terms) or "True"), self._names)
        self._keep()

    def _keep(self) -> None:
        self._names.update((f"value{k}", w.value) for k, w in enumerate(self.watches))
        self.versions = list(map(VERSION, self.modules))

    def same(self) -> bool:
        """Whether all are what they were: the quick check of each call."""
        try:
            return self._unchanged() and [*map(VERSION, self.modules)] == self.versions
        except (AttributeError, IndexError, ValueError):
            return False

    def check(self, name: str) -> None:
        """Raise a TraceError that names what was replaced since the function was traced."""
        if self.same():
            return
        for watch in (*self.watches, *self.attributes):
            now = watch.now()
            if not alike(watch.value, now):
                raise TraceError(
                    f"{watch.title} was replaced after {name} was compiled: pass what changes as "
                    f"an argument, give variables new values with assign, or call {name}.clear() "
                    "to have it compiled anew"
                )
            watch.value = now
        self._keep()


class Search:
    """Finds what code can read, from functions and objects on; see docs/compiler.md.

    Of an object that is no Module, the attributes count whose names stand in code that was found.
    """

    def __init__(self) -> None:
        self.watches: list[Watch] = []
        self.attributes: list[Watch] = []
        """Those of modules, which need a look only if the module has another version."""
        self.modules: list[Any] = []
        self.called: Mapping[Any, dict[str, Any]] = {}
        self._names = set(CALLED)
        self._objects: list[Any] = []
        self._seen: dict[int, Any] = {}
        self._known: set[tuple[int, Any]] = set()
        self._stack: list[tuple[Any, str]] = []

    def run(self, roots: Iterable[tuple[Any, str]]) -> None:
        """Visit these and all that can be read from them."""
        self._stack += roots
        while self._stack:
            while self._stack:
                x, title = self._stack.pop()
                if id(x) not in self._seen and not isinstance(x, LEAVES):
                    self._seen[id(x)] = x
                    self._visit(x, title)
            for x in self._objects:  # code found since may have brought new names
                self._look_up(x)

    def _watch(self, read: Any, holder: Any, key: Any, value: Any, title: str) -> None:
        self.watches.append(Watch(read, holder, key, value, title))
        self._stack.append((value, title))

    def _visit(self, x: Any, title: str) -> None:
        inside: Iterable[Any] = ()
        if isinstance(x, FunctionType):
            self._function(x)
        elif isinstance(x, MethodType):
            inside = (x.__func__, x.__self__)
        elif isinstance(x, partial):
            inside = (x.func, x.args, x.keywords)
        elif isinstance(x, (staticmethod, classmethod)):
            inside = (x.__func__,)
        elif isinstance(x, property):
            inside = (x.fget,)
        elif isinstance(x, cached_property):
            inside = (x.func,)
        elif isinstance(x, tuple):
            inside = x
        elif isinstance(x, list):
            if len(x) <= ENTRIES:
                self._watch(SIZE, x, 0, len(x), title)
                for k, value in enumerate(x):
                    self._watch(ITEM, x, k, value, title)
        elif isinstance(x, dict):
            if len(x) <= ENTRIES:
                for key, value in x.items():
                    self._watch(ENTRY, x, key, value, title)
        elif hasattr(type(x), "_marks"):
            self._module(x)
        elif "__wrapped__" in getattr(x, "__dict__", ()):
            inside = (x.__wrapped__,)
        elif not _is_library(x if isinstance(x, (type, ModuleType)) else type(x)):
            self._objects.append(x)
        self._stack += ((y, title) for y in inside)

    def _function(self, f: FunctionType) -> None:
        """Names that code reads, and what is behind them."""
        own = not f.__code__.co_filename.startswith((PACKAGE, *LIBRARIES))
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            if own:
                title = f"{name!r}, which {f.__qualname__} reads,"
                self._watch(ATTRIBUTE, cell, "cell_contents", value, title)
            elif callable(value):  # such as the function that cr.grad was given
                self._stack.append((value, ""))
        variables, attributes = _names_read(f.__code__)
        if own or f.__code__.co_filename.startswith(PACKAGE):
            self._names |= attributes
        if not own:
            return
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            value = getattr(f, name)
            if value is not None:
                self._watch(ATTRIBUTE, f, name, value, f"{name} of {f.__qualname__}")
        scope = f.__globals__
        for name in variables & scope.keys():
            value, title = scope[name], f"{name!r}, which {f.__qualname__} reads,"
            if isinstance(value, ModuleType):
                self._stack.append((value, title))
            elif (id(scope), name) not in self._known:
                self._known.add((id(scope), name))
                self._watch(ENTRY, scope, name, value, title)

    def _module(self, module: Any) -> None:
        """All attributes of a Module; a copy that holds other arrays is known by what it holds."""
        found = self.called.get(module, vars(module))
        if not module._marks:
            self.modules.append(module)
        for name, value in found.items():
            title = f"the attribute {'.'.join((*module._path, name))} of a {type(module).__name__}"
            if not module._marks:
                self.attributes.append(Watch(ENTRY, vars(module), name, value, title))
            if isinstance(value, dict) and len(value) <= ENTRIES:
                self._watch(SIZE, value, 0, len(value), title)
            self._stack.append((value, title))
        self._objects.append(module)

    def _look_up(self, x: Any) -> None:
        """The attributes of an object that are read, on itself or on its class."""
        kind = x if isinstance(x, type) else type(x)
        module = hasattr(type(x), "_marks")
        own = {} if isinstance(x, type) else getattr(x, "__dict__", {})
        names = self._names if isinstance(x, type) else self._names - {"__init__"}
        for name in names & own.keys() if not module else ():
            if (id(own), name) not in self._known:
                self._known.add((id(own), name))
                of = x.__name__ if isinstance(x, ModuleType) else f"a {kind.__name__}"
                title, value = f"the attribute {name} of {of}", own[name]
                self._watch(ENTRY, own, name, value, title)
                if _is_package(kind) and isinstance(value, (list, dict)):
                    self._stack.pop()  # what is in an optimizer's groups stays what it is
                    self._watch(SIZE, value, 0, len(value), title)
        for owner in kind.__mro__:
            package = _is_package(owner)
            if (module and package) or _is_library(owner):
                continue
            members = vars(owner)
            for name in names & members.keys() - own.keys():
                if (id(owner), name) in self._known:
                    continue
                self._known.add((id(owner), name))
                if package:  # its methods are fixed, but read attributes
                    self._stack.append((members[name], ""))
                else:
                    title = f"the attribute {name} of the class {owner.__name__}"
                    self._watch(MEMBER, members, name, members[name], title)


@lru_cache(maxsize=1024)
def _names_read(code: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The global names and the attributes that code reads, also in functions inside of it."""
    variables, attributes = set(), set()
    for i in dis.get_instructions(code):
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            variables.add(i.argval)
        elif i.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            attributes.add(i.argval)
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            inner, below = _names_read(constant)
            variables |= inner
            attributes |= below
    return frozenset(variables), frozenset(attributes)


def _file(x: Any) -> str | None:
    """The file of a Python module, or of that of a class."""
    module = x if isinstance(x, ModuleType) else sys.modules.get(x.__module__)
    return getattr(module, "__file__", None)


def _is_package(x: Any) -> bool:
    return (_file(x) or "").startswith(PACKAGE)


def _is_library(x: Any) -> bool:
    """Whether a Python module, or a class, is installed: its own names are taken as fixed."""
    if isinstance(x, ModuleType):
        return x.__name__ in sys.builtin_module_names or (_file(x) or "").startswith(
            (PACKAGE, *LIBRARIES)
        )
    return x.__module__ in sys.builtin_module_names or (_file(x) or "").startswith(LIBRARIES)
