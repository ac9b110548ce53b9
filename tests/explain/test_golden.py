"""Pictures and walks of the course's examples, kept as files and rendered anew.

`python -m tests.explain.test_golden` writes them; look at what changed before committing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.explain import Explanation, examine, explain, rails, show, walk
from chainrule.explain.derive import derive

GOLDEN = Path(__file__).parent / "golden"
NEURON = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3}


def g1() -> Explanation:
    return explain("(x + y) * z", x=-2, y=5, z=-4)


def g2() -> Explanation:
    return explain("1/(1+exp(-(w0*x0+w1*x1+w2)))", **NEURON)


def g2_collapsed() -> Explanation:
    return explain("sigmoid(w0*x0+w1*x1+w2)", **NEURON)


def j4() -> Explanation:
    W = cr.tensor(np.array([[0.1, 0.5], [-0.3, 0.8]]))
    x = cr.tensor(np.array([0.2, 0.4]))
    q = W @ x
    f = (q * q).sum()
    return examine(f, {"W": W, "x": x, "q": q, "f": f})


def j7() -> Explanation:
    u, W = cr.tensor(np.array([1.0, -2.0])), cr.tensor(np.array([[1.0, 0.5], [0.25, -1.0]]))
    x, b = cr.tensor(np.array([0.5, -1.0])), cr.tensor(np.array([0.25, 0.5]))
    z = W @ x + b
    h = cr.tanh(z)
    s = u @ h
    return examine(s, {"u": u, "W": W, "x": x, "b": b, "z": z, "h": h, "s": s})


CASES: dict[str, Callable[[], Explanation]] = {
    "g1": g1, "g2": g2, "g2_collapsed": g2_collapsed, "j4": j4, "j7": j7,
}  # fmt: skip


def rendered(name: str) -> dict[str, str]:
    """The files of one example by their names."""
    explanation = CASES[name]()
    steps = [
        "\n".join(line for line in str(step).splitlines() if ".py:" not in line)
        for step in walk(explanation)
    ]
    return {
        f"{name}.svg": show(explanation).svg + "\n",
        f"{name}.txt": "\n".join([rails(explanation), "", *steps]) + "\n",
        f"{name}_formulas.txt": f"{derive(explanation)}\n",
    }


@pytest.mark.parametrize("name", CASES)
def test_files_are_as_rendered(name: str) -> None:
    for file, text in rendered(name).items():
        assert (GOLDEN / file).read_text(encoding="utf-8") == text, file


def numbers(name: str) -> dict[str, float]:
    return {v.name: float(v.gradient) for v in CASES[name]().variables}


def test_the_course_has_these_numbers() -> None:
    """G1, G2, J4 and J7 by the numbers and formulas that stand in the notes, not by our own."""
    assert numbers("g1") == {"x": -4, "y": -4, "z": 3}
    expected = {"w0": -0.20, "x0": 0.39, "w1": -0.39, "x1": -0.59, "w2": 0.20}
    for name in ("g2", "g2_collapsed"):
        found = numbers(name)
        assert {k: round(v, 2) for k, v in found.items()} == expected
    gradients = {v.name: v.gradient for v in j4().variables}
    assert np.allclose(gradients["W"], [[0.088, 0.176], [0.104, 0.208]], rtol=1e-12)
    assert np.allclose(gradients["x"], [-0.112, 0.636], rtol=1e-12)
    explanation = j7()
    value = {v.name: v.value for v in explanation.variables}
    found7 = {v.name: v.gradient for v in explanation.variables}
    delta = value["u"] * (1 - np.tanh(value["W"] @ value["x"] + value["b"]) ** 2)
    assert np.allclose(found7["b"], delta) and np.allclose(found7["x"], value["W"].T @ delta)
    assert np.allclose(found7["W"], np.outer(delta, value["x"]))


if __name__ == "__main__":
    for case in CASES:
        for file, text in rendered(case).items():
            (GOLDEN / file).write_text(text, encoding="utf-8")
