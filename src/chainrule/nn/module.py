"""Modules: functions that own Parameters and state, nested by attribute, named by path.

A Module is also a container of arrays for the functional forms: `cr.grad(loss)(model, x, y)` calls
the loss with a copy of the model that holds other arrays, and returns such a copy with gradients.
State variables (running statistics, keys, counters) are no part of that: every copy shares them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import optree

from ..core.context import CONTEXT, Context
from ..errors import DataError, DTypeError, MutationError, ShapeError
from ..ops import random
from ..ops.tensor import Array, Parameter, Tensor, as_array
from .init import as_key

Path = tuple[str, ...]
Token = Any  # what one parameter is known by, wherever it stands
SHOWN = 6  # names in a message
_register: Any = optree.register_pytree_node  # typed for collections only


class Module:
    """y = forward(x): a function with Parameters of its own. Subclass it and define `forward`.

    Parameters are found by attribute: Parameters, other Modules, and lists, tuples and dicts of
    these, nested at will. Each is named by its path, such as "0.weight", when the attribute is
    set. One that stands in two places (tied) counts once. Other variables (`cr.tensor`) are its
    state: saved with it, changed by `assign`, never differentiated. Calling the module calls
    `forward`, and hands `training=` on if `forward` takes it.

    >>> import chainrule as cr
    >>> class Net(cr.nn.Module):
    ...     def __init__(self):
    ...         self.hidden, self.out = cr.nn.Linear(2, 3), cr.nn.Linear(3, 1)
    ...     def forward(self, x):
    ...         return self.out(cr.nn.relu(self.hidden(x)))
    >>> net = Net()
    >>> [name for name, _ in net.named_parameters()]
    ['hidden.weight', 'hidden.bias', 'out.weight', 'out.bias']
    >>> gradient = cr.grad(lambda net, x: net(x).sum())(net, cr.ones((5, 2)))
    >>> gradient.out.bias
    asarray([5.])
    """

    __slots__ = ("__dict__", "__weakref__", "_fresh", "_marks", "_path", "_version")
    _path: Path
    """Where it stands in the outermost module it was put into."""
    _fresh: Any
    """The serial numbers of its variables as drawn without a seed; None once that is settled."""
    _marks: dict[Path, Token]
    """In a copy that holds other arrays: the places that are parameters."""
    _version: int
    """How often an attribute was set."""
    _takes_training: ClassVar[bool] = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        for name, value in (("_path", ()), ("_fresh", None), ("_marks", {}), ("_version", 0)):
            object.__setattr__(self, name, value)
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._takes_training = any(
            p.name == "training" or p.kind is p.VAR_KEYWORD
            for p in inspect.signature(cls.forward).parameters.values()
        )
        _register(cls, _flatten, _unflatten, namespace="chainrule")

    # -- calling ------------------------------------------------------------------------------

    forward: Callable[..., Any]

    def __call__(self, *inputs: Any, training: bool = False, **options: Any) -> Any:
        """forward(*inputs); what it records carries the module's path."""
        if self._fresh is not None:
            object.__setattr__(self, "_fresh", None)  # numbers that were used stay
        if self._takes_training:
            options["training"] = training
        now = CONTEXT.get()
        if now.trace is not None and not self._marks:
            now.trace.called(self)
        if not self._path:
            return self.forward(*inputs, **options)
        token = CONTEXT.set(Context(now.recording, now.trace, self._path, now.functional))
        try:
            return self.forward(*inputs, **options)
        finally:
            CONTEXT.reset(token)

    def _where(self) -> str:
        """Its place in messages, as in "layer 0.hidden, "; nothing for one that stands alone."""
        return f"layer {'.'.join(self._path)}, " if self._path else ""

    def _checked(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """function(…), with the name of this layer in front of what it finds wrong."""
        try:
            return function(*args, **options)
        except (ShapeError, DataError, DTypeError) as error:
            raise type(error)(f"{self._where()}{type(self).__name__}: {error}") from None

    # -- parameters ---------------------------------------------------------------------------

    def parameters(self) -> list[Any]:
        """The Parameters in the order of attributes, each once."""
        return [value for _, value, _ in _parameters(self)]

    def named_parameters(self) -> list[tuple[str, Any]]:
        """(path, Parameter) in the order of attributes, each once."""
        return [(".".join(path), value) for path, value, _ in _parameters(self)]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def _fixed(self) -> list[Any]:
        """What is no array, in the module and in those below: the same in copies of the module."""
        return [
            value
            for _, module in _modules(self)
            for name, value in vars(module).items()
            if (name,) not in module._marks and not _holds_arrays(value)
        ]

    # -- state --------------------------------------------------------------------------------

    def state(self) -> dict[str, Array]:
        """Copies of all Parameters and state variables by path, in order, each once.

        >>> import chainrule as cr
        >>> {name: value.shape for name, value in cr.nn.BatchNorm(3).state().items()}
        {'weight': (3,), 'bias': (3,), 'running_mean': (3,), 'running_variance': (3,)}
        """
        return {".".join(path): np.array(as_array(v)) for path, v, _ in _variables(self)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Assign the arrays of `state` to the variables of these names.

        Nothing changes unless everything fits. Names that are missing or unknown are a DataError,
        other shapes a ShapeError. Floats are cast to the variable's dtype; integers (keys,
        counters) must have it, else that is a DTypeError.

        >>> import chainrule as cr
        >>> a, b = cr.nn.Linear(2, 3, seed=1), cr.nn.Linear(2, 3, seed=2)
        >>> b.load_state(a.state())
        >>> bool((a.weight == b.weight).all())
        True
        """
        variables = {".".join(path): v for path, v, _ in _variables(self)}
        title = f"this state does not fit {type(self).__name__}"
        unfit = _names_that_differ(variables, state)
        if unfit:
            raise DataError(f"{title}: {unfit}")
        new = {name: np.asarray(value) for name, value in state.items()}
        for name, variable in variables.items():
            if not isinstance(variable, Tensor) or not variable.is_variable:
                raise MutationError(
                    f"load_state: {name} is no variable, but an array in a copy of the module"
                )
            kind, value = variable.dtype, new[name]
            if value.shape != variable.shape:
                raise ShapeError(
                    f"{title}: {name} has shape {variable.shape}, received {value.shape}"
                )
            if value.dtype != kind and not value.dtype.kind == kind.kind == "f":
                raise DTypeError(f"{title}: {name} holds {kind}, received {value.dtype}")
        for name, variable in variables.items():
            variable.assign(new[name])

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        kept = isinstance(value, Parameter) or (_is_state(value) and not isinstance(old, Parameter))
        if isinstance(value, (Tensor, np.ndarray)) and _is_variable(old) and not kept:
            kind, make = (
                ("Parameter", "Parameter") if isinstance(old, Parameter)
                else ("state variable", "tensor")
            )  # fmt: skip
            raise MutationError(
                f"{type(self).__name__}.{name} is a {kind}: give it a new value with "
                f"{name}.assign(value), or put a new cr.{make} in its place"
            )
        object.__setattr__(self, name, value)
        object.__setattr__(self, "_version", self._version + 1)
        if name in self.__dict__:
            self._adopt(name)

    def _adopt(self, name: str) -> None:
        """Name what an attribute holds by its path, and draw unseeded numbers from that path."""
        for local, value in _leaves((name,), self.__dict__[name], {}):
            path = self._path + local
            if isinstance(value, Parameter):
                value.name = ".".join(path)
            if not isinstance(value, Module):
                continue
            for below, module in _modules(value):
                object.__setattr__(module, "_path", path + below)
                module._name_own()
                if module._is_fresh():
                    module._draw(0)
                    object.__setattr__(module, "_fresh", module._serials())

    def _name_own(self) -> None:
        for local, value in _contents(self):
            if isinstance(value, Parameter):
                value.name = ".".join(self._path + local)

    # -- first values -------------------------------------------------------------------------

    def draw(self, key: Tensor) -> None:
        """Give the module's own variables (not those of modules in it) first values from a key.

        Layers define it. Modules whose numbers come from elsewhere leave it as it is.
        """

    def initialize(self, seed: Any = None) -> None:
        """Draw the first values of this module and of those in it.

        Each module draws from the seed, its path and its shapes, so layers of one shape differ,
        and one seed always gives the same numbers. A layer calls this at the end of its `__init__`
        with the seed it was given. With None the seed is 0, and until the numbers are used or
        changed they are drawn anew whenever the module is put into another, from its path there.
        A layer that was given a seed keeps its numbers when the model around it is initialized,
        so does one that was used or changed.

        >>> import chainrule as cr
        >>> a, b = (cr.nn.Sequential(cr.nn.Linear(2, 2), cr.nn.Linear(2, 2)) for _ in range(2))
        >>> bool((a[0].weight == b[0].weight).all()), bool((a[0].weight == a[1].weight).any())
        (True, False)
        """
        for _, module in _modules(self):
            if module is not self and not module._is_fresh():
                continue
            module._draw(0 if seed is None else seed)
            object.__setattr__(module, "_fresh", module._serials() if seed is None else None)

    def _draw(self, seed: Any) -> None:
        """Draw from a seed (or key), the path and the shapes."""
        own = [v for _, v in _contents(self) if _is_variable(v)]
        if own:
            text = repr((self._path, [p.shape for p in own]))
            self.draw(random.fold_in(as_key(seed), crc32(text.encode())))

    def _is_fresh(self) -> bool:
        """Whether the variables are as drawn without a seed, and unused."""
        return self._fresh is not None and self._fresh == self._serials()

    def _serials(self) -> tuple[int, ...]:
        own = [v for _, v in _contents(self) if _is_variable(v)]
        return tuple(p._node.serial for p in own if p._node is not None)

    # -- printing -----------------------------------------------------------------------------

    def _parts(self) -> list[tuple[str, Any]]:
        """What the printed form lists below the module."""
        return [(".".join(p), v) for p, v in _contents(self) if isinstance(v, Module)]

    def __repr__(self) -> str:
        rows: list[tuple[str, str, int | None]] = []
        _rows(self, "", 0, rows)
        wide = max(len(row[0]) for row in rows)
        wider = max(len(row[1]) for row in rows)
        lines = [
            f"{title:{wide}}  {shapes:{wider}}  {'' if count is None else format(count, ',')}"
            for title, shapes, count in rows
        ]
        total = _count(self)
        return "\n".join([*map(str.rstrip, lines), f"{total:,} parameter{'s' * (total != 1)}"])


def _forward(self: Module, *inputs: Any) -> Any:
    """The value of the module; every subclass defines it."""
    raise NotImplementedError(
        f"{type(self).__name__} must define forward(self, x): the value of the module"
    )


Module.forward = _forward


# -- finding what a module holds ---------------------------------------------------------------


def _is_variable(value: Any) -> bool:
    return isinstance(value, Parameter) or _is_state(value)


def _is_state(value: Any) -> bool:
    """Whether a value is a variable that is no Parameter."""
    return isinstance(value, Tensor) and not isinstance(value, Parameter) and value.is_variable


def _contents(module: Module) -> Iterator[tuple[Path, Any]]:
    """The module's own parameters and state, and the modules directly in it, by path."""
    marks = module._marks
    for name, value in vars(module).items():
        yield from _leaves((name,), value, marks)


def _leaves(path: Path, value: Any, marks: dict[Path, Token]) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Module) or path in marks or _is_variable(value):
        yield path, value
    else:
        for key, item in _items(value):
            yield from _leaves((*path, key), item, marks)


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    """What a list, tuple or dict holds, by name."""
    if isinstance(value, (list, tuple)):
        return zip(getattr(value, "_fields", map(str, range(len(value)))), value, strict=True)
    if isinstance(value, dict):
        return ((str(key), item) for key, item in value.items())
    return ()


def _holds_arrays(value: Any) -> bool:
    """Whether it is a Module or a container with modules or arrays in it."""
    if isinstance(value, (list, tuple, dict)):
        inner = value.values() if isinstance(value, dict) else value
        return any(isinstance(x, (Tensor, np.ndarray)) or _holds_arrays(x) for x in inner)
    return isinstance(value, Module)


def _modules(root: Module) -> list[tuple[Path, Module]]:
    """The module and all below it, outside first, each once."""
    found: dict[int, tuple[Path, Module]] = {}
    stack: list[tuple[Path, Module]] = [((), root)]
    while stack:
        path, module = stack.pop()
        if id(module) in found:
            continue
        found[id(module)] = (path, module)
        below = [(path + p, v) for p, v in _contents(module) if isinstance(v, Module)]
        stack += reversed(below)
    return list(found.values())


def _parameters(root: Module) -> list[tuple[Path, Any, Token]]:
    """Path, value and token of every parameter below a module, in order, each once."""
    return [(p, v, t) for p, v, t in _variables(root) if t is not None]


def _variables(root: Module) -> list[tuple[Path, Any, Token]]:
    """Path and value of every parameter and state variable; the token of state is None."""
    found: dict[Token, tuple[Path, Any, Token]] = {}
    seen: set[int] = set()

    def visit(module: Module, path: Path) -> None:
        seen.add(id(module))
        for local, value in _contents(module):
            token = module._marks.get(local)
            if token is None and isinstance(value, Parameter):
                token = id(value)
            if token is not None:
                found.setdefault(token, (path + local, value, token))
            elif not isinstance(value, Module):
                found.setdefault(id(value), (path + local, value, None))
            elif id(value) not in seen:
                visit(value, path + local)

    visit(root, ())
    return list(found.values())


def _names_that_differ(expected: Mapping[str, Any], received: Mapping[str, Any]) -> str:
    """In words: the names that are missing or unknown, each with the nearest one of the others."""
    missing = [name for name in expected if name not in received]
    unknown = [name for name in received if name not in expected]
    parts = []
    for kind, names, other, others in (
        ("missing", missing, "received", unknown), ("unknown", unknown, "expected", missing),
    ):  # fmt: skip
        for name in names:
            near = get_close_matches(name, others, 1)
            parts.append(f"{kind} {name!r}" + (f" ({other} {near[0]!r})" if near else ""))
    return ", ".join(parts[:SHOWN]) + (", …" if len(parts) > SHOWN else "")


# -- as a container of arrays ------------------------------------------------------------------


class Skeleton:
    """A module without its arrays: what is needed to build a copy around others."""

    __slots__ = ("module", "names", "tokens")

    def __init__(self, module: Module, names: tuple[str, ...], tokens: tuple[Token, ...]) -> None:
        self.module, self.names, self.tokens = module, names, tokens

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Skeleton)
            and type(self.module) is type(other.module)
            and self.names == other.names
        )

    def __hash__(self) -> int:
        return hash((type(self.module), self.names))

    def __repr__(self) -> str:
        return ", ".join(self.names)


def _flatten(module: Module) -> tuple[list[Any], Skeleton, tuple[str, ...]]:
    found = _parameters(module)
    names = tuple(".".join(path) for path, _, _ in found)
    return [v for _, v, _ in found], Skeleton(module, names, tuple(t for *_, t in found)), names


def _unflatten(skeleton: Any, arrays: Any) -> Module:
    marks = dict(zip(skeleton.tokens, skeleton.names, strict=True))
    return _rebuild(skeleton.module, marks, dict(zip(skeleton.tokens, arrays, strict=True)), {})


def _rebuild(
    module: Module, names: dict[Token, str], arrays: dict[Token, Any], made: dict[int, Module]
) -> Module:
    """A copy of a module and those below it, with other arrays where its parameters are."""
    copy: Module = Module.__new__(type(module))
    made[id(module)] = copy
    marks: dict[Path, Token] = {}
    object.__setattr__(copy, "_path", module._path)
    object.__setattr__(copy, "_marks", marks)

    def fill(path: Path, value: Any) -> Any:
        token = module._marks.get(path)
        if token is None and isinstance(value, Parameter):
            token = id(value)
        if token is not None:
            marks[path] = names[token]
            return arrays[token]
        if isinstance(value, Module):
            if id(value) in made:
                return made[id(value)]
            return _rebuild(value, names, arrays, made)
        items = [fill((*path, key), item) for key, item in _items(value)]
        if isinstance(value, list):
            return items
        if isinstance(value, tuple):
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return dict(zip(value, items, strict=True)) if isinstance(value, dict) else value

    for name, value in vars(module).items():
        copy.__dict__[name] = fill((name,), value)
    return copy


# -- printing ----------------------------------------------------------------------------------


def _rows(part: Any, label: str, depth: int, rows: list[tuple[str, str, int | None]]) -> None:
    """A line for a part and those in it: its name and kind, the shapes of its own parameters."""
    title = "  " * depth + f"{label} ".lstrip()
    if not isinstance(part, Module):
        rows.append((title + getattr(part, "__name__", type(part).__name__), "", None))
        return
    marks = part._marks
    own = [(p, v) for p, v in _contents(part) if p in marks or isinstance(v, Parameter)]
    shapes = ", ".join(f"{'.'.join(p)} {np.shape(v)}" for p, v in own)
    rows.append((title + type(part).__name__, shapes, _count(part) if own else None))
    for name, inner in part._parts():
        _rows(inner, name, depth + 1, rows)


def _count(module: Module) -> int:
    return sum(int(np.prod(np.shape(value))) for value in module.parameters())
