"""A page to walk through a graph: pictures that open, each gate's numbers, forward and backward.

Everything that is shown is computed here and put into the page as data; the script in it
(`explorer.js`) only moves through it. So a page needs no server, no network and no chainrule.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from ..core.node import Node
from ..errors import ChainruleError
from ..files import write_text
from ..ops.tensor import Tensor
from .derive import derive
from .forms import WORDS
from .gates import Explanation, GateRecord, InputRecord, VariableRecord, examine
from .names import Names
from .numbers import array, place, source
from .paths import between
from .picture import draw, escape
from .views import Views
from .why import asked, reason

THOROUGH = 1000
"""Graphs of at most so many gates are shown with the structure of each local Jacobian."""
TRACED = 300
"""Of at most so many gates the paths of every variable are shown."""
DERIVED = 100
"""Of at most so many gates the formulas are shown."""
PLAIN = 60_000
"""Larger data is packed (gzip)."""


@dataclass(frozen=True, eq=False)
class Explorer:
    """The data of a page, and the page. `save` writes it; Jupyter and marimo display it."""

    title: str
    data: dict[str, Any]

    def fragment(self, key: str = "graph") -> str:
        """The part of a page: the picture of the whole (which needs no script), and the data.

        `key` tells the explorers of one page apart. The page needs `style()` and `script()` once.
        """
        text = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        kind = "application/json"
        if len(text) > PLAIN:
            text = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
            kind = "application/gzip"
        text = text.replace("<", "\\u003c")  # nothing in it can end the script
        return (
            f'<div class="cr-explorer" id="{escape(key)}">'
            f'<div class="cr-still">{self.data["views"][""]["svg"]}</div>'
            f'<script type="{kind}" class="cr-data">{text}</script></div>'
        )

    def page(self) -> str:
        """A whole page, in one file."""
        title = escape(self.title)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f"<title>{title}</title><style>{PAGE}{style()}</style></head><body>"
            f"<main><h1>{title}</h1>{self.fragment()}</main>"
            f'<script type="module">{script()}</script></body></html>\n'
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page: whole, or (if that fails) not at all."""
        write_text(path, self.page())

    def widget(self) -> Any:
        """The same as a widget for notebooks; needs the package anywidget."""
        from .widget import widget

        return widget(self)

    def _repr_html_(self) -> str:
        return (
            '<iframe style="width:100%;height:640px;border:0" sandbox="allow-scripts" '
            f'srcdoc="{escape(self.page())}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Explorer({self.title!r}: save it with .save('graph.html'))"


POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
PAGE = (
    ":root{color-scheme:light dark}body{margin:0;font:16px/1.5 system-ui,sans-serif;"
    "background:Canvas;color:CanvasText}main{max-width:1400px;margin:auto;padding:1rem 1.5rem}"
    "h1{font-size:1.25rem;font-weight:600}"
)


def explore(
    tensor: Tensor | Explanation, path: str | os.PathLike[str] | None = None,
    names: Names | None = None,
) -> Explorer:  # fmt: skip
    """A page to walk through the graph of a Tensor (or an Explanation); `path` is where to save it.

    `names` maps names to Tensors; without it, the local variables of the calling function serve.

    >>> import chainrule as cr
    >>> x, y = cr.tensor(3.0), cr.tensor(-4.0)
    >>> explore(x * y, names={"x": x, "y": y})
    Explorer('f = x * y': save it with .save('graph.html'))
    """
    result = explorer(examine(tensor, names))
    if path is not None:
        result.save(path)
    return result


def explorer(explanation: Explanation) -> Explorer:
    """The same of an explanation."""
    views = Views(explanation)
    boxes = list(views.root.boxes)
    home: dict[str, str] = {}
    pictures: dict[str, Any] = {}
    for box in boxes:
        for part in box.parts:
            if isinstance(part, int):
                home[f"g{part}"] = box.key
        way = [{"key": b.key, "name": b.name} for b in box.way]
        pictures[box.key] = {"svg": draw(views, box), "way": way}
        for item in views.items(box):
            if item.kind == "variable" and item.node is not None:
                home.setdefault(explanation.place(item.node), box.key)
    thorough = len(explanation.gates) <= THOROUGH
    last = explanation.gates[-1] if explanation.gates else None
    title = explanation.expression or (last.expression if last is not None and len(
        explanation.gates) == 1 else "")  # fmt: skip
    data = {
        "name": explanation.name,
        "views": pictures,
        "gates": [
            _gate(g, k, explanation, home, thorough) for k, g in enumerate(explanation.gates)
        ],
        "variables": [
            {
                "id": f"v{k}", "view": home.get(f"v{k}", ""), "name": v.name,
                "value": array(v.value), "gradient": array(v.gradient),
                "branches": _branches(v.branches),
                **(_paths(explanation, v) if len(explanation.gates) <= TRACED else {}),
            }
            for k, v in enumerate(explanation.variables)
        ],
        "note": explanation.note,
        "formulas": _formulas(explanation),
    }  # fmt: skip
    shown = f"{explanation.name} = {title}" if title else f"The graph of {explanation.name}"
    return Explorer(shown, data)


def _gate(
    gate: GateRecord, k: int, explanation: Explanation, home: dict[str, str], thorough: bool
) -> dict[str, Any]:
    """One gate as plain data."""
    return {
        "id": f"g{k}", "view": home[f"g{k}"], "name": gate.name, "expression": gate.expression,
        "value": array(gate.value), "gradient": array(gate.upstream), "word": gate.word,
        "says": WORDS[gate.word], "module": ".".join(gate.node.scope),
        "line": "" if explanation.expression else place(gate.where),
        "source": "" if explanation.expression else source(gate.where),
        "kernel": (explanation.kernels or {}).get(gate.node, ""),
        "branches": _branches(gate.branches),
        "inputs": [
            _input(x, gate, operand, explanation, thorough)
            for x, operand in zip(gate.inputs, operands_of_record(gate), strict=True)
        ],
    }  # fmt: skip


def operands_of_record(gate: GateRecord) -> list[int]:
    """For each input of a record the number of the operand (-1: a constant)."""
    operands = iter(k for k, x in enumerate(gate.node.inputs) if isinstance(x, Node))
    return [-1 if x.node is None else next(operands) for x in gate.inputs]


def _input(
    x: InputRecord, gate: GateRecord, operand: int, explanation: Explanation, thorough: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": x.name, "value": array(x.value)}
    if x.node is not None:
        found |= {
            "id": explanation.place(x.node), "local": array(x.local),
            "downstream": array(x.downstream),
        }  # fmt: skip
        if thorough:
            found |= structure(gate, operand, x.name)
    return found


def structure(gate: GateRecord, operand: int, name: str) -> dict[str, str]:
    """What the local Jacobian of a gate is called, and its index formula, where it has them."""
    try:
        local = gate.node.local(operand)
        if local.shape == (1, 1):
            return {}
        others = {gate.name, *(x.name for x in gate.inputs)}
        free = (c for c in "xwvuyzpr" if c not in others)
        names = [n if n.isidentifier() else next(free) for n in (gate.name, name)]
        formula = _with_names(local.formula(*names), gate, operand)
        return {"structure": local.structure, "formula": formula}
    except ChainruleError as error:
        return {"structure": str(error).split(":")[0]}


def _with_names(formula: str, gate: GateRecord, operand: int) -> str:
    """An index formula with the other operand of a contraction by its name; what else A is."""
    plain, _, shape = formula.partition(", with A: ")
    if not shape:
        return formula
    others = [x.name for k, x in enumerate(gate.inputs) if k != operand]
    if gate.gate == "contract" and others and others[0].isidentifier():
        return re.sub(r"\bA(?=_|\b)", others[0], plain)
    return f"{plain}, with A the numbers of the local: {shape}"


def _paths(explanation: Explanation, v: VariableRecord) -> dict[str, Any]:
    """The paths of the largest gradient of a variable; where that is 0, why it is."""
    if not np.size(v.value):
        return {}
    order = [*(x.node for x in explanation.variables), *(g.node for g in explanation.gates)]
    at = asked(order, explanation.naming, v.node, v.gradient)
    given = (order, explanation.naming, v.node, v.gradient, at)
    found = between(*given, 8).json()
    if not v.gradient[at]:
        found["why"] = str(reason(*given))
    return {"paths": found}


def _formulas(explanation: Explanation) -> str:
    """The gradients as formulas, in MathML, or why there are none."""
    if len(explanation.gates) > DERIVED:
        return f"<p>Formulas are written for at most {DERIVED} gates: <code>cr.derive</code>.</p>"
    try:
        return str(derive(explanation).mathml())
    except ChainruleError as error:
        return f"<p>{escape(str(error))}</p>"


def _branches(branches: Any) -> list[list[str]]:
    return [[name, array(g)] for name, g in branches] if len(branches) > 1 else []


@cache
def script() -> str:
    """The script of pages with explorers: it starts all of them."""
    text = files(__package__).joinpath("explorer.js").read_text("utf-8")
    return text.replace("export default", "const explorer =") + "\nexplorer.start(document);\n"


@cache
def module() -> str:
    """The same as an ES module with anywidget's interface."""
    return files(__package__).joinpath("explorer.js").read_text("utf-8")


@cache
def style() -> str:
    """The style of explorers."""
    return files(__package__).joinpath("explorer.css").read_text("utf-8")
