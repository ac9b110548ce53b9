"""Libraries that only some loaders need, imported when one of those is called."""

import importlib
from typing import Any

from ..errors import UnsupportedError


def library(module: str, package: str, extra: str, what: str) -> Any:
    """The imported module; UnsupportedError says how to install it where it is absent."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedError(
            f"{what} needs {package}, which is not installed: pip install 'chainrule[{extra}]'"
        ) from error
