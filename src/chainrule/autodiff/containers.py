"""Nested containers of arrays (tuples, lists, dicts, Modules), and which argument is meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from ..errors import DTypeError, GradientError
from ..ops.tensor import Tensor

LEAVES = (Tensor, np.ndarray, np.generic, bool, int, float)


def flatten(tree: Any, *, what: str = "the container") -> tuple[list[Any], Any]:
    """The arrays of a container in order, and its structure. Other leaves are refused."""
    if isinstance(tree, LEAVES):
        return [tree], None
    leaves, structure = optree.tree_flatten(tree, namespace="chainrule")
    for leaf in leaves:
        if not isinstance(leaf, LEAVES):
            raise DTypeError(
                f"{what} must hold arrays and numbers, in tuples, lists, dicts or Modules; "
                f"found {type(leaf).__name__}: {leaf!r:.60}"
            )
    return leaves, structure


def unflatten(structure: Any, leaves: list[Any]) -> Any:
    """The container of this structure with these leaves."""
    return leaves[0] if structure is None else optree.tree_unflatten(structure, leaves)


def select(
    function: Callable[..., Any], wrt: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Callable[[Any], Any]]:
    """The argument that `wrt` names, and the function of it alone."""
    if isinstance(wrt, (tuple, list)):
        places = [_place(function, w, args, kwargs) for w in wrt]
        if len(set(places)) < len(places):
            raise GradientError(f"wrt={wrt!r} names an argument twice")
        chosen: Any = tuple(_read(p, args, kwargs) for p in places)
    else:
        places = [_place(function, wrt, args, kwargs)]
        chosen = _read(places[0], args, kwargs)

    def call(value: Any) -> Any:
        values = value if isinstance(wrt, (tuple, list)) else (value,)
        new_args, new_kwargs = list(args), dict(kwargs)
        for place, v in zip(places, values, strict=True):
            if isinstance(place, str):
                new_kwargs[place] = v
            else:
                new_args[place] = v
        return function(*new_args, **new_kwargs)

    return chosen, call


def _read(place: int | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs[place] if isinstance(place, str) else args[place]


def _place(
    function: Callable[..., Any], wrt: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> int | str:
    if isinstance(wrt, str):
        if wrt in kwargs:
            return wrt
        try:
            names = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            names = []
        if wrt in names and names.index(wrt) < len(args):
            return names.index(wrt)
        raise GradientError(f"wrt={wrt!r} names no argument of this call; it has {names}")
    if not isinstance(wrt, int) or isinstance(wrt, bool):
        raise GradientError(f"wrt is a position or a name (or a tuple of them), received {wrt!r}")
    if not -len(args) <= wrt < len(args):
        raise GradientError(f"wrt={wrt} names no argument: the call has {len(args)} by position")
    return wrt % len(args)
