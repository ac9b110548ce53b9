"""Which executable the tests of the front end run: the reference, unless a test asks for native."""

import importlib

import pytest

from tests.compiler.reference import Reference


@pytest.fixture
def reference(monkeypatch):
    """Compiled functions run the forward rules in NumPy: they equal eager to the last bit."""
    module = importlib.import_module("chainrule.compiler.compile")
    monkeypatch.setattr(module, "Executable", Reference)
