"""Gradients as formulas: the engine's own backward pass, traced, simplified and written down.

- `backward.py`: the graph of values and gradients, and which of them have names.
- `writing.py`: a graph in matrix form, in index form; `syntax.py`: as text, LaTeX, MathML, Python.
- `deriving.py`: `derive`; `derivation.py`: what it gives, and how that is checked.
- `tidy.py`: rules that make the graph easier to read.
"""

from __future__ import annotations

from .derivation import Derivation, Line
from .deriving import derive

__all__ = ["Derivation", "Line", "derive"]
