"""The shape of the house: imports go one way, names are pinned, files stay short."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import chainrule as cr

PACKAGE = Path(cr.__file__).parent
ROOT = PACKAGE.parent.parent

# A room imports only rooms that stand before it. `namespace` and the package itself come after
# the engine; the rooms below use the engine through its rooms.
ROOMS = (
    "errors", "core", "ops", "autodiff", "namespace", "files", "compiler", "jacobians", "nn",
    "optim", "data", "explain", "train", "pages", "interop", "sklearn", "cli",
    "__main__",
)  # fmt: skip

# Imports of a later room, inside a function: (file, room it reaches).
LATER = {
    ("core/node.py", "jacobians"): "Node.local",
    ("ops/tensor.py", "autodiff"): "Tensor.backward",
    ("ops/tensor.py", "explain"): "Tensor.show",
    ("ops/custom.py", "autodiff"): "TensorGate in forward mode is the transpose of its backward",
    ("ops/control.py", "autodiff"): "derivatives of a gate with a graph inside are those of it",
    ("ops/loop.py", "autodiff"): "derivatives of a gate with a graph inside are those of it",
    ("ops/operators.py", ""): "Tensor.__array_namespace__ is the package itself",
    ("train/run.py", ""): "the version of the package",
    ("cli/app.py", ""): "the version of the package",
    ("compiler/cache.py", ""): "the version of the package",
    ("compiler/compile.py", "explain"): "Compiled.explain",
}


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """(room imported, whether at the top level) for each import of chainrule in a file."""
    tree = ast.parse(path.read_text())
    found = []
    package = ["chainrule", *path.relative_to(PACKAGE).parts[:-1]]
    top = set(ast.walk(ast.Module([n for n in tree.body if not _defines(n)], [])))
    for node in ast.walk(tree):
        names: list[list[str]] = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            names = [[*module, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        for name in names:
            if name and name[0] == "chainrule":
                room = name[1] if len(name) > 1 and name[1] in ROOMS else ""
                found.append((room, node in top))
    return found


def _defines(node: ast.stmt) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.ClassDef)) or (
        isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    room = room_of(path)
    if room == "__init__":
        return
    for target, at_top in imports(path):
        if target == room or (target and ROOMS.index(target) < ROOMS.index(room)):
            continue
        if not at_top and (name, target) in LATER:
            continue
        pytest.fail(f"{name} imports {target or 'the package'}, which comes later in the house")


def test_every_exception_is_used() -> None:
    """An entry of LATER that no file needs any more is taken out."""
    used = {(str(p.relative_to(PACKAGE)), room) for p in files() for room, _ in imports(p)}
    assert set(LATER) <= used


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_over_600_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 600


def test_core_is_numpy_only() -> None:
    """The core imports the standard library and NumPy; nothing of the rooms above, nothing else."""
    for path in (PACKAGE / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    assert top in sys.stdlib_module_names or top == "numpy", (path.name, top)


def test_import_is_light() -> None:
    """`import chainrule` loads neither the command line nor the rooms above the engine."""
    code = (
        "import sys, chainrule; "
        "print([m for m in ('typer', 'rich', 'llvmlite', 'safetensors', 'scipy', "
        "'chainrule.nn', 'chainrule.data', 'chainrule.train') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert out.stdout.strip() == "[]"


def test_no_module_level_mutable_state() -> None:
    """Module-level names of the engine hold no empty container that could fill up."""
    for room in ("core", "ops", "autodiff"):
        for path in (PACKAGE / room).glob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                    continue
                empty = isinstance(node.value, (ast.Dict, ast.List, ast.Set)) and not (
                    getattr(node.value, "keys", None) or getattr(node.value, "elts", None)
                )
                name = ast.unparse(node).split("=")[0].split(":")[0].strip()
                assert not empty or name == "NO_PARAMS", (path.name, ast.unparse(node))


def public_names() -> list[str]:
    """The names users see: not private, no module that is not a room."""
    rooms = {"data", "errors", "explain", "linalg", "nn", "optim", "random", "train"}
    return sorted(
        name
        for name in {*vars(cr), *rooms, *cr._LATER_NAMES}
        if not name.startswith("_") and (name in rooms or not inspect.ismodule(getattr(cr, name)))
    )


def test_public_names_are_pinned() -> None:
    """The list in tests/public_names.txt is the public interface; change both together."""
    names = (ROOT / "tests" / "public_names.txt").read_text().split()
    assert public_names() == names


def test_every_public_function_has_a_docstring() -> None:
    for name in public_names():
        thing = getattr(cr, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), name


@pytest.mark.parametrize("room", ["nn", "optim", "data", "train", "explain"])
def test_rooms_say_what_they_export(room: str) -> None:
    module = importlib.import_module(f"chainrule.{room}")
    assert sorted(module.__all__) == list(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name), name
