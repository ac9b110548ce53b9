"""The scikit-learn estimators: its own checks, its tools, real data, settings and their errors."""

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DataError, GradientError, RunError, ShapeError

pytest.importorskip("sklearn", reason="scikit-learn, the extra 'sklearn', is not installed")

import joblib
from sklearn import datasets
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from chainrule.interop import sklearn as ours
from chainrule.sklearn import ChainClassifier, ChainRegressor

ESTIMATORS = (ChainClassifier, ChainRegressor)
QUICK = {"hidden": 16, "epochs": 20, "random_state": 0}


def points(n=80, seed=0):
    """Points, and whether x0·x1 > 0: not separable by a line."""
    x = np.random.default_rng(seed).normal(size=(n, 3))
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def python(code, **environment):
    path = {"PYTHONPATH": str(Path(cr.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, **path, **environment},
    )  # fmt: skip


# -- scikit-learn's own checks ------------------------------------------------------------------

CHECK = """
import json
from sklearn.utils.estimator_checks import check_estimator
from chainrule.sklearn import {0}
results = check_estimator({0}(), on_fail=None, on_skip=None)
print(json.dumps([(r["check_name"], r["status"], repr(r["exception"])) for r in results]))
"""


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_check_of_scikit_learn_passes_and_none_is_skipped(estimator):
    """With the defaults. The variable, read when SciPy is imported, lets the last check run."""
    out = python(CHECK.format(estimator.__name__), SCIPY_ARRAY_API="1")
    assert out.returncode == 0, out.stderr
    results = json.loads(out.stdout)
    assert [r for r in results if r[1] != "passed"] == []
    assert len(results) > 40


# -- real data ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    ("load", "least"),
    [("breast_cancer", 0.96), ("digits", 0.96), ("wine", 0.96), ("diabetes", 0.40)],
)
def test_as_good_as_the_peer_on_real_data(load, least):
    """With all defaults and the data in their own units; the peer gets its data standardised."""
    x, y = getattr(datasets, f"load_{load}")(return_X_y=True)
    if load == "diabetes":
        estimator, peer = ChainRegressor(random_state=0), MLPRegressor(random_state=0)
    else:
        estimator, peer = ChainClassifier(random_state=0), MLPClassifier(random_state=0)
    peer = make_pipeline(StandardScaler(), peer)
    if load == "diabetes":
        peer = TransformedTargetRegressor(peer, transformer=StandardScaler())
    folds = KFold(3, shuffle=True, random_state=0)
    score, by_peer = (cross_val_score(e, x, y, cv=folds).mean() for e in (estimator, peer))
    print(f"{load}: {score:.4f}, {type(peer).__name__} {by_peer:.4f}")
    assert score >= least
    assert score >= by_peer - 0.02


def test_units_do_not_matter():
    x, y = points()
    a = ChainClassifier(**QUICK).fit(x, y).predict_proba(x)
    b = ChainClassifier(**QUICK).fit(1000 * x - 7, y).predict_proba(1000 * x - 7)
    np.testing.assert_allclose(a, b, atol=1e-4)
    c, d = (ChainRegressor(**QUICK).fit(x, t).predict(x) for t in (y, 1e6 * y + 5))
    np.testing.assert_allclose(1e6 * c + 5, d, atol=1e3)


# -- in scikit-learn's tools --------------------------------------------------------------------


def test_grid_search_in_processes_equals_one_after_another():
    x, y = points()
    found = []
    for jobs in (None, 2):
        grid = {"chainclassifier__hidden": [(), 16], "chainclassifier__rate": [0.005, 0.02]}
        pipeline = make_pipeline(StandardScaler(), ChainClassifier(**QUICK))
        found.append(GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs).fit(x, y))
    one, two = found
    assert one.best_params_ == two.best_params_
    assert one.best_params_["chainclassifier__hidden"] == 16  # a line cannot separate them
    scores = [f.cv_results_["mean_test_score"] for f in found]
    np.testing.assert_array_equal(*scores)
    assert len(set(scores[0])) > 1
    np.testing.assert_array_equal(one.predict(x), two.predict(x))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_threads_do_not_disturb_one_another(estimator):
    x, y = points()

    def trained(seed):
        return estimator(**{**QUICK, "random_state": seed}).fit(x, y).predict(x)

    expected = [trained(seed) for seed in range(4)]
    assert any((expected[0] != e).any() for e in expected)
    found = joblib.Parallel(n_jobs=4, prefer="threads")(map(joblib.delayed(trained), range(4)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_cross_validation_and_score(estimator):
    x, y = points(200)
    scores = cross_val_score(estimator(hidden=32, rate=0.02, random_state=0), x, y, cv=3)
    assert scores.shape == (3,) and scores.min() > 0.5


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pickles_and_clones(estimator):
    x, y = points()
    fitted = estimator(**QUICK).fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "model_")
    np.testing.assert_array_equal(copy.fit(x, y).predict(x), fitted.predict(x))
    np.testing.assert_array_equal(again.fit(x, y).predict(x), fitted.predict(x))


def test_tables_keep_their_names():
    pandas = pytest.importorskip("pandas", reason="pandas makes the tables")
    x, y = points()
    table = pandas.DataFrame(x, columns=["a", "b", "c"])
    pipeline = make_pipeline(StandardScaler(), ChainClassifier(**QUICK))
    pipeline.set_output(transform="pandas").fit(table, y)
    assert list(pipeline[-1].feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="should match those that were passed during fit"):
        pipeline[-1].predict(table[["b", "a", "c"]])
    plain = make_pipeline(StandardScaler(), ChainClassifier(**QUICK)).fit(x, y)
    np.testing.assert_array_equal(pipeline.predict(table), plain.predict(x))


# -- the classifier -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [[-5, 70], ["no", "yes"], [False, True], [0.0, 1.0], np.array(["n", "y"], object)],
    ids=repr,
)
def test_labels_of_any_kind(labels):
    x, y = points()
    labels = np.asarray(labels)
    plain, named = (ChainClassifier(**QUICK).fit(x, t) for t in (y, labels[y]))
    np.testing.assert_array_equal(named.classes_, labels)
    predicted = named.predict(x)
    assert predicted.dtype == labels.dtype
    np.testing.assert_array_equal(predicted, labels[plain.predict(x)])
    assert 0 < plain.predict(x).mean() < 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_probabilities_scores_and_predictions_agree(count, dtype):
    x = points()[0].astype(dtype)
    y = np.arange(len(x)) % count
    classifier = ChainClassifier(**QUICK).fit(x, y)
    p, z = classifier.predict_proba(x), classifier.decision_function(x)
    assert p.shape == (80, count) and p.dtype == np.float64 and z.dtype == dtype
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_array_equal(classifier.predict(x), p.argmax(axis=1))
    if count == 2:
        assert z.shape == (80,)
        np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-5)
        np.testing.assert_array_equal(classifier.predict(x), z > 0)
    else:
        assert z.shape == (80, count)
        np.testing.assert_array_equal(classifier.predict(x), z.argmax(axis=1))


def test_a_prediction_depends_on_its_row_only(monkeypatch):
    x, y = points()
    classifier = ChainClassifier(**QUICK).fit(x, y)
    whole = classifier.decision_function(x)
    monkeypatch.setattr(ours, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(classifier.decision_function(x), whole, rtol=1e-12)
    alone = np.concatenate([classifier.decision_function(row[None]) for row in x])
    np.testing.assert_allclose(alone, whole, rtol=1e-12)


def test_column_labels_warn():
    x, y = points()
    with pytest.warns(DataConversionWarning):
        ChainClassifier(**QUICK).fit(x, y[:, None])


# -- the regressor ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (2,)])
def test_predictions_have_the_shape_of_the_targets(shape):
    x, _ = points(200)
    y = np.tile(x[:, :1] * 100 + 7, shape or (1,)).reshape(200, *shape)
    regressor = ChainRegressor(random_state=0, epochs=50).fit(x, y)
    assert regressor.predict(x).shape == (200, *shape)
    assert regressor.score(x, y) > 0.95


def test_targets_on_their_own_scales():
    """Each target is standardised by itself, so the small one is learned as well."""
    x, _ = points(200)
    y = np.stack([1e6 * x[:, 0], 1e-6 * x[:, 1]], axis=1)
    regressor = ChainRegressor(random_state=0, epochs=50).fit(x, y)
    for k in range(2):
        error = regressor.predict(x)[:, k] - y[:, k]
        assert error.var() < 0.05 * y[:, k].var()


# -- settings -----------------------------------------------------------------------------------


def test_random_state_decides():
    x, y = points()
    state = np.random.RandomState(3)
    drawn = [ChainRegressor(hidden=4, epochs=2, random_state=state).fit(x, y) for _ in range(2)]
    assert (drawn[0].predict(x) != drawn[1].predict(x)).any()
    same = [ChainRegressor(hidden=4, epochs=2, random_state=3).fit(x, y) for _ in range(2)]
    np.testing.assert_array_equal(same[0].predict(x), same[1].predict(x))


def test_the_best_epoch_of_the_held_out_rows_is_kept():
    x, y = points(100)
    y = np.where(np.arange(100) % 4 == 0, 1 - y, y)  # noise, to overfit
    settings = {"hidden": 64, "rate": 0.02, "validation_fraction": 0.3, "random_state": 0}
    stopped = ChainClassifier(patience=5, epochs=200, **settings).fit(x, y)
    losses = [row.validation_loss for row in stopped.history_.epochs]
    assert len(losses) == stopped.history_.best + 5 < 200
    assert losses[stopped.history_.best - 1] == min(losses)
    ended = ChainClassifier(epochs=200, **settings).fit(x, y)
    assert len(ended.history_) == 200 > ended.history_.best


@pytest.mark.parametrize(
    ("hidden", "layers"), [((), 1), ([], 1), (5, 2), (np.int64(5), 2), ((5, 4), 3)], ids=repr
)
def test_hidden_layers(hidden, layers):
    x, y = points()
    model = ChainClassifier(hidden, epochs=1).fit(x, y).model_
    assert len(model.parameters()) == 2 * layers


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"hidden": (0,)}, RunError, "hidden sizes"),
        ({"hidden": 4.5}, ShapeError, "4.5"),
        ({"activation": "rely"}, RunError, "unknown activation 'rely'; one of relu"),
        ({"optimizer": "adm"}, RunError, "unknown optimizer 'adm'; one of sgd"),
        ({"rate": 0.0}, RunError, "rate must be above 0"),
        ({"rate": np.nan}, RunError, "rate must be above 0"),
        ({"batch": 0}, RunError, "batch must be at least 1"),
        ({"epochs": -1}, RunError, "epochs must be at least 0"),
        ({"penalty": -1.0}, RunError, "penalty must be at least 0"),
        ({"patience": 3}, DataError, "patience=3 needs .* set validation_fraction"),
        ({"patience": 0, "validation_fraction": 0.5}, RunError, "patience must be at least 1"),
        ({"validation_fraction": 1.0}, DataError, "below 1, received 1.0"),
        ({"validation_fraction": -0.1}, DataError, "at least 0"),
        ({"validation_fraction": np.nan}, DataError, "received nan"),
        ({"validation_fraction": 0.001}, DataError, "leaves one part empty"),
        ({"optimizer": "sgd", "rate": 1e30}, GradientError, "try a smaller rate"),
    ],
    ids=repr,
)
def test_settings_that_cannot_be_used(estimator, settings, error, message):
    x, y = points()
    with pytest.raises(error, match=message):
        estimator(**{**QUICK, **settings}).fit(x, y)


def test_numbers_beyond_what_can_be_squared():
    x, y = points()
    with pytest.raises(DataError, match="columns of X hold .*e.200.*scale them"):
        ChainClassifier().fit(1e200 * x, y)
    with pytest.raises(DataError, match="the targets hold 1e.200.*scale them"):
        ChainRegressor().fit(x, 1e200 * y)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_of_rows_are_not_taken(estimator):
    """Rather than taken and ignored."""
    x, y = points()
    with pytest.raises(TypeError, match="sample_weight"):
        estimator().fit(x, y, sample_weight=np.ones(len(x)))


def test_ctrl_c_keeps_what_is_trained_and_goes_on_up(monkeypatch):
    def interrupt(done):
        if done == 0.4:
            signal.raise_signal(signal.SIGINT)
        return 1.0

    monkeypatch.setattr(ours.optim, "cosine", lambda: interrupt)
    x, y = points()
    classifier = ChainClassifier(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(x, y)
    assert classifier.history_.interrupted and 8 <= len(classifier.history_) <= 9
    assert classifier.score(x, y) > 0.5


def test_verbose_prints_epochs(capsys):
    x, y = points()
    ChainClassifier(4, epochs=2, verbose=True).fit(x, y)
    assert "epoch 2/2" in capsys.readouterr().out
    ChainClassifier(4, epochs=2).fit(x, y)
    assert capsys.readouterr().out == ""


def test_without_scikit_learn_the_message_says_what_to_install():
    out = python("import sys; sys.modules['sklearn'] = None; import chainrule.sklearn")
    assert out.returncode == 1
    assert "ImportError" in out.stderr
    assert "pip install 'chainrule[sklearn]'" in out.stderr.splitlines()[-1]
