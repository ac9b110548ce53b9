"""The playground without its page: points, a network, its training, and what is to be seen of it.

A `Session` is plain Python: `handle` takes a message from the page, `train` trains for a while,
`frame` says how things stand as plain data. It needs no server and no thread.

>>> session = Session()
>>> session.set(hidden=[6], activation="tanh", held=0.0)
>>> for _ in range(150):
...     session.epoch()
>>> session.measure()["accuracy"] > 0.95
True
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..compiler.compile import compile
from ..core.context import no_grad
from ..errors import ChainruleError, DataError
from ..nn import l2_penalty
from ..train.options import OPTIMIZERS
from . import playground_data as data
from . import playground_views as views
from .playground_messages import SETTINGS, Message, parse
from .playground_network import Network, features, loss_of

EAGER = 100
"""So many steps of a new network run in eager: drawing and building never wait for a compiler."""
KEPT = 300
"""Points of a curve; beyond, every second one is left out."""
STRUCTURE = ("inputs", "hidden", "activation", "seed")
"""Settings that need another network; all others keep the weights."""
Data = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How the network is built and trained. `pace` is epochs a second, 0 as many as there are."""

    inputs: tuple[str, ...] = ("x", "y")
    hidden: tuple[int, ...] = (4,)
    activation: str = "tanh"
    loss: str = "softmax"
    optimizer: str = "adam"
    rate: float = 0.03
    batch: int = 20
    l2: float = 0.0
    held: float = 0.2
    seed: int = 0
    pace: float = 30.0


class Curve:
    """Numbers over the epochs: at most `KEPT` rows, the last one always."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.stride = 1

    def due(self, epoch: int) -> bool:
        """Whether a row of this epoch is wanted."""
        return not self.rows or epoch >= self.rows[-1][0] + self.stride

    def add(self, *row: Any) -> None:
        """A row, its epoch first; it replaces one of the same epoch."""
        if self.rows and self.rows[-1][0] >= row[0]:
            self.rows.pop()
        self.rows.append(row)
        if len(self.rows) > KEPT:
            self.rows = self.rows[::2]
            self.stride *= 2


class Session:
    """One playground. Messages with mistakes are a DataError, and change nothing."""

    def __init__(self, points: data.Points | None = None) -> None:
        self.points = points if points is not None else data.preset("ring")
        self.settings = Settings()
        self.playing = False
        self.notice = ""
        """What the page should say: why the training stopped."""
        self.chosen: tuple[float, float, int] | None = None
        self.version = 0
        """Counts changes of points and settings."""
        self._build()

    # -- changes ------------------------------------------------------------------------------

    def handle(self, text: str) -> Data | None:
        """Do what a message says; the answer, if it asks for one."""
        return self.do(parse(text))

    def do(self, message: Message) -> Data | None:
        """The same of a message that is checked."""
        fields = dict(message.fields)
        if message.do == "walk":
            return self.walk()
        if message.do in ("play", "pause"):
            self.playing = message.do == "play"
            self.notice = ""
            return None
        self.notice = ""
        if message.do == "step":
            self.playing = False
            self.step()
        elif message.do == "reset":
            self.playing = False
            self._build()
        elif message.do == "settings":
            self.set(**fields)
        elif message.do == "choose":
            self.chosen = (fields["x"], fields["y"], min(fields["class"], self._classes() - 1))
        elif message.do != "seen":
            self._change_points(message.do, fields)
        return None

    def set(self, **settings: Any) -> None:
        """Change settings by name; a change of the structure draws new weights."""
        unknown = settings.keys() - SETTINGS.keys()
        if unknown:
            raise DataError(f"unknown settings {', '.join(sorted(unknown))}")
        settings = {
            k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in settings.items()
        }
        before, self.settings = self.settings, replace(self.settings, **settings)
        changed = {k for k in settings if getattr(before, k) != getattr(self.settings, k)}
        if changed.intersection(STRUCTURE):
            self._build()
        elif changed & {"optimizer", "loss"}:
            self._prepare()
        elif "rate" in changed:
            self.optimizer.lr = self.settings.rate
        if "held" in changed:
            self._split()
        self.version += 1

    def _change_points(self, do: str, fields: Data) -> None:
        here = [(float(x), float(y), int(k)) for (x, y), k in
                zip(self.points.places, self.points.labels, strict=True)]  # fmt: skip
        if do == "preset":
            points = data.preset(**fields)
        elif do == "csv":
            points = data.read_csv(fields["text"], fields.get("name") or "the table")
        elif do == "erase":
            x, y, radius = fields["x"], fields["y"], fields["radius"]
            kept = [p for p in here if np.hypot(p[0] - x, p[1] - y) > radius]
            points = data.drawn(kept, self.points)
        elif do == "add":
            points = data.drawn([*here, *fields["points"]], self.points)
        else:
            points = data.drawn(list(fields["points"]), data.nothing())
        self.show(points)

    def show(self, points: data.Points) -> None:
        """Take other points; the weights stay if the number of classes does."""
        classes, self.points = self._classes(), points
        if do_classes := self._classes() != classes:
            self._build()
        else:
            self._split()
            self.curve, self.sizes = Curve(), Curve()
            self._record()
        if self.chosen is not None and (do_classes or points.about != "drawn"):
            self.chosen = None
        if not len(self.train[1]):
            self.playing = False
        self.version += 1

    def _classes(self) -> int:
        return len(self.points.classes)

    # -- the network --------------------------------------------------------------------------

    def _build(self) -> None:
        """A network with fresh weights."""
        s = self.settings
        self.network = Network(
            len(s.inputs), s.hidden, self._classes(), s.activation, s.seed
        )  # fmt: skip
        self.epochs = self.updates = 0
        self.curve, self.sizes = Curve(), Curve()
        self.random = np.random.default_rng(s.seed)
        self._split()
        self._prepare()
        self._record()
        self.version += 1

    def _split(self) -> None:
        held = self.points.held_out(self.settings.held)
        given = features(self.points.places, self.settings.inputs)
        self.train = given[~held], self.points.labels[~held]
        self.test = given[held], self.points.labels[held]
        self._order: Any = np.zeros(0, np.int64)

    def _prepare(self) -> None:
        """A fresh optimizer, and the step that is to be compiled."""
        network, loss = self.network, loss_of(self.settings.loss)
        optimizer = OPTIMIZERS[self.settings.optimizer](network, lr=self.settings.rate)

        def step(x: Any, labels: Any, l2: Any) -> Any:
            optimizer.zero_grad()
            total = loss(network(x), labels) + l2 * l2_penalty(network)
            total.backward()
            optimizer.step()
            optimizer.zero_grad()
            return total

        self.optimizer, self._step = optimizer, step
        self._compiled: Callable[..., Any] | None = None
        self._since = 0

    @property
    def compiled(self) -> bool:
        """Whether the steps run as native code by now."""
        return self._compiled is not None

    def step(self) -> None:
        """One update, on the next batch; at the end of the points an epoch is done."""
        n = len(self.train[1])
        if not n:
            raise DataError("there are no points to learn from: choose a data set, or draw some")
        size = min(self.settings.batch, n)
        if len(self._order) < size:
            self._order = self.random.permutation(n)
        chosen, self._order = self._order[:size], self._order[size:]
        if self._compiled is None and self._since >= EAGER:
            self._compiled = compile(self._step)
        run = self._compiled or self._step
        with np.errstate(all="ignore"):
            run(self.train[0][chosen], self.train[1][chosen], self.settings.l2)
        self._since += 1
        self.updates += 1
        if len(self._order) < size:
            self.epochs += 1
            if self.curve.due(self.epochs):
                self._record()

    def epoch(self) -> None:
        """Updates until an epoch is done."""
        before = self.epochs
        while self.epochs == before:
            self.step()

    def run(self, epochs: float, seconds: float) -> int:
        """Train for so many epochs, or so many seconds if these are over first; epochs done."""
        before, end = self.epochs, time.perf_counter() + seconds
        while self.epochs - before < epochs and time.perf_counter() < end:
            self.epoch()
            if not self._finite():
                self.playing = False
                self.notice = (
                    f"The weights are no longer finite after {self.epochs:,} epochs: the steps were "
                    "too large. Reset, and take a smaller rate."
                )
                break
        return self.epochs - before

    def _finite(self) -> bool:
        return all(np.isfinite(np.asarray(p)).all() for p in self.network.parameters())

    # -- what is to be seen -------------------------------------------------------------------

    def measure(self, test: bool = False) -> Data:
        """Loss and accuracy on the points it learns from, or on those held out; None of none."""
        x, labels = self.test if test else self.train
        if not len(x):
            return {"loss": None, "accuracy": None, "points": 0}
        with no_grad(), np.errstate(all="ignore"):
            scores = np.asarray(self.network(x))
            loss = float(loss_of(self.settings.loss)(scores, labels))
        right = float((scores.argmax(1) == labels).mean())
        return {"loss": views.plain(loss), "accuracy": right, "points": len(x)}

    def _record(self) -> None:
        now, held = self.measure(), self.measure(test=True)
        self.curve.add(self.epochs, now["loss"], held["loss"], now["accuracy"], held["accuracy"])

    def state(self) -> Data:
        """What changes only when something is done: settings and points."""
        p = self.points
        held = p.held_out(self.settings.held)
        return {
            "type": "state", "version": self.version, "settings": asdict(self.settings),
            "classes": list(p.classes), "names": list(p.names), "offset": list(p.offset),
            "scale": list(p.scale), "about": p.about, "limit": data.LIMIT,
            "points": [
                [views.plain(x), views.plain(y), int(k), bool(h)]
                for (x, y), k, h in zip(p.places, p.labels, held, strict=True)
            ],
            "parameters": sum(w.size for w in self.network.parameters()),
        }  # fmt: skip

    def frame(self) -> Data:
        """How things stand: measures, curves, pictures, weights, gradients."""
        s = self.settings
        layers = views.gradients(self.network, s.loss, *self.train)
        self.sizes.add(self.epochs, *(layer["norm"] for layer in layers))
        self._record()
        chosen = None
        if self.chosen is not None:
            x, y, k = self.chosen
            chosen = views.probe(self.network, s.inputs, s.loss, (x, y), k)
        return {
            "type": "frame", "version": self.version, "epoch": self.epochs,
            "updates": self.updates, "playing": self.playing, "compiled": self.compiled,
            "notice": self.notice, "train": self.measure(), "test": self.measure(test=True),
            "curve": self.curve.rows, "sizes": self.sizes.rows, "layers": layers,
            "chosen": chosen, **views.pictures(self.network, s.inputs, s.loss),
        }  # fmt: skip

    def findings(self) -> Data:
        """What `diagnose` finds now, and whether the network is one linear map on the plane."""
        s = self.settings
        try:
            linear = views.one_linear_map(self.network, s.inputs)
        except np.linalg.LinAlgError:
            linear = None
        found = views.findings(self.network, s.loss, *self.train, self.optimizer)
        return {"type": "findings", "found": found, "linear": linear}

    def walk(self) -> Data:
        """The graph of the loss on the chosen point, or on the first one."""
        if self.chosen is None:
            if not len(self.points):
                raise DataError("choose a point on the plane: the walk is that of its loss")
            (x, y), k = self.points.places[0], self.points.labels[0]
            self.chosen = (float(x), float(y), int(k))
        s, (x, y, k) = self.settings, self.chosen
        try:
            made = views.walk(self.network, s.inputs, s.loss, (x, y), k)
        except ChainruleError as error:
            raise DataError(f"no walk: {error}") from error
        return {"type": "walk", "point": [views.plain(x), views.plain(y), k], **made}
