"""Steps of small models, and all that they change, for the tests of the front end."""

import numpy as np

import chainrule as cr

F32, F64 = np.float32, np.float64
X = np.random.default_rng(0).normal(size=(16, 4)).astype(F32)
Y = np.random.default_rng(1).integers(0, 3, 16)


def batches(count, seed=2):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.normal(size=(16, 4)).astype(F32), rng.integers(0, 3, 16)


OPTIMIZERS = {
    "sgd": lambda m: cr.optim.SGD(m, lr=0.1),
    "decay": lambda m: cr.optim.SGD(cr.optim.groups(m, weight_decay=0.1), lr=0.1),
    "momentum": lambda m: cr.optim.Momentum(m, lr=0.1),
    "nesterov": lambda m: cr.optim.Nesterov(m, lr=0.1, weight_decay=0.01),
    "adagrad": lambda m: cr.optim.AdaGrad(m, lr=0.1),
    "rmsprop": lambda m: cr.optim.RMSProp(m, lr=0.1),
    "adam": lambda m: cr.optim.Adam(m, lr=0.1),
    "adamw": lambda m: cr.optim.AdamW(m, lr=0.1),
}
MODELS = {
    "linear": lambda: cr.nn.Linear(4, 3, seed=1),
    "mlp": lambda: cr.nn.Sequential(cr.nn.Linear(4, 5), cr.nn.tanh, cr.nn.Linear(5, 3), seed=1),
    "norm": lambda: cr.nn.Sequential(
        cr.nn.Linear(4, 5), cr.nn.BatchNorm(5), cr.nn.relu, cr.nn.Linear(5, 3), seed=1
    ),
    "dropout": lambda: cr.nn.Sequential(
        cr.nn.Linear(4, 5), cr.nn.Dropout(0.5), cr.nn.Linear(5, 3), seed=1
    ),
    "float64": lambda: cr.nn.Linear(4, 3, seed=1, dtype=F64),
}
EXTRAS = {
    "plain": lambda model, average: None,
    "by value": lambda model, average: cr.optim.clip_by_value(model, 0.01),
    "by norm": lambda model, average: cr.optim.clip_by_norm(model, 0.01),
}


def setup(model, optimizer, extra="plain"):
    """A step, and all that it changes by name."""
    m = MODELS[model]()
    o, average = OPTIMIZERS[optimizer](m), cr.optim.Average(m, decay=0.5)

    def step(x, y, rate=None):
        if rate is not None:
            o.lr = rate
        o.zero_grad()
        loss = cr.nn.softmax_cross_entropy(m(x, training=True), y)
        loss.backward()
        EXTRAS[extra](m, average)
        o.step()
        average.update()
        return loss

    return step, lambda: {**m.state(), **o.state(), **average.state()}


def same(one, other, tolerance=0.0):
    """That two states are the same, entry by entry."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        np.testing.assert_allclose(one[name], other[name], tolerance, tolerance, err_msg=name)


def counter(dtype=F32, shape=(4,)):
    """A variable, and a compiled function that adds to it."""
    v = cr.tensor(np.zeros(shape, dtype))

    @cr.compile
    def add(x):
        before = v + 0
        v.assign(v + x)
        return before, v

    return v, add
