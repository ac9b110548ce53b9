"""A real browser for pages: Chromium, driven by playwright. Without one, these tests are skipped.

The browser is the one that CHAINRULE_BROWSER names, or `chromium` or `google-chrome` on the path.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

PLACES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    return os.environ.get("CHAINRULE_BROWSER") or next(
        filter(None, map(shutil.which, PLACES)), None
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pages are not opened in a browser"
    )
    path = find()
    if path is None:
        pytest.skip("no Chromium here: pages are not opened in a browser")
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page with what it said and asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text))
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", lambda r: self.requests.append(r.url))


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """A fresh page; afterwards it must have had no error and no request to a network."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    result = Opened(context.new_page())
    yield result
    context.close()
    assert result.errors == []
    away = [u for u in result.requests if not u.startswith(("file:", "data:", "blob:",
            "http://127.0.0.1", "ws://127.0.0.1"))]  # fmt: skip
    assert away == []
