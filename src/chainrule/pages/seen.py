"""What a classifier does, as pictures: confusions, mistakes, templates, the plane of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..explain.heat import colours, data_uri
from ..explain.picture import escape
from ..train.models import example_shape
from ..train.predictions import outputs
from ..train.run import Run

CLASSES = 30
"""A table of confusions has at most so many classes."""
IMAGES, TEMPLATES = 24, 60
GRID = 96
"""Points along a side of the plane."""
PALETTE = np.array([
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (127, 106, 0), (102, 102, 102),
])  # fmt: skip


def confusion(classes: Sequence[str], true: Any, taken: Any) -> str:
    """The table of true classes by what they were taken for, shaded."""
    n = len(classes)
    counts = np.zeros((n, n), np.int64)
    np.add.at(counts, (true, taken), 1)
    shown = list(range(n))
    note = ""
    if n > CLASSES:
        errors = counts.sum(1) - np.diag(counts)
        shown = sorted(int(k) for k in np.argsort(-errors, kind="stable")[:CLASSES])
        note = f'<p class="soft">The {CLASSES} of {n} classes with most mistakes.</p>'
    head = "".join(f'<th scope="col">{escape(classes[k])}</th>' for k in shown)
    rows = []
    for i in shown:
        total = max(int(counts[i].sum()), 1)
        cells = []
        for j in shown:
            count = int(counts[i, j])
            share = count / total
            colour = "0,114,178" if i == j else "213,94,0"
            shade = f' style="background:rgba({colour},{0.08 + 0.6 * share:.2f})"' if count else ""
            cells.append(f"<td{shade}>{count or '·'}</td>")
        rows.append(f'<tr><th scope="row">{escape(classes[i])}</th>{"".join(cells)}</tr>')
    return (
        f'{note}<div class="scroll"><table class="confusion"><caption>True class in the rows, what '
        f"it was taken for in the columns</caption><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def wrong(
    classes: Sequence[str], inputs: Any, true: Any, scores: Any, margins: bool = False
) -> str:
    """The pictures that it is most wrong about, with what it took them for.

    How sure it is: a probability, or (`margins`) how much higher the wrong score is.
    """
    taken = scores.argmax(1)
    places = np.flatnonzero(taken != true)
    if not len(places):
        return '<p class="fine">None of them is wrong.</p>'
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    every = np.arange(len(scores))
    by = scores[every, taken] - scores[every, true] if margins else -p[every, true]
    worst = places[np.argsort(-by[places], kind="stable")][:IMAGES]
    figures = []
    for k in worst:
        picture = _picture(inputs[k])
        if picture is None:
            return ""
        sure = f"by {by[k]:.2f}" if margins else f"{100 * p[k, taken[k]]:.0f} %"
        said = f"{classes[true[k]]}, taken for {classes[taken[k]]} ({sure})"
        figures.append(
            f'<figure><img src="{picture}" alt="{escape(said)}"><b>{escape(classes[true[k]])}</b>'
            f" → {escape(classes[taken[k]])}<br>{sure}</figure>"
        )
    return (
        f"<h3>Most wrong of {len(places):,}</h3><div class='thumbs'>{''.join(figures)}</div>"
    )  # fmt: skip


def _picture(x: Any) -> str | None:
    """One example as an image, if it is one: (h, w), (h, w, 1 or 3), or a square number flat."""
    shape = _image_shape(x.shape)
    if shape is None:
        return None
    pixels = np.asarray(x, np.float64).reshape(shape)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        pixels = (pixels - low) / ((high - low) or 1)
    grey = (255 * pixels).round().astype(np.uint8)
    if grey.ndim == 3 and grey.shape[2] == 1:
        grey = grey[..., 0]
    return data_uri(255 - grey if grey.ndim == 2 else grey)


def _image_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if len(shape) == 3 and shape[2] in (1, 3):
        return shape
    if len(shape) == 2:
        return shape
    side = round(shape[0] ** 0.5) if len(shape) == 1 else 0
    return (side, side) if side >= 6 and side * side == shape[0] else None


def templates(run: Run) -> str | None:
    """The weights of the first layer as pictures of what they look for."""
    named = [(name, np.asarray(p)) for name, p in run.model.named_parameters() if p.ndim > 1]
    if not named or run.encoder is not None or run.description["kind"] == "lstm":
        return None
    name, w = named[0]
    if w.ndim == 4:  # (height, width, depth, units): filters
        pictures = [w[..., k].mean(2) for k in range(w.shape[3])]
        kind = "filters"
    else:
        shape = example_shape(run.description)
        flat = _image_shape(shape) or _image_shape((int(np.prod(shape)),))
        if w.ndim != 2 or flat is None or int(np.prod(flat)) != w.shape[0]:
            return None
        pictures = [w[:, k].reshape(flat) for k in range(w.shape[1])]
        pictures = [p.mean(2) if p.ndim == 3 else p for p in pictures]
        kind = "templates"
    linear = len(named) == 1
    figures = []
    for k, picture in enumerate(pictures[:TEMPLATES]):
        of = run.classes[k] if linear and k < len(run.classes) else f"unit {k}"
        uri = data_uri(colours(picture))
        figures.append(
            f'<figure><img src="{uri}" alt="{kind[:-1]} of {escape(of)}">{escape(of)}</figure>'
        )
    more = f" The first {TEMPLATES} of {len(pictures)}." if len(pictures) > TEMPLATES else ""
    note = (
        "One template a class: a linear classifier can look for one thing in each."
        if linear else f"The weights {escape(name)} of each unit, as pictures."
    )  # fmt: skip
    return (
        f"<p>{note} Red is positive, blue negative.{more}</p>"
        f'<div class="thumbs wide">{"".join(figures)}</div>'
    )


def boundary(run: Run, inputs: Any, true: Any) -> str:
    """The plane of two inputs, coloured by class, with the examples in it."""
    low, high = inputs.min(0), inputs.max(0)
    room = 0.15 * np.where(high > low, high - low, 1)
    xs, ys = (np.linspace(low[k] - room[k], high[k] + room[k], GRID) for k in (0, 1))
    plane = np.stack(np.meshgrid(xs, ys[::-1]), -1).reshape(-1, 2).astype(inputs.dtype)
    scores = outputs(run, plane)
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    p = shifted / shifted.sum(1, keepdims=True)
    colour = PALETTE[np.arange(p.shape[1]) % len(PALETTE)]
    pixels = 255 - (p @ (255 - colour)) * 0.45
    pixels = pixels.reshape(GRID, GRID, 3)
    taken = scores.argmax(1).reshape(GRID, GRID)
    edge = np.zeros((GRID, GRID), bool)  # where the class changes
    edge[:, 1:] |= taken[:, 1:] != taken[:, :-1]
    edge[1:] |= taken[1:] != taken[:-1]
    pixels[edge] *= 0.45
    uri = data_uri(pixels.round().astype(np.uint8))
    side = 400.0
    dots = []
    for (x, y), k in zip(inputs[:600], true[:600], strict=True):
        across = (x - xs[0]) / (xs[-1] - xs[0]) * side
        up = (ys[-1] - y) / (ys[-1] - ys[0]) * side
        red, green, blue = PALETTE[k % len(PALETTE)]
        dots.append(
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="rgb({red},{green},{blue})" '
            'stroke="#fff"/>'
        )
    right = float((outputs(run, inputs).argmax(1) == true).mean()) if len(true) else 0.0
    swatches = (
        f'<span style="color:rgb({",".join(map(str, PALETTE[k % len(PALETTE)]))})">●</span> '
        f"{escape(name)}"
        for k, name in enumerate(run.classes)
    )
    names = run.encoder.features if run.encoder is not None else ("the first input", "the second")
    return (
        f"<p>The class at every point of the plane; {100 * right:.0f} % of the dots (the test "
        f"part) lie in their own colour. Across: {escape(names[0])}, up: {escape(names[1])}.</p>"
        f"<p>{' &nbsp; '.join(swatches)}</p>"
        f'<svg class="boundary" viewBox="0 0 {side:g} {side:g}" role="img"><title>Decision '
        f'boundary</title><image href="{uri}" width="{side:g}" height="{side:g}" '
        f'preserveAspectRatio="none"/>{"".join(dots)}</svg>'
    )
