"""Damaged files: every loader says what is wrong, fast, and allocates nothing a header claims."""

import functools
import gzip
import inspect
import io
import os
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import data
from chainrule.errors import DataError

LOADERS = {
    "fashion_mnist": data.fashion_mnist,
    "image_folder": data.image_folder,
    "mnist": data.mnist,
    "npz_dataset": data.npz_dataset,
    "read_csv": functools.partial(data.read_csv, target="y"),
    "read_idx": data.read_idx,
    "read_npz": data.read_npz,
    "read_table": data.read_table,
    "split_csv": functools.partial(data.split_csv, target="y", seed=0),
    "text_data": data.text_data,
}
FOLDERS = ("fashion_mnist", "image_folder", "mnist")
FILES = sorted(set(LOADERS) - set(FOLDERS))
FEW = 4_000_000


def refuses(load, *words):
    """Whether `load` raises DataError with all the words, allocating little."""
    tracemalloc.start()
    try:
        with warnings.catch_warnings(), pytest.raises(DataError) as caught:
            warnings.simplefilter("error")
            load()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 500
    assert peak < FEW, f"{peak:,} bytes"


def test_every_loader_is_in_the_table():
    found = set()
    for name in data.__all__:
        thing = getattr(data, name)
        if inspect.isfunction(thing):
            first = next(iter(inspect.signature(thing).parameters), "")
            if first in ("path", "paths", "folder") and name != "write_idx":
                found.add(name)
    assert found == set(LOADERS)


@pytest.mark.parametrize("name", LOADERS)
def test_nothing_there(name, tmp_path):
    words = "no file" if "mnist" in name else "cannot be read: No such file"
    refuses(lambda: LOADERS[name](tmp_path / "none"), "none", words)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_is_no_file(name, tmp_path):
    for path in (tmp_path / "folder.csv", tmp_path / "folder.parquet"):
        path.mkdir()
        with pytest.raises(DataError, match=r"folder\.(csv|parquet): .* (a folder|a directory)"):
            LOADERS[name](path)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_is_no_folder(name, tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    words = "no file" if "mnist" in name else "cannot be read: Not a directory"
    refuses(lambda: LOADERS[name](path), words)


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file(name, tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    refuses(lambda: LOADERS[name](path), "empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["npz_dataset", "read_idx", "read_npz", "text_data"])
def test_a_pipe_is_no_file(name, tmp_path):
    """To open it would wait for a writer for ever."""
    os.mkfifo(tmp_path / "pipe")
    refuses(lambda: LOADERS[name](tmp_path / "pipe"), "is a device or a pipe, not a file")


# -- idx ----------------------------------------------------------------------------------------


def idx(code, shape, content=b"", axes=None):
    axes = len(shape) if axes is None else axes
    return struct.pack(f">HBB{len(shape)}I", 0, code, axes, *shape) + content


BYTES = bytes(range(6))
GOOD_IDX = idx(8, (2, 3), BYTES)
HUGE = (2**20, 2**20)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(
    "content, words",
    [
        (b"\0", ["no idx file: it begins with 00, expected 00 00"]),
        (b"PNG!" + BYTES, ["no idx file: it begins with 50 4e 47 21"]),
        (idx(7, (2, 3), BYTES), ["no idx file: it begins with 00 00 07 02"]),
        (idx(8, ()), ["damaged: a header of 0 axes, expected 1 to 32"]),
        (idx(8, (), axes=255), ["damaged: a header of 255 axes"]),
        (idx(8, (2,), axes=3), ["ends in its header"]),
        (GOOD_IDX[:-1], ["claims uint8 of shape (2, 3), 6 bytes, but 5 follow"]),
        (GOOD_IDX + b"!", ["claims uint8 of shape (2, 3), 6 bytes, but more follow"]),
        (idx(0x0E, (2, 3), BYTES), ["float64 of shape (2, 3), 48 bytes, but 6 follow"]),
        (idx(8, HUGE, BYTES), ["claims", "(1048576, 1048576)", "1,099,511,627,776 bytes"]),
        (idx(8, (2**32 - 1,) * 9, BYTES), ["damaged: the header claims shape (4294967295,"]),
        (idx(8, (0, *[2**32 - 1] * 3)), ["damaged: the header claims shape (0, 4294967295,"]),
    ],
)  # fmt: skip
def test_damaged_idx(content, words, packed, tmp_path):
    path = tmp_path / "a.idx"
    path.write_bytes(gzip.compress(content) if packed else content)
    refuses(lambda: data.read_idx(path), "a.idx: ", *words)


def test_a_gzip_whose_header_claims_more_than_it_can_hold_is_not_unpacked(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(idx(8, HUGE, BYTES)))
    refuses(lambda: data.read_idx(path), "bytes of gzip can hold; get the file again")


def test_a_gzip_that_unpacks_to_more_than_its_header_claims_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx(8, (2, 3), bytes(50_000_000)), 1))
    refuses(lambda: data.read_idx(path), "6 bytes, but more follow")


PACKED = gzip.compress(GOOD_IDX, mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        PACKED[:-9],
        PACKED[:12],
        PACKED[:-6] + b"\xff" + PACKED[-5:],
        PACKED[:10] + b"\xff\xff" + PACKED[12:],
    ],
    ids=["cut short", "cut in the header", "checksum", "stream"],
)
def test_damaged_gzip(content, tmp_path):
    (tmp_path / "a.gz").write_bytes(content)
    refuses(lambda: data.read_idx(tmp_path / "a.gz"), "a damaged gzip file", "get it again")


# -- npz ----------------------------------------------------------------------------------------


def npz(method="savez", **arrays):
    file = io.BytesIO()
    getattr(np, method)(file, **arrays)
    return file.getvalue()


def npy(shape, descr="|u1", content=b"", version=b"\1\0"):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + content


def archive(content, name="x.npy", method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        packed.writestr(name, content)
    return file.getvalue()


GOOD_NPZ = npz(x=np.arange(6.0).reshape(2, 3), y=[0, 1])
STORED = archive(npy((6,), content=BYTES), method=zipfile.ZIP_STORED)


def claims(size):
    """STORED with other sizes in its central directory."""
    at = STORED.rindex(b"PK\1\2")
    return STORED[: at + 20] + struct.pack("<II", *size) + STORED[at + 28 :]


class Trap:
    """Unpickling it would leave a trace."""

    def __reduce__(self):
        return (pytest.fail, ("code of the file ran",))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"PK", ["no .npz file, or damaged: File is not a zip file"]),
        (GOOD_NPZ[:-1], ["no .npz file, or damaged"]),
        (GOOD_NPZ[: len(GOOD_NPZ) // 2], ["no .npz file, or damaged"]),
        (archive(b"hello", "a.txt"), ["'a.txt' in it is no array (.npy)"]),
        (archive(b"hello, world"), ["damaged: the magic string is not correct"]),
        (archive(npy((2, 3), version=b"\x09\0")), ["'x.npy' has format (9, 0), known are"]),
        (archive(npy((5,), content=BYTES)), ["claims uint8 of shape (5,), 5 bytes, but 6 follow"]),
        (archive(npy((9,), content=BYTES)), ["claims uint8 of shape (9,), 9 bytes, but 6 follow"]),
        (archive(npy(HUGE, content=BYTES)), ["(1048576, 1048576), 1,099,511,627,776 bytes, but"]),
        (archive(npy((2**60, 2**60))), ["damaged: 'x.npy' claims uint8 of shape (1152921504606"]),
        (
            archive(npy((-2, -3), content=BYTES)),
            ["damaged: 'x.npy' claims uint8 of shape (-2, -3)"],
        ),
        (archive(npy("x")), ["no .npz file, or damaged: shape is not valid: 'x'"]),
        (archive(npy((2,), "quux")), ["damaged: descr is not a valid dtype descriptor: 'quux'"]),
        (npz(x=np.array([Trap()], object)), ["'x.npy' holds Python objects", "run code"]),
        (archive(npy((6,), content=BYTES), method=zipfile.ZIP_LZMA), ["packed by method 14"]),
        (claims((6, 2**31)), ["claims 2,147,483,648 bytes, packed into 6"]),
        (
            claims((2**31, 2**31)),
            ["damaged: 'x.npy' claims 2,147,483,648 bytes, packed into 2,147"],
        ),
        (STORED.replace(BYTES, BYTES[::-1]), ["damaged: Bad CRC-32"]),
    ],
)
def test_damaged_npz(content, words, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    refuses(lambda: data.read_npz(path), "a.npz: ", *words)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"a": [[1.0]], "b": [0]}, ["no array 'x', 'y'; there are: 'a', 'b'"]),
        ({"x": [[1.0]], "y": [0, 1]}, ["must have the same length"]),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": [0]}, ["must have the same length"]),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": [0, -1]}, ["targets[1] is -1"]),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": 0}, ["must have the same length"]),
        ({"x": np.zeros((0, 4, 4), np.uint8), "y": np.zeros(0, int)}, ["hold no values"]),
        ({"x": np.zeros(2, np.uint8), "y": [0, 1]}, ["inputs need an axis of examples"]),
        ({"x": ["a"], "y": [0]}, ["inputs must be real numbers, got <U1"]),
    ],
)
def test_npz_arrays_that_make_no_dataset(arrays, words, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npz(**arrays))
    refuses(lambda: data.npz_dataset(path), "a.npz: ", *words)


# -- any byte changed ---------------------------------------------------------------------------


@functools.cache
def good_parquet():
    pa = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"x": [1.5, 2.5, 0.5] * 20, "y": ["a", "b", "a"] * 20}), file)
    return file.getvalue()


GOOD = {
    "a.idx": (data.read_idx, lambda: GOOD_IDX),
    "a.gz": (data.read_idx, lambda: PACKED),
    "a.npz": (data.read_npz, lambda: GOOD_NPZ),
    "b.npz": (data.read_npz, lambda: npz("savez_compressed", x=np.arange(60))),
    "a.parquet": (data.read_table, good_parquet),
}


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=150, deadline=None)
@given(changes=st.data())
def test_any_change_is_read_or_refused(name, changes, tmp_path_factory):
    """A DataError or a value; never another exception, and never much memory."""
    load, content = GOOD[name]
    damaged = bytearray(content())  # which imports what is needed before memory is measured
    for _ in range(changes.draw(st.integers(0, 3))):
        at = changes.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = changes.draw(st.sampled_from([0, 1, 0x7F, 0xFF, damaged[at] ^ 1]))
    damaged = damaged[: changes.draw(st.sampled_from([len(damaged), len(damaged) - 1, 20]))]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(damaged)
    tracemalloc.start()
    try:
        load(path)
    except DataError as error:
        assert name in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < FEW


# -- parquet ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns, words",
    [
        ({}, ["0 columns and no rows"]),
        ({"x": []}, ["1 columns and no rows"]),
        ({"x": [[1]], "y": [1]}, ["column 'x': list<", "is neither numbers nor texts"]),
        ({" x": [1], "x": [2]}, ["column names must differ; more than once: 'x'"]),
        ({"x": [1, None], "y": ["a", "b"]}, ["row 2, column 'x': '' is a missing value"]),
        ({"x": [1.5, float("nan")], "y": ["a", "b"]}, ["row 2, column 'x': 'nan' is a missing"]),
        ({"x": [1.5, float("inf")], "y": ["a", "b"]}, ["row 2, column 'x': 'inf' is infinite"]),
    ],
)
def test_parquet_that_is_no_table(columns, words, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    values = [pa.array(v, pa.float64() if v == [] else None) for v in columns.values()]
    pq.write_table(pa.table(values, list(columns)), path)
    with pytest.raises(DataError) as caught:
        data.read_csv(path, "y")
    assert all(word in str(caught.value) for word in ("a.parquet", *words)), caught.value


@pytest.mark.parametrize("cut", [0, 3, 20, -1])
def test_damaged_parquet(cut, tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(good_parquet()[:cut])
    refuses(lambda: data.read_table(path), "a.parquet: no Parquet file, or damaged: ")


def test_parquet_whose_numbers_of_rows_contradict_each_other(tmp_path):
    content, path = good_parquet(), tmp_path / "a.parquet"
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    said = set()
    for at in range(footer, len(content) - 8):
        if content[at] == 2 * 60:  # as the footer writes 60
            path.write_bytes(content[:at] + bytes([2 * 61]) + content[at + 1 :])
            try:
                assert len(data.read_table(path)) == 60
            except DataError as error:
                said.add(str(error).removeprefix(str(path)))
    assert ": damaged: 61 rows are claimed, 60 are there" in said
