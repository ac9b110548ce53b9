"""Files that are either written whole or not at all."""

from ..files import AnyPath, write_files, write_text

__all__ = ["AnyPath", "write_files", "write_text"]
