"""idx and npz files: what is written is read back; MNIST and Fashion-MNIST from where they are."""

import functools
import gzip
import hashlib
import http.server
import socketserver
import struct
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule import data
from chainrule.data.download import Source, download
from chainrule.errors import DataError, RunError

MODULE = sys.modules["chainrule.data.mnist"]  # the function hides the module of its name
SOURCES = MODULE.SOURCES
IDX_DTYPES = ["u1", "i1", "i2", "i4", "f4", "f8", ">i2", ">f4"]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
LAYOUTS = st.sampled_from([lambda x: x, lambda x: x[::-1], lambda x: x.T, np.asfortranarray])


@settings(deadline=None)
@given(st.data(), st.sampled_from(["a.idx", "a.idx.gz"]))
def test_what_write_idx_writes_read_idx_reads(tmp_path_factory, draw, name):
    dtype = draw.draw(st.sampled_from(IDX_DTYPES))
    array = draw.draw(LAYOUTS)(draw.draw(hnp.arrays(dtype, SHAPES)))
    path = tmp_path_factory.getbasetemp() / name
    data.write_idx(path, array)
    again = data.read_idx(path)
    assert again.dtype == array.dtype.newbyteorder("=") and again.dtype.isnative
    assert again.shape == array.shape and not again.flags.writeable
    assert again.tobytes() == np.ascontiguousarray(array, again.dtype).tobytes()


@settings(deadline=None)
@given(st.data(), st.booleans())
def test_what_savez_writes_read_npz_reads(tmp_path_factory, draw, packed):
    dtypes = hnp.scalar_dtypes() | hnp.unicode_string_dtypes(max_len=3)
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
    names = st.text(st.sampled_from("abc_1"), min_size=1, max_size=4).map(lambda name: "k" + name)
    arrays = draw.draw(st.dictionaries(names, hnp.arrays(dtypes, shapes), max_size=3))
    arrays = {name: draw.draw(LAYOUTS)(x) if x.ndim else x for name, x in arrays.items()}
    path = tmp_path_factory.getbasetemp() / "a.npz"
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    again = data.read_npz(path)
    assert again.keys() == arrays.keys()
    for name, x in arrays.items():
        assert (again[name].dtype, again[name].shape) == (x.dtype, x.shape)
        assert again[name].tobytes() == x.tobytes() and not again[name].flags.writeable


def test_a_plain_idx_file_of_bytes_is_mapped_and_not_read(tmp_path):
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    data.write_idx(tmp_path / "a", x)
    mapped = data.read_idx(tmp_path / "a")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, x)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 0
    assert (tmp_path / "a").read_bytes() == bytes.fromhex("00000803 00000002 00000003 00000004") + (
        x.tobytes()
    )


@pytest.mark.parametrize(
    "code, letter, dtype",
    [
        (0x08, "B", np.uint8), (0x09, "b", np.int8), (0x0B, "h", np.int16), (0x0C, "i", np.int32),
        (0x0D, "f", np.float32), (0x0E, "d", np.float64),
    ],
)  # fmt: skip
def test_the_bytes_of_each_dtype_are_those_of_the_format(code, letter, dtype, tmp_path):
    content = struct.pack(f">HBBI3{letter}", 0, code, 1, 3, 1, 2, 100)
    (tmp_path / "a").write_bytes(content)
    assert data.read_idx(tmp_path / "a").dtype == dtype
    assert data.read_idx(tmp_path / "a").tolist() == [1, 2, 100]
    data.write_idx(tmp_path / "b", np.array([1, 2, 100], dtype))
    assert (tmp_path / "b").read_bytes() == content


def test_the_same_array_gives_the_same_gz(tmp_path):
    for name in "ab":
        data.write_idx(tmp_path / f"{name}.gz", np.arange(9, dtype=np.int32))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    "array, message",
    [
        (np.arange(3), "idx files hold uint8, int8, int16, int32, float32 or float64, got int64"),
        (np.array([None]), "got object; cast it first"),
        (np.uint8(1), r"1 to 32 axes of less than 2\*\*32, got shape \(\)"),
        (np.zeros([1] * 33, np.uint8), "1 to 32 axes"),
    ],
)
def test_write_idx_refuses_and_leaves_what_was_there(array, message, tmp_path):
    (tmp_path / "a").write_text("before")
    with pytest.raises(DataError, match=message):
        data.write_idx(tmp_path / "a", array)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*/a: .*what was there before is untouched"):
        data.write_idx(tmp_path / "a", np.zeros(1, np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_pixels_of_an_npz_file_stay_pixels(tmp_path):
    x, y = np.arange(32, dtype=np.uint8).reshape(2, 4, 4), np.array([1, 0], np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, flat=x.reshape(2, 16), z=x / 2)
    made = functools.partial(data.npz_dataset, tmp_path / "a.npz", targets="y_train")
    pictures = made("x_train", classes=("cat", "dog"))
    assert (pictures.inputs.dtype, pictures.inputs.shape) == (np.uint8, (2, 4, 4, 1))
    assert (pictures.image_shape, pictures.classes) == ((4, 4), ("cat", "dog"))
    assert pictures.targets.dtype == np.int64 and pictures.targets.tolist() == [1, 0]
    assert (made("flat").inputs.shape, made("flat").image_shape) == ((2, 16), None)
    assert made("z").inputs.dtype == np.float32
    regression = data.npz_dataset(tmp_path / "a.npz", "flat", "z")
    assert (regression.task, regression.targets.shape) == ("regression", (2, 4, 4))


# -- MNIST and Fashion-MNIST --------------------------------------------------------------------

NAMES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


def small(seed=0):
    """Four arrays as those of MNIST, but 12 and 4 pictures of 5×4."""
    rng = np.random.default_rng(seed)
    for n in (12, 4):
        yield rng.integers(256, size=(n, 5, 4), dtype=np.uint8)
        yield rng.integers(10, size=n, dtype=np.uint8)


def put(folder, end="", **others):
    for name, array in zip(NAMES, small(), strict=True):
        data.write_idx(folder / (name + end), others.get(name.replace("-", "_"), array))
    return folder


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data folder, no package of the system, no net."""
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "data folder"))
    monkeypatch.setattr(MODULE, "DEBIAN", tmp_path / "debian")
    source = Source("http://127.0.0.1:1/", "0", 1)
    monkeypatch.setattr(MODULE, "SOURCES", dict.fromkeys(NAMES, source))


@pytest.mark.parametrize("load", [data.mnist, data.fashion_mnist])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_folder_with_the_four_files(load, end, tmp_path):
    parts = load(put(tmp_path, end))
    x, y, x_test, y_test = small()
    for part, inputs, targets in zip(parts, (x, x_test), (y, y_test), strict=True):
        assert np.array_equal(part.inputs[..., 0], inputs) and part.inputs.dtype == np.uint8
        assert np.array_equal(part.targets, targets)
        assert (len(part.classes), part.image_shape) == (10, (5, 4))
        one = next(data.batches(part, 3, seed=0, shuffle=False))[0]
        assert one.dtype == np.float32 and np.array_equal(
            one, inputs[:3, ..., None] / np.float32(255)
        )
    assert parts[1].name.endswith("MNIST (test)")


@pytest.mark.parametrize("where", ["data folder/fashion-mnist", "debian"])
def test_where_the_files_are_looked_for(where, tmp_path):
    put(tmp_path / where)
    assert len(data.fashion_mnist()[0]) == 12
    with pytest.raises(DataError, match=r"MNIST is not in .*data folder/mnist, and .* mnist\(fold"):
        data.mnist()
    put(tmp_path / "data folder" / "mnist")
    assert len(data.mnist()[1]) == 4


def test_without_the_variable_the_data_folder_is_the_users_cache(monkeypatch):
    monkeypatch.delenv("CHAINRULE_DATA")
    assert data.data_folder("x").parts[-2:] == ("chainrule", "x")


@pytest.mark.parametrize(
    "others, message",
    [
        ({"train_labels_idx1_ubyte": np.zeros(11, np.uint8)},
         r"uint8 of shape \(11,\) for 12 pictures in .*do not belong together"),
        ({"t10k_labels_idx1_ubyte": np.array([0, 1, 10, 2], np.uint8)},
         "damaged: label 2 is 10, but .* has classes 0 to 9"),
        ({"train_labels_idx1_ubyte": np.zeros((12, 1), np.uint8)}, r"expected uint8 of shape"),
        ({"train_labels_idx1_ubyte": np.zeros(12, np.int32)}, "int32 of shape"),
        ({"t10k_images_idx3_ubyte": np.zeros((4, 20), np.uint8)}, "expected uint8 pictures"),
        ({"t10k_images_idx3_ubyte": np.zeros((4, 5, 4), np.float32)}, "float32 of shape"),
        ({"t10k_images_idx3_ubyte": np.zeros((0, 5, 4), np.uint8),
          "t10k_labels_idx1_ubyte": np.zeros(0, np.uint8)}, "hold no values"),
    ],
)  # fmt: skip
def test_files_that_contradict_each_other(others, message, tmp_path):
    with pytest.raises(DataError, match=message):
        data.mnist(put(tmp_path, **others))


def test_a_missing_file_is_named(tmp_path):
    (put(tmp_path) / NAMES[2]).unlink()
    with pytest.raises(
        DataError, match=f"no file {NAMES[2]}, plain or .gz; Fashion-MNIST needs it"
    ):
        data.fashion_mnist(tmp_path)


# -- downloads ----------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives `server.files`; one whose name ends in "short" breaks off."""

    def do_GET(self):
        content = self.server.files.get(self.path[1:])
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:-20] if self.path.endswith("short") else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    # Not an HTTPServer: that looks up the name of this machine, which can take seconds.
    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def source(server, name, content, **others):
    """The Source of `content` once it is on the server, gzipped."""
    server.files[name] = gzip.compress(content)
    url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    right = {"url": url, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return Source(**{**right, **others})


def test_fashion_mnist_is_downloaded_once_and_mapped(server, tmp_path, monkeypatch):
    made = put(tmp_path / "made")
    sources = {n: source(server, f"{n}.gz", (made / n).read_bytes()) for n in NAMES}
    monkeypatch.setattr(MODULE, "SOURCES", sources)
    first = data.fashion_mnist()
    assert sorted(p.name for p in data.data_folder("fashion-mnist").iterdir()) == sorted(NAMES)
    server.files.clear()
    again = data.fashion_mnist()
    for one, two, three in zip(first, again, data.fashion_mnist(made), strict=True):
        assert one.fingerprint() == two.fingerprint() == three.fingerprint()
        assert isinstance(one.inputs, np.memmap)


def test_a_download_goes_on_where_the_last_one_failed(server, tmp_path, monkeypatch):
    made = put(tmp_path / "made")
    sources = {n: source(server, f"{n}.gz", (made / n).read_bytes()) for n in NAMES}
    monkeypatch.setattr(MODULE, "SOURCES", sources)
    last = server.files.pop(f"{NAMES[3]}.gz")
    with pytest.raises(DataError, match=r"404.*dataset-fashion-mnist.*fashion_mnist\(folder\)"):
        data.fashion_mnist()
    server.files = {f"{NAMES[3]}.gz": last}
    assert len(data.fashion_mnist()[1]) == 4


NOISE = np.random.default_rng(0).bytes(100_000)


@pytest.mark.parametrize(
    "name, others, message",
    [
        (
            "a",
            {"sha256": "0" * 64},
            "damaged or another file: 100,000 bytes with sha256 .*expected 1",
        ),
        ("a", {"size": 99_999}, "damaged or another file: 100,000 bytes .*expected 99,999"),
        ("a", {"size": 50}, "damaged or another file: 51 bytes .*expected 50"),
        ("a", {"size": 100_001}, "damaged or another file: 100,000 bytes .*expected 100,001"),
        ("short", {}, "cannot be downloaded: "),
        ("plain", {}, "cannot be downloaded: Not a gzipped file"),
        ("absent", {}, "cannot be downloaded: .*404"),
    ],
)
def test_a_download_that_is_not_right_leaves_nothing(name, others, message, server, tmp_path):
    given = source(server, name, NOISE, **others)
    if name == "plain":
        server.files[name] = NOISE
    if name == "absent":
        server.files.clear()
    with pytest.raises(DataError, match=message + ".*or else"):
        download(given, tmp_path / "a", "or else")
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all(tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded: .*refused.*or else"):
        download(Source("http://127.0.0.1:1/", "0", 1), tmp_path / "a", "or else")
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_sources_is_safe_and_whole():
    assert set(SOURCES) == set(NAMES)
    for name, (url, sha256, _) in SOURCES.items():
        assert url.startswith("https://") and url.endswith(f"/{name}.gz")
        assert len(bytes.fromhex(sha256)) == 32
    sizes = [size for _, _, size in SOURCES.values()]
    assert sizes == [16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000]
