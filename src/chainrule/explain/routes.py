"""The search for paths: all of them if they are few, else those that add most."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..core.node import Node
from .flow import UNKNOWN, changes, flows, pulled

ALL = 1000
"""At most so many paths are all followed."""
BEAM = 100
"""Of more, so many at every value: those that add most."""
ROOM = 2**28
"""Nor do the gradients that come back to one value along all paths take more bytes than this."""

Link = tuple[Node, int, Any]
"""A path from some node on: the node, the input of the next one that it goes into, the rest."""


def search(
    order: Sequence[Node], leaf: Node, root: Node, place: tuple[int, ...], limit: int
) -> tuple[list[tuple[Link, Any]], int]:
    """Paths from the leaf to the root with what comes back along each, and how many there are."""
    uses: dict[Node, list[tuple[Node, int]]] = {leaf: []}
    for node in order:
        for i, x in enumerate(node.inputs):
            if x.__class__ is Node and x in uses and node is not leaf and flows(node):
                uses.setdefault(node, [])
                uses[x].append((node, i))
    if root not in uses:
        return [], 0
    counts: dict[Node, int] = {}
    for node in reversed(order):
        if node in uses:
            counts[node] = sum(counts[user] for user, _ in uses[node]) + (node is root)
    behind = {n for n in uses if counts[n]}
    most = ALL if counts[leaf] <= ALL else max(limit, BEAM)
    moved = changes(order, leaf, place) if counts[leaf] > ALL else {}
    start: Link = (root, -1, None)
    ways = {root: [(start, np.ones(root.shape, root.type.dtype))]}
    left = {n: len({x for x in n.inputs if x.__class__ is Node and x in behind}) for n in behind}
    with np.errstate(all="ignore"):
        for node in reversed(order):
            if node not in behind or not counts[node]:
                continue
            found = ways.setdefault(node, [])
            kept = min(most, max(limit, ROOM // max(_bytes(node), 1)))
            for user, i in uses[node]:
                for link, upstream in ways[user]:
                    g = pulled(user, i, upstream)
                    if g is not None:
                        found.append(((node, i, link), g))
                if len(found) > kept:  # after every user, so that there are never many more
                    change = moved.get(node, UNKNOWN)
                    found.sort(key=lambda way: rank(*_adds(way[1], change)))
                    del found[kept:]
            for user in {user for user, _ in uses[node]}:  # arrays that nothing reads any more
                left[user] -= 1
                if not left[user]:
                    ways[user] = []
    return ways[leaf], counts[leaf]


def unlinked(link: Link) -> tuple[tuple[Node, ...], tuple[int, ...]]:
    """The nodes of a path, and by which inputs it comes into all but the first."""
    nodes: list[Node] = []
    operands: list[int] = []
    rest: Any = link
    while rest is not None:
        node, i, rest = rest
        nodes.append(node)
        operands.append(i)
    return tuple(nodes), tuple(operands[:-1])


def _bytes(node: Node) -> int:
    """The size of a gradient of a node (of a broadcast, in its full shape)."""
    if isinstance(node.data, tuple):
        return sum(p.nbytes for p in node.data)
    return prod(node.shape) * node.type.dtype.itemsize


def _adds(upstream: Any, change: Any) -> tuple[float, float]:
    """How much comes through if every way from the entry to here is taken; how large it is here."""
    gs = upstream if isinstance(upstream, tuple) else (upstream,)
    ts = change if isinstance(change, tuple) else (change,) * len(gs)
    large = sum(float(np.abs(g).sum()) for g in gs)
    if any(t is UNKNOWN or t is None for t in ts):
        return large, large
    return sum(float(np.abs(g * t).sum()) for g, t in zip(gs, ts, strict=True)), large


def rank(*sizes: float) -> tuple[float, ...]:
    """A key that sorts large ones first, and NaN before them."""
    return tuple(-np.inf if np.isnan(s) else -abs(float(s)) for s in sizes)
