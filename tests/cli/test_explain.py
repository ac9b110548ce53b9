"""`chainrule explain`: walks, paths, reasons and formulas, of expressions and of scripts."""

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

import chainrule as cr
from chainrule.cli.app import run
from chainrule.cli.program import is_script, result_of

SCRIPT = """
import numpy as np
import chainrule as cr
from helper import twice

W = cr.tensor(np.array([[0.1, 0.5], [-0.3, 0.8]]))
table = np.array([1.0, 0.0])
_hidden = cr.tensor(1.0)

def loss(x=[0.2, 0.4], n: int = 2, power=1.5, *, shift: "bool" = False, **more):
    q = W @ x
    h = cr.relu(q - 0.25)
    for _ in range(n - 1):
        h = twice(h)
    return (h * h).sum() if not shift else (h + power).sum()

def cut(v=2.0):
    h = cr.tanh(W)
    return (cr.stop_gradient(h) * v).sum()

@cr.compile
def fast(x):
    y = x * x
    return y + x

def broken(x):
    def inner():
        return 1 / 0
    return inner()

def wrong_shapes():
    return cr.asarray([1.0, 2.0]) + cr.asarray([1.0, 2.0, 3.0])

def leaves():
    raise SystemExit("enough")

def pair():
    return W, W

def nothing():
    pass

def constant():
    return cr.asarray(1.0)

result = (W * W).sum()
number = 3
if __name__ == "__main__":
    raise RuntimeError("a script is not run as a program")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a script, and with a module that it imports."""
    (tmp_path / "my script.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("def twice(h):\n    return h * 2.0\n")
    (tmp_path / "halves.py").write_text("x = 1\nx = y\n")
    (tmp_path / "unreadable.py").write_text("x = 1\nx = = 2\n")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in ("helper",):
            del sys.modules[name]


def ok(capsys, *arguments):
    """What `chainrule explain` prints where it succeeds."""
    status = run(["explain", *arguments])
    out, err = capsys.readouterr()
    assert (status, err) == (0, ""), err
    return out


NEURON = ["1/(1+exp(-(w0*x0+w1*x1+w2)))", "w0=2", "x0=-1", "w1=-3", "x1=-2", "w2=-3"]


# -- expressions ---------------------------------------------------------------------------------


def test_a_walk_is_printed_where_there_is_no_terminal(capsys):
    out = ok(capsys, "(x + y) * z", "x=-2", "y=5", "z=-4", "--walk")
    assert out.startswith("start: x = -2, y = 5, z = -4\n1/4 forward: q = x + y\n")
    assert out.endswith("end: ∂f/∂x = -4, ∂f/∂y = -4, ∂f/∂z = 3\n") and "┃" not in out


def test_the_course_neuron_by_its_paths(capsys):
    out = ok(capsys, *NEURON, "--paths", "w0")
    assert "∂f/∂w0 = -0.1966, from 1 path:" in out and "q = w0 * x0" in out.replace("q1", "q")
    assert ".py" not in out  # no lines of this command itself
    assert "x0=-1" not in out and re.search(r"upstream +local +downstream", out)


def test_why(capsys):
    out = ok(capsys, "relu(x * w) + w", "x=2", "w=-1", "--why", "x")
    assert "∂f/∂x = 0" in out and "it lets no gradient through where q1 is -2" in out
    assert "try: " in out and ".py" not in out


def test_formulas(capsys):
    out = ok(capsys, "x * y", "x=2", "y=3", "--derive")
    assert "∂f/∂x = y" in out


def test_several_at_once_and_a_picture(here, capsys):
    out = ok(
        capsys, "x * y", "x=2", "y=3", "--why", "x", "--paths", "y", "--walk", "--svg", "g.svg"
    )
    order = ["start: ", "∂f/∂y = 2, from", "∂f/∂x = 3: ", "picture written to g.svg"]
    assert [out.index(words) for words in order] == sorted(out.index(words) for words in order)
    assert (here / "g.svg").read_text().startswith("<svg")


# -- scripts -------------------------------------------------------------------------------------


def test_what_is_a_script():
    assert all(map(is_script, ("a.py", "a.py:f", "some where/a.py:f", r"C:\a.py:f")))
    assert not any(map(is_script, ("x * y", "a.pyx", "f(x)", "a.py * 2")))


def test_a_function_with_its_own_names(here, capsys):
    out = ok(capsys, "my script.py:loss", "--walk")
    assert out.startswith("start: W = [[0.1, 0.5], [-0.3, 0.8]], x = [0.2, 0.4]\n")
    assert "q = W @ x" in out and "h = q2 * 2" in out and "my script.py:11  q = W @ x" in out
    assert "∂loss/∂W = " in out.splitlines()[-1]
    assert "┃ gate" in ok(capsys, "my script.py:loss")


def test_values_are_passed_as_the_function_says(here, capsys):
    def value(*pairs):
        return float(result_of("my script.py:loss", dict(p.split("=") for p in pairs))[0])

    small = value("x=[0, 1]", "n=1")
    assert small == pytest.approx(0.25**2 + 0.55**2)
    assert value("x=[0, 1]", "n=3") == pytest.approx(16 * small)
    assert value("x=[0, 1]", "n=1", "shift=True", "power=2") == pytest.approx(0.25 + 0.55 + 4)
    result, names = result_of("my script.py:fast", {"x": "3"})
    assert float(result) == 12 and list(names)[:2] == ["x", "y"]
    assert names["x"].is_variable and "_hidden" not in names
    assert float(result_of("my script.py:result", {})[0]) == pytest.approx(0.99)


def test_entries_of_a_script(here, capsys):
    out = ok(capsys, "my script.py:loss", "--paths", "W[1, 0]")
    assert "∂loss/∂W[1, 0] = 0.016, from 2 paths:" in out and "my script.py:12" in out
    dead = ok(capsys, "my script.py:loss", "--why", "W[0,1]")
    assert "it lets no gradient through where q1[0] is -0.03" in dead
    assert "h = cr.relu(q - 0.25)" in dead
    assert "the largest of 4 entries" in ok(capsys, "my script.py:loss", "--paths", "W")


def test_a_cut_in_a_script_is_found(here, capsys):
    out = ok(capsys, "my script.py:cut", "--why", "W")
    assert "∂cut/∂W = None: no path leads from W to cut" in out
    assert "is the value of h, computed from W, read as a constant" in out
    assert "return (cr.stop_gradient(h) * v).sum()" in out
    assert "nothing was recorded" in ok(capsys, "my script.py:constant", "--why", "W")


def test_nothing_of_a_script_stays(here, capsys):
    modules, path, profile = set(sys.modules), list(sys.path), sys.getprofile()
    ok(capsys, "my script.py:loss")
    run(["explain", "my script.py:broken", "x=1"])
    assert sys.path == path and sys.getprofile() is profile
    # rich loads widths of characters when it first needs them
    assert {m for m in set(sys.modules) - modules if m[:5] != "rich."} <= {"helper"}


MISTAKES = {
    "no script": (["nope.py:f"], "there is no script nope.py"),
    "no function": (["my script.py"], "name a function, as my script.py:function; it has W,"),
    "near": (["my script.py:los"], "has no 'los' (did you mean 'loss'?); it has W,"),
    "not callable": (["my script.py:number"], "gives a value of type int, expected one Tensor"),
    "several": (["my script.py:pair"], "my script.py:pair gives a tuple of 2, expected one Tensor"),
    "nothing": (["my script.py:nothing"], "gives nothing (None), expected one Tensor: return"),
    "no value": (["my script.py:fast"], "fast needs a value for x: give one, as x=1.5"),
    "no argument": (["my script.py:fast", "z=1"], "fast has no argument 'z'; it takes x"),
    "no number": (["my script.py:fast", "x=two"], "the value of x is not a number, nor a list"),
    "no list": (["my script.py:fast", "x=[1,"], "the value of x is not a number, nor a list"),
    "uneven": (["my script.py:fast", "x=[[1],[1,2]]"], "is not a number, nor a list"),
    "not whole": (["my script.py:loss", "n=2.5"], "n must be a whole number, received '2.5'"),
    "not a truth": (["my script.py:loss", "shift=1"], "shift must be True or False, received '1'"),
    "value of a Tensor": (["my script.py:result", "x=1"], "is no function: it takes no values"),
    "error inside": (
        ["my script.py:broken", "x=1"],
        "my script.py:28 stopped with ZeroDivisionError: division",
    ),
    "shapes": (["my script.py:wrong_shapes"], "my script.py:32 stopped with ShapeError: "),
    "exit": (["my script.py:leaves"], "my script.py:35 stopped with SystemExit: enough"),
    "error when run": (["halves.py:f"], "halves.py:2 stopped with NameError: name 'y' is not"),
    "unreadable": (["unreadable.py:f"], "unreadable.py:2 stopped with SyntaxError: invalid syntax"),
    "constant": (["my script.py:constant"], "a constant has no gates to explain"),
    "unknown name": (["x * y", "x=1", "y=2", "--paths", "z"], "there is no 'z' here"),
    "close name": (["xy * 1", "xy=1", "--why", "yx"], "the names are xy"),
    "no entry": (["x * 1", "x=1", "--why", "x[a]"], "name a variable, as W, or an entry of one"),
    "no such entry": (["x * 1", "x=1", "--paths", "x[0]"], "the index (0,) is no entry of a"),
    "misspelt option": (["x * 1", "x=1", "--wlak"], "give values as name=number"),
}


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(here, capsys, arguments, words):
    assert run(["explain", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and words in err, err
    assert err.count("\n") == 1 and "Traceback" not in err


def test_a_name_that_is_missing_after_an_option(capsys):
    assert run(["explain", "x * 1", "x=1", "--paths"]) == 2
    assert "requires an argument" in capsys.readouterr().err


def test_the_help_has_examples(capsys):
    out = re.sub(r"\s+", " ", ok(capsys, "--help"))
    for words in ('chainrule explain "(x + y) * z" x=-2 y=5 z=-4', "train.py:loss --walk",
                  "--paths", "--why", "--derive"):  # fmt: skip
        assert words in out


# -- a terminal ----------------------------------------------------------------------------------


def test_a_walk_in_a_real_terminal():
    """Keys move, q leaves, and the terminal is as before."""
    ours, theirs = pty.openpty()
    environment = os.environ | {
        "PYTHONPATH": str(Path(cr.__file__).parents[1]), "TERM": "xterm", "COLUMNS": "90",
        "LINES": "30",
    }  # fmt: skip
    code = "from chainrule.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "explain", "(x+y)*z", "x=-2", "y=5", "z=-4", "--walk"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    seen = ""

    def until(words):
        nonlocal seen
        while words not in seen:
            assert select.select([ours], [], [], 60)[0], seen
            seen += os.read(ours, 4096).decode(errors="replace")
        seen = seen.split(words, 1)[1]

    try:
        until("\x1b[?1049h")  # the other screen
        until("1/4 forward")
        until("leave")
        os.write(ours, b"\x1b[F")
        until("4/4 backward")
        until("leave")
        os.write(ours, b"g2\r")
        until("2/4 forward")
        until("leave")
        os.write(ours, b"q")
        until("\x1b[?1049l")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(60)
        os.close(ours)


def test_an_argument_keeps_its_name(here, capsys):
    (here / "again.py").write_text(
        "import chainrule as cr\n"
        "def net(x=1.0, w=0.5):\n    x = cr.tanh(x * w)\n    return x\n"
        "def whole(x=2, y=3):\n    return x * y\n"
    )
    out = ok(capsys, "again.py:net", "--why", "x")
    assert "∂x′/∂x = 0.3932: one path x → q → x′" in out
    assert run(["explain", "again.py:whole"]) == 1
    assert "write 2.0 for a variable" in capsys.readouterr().err
