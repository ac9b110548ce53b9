"""`chainrule cache`: what compiled code is kept on the disk."""

from __future__ import annotations

from typing import Annotated

import typer


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False,
) -> None:
    """Show the compiled code that is kept on the disk, or delete it.

    Code is kept by program, shapes, processor and versions; the least recently used goes first.

    Examples:

    chainrule cache

    chainrule cache --clear
    """
    from ..compiler import cache as code

    if clear:
        count, size = code.clear()
        typer.echo(f"removed {_entries(count)}, {_mebibytes(size)}, from {code.folder()}")
        return
    found = code.entries()
    usable = sum(entry.fits for entry in found)
    bound = f"of at most {code.bound() >> 20:,} MiB (CHAINRULE_CACHE_SIZE)"
    typer.echo(f"folder   {code.folder()}{'' if code.enabled() else ' (off: CHAINRULE_CACHE=0)'}")
    typer.echo(f"entries  {len(found):,}, of which {usable:,} fit this processor and version")
    typer.echo(f"size     {_mebibytes(sum(entry.size for entry in found))} {bound}")


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
