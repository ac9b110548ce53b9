"""Splits and batches: every example exactly once, in an order that the seed alone decides."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import Dataset, arrays, batches, permutation, split, split_dataset
from chainrule.errors import DataError

SEEDS = st.integers(0, 2**64)
FRACTIONS = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
    lambda weights: tuple(weight / sum(weights) for weight in weights)
)
LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(np.array)


@given(SEEDS, st.integers(0, 100), st.integers(0, 300))
def test_a_permutation_holds_each_index_once(seed, epoch, n):
    order = permutation(seed, epoch, n)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, permutation(seed, epoch, n))


def test_seed_and_epoch_both_matter():
    orders = [permutation(seed, epoch, 50) for seed in (0, 1, 2**32) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == len(orders)


@given(SEEDS, st.integers(1, 60), st.integers(1, 70), st.booleans())
def test_batches_hold_each_example_once(seed, n, size, shuffle):
    x, y = np.arange(2 * n).reshape(n, 2), np.arange(n)
    parts = list(batches((x, y), size, seed=seed, epoch=3, shuffle=shuffle))
    assert [len(part) for _, part in parts] == [size] * (n // size) + [n % size] * (n % size > 0)
    seen = np.concatenate([part for _, part in parts])
    assert np.array_equal(seen, permutation(seed, 3, n) if shuffle else np.arange(n))
    for inputs, targets in parts:
        assert np.array_equal(inputs, x[targets])


@given(st.integers(1, 60), st.data())
def test_drop_last_leaves_full_batches_only(n, data):
    size = data.draw(st.integers(1, n))
    parts = list(batches((np.zeros((n, 1)), np.arange(n)), size, seed=0, drop_last=True))
    assert [len(part) for _, part in parts] == [size] * (n // size)


def test_batches_of_a_dataset_can_be_written_to():
    data = arrays(np.zeros((4, 2)), [0, 1, 0, 1])
    for shuffle in (True, False):
        inputs, _ = next(batches(data, 2, seed=0, shuffle=shuffle))
        inputs += 1
    assert not data.inputs.any()


@pytest.mark.parametrize(
    "data, options, message",
    [
        (
            ([[1.0]], [1, 2]),
            {"size": 1},
            r"same length, at least 1; got shapes \(1, 1\) and \(2,\)",
        ),
        ((np.zeros((0, 2)), []), {"size": 1}, "at least 1; got shapes"),
        (([[1.0]], [1]), {"size": 0}, "a size of at least 1, got 0"),
        (([[1.0]], [1]), {"size": 1.5}, "size must be a whole number ≥ 0, got 1.5"),
        (([[1.0]], [1]), {"size": 2, "drop_last": True}, "use a size of at most 1"),
        (([[1.0]], [1]), {"size": 1, "seed": -1}, "seed must be a whole number ≥ 0, got -1"),
        (([[1.0]], [1]), {"size": 1, "epoch": "1"}, "epoch must be a whole number ≥ 0, got '1'"),
        (([[1.0]], [1]), {"size": 1, "ahead": -1}, "ahead must be a whole number ≥ 0, got -1"),
        (
            ([[1.0]], [1]),
            {"size": 1, "start": 2},
            "cannot start at 2: an epoch has 1 of 1 examples",
        ),
        ((np.zeros((5, 1)), np.zeros(5)), {"size": 3, "start": 2, "drop_last": True}, "has 1 of 3"),
    ],
)
def test_batches_refuses_before_the_first_batch(data, options, message):
    with pytest.raises(DataError, match=message):
        batches(data, **{"seed": 0, **options})


def noisy(x, rng):
    return x + rng.random(x.shape)


OPTIONS = st.fixed_dictionaries(
    {
        "size": st.integers(1, 9), "seed": SEEDS, "epoch": st.integers(0, 3),
        "shuffle": st.booleans(), "augment": st.sampled_from([None, noisy]),
    }
)  # fmt: skip


@settings(deadline=None)
@given(OPTIONS, st.integers(1, 30), st.booleans(), st.integers(0, 9), st.data())
def test_start_and_ahead_change_no_batch(options, n, drop_last, ahead, data):
    drop_last = drop_last and options["size"] <= n
    x, y = np.arange(2.0 * n).reshape(n, 2), np.arange(n)
    whole = list(batches((x, y), drop_last=drop_last, **options))
    start = data.draw(st.integers(0, len(whole)))
    part = list(batches((x, y), drop_last=drop_last, start=start, ahead=ahead, **options))
    assert len(part) == len(whole) - start
    for one, two in zip(whole[start:], part, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_each_batch_of_each_epoch_is_augmented_differently():
    x, y = np.zeros((6, 50)), np.arange(6)
    seen = [
        (inputs - x[0]).tobytes()
        for seed in (0, 1)
        for epoch in (0, 1)
        for inputs, _ in batches((x, y), 2, seed=seed, epoch=epoch, augment=noisy)
    ]
    assert len(set(seen)) == 12


@pytest.mark.parametrize("ahead", [0, 2])
def test_pixels_are_handed_out_from_0_to_1(ahead, tmp_path):
    pixels = np.arange(256, dtype=np.uint8).reshape(64, 2, 2)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    data = Dataset(mapped, np.zeros(64, np.int64), classes=("a",))
    seen = np.concatenate([x for x, _ in batches(data, 10, seed=0, shuffle=False, ahead=ahead)])
    assert seen.dtype == np.float32 and type(seen) is np.ndarray
    assert np.array_equal(seen, pixels.astype(np.float32) / np.float32(255))
    augmented = batches(data, 64, seed=0, ahead=ahead, augment=lambda x, rng: x.fill(2) or x)
    assert (next(augmented)[0] == 2).all() and mapped.max() == 255


def test_no_more_is_made_ahead_than_asked_for():
    made = []

    def note(x, rng):
        made.append(len(made))
        return x

    examples = (np.zeros((100, 1)), np.zeros(100))
    for k, _ in enumerate(batches(examples, 1, seed=0, ahead=3, augment=note)):
        assert k < len(made) <= k + 4
    assert len(made) == 100


class Failure(Exception):
    pass


def fails_at(third):
    def augment(x, rng):
        if x[0, 0] == third:
            raise Failure(f"at {third}")
        return x

    return augment


X8 = np.arange(8.0).reshape(8, 1)


def of_eight(**options):
    return batches((X8, X8), 1, seed=0, shuffle=False, **options)


@pytest.mark.parametrize("ahead", [0, 1, 20])
def test_an_error_comes_in_its_turn_and_ends_the_thread(ahead):
    before = threading.active_count()
    seen = []
    with pytest.raises(Failure, match="at 3"):
        for x, _ in of_eight(ahead=ahead, augment=fails_at(3)):
            seen.append(x[0, 0])
    assert seen == [0, 1, 2]
    assert threading.active_count() == before


def read_all(parts):
    list(parts)


def read_none(parts):
    del parts


def read_one_and_close(parts):
    next(parts)
    parts.close()


def read_one_and_forget(parts):
    next(parts)


def interrupted(parts):
    with pytest.raises(KeyboardInterrupt):
        for _ in parts:
            raise KeyboardInterrupt


def interrupted_inside(parts):
    next(parts)
    with pytest.raises(KeyboardInterrupt):
        parts.throw(KeyboardInterrupt)


@pytest.mark.parametrize("ahead", [1, 3, 100])
@pytest.mark.parametrize(
    "use",
    [read_all, read_none, read_one_and_close, read_one_and_forget, interrupted, interrupted_inside],
)
def test_no_thread_is_left(use, ahead):
    before = threading.active_count()
    use(of_eight(ahead=ahead))
    assert threading.active_count() == before


def test_a_thread_makes_batches_while_one_is_in_use():
    before = threading.active_count()
    parts = of_eight(ahead=2)
    assert threading.active_count() == before  # it starts with the first batch
    next(parts)
    assert threading.active_count() == before + 1
    parts.close()


def test_closing_does_not_wait_for_batches_that_nobody_wants(monkeypatch):
    made, closing = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closing.set()
            super().shutdown()

    def blocked(x, rng):
        made.append(len(made))
        if len(made) == 3:
            closing.wait()
        return x

    monkeypatch.setattr("chainrule.data.batching.ThreadPoolExecutor", Pool)
    parts = of_eight(ahead=7, augment=blocked)
    next(parts)
    parts.close()
    assert len(made) <= 3


def test_augment_must_keep_the_number_of_examples():
    with pytest.raises(DataError, match=r"augment returned shape \(0, 1\) for 1 examples"):
        list(of_eight(augment=lambda x, rng: x[:0]))
    with pytest.raises(DataError, match=r"augment returned shape \(\) for 1 examples"):
        list(of_eight(augment=lambda x, rng: None))


@given(LABELS, FRACTIONS, SEEDS, st.booleans())
def test_a_split_holds_each_example_once(y, fractions, seed, stratify):
    parts = split(y, fractions, seed=seed, stratify=stratify)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    assert all(part.dtype == np.int64 and np.all(np.diff(part) > 0) for part in parts)
    again = split(y, fractions, seed=seed, stratify=stratify)
    assert all(np.array_equal(one, two) for one, two in zip(parts, again, strict=True))


@given(LABELS, FRACTIONS, SEEDS)
def test_a_stratified_split_keeps_the_fractions_of_each_class(y, fractions, seed):
    parts = split(y, fractions, seed=seed)
    for label in np.unique(y):
        total = int(np.sum(y == label))
        counts = [int(np.sum(y[part] == label)) for part in parts]
        assert counts[0] >= 1
        for count, fraction in zip(counts, fractions, strict=True):
            # Within one of the exact share, but for the example that train is promised.
            assert abs(count - fraction * total) < 1 + (counts[0] == 1)


@given(st.integers(1, 300), FRACTIONS, SEEDS)
def test_a_regression_is_shuffled_and_cut(n, fractions, seed):
    parts = split(np.linspace(0, 1, n), fractions, seed=seed)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * n) < 1 + (len(parts[0]) == 1)


def test_many_small_classes_still_reach_every_part():
    parts = split(np.repeat(np.arange(50), 3), seed=1)
    assert [len(part) for part in parts] == [90, 30, 30]


def test_a_share_that_is_whole_is_kept_in_spite_of_rounding():
    # 100 * 0.29 is 28.999999999999996, and the class of three puts another part behind.
    y = np.array([0] * 3 + [1] * 100)
    parts = split(y, (0.01, 0.29, 0.7), seed=0)
    assert [int(np.sum(y[part])) for part in parts] == [1, 29, 70]


def test_a_class_of_one_example_goes_to_train():
    parts = split(["a", "b", "c"] + ["d"] * 10, (0.1, 0.45, 0.45), seed=5)
    assert {0, 1, 2} <= set(parts.train.tolist())


def test_a_part_of_fraction_zero_is_empty():
    assert [len(part) for part in split([0, 1] * 5, (0.8, 0.2, 0), seed=0)] == [8, 2, 0]


def test_seeds_give_different_splits():
    y = np.arange(100) % 2
    assert not np.array_equal(split(y, seed=0).train, split(y, seed=1).train)


@pytest.mark.parametrize(
    "fractions",
    [(0.5, 0.5), (0.6, 0.2, 0.3), (1.2, -0.2, 0), (0, 0.5, 0.5), (float("nan"), 0.5, 0.5), 1, "ab"],
)
def test_bad_fractions_are_refused(fractions):
    with pytest.raises(DataError, match=r"three fractions ≥ 0 .* such as \(0.6, 0.2, 0.2\); got"):
        split([0, 1], fractions, seed=0)


def test_bad_targets_are_refused():
    with pytest.raises(DataError, match="at least one example"):
        split([], seed=0)
    with pytest.raises(DataError, match=r"shape \(n,\), got \(2, 2\)"):
        split([[0, 1], [1, 0]], seed=0)


def test_split_dataset_takes_the_same_examples():
    data = arrays(np.arange(40.0).reshape(20, 2), np.arange(20) % 2, name="toy")
    for part, indices in zip(split_dataset(data, seed=3), split(data.targets, seed=3), strict=True):
        assert np.array_equal(part.inputs, data.inputs[indices])
        assert np.array_equal(part.targets, data.targets[indices])
        assert part.classes == data.classes
    assert part.name == "toy (test)"


def test_split_dataset_refuses_an_empty_part():
    with pytest.raises(DataError, match="the test part of 4 examples .* is empty"):
        split_dataset(arrays([[1], [2], [3], [4]], [0, 1, 0, 1]), (0.5, 0.5, 0), seed=0)
