"""The playground's engine: what the course says of the ring, and every message checked."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest

from chainrule.pages.live.session import (
    DATA,
    GRID,
    POINTS,
    SMALL,
    UNITS,
    PlayError,
    Session,
    read_csv,
)


def network(**given: Any) -> dict[str, Any]:
    return {"do": "network", "hidden": [6], "activation": "tanh", "optimizer": "adam",
            "rate": 0.03, "penalty": 0.0, "seed": 0, **given}  # fmt: skip


def accuracy(session: Session, steps: int = 500) -> float:
    return float(session.message({"do": "step", "steps": steps})["accuracy"])


def test_a_line_cannot_separate_the_ring_and_a_hidden_layer_can() -> None:
    """Rows N1, N2 and N3: linear fails, hidden units do it, without an activation they do not."""
    session = Session()
    session.message(network(hidden=[]))
    assert accuracy(session) < 0.7
    session.message(network(activation="none"))
    assert accuracy(session) < 0.7
    for activation in ("tanh", "relu"):
        session.message(network(hidden=[8], activation=activation))
        assert accuracy(session) > 0.95


@pytest.mark.parametrize("kind", DATA)
def test_every_kind_of_data(kind: str) -> None:
    session = Session()
    found = session.message({"do": "data", "kind": kind, "n": 90, "noise": 0.1, "seed": 3})
    assert len(found["data"]["x"]) == 90 and set(found["data"]["y"]) == set(
        range(len(session.names))
    )
    again = Session().message({"do": "data", "kind": kind, "n": 90, "noise": 0.1, "seed": 3})
    assert again["data"] == found["data"]
    json.dumps(session.message({"do": "step", "steps": 3}), allow_nan=False)


def test_what_a_view_shows() -> None:
    session = Session()
    view = session.message(network(hidden=[3, 2]))
    assert len(base64.b64decode(view["plane"])) == 2 * GRID * GRID
    assert [len(layer) for layer in view["units"]] == [3, 2]
    assert len(base64.b64decode(view["units"][0][0])) == SMALL * SMALL
    assert [np.shape(w) for w in view["weights"]] == [(2, 3), (3, 2), (2, 2)]
    assert [g["layer"] for g in view["gradients"]] == ["0.weight", "2.weight", "4.weight"]
    assert all(g["gradient"] > 0 for g in view["gradients"])
    plane = np.frombuffer(base64.b64decode(view["plane"]), np.uint8).reshape(2, GRID, GRID)
    assert (np.abs(plane.astype(int).sum(0) - 255) <= 1).all()
    after = session.message({"do": "step", "steps": 5})
    assert after["steps"] == 5 and len(after["losses"]) == 5


def test_the_boundary_is_where_the_page_draws_it() -> None:
    """The top row of the picture is the top of the plane."""
    session = Session()
    points = [[0.0, 1.2, 1], [0.2, 1.0, 1], [0.0, -1.2, 0], [0.2, -1.0, 0]]
    session.message({"do": "points", "points": points})
    session.message(network(hidden=[]))
    view = session.message({"do": "step", "steps": 300})
    plane = np.frombuffer(base64.b64decode(view["plane"]), np.uint8).reshape(2, GRID, GRID)
    assert plane[1, 0].min() > 128 > plane[1, -1].max()


def test_same_seed_same_training() -> None:
    runs = []
    for _ in range(2):
        session = Session()
        session.message(network(seed=5))
        runs.append(session.message({"do": "step", "steps": 20})["losses"])
    assert runs[0] == runs[1]


def test_findings_name_what_is_wrong() -> None:
    session = Session()
    session.message(network(activation="relu", hidden=[8], optimizer="sgd", rate=100.0))
    try:
        found = session.message({"do": "step", "steps": 5})["findings"]
    except PlayError as error:
        found = [str(error)]
    assert any("dead units" in f or "a smaller rate" in f for f in found), found


def test_the_walk_is_that_of_the_chosen_point() -> None:
    session = Session()
    walk = session.message({"do": "walk", "point": 7})["walk"]
    assert walk["name"] == "loss" and walk["gates"] and walk["views"][""]["svg"].startswith("<svg")
    session.x = session.x[:2]
    with pytest.raises(PlayError, match="point is a whole number from 0 to 1"):
        session.message({"do": "walk", "point": 7})


def test_a_table() -> None:
    text = "width,height,kind\n1,10,a\n2,20,b\n3,10,a\n"
    x, y, names, axes = read_csv(text)
    assert names == ("a", "b") and axes == ("width", "height") and y.tolist() == [0, 1, 0]
    assert x.min() == -1.2 and x.max() == 1.2
    found = Session().message({"do": "csv", "text": text})
    assert found["data"]["axes"] == ["width", "height"]


BAD: list[tuple[Any, str]] = [
    (3, "an object"), ([], "an object"), ({}, "an object"), ({"do": 3}, "an object"),
    ({"do": "x"}, "unknown message"), ({"do": "data", "kind": "square"}, "kind is one of"),
    ({"do": "data", "kind": "ring", "n": 10**9}, "n is a whole number"),
    ({"do": "data", "kind": "ring", "n": True}, "n is a whole number"),
    ({"do": "data", "kind": "ring", "noise": math.nan}, "noise is a number"),
    ({"do": "points"}, "points is a list"), ({"do": "points", "points": []}, "points is a list"),
    ({"do": "points", "points": [[0, 0, 0]] * (POINTS + 1)}, "points is a list"),
    ({"do": "points", "points": [[0, math.inf, 0]]}, "a point is"),
    ({"do": "points", "points": [[0, 0, 7]]}, "a point is"),
    ({"do": "points", "points": [["0", 0, 0]]}, "a point is"),
    (network(hidden=[UNITS + 1]), "hidden is a list"), (network(hidden=[1] * 9), "hidden is"),
    (network(hidden=[True]), "hidden is a list"), (network(hidden="3"), "hidden is a list"),
    (network(activation="exec"), "activation is one of"), (network(rate=0), "rate is a number"),
    (network(rate="1"), "rate is a number"), (network(penalty=-1), "penalty is a number"),
    (network(seed=1.5), "seed is a whole number"), (network(optimizer=None), "optimizer is one"),
    ({"do": "step", "steps": 10**9}, "steps is a whole number"),
    ({"do": "step", "steps": 0}, "steps is a whole number"),
    ({"do": "csv", "text": "a" * (2**20 + 1)}, "at most"), ({"do": "csv", "text": ""}, "a header"),
    ({"do": "csv", "text": "a,b\n1,2\n3,4\n"}, "three columns"),
    ({"do": "csv", "text": "a,b,c\nx,2,k\n3,4,l\n"}, "are numbers"),
    ({"do": "csv", "text": "a,b,c\nnan,2,k\n3,4,l\n"}, "NaN or infinity"),
    ({"do": "csv", "text": "a,b,c\n1,2,k\n3,4,k\n"}, "1 classes"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "says"), BAD)
def test_bad_messages_change_nothing(message: Any, says: str) -> None:
    session = Session()
    session.message({"do": "step", "steps": 2})
    before = session.message({"do": "view"})
    with pytest.raises(PlayError, match=says):
        session.message(message)
    assert session.message({"do": "view"}) == before


def test_a_loss_that_explodes_says_so_and_can_be_reset() -> None:
    session = Session()
    session.message(network(activation="none", hidden=[4, 4], optimizer="sgd", rate=100.0))
    with pytest.raises(PlayError, match="a smaller rate, then reset"):
        session.message({"do": "step", "steps": 300})
    session.message(network(rate=0.03))
    assert math.isfinite(session.message({"do": "step", "steps": 3})["losses"][-1])
