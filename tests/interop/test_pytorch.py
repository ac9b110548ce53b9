"""Weights exchanged with PyTorch: its models and ours compute the same, there and back."""

import inspect

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import ChainruleError, DTypeError, RunError
from chainrule.files import pack_arrays, read_arrays
from chainrule.interop.pytorch import load_pytorch, save_pytorch


def images_last(y):
    """(batch, channels, sizes…) to (batch, sizes…, channels)."""
    return np.moveaxis(y, 1, -1)


def images_first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def same(x):
    return x


# our layer, PyTorch's (by torch.nn), the shape of the input, and how input and output are laid out
LAYERS = {
    "Linear": (lambda: nn.Linear(3, 5), lambda t: t.Linear(3, 5), (4, 3), same, same),
    "Linear without bias": (
        lambda: nn.Linear(3, 5, bias=False), lambda t: t.Linear(3, 5, bias=False), (4, 3), same,
        same,
    ),
    "Conv1d": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2),
        lambda t: t.Conv1d(4, 6, 3, 2, 1, 2, 2), (2, 9, 4), images_first, images_last,
    ),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, (2, 3), padding=1, groups=2),
        lambda t: t.Conv2d(4, 6, (2, 3), padding=1, groups=2), (2, 5, 6, 4), images_first,
        images_last,
    ),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2),
        lambda t: t.ConvTranspose1d(4, 6, 3, 2, groups=2), (2, 5, 4), images_first, images_last,
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, (2, 3), stride=2, groups=2),
        lambda t: t.ConvTranspose2d(4, 6, (2, 3), 2, groups=2), (2, 4, 5, 4), images_first,
        images_last,
    ),
    "Embedding": (lambda: nn.Embedding(7, 3), lambda t: t.Embedding(7, 3), None, same, same),
    "BatchNorm": (
        lambda: nn.BatchNorm(4), lambda t: t.BatchNorm2d(4), (3, 5, 6, 4), images_first,
        images_last,
    ),
    "LayerNorm": (lambda: nn.LayerNorm(4), lambda t: t.LayerNorm(4), (3, 5, 4), same, same),
    "RMSNorm": (lambda: nn.RMSNorm(4), lambda t: t.RMSNorm(4, 1e-6), (3, 5, 4), same, same),
    "GroupNorm": (
        lambda: nn.GroupNorm(2, 4), lambda t: t.GroupNorm(2, 4), (3, 5, 6, 4), images_first,
        images_last,
    ),
    "RNN": (
        lambda: nn.RNN(3, 5, layers=2), lambda t: t.RNN(3, 5, 2, batch_first=True), (2, 7, 3),
        same, same,
    ),
    "LSTM": (
        lambda: nn.LSTM(3, 5, layers=2, bidirectional=True),
        lambda t: t.LSTM(3, 5, 2, batch_first=True, bidirectional=True), (2, 7, 3), same, same,
    ),
    "GRU": (
        lambda: nn.GRU(3, 5, bidirectional=True),
        lambda t: t.GRU(3, 5, batch_first=True, bidirectional=True), (2, 7, 3), same, same,
    ),
    "MultiHeadAttention": (
        lambda: nn.MultiHeadAttention(6, heads=2),
        lambda t: t.MultiheadAttention(6, 2, batch_first=True), (2, 5, 6), same, same,
    ),
    "MultiHeadAttention without bias": (
        lambda: nn.MultiHeadAttention(6, heads=2, bias=False),
        lambda t: t.MultiheadAttention(6, 2, bias=False, batch_first=True), (2, 5, 6), same, same,
    ),
    "Maxout": (lambda: nn.Maxout(3, 4, 2), None, (2, 3), same, same),
    "Residual": (lambda: nn.Residual(nn.Linear(3, 3)), None, (2, 3), same, same),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.tanh, nn.Dropout(0.5), nn.Linear(4, 2)),
        lambda t: t.Sequential(t.Linear(3, 4), t.Tanh(), t.Dropout(0.5), t.Linear(4, 2)),
        (2, 3), same, same,
    ),
}  # fmt: skip
WITHOUT_WEIGHTS = {"Dropout", "MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d", "Flatten"}


def test_every_layer_has_a_row():
    layers = {
        name
        for name in nn.__all__
        if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Module)
    }
    found = {name.split()[0] for name in LAYERS}
    assert layers - {"Module", *WITHOUT_WEIGHTS} == found


def inputs(shape):
    rng = np.random.default_rng(0)
    return rng.integers(0, 7, (2, 5)) if shape is None else rng.normal(size=shape).astype("f")


def shuffled(module, seed):
    """Every array of a module drawn at random, running statistics too."""
    rng = np.random.default_rng(seed)
    state = module.state()
    module.load_state({
        k: rng.uniform(0.5, 1.5, v.shape) if v.dtype.kind == "f" else v for k, v in state.items()
    })  # fmt: skip
    return module


def first(y):
    return y[0] if isinstance(y, tuple) else y


def theirs_of(torch, theirs, x, layout):
    theirs.eval()
    x = torch.tensor(layout(x))
    y = theirs(x, x, x, need_weights=False) if "Multihead" in str(theirs) else theirs(x)
    return first(y).detach().numpy()


@pytest.mark.parametrize("name", LAYERS)
def test_from_pytorch_and_back(tmp_path, name):
    make, make_theirs, shape, layout, back = LAYERS[name]
    if make_theirs is None:
        pytest.skip(f"PyTorch has no {name}")
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    torch.manual_seed(0)
    theirs, x = make_theirs(torch.nn), inputs(shape)
    for p in [*theirs.parameters(), *theirs.buffers()]:
        if p.is_floating_point():
            torch.nn.init.uniform_(p, 0.5, 1.5)
    arrays = {k: v.numpy() for k, v in theirs.state_dict().items()}
    (tmp_path / "theirs").write_bytes(pack_arrays(arrays, {"format": "pt"}))
    expected = back(theirs_of(torch, theirs, x, layout))
    ours = make()
    for source in (str(tmp_path / "theirs"), theirs.state_dict(), arrays):
        shuffled(ours, 1)
        load_pytorch(ours, source)
        np.testing.assert_allclose(first(ours(x)), expected, 2e-5, 2e-6)

    shuffled(ours, 2)
    save_pytorch(ours, tmp_path / "ours")
    found, _ = read_arrays(tmp_path / "ours")
    theirs.load_state_dict({k: torch.tensor(v) for k, v in found.items()})
    again = back(theirs_of(torch, theirs, x, layout))
    np.testing.assert_allclose(again, first(ours(x)), 2e-5, 2e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back_to_the_bit(tmp_path, name):
    ours, other = shuffled(LAYERS[name][0](), 1), shuffled(LAYERS[name][0](), 2)
    save_pytorch(ours, tmp_path / "f")
    load_pytorch(other, tmp_path / "f")
    for key, value in ours.state().items():
        if key not in ("2.key", "2.counter"):
            assert np.array_equal(value, other.state()[key]), key
    save_pytorch(other, tmp_path / "g")
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes()


class Tied(nn.Module):
    """Modules in a list and a dict, an array of its own, and one layer in two places."""

    def __init__(self):
        self.blocks = [nn.Linear(2, 2), nn.Linear(2, 2)]
        self.heads = {"a": nn.Linear(2, 3), "b": self.blocks[0]}
        self.scale = cr.Parameter(2.0)

    def forward(self, x):
        return x


def test_names_and_places(tmp_path):
    save_pytorch(Tied(), tmp_path / "f")
    found, metadata = read_arrays(tmp_path / "f")
    shapes = {name: value.shape for name, value in found.items()}
    assert metadata == {"format": "pt"}
    assert shapes == {
        "blocks.0.weight": (2, 2), "blocks.0.bias": (2,), "blocks.1.weight": (2, 2),
        "blocks.1.bias": (2,), "heads.a.weight": (3, 2), "heads.a.bias": (3,), "scale": (),
    }  # fmt: skip


def test_other_names(tmp_path):
    ours = nn.Sequential(nn.Linear(2, 3, seed=1), nn.Sequential(nn.Linear(3, 1, seed=2)))
    names = {"": "net", "1": "head", "1.0.bias": "offset", "0": "body.first"}
    save_pytorch(ours, tmp_path / "f", names=names)
    found, _ = read_arrays(tmp_path / "f")
    assert set(found) == {"body.first.weight", "body.first.bias", "head.0.weight", "offset"}
    other = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 1)))
    load_pytorch(other, found, names=names)
    assert all(np.array_equal(v, other.state()[k]) for k, v in ours.state().items())
    save_pytorch(ours[0], tmp_path / "f", names={"": "net.0"})
    assert set(read_arrays(tmp_path / "f")[0]) == {"net.0.weight", "net.0.bias"}
    with pytest.raises(RunError, match=r"gives two arrays one name"):
        save_pytorch(ours, tmp_path / "f", names={"0.weight": "w", "1.0.weight": "w"})


def test_precisions():
    layer = nn.Linear(2, 1, dtype=cr.float64)
    w = np.array([[0.1, 0.2]])
    for dtype in (np.float16, np.float32, np.float64):
        load_pytorch(layer, {"weight": w.astype(dtype), "bias": np.zeros(1, dtype)})
        assert layer.weight.dtype == np.float64
        assert np.array_equal(layer.weight, w.astype(dtype).T)


def test_flattened_images():
    """The reordering of the docstring: the same function of images in both layouts."""
    c, h, w = 3, 4, 5
    x, weight = inputs((2, h, w, c)), np.random.default_rng(1).normal(size=(6, c * h * w))
    expected = images_first(x).reshape(2, -1) @ weight.T
    found = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)
    layer = nn.Linear(c * h * w, 6, bias=False)
    load_pytorch(layer, {"weight": found})
    np.testing.assert_allclose(layer(x.reshape(2, -1)), expected, 1e-5, 1e-5)


GOOD = {"weight": np.ones((3, 2)), "bias": np.ones(3)}
BAD = [
    ({"weight": GOOD["weight"]}, RunError, r"does not fit Linear: missing 'bias'"),
    ({**GOOD, "gamma": 1.0}, RunError, r"unknown 'gamma'"),
    ({"weights": GOOD["weight"], "bias": GOOD["bias"]}, RunError,
     r"missing 'weight' \(received 'weights'\), unknown 'weights'"),
    ({**GOOD, "weight": np.ones((2, 3))}, RunError,
     r"weight must have shape \(3, 2\), received \(2, 3\)"),
    ({**GOOD, "bias": np.ones(3, int)}, RunError, r"bias must hold float32, received int64"),
    ({**GOOD, "bias": np.array(["a"] * 3)}, RunError, r"bias is no array that can be read"),
    ({**GOOD, "bias": np.ones(3, complex)}, RunError, r"bias is no array .*complex128"),
    ("model.pt", RunError, r"is a pickle, which may run code .*safetensors.torch.save_file"),
    ("no/such.safetensors", RunError, r"there is no such file"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "error", "message"), BAD, ids=range(len(BAD)))
def test_what_does_not_fit_changes_nothing(source, error, message):
    layer = nn.Linear(2, 3, seed=1)
    before = layer.state()
    with pytest.raises(error, match=message):
        load_pytorch(layer, source)
    assert all(np.array_equal(v, layer.state()[k]) for k, v in before.items())


def test_damaged_and_wrong(tmp_path):
    (tmp_path / "f.safetensors").write_bytes(b"weights")
    with pytest.raises(RunError, match=r"damaged or no safetensors file"):
        load_pytorch(nn.Linear(2, 3), tmp_path / "f.safetensors")
    with pytest.raises(DTypeError, match=r"expected a Module, received dict"):
        save_pytorch({}, tmp_path / "g")
    with pytest.raises(ChainruleError, match=r"cannot write"):
        save_pytorch(nn.Linear(2, 3), tmp_path)


def test_tensors_of_pytorch_that_numpy_cannot_read():
    torch = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    with pytest.raises(RunError, match=r"weight is no array that can be read"):
        load_pytorch(nn.Linear(2, 3), {"weight": torch.ones(3, 2, dtype=torch.bfloat16)})
