"""Graphs as pictures, as in the course's notes: values above the wires, gradients below.

Drawn as SVG, from left to right, by the layout of `layout.py`: a view (`views.py`) at a time, large
arrays as heat pictures; with texts for screen readers and for the pointer, and colours for light
and dark surroundings. Gates and boxes have `data-` attributes that a page finds them by.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from math import ceil, sqrt
from typing import Any

import numpy as np

from ..errors import GraphError
from ..files import write_text
from ..ops.dispatch import BROADCAST
from ..ops.tensor import Tensor
from .gates import Explanation, GateRecord, examine, is_matmul
from .heat import heat
from .layout import Vertex, arrange
from .names import Names
from .numbers import array, fixed, is_large, norm, number
from .views import FLAT, Box, Item, Views

WHOLE = 300
"""At most so many gates are drawn in one picture, also where it is asked for."""
HEAT = (44.0, 18.0)
"""Width and height of a heat picture."""
COMMUTING = ("add", "mul", "maximum", "minimum")
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SYMBOLS = {
    "add": "+", "sub": "−", "mul": "×", "div": "/", "pow": "^", "neg": "×-1", "maximum": "max",
    "minimum": "min", "sum": "Σ", "sqrt": "√", "broadcast": "copy", "sigmoid": "σ",
}  # fmt: skip
"""How gates are drawn; the others by their names."""
WITH_CONSTANT = {
    "add": ("+{0}", "+{0}"), "sub": ("{0}−", "−{0}"), "mul": ("×{0}", "×{0}"),
    "div": ("{0}/·", "/{0}"), "pow": ("{0}^·", "^{0}"),
}  # fmt: skip
"""The same with a constant number as first or as second operand."""

FONT, SMALL = 14, 12
RADIUS = 20.0
PORT = 17.0
MARGIN = 20.0
STYLE = """
.cr-card{fill:#fff;stroke:#d0d7de}.cr-wire{fill:none;stroke:#57606a;stroke-width:1.4}
.cr-gate{fill:#f6f8fa;stroke:#1f2328;stroke-width:1.4}.cr-quiet{stroke:#8c959f}
.cr-dot,.cr-tip{fill:#57606a}.cr-box{fill:#ddf4ff;stroke:#0969da}
.cr-heat{fill:none;stroke:#d0d7de}.cr image{image-rendering:pixelated}
.cr text{font-family:"Helvetica Neue",Helvetica,Arial,"DejaVu Sans",sans-serif;fill:#1f2328}
.cr .cr-value{fill:#116329}.cr .cr-grad{fill:#b3141d}.cr .cr-note{fill:#57606a}
@media screen and (prefers-color-scheme:dark){.cr-card{fill:#0d1117;stroke:#30363d}
.cr-wire{stroke:#8b949e}.cr-gate{fill:#21262d;stroke:#c9d1d9}.cr-quiet{stroke:#6e7681}
.cr-box{fill:#10243e;stroke:#58a6ff}.cr-heat{stroke:#30363d}
.cr-dot,.cr-tip{fill:#8b949e}.cr text{fill:#e6edf3}.cr .cr-value{fill:#56d364}
.cr .cr-grad{fill:#ff7b72}.cr .cr-note{fill:#8b949e}}
"""


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG text. Jupyter displays it; `save` writes it to a file."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self.svg}</div>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture: whole, or (if that fails) not at all."""
        write_text(path, self.svg)

    def __repr__(self) -> str:
        return f"Picture({len(self.svg)} characters of SVG; save it with .save('graph.svg'))"


def show(
    tensor: Tensor | Explanation,
    path: str | os.PathLike[str] | None = None,
    names: Names | None = None,
    *,
    inside: str = "",
    flat: bool = False,
) -> Picture:
    """The graph of a Tensor (or an Explanation) as a picture: value above and gradient below wires.

    `names` maps names to Tensors; without it, the local variables of the calling function serve.
    With `path` the picture is also written there. A graph of more than 40 gates is drawn with its
    modules closed, or, where it has none, with runs of gates as boxes; `inside` names the one to
    look into, by its path as "blocks.0" or its key in the picture. `flat` draws up to 300 gates
    without boxes.

    Raises GraphError where `inside` names no box, or `flat` is asked for too many gates.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(3.0), cr.tensor(-4.0)
    >>> show(x * y).svg.startswith("<svg")
    True
    """
    explanation = examine(tensor, names)
    count = len(explanation.gates)
    if flat and count > WHOLE:
        raise GraphError(
            f"this graph has {count} gates, at most {WHOLE} are drawn flat: leave flat=True away, "
            "and look into its boxes with inside="
        )
    views = Views(explanation, WHOLE if flat else FLAT)
    picture = Picture(draw(views, find(views, inside)))
    if path is not None:
        picture.save(path)
    return picture


def find(views: Views, inside: str) -> Box:
    """The box that a path of modules or a key names."""
    boxes = list(views.root.boxes)
    for box in boxes:
        if inside in (box.key, ".".join(box.module)) and (inside or box is views.root):
            return box
    known = [".".join(b.module) or b.key for b in boxes[1:]]
    there = f"there are {', '.join(known[:12])}{' …' * (len(known) > 12)}" if known else (
        "the graph is drawn without boxes"
    )  # fmt: skip
    raise GraphError(f"no box {inside!r}: {there}")


def draw(views: Views, box: Box) -> str:
    """The picture of a box (or of the whole graph) as SVG."""
    return _Drawing(views, box).svg()


@dataclass(eq=False)
class _Item:
    """One thing to draw: a name, a gate or a box, with the wire it feeds."""

    label: str
    value: str = ""
    gradient: str = ""
    shape: str = ""
    """"circle" or "box" around the label; empty for a name."""
    branches: tuple[str, ...] = ()
    """The gradient under each wire that enters, where the wire is one branch of several."""
    size: str = ""
    """The shape of a large array."""
    title: str = ""
    data: str = ""
    """Attributes that a page finds it by."""
    note: str = ""
    """A second line in a box."""
    result: str = ""
    """The name behind the arrow of a value that leaves the picture."""
    small: bool = False
    """A broadcast that nobody wrote."""
    commutes: bool = False
    """Whether it is the same gate with its inputs in another order."""
    faint: bool = False
    pictures: tuple[str, str] = ("", "")
    """Heat pictures of value and gradient."""

    @property
    def box(self) -> float:
        """The width of the circle or box, or of the name of a variable."""
        if not self.shape:
            return _width(self.label, FONT)
        if self.small:
            return _width(self.label, SMALL) + 10
        return max(2 * RADIUS, _width(self.label, FONT) + 18, _width(self.note, SMALL) + 18)

    @property
    def tall(self) -> float:
        """Half the height of the box."""
        return 11.0 if self.small else max(RADIUS, PORT * len(self.branches) / 2 + 3)

    @property
    def stub(self) -> float:
        """The width of the piece of wire that carries the texts."""
        picture = HEAT[0] if any(self.pictures) else 0.0
        return max(_width(self.value, FONT), _width(self.gradient, FONT), picture,
                   _width(self.size, SMALL), 14) + 14  # fmt: skip

    @property
    def entry(self) -> float:
        """The width of the texts of the branches that enter."""
        return max((_width(b, SMALL) for b in self.branches), default=0) + 8

    @property
    def round(self) -> bool:
        return bool(self.shape) and not self.small and not self.note and (
            self.box <= 2 * RADIUS + 1 and self.tall <= RADIUS + 1
        )  # fmt: skip


class _Drawing:
    """The picture of one view."""

    def __init__(self, views: Views, box: Box) -> None:
        self.explanation, self.key = views.explanation, box.key
        self.found = views.items(box)
        self.write = _writer(self.found)
        self.items = [self._item_of(item) for item in self.found]
        self.inputs = [[w.source for w in item.wires] for item in self.found]
        self.vertices = [
            Vertex(item, *_room(item), _ports(item, len(sources)), item.commutes)
            for item, sources in zip(self.items, self.inputs, strict=True)
        ]
        self.layers, self.height = arrange(self.vertices, self.inputs)
        self._columns()

    def _text(self, value: Any) -> str:
        """A value as it stands at a wire: of a large array the norm, its shape is elsewhere."""
        if _large(value):
            return f"norm {self.write(norm(value))}"
        return "" if value is None else array(value, self.write)

    def _item_of(self, item: Item) -> _Item:
        """What is drawn of an item of a view."""
        result = _Item(
            item.name, self._text(item.value), self._text(item.gradient),
            title=f"{item.name} = {array(item.value)}; gradient {array(item.gradient)}"
            if item.node is not None else f"{item.kind} {item.name}",
            size=_shape_of(item.value), result=item.name if item.leaves else "",
            faint=item.kind in ("outside", "outlet"),
            pictures=(_heat(item.value), _heat(item.gradient)),
            branches=tuple(
                self._text(w.downstream) if self.found[w.source].uses > 1 else ""
                for w in item.wires
            ) if item.kind in ("gate", "box") else (),
        )  # fmt: skip
        if isinstance(item.record, GateRecord) and item.kind == "gate":
            gate = item.record
            result.shape, result.label, result.title = "gate", label(gate), describe(gate)
            result.small = gate.node.primitive is BROADCAST and gate.node.handle is None
            result.commutes = gate.gate in COMMUTING
        if item.box is not None:
            result.shape, result.label = "box", item.box.name
            result.note = f"{item.box.gates} gates"
            where = ".".join(item.box.module)
            result.title = f"{where or item.name}: {item.box.gates} gates; open it to look inside"
            result.data = f' data-box="{item.box.key}"'
        if item.node is not None:
            result.data += f' data-node="{self.explanation.place(item.node)}"'
        if item.node is not None and item.box is not None and item.leaves:
            result.result = self.explanation.naming[item.node]
        return result

    def _columns(self) -> None:
        """Where each layer begins: [branch texts][box][wire with texts], then room for curves."""
        self.entries, self.boxes, self.stubs = [], [], []
        x = MARGIN
        for place, layer in enumerate(self.layers):
            items = [v.key for v in layer if isinstance(v.key, _Item)]
            entry = max((i.entry for i in items if any(i.branches)), default=0.0)
            if place:
                x += self._gap(layer)
            self.entries.append(x)
            self.boxes.append(x + entry)
            box = max((i.box for i in items), default=0.0)
            self.stubs.append(x + entry + box)
            x = self.stubs[-1] + max((i.stub for i in items), default=0.0)
        note = _width(" above, ".join(self._note()), SMALL)
        self.width = max(x + 26 + _width(self.explanation.name, FONT), MARGIN + note) + MARGIN

    def _gap(self, layer: list[Vertex]) -> float:
        """Room for the curves into a layer: more if they are steep."""
        steep = max(
            (abs(v.y + v.ports[k] - s.y) for v in layer for k, s in enumerate(v.before)),
            default=0.0,
        )
        return min(24 + 0.3 * steep, 110)

    # -- drawing ------------------------------------------------------------------------------

    def svg(self) -> str:
        legend = 30
        width, height = ceil(self.width), ceil(self.height + 2 * MARGIN + legend)
        name = escape(self.explanation.name)
        of = f"The graph of {name}" if not self.key else f"A part of the graph of {name}"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="cr" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">',
            f"<title>{of}, with values and gradients</title>",
            f"<desc>{escape(self._description())}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="cr-card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" '
            'rx="8"/>',
        ]
        parts += [self._wire(v) for layer in self.layers for v in layer]
        parts += [self._item(v) for v in self.vertices]
        above, below, rest = map(escape, self._note())
        parts.append(
            f'<text class="cr-note" x="{MARGIN:g}" y="{height - 14}" font-size="{SMALL}">'
            f'<tspan class="cr-value">{above}</tspan> above, <tspan class="cr-grad">{below}</tspan>'
            f" {rest}</text>"
        )
        return "\n".join([*parts, "</svg>"])

    def _description(self) -> str:
        return ". ".join(item.title for item in self.items[:80]) + "."

    def _note(self) -> tuple[str, str, str]:
        """What the two colours mean, in three parts."""
        name = self.explanation.name
        of = name if np.size(self.explanation.value) == 1 else f"the sum of {name}"
        return "value", f"gradient of {of}", "below each wire"

    def _y(self, vertex: Vertex) -> float:
        return vertex.y + MARGIN

    def _wire(self, vertex: Vertex) -> str:
        """The wire out of a vertex through its own column, and the curves to what it feeds."""
        y, layer = self._y(vertex), vertex.layer
        item = vertex.key if isinstance(vertex.key, _Item) else None
        start = self.entries[layer] if item is None else self._right(item, layer)
        end = self._stub_end(layer)
        paths = []
        if vertex.after:
            paths.append(f"M{start:.1f} {y:.1f}H{end:.1f}")
        for target, k in vertex.after:
            port = target.ports[k]
            x = self.entries[target.layer]
            to = self._y(target) + port
            half = (x - end) / 2
            path = (
                f"M{end:.1f} {y:.1f}"
                f"C{end + half:.1f} {y:.1f} {x - half:.1f} {to:.1f} {x:.1f} {to:.1f}"
            )
            if isinstance(target.key, _Item):
                path += f"H{self._left(target.key, target.layer, port):.1f}"
            paths.append(path)
        if not paths:
            return ""
        svg = f'<path class="cr-wire" d="{"".join(paths)}"/>'
        if len(vertex.after) > 1:
            svg += f'<circle class="cr-dot" cx="{end:.1f}" cy="{y:.1f}" r="3"/>'
        return svg

    def _stub_end(self, layer: int) -> float:
        items = [v.key for v in self.layers[layer] if isinstance(v.key, _Item)]
        return self.stubs[layer] + max((i.stub for i in items), default=0.0)

    def _centre(self, item: _Item, layer: int) -> float:
        """Gates stand in the middle of their column, names end at its right."""
        left, right = self.boxes[layer], self.stubs[layer]
        return (left + right) / 2 if item.shape else right - item.box / 2

    def _right(self, item: _Item, layer: int) -> float:
        gap = 0 if item.shape else 6
        return self._centre(item, layer) + item.box / 2 + gap

    def _left(self, item: _Item, layer: int, port: float) -> float:
        """Where a wire meets the circle or box."""
        half = item.box / 2
        if item.round:
            half = sqrt(max(half * half - port * port, 0.0))
        return self._centre(item, layer) - half

    def _item(self, vertex: Vertex) -> str:
        item, layer, y = vertex.key, vertex.layer, self._y(vertex)
        assert isinstance(item, _Item)
        centre = self._centre(item, layer)
        parts = [f"<g{item.data}><title>{escape(item.title)}</title>"]
        if item.shape:
            parts.append(_shape(item, centre, y))
            size = SMALL if item.small else FONT + 1 if len(item.label) > 1 else FONT + 6
            up = 4 if item.note else 0
            parts.append(_put(item.label, centre, y + size * 0.34 - up, size=size))
            parts.append(_put(item.note, centre, y + 15, "cr-note", SMALL - 1))
        else:
            kind = "cr-note" if item.faint else ""
            parts.append(_put(item.label, centre, y + 5, kind, weight="bold"))
        middle = (self._right(item, layer) + self._stub_end(layer)) / 2
        if item.result:
            middle = self._right(item, layer) + item.stub / 2
            parts.append(self._arrow(item, layer, y))
        parts.append(_put(item.value, middle, y - 6, "cr-value"))
        parts.append(_put(item.gradient, middle, y + 16, "cr-grad"))
        tops = (("cr-value", y - 22 - HEAT[1]), ("cr-grad", y + 22))
        for uri, (kind, top) in zip(item.pictures, tops, strict=True):
            if uri:
                place = (
                    f'x="{middle - HEAT[0] / 2:.1f}" y="{top:.1f}" width="{HEAT[0]:g}" '
                    f'height="{HEAT[1]:g}"'
                )
                parts.append(
                    f'<image class="cr-heated {kind}" {place} preserveAspectRatio="none" '
                    f'href="{uri}"/>'
                    f'<rect class="cr-heat" {place}/>'
                )
        below = HEAT[1] if item.pictures[1] else 0
        parts.append(_put(item.size, middle, y + 32 + below, "cr-note", SMALL - 1))
        for text, port in zip(item.branches, vertex.ports, strict=False):
            if text:
                x = self._left(item, layer, port) - 5
                parts.append(
                    _put(text, x, y + port + 12.5, "cr-grad cr-branch", SMALL, anchor="end")
                )
        return "".join([*parts, "</g>"])

    def _arrow(self, item: _Item, layer: int, y: float) -> str:
        """The wire of the result, with its name."""
        start = self._right(item, layer)
        end = start + item.stub + 6
        return (
            f'<path class="cr-wire" d="M{start:.1f} {y:.1f}H{end:.1f}"/>'
            f'<path class="cr-tip" d="M{end:.1f} {y - 4:.1f}l8 4l-8 4z"/>'
            + _put(item.result, end + 13, y + 5, anchor="start", weight="bold")
        )


def label(gate: GateRecord) -> str:
    """What is written into a gate: its symbol, with a constant number where it has one."""
    numbers = [
        (k, x.name) for k, x in enumerate(gate.inputs) if x.node is None and np.size(x.value) <= 1
    ]
    if len(numbers) == 1 and len(gate.inputs) == 2:
        place, text = numbers[0]
        if gate.gate in WITH_CONSTANT:
            if gate.gate == "div" and place == 0 and text == "1":
                return "1/x"
            text = f"({text})" if text.startswith("-") and gate.gate != "mul" else text
            return WITH_CONSTANT[gate.gate][place].format(text)
        return f"{SYMBOLS.get(gate.gate, gate.gate)} {text}"
    if gate.gate == "contract" and is_matmul((gate.node.params or {})["spec"]):
        return "@"
    return SYMBOLS.get(gate.gate, gate.gate)


def describe(gate: GateRecord) -> str:
    """A gate in one sentence, for the pointer and for screen readers."""
    text = f"{gate.name} = {gate.expression} = {array(gate.value)}, gradient {array(gate.upstream)}"
    flows = [
        f"{x.name} gets {array(x.downstream)} (local {array(x.local)})"
        for x in gate.inputs
        if x.node is not None
    ]
    return f"{text}: {gate.word}; " + ", ".join(flows)


def _writer(items: Sequence[Item]) -> Callable[[float], str]:
    """As in the notes: whole numbers if all are whole, else two decimals."""
    values = [x for i in items for x in (i.value, i.gradient, *(w.downstream for w in i.wires))]
    shown = [v for v in values if v is not None]
    with np.errstate(all="ignore"):
        whole = all(
            not isinstance(v, tuple) and np.size(v) <= 6 and bool((v == np.round(v)).all())
            for v in shown
        )
    return number if whole else fixed


def _heat(value: Any) -> str:
    """The heat picture of an array whose entries are too many to print."""
    return heat(value) if _large(value) else ""


def _shape_of(value: Any) -> str:
    """The shape of such an array, as 64×10."""
    return "×".join(map(str, value.shape)) if _large(value) else ""


def _large(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size > 0 and is_large(value)


def escape(text: str) -> str:
    """Text as it may stand in XML; characters that XML has no way to write become □."""
    return escape_html(UNWRITABLE.sub("□", text))


def _width(text: str, size: float) -> float:
    """About how wide a text is (the wider of the usual fonts)."""
    return 0.6 * size * len(text)


def _room(item: _Item) -> tuple[float, float]:
    """The height a vertex needs above and below its wire."""
    half = item.tall + 6 if item.shape else 0
    above, below = (HEAT[1] + 2 if p else 0 for p in item.pictures)
    below += 12 if item.size else 0
    return max(24.0 + above, half), max(26.0 + below, half)


def _ports(item: _Item, count: int) -> tuple[float, ...]:
    """The heights at which the wires enter, around the middle."""
    step = PORT if any(item.branches) else min(PORT, 2 * item.tall / max(count, 1) * 0.8)
    return tuple((k - (count - 1) / 2) * step for k in range(count))


def _shape(item: _Item, x: float, y: float) -> str:
    """A circle for a short symbol, a box with round corners for a longer one."""
    kind = "cr-gate cr-quiet" if item.small else "cr-gate"
    kind += " cr-box" if item.shape == "box" else ""
    if item.round:
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS:g}"/>'
    width, height = item.box, 2 * item.tall
    return (
        f'<rect class="{kind}" x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="{min(12.0, height / 2):g}"/>'
    )


def _put(
    text: str, x: float, y: float, kind: str = "", size: float = FONT, anchor: str = "middle",
    weight: str = "",
) -> str:  # fmt: skip
    """A text at a place."""
    if not text:
        return ""
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' font-weight="{weight}"' if weight else ""
    return (
        f'<text{attributes} x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
