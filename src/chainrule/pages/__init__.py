"""Pages: the report of a run as one HTML file that needs no network."""

from __future__ import annotations

from .page import Section, page
from .report import report, sections

__all__ = ["Section", "page", "report", "sections"]
