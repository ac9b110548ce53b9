"""Pictures: well-formed, complete, without overlaps, for any graph."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import Picture, evaluate, show
from chainrule.explain.gates import examine
from chainrule.explain.layout import Vertex, arrange
from chainrule.explain.picture import WHOLE, draw, label
from chainrule.explain.views import Views

SVG = "{http://www.w3.org/2000/svg}"
NEURON = "1/(1+exp(-(w0*x0+w1*x1+w2)))"
NEURON_VALUES = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3}


def picture_of(expression: str, **values: float) -> Picture:
    result, variables = evaluate(expression, values)
    return show(result, names=variables)


def texts(picture: Picture) -> list[str]:
    root = ET.fromstring(picture.svg)
    return ["".join(t.itertext()) for t in root.iter(f"{SVG}text")]


def of_kind(picture: Picture, kind: str) -> list[str]:
    root = ET.fromstring(picture.svg)
    return [t.text or "" for t in root.iter(f"{SVG}text") if kind in (t.get("class") or "").split()]


def test_course_g1_as_drawn_in_the_notes() -> None:
    picture = picture_of("(x + y) * z", x=-2, y=5, z=-4)
    assert sorted(of_kind(picture, "cr-value")) == sorted(["-2", "5", "-4", "3", "-12"])
    assert sorted(of_kind(picture, "cr-grad")) == sorted(["-4", "-4", "3", "-4", "1"])
    assert {"x", "y", "z", "f", "+", "×"} <= set(texts(picture))


def test_course_g2_as_drawn_in_the_notes() -> None:
    picture = picture_of(NEURON, **NEURON_VALUES)
    assert sorted(of_kind(picture, "cr-value")) == sorted(
        [
            "2.00",
            "-1.00",
            "-3.00",
            "-2.00",
            "-3.00",
            "-2.00",
            "6.00",
            "4.00",
            "1.00",
            "-1.00",
            "0.37",
            "1.37",
            "0.73",
        ]
    )
    assert sorted(of_kind(picture, "cr-grad")) == sorted(
        [
            "-0.20",
            "0.39",
            "-0.39",
            "-0.59",
            "0.20",
            "0.20",
            "0.20",
            "0.20",
            "0.20",
            "-0.20",
            "-0.53",
            "-0.53",
            "1.00",
        ]
    )
    assert {"×-1", "exp", "+1", "1/x"} <= set(texts(picture))


def test_values_stand_above_and_gradients_below_their_wire() -> None:
    root = ET.fromstring(picture_of(NEURON, **NEURON_VALUES).svg)
    for group in root.iter(f"{SVG}g"):
        by_kind = {t.get("class"): t for t in group.iter(f"{SVG}text")}
        above, below = by_kind["cr-value"], by_kind["cr-grad"]
        assert above.get("x") == below.get("x")
        assert float(above.get("y", 0)) + 10 < float(below.get("y", 0))


def test_branches_are_drawn_with_their_gradients() -> None:
    grads = of_kind(picture_of("x*x + x", x=3), "cr-grad")
    assert sorted(grads) == sorted(["7", "1", "1", "3", "3", "1"])


def net() -> Any:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 3))
    W1, b1 = cr.tensor(rng.normal(size=(3, 4))), cr.tensor(np.zeros(4))
    W2, b2 = cr.tensor(rng.normal(size=(4, 2))), cr.tensor(np.zeros(2))
    scores = cr.relu(X @ W1 + b1) @ W2 + b2
    loss = cr.mean(scores * scores)
    return loss, {"X": X, "W1": W1, "b1": b1, "W2": W2, "b2": b2, "loss": loss}


def test_a_network_with_its_names() -> None:
    loss, names = net()
    shown = texts(show(loss, names=names))
    assert {"X", "W1", "b1", "W2", "b2", "loss", "@", "relu", "copy"} <= set(shown)
    assert "5×4" in shown and any(t.startswith("norm ") for t in shown)


def test_names_are_found_in_the_calling_function() -> None:
    weight, bias = cr.tensor(2.0), cr.tensor(3.0)
    assert {"weight", "bias"} <= set(texts((weight * 2 + bias).show()))


def boxes(picture: Picture) -> list[tuple[float, float, float, float]]:
    """A box (left, top, right, bottom) around every text of a wire and every gate."""
    found = []
    root = ET.fromstring(picture.svg)
    for group in root.iter(f"{SVG}g"):
        for t in group.iter(f"{SVG}text"):
            x, y, size = (float(t.get(k, 0)) for k in ("x", "y", "font-size"))
            width = 0.55 * size * len(t.text or "")
            if t.get("class") is None and t.get("font-weight") is None:
                continue  # the symbol in a gate
            shift = {"middle": width / 2, "end": width, "start": 0.0}[t.get("text-anchor", "")]
            found.append((x - shift, y - 0.72 * size, x - shift + width, y + 0.05 * size))
        for c in group.iter(f"{SVG}circle"):
            x, y, r = (float(c.get(k, 0)) for k in ("cx", "cy", "r"))
            found.append((x - r, y - r, x + r, y + r))
        for b in group.iter(f"{SVG}rect"):
            x, y, w, h = (float(b.get(k, 0)) for k in ("x", "y", "width", "height"))
            found.append((x, y, x + w, y + h))
    return found


GRAPHS = {
    "neuron": lambda: evaluate(NEURON, NEURON_VALUES),
    "fan-out": lambda: evaluate("x*x + x", {"x": 3}),
    "tangle": lambda: evaluate(
        "max(x*y, z) * exp(x) + 2*(y - sin(x*z)) + (x+y)*(y+z)*(z+x)", {"x": 3, "y": -4, "z": 2}
    ),
    "tiny and huge": lambda: evaluate("x*1e-9 + y*1e12", {"x": 1.5, "y": -1e-300}),
    "net": net,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_nothing_overlaps_and_nothing_is_cut_off(name: str) -> None:
    result, names = GRAPHS[name]()
    picture = show(result, names=names)
    root = ET.fromstring(picture.svg)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    found = boxes(picture)
    for k, (left, top, right, bottom) in enumerate(found):
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
        for other in found[:k]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (found[k], other)


def test_the_card_has_room_for_its_note() -> None:
    a_name_that_is_long = cr.tensor([1.0, 2.0])
    root = ET.fromstring(show(a_name_that_is_long).svg)
    (note,) = [t for t in root.iter(f"{SVG}text") if t.get("class") == "cr-note"]
    text = "".join(note.itertext())
    assert text == "value above, gradient of the sum of a_name_that_is_long below each wire"
    assert float(root.get("width", 0)) > 20 + 0.55 * 12 * len(text)


def test_well_formed_with_any_names() -> None:
    x, y = cr.tensor(1.0), cr.tensor(2.0)
    picture = show(x * y, names={"<x> | & \"'": x, "\x00\x1b]]>": y})
    assert "<x> | & \"'" in texts(picture)
    root = ET.fromstring(picture.svg)
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None and "graph of f" in (title.text or "")
    assert description is not None and "f = " in (description.text or "")


def chain(n: int) -> Any:
    x, w = cr.tensor(0.5), cr.tensor(1.1)
    y = x
    for _ in range(n // 2):
        y = cr.tanh(y * w)
    return y


def groups(picture: Picture) -> list[Any]:
    return ET.fromstring(picture.svg).findall(f"{SVG}g")


def test_a_chain_of_a_hundred_gates() -> None:
    picture = chain(100).show(flat=True)
    assert of_kind(picture, "cr-value") and len(groups(picture)) == 102


def test_many_gates_are_boxes_that_open() -> None:
    y = chain(WHOLE + 2)
    closed = groups(y.show())
    boxes = [g.get("data-box") for g in closed if g.get("data-box")]
    assert 2 <= len(boxes) <= 40
    inside = groups(y.show(inside=boxes[0]))
    assert any(g.get("data-node") == "g0" for g in inside)
    with pytest.raises(cr.errors.GraphError, match="at most 300 are drawn flat"):
        y.show(flat=True)
    with pytest.raises(cr.errors.GraphError, match="no box 'nowhere': there are 0, "):
        y.show(inside="nowhere")


@pytest.mark.parametrize(
    ("expression", "symbol"),
    [
        ("x + 1", "+1"), ("1 + x", "+1"), ("x - 2", "−2"), ("2 - x", "2−"), ("x * 3", "×3"),
        ("x / 5", "/5"), ("1 / x", "1/x"), ("2 / x", "2/·"), ("x ** 3", "^3"), ("2 ** x", "2^·"),
        ("-x", "×-1"), ("x * -2", "×-2"), ("x + -2", "+(-2)"), ("max(x, 0)", "max 0"),
        ("sigmoid(x)", "σ"), ("exp(x)", "exp"), ("x * x", "×"), ("atan2(x, 2)", "atan2 2"),
    ],
)  # fmt: skip
def test_symbols(expression: str, symbol: str) -> None:
    result, variables = evaluate(expression, {"x": 2})
    assert label(examine(result, variables).gates[-1]) == symbol


def test_saving_is_whole_or_not_at_all(tmp_path: Path) -> None:
    x = cr.tensor(2.0)
    target = tmp_path / "graph.svg"
    picture = show(x * x, target)
    assert target.read_text(encoding="utf-8") == picture.svg
    assert (x * x).show(tmp_path / "other.svg").svg == (tmp_path / "other.svg").read_text("utf-8")
    with pytest.raises(cr.errors.RunError, match="graph.svg"):
        picture.save(target / "graph.svg")  # its folder is a file
    broken = Picture(picture.svg + "\ud800")
    with pytest.raises(UnicodeEncodeError):
        broken.save(target)
    assert target.read_text(encoding="utf-8") == picture.svg
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.svg", "other.svg"]


def test_what_jupyter_and_the_prompt_show() -> None:
    x = cr.tensor(2.0)
    picture = show(x * x)
    assert picture._repr_svg_() == picture.svg and picture.svg in picture._repr_html_()
    assert "SVG" in repr(picture) and len(repr(picture)) < 100


def test_a_layout_has_no_crossings_where_none_are_needed() -> None:
    # a binary tree whose leaves come in a mixed order
    vertices = [Vertex(k, 10, 10) for k in range(4)]
    vertices += [Vertex(k, 10, 10, (-5.0, 5.0)) for k in range(4, 7)]
    arrange(vertices, [[], [], [], [], [2, 0], [3, 1], [4, 5]])
    heights = [vertices[k].y for k in (2, 0, 3, 1)]
    assert heights == sorted(heights)
    assert all(b - a >= 20 for a, b in pairwise(heights))


def test_sweeps_undo_crossings_that_the_first_order_has() -> None:
    # gates 3, 4, 5 on sources 0, 1, 2; the output reaches them in an order that crosses
    vertices = [Vertex(k, 10, 10) for k in range(3)]
    vertices += [Vertex(k, 10, 10, (-5.0, 5.0)) for k in range(3, 6)]
    vertices.append(Vertex(6, 10, 10, (-9.0, 0.0, 9.0), free=True))
    arrange(vertices, [[], [], [], [0, 1], [1, 2], [0, 1], [4, 3, 5]])
    y = [v.y for v in vertices]
    assert y[0] < y[1] < y[2] or y[0] > y[1] > y[2]
    assert (y[4] - y[3]) * (y[2] - y[0]) > 0 and (y[4] - y[5]) * (y[2] - y[0]) > 0


def test_inputs_enter_a_free_gate_in_the_order_in_which_they_arrive() -> None:
    vertices = [Vertex(k, 10, 10) for k in range(2)]
    vertices += [Vertex(k, 10, 10, (-5.0, 5.0), free=k == 2) for k in range(2, 5)]
    vertices.append(Vertex(5, 10, 10, (-9.0, 0.0, 9.0)))
    arrange(vertices, [[], [], [1, 0], [0, 1], [0, 1], [2, 3, 4]])
    assert vertices[0].y < vertices[1].y  # as the gates want it whose inputs have an order
    assert vertices[2].ports == (5.0, -5.0)
    assert vertices[3].ports == (-5.0, 5.0)


def test_in_deep_graphs_sources_stand_before_their_first_use() -> None:
    count = 20
    vertices = [Vertex("x", 10, 10)]
    inputs: list[list[int]] = [[]]
    for k in range(count):
        vertices += [Vertex(f"w{k}", 10, 10), Vertex(k, 10, 10, (-5.0, 5.0))]
        inputs += [[], [2 * k, 2 * k + 1]]
    arrange(vertices, inputs)
    assert [v.layer for v in vertices[1::2]] == list(range(count))
    assert [v.layer for v in vertices[2::2]] == list(range(1, count + 1))


def test_values_that_leave_a_view_beside_each_other() -> None:
    """An LSTM's states leave its box side by side; every one is drawn, with an arrow."""
    model = cr.nn.LSTM(2, 3)
    out = model(np.ones((1, 9, 2), np.float32))
    out = out[0] if isinstance(out, tuple) else out
    loss = (out * out).sum()
    views = Views(examine(loss, {}))
    for box in views.root.boxes:
        drawn = ET.fromstring(draw(views, box))
        leaving = sum(i.leaves for i in views.items(box))
        tips = [p for p in drawn.iter(f"{SVG}path") if p.get("class") == "cr-tip"]
        assert len(tips) == leaving >= 1
