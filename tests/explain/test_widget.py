"""The explorer as a widget, with and without the library for it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from chainrule.errors import UnsupportedError
from chainrule.explain import explain, explorer


def made(k: int) -> Any:
    return explorer(explain(f"x * {k}", x=2.0))


def test_the_widget() -> None:
    pytest.importorskip("anywidget", reason="no anywidget: there are no widgets for notebooks")
    widget = made(3).widget()
    assert widget.data == made(3).data
    assert "export default" in widget._esm and ".cr-frame" in widget._css
    widget.data = made(5).data
    assert widget.data["gates"][0]["expression"] == "x * 5"


def test_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    class Base:
        def __init__(self, data: Any) -> None:
            self.data = data

    class Dict:
        def tag(self, sync: bool) -> SimpleNamespace:
            return SimpleNamespace(sync=sync)

    for name, members in {"anywidget": {"AnyWidget": Base}, "traitlets": {"Dict": Dict}}.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    widget = made(3).widget()
    assert isinstance(widget, Base) and widget.data["gates"][0]["expression"] == "x * 3"
    assert "export default" in widget._esm and ".cr-frame" in widget._css and type(widget).data.sync


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'chainrule\[notebook\]'"):
        made(3).widget()
