"""Which executable the tests of the front end run: the reference, unless a test asks for native."""

import importlib

import pytest

from chainrule.compiler import blocking, contraction, executable, kernels, parts, winograd
from tests.compiler.reference import Reference


@pytest.fixture
def reference(monkeypatch):
    """Compiled functions run the forward rules in NumPy: they equal eager to the last bit."""
    module = importlib.import_module("chainrule.compiler.compile")
    monkeypatch.setattr(module, "Executable", Reference)


@pytest.fixture
def as_if_large():
    """As if threads were cheap and sums long: all is packed, blocked, shared and in parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE", "0")
        patch.setattr(executable, "BRIEF", 0)
        patch.setattr(kernels, "LITTLE", 0)
        patch.setattr(parts, "LONG", 32)
        patch.setattr(parts, "PARTS", 2)
        patch.setattr(parts, "SHARE", 2)
        patch.setattr(blocking, "PAGE", 32)
        patch.setattr(blocking, "SMALL", 0)
        patch.setattr(contraction, "SMALL", 0)
        patch.setattr(blocking, "BRIEF", 2)
        patch.setattr(blocking, "LONG", 16)
        patch.setattr(contraction, "INLINE", 0)
        patch.setattr(winograd, "LEAST", 1)
        patch.setattr(winograd, "GAIN", 0)
        patch.setattr(winograd, "FEW", 0)
        yield
