"""Files of arrays that verify themselves: safetensors with a description and its checksum.

Everything besides the arrays is JSON in one entry of the metadata (several would be written in
random order), with the sha256 of it and of all names, shapes, dtypes and bytes. Other programs read
the arrays as they read any safetensors file. The same content always gives the same bytes.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from ..files import _checksum, pack_arrays, read_arrays

Arrays = dict[str, np.ndarray[Any, Any]]
ENTRY = "chainrule"


def seal(arrays: Arrays, about: dict[str, Any]) -> bytes:
    """The content of a file of arrays, described by `about` (plain data, kept exactly)."""
    text = json.dumps(about)
    entry = json.dumps({"about": text, "sha256": _checksum(arrays, text)})
    return pack_arrays(arrays, {ENTRY: entry})


def unseal(file: Path, least: int, most: int) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and the description in a file of `least` to `most` bytes.

    RunError if it is missing or a bit of it is wrong. No more memory is taken than the file has.
    """
    check_size(file, least, most)
    arrays, metadata = read_arrays(file)
    if ENTRY not in metadata:
        raise RunError(f"{file} is no file of a run: its metadata has no {ENTRY!r}")
    try:
        sealed = json.loads(metadata[ENTRY])
        text, right = sealed["about"], sealed["sha256"]
        about, found = json.loads(text), _checksum(arrays, text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged: {error!s:.200}") from error
    except RecursionError as error:
        raise RunError(f"{file} is damaged: it is nested too deep") from error
    if found != right:
        raise RunError(f"{file} is damaged: its checksum is not that of what it holds")
    if not isinstance(about, dict):
        raise RunError(f"{file} is damaged: its description is no object")
    return arrays, about


def check_size(file: Path, least: int, most: int) -> None:
    """RunError unless a file is there and its size within bounds, so that no claim takes memory."""
    try:
        status = file.stat()
    except FileNotFoundError:
        raise RunError(f"{file.parent} has no {file.name}: it is no complete run") from None
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{file} is damaged: it is no file")
    if not least <= status.st_size <= most:
        raise RunError(
            f"{file} is damaged: it has {status.st_size:,} bytes, expected "
            f"{f'{least:,} to ' if least else 'at most '}{most:,}; train again"
        )
