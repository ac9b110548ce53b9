"""A Tensor from a user's own script: `script.py:function`, with values for its arguments.

The script is the user's file, named on the user's command line: it is run, as `python` would run
it, but not as `__main__`.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..ops.tensor import Tensor, tensor

TARGET = re.compile(r"(?P<path>.+\.py)(?::(?P<name>.*))?")
KINDS: dict[Any, str] = {int: "a whole number", bool: "True or False", str: "a word"}
"""Arguments that are passed as they are, by their annotation or default."""


def is_script(target: str) -> bool:
    """Whether a target is a script (with a function) and not an expression.

    >>> is_script("train.py:loss"), is_script("(x + y) * z")
    (True, False)
    """
    return TARGET.fullmatch(target) is not None


def result_of(target: str, values: Mapping[str, str]) -> tuple[Tensor, dict[str, Any]]:
    """The Tensor of `script.py:function`, and the Tensors and arrays by their names.

    The names are those of the function's arguments and local variables, then of the script.
    """
    match = TARGET.fullmatch(target)
    assert match is not None
    path, name = Path(match["path"]), match["name"]
    if not path.is_file():
        raise DataError(f"there is no script {path}")
    with _on_path(path):
        scope = _scope(path)
        known = [k for k, v in scope.items() if _explains(v, scope["__name__"])]
        if not name or name not in scope:
            problem = f"{path} has no {name!r}" if name else f"name a function, as {path}:function"
            close = get_close_matches(name or "", known, 1, 0.5)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            listed = f"; it has {', '.join(known)}" if known else "; it has no functions"
            raise DataError(f"{problem}{hint}{listed}")
        found = scope[name]
        local: dict[str, Any] = {}
        if callable(found) and not isinstance(found, Tensor):
            found, local = _call(found, f"{path}:{name}", path, values)
        elif values:
            raise DataError(f"{path}:{name} is no function: it takes no values")
    if not isinstance(found, Tensor):
        raise DataError(
            f"{path}:{name} gives {_kind(found)}, expected one Tensor: return the value to explain"
            + (
                " (whole numbers as defaults stay whole: write 2.0 for a variable)"
                if type(found) is int
                else ""
            )
        )
    names = {
        k: v for k, v in [*local.items(), *((k, v) for k, v in scope.items() if k not in local)]
        if isinstance(v, (Tensor, np.ndarray)) and not k.startswith("_")
    }  # fmt: skip
    names.setdefault(name, found)
    return found, names


def _explains(value: Any, module: str) -> bool:
    """Whether a thing in a script can be explained: its own functions, its Tensors."""
    own = inspect.isfunction(inspect.unwrap(value)) if callable(value) else False
    return isinstance(value, Tensor) or (own and getattr(value, "__module__", "") == module)


@contextmanager
def _on_path(path: Path) -> Iterator[None]:
    """The folder of a script is where it imports from, as in `python script.py`."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _scope(path: Path) -> dict[str, Any]:
    """Run a script: its global names."""
    name = re.sub(r"\W", "_", path.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        _guarded(lambda: loader.exec_module(module), path)
    finally:
        if before is not None:
            sys.modules[name] = before
        else:
            sys.modules.pop(name, None)
    return vars(module)


def _call(
    function: Any, said: str, path: Path, values: Mapping[str, str]
) -> tuple[Any, dict[str, Any]]:
    """Call a function of a script: what it returns, and its local variables."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise DataError(f"{said} cannot be called: name a function written in Python") from None
    plain = {k: p for k, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    for name in values:
        if name not in plain:
            takes = f"it takes {', '.join(plain)}" if plain else "it takes no values"
            raise DataError(f"{said} has no argument {name!r}; {takes}")
    missing = [k for k, p in plain.items() if p.default is p.empty and k not in values]
    if missing:
        raise DataError(
            f"{said} needs a value for {', '.join(missing)}: give one, as {missing[0]}=1.5"
        )
    given = {k: _argument(k, p, values.get(k)) for k, p in plain.items()}
    positional = [given[k] for k, p in plain.items() if p.kind is not p.KEYWORD_ONLY]
    keyword = {k: given[k] for k, p in plain.items() if p.kind is p.KEYWORD_ONLY}
    inner = inspect.unwrap(function)  # a compiled function keeps no record: run as it is written
    local: dict[str, Any] = {}
    with _locals_of(inner, local):
        result = _guarded(lambda: inner(*positional, **keyword), path)
    # an argument keeps its name; what the function called so later is x′
    later = {k if v is given.get(k, v) else f"{k}′": v for k, v in local.items()}
    return result, {**later, **given}


@contextmanager
def _locals_of(function: Any, found: dict[str, Any]) -> Iterator[None]:
    """Keep the local variables that a function has when it returns."""
    code, before = getattr(function, "__code__", None), sys.getprofile()

    def seen(frame: Any, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code is code:
            found.update(frame.f_locals)

    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(before)


def _argument(name: str, parameter: inspect.Parameter, text: str | None) -> Any:
    """What is passed: numbers and lists become variables, unless the function says otherwise."""
    default = None if parameter.default is parameter.empty else parameter.default
    if text is None:
        return _variable(default) if type(default) in (float, list) else default
    annotation = parameter.annotation
    for kind, words in KINDS.items():
        if annotation in (kind, kind.__name__) or type(default) is kind:
            try:
                found = text if kind is str else ast.literal_eval(text)
            except (ValueError, SyntaxError):
                found = None
            if type(found) is not kind:
                raise DataError(f"the value of {name} must be {words}, received {text!r}")
            return found
    try:
        return _variable(ast.literal_eval(text) if text.strip()[:1] == "[" else float(text))
    except (ValueError, SyntaxError, TypeError):
        raise DataError(
            f"the value of {name} is not a number, nor a list of numbers as [1, 2]: {text!r}"
        ) from None


def _variable(value: Any) -> Tensor:
    return tensor(np.array(value, np.float64))


def _guarded(call: Callable[[], Any], path: Path) -> Any:
    """Run the user's code; what goes wrong there is said in a line, with the place."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        own = os.path.abspath(path)
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__)
            if os.path.abspath(f.filename) == own
        ]  # fmt: skip
        line = lines[-1] if lines else getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        said = " ".join(str(getattr(error, "msg", None) or error).split())
        raise DataError(f"{where} stopped with {type(error).__name__}: {said}") from error


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "nothing (None)"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"
