"""Reading the user's program: how a name gets into a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainrule.explain.lines import Program

TEXT = """\
x = start()
def step(x, w):
    mask = x > 0
    both, other = split(mask), w
    for k in range(3):
        total = both * k
        self.kept = total
    if (n := len(w)) > 2:
        w = w + n
    return (
        self.kept
        * w
    )
def apart(w):
    return w * total
y = x
y += 1
z = lambda: y
table = [0]
table[z], *rest = x, 1
u = table
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "program.py").write_text(TEXT)
    return Program(str(tmp_path / "program.py"))


@pytest.mark.parametrize(
    ("line", "word", "expected"),
    [
        (3, "x", ("x", "", 3)),  # the line itself
        (4, "x", ("x", "mask", 3)),
        (6, "x", ("x", "both", 3)),  # over several assignments
        (12, "x", ("x", "self.kept", 3)),  # a line in the middle of a statement
        (6, "k", ("k", "", 6)),
        (9, "w", ("w", "", 9)),
        (8, "x", None),
        (15, "x", None),  # another function's names are not this one's
        (17, "x", ("x", "y", 16)),
        (21, "x", ("x", "table", 20)),
        (21, "z", None),  # an index is not set
        (99, "x", None),
    ],
)
def test_names_are_followed_back(
    program: Program, line: int, word: str, expected: tuple[str, str, int] | None
) -> None:
    assert program.came(line, [word]) == expected


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = = 1\n")
    for name in (str(tmp_path / "bad.py"), str(tmp_path / "none.py"), "<stdin>", ""):
        assert Program(name).came(1, ["x"]) is None


def test_names_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "circle.py").write_text("while True:\n    a, b = b, a\n    c = a\n")
    assert Program(str(tmp_path / "circle.py")).came(3, ["x"]) is None
