"""Nested containers of arrays (tuples, lists, dicts, Modules), and which argument is meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from ..errors import DTypeError, GradientError
from ..ops.number import TracedNumber
from ..ops.tensor import Tensor

LEAVES = (Tensor, np.ndarray, np.generic, bool, int, float, TracedNumber)


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
    several = isinstance(wrt, (tuple, list))
    places = [_place(function, w, args, kwargs) for w in (wrt if several else (wrt,))]
    if len(set(places)) < len(places):
        raise GradientError(f"wrt={wrt!r} names an argument twice")
    given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}  # by position and by name

    def call(value: Any) -> Any:
        new = {**given, **dict(zip(places, value if several else (value,), strict=True))}
        return function(*(new[k] for k in range(len(args))), **{k: new[k] for k in kwargs})

    chosen = tuple(given[p] for p in places)
    return (chosen if several else chosen[0]), call


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
