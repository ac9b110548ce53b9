"""What every page must be: well-formed, of one file, named and described."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "link", "hr", "image", "path", "circle", "rect"}


class Checked(HTMLParser):
    """A page that was read through; `problems` is empty for one that is well made."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.problems: list[str] = []
        self.headings: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        self.problems += [f"never closed: {tag}" for tag in self.open]
        self.problems += [f"no target: {a}" for a in self.links if a[1:] not in self.ids]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if "id" in found:
            if found["id"] in self.ids:
                self.problems.append(f"id twice: {found['id']}")
            self.ids.add(str(found["id"]))
        for name in ("src", "href"):
            value = found.get(name) or ""
            if value.startswith("#"):
                self.links.append(value)
            elif value and not value.startswith("data:"):
                self.problems.append(f"outside of the page: {value[:60]}")
        if tag == "img" and not found.get("alt"):
            self.problems.append("an image without words")
        if tag == "svg" and found.get("role") != "img":
            self.problems.append("a picture without a role")
        if any(name.startswith("on") for name in found):
            self.problems.append(f"a script in an attribute of {tag}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"closes {tag}, open are {self.open[-3:]}")
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(text: str) -> Checked:
    found = Checked(text)
    assert found.problems == []
    return found
