"""cr.save and cr.load: what is written comes back to the bit, and nothing damaged gets through."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.types import DTYPES
from chainrule.errors import DataError, DTypeError, RunError, UnsupportedError
from chainrule.files import load, pack_arrays, read_arrays, save
from chainrule.ops.tensor import Tensor

ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(
    PLAIN | ARRAYS | ARRAYS.map(cr.asarray),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


def assert_same(found, expected):
    assert type(found) is (np.ndarray if isinstance(expected, np.generic) else type(expected))
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_same(*pair)
    elif isinstance(expected, (Tensor, np.ndarray, np.generic)):
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    elif isinstance(expected, float):
        assert struct.pack("d", found) == struct.pack("d", expected) or math.isnan(expected)
    else:
        assert found == expected


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_what_is_saved_comes_back(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("save") / "tree"
    save(path, tree)
    found = load(path)
    assert_same(found, tree)
    assert_same(load(str(path), like=tree), tree)
    first = path.read_bytes()
    save(path, found)
    assert path.read_bytes() == first  # the same content gives the same bytes


def test_arrays_of_every_layout(tmp_path):
    x = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    tree = {
        "strided": x[:, ::2, ::-1], "transposed": x.T, "big-endian": x.astype(">i2"),
        "scalar": np.float32(0.1), "read-only": cr.asarray(x).numpy(),
    }  # fmt: skip
    save(tmp_path / "f", tree)
    found = load(tmp_path / "f")
    for name, value in tree.items():
        assert np.array_equal(found[name], value), name
        assert found[name].dtype == np.asarray(value).dtype.newbyteorder("="), name
    found["strided"][0] = 0  # they are the caller's own


def test_names_are_places(tmp_path):
    """Other programs find the arrays under their paths; keys with dots do not collide."""
    x = np.zeros(1)
    tree = {"a": {"b": [x, x + 1]}, "a.b": {"0": x + 2}, "__metadata__": x + 3, "": x + 4}
    save(tmp_path / "f", tree)
    arrays, _ = read_arrays(tmp_path / "f")
    assert {k: float(v[0]) for k, v in arrays.items()} == {
        "a.b.0": 0, "a.b.1": 1, "a.b.0_": 2, "__metadata___": 3, "value": 4,
    }  # fmt: skip
    assert_same(load(tmp_path / "f"), tree)


def test_float16_comes_as_float32(tmp_path):
    x = np.arange(6, dtype=np.float16) / 3
    (tmp_path / "f").write_bytes(raw(header("F16", [2, 3], 12), x.tobytes()))
    (found,) = read_arrays(tmp_path / "f")[0].values()
    assert found.dtype == np.float32
    assert np.array_equal(found, x.reshape(2, 3))


def training(seed):
    model = nn.Sequential(
        nn.Linear(2, 3, seed=seed), nn.BatchNorm(3), nn.Dropout(0.2, seed=seed),
        nn.Linear(3, 1, seed=seed),
    )  # fmt: skip
    parts = {
        "model": model,
        "optimizer": optim.Adam(model, lr=0.1 * (seed + 1)),
        "plateau": optim.Plateau(patience=2),
        "average": optim.Average(model),
        "shift": cr.tensor([float(seed)]),
        "losses": [],
        "epoch": seed,
    }

    def run(steps):
        x = np.random.default_rng(3).normal(size=(8, 2)).astype("f")
        for _ in range(steps):
            model.zero_grad()
            loss = nn.mean_squared_error(model(x, training=True), x[:, 0])
            loss.backward()
            parts["optimizer"].step()
            parts["average"].update()
            parts["plateau"](float(loss))
            parts["losses"].append(float(loss))
        return parts

    return parts, run


def test_a_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    whole, run = training(1)
    run(6)
    first, run = training(1)
    save(tmp_path / "f", run(3))
    second, run = training(2)
    found = load(tmp_path / "f", like=second)
    assert found["epoch"] == 1
    for name in ("model", "optimizer", "plateau", "average", "shift"):
        assert found[name] is second[name]
    second["losses"][:] = found["losses"]
    run(3)
    assert second["losses"] == whole["losses"]
    assert second["shift"].item() == first["shift"].item() == 1
    for name in ("model", "optimizer", "plateau", "average"):
        assert_same(second[name].state(), whole[name].state())


def test_nothing_changes_unless_all_fits(tmp_path):
    saved, _ = training(1)
    save(tmp_path / "f", saved)
    like, _ = training(2)
    like["average"] = optim.Average(nn.Linear(2, 2))  # the last to be loaded
    before = like["model"].state(), like["optimizer"].state(), like["shift"].item()
    with pytest.raises(RunError, match=r"does not fit: this is no state of this Average"):
        load(tmp_path / "f", like=like)
    assert_same((like["model"].state(), like["optimizer"].state(), like["shift"].item()), before)


TREE = {"x": np.zeros((2, 3)), "t": cr.zeros(2), "n": [1, (2.0, None)], "m": nn.Linear(1, 1)}
UNLIKE = [
    ({**TREE, "x": np.zeros((3, 2))}, r"at x: expected array float64\[3, 2\], found array .*2, 3"),
    ({**TREE, "x": np.zeros((2, 3), "f")}, r"at x: expected array float32\[2, 3\], found"),
    ({**TREE, "x": cr.zeros((2, 3))}, r"at x: expected Tensor float32\[2, 3\], found array"),
    ({**TREE, "x": 1.0}, r"at x: expected float, found array"),
    ({**TREE, "y": 0}, r"at its top: expected the keys \['x', 't', 'n', 'm', 'y'\], found"),
    ({**TREE, "n": [1]}, r"at n: expected 1 entries, found 2"),
    ({**TREE, "n": [1, [2.0, None]]}, r"at n.1: expected list, found tuple"),
    ({**TREE, "n": [1.0, (2.0, None)]}, r"at n.0: expected float, found int"),
    ({**TREE, "t": nn.Linear(1, 1)}, r"at t: expected a state of Linear, found Tensor"),
    ({**TREE, "m": nn.Linear(1, 2)}, r"does not fit: .*weight .*\(1, 2\), received \(1, 1\)"),
    ([], r"at its top: expected list, found dict"),
]


@pytest.mark.parametrize(("like", "message"), UNLIKE, ids=range(len(UNLIKE)))
def test_what_does_not_fit(tmp_path, like, message):
    save(tmp_path / "f", TREE)
    with pytest.raises(RunError, match=message):
        load(tmp_path / "f", like=like)


LOOP = []
LOOP.append(LOOP)
UNSAVABLE = [
    ({"a": [object()]}, DTypeError, r"cannot save a.0: found object; expected dicts, lists"),
    (lambda: 0, DTypeError, r"cannot save this: found function"),
    (nn.Linear, DTypeError, r"found type"),
    ({"a": {1.5: 0}}, DTypeError, r"cannot save a: the key 1.5 is neither text nor a whole"),
    ({True: 0}, DTypeError, r"the key True"),
    (b"bytes", DTypeError, r"found bytes"),
    ({"a": np.array(["text"])}, UnsupportedError, r"dtype <U4 is not supported"),
    (np.array([object()]), DTypeError, r"cannot make an array"),
    (np.float16(1), UnsupportedError, r"float16 is not supported"),
    (LOOP, DataError, r"nested too deep \(or holds itself\)"),
    (10**5000, DataError, r"cannot save this: Exceeds the limit"),
]


@pytest.mark.parametrize(("tree", "error", "message"), UNSAVABLE, ids=range(len(UNSAVABLE)))
def test_what_cannot_be_saved(tmp_path, tree, error, message):
    save(tmp_path / "f", 1)
    with pytest.raises(error, match=message):
        save(tmp_path / "f", tree)
    assert load(tmp_path / "f") == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_where_it_cannot_be_written(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*; what was there before is untouched"):
        save(tmp_path, 1)
    save(tmp_path / "new" / "folder" / "f", 1)
    assert load(tmp_path / "new" / "folder" / "f") == 1


def test_where_nothing_can_be_read(tmp_path):
    with pytest.raises(RunError, match=r"there is no such file"):
        load(tmp_path / "f")
    with pytest.raises(RunError, match=r"it is no file"):
        load(tmp_path)


def test_a_file_larger_than_memory(tmp_path, monkeypatch):
    def no_memory(size, dtype):
        raise MemoryError

    save(tmp_path / "f", np.ones(3))
    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(RunError, match=r"is larger than the memory that is free"):
        load(tmp_path / "f")


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def header(dtype, shape, size):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}


def sealed(text, checksum=None, arrays=None):
    """A file with this description, and, unless told otherwise, the right checksum."""
    arrays = arrays or {}
    checksum = cr.files._checksum(arrays, text) if checksum is None else checksum
    entry = json.dumps({"about": text, "sha256": checksum})
    return pack_arrays(arrays, {"chainrule": entry})


def about(**entries):
    return sealed(json.dumps({"version": 1, "tree": 1, **entries}))


DAMAGED = {
    "empty": (b"", "no safetensors file"),
    "text": (b"epoch,loss\n1,0.5\n", "no safetensors file"),
    "header longer than the file": (struct.pack("<Q", 2**40) + b"{}", "no safetensors file"),
    "header not JSON": (raw(b"{]"), "no safetensors file"),
    "header nested too deep": (raw(b'{"a":' + b"[" * 100_000), "no safetensors file"),
    "sizes beyond the file": (raw(header("F32", [2**40], 2**42)), "no safetensors file"),
    "sizes that overflow": (raw(header("F32", [2**31, 2**31, 4], 2**64 - 1)), "no safetensors"),
    "an absurd empty shape": (raw(header("F32", [2**62, 0], 0)), "no safetensors file"),
    "65 axes": (raw(header("F32", [1] * 65, 4), b"abcd"), "no safetensors file"),
    "shape and bytes differ": (raw(header("F32", [3], 8), b"abcdabcd"), "no safetensors file"),
    "bytes left over": (raw(header("F32", [1], 4), b"abcdefgh"), "no safetensors file"),
    "complex": (raw(header("C64", [1], 8), b"abcdabcd"), "a is complex64, which is not"),
    "bfloat16": (raw(header("BF16", [2], 4), b"abcd"), r"to float32 .*tensor\.float\(\)"),
    "float8": (raw(header("F8_E4M3", [4], 4), b"abcd"), "cannot read"),
    "another program's": (pack_arrays({"a": np.ones(2)}, {}), "was not written by chainrule"),
    "a wrong checksum": (sealed("{}", "0"), "damaged: its checksum is not"),
    "a checksum of another kind": (sealed("{}", [1]), "damaged: its checksum is not"),
    "no checksum": (pack_arrays({}, {"chainrule": '{"about": "{}"}'}), "damaged: 'sha256'"),
    "no description": (sealed("[1]"), "damaged: its description is no object"),
    "another thing": (sealed("{}"), "holds no container: it was not written by cr.save"),
    "a later version": (about(version=12), "version 12, this chainrule reads up to 1: update it"),
    "no version": (about(version="x"), "holds no container"),
    "version 0": (about(version=0), "holds no container"),
    "no tree": (sealed('{"version": 1}'), "damaged: 'tree'"),
    "no object": (pack_arrays({}, {"chainrule": "[1]"}), "damaged: list indices"),
    "no JSON": (pack_arrays({}, {"chainrule": "{"}), "damaged: Expecting"),
    "nested too deep": (pack_arrays({}, {"chainrule": "[" * 100_000}), "nested too deep"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(tmp_path, name):
    content, message = DAMAGED[name]
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        load(tmp_path / "f")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


TREES_BY_HAND = [
    ('{"array": "b"}', "'b'"), ('{"array": ["a"]}', "unhashable"), ('{"gate": 1}', "'gate'"),
    ('{"array": "a", "tensor": "a"}', "too many"), ("{}", "not enough"), ('{"tuple": 1}', "iter"),
    ('[{"array": "a"}, {"array": "a"}]', "'a'"), ("1", "'a' stands nowhere"), ("[", "Expecting"),
    ('{"dict": [1]}', "non-iterable"), ('{"float": "x"}', "could not convert"),
    ("[" * 100_000, "nested too deep"), ("9" * 5000, "Exceeds the limit"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "message"), TREES_BY_HAND, ids=range(len(TREES_BY_HAND)))
def test_damaged_structure_with_the_right_checksum(tmp_path, tree, message):
    arrays = {"a": np.ones(2)}
    text = f'{{"version": 1, "tree": {tree}}}'
    (tmp_path / "f").write_bytes(sealed(text, arrays=arrays))
    with pytest.raises(RunError, match=f"is damaged: .*{message}"):
        load(tmp_path / "f")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(tmp_path_factory, data):
    """Cut off anywhere, or with any byte changed, a file is refused or holds what it held."""
    path = tmp_path_factory.mktemp("damage") / "f"
    tree = {"x": np.arange(5.0), "y": [cr.zeros(3), True, "text", math.inf]}
    save(path, tree)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = load(path)
    except RunError:
        return
    assert_same(found, tree)  # the padding of the header may change
