"""The playground and reports in a real browser."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainrule.pages import report
from chainrule.train import Options, train_digits

pytest.importorskip("starlette", reason="no starlette: nothing is served")
pytest.importorskip("uvicorn", reason="no uvicorn: nothing is served")


@pytest.fixture
def address() -> Iterator[str]:
    """Where `chainrule play` answers, in a process of its own."""
    yield from answering("play")


def answering(*words: str) -> Iterator[str]:
    """The address that a command tells; it is stopped afterwards."""
    command = [sys.executable, "-u", "-m", "chainrule", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = None
    for line in process.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            break
    assert found is not None
    yield found.group(0)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 130)
    process.stdout.close()


def right(page: Any) -> float:
    return float(re.findall(r"right ([\d.]+) %", page.inner_text("#status"))[0])


def opened_play(opened: Any, address: str) -> Any:
    page = opened.page
    page.goto(address)
    page.wait_for_selector("#net svg")
    return page


def test_training_separates_the_ring(opened: Any, address: str) -> None:
    page = opened_play(opened, address)
    page.click("#fewer")  # no hidden layer: a line
    page.locator("#hint", has_text="boundary is a line").wait_for()
    page.click("#run")
    page.locator("#status", has_text=re.compile(r"step [1-9]\d{2}")).wait_for()
    assert right(page) < 75
    page.click("#run")
    page.click("#more")
    page.locator("#net .plus").first.wait_for()
    for _ in range(2):
        page.locator("#net .plus[data-step='1']").first.click()
    page.locator("#net text", has_text="6 units").wait_for()
    page.click("#run")
    page.locator("#status", has_text=re.compile(r"right (9[5-9]|100)")).wait_for(timeout=60_000)
    page.click("#run")
    assert right(page) > 95
    assert page.locator("#net image").count() == 6
    page.click("#walk")
    page.wait_for_selector("#walking .cr-bar")
    page.focus("#walking .cr-frame")
    page.keyboard.press("ArrowLeft")
    assert "gate 2 of" in page.inner_text("#walking .cr-where")


def test_drawing_points_and_bad_files(opened: Any, address: str, tmp_path: Path) -> None:
    page = opened_play(opened, address)
    page.click("#clear")
    box = page.locator("#plane").bounding_box()
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    page.locator("input[name=class]").nth(1).check()
    page.mouse.click(box["x"] + 200, box["y"] + 200)
    page.locator("#status", has_text="step 0").wait_for()
    page.wait_for_timeout(300)
    page.click("#walk")
    page.wait_for_selector("#walking .cr-bar")
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    page.set_input_files("#file", bad)
    page.locator(".problem", has_text="three columns").wait_for()
    good = tmp_path / "good.csv"
    good.write_text("w,h,k\n" + "".join(f"{i},{i * i},{'ab'[i % 2]}\n" for i in range(20)))
    page.set_input_files("#file", good)
    page.locator("#net text", has_text="w").first.wait_for()
    assert page.locator(".problem").is_hidden()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_digits(Options(hidden=(8,), epochs=2), out=folder, progress=False)
    return report(folder)


def test_a_report_opens_walks_and_prints(opened: Any, digits: Path) -> None:
    page = opened.page
    page.goto(digits.as_uri())
    page.wait_for_selector("#walk .cr-bar")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.click("nav a >> text=The graph")
    page.focus("#walk .cr-frame")
    page.keyboard.press("ArrowLeft")
    assert "backward, gate 2 of" in page.inner_text("#walk .cr-where")
    page.keyboard.press("End")
    page.click('#walk g[data-node="v0"] text.cr-grad')
    assert "Why: the paths of 0.weight" in page.inner_text("#walk .cr-panel")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    rows = "e => e.map((d) => d.querySelectorAll('tr').length)"
    closed = page.eval_on_selector_all("details:not([open])", rows)
    assert len(closed) <= 2 and all(n > 30 for n in closed)  # tables of many numbers
    assert len(page.pdf()) > 20_000
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_page_grows_while_a_run_does(opened: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    page = opened.page
    for address in answering("watch", str(folder)):
        page.goto(address)
        page.locator("#now", has_text="Waiting for a run").wait_for()
        assert page.locator("nav a").all_inner_texts() == ["Now"]
        train_digits(Options(hidden=(8,), epochs=2), out=folder, progress=False)
        page.locator("nav a", has_text="The graph").wait_for()
        page.locator("#walk .cr-bar").wait_for()
        page.focus("#walk .cr-frame")
        page.keyboard.press("ArrowLeft")
        assert "gate 2 of" in page.inner_text("#walk .cr-where")
        train_digits(Options(hidden=(8,), epochs=3, seed=1), out=folder, progress=False)
        page.locator("#curves", has_text="3").wait_for()
        page.wait_for_timeout(1500)
        assert "gate 2 of" in page.inner_text("#walk .cr-where")  # who walks is left in peace
        assert page.evaluate("document.activeElement.className") == "cr-frame"
        page.evaluate("document.activeElement.blur()")
        page.locator("#walk .cr-where", has_text="gate 1 of").wait_for()
        assert "null" not in page.inner_text("main")


def test_without_points_nothing_is_trained(opened: Any, address: str) -> None:
    page = opened_play(opened, address)
    page.click("#clear")
    page.click("#run")
    page.locator(".problem", has_text="There are no points").wait_for()
    assert "Train" in page.inner_text("#run")


def test_quick_clicks_all_count(opened: Any, address: str) -> None:
    page = opened_play(opened, address)
    page.evaluate("for (let k = 0; k < 3; k += 1) document.getElementById('more').click()")
    page.locator("#net text", has_text="4 units").nth(3).wait_for()
    page.click("#run")
    page.evaluate("for (let k = 0; k < 2; k += 1) document.getElementById('fewer').click()")
    page.locator("#net .plus").nth(4).wait_for(state="detached")
    assert page.locator("#net .plus").count() == 4
