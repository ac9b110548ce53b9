"""Object code on the disk, by a key of what it was made from.

Object code is executed, so nothing is taken from a folder that others may write to, and every entry
is held against its own length and checksum before it is used. What is not right is deleted and made
again. `CHAINRULE_CACHE_DIR` is the folder it stands in (default: the user's cache folder),
`CHAINRULE_CACHE_SIZE` its bound in MiB, `CHAINRULE_CACHE=0` turns it off.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import platformdirs

from ..errors import CompileError, RunError
from ..files import write_files
from .native import host_cpu, host_features, version

MAGIC = b"chainrule code 1"
SIZE = 512
"""The bound in MiB where none is given."""
PREFIX = 16
"""Digits of a key that stand for versions and processor."""
STALE = 3600.0
"""Seconds after which a temporary file belongs to a process that was killed."""

NAME = re.compile(r"[0-9a-f]{64}")
TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{8}")


class Entry(NamedTuple):
    """A file of the cache."""

    path: Path
    size: int
    used: float
    """When it was last written or read, in seconds since the epoch."""
    fits: bool
    """Whether it is for these versions and this processor."""


def enabled() -> bool:
    """Whether CHAINRULE_CACHE leaves the cache on."""
    given = os.environ.get("CHAINRULE_CACHE", "1")
    if given not in ("", "0", "1"):
        raise CompileError(f"CHAINRULE_CACHE must be 0 (off) or 1 (on), received {given!r}")
    return given != "0"


def bound() -> int:
    """Bytes that the cache may take."""
    given = os.environ.get("CHAINRULE_CACHE_SIZE") or str(SIZE)
    if not given.isdecimal() or not given.isascii() or len(given) > 9:
        raise CompileError(
            f"CHAINRULE_CACHE_SIZE must be a whole number of MiB, received {given!r}"
        )
    return int(given) << 20


def folder() -> Path:
    """Where the cache is. It may not be there yet."""
    given = os.environ.get("CHAINRULE_CACHE_DIR")
    return Path(given or platformdirs.user_cache_path("chainrule"), "code")


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    """What code depends on besides its text: versions, processor, how text is made into code."""
    from .. import __version__

    about = f"{__version__} {version()} {host_cpu()} {sorted(host_features().items())}"
    digest = hashlib.sha256(about.encode() + Path(__file__).with_name("native.py").read_bytes())
    return digest.hexdigest()[:PREFIX]


def key_of(*parts: bytes | str) -> str:
    """A name for what was made from these parts, by these versions, for this processor."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(b"%s %d " % (type(part).__name__.encode(), len(content)))
        digest.update(content)
    return _fingerprint() + digest.hexdigest()[PREFIX:]


def get(key: str) -> bytes | None:
    """What was kept under this key; None if nothing is, or nothing that can be trusted."""
    place = _trusted()
    if place is None:
        return None
    path = place / key
    try:
        with open(path, "rb") as file:
            # of our own: the folder may have been exchanged since it was looked at
            content = file.read() if _ours(os.fstat(file.fileno())) else b""
        os.utime(path)  # used just now
    except OSError:
        return None
    found = _unwrap(key, content)
    if found is None:
        with suppress(OSError):
            path.unlink()
    return found


def put(key: str, code: bytes) -> None:
    """Keep code under a key; the least recently used entries go if it gets too much."""
    content = _wrap(key, code)
    place = _trusted()
    if place is None or len(content) > bound():
        return
    try:
        write_files({place / key: content})
    except RunError as error:
        _warn(str(place), getattr(error.__cause__, "strerror", None) or str(error))
        return
    # to look at all entries each time would cost more than to write one
    since = _written.get(place)
    since = None if since is None else since + len(content)
    if since is None or since > bound() // 64:
        _shrink(place)
        since = 0
    _written[place] = since


_written: dict[Path, int] = {}
"""Bytes written to a folder since all its entries were looked at."""


def _wrap(key: str, code: bytes) -> bytes:
    checksum = hashlib.sha256(key.encode() + code).digest()
    return MAGIC + len(code).to_bytes(8, "little") + checksum + code


def _unwrap(key: str, content: bytes) -> bytes | None:
    """The code in an entry, or None if a bit of it is wrong."""
    code = content[len(MAGIC) + 40 :]
    return code if content == _wrap(key, code) else None


def _trusted() -> Path | None:
    """The folder, made if need be; None if it is off, cannot be had, or others may write to it."""
    if not enabled():
        return None
    place = folder()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        status = place.lstat()
    except OSError as error:
        _warn(str(place), error.strerror or str(error))
        return None
    if not stat.S_ISDIR(status.st_mode):
        _warn(str(place), "it is no folder")
    elif not _ours(status):
        _warn(str(place), "it belongs to another user")
    elif os.name == "posix" and status.st_mode & 0o077:
        _warn(str(place), f"others may use it (chmod 700 {place} changes that)")
    else:
        return place
    return None


def _ours(status: os.stat_result) -> bool:
    """Whether it belongs to this user; systems without owners have no others to fear."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


@lru_cache(maxsize=8)
def _warn(place: str, reason: str) -> None:
    """Say once why there is no cache."""
    warnings.warn(
        f"compiled code is not kept in {place}: {reason}; set CHAINRULE_CACHE_DIR to a folder of "
        "yours, or CHAINRULE_CACHE=0",
        stacklevel=2,
    )


def _files(place: Path, names: re.Pattern[str]) -> Iterator[tuple[Path, os.stat_result]]:
    """The files of these names; another process may delete them at any time."""
    with suppress(OSError), os.scandir(place) as found:
        for item in found:
            if names.fullmatch(item.name):
                with suppress(OSError):
                    yield Path(item.path), item.stat(follow_symlinks=False)


def entries() -> list[Entry]:
    """The entries there are, the least recently used first."""
    found = [
        Entry(path, status.st_size, status.st_mtime, path.name.startswith(_fingerprint()))
        for path, status in _files(folder(), NAME)
    ]
    return sorted(found, key=lambda entry: (entry.used, entry.path))


def _shrink(place: Path) -> None:
    """Delete what is too much, and what killed processes left."""
    for path, status in _files(place, TEMPORARY):
        if time.time() - status.st_mtime > STALE:
            with suppress(OSError):
                path.unlink()
    found = entries()
    excess = sum(entry.size for entry in found) - bound()
    for entry in found:
        if excess <= 0:
            break
        with suppress(OSError):
            entry.path.unlink()
        excess -= entry.size


def clear() -> tuple[int, int]:
    """Delete every entry; how many there were, and their bytes."""
    count = size = 0
    for names in (NAME, TEMPORARY):
        for path, status in _files(folder(), names):
            with suppress(FileNotFoundError):
                path.unlink()
                count, size = count + 1, size + status.st_size
    return count, size
