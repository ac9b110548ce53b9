"""The page to walk through a graph, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.explain import explain, explore, explorer
from chainrule.explain.explorer import module, style


@pytest.fixture
def neuron(opened: Any, tmp_path: Path) -> Any:
    values = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3}
    explorer(explain("1/(1+exp(-(w0*x0+w1*x1+w2)))", **values)).save(tmp_path / "page.html")
    return load(opened, tmp_path / "page.html")


def load(opened: Any, path: Path) -> Any:
    opened.page.goto(path.as_uri())
    opened.page.wait_for_selector(".cr-ready .cr-bar")
    return opened.page


def where(page: Any) -> str:
    return str(page.inner_text(".cr-where"))


def visible(page: Any, kind: str) -> list[str]:
    """The texts of a kind that can be seen in the picture."""
    script = f"""() => [...document.querySelectorAll('.cr-pane text.{kind}')]
        .filter(t => getComputedStyle(t).visibility === 'visible').map(t => t.textContent)"""
    found = page.evaluate(script)
    return [t for t in found if t not in ("value", "gradient of f")]


def test_walk_forward_and_back(neuron: Any) -> None:
    page = neuron
    page.focus(".cr-frame")
    page.keyboard.press("Home")
    assert where(page) == "start"
    assert sorted(visible(page, "cr-value")) == sorted(["2.00", "-1.00", "-3.00", "-2.00", "-3.00"])
    assert visible(page, "cr-grad") == []
    page.keyboard.press("ArrowRight")
    assert where(page) == "forward, gate 1 of 8"
    assert page.inner_text(".cr-panel h3") == "q1 = w0 * x0"
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    assert where(page) == "forward, gate 8 of 8" and visible(page, "cr-grad") == ["1.00"]
    page.keyboard.press("ArrowRight")
    assert where(page) == "backward, gate 8 of 8"
    assert "downstream = upstream × local" in page.inner_text(".cr-panel")
    assert sorted(visible(page, "cr-grad")) == sorted(["1.00", "-0.53"])
    page.keyboard.press("ArrowLeft")
    assert visible(page, "cr-grad") == ["1.00"]
    page.keyboard.press("End")
    assert where(page) == "backward, gate 1 of 8" and len(visible(page, "cr-grad")) == 13


def test_slider_buttons_and_play(neuron: Any) -> None:
    page = neuron
    page.locator("input[type=range]").fill("3")
    assert where(page) == "forward, gate 3 of 8"
    page.click("[data-go=ArrowLeft]")
    assert where(page) == "forward, gate 2 of 8"
    page.click("[data-go=play]")
    page.locator(".cr-where", has_text="gate 3").wait_for()
    page.click("[data-go=play]")
    assert page.inner_text(".cr-play") == "▶ Play"


def test_a_click_on_a_gradient_shows_its_paths(neuron: Any) -> None:
    page = neuron
    page.click('g[data-node="v0"] text.cr-grad')
    panel = page.inner_text(".cr-panel")
    assert "Why: the paths of w0" in panel and "w0 → q1 → " in panel
    assert page.inner_text(".cr-paths tfoot td") == "-0.1966"
    page.click('g[data-node="g4"]')
    assert page.inner_text(".cr-panel h3") == "q5 = -q4"
    page.click(".cr-panel .cr-link >> nth=0")
    assert page.inner_text(".cr-panel h3") == "q4 = q3 + w2"


def network(tmp_path: Path, depth: int) -> Path:
    class Block(nn.Module):
        def __init__(self) -> None:
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Any, training: bool = False) -> Any:
            return nn.relu(x + self.second(nn.relu(self.first(x))))

    model = nn.Sequential(*[Block() for _ in range(depth)], nn.Linear(6, 2), seed=0)
    x = cr.tensor(np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32))
    loss = nn.softmax_cross_entropy(model(x), np.array([0, 1, 1]))
    explore(loss, tmp_path / "net.html", names={"x": x, "loss": loss})
    return tmp_path / "net.html"


def test_modules_open_and_close(opened: Any, tmp_path: Path) -> None:
    page = load(opened, network(tmp_path, 5))
    box = page.locator("g[data-box]").first
    assert "0" in (box.text_content() or "")
    box.locator(".cr-gate").click()
    assert page.inner_text(".cr-way [aria-current]") == "0"
    page.locator("g[data-box]").first.press("Enter")
    assert page.inner_text(".cr-way [aria-current]") == "first"
    page.keyboard.press("Escape")
    assert page.inner_text(".cr-way [aria-current]") == "0"
    page.click(".cr-way button")
    assert page.locator(".cr-way [aria-current]").count() == 0
    page.focus(".cr-frame")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")  # the walk goes into the boxes
    assert page.inner_text(".cr-way [aria-current]") == "first"


def test_two_thousand_gates_open_at_once(opened: Any, tmp_path: Path) -> None:
    path = network(tmp_path, 220)
    page = load(opened, path)
    assert where(page).startswith("backward, gate 1 of ")
    assert int(where(page).split()[-1]) > 1900
    count = page.locator("g[data-node], g[data-box]").count()
    assert 3 < count < 100
    page.focus(".cr-frame")
    page.keyboard.press("ArrowLeft")
    assert "gate 2 of" in where(page)


def test_on_paper_all_gates_are_listed(neuron: Any) -> None:
    page = neuron
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".cr-list tbody tr").count() == 8
    assert not page.locator(".cr-bar").is_visible()
    assert page.pdf()[:4] == b"%PDF"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".cr-list").count() == 0


def test_names_cannot_put_markup_into_the_page(opened: Any, tmp_path: Path) -> None:
    x = cr.Parameter(2.0, name="<img src=x onerror=alert(1)>")
    y = cr.tensor(1.0)
    f = x * y
    explore(f, tmp_path / "bad.html", names={"</script><b>y": y})
    page = load(opened, tmp_path / "bad.html")
    page.click('g[data-node="v0"]')
    assert page.locator(".cr-panel img, .cr-panel b").count() == 0
    assert "<img" in page.inner_text(".cr-panel h3")


def test_dark_and_narrow(browser: Any, neuron: Any) -> None:
    page = neuron
    page.emulate_media(color_scheme="dark")
    colour = page.evaluate("getComputedStyle(document.querySelector('.cr-frame')).backgroundColor")
    assert colour == "rgb(13, 17, 23)"
    page.set_viewport_size({"width": 400, "height": 800})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 400


def test_formulas_are_below(neuron: Any) -> None:
    assert neuron.locator(".cr-formulas math").first.is_hidden()
    neuron.click(".cr-formulas summary")
    assert neuron.locator(".cr-formulas math").count() == 9
    assert "Gradients" in neuron.inner_text(".cr-formulas")


def test_the_module_has_the_interface_of_anywidget(opened: Any, tmp_path: Path) -> None:
    first, second = (explorer(explain(f"x * {k}", x=2.0)) for k in (3, 5))
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><style>{style()}</style><div id=here></div>")
    opened.page.goto(page.as_uri())
    opened.page.evaluate(
        """async ([code, first, second]) => {
          const url = "data:text/javascript;base64," +
            btoa(String.fromCharCode(...new TextEncoder().encode(code)));
          const widget = (await import(url)).default;
          let data = first, changed = null;
          const model = { get: () => data, on: (name, f) => { changed = f; } };
          const end = widget.render({ model, el: document.getElementById("here") });
          window.change = () => { data = second; changed(); };
          window.end = end;
        }""",
        [module(), first.data, second.data],
    )
    texts = "[...document.querySelectorAll('#here text')].map(t => t.textContent)"
    assert "6" in opened.page.evaluate(texts)
    opened.page.evaluate("window.change()")
    assert "10" in opened.page.evaluate(texts) and "6" not in opened.page.evaluate(texts)
    assert opened.page.locator(".cr-bar").count() == 1
    opened.page.evaluate("window.end()")
    assert opened.page.locator(".cr-bar").count() == 0


def test_a_page_in_a_notebook_walks(opened: Any, tmp_path: Path) -> None:
    shown = explorer(explain("x * y + x", x=2.0, y=3.0))
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><body>{shown._repr_html_()}</body>")
    opened.page.goto(page.as_uri())
    frame = opened.page.frame_locator("iframe")
    frame.locator(".cr-ready .cr-bar").wait_for()
    frame.locator("[data-go=ArrowLeft]").click()
    assert "gate 2 of 2" in frame.locator(".cr-where").inner_text()


def test_of_what_the_gradients_are(opened: Any, tmp_path: Path) -> None:
    x = cr.tensor(np.arange(3.0))
    explore(x * 2.0, tmp_path / "page.html", names={"x": x})
    page = load(opened, tmp_path / "page.html")
    assert "of the sum of the 3 entries of f" in page.inner_text(".cr-panel")
