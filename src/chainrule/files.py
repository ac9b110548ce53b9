"""Files: written whole or not at all, and nested containers of arrays in one of them.

Nothing read from a file is executed or trusted, and no memory is taken because a header claims it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .core.types import DTYPES
from .errors import ChainruleError, DataError, DTypeError, RunError
from .ops.tensor import Tensor, as_array, constant

AnyPath = str | os.PathLike[str]
Arrays = dict[str, np.ndarray[Any, Any]]
ENTRY, VERSION = "chainrule", 1
CONVERT = "convert it to float32 first (in PyTorch tensor.float())"
LARGEST_HEADER = 100_000_000
"""Bytes that names, shapes and structure may take: the limit of the safetensors format."""


# -- whole or not at all ------------------------------------------------------------------------


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Files that belong together: none takes its place before all are on the disk.

    What stood there before stays if one cannot be written, also when the disk is full, and no
    temporary file is left. Folders on the way are made.

    Raises RunError with the reason.
    """
    ready: dict[Path, Path] = {}
    target = Path()
    try:
        for target, content in contents.items():
            if not target.name:
                raise RunError(f"cannot write {target}: it is a folder, give the name of a file")
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            ready[target] = temporary
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for target, temporary in list(ready.items()):
            os.replace(temporary, target)
            del ready[target]
    except OSError as error:
        raise RunError(
            f"cannot write {target}: {error.strerror or error}; what was there before is untouched"
        ) from error
    finally:
        for temporary in ready.values():
            with suppress(OSError):
                os.unlink(temporary)


def write_text(path: AnyPath, text: str) -> None:
    """A text file in UTF-8, whole or not at all."""
    write_files({Path(path): text.encode()})


# -- arrays by name -----------------------------------------------------------------------------


def pack_arrays(arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file of arrays by name."""
    from safetensors.numpy import save

    whole = {name: np.array(value, order="C") for name, value in arrays.items()}
    content: bytes = save(whole, metadata=dict(metadata))
    if int.from_bytes(content[:8], "little") > LARGEST_HEADER:
        raise DataError(
            f"the names and the structure take more than {LARGEST_HEADER:,} bytes: put numbers "
            "into arrays, or save in several files"
        )
    return content


def read_arrays(path: AnyPath) -> tuple[Arrays, dict[str, str]]:
    """The arrays of a safetensors file by name, and its metadata.

    The header is held against the size of the file before anything is read. float16 arrays come as
    float32. Raises RunError for a file that is missing or damaged, or that holds other dtypes than
    chainrule's.
    """
    from safetensors import SafetensorError, safe_open

    damaged = f"{path} is damaged or no safetensors file"
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise RunError(f"cannot read {path}: it is no file")
        np.empty(status.st_size, np.uint8)  # a file with holes may be larger than all memory
        with safe_open(os.fspath(path), framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise RunError(f"cannot read {path}: there is no such file") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError:
        raise RunError(f"cannot read {path}: it is larger than the memory that is free") from None
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{damaged}: {error!s:.200}") from error
    except (TypeError, AttributeError) as error:  # a dtype that NumPy does not have
        raise RunError(f"cannot read {path}: it holds {error!s:.200}; {CONVERT}") from error
    for name, array in arrays.items():
        if array.dtype == np.float16:
            arrays[name] = array.astype(np.float32)
        elif array.dtype not in DTYPES:
            raise RunError(
                f"cannot read {path}: {name} is {array.dtype}, which is not supported; {CONVERT}"
            )
    return arrays, metadata


# -- files that verify themselves ---------------------------------------------------------------


def seal(arrays: Mapping[str, Any], about: dict[str, Any]) -> bytes:
    """The content of a file of arrays, described by `about`: plain data, kept exactly.

    A safetensors file, which other programs read. All else is JSON in one entry of its metadata
    (several would be written in any order), with the sha256 of it and of all names, shapes, dtypes
    and bytes. The same content always gives the same bytes.
    """
    text = json.dumps(about)
    entry = json.dumps({"about": text, "sha256": _checksum(arrays, text)})
    return pack_arrays(arrays, {ENTRY: entry})


def unseal(path: AnyPath) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the description in a file; RunError if it is missing or a bit is wrong."""
    arrays, metadata = read_arrays(path)
    if ENTRY not in metadata:
        raise RunError(
            f"{path} was not written by chainrule; arrays under PyTorch's names are read by "
            "chainrule.interop.pytorch"
        )
    try:
        sealed = json.loads(metadata[ENTRY])
        text, right = sealed["about"], sealed["sha256"]
        about, found = json.loads(text), _checksum(arrays, text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {error!s:.200}") from error
    except RecursionError as error:
        raise RunError(f"{path} is damaged: it is nested too deep") from error
    if found != right:
        raise RunError(f"{path} is damaged: its checksum is not that of what it holds")
    if not isinstance(about, dict):
        raise RunError(f"{path} is damaged: its description is no object")
    return arrays, about


def _checksum(arrays: Mapping[str, Any], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        value = np.array(arrays[name], order="C", copy=None)
        digest.update(f"\0{name}\0{value.dtype}{value.shape}\0".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# -- containers ---------------------------------------------------------------------------------


def save(path: AnyPath, tree: Any) -> None:
    """Write a nested container of arrays to one file, whole or not at all.

    `tree` is made of dicts (of text or whole numbers as keys), lists, tuples, arrays, Tensors,
    numbers, texts, bools and None; of Modules, optimizers and whatever else has `state()` and
    `load_state`, the state is saved. The file is a safetensors file, which other programs read;
    the structure is JSON in its metadata, with a checksum. Other things are a DTypeError that says
    where they stand. Every number keeps each bit.

    >>> import chainrule as cr, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "training.safetensors")
    >>> model = cr.nn.Linear(2, 1)
    >>> optimizer = cr.optim.Adam(model)
    >>> save(path, {"model": model, "optimizer": optimizer, "epoch": 3, "losses": [0.5, 0.25]})
    >>> load(path)["losses"]
    [0.5, 0.25]
    >>> load(path, like={"model": model, "optimizer": optimizer, "epoch": 0, "losses": []})["epoch"]
    3
    """
    arrays: Arrays = {}
    try:
        content = seal(arrays, {"version": VERSION, "tree": _encode(tree, "", arrays)})
    except RecursionError:
        raise DataError("the container is nested too deep (or holds itself)") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise DataError(f"cannot save this: {error}") from error
    write_files({Path(path): content})


def load(path: AnyPath, like: Any = None) -> Any:
    """What `save` wrote: the same container, with arrays in NumPy and Tensors as constants.

    NumPy's scalars come back as arrays without axes; Modules, optimizers and the like as dicts of
    arrays by name. With `like`, a container of the same build, they come back as themselves: the
    states are loaded into the objects that stand in `like`, the values assigned to its variables,
    and keys, lengths, shapes and dtypes are compared. Nothing changes unless everything fits (lists
    may have any length where `like` has an empty one).

    Raises RunError if the file is missing, damaged, from a later version, or does not fit `like`.

    >>> import chainrule as cr, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "shift.safetensors")
    >>> save(path, {"shift": cr.tensor([1.0, 2.0]), "name": "shift"})
    >>> load(path)
    {'shift': asarray([1., 2.]), 'name': 'shift'}
    """
    arrays, about = unseal(path)
    version = about.get("version")
    if type(version) is not int or version < 1:
        raise RunError(f"{path} holds no container: it was not written by cr.save")
    if version > VERSION:
        raise RunError(
            f"{path} has version {version}, this chainrule reads up to {VERSION}: update it"
        )
    try:
        tree = _decode(about["tree"], arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {error!s:.200}") from error
    except RecursionError as error:
        raise RunError(f"{path} is damaged: it is nested too deep") from error
    if arrays:
        raise RunError(f"{path} is damaged: {min(arrays)!r:.60} stands nowhere in its structure")
    return tree if like is None else _fill(path, tree, like)


def _has_state(value: Any) -> bool:
    return hasattr(type(value), "state") and hasattr(type(value), "load_state")


def _encode(value: Any, path: str, arrays: Arrays) -> Any:
    """The structure as JSON; arrays go into `arrays` under the name of their place."""
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is float:
        return {"float": repr(value)}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        name = path or "value"
        while name in arrays or name == "__metadata__":  # keys may hold dots
            name += "_"
        arrays[name] = as_array(value)
        return {"tensor" if isinstance(value, Tensor) else "array": name}
    inside = f"{path}." if path else ""
    if kind in (list, tuple):
        items = [_encode(item, f"{inside}{k}", arrays) for k, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    if kind is dict:
        for key in value:
            if type(key) not in (str, int):
                raise DTypeError(
                    f"cannot save {path or 'this'}: the key {key!r:.60} is neither text nor a "
                    "whole number"
                )
        return {"dict": [[k, _encode(v, f"{inside}{k}", arrays)] for k, v in value.items()]}
    if _has_state(value):
        return _encode(dict(value.state()), path, arrays)
    raise DTypeError(
        f"cannot save {path or 'this'}: found {kind.__name__}; expected dicts, lists, tuples, "
        "arrays, Tensors, numbers, text, bools, None or something with state()"
    )


def _decode(node: Any, arrays: Arrays) -> Any:
    """What `_encode` was given. Arrays are taken out of `arrays`: each belongs to one place."""
    if isinstance(node, list):
        return [_decode(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    decoders: dict[str, Callable[[Any], Any]] = {
        "array": arrays.pop,
        "tensor": lambda name: constant(arrays.pop(name)),
        "float": float,
        "tuple": lambda items: tuple(_decode(item, arrays) for item in items),
        "dict": lambda items: {key: _decode(item, arrays) for key, item in items},
    }
    return decoders[kind](content)


# -- into what is there -------------------------------------------------------------------------


def _fill(path: AnyPath, tree: Any, like: Any) -> Any:
    """`tree` as a container like `like`, its states loaded into the objects of `like`."""
    todo: list[tuple[Any, Any]] = []

    def fit(found: Any, wanted: Any, place: str) -> Any:
        where, inside = f"{path} does not fit at {place or 'its top'}", f"{place}." * bool(place)
        if _has_state(wanted):
            if type(found) is not dict:
                raise RunError(
                    f"{where}: expected a state of {type(wanted).__name__}, found {_kind(found)}"
                )
            todo.append((wanted, found))
            return wanted
        if isinstance(wanted, (Tensor, np.ndarray, np.generic)):
            if _kind(found) != _kind(wanted):
                raise RunError(f"{where}: expected {_kind(wanted)}, found {_kind(found)}")
            if isinstance(wanted, Tensor) and wanted.is_variable:
                todo.append((_Variable(wanted), found))
                return wanted
            return found
        if type(found) is not type(wanted):
            raise RunError(f"{where}: expected {_kind(wanted)}, found {_kind(found)}")
        if isinstance(wanted, dict):
            if found.keys() != wanted.keys():
                raise RunError(f"{where}: expected the keys {list(wanted)}, found {list(found)}")
            return {k: fit(found[k], v, f"{inside}{k}") for k, v in wanted.items()}
        if isinstance(wanted, (list, tuple)) and len(wanted):
            if len(found) != len(wanted):
                raise RunError(f"{where}: expected {len(wanted)} entries, found {len(found)}")
            pairs = zip(found, wanted, strict=True)
            return type(wanted)([fit(f, w, f"{inside}{k}") for k, (f, w) in enumerate(pairs)])
        return found

    result = fit(tree, like, "")
    before = [(thing, thing.state()) for thing, _ in todo]
    try:
        for thing, state in todo:
            thing.load_state(state)
    except ChainruleError as error:
        for thing, state in before:
            thing.load_state(state)
        raise RunError(f"{path} does not fit: {error}") from error
    return result


@dataclass
class _Variable:
    """A variable that is loaded as Modules are."""

    variable: Tensor

    def state(self) -> Any:
        return self.variable.numpy()

    def load_state(self, state: Any) -> None:
        self.variable.assign(state)


def _kind(value: Any) -> str:
    """What a value is, for comparison and messages: arrays with shape and dtype."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        kind = "Tensor" if isinstance(value, Tensor) else "array"
        return f"{kind} {value.dtype}{list(value.shape)}"
    return type(value).__name__


__all__ = ["load", "save"]
