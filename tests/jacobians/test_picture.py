"""Pictures: their elements are where the entries of the Jacobian are, and they are sound SVG."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import chainrule as cr
from chainrule.jacobians.picture import ASPECT, svg
from tests.jacobians.test_words import CASES, V, W, X, some

WIDTH = 320
MOVE = re.compile(r"M[^M]*")
NAME = "{http://www.w3.org/2000/svg}"


def parsed(J):
    text = svg(J, WIDTH)
    assert len(text) <= 40_000
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    return ET.fromstring(text)


def shapes(root, kind):
    """The corners of each shape of a kind, as (row, column) in entries."""
    frame = root.find(f"{NAME}rect").attrib
    x0, y0, wide, high = (float(frame[k]) for k in ("x", "y", "width", "height"))
    m, n = (int(k.replace(",", "")) for k in re.findall(r"[\d,]+", root[0].text)[:2])
    found = []
    for path in root.iter(f"{NAME}path"):
        if path.attrib["class"] != kind:
            continue
        for shape in MOVE.findall(path.attrib["d"]):
            numbers = [float(k) for k in re.findall(r"-?[\d.]+", shape)]
            if "h" in shape:
                x, y, across, down, _ = numbers
                points = [(x, y), (x + across, y + down)]
            else:
                points = list(zip(numbers[::2], numbers[1::2], strict=True))
            found.append([((y - y0) * m / high, (x - x0) * n / wide) for x, y in points])
    return found


def drawn(root, shape):
    """Which entries the lines and blocks of a picture cover."""
    cells = np.zeros(shape, bool)
    for kind in ("block", "low-rank"):
        for (r, c), (r2, c2) in shapes(root, kind):
            cells[round(r) : round(r2), round(c) : round(c2)] = True
    for (r, c), (r2, c2) in shapes(root, "diagonal"):
        count = max(round(abs(r2 - r)), round(abs(c2 - c)))
        for k in (np.arange(count) + 0.5) / count:
            cells[int(r + k * (r2 - r)), int(c + k * (c2 - c))] = True
    return cells


EXACT = {
    "relu": (cr.relu, X),
    "linear by x": (lambda x: x @ W, X),
    "linear by W": (lambda w: X @ w, W),
    "softmax of a batch": (lambda x: cr.softmax(x, axis=-1), X),
    "softmax of columns": (lambda x: cr.softmax(x, axis=0), X),
    "flip": (cr.flip, V),
    "roll": (lambda x: cr.roll(x, 2), V),
    "slice": (lambda x: x[2:5], V),
    "sort": (lambda x: cr.sort(x, axis=1), X),
    "central differences": (lambda x: cr.pad(x, 1)[2:] - cr.pad(x, 1)[:-2], V),
    "convolution": (lambda x: cr.nn.conv1d(x, some(3, 1, 1)), some(1, 9, 1)),
    "convolution, padded": (lambda x: cr.nn.conv1d(x, some(3, 1, 1), padding=1), some(1, 9, 1)),
    "gram": (lambda x: x.T @ x, X),
    "outer": (lambda x: x[:, None] * x[None, :], V),
    "sum": (lambda x: x.sum(axis=0), X),
    "concat": (lambda x: cr.concat([x, cr.exp(x)]), V),
    "dense": (lambda x: W.T @ x, V[:4]),
}


@pytest.mark.parametrize(("function", "x"), EXACT.values(), ids=EXACT.keys())
def test_what_is_drawn_is_what_can_be_nonzero(function, x):
    J = cr.jacobian(function)(x)
    if function is cr.relu:  # one that is off is in the pattern all the same
        x = np.abs(x)
    pattern = np.asarray(cr.jacobian(function)(x).jacobian_form()) != 0
    assert np.array_equal(drawn(parsed(J), J.shape), pattern)


def some_large(*shape):
    return np.zeros(shape, np.float32)


def test_one_line_for_409_600_by_409_600():
    root = parsed(cr.jacobian(cr.relu)(some_large(100, 4096)))
    assert root[0].text == "Jacobian 409,600×409,600: diagonal"
    assert "410 kB; dense 671 GB" in root[1].text
    ((start, end),) = shapes(root, "diagonal")
    assert np.allclose(start, 0)
    assert np.allclose(end, 409_600)


def test_blocks_are_squares_until_they_are_many():
    few = parsed(cr.jacobian(lambda x: cr.softmax(x, axis=-1))(some(6, 5)))
    assert len(shapes(few, "low-rank")) == 6
    assert np.allclose(shapes(few, "low-rank")[2], [(10, 10), (15, 15)], atol=0.05)
    many = parsed(cr.jacobian(lambda x: cr.softmax(x, axis=-1))(some(128, 10)))
    assert len(shapes(many, "low-rank")) == 1
    assert "128 blocks 10×10, drawn as a strip" in many[1].text


def test_pictures_of_large_layers_stay_small():
    kernel = some(3, 3, 3, 8)
    for function, x in (
        (lambda x: cr.nn.conv2d(x, kernel, padding=1), some(8, 32, 32, 3)),
        (lambda x: cr.nn.max_pool2d(x, 2), some(8, 32, 32, 3)),
        (lambda x: cr.einsum("abcd,de->ebca", x, W), some(9, 10, 11, 4)),
        (cr.sort, some(2000)),
    ):
        assert parsed(cr.jacobian(function)(x)).find(f"{NAME}path") is not None


def test_a_triangle_has_three_corners():
    root = parsed(cr.jacobian(lambda x: cr.cumulative_sum(x, axis=0))(some(100_000)))
    (corners,) = shapes(root, "block")
    assert np.allclose(corners, [(0, 0), (100_000, 0), (100_000, 100_000)])


def test_a_low_rank_part_says_its_rank():
    root = parsed(cr.jacobian(cr.softmax)(some(1000)))
    assert "rank 1" in [t.text for t in root.iter(f"{NAME}text")]
    assert len(shapes(root, "low-rank")) == len(shapes(root, "diagonal")) == 1


def test_a_long_side_is_drawn_shorter_and_the_picture_says_so():
    root = parsed(cr.jacobian(lambda x: x.sum(axis=1))(some(3, 100)))
    frame = root.find(f"{NAME}rect").attrib
    assert float(frame["width"]) / float(frame["height"]) == pytest.approx(ASPECT, abs=0.01)
    assert "not to scale" in root[1].text
    assert "not to scale" not in parsed(cr.jacobian(cr.exp)(V))[1].text


@pytest.mark.parametrize(("function", "x"), [c[1:3] for c in CASES], ids=[c[0] for c in CASES])
def test_every_picture_has_a_title_a_caption_and_lies_in_its_frame(function, x):
    J = cr.jacobian(function)(x)
    root = parsed(J)
    assert [root[0].tag, root[1].tag] == [f"{NAME}title", f"{NAME}desc"]
    m, n = J.shape
    assert root[0].text == f"Jacobian {m:,}×{n:,}: {J.structure}"
    captions = " ".join(t.text for t in root.iter(f"{NAME}text") if t.text[:4] != "rank")
    assert J.structure in captions
    for kind in ("block", "low-rank", "diagonal"):
        for corners in shapes(root, kind):
            for r, c in corners:
                assert -0.05 * m <= r <= 1.05 * m
                assert -0.05 * n <= c <= 1.05 * n
    assert (J.structure == "zero") == (root.find(f"{NAME}path") is None)
