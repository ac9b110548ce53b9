"""A page from sections: one file, styled for light, dark and paper, usable without a mouse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ..explain.explorer import POLICY, script, style
from ..explain.picture import escape


@dataclass(frozen=True)
class Section:
    """A part of a page: `html` is its content, made here and escaped; `id` is what links name."""

    id: str
    title: str
    html: str

    def element(self) -> str:
        """The section as an element."""
        return (
            f'<section id="{escape(self.id)}" aria-labelledby="{escape(self.id)}-title">'
            f'<h2 id="{escape(self.id)}-title">{escape(self.title)}</h2>{self.html}</section>'
        )


def page(title: str, subtitle: str, sections: Sequence[Section], extra: str = "") -> str:
    """A whole page. `extra` is the script of a live page, which may talk to where it came from."""
    policy = POLICY + ("; connect-src 'self'" if extra else "")
    links = "".join(f'<a href="#{escape(s.id)}">{escape(s.title)}</a>' for s in sections)
    body = "".join(s.element() for s in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{read('page.css')}{style()}</style></head><body>"
        '<a class="skip" href="#content">Skip to the content</a>'
        f'<header><div><h1>{escape(title)}</h1><p class="lead">{escape(subtitle)}</p></div>'
        f'<nav aria-label="Sections">{links}</nav></header>'
        f'<main id="content">{body}</main>'
        "<footer>Made by chainrule. Everything on this page is in this one file.</footer>"
        f'<script type="module">{script()}{read("page.js")}{extra}</script></body></html>\n'
    )


@cache
def read(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "",
          numbers: bool = True) -> str:  # fmt: skip
    """An HTML table; the first column heads its rows."""
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = ' class="numbers"' if numbers else ""
    return (
        f'<div class="scroll"><table{kind}>{named}<thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def details(summary: str, html: str) -> str:
    """Something that opens."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"
