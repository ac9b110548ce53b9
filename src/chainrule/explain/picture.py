"""Graphs as pictures, as in the course's notes: values above the wires, gradients below.

Drawn as SVG, from left to right, by the layout of `layout.py`; with texts for screen readers and
for the pointer, and colours for light and dark surroundings.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from html import escape as escape_html
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from ..core.node import topological
from ..ops.dispatch import BROADCAST
from ..ops.tensor import Tensor
from .gates import Explanation, GateRecord, checked, examine, is_matmul
from .layout import Vertex, arrange
from .names import Names
from .numbers import array, fixed, number

LIMIT = 300
"""Graphs with more gates than this are not drawn."""
COMMUTING = ("add", "mul", "maximum", "minimum")
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
.cr-dot,.cr-tip{fill:#57606a}
.cr text{font-family:"Helvetica Neue",Helvetica,Arial,"DejaVu Sans",sans-serif;fill:#1f2328}
.cr .cr-value{fill:#116329}.cr .cr-grad{fill:#b3141d}.cr .cr-note{fill:#57606a}
@media (prefers-color-scheme:dark){.cr-card{fill:#0d1117;stroke:#30363d}
.cr-wire{stroke:#8b949e}.cr-gate{fill:#21262d;stroke:#c9d1d9}.cr-quiet{stroke:#6e7681}
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
        target = Path(path)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with open(part, "x", encoding="utf-8") as file:
                file.write(self.svg)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def __repr__(self) -> str:
        return f"Picture({len(self.svg)} characters of SVG; save it with .save('graph.svg'))"


def show(
    tensor: Tensor, path: str | os.PathLike[str] | None = None, names: Names | None = None
) -> Picture:
    """The graph of a Tensor as a picture: value above and gradient below each wire.

    `names` maps names to Tensors; without it, the local variables of the calling function serve.
    With `path` the picture is also written there. A graph of more than 300 gates is not drawn:
    the picture says so.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(3.0), cr.tensor(-4.0)
    >>> show(x * y).svg.startswith("<svg")
    True
    """
    node = checked(tensor)
    count = sum(n.primitive is not None for n in topological([node]))
    svg = _refusal(count) if count > LIMIT else _Drawing(examine(tensor, names)).svg()
    picture = Picture(svg)
    if path is not None:
        picture.save(path)
    return picture


@dataclass(eq=False)
class _Item:
    """One thing to draw: a variable or constant (no gate), or a gate, with the wire it feeds."""

    label: str
    value: str = ""
    gradient: str = ""
    gate: GateRecord | None = None
    branches: tuple[str, ...] = ()
    """The gradient under each wire that enters, where the wire is one branch of several."""
    title: str = ""
    fans: bool = False
    result: bool = False

    @property
    def box(self) -> float:
        """The width of the circle or box, or of the name of a variable."""
        if self.gate is None:
            return _width(self.label, FONT)
        if self.small:
            return _width(self.label, SMALL) + 10
        return max(2 * RADIUS, _width(self.label, FONT) + 18)

    @property
    def small(self) -> bool:
        """Whether this is a broadcast that nobody wrote: it is drawn small."""
        if self.gate is None:
            return False
        return self.gate.node.primitive is BROADCAST and self.gate.node.handle is None

    @property
    def commutes(self) -> bool:
        """Whether it is the same gate with its inputs in another order."""
        return self.gate is not None and self.gate.gate in COMMUTING

    @property
    def tall(self) -> float:
        """Half the height of the box."""
        return 11.0 if self.small else max(RADIUS, PORT * len(self.branches) / 2 + 3)

    @property
    def stub(self) -> float:
        """The width of the piece of wire that carries the texts."""
        return max(_width(self.value, FONT), _width(self.gradient, FONT), 14) + 14

    @property
    def entry(self) -> float:
        """The width of the texts of the branches that enter."""
        return max((_width(b, SMALL) for b in self.branches), default=0) + 8


class _Drawing:
    """The picture of one explanation."""

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation
        self.write = _writer(explanation)
        self.items: list[_Item] = []
        self.inputs: list[list[int]] = []
        self.place: dict[Any, int] = {}
        for v in explanation.variables:
            title = f"{v.name} = {array(v.value)}; gradient {array(v.gradient)}"
            self._add(v.node, _Item(v.name, self._text(v.value), self._text(v.gradient),
                                    title=title, fans=len(v.branches) > 1))  # fmt: skip
        for gate in explanation.gates:
            self._add_gate(gate)
        self.items[-1].result = True
        self.vertices = [
            Vertex(item, *_room(item), _ports(item, len(sources)), item.commutes)
            for item, sources in zip(self.items, self.inputs, strict=True)
        ]
        self.layers, self.height = arrange(self.vertices, self.inputs)
        self._columns()

    def _text(self, value: Any) -> str:
        return array(value, self.write)

    def _add(self, key: Any, item: _Item, inputs: list[int] | None = None) -> int:
        self.items.append(item)
        self.inputs.append(inputs or [])
        self.place[key] = len(self.items) - 1
        return self.place[key]

    def _add_gate(self, gate: GateRecord) -> None:
        sources, wires = [], []
        for x in gate.inputs:
            if x.node is not None:
                sources.append(self.place[x.node])
                fans = self.items[sources[-1]].fans
                wires.append(self._text(x.downstream) if fans else "")
            elif np.size(x.value) > 1:  # numbers are part of the gate, arrays have their own wire
                constant = _Item(x.name, self._text(x.value), title=f"constant {x.name}")
                sources.append(self._add(object(), constant))
                wires.append("")
        item = _Item(
            label(gate), self._text(gate.value), self._text(gate.upstream), gate, tuple(wires),
            describe(gate), len(gate.branches) > 1,
        )  # fmt: skip
        self._add(gate.node, item, sources)

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
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="cr" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">',
            f"<title>The graph of {name}, with values and gradients</title>",
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
        e = self.explanation
        lines = [f"{v.name} = {array(v.value)}, gradient {array(v.gradient)}" for v in e.variables]
        lines += [describe(g) for g in e.gates[:40]]
        return ". ".join(lines) + "."

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
        return right - item.box / 2 if item.gate is None else (left + right) / 2

    def _right(self, item: _Item, layer: int) -> float:
        gap = 6 if item.gate is None else 0
        return self._centre(item, layer) + item.box / 2 + gap

    def _left(self, item: _Item, layer: int, port: float) -> float:
        """Where a wire meets the circle or box."""
        half = item.box / 2
        if _round(item):
            half = sqrt(max(half * half - port * port, 0.0))
        return self._centre(item, layer) - half

    def _item(self, vertex: Vertex) -> str:
        item, layer, y = vertex.key, vertex.layer, self._y(vertex)
        assert isinstance(item, _Item)
        centre = self._centre(item, layer)
        parts = [f"<g><title>{escape(item.title)}</title>"]
        if item.gate is not None:
            parts.append(_shape(item, centre, y))
            size = SMALL if item.small else FONT + 1 if len(item.label) > 1 else FONT + 6
            parts.append(_put(item.label, centre, y + size * 0.34, size=size))
        else:
            parts.append(_put(item.label, centre, y + 5, weight="bold"))
        middle = (self._right(item, layer) + self._stub_end(layer)) / 2
        if item.result:
            middle = self._right(item, layer) + item.stub / 2
            parts.append(self._arrow(item, layer, y))
        parts.append(_put(item.value, middle, y - 6, "cr-value"))
        parts.append(_put(item.gradient, middle, y + 16, "cr-grad"))
        for text, port in zip(item.branches, vertex.ports, strict=True):
            if text:
                x = self._left(item, layer, port) - 5
                parts.append(_put(text, x, y + port + 12.5, "cr-grad", SMALL, anchor="end"))
        return "".join([*parts, "</g>"])

    def _arrow(self, item: _Item, layer: int, y: float) -> str:
        """The wire of the result, with its name."""
        start = self._right(item, layer)
        end = start + item.stub + 6
        return (
            f'<path class="cr-wire" d="M{start:.1f} {y:.1f}H{end:.1f}"/>'
            f'<path class="cr-tip" d="M{end:.1f} {y - 4:.1f}l8 4l-8 4z"/>'
            + _put(self.explanation.name, end + 13, y + 5, anchor="start", weight="bold")
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


def _writer(explanation: Explanation) -> Callable[[float], str]:
    """As in the notes: whole numbers if all are whole, else two decimals."""
    values = [x for v in explanation.variables for x in (v.value, v.gradient)]
    for gate in explanation.gates:
        values += [gate.value, gate.upstream, *(x.downstream for x in gate.inputs)]
    numbers = [v for v in values if v is not None and not isinstance(v, tuple) and np.size(v) <= 6]
    with np.errstate(all="ignore"):
        whole = all(bool((v == np.round(v)).all()) for v in numbers) and len(numbers) == sum(
            v is not None for v in values
        )
    return number if whole else fixed


def escape(text: str) -> str:
    """Text as it may stand in XML: control characters, which XML has no way to write, become □."""
    return escape_html("".join(c if c.isprintable() else "□" for c in text))


def _width(text: str, size: float) -> float:
    """About how wide a text is (the wider of the usual fonts)."""
    return 0.6 * size * len(text)


def _room(item: _Item) -> tuple[float, float]:
    """The height a vertex needs above and below its wire."""
    half = item.tall + 6 if item.gate is not None else 0
    return max(24.0, half), max(26.0, half)


def _ports(item: _Item, count: int) -> tuple[float, ...]:
    """The heights at which the wires enter, around the middle."""
    step = PORT if any(item.branches) else min(PORT, 2 * item.tall / max(count, 1) * 0.8)
    return tuple((k - (count - 1) / 2) * step for k in range(count))


def _round(item: _Item) -> bool:
    return not item.small and item.box <= 2 * RADIUS + 1 and item.tall <= RADIUS + 1


def _shape(item: _Item, x: float, y: float) -> str:
    """A circle for a short symbol, a box with round corners for a longer one."""
    kind = "cr-gate cr-quiet" if item.small else "cr-gate"
    if _round(item):
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


def _refusal(count: int) -> str:
    """A card that says why there is no picture."""
    lines = (
        f"This graph has {count} gates, too many to draw (at most {LIMIT}).",
        "print(t.graph) lists them all; show an intermediate result to see a part.",
    )
    texts = "".join(
        f'<text x="20" y="{34 + 24 * k}" font-size="{FONT}">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="cr" width="580" height="80" '
        f'viewBox="0 0 580 80" role="img"><title>{escape(lines[0])}</title>'
        f"<desc>{escape(lines[1])}</desc><style>{STYLE}</style>"
        f'<rect class="cr-card" x="0.5" y="0.5" width="579" height="79" rx="8"/>{texts}</svg>'
    )
