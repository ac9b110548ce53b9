"""Gradients as formulas: the engine's own backward pass, traced, simplified and written down.

- `backward.py`: the graph of values and gradients, and which of them have names.
- `writing.py`: a graph in matrix form, in index form; `syntax.py`: as text, LaTeX, MathML, Python.
- `derivation.py`: `derive`, and what it gives.
"""

from __future__ import annotations

from .derivation import Derivation, Line, derive

__all__ = ["Derivation", "Line", "derive"]
