"""Folders of pictures, a class a folder."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import AnyPath
from .batching import whole
from .dataset import Dataset
from .extras import library
from .files import MAX_RATIO, file_size, readable

# Those whose decoders run no other program, as that of EPS would.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""By which pictures are told from other files; `image_folder` takes any name."""
LARGEST = 16 << 30
"""Bytes that all pictures of a folder may take together: 16 GiB."""


def image_folder(
    path: AnyPath, size: int | tuple[int, int] | None = None, gray: bool = False
) -> Dataset:
    """The pictures in the folders of `path` as uint8 inputs (n, h, w, 3), or (n, h, w, 1) if gray.

    Each folder is a class, in the order of their names; hidden files are left out. Transparency
    is dropped, and of a moving picture the first is taken. With `size`, (height, width) or a
    number for both, pictures are resized to it (bilinear); without, all must have one size.

    Needs Pillow: `pip install 'chainrule[images]'`. Raises DataError for a class without
    pictures, a picture that cannot be read or has more than Pillow's limit of 89 million pixels,
    16-bit and floating pixels, and mixed sizes.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for kind, colour in (("sea", "blue"), ("meadow", "green")):
    ...         Path(folder, kind).mkdir()
    ...         Image.new("RGB", (6, 4), colour).save(Path(folder, kind, "1.png"))
    ...     data = image_folder(folder)
    >>> data.inputs.shape, data.classes
    ((2, 4, 6, 3), ('meadow', 'sea'))
    """
    root, shape = Path(path), _size(size)
    with readable(path):
        folders = sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        files = [sorted(p for p in folder.iterdir() if p.name[0] != ".") for folder in folders]
    if not folders:
        raise DataError(f"{root}: no folder in it; image_folder wants one for each class")
    for folder, pictures in zip(folders, files, strict=True):
        if not pictures:
            raise DataError(
                f"{folder}: a class with no examples; add pictures or remove the folder"
            )
    inputs = _read([picture for pictures in files for picture in pictures], root, shape, gray)
    targets = np.repeat(np.arange(len(files)), [len(pictures) for pictures in files])
    return Dataset(
        inputs, targets, root.name or str(root), tuple(folder.name for folder in folders),
        image_shape=inputs.shape[1:3] if gray else inputs.shape[1:],
    )  # fmt: skip


def pictures_in(path: AnyPath) -> list[Path]:
    """The picture files in a folder and in its folders, in order; hidden ones are left out."""
    root = Path(path)
    with readable(path):
        found = sorted(p for p in root.rglob("*") if is_picture(p) and p.is_file())
    found = [p for p in found if not any(part[0] == "." for part in p.relative_to(root).parts)]
    if not found:
        raise DataError(f"{root}: no picture in it ({', '.join(SUFFIXES)})")
    return found


def is_picture(path: AnyPath) -> bool:
    """Whether a file is a picture by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def read_pictures(
    files: Sequence[AnyPath], size: int | tuple[int, int] | None = None, gray: bool = False
) -> NDArray[np.uint8]:
    """Pictures as uint8 (n, h, w, 3), or (n, h, w, 1) if gray, read as `image_folder` does."""
    return _read([Path(f) for f in files], Path(files[0]), _size(size), gray)


def _read(every: Sequence[Path], root: Path, shape: tuple[int, int] | None, gray: bool
          ) -> NDArray[np.uint8]:  # fmt: skip
    depth = 1 if gray else 3
    if shape is not None:
        _check_total(root, len(every), (*shape, depth))
    first = _pixels(every[0], shape, gray)
    _check_total(root, len(every), first.shape)
    inputs = np.empty((len(every), *first.shape), np.uint8)
    for row, picture in enumerate(every):
        pixels = _pixels(picture, shape, gray) if row else first
        if pixels.shape != first.shape:
            (h, w), (h2, w2) = first.shape[:2], pixels.shape[:2]
            raise DataError(
                f"{every[0]} has {h}×{w} pixels (height×width), {picture} has {h2}×{w2}; give "
                "size=(height, width) to resize them all"
            )
        inputs[row] = pixels
    return inputs


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = size if isinstance(size, tuple) else (size, size)
    if len(pair) != 2 or min(whole("size", each) for each in pair) < 1:
        raise DataError(f"size must be a number of pixels or (height, width), got {size!r}")
    return pair


def _check_total(root: Path, count: int, shape: tuple[int, ...]) -> None:
    total = count * math.prod(shape)
    if total > LARGEST:
        raise DataError(
            f"{root}: {count:,} pictures of {'×'.join(map(str, shape))} take {total:,} bytes, more "
            f"than {LARGEST:,}; give a smaller size=(height, width)"
        )


def _pixels(path: Path, shape: tuple[int, int] | None, gray: bool) -> NDArray[np.uint8]:
    """One picture: uint8 of shape (h, w, 1 or 3)."""
    image_module = library("PIL.Image", "Pillow", "images", "image_folder")
    size = file_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(path, formats=FORMATS) as image:
                if image.mode[0] in "IF":
                    raise DataError(
                        f"{path}: pixels of mode {image.mode!r}; image_folder takes 8-bit pictures"
                    )
                if image.width * image.height > 8 * MAX_RATIO * size:
                    raise DataError(
                        f"{path}: damaged: the header claims {image.height}×{image.width} pixels, "
                        f"more than {size:,} bytes can hold"
                    )
                picture = image.convert("L" if gray else "RGB")
                if shape is not None:
                    picture = picture.resize(shape[::-1], image_module.Resampling.BILINEAR)
    except DataError:
        raise
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error, ….
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from error
    pixels: NDArray[np.uint8] = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1)
