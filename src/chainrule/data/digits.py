"""The handwritten digits that come with chainrule."""

import gzip
from importlib.resources import files

import numpy as np

from .dataset import Dataset


def digits() -> Dataset:
    """1,797 real images of handwritten digits, 8×8 pixels from 0 (paper) to 1 (ink).

    Inputs are float32 of shape (1797, 64), targets int64, the digit. Nothing is downloaded.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0; the file digits.txt says more.

    >>> data = digits()
    >>> data.inputs.shape, data.classes[data.targets[0]]
    ((1797, 64), '0')
    """
    packed = (files("chainrule.data") / "digits.csv.gz").read_bytes()
    text = gzip.decompress(packed).decode("ascii")
    table = np.array(text.replace("\n", ",").rstrip(",").split(","), dtype=np.uint8)
    rows = table.reshape(-1, 65)
    return Dataset(
        inputs=rows[:, :64].astype(np.float32) / np.float32(16),
        targets=rows[:, 64].astype(np.int64),
        name="digits",
        classes=tuple("0123456789"),
        features=tuple(f"pixel {row},{column}" for row in range(8) for column in range(8)),
        image_shape=(8, 8),
    )
