"""Charts: round ticks, every series drawn and named, numbers that are no numbers left out."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.pages.charts import POINTS, Series, chart, network, ticks
from tests.pages.checking import checked


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_around(low: float, span: float) -> None:
    high = low + span
    found = ticks(low, high)
    assert 2 <= len(found) <= 9
    assert found[0] <= low + 1e-6 * span and found[-1] >= high - 1e-6 * span
    steps = np.diff(found)
    assert np.allclose(steps, steps[0], rtol=1e-3)


def paths(html: str) -> list[str]:
    return re.findall(r'<path class="s" d="([^"]+)"', html)


def test_lines_have_names_and_numbers() -> None:
    x = [1.0, 2.0, 3.0]
    html = chart("Loss", [Series("train", x, [3, 2, 1]), Series("<b>", x, [1, 1, 1])], "epoch")
    page = checked(html)
    assert len(paths(html)) == 2
    shown = " ".join(page.text)
    assert "train" in shown and "<b>" in shown and "epoch" in shown
    assert "train from 3 to 1" in shown


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("y", [
    [1.0], [0.0, 0.0], [math.nan, 1.0, math.inf], [1e-30, 1e30], [-1.0, -2.0], [5.0] * 3,
])  # fmt: skip
def test_odd_numbers(log: bool, y: list[float]) -> None:
    html = chart("odd", [Series("s", list(range(len(y))), y)], "x", log=log)
    checked(html)
    for path in paths(html):
        numbers = [float(v) for v in re.findall(r"-?[\d.]+", path)]
        assert all(0 <= v <= 480 for v in numbers)


def test_nothing_to_draw() -> None:
    assert "nothing to draw" in chart("none", [Series("s", [1.0], [math.nan])], "x")
    assert "nothing to draw" in chart("none", [], "x")


def test_long_lines_are_thinned_out() -> None:
    x = [float(k) for k in range(100_000)]
    html = chart("long", [Series("s", x, x)], "x")
    assert len(html) < 60_000 and paths(html)[0].count("L") <= POINTS + 2


def test_dots() -> None:
    html = chart("dots", [Series("s", [0.0, 1.0], [0.0, 2.0])], "x", dots=True)
    assert html.count("<circle") == 2


def test_networks_of_any_size() -> None:
    small = network([("in", 2), ("hidden", 3), ("out", 1)], [np.ones((2, 3)), -np.ones((3, 1))])
    checked(small)
    assert small.count("<circle") == 6 and small.count('class="edge"') == 9
    large = network([("in", 784), ("out", 10)], [np.zeros((784, 10))])
    checked(large)
    assert "⋮" in large and large.count("<circle") == 21 and "784" in large
