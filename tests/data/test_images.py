"""Folders of pictures: what is read, and what is refused."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest

from chainrule.data import image_folder
from chainrule.errors import DataError, UnsupportedError
from tests.data.test_loaders import refuses

Image = pytest.importorskip("PIL.Image", reason="image folders need Pillow")
RNG = np.random.default_rng(0)
LOSSLESS = ("PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")


def encoded(pixels, kind="PNG", mode=None, **options):
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def put(tmp_path):
    def put(**folders):
        for folder, files in folders.items():
            (tmp_path / folder).mkdir()
            for name, content in files.items():
                (tmp_path / folder / name).write_bytes(content)
        return tmp_path

    return put


def test_a_class_a_folder_in_the_order_of_names(put):
    x = RNG.integers(256, size=(3, 4, 5, 3), dtype=np.uint8)
    a, b, c = map(encoded, x)
    path = put(dog={"2.png": b, "1.png": a, ".hidden": b"?"}, cat={"1.png": c}, **{".git": {}})
    (path / "readme.txt").write_text("not a folder")
    data = image_folder(path)
    assert (data.classes, data.name) == (("cat", "dog"), path.name)
    assert np.array_equal(data.inputs, x[[2, 0, 1]]) and data.inputs.dtype == np.uint8
    assert (data.targets.tolist(), data.image_shape) == ([0, 1, 1], (4, 5, 3))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_formats(kind, put):
    pixels = RNG.integers(256, size=(4, 5), dtype=np.uint8)
    data = image_folder(
        put(a={"x": encoded(pixels, kind, **({"lossless": True} if kind == "WEBP" else {}))}),
        gray=True,
    )
    assert (data.inputs.shape, data.image_shape) == ((1, 4, 5, 1), (4, 5))
    assert np.array_equal(data.inputs[0, ..., 0], pixels)


def test_a_jpeg_is_near_its_pixels(put):
    pixels = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (16, 1))
    data = image_folder(put(a={"x.jpg": encoded(pixels, "JPEG", quality=95)}), gray=True)
    assert np.abs(data.inputs[0, ..., 0] - pixels.astype(int)).max() < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
@pytest.mark.parametrize("gray", [False, True])
def test_every_8_bit_mode_becomes_red_green_blue_or_gray(mode, gray, put):
    white = np.full((2, 3, 3), 255, np.uint8)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    data = image_folder(put(a={"x": encoded(white, kind, mode)}), gray=gray)
    assert data.inputs.shape == (1, 2, 3, 1 if gray else 3) and (data.inputs == 255).all()


@pytest.mark.parametrize("size, shape", [(6, (6, 6)), ((2, 7), (2, 7)), (np.int64(3), (3, 3))])
def test_size_resizes_mixed_pictures(size, shape, put):
    one, two = np.full((4, 5, 3), 7, np.uint8), np.full((9, 2, 3), 200, np.uint8)
    data = image_folder(put(a={"1": encoded(one), "2": encoded(two)}), size)
    assert data.inputs.shape == (2, *shape, 3)
    assert (data.inputs[0] == 7).all() and (data.inputs[1] == 200).all()


def png(height, width, content):
    """A PNG that claims a size."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", content)]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (*parts, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


SMALL = encoded(np.zeros((4, 5, 3), np.uint8))
TALL = encoded(np.zeros((9, 5, 3), np.uint8))


@pytest.mark.parametrize(
    "files, words",
    [
        ({}, ["no folder in it; image_folder wants one for each class"]),
        ({"cat": {"1": SMALL}, "dog": {}}, ["dog: a class with no examples"]),
        ({"cat": {"1": SMALL}, "dog": {".x": b""}}, ["dog: a class with no examples"]),
        ({"a": {"1": SMALL}, "b": {"2": TALL}}, ["a/1 has 4×5", "b/2 has 9×5; give size=(height"]),
        ({"a": {"1": b""}}, ["a/1: cannot be read as a picture: cannot identify image file"]),
        ({"a": {"1": SMALL, "t.txt": b"hello"}}, ["a/t.txt: cannot be read as a picture"]),
        ({"a": {"1": SMALL[:40]}}, ["a/1: cannot be read as a picture: "]),
        ({"a": {"1": SMALL[:-30]}}, ["a/1: cannot be read as a picture: "]),
        ({"a": {"1": png(30_000, 30_000, b"")}}, ["a/1: cannot be read", "decompression bomb"]),
        ({"a": {"1": png(10_000, 9_999, b"")}}, ["a/1: cannot be read", "decompression bomb"]),
        ({"a": {"1": png(9_000, 9_000, zlib.compress(b"\0" * 99))}},
         ["a/1: damaged: the header claims 9000×9000 pixels, more than", "bytes can hold"]),
        ({"a": {"1": encoded(np.zeros((4, 5), np.uint16))}}, ["a/1: pixels of mode 'I;16'"]),
        ({"a": {"1": encoded(np.zeros((4, 5), np.float32), "TIFF")}}, ["a/1: pixels of mode 'F'"]),
        ({"a": {"1.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}},
         ["1.eps: cannot be read as a picture: cannot identify"]),
    ],
)  # fmt: skip
def test_refused(files, words, put):
    path = put(**files)
    refuses(lambda: image_folder(path), *words)


def test_a_folder_in_a_class_is_refused(put):
    path = put(a={"1": SMALL})
    (path / "a" / "inner").mkdir()
    refuses(lambda: image_folder(path), "a/inner: is a folder; give the path of a file")


@pytest.mark.parametrize("size", [0, (0, 4), (1, 2, 3), 2.5, "4", ()])
def test_sizes_that_are_none(size, put):
    with pytest.raises(DataError, match="size must be a "):
        image_folder(put(a={"1": SMALL}), size)


@pytest.mark.parametrize("size, gray", [((100_000, 100_000), False), (200_000, True)])
def test_more_bytes_than_a_limit_are_refused_before_they_are_taken(size, gray, put):
    path = put(a={"1": SMALL}, b={"2": SMALL})
    refuses(lambda: image_folder(path, size, gray), "2 pictures of ", "give a smaller size=(")


def test_the_limit_is_that_of_all_pictures_together(put, monkeypatch):
    path = put(a={"1": SMALL}, b={"2": SMALL})
    monkeypatch.setattr("chainrule.data.images.LARGEST", 2 * 4 * 5 * 3)
    assert len(image_folder(path)) == 2
    monkeypatch.setattr("chainrule.data.images.LARGEST", 2 * 4 * 5 * 3 - 1)
    refuses(lambda: image_folder(path), "2 pictures of 4×5×3 take 120 bytes, more than 119")


def test_without_pillow(put, monkeypatch):
    path = put(a={"1": SMALL})
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UnsupportedError, match=r"needs Pillow.*pip install 'chainrule\[images\]'"):
        image_folder(path)
