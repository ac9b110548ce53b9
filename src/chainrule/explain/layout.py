"""Where the gates of a picture stand: layers from left to right, few crossings, short wires.

Sugiyama's method: layers by longest path, order in a layer by barycenters, heights by least
squares. A wire that crosses layers has a point in each; the branches of one output share them.

K. Sugiyama, S. Tagawa, M. Toda, *Methods for visual understanding of hierarchical system
structures*, 1981.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

LATE = 8
"""In graphs with more layers than this, sources stand just before their first use."""
SWEEPS = 8


@dataclass(eq=False)
class Vertex:
    """Something with a place: a gate, a variable, or (key None) a point on a long wire.

    `above` and `below` are the room it needs on either side of its wire. `ports` are the heights
    at which its inputs enter, relative to its own; those of a `free` one may change places.
    """

    key: object
    above: float
    below: float
    ports: tuple[float, ...] = ()
    free: bool = False
    layer: int = 0
    y: float = 0.0
    before: list[Vertex] = field(default_factory=list)
    """For each input, the vertex in the layer before: what feeds it, or a point on its wire."""
    after: list[tuple[Vertex, int]] = field(default_factory=list)
    """What it feeds in the next layer, each with the number of the input."""


def arrange(
    vertices: Sequence[Vertex], inputs: Sequence[Sequence[int]]
) -> tuple[list[list[Vertex]], float]:
    """Set layer, y and wires of every vertex; the layers from top to bottom, and the height.

    `inputs[k]` are the positions of what feeds vertex k, all smaller than k.
    """
    _layer(vertices, inputs)
    layers = _wires(vertices, inputs)
    _order(layers)
    _heights(layers)
    return layers, _fit(layers)


def _layer(vertices: Sequence[Vertex], inputs: Sequence[Sequence[int]]) -> None:
    """The longest path from a source."""
    for k, vertex in enumerate(vertices):
        vertex.layer = max((vertices[i].layer + 1 for i in inputs[k]), default=0)
    if max(v.layer for v in vertices) <= LATE:
        return
    first: dict[int, int] = {}
    for k, sources in enumerate(inputs):
        for i in sources:
            first[i] = min(first.get(i, vertices[k].layer), vertices[k].layer)
    for k, vertex in enumerate(vertices):
        if not inputs[k] and k in first:
            vertex.layer = first[k] - 1


def _wires(vertices: Sequence[Vertex], inputs: Sequence[Sequence[int]]) -> list[list[Vertex]]:
    """Put points on the wires that cross layers, and list the layers.

    The first order is that of a walk from the outputs back through the inputs: no crossings in
    trees.
    """
    layers: list[list[Vertex]] = [[] for _ in range(1 + max(v.layer for v in vertices))]
    points: dict[tuple[int, int], Vertex] = {}
    fed = {i for sources in inputs for i in sources}
    stack = [k for k in range(len(vertices)) if k not in fed]  # the last is the result
    placed: set[int] = set()
    while stack:
        k = stack.pop()
        if k in placed:
            continue
        placed.add(k)
        vertex = vertices[k]
        layers[vertex.layer].append(vertex)
        for i in inputs[k]:
            point = vertices[i]
            for layer in range(vertices[i].layer + 1, vertex.layer):
                if (i, layer) not in points:
                    points[i, layer] = new = Vertex(None, 7, 7, (0.0,), layer=layer)
                    layers[layer].append(new)
                    _join(point, new)
                point = points[i, layer]
            _join(point, vertex)
        stack += reversed(inputs[k])
    return layers


def _join(source: Vertex, target: Vertex) -> None:
    source.after.append((target, len(target.before)))
    target.before.append(source)


def _order(layers: list[list[Vertex]]) -> None:
    """Sweep forth and back, each layer by the mean place of its neighbours; keep the best."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        forth = sweep % 2 == 0
        for layer in layers if forth else reversed(layers):
            _sort(layer, layers, forth)
        count = _crossings(layers)
        if count < fewest:
            best, fewest = [list(layer) for layer in layers], count
    for layer, order in zip(layers, best, strict=True):
        layer[:] = order
    for left, right in pairwise(layers):
        place = {v: k for k, v in enumerate(left)}
        for vertex in right:
            if vertex.free:  # the inputs enter in the order in which they arrive
                arriving = sorted(range(len(vertex.ports)), key=lambda k: place[vertex.before[k]])
                heights = dict(zip(arriving, sorted(vertex.ports), strict=True))
                vertex.ports = tuple(heights[k] for k in range(len(heights)))


def _sort(layer: list[Vertex], layers: list[list[Vertex]], forth: bool) -> None:
    """A layer by the mean place of the neighbours; without any, a vertex keeps its place."""
    index = layer[0].layer + (-1 if forth else 1)
    if not 0 <= index < len(layers):
        return
    place = {v: float(k) for k, v in enumerate(layers[index])}
    keys: dict[Vertex, float] = {}
    for k, vertex in enumerate(layer):
        if forth:
            found = [place[v] for v in vertex.before]
        else:
            found = [place[v] + v.ports[k] / 1000 for v, k in vertex.after]
        keys[vertex] = sum(found) / len(found) if found else float(k)
    layer.sort(key=keys.__getitem__)


def _crossings(layers: list[list[Vertex]]) -> int:
    """How many pairs of wires cross between neighbouring layers."""
    total = 0
    for left, right in pairwise(layers):
        place = {v: k for k, v in enumerate(right)}
        seen: list[tuple[int, float]] = []
        for vertex in left:
            ends = [(place[v], 0.0 if v.free else v.ports[k]) for v, k in vertex.after]
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _heights(layers: list[list[Vertex]]) -> None:
    """Pull every vertex to the mean height of its neighbours, as near as the order lets it."""
    for layer in layers:
        _place(layer, [0.0] * len(layer), [1.0] * len(layer))
    for sweep in range(2 * SWEEPS + 1):
        last = sweep == 2 * SWEEPS  # at the end each gate goes to the middle of its inputs
        forth = sweep % 2 == 0
        both = sweep >= SWEEPS and not last
        for layer in layers if forth else reversed(layers):
            pulls = [_pulls(v, forth or both, not forth or both) for v in layer]
            weights = [sum(w for _, w in found) for found in pulls]
            wanted = [
                sum(y * w for y, w in found) / weight if found else vertex.y
                for vertex, found, weight in zip(layer, pulls, weights, strict=True)
            ]
            _place(layer, wanted, [w or 0.1 for w in weights])


def _pulls(vertex: Vertex, back: bool, ahead: bool) -> list[tuple[float, float]]:
    """The heights its wires would like it at, with weights: long wires stay straight."""
    result = []
    if back:
        heavy = 8.0 if vertex.key is None else 2.0
        result += [(v.y - vertex.ports[k], heavy) for k, v in enumerate(vertex.before)]
    if ahead:
        result += [
            (v.y + v.ports[k], 8.0 if v.key is None and len(vertex.after) == 1 else 1.0)
            for v, k in vertex.after
        ]
    return result


def _place(layer: Sequence[Vertex], wanted: Sequence[float], weights: Sequence[float]) -> None:
    """The heights nearest to the wanted ones (least squares) that leave everything its room.

    Without the gaps between neighbours it is a monotone regression, which merging blocks that
    are out of order solves exactly.
    """
    offsets = [0.0]
    for upper, lower in pairwise(layer):
        offsets.append(offsets[-1] + upper.below + lower.above)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for y, offset, weight in zip(wanted, offsets, weights, strict=True):
        mean, count = y - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, heavy, many = blocks.pop()
            mean = (mean * weight + other * heavy) / (weight + heavy)
            weight, count = weight + heavy, count + many
        blocks.append((mean, weight, count))
    means = (mean for mean, _, count in blocks for _ in range(count))
    for vertex, offset, mean in zip(layer, offsets, means, strict=True):
        vertex.y = mean + offset


def _fit(layers: Sequence[Sequence[Vertex]]) -> float:
    """Move all so that the top is at 0; the height."""
    every = [v for layer in layers for v in layer]
    top = min(v.y - v.above for v in every)
    for vertex in every:
        vertex.y -= top
    return max(v.y + v.below for v in every)
