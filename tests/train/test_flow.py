"""Gradient flow and diagnosis in run folders: written, continued, never in the way."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.train import Options, resume, train_digits
from chainrule.train.flow import COLUMNS, DIAGNOSIS, GRADIENTS, Flow, read, read_diagnosis, to_csv


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_digits(Options(hidden=(8,), epochs=3), out=folder, progress=False)
    return folder


def test_a_row_for_each_epoch_and_layer(run: Path) -> None:
    rows = read(run)
    assert [(r["epoch"], r["layer"]) for r in rows] == [
        (e, name) for e in (1, 2, 3) for name in ("0.weight", "2.weight")
    ]
    assert all(r["gradient"] > 0 and r["weight"] > 0 and r["upstream"] > 0 for r in rows)
    assert 0 <= rows[0]["dead"] < 1 and math.isnan(rows[1]["dead"])
    assert (run / GRADIENTS).read_text() == to_csv(rows)


def test_the_diagnosis_of_start_and_end(run: Path) -> None:
    found = read_diagnosis(run)
    assert set(found) == {"start", "end"}
    assert found["end"]["loss"] < found["start"]["loss"]
    assert found["start"]["layers"][0]["update"] > 0  # the optimizer was tried
    json.loads((run / DIAGNOSIS).read_text())


def test_a_run_taken_up_goes_on_with_its_rows(tmp_path: Path) -> None:
    options = Options(hidden=(8,), epochs=6, patience=None)

    def stop(done: list[int]) -> Any:
        class Stops:
            def start(self, *args: Any) -> None: ...
            def step(self, count: int) -> None: ...
            def stop(self) -> None: ...
            def epoch(self, row: Any, better: bool) -> None:
                if row.epoch in done:
                    raise KeyboardInterrupt

        return Stops()

    train_digits(options, out=tmp_path / "run", progress=stop([3]))
    assert {r["epoch"] for r in read(tmp_path / "run")} == {1, 2, 3}
    resume(tmp_path / "run", progress=False)
    rows = read(tmp_path / "run")
    assert [r["epoch"] for r in rows] == sorted(r["epoch"] for r in rows)
    assert {r["epoch"] for r in rows} == {1, 2, 3, 4, 5, 6} and len(rows) == 12
    assert set(read_diagnosis(tmp_path / "run")) >= {"end"}


@pytest.mark.parametrize(
    "text", ["", "nonsense", "epoch,layer\n1,a\n", ",".join(COLUMNS) + "\nx,y,1,1,1,1,1,1\n"]
)
def test_damaged_files_are_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / GRADIENTS).write_text(text)
    (tmp_path / DIAGNOSIS).write_text(text)
    assert read(tmp_path) == [] and read_diagnosis(tmp_path) == {}


def test_a_diagnosis_that_fails_stops_nothing(run: Path) -> None:
    from chainrule.data import Dataset

    data = Dataset(np.ones((4, 2), np.float32), np.zeros(4, np.int64), "x", ("a", "b"))
    flow = Flow(lambda x: 3.0, data, lambda out, y: out, None)
    assert flow.look() is None and flow.problem.startswith("no diagnosis: ")
    assert flow.end() is None
