"""The explorer as a widget for Jupyter and marimo, by anywidget (the extra `notebook`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedError

if TYPE_CHECKING:
    from .explorer import Explorer


def widget(explorer: Explorer) -> Any:
    """An explorer as a widget; setting its `data` to that of another explorer shows that one.

    Raises UnsupportedError where anywidget is not installed.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise UnsupportedError(
            "a widget needs anywidget: pip install 'chainrule[notebook]'; without it the explorer "
            "itself is displayed as a page"
        ) from error
    from .explorer import module, style

    kind = type(
        "ExplorerWidget",
        (anywidget.AnyWidget,),
        {"_esm": module(), "_css": style(), "data": traitlets.Dict().tag(sync=True)},
    )
    return kind(data=explorer.data)
