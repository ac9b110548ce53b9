"""erf, erfinv, sigmoid against mpmath and SciPy in ulps; Threefry against its published vectors."""

import mpmath as mp
import numpy as np
import pytest
import scipy.special
from numpy.testing import assert_array_equal

from chainrule.core import special
from chainrule.core.special import bits, erf, erfinv, sigmoid, threefry_2x32
from chainrule.errors import DTypeError

mp.mp.dps = 50
RNG = np.random.default_rng(20240229)
FUNCTIONS = [erf, erfinv, sigmoid]
EDGE = mp.mpf("0.875")


def exact_erfinv(y):
    """The root of erf x = y: Newton's method in 50 digits, from SciPy's 15."""
    x = mp.mpf(float(scipy.special.erfinv(float(y))))
    for _ in range(2):
        difference = mp.erf(x) - y if abs(y) < 0.5 else mp.sign(y) * (1 - abs(y) - mp.erfc(abs(x)))
        x -= difference * mp.sqrt(mp.pi) / 2 * mp.exp(x * x)
    return x


def exact_sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def ulps(function, exact, x):
    """The largest error of function(x), in spacings of its dtype at the true value."""
    got = function(x)
    assert got.dtype == x.dtype
    assert got.shape == x.shape
    worst = mp.mpf(0)
    for xi, value in zip(x.tolist(), got.tolist(), strict=True):
        true = exact(mp.mpf(xi))
        spacing = np.spacing(x.dtype.type(abs(float(true))))
        worst = max(worst, abs(true - mp.mpf(value)) / mp.mpf(float(spacing)))
    return float(worst)


def uniform(low, high, n=2000):
    return RNG.uniform(low, high, n)


def around(*points):
    """Each point and the 20 float64 numbers on either side."""
    steps = np.arange(-20, 21)
    return np.concatenate([p + steps * np.spacing(p) for p in points])


TAIL = -np.expm1(-RNG.uniform(0.5, 36.7, 2000))  # up to 1 - 2^-53

RANGES = [
    (erf, mp.erf, 1.4, uniform(-1, 1)),
    (erf, mp.erf, 1.4, uniform(0.8, 1.1)),
    (erf, mp.erf, 1.4, uniform(-6.5, 6.5)),
    (erf, mp.erf, 1.4, np.linspace(0, 6.2, 3001)),
    (erf, mp.erf, 1.4, 10 ** uniform(-323, 1)),
    (erf, mp.erf, 1.4, around(0.5, 0.875, 1.0, 5.92, 5.9999)),
    (erf, mp.erf, 1.4, np.array([5e-324, -5e-324, 2.0**-1022, 27.0, 1e6, -1e200, 1.7e308])),
    (erfinv, exact_erfinv, 2.0, uniform(-1, 1)),
    (erfinv, exact_erfinv, 2.0, uniform(0.7, 0.9)),
    (erfinv, exact_erfinv, 2.0, TAIL),
    (erfinv, exact_erfinv, 2.0, -TAIL),
    (erfinv, exact_erfinv, 2.0, 10 ** uniform(-323, 0)),
    (erfinv, exact_erfinv, 2.0, around(0.5, float(mp.erf(EDGE)), 0.9999)),
    (erfinv, exact_erfinv, 2.0, 1 - np.arange(1, 50) * 2.0**-53),
    (erfinv, exact_erfinv, 2.0, np.array([5e-324, -5e-324, 2.0**-1022])),
    (sigmoid, exact_sigmoid, 1.8, uniform(-5, 5)),
    (sigmoid, exact_sigmoid, 1.8, uniform(-40, 40)),
    (sigmoid, exact_sigmoid, 1.8, uniform(-746, -700)),
    (sigmoid, exact_sigmoid, 1.8, -(10 ** uniform(-323, 2.8))),
    (sigmoid, exact_sigmoid, 1.8, np.linspace(-8, 8, 3001)),
    (sigmoid, exact_sigmoid, 1.8, around(-745.0, -708.4, -0.69, 0.69, 36.7)),
    (sigmoid, exact_sigmoid, 1.8, np.array([-1.7e308, -800.0, 800.0, 1.7e308, 5e-324])),
]


@pytest.mark.parametrize(("function", "exact", "bound", "x"), RANGES)
def test_float64_error(function, exact, bound, x):
    assert ulps(function, exact, x) <= bound


@pytest.mark.parametrize(("function", "exact", "_", "x"), RANGES)
def test_float32_error(function, exact, _, x):
    with np.errstate(over="ignore", under="ignore"):
        x = x.astype(np.float32)
    x = x[np.abs(x) < (1 if function is erfinv else np.inf)]
    assert ulps(function, exact, x) <= 0.51


@pytest.mark.parametrize(
    ("function", "peer", "x"),
    [
        (erf, scipy.special.erf, np.linspace(-7, 7, 200_001)),
        (erfinv, scipy.special.erfinv, np.linspace(-1, 1, 200_001)),
        (sigmoid, scipy.special.expit, np.linspace(-700, 100, 200_001)),
    ],
)
def test_agrees_with_scipy_on_a_dense_grid(function, peer, x):
    np.testing.assert_allclose(function(x), peer(x), rtol=8 * np.finfo(np.float64).eps, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "inputs", "outputs"),
    [
        (erf, [0.0, -0.0, np.inf, -np.inf, np.nan], [0.0, -0.0, 1, -1, np.nan]),
        (
            erfinv,
            [0.0, -0.0, 1, -1, 1.0001, -2, np.inf, -np.inf, np.nan],
            [0.0, -0.0, np.inf, -np.inf, *[np.nan] * 5],
        ),
        (sigmoid, [0.0, -0.0, np.inf, -np.inf, np.nan], [0.5, 0.5, 1, 0, np.nan]),
    ],
)
def test_special_values(function, inputs, outputs, dtype):
    with np.errstate(all="raise"):  # and pytest turns warnings into errors
        got = function(np.array(inputs, dtype))
        alone = [function(np.array(x, dtype)) for x in inputs]
    assert_array_equal(got, np.array(outputs, dtype))
    assert_array_equal(alone, got)
    zeros = got == 0
    assert_array_equal(np.signbit(got[zeros]), np.signbit(np.array(outputs)[zeros]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_shapes_and_layouts(function, dtype):
    x = RNG.uniform(-1, 1, (7, 5, 4)).astype(dtype)
    before = x.copy()
    want = np.array([function(np.array([v], dtype))[0] for v in x.ravel()]).reshape(x.shape)
    views = [np.s_[...], np.s_[::-1, ::2], np.s_[3, :, 1], np.s_[2, 3, 1:2], np.s_[:0]]
    for view in views:
        got = function(x[view])
        assert type(got) is np.ndarray
        assert got.dtype == dtype
        assert_array_equal(got, want[view])
    assert_array_equal(function(np.asfortranarray(x)), want)
    assert_array_equal(function(x.transpose(2, 0, 1)), want.transpose(2, 0, 1))
    scalar = function(np.array(x[0, 0, 0]))
    assert type(scalar) is np.ndarray
    assert scalar.shape == ()
    assert scalar == want[0, 0, 0]
    x.flags.writeable = False
    function(x)
    assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_long_array_is_its_blocks(function, dtype):
    x = RNG.uniform(-1, 1, 2 * special._BLOCK + 17).astype(dtype)
    cut = special._BLOCK - 3
    assert_array_equal(function(x), np.concatenate([function(x[:cut]), function(x[cut:])]))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128])
def test_other_dtypes_are_refused(function, dtype):
    with pytest.raises(DTypeError, match=f"got {dtype.__name__}, expected float32 or float64"):
        function(np.zeros(3, dtype))


def _sqrt_ratio(z):
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1


def _erfcx(t):
    x = (mp.mpf(5) / 2 + 3 * t) / (1 - t)
    return mp.exp(x * x) * mp.erfc(x)


def _erfinv_ratio(w):
    y = mp.sqrt(-mp.expm1(w))
    return mp.erfinv(y) / y


def _tail_ratio(v):
    start = mp.mpf("0.95") / v - mp.mpf("0.1")
    return v * mp.findroot(lambda x: mp.log(mp.erfc(x)) + 1 / v**2, start)


def _t(x):
    return (mp.mpf(x) - mp.mpf(5) / 2) / (mp.mpf(x) + 3)


@pytest.mark.parametrize(
    ("name", "f", "interval"),
    [
        ("_ERF", _sqrt_ratio, [mp.mpf(0), mp.mpf("0.78")]),
        ("_ERFCX", _erfcx, [_t("0.87"), _t("6.01")]),
        ("_INV_CENTRE", _erfinv_ratio, [mp.log(1 - mp.erf(EDGE) ** 2), mp.mpf(-1) / 10**9]),
        (
            "_INV_TAIL",
            _tail_ratio,
            [1 / mp.sqrt(53 * mp.log(2)), 1 / mp.sqrt(-mp.log(mp.erfc(EDGE)))],
        ),
    ],
)
def test_the_coefficients_come_from_chebyfit(name, f, interval):
    stored = [float(c) for c in getattr(special, name)]
    made = [float(c) for c in mp.chebyfit(f, interval, len(stored), asc=True)][::-1]
    np.testing.assert_allclose(stored, made, rtol=1e-15, atol=0)


def words(*values):
    return np.array(values, np.uint32)


# Known answers for threefry2x32 with 20 rounds, from the kat_vectors file of Random123.
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(counter, key, answer):
    count = np.array(counter[0] | counter[1] << 32, np.uint64)
    got = threefry_2x32(words(*key), count)
    assert got.dtype == np.uint32
    assert_array_equal(got, words(*answer))
    assert_array_equal(threefry_2x32(words(*key)[None], count[None, None]), [[words(*answer)]])


def test_threefry_agrees_with_jax():
    jax_random = pytest.importorskip("jax.extend.random", reason="jax is only a peer")
    key = words(0x1234, 0xFEDCBA98)
    count = np.array([0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**63 + 5], np.uint64)
    halves = [(count % 2**32).astype(np.uint32), (count // 2**32).astype(np.uint32)]
    want = np.asarray(jax_random.threefry_2x32(key, np.concatenate(halves)))
    assert_array_equal(threefry_2x32(key, count), want.reshape(2, -1).T)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 100, 2 * special._BLOCK, 4 * special._BLOCK + 3])
def test_bits_are_the_words_of_successive_blocks(size):
    key = words(3, 4)
    got = bits(key, size)
    assert got.dtype == np.uint32
    assert got.flags.c_contiguous
    blocks = threefry_2x32(key, np.arange(size // 2 + 1, dtype=np.uint64))
    assert_array_equal(got, blocks.reshape(-1)[:size])
    assert_array_equal(got[: size // 3], bits(key, size // 3))


@pytest.mark.parametrize("size", [0, 1, 6, 2 * special._BLOCK // 7, 2 * special._BLOCK + 5])
@pytest.mark.parametrize("shape", [(2,), (1, 2), (3, 2), (4, 5, 2), (0, 2), (2, 0, 2)])
def test_bits_of_many_keys(shape, size):
    keys = RNG.integers(0, 2**32, shape, np.uint32)
    got = bits(keys, size)
    assert got.shape == (*shape[:-1], size)
    assert got.flags.c_contiguous
    for index in np.ndindex(shape[:-1]):
        assert_array_equal(got[index], bits(keys[index], size))


def test_keys_of_any_layout_are_left_alone():
    keys = RNG.integers(0, 2**32, (3, 8), np.uint32)
    before = keys.copy()
    view = keys[::2, 5:1:-3]
    assert_array_equal(bits(view, 9), bits(view.copy(), 9))
    counts = np.arange(9, dtype=np.uint64).reshape(3, 3)[:, ::-2]
    want = threefry_2x32(view[:, None, None].copy(), counts.copy())
    assert want.shape == (2, 3, 2, 2)
    assert_array_equal(threefry_2x32(view[:, None, None], counts), want)
    assert_array_equal(want[1, 2, 0], threefry_2x32(view[1], np.array(8, np.uint64)))
    assert_array_equal(keys, before)
