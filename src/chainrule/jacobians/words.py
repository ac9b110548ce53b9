"""The structure of a form in words."""

from __future__ import annotations

from .form import Form


def words(form: Form) -> str:
    """What the form is called."""
    return "zero" if not form.terms else f"sum of {len(form.terms)} terms"
