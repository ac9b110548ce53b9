"""MNIST and Fashion-MNIST: found in a folder, in a package of the system, or downloaded."""

import os
from pathlib import Path

import numpy as np
import platformdirs

from ..errors import DataError
from ..files import AnyPath
from .dataset import Dataset
from .download import Source, download
from .idx import read_idx

FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
REPOSITORY = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
# Sizes and sha256 are those of the unpacked files: packed ones differ by who packed them.
SOURCES = {
    name: Source(f"{REPOSITORY}/{name}.gz", sha256, size)
    for name, size, sha256 in (
        (FILES[0], 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        (FILES[1], 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        (FILES[2], 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        (FILES[3], 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    )
}


def fashion_mnist(folder: AnyPath | None = None) -> tuple[Dataset, Dataset]:
    """(train, test): 60,000 and 10,000 real pictures of clothes, 28×28 grey, in ten classes.

    Inputs are uint8 of shape (n, 28, 28, 1), 0 to 255, which `batches` hands out as 0 to 1;
    targets int64. The four idx files, plain or .gz, are taken from `folder`. Without one they are
    looked for in the data folder (`fashion-mnist` in `$CHAINRULE_DATA`, or in the user's cache),
    then where Debian's package dataset-fashion-mnist puts them; else they are downloaded into the
    data folder (31 MB), compared with checksums, and from then on memory-mapped.

    Raises DataError for missing, damaged or contradicting files, and if a download fails.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747, MIT licence.

    >>> import tempfile
    >>> from chainrule.data import write_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k, name in enumerate(FILES):
    ...         write_idx(Path(folder, name), np.zeros((3, 28, 28) if k % 2 == 0 else 3, np.uint8))
    ...     train, test = fashion_mnist(folder)
    >>> test
    Dataset('Fashion-MNIST (test)', 3 examples, inputs (28, 28, 1), 10 classes)
    """
    place = Path(folder) if folder is not None else _find(data_folder("fashion-mnist"), DEBIAN)
    if place is None:
        place = data_folder("fashion-mnist")
        for name in FILES:
            if not _files(place, name):
                download(SOURCES[name], place / name, HINT)
    return _read(place, "Fashion-MNIST", CLOTHES)


HINT = (
    "or install Debian's package dataset-fashion-mnist, or give the folder that holds its four "
    "files: fashion_mnist(folder)"
)


def mnist(folder: AnyPath | None = None) -> tuple[Dataset, Dataset]:
    """(train, test): 60,000 and 10,000 real handwritten digits, 28×28 grey; as `fashion_mnist`.

    The four idx files are taken from `folder`, or from `mnist` in the data folder. They are not
    downloaded: no checksum of them could be verified when this was written.

    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998.
    """
    place = Path(folder) if folder is not None else _find(data_folder("mnist"))
    if place is None:
        raise DataError(
            f"MNIST is not in {data_folder('mnist')}, and chainrule does not download it; put "
            f"{', '.join(FILES)} there, plain or .gz, or give their folder: mnist(folder)"
        )
    return _read(place, "MNIST", tuple("0123456789"))


def data_folder(name: str) -> Path:
    """Where data set `name` is kept: in `$CHAINRULE_DATA`, or in the user's cache folder."""
    base = os.environ.get("CHAINRULE_DATA") or platformdirs.user_cache_path("chainrule")
    return Path(base, name)


def _find(*places: Path) -> Path | None:
    """The first of `places` that has all four files."""
    return next((p for p in places if all(_files(p, name) for name in FILES)), None)


def _files(place: Path, name: str) -> list[Path]:
    return [path for path in (place / name, place / f"{name}.gz") if path.exists()]


def _read(place: Path, name: str, classes: tuple[str, ...]) -> tuple[Dataset, Dataset]:
    absent = [file for file in FILES if not _files(place, file)]
    if absent:
        raise DataError(f"{place}: no file {' or '.join(absent)}, plain or .gz; {name} needs it")
    images, labels, test_images, test_labels = (_files(place, file)[0] for file in FILES)
    train = _pair(images, labels, f"{name} (train)", classes)
    return train, _pair(test_images, test_labels, f"{name} (test)", classes)


def _pair(images: Path, labels: Path, name: str, classes: tuple[str, ...]) -> Dataset:
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or x.dtype != np.uint8:
        raise DataError(
            f"{images}: {x.dtype} of shape {x.shape}, expected uint8 pictures (n, h, w)"
        )
    if y.ndim != 1 or y.dtype != np.uint8 or len(x) != len(y):
        raise DataError(
            f"{labels}: {y.dtype} of shape {y.shape} for {len(x)} pictures in {images}; expected "
            f"uint8 of shape ({len(x)},); the files do not belong together"
        )
    if y.size and y.max() >= len(classes):
        at = int(np.argmax(y >= len(classes)))
        raise DataError(
            f"{labels}: damaged: label {at} is {y[at]}, but {name} has classes 0 to "
            f"{len(classes) - 1}"
        )
    return Dataset(x[..., None], y.astype(np.int64), name, classes, image_shape=x.shape[1:])
