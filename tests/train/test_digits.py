"""The digits with default settings: as good as promised, for ten seeds."""

from __future__ import annotations

import statistics

import pytest

from chainrule.train import train_digits
from chainrule.train.tasks import Options


@pytest.mark.long
def test_ten_seeds() -> None:
    scores = [train_digits(Options(seed=seed), progress=False).test_score for seed in range(10)]
    assert statistics.mean(scores) >= 0.97
    assert min(scores) >= 0.955


def test_one_seed() -> None:
    assert train_digits(Options(seed=0), progress=False).test_score >= 0.955
