"""The report of a run: everything that can be seen of it, in one file.

`sections` makes each part from the run folder; what cannot be made (data that has moved, files of
an older version) says why in its place. Nothing in a folder is trusted: all of it is checked when
it is read (train/run.py), and escaped here.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..core.context import no_grad
from ..errors import ChainruleError
from ..explain.explorer import explorer
from ..explain.gates import examine
from ..explain.numbers import number
from ..explain.picture import escape
from ..files import AnyPath, write_text
from ..train.flow import read as read_flow
from ..train.flow import read_diagnosis
from ..train.models import ACTIVATIONS, count_weights, example_shape
from ..train.options import LOSSES
from ..train.predictions import outputs
from ..train.run import REPORT, Run, load_run
from ..train.runs import progress_of, state_of
from ..train.sources import OPTIONS, load_again
from .charts import Series, chart, network
from .page import Section, details, page, table
from .seen import boundary, confusion, templates, wrong

SAMPLE = 2000
"""At most so many examples of the test part are looked at."""
WRITTEN = 400
"""Tokens that a model of text writes."""
STEPS = 4
"""Of a text the graph is that of so many steps."""
GRAPH = 4
"""The graph is that of the loss on so many examples."""
Made = str | None


def report(folder: AnyPath, known: dict[str, Any] | None = None) -> Path:
    """Write report.html into a run folder, and return its path.

    `known` has test parts by the fingerprint of the data, which need not be read again; one that
    is read is put there. Raises RunError for a folder that holds no run, or a damaged one.
    """
    target = Path(folder) / REPORT
    shown = _Report(Path(folder), known)
    write_text(target, page(shown.title, shown.subtitle, shown.sections()))
    return target


def sections(folder: AnyPath, known: dict[str, Any] | None = None) -> list[Section]:
    """The sections of a report, as they are now; `known` is as in `report`."""
    return _Report(Path(folder), known).sections()


class _Report:
    def __init__(self, folder: Path, known: dict[str, Any] | None) -> None:
        self.folder = folder
        self.known = {} if known is None else known
        self.run: Run = load_run(folder)
        self.rows = progress_of(folder)
        self.state = state_of(self.run)
        self.flow = read_flow(folder)
        self.diagnosis = read_diagnosis(folder)

    @property
    def title(self) -> str:
        model = self.run.training.get("model") or self.run.description["kind"]
        return f"{self.run.data.get('kind', 'data')}, {model}"

    @property
    def subtitle(self) -> str:
        weights = f"{count_weights(self.run.description):,} parameters"
        return f"{weights}, {len(self.rows)} epochs, {self.state}"

    def sections(self) -> list[Section]:
        """All parts that this run has."""
        made: list[tuple[str, str, Callable[[], Made]]] = [
            ("summary", "What came out", self.summary),
            ("curves", "Training", self.curves),
            ("diagnosis", "Diagnosis", self.found),
            ("flow", "How gradients flow", self.flows),
            ("confusion", "Where it is wrong", self.mistakes),
            ("predicted", "Predicted and true", self.predicted),
            ("sample", "What it writes", self.sample),
            ("boundary", "Decision boundary", self.plane),
            ("templates", "What the first layer looks for", self.first_layer),
            ("network", "The network", self.units),
            ("activation", "The activation", self.activation),
            ("graph", "The graph, to walk through", self.graph),
            ("settings", "Settings, and how to repeat it", self.settings),
        ]
        found = []
        for key, title, make in made:
            try:
                html = make()
            except (ChainruleError, OSError) as error:
                html = f'<p class="soft">not shown: {escape(str(error))}</p>'
            if html:
                found.append(Section(key, title, html))
        return found

    # -- from the folder ----------------------------------------------------------------------

    def summary(self) -> Made:
        result = self.run.result
        best = min(self.rows, key=lambda r: r["validation_loss"], default=None)
        cells: list[tuple[str, str]] = []
        score = result.get("test_score")
        if isinstance(score, float) and math.isfinite(score):
            measure = result.get("measure")
            text = f"{100 * score:.1f} %" if measure == "accuracy" else number(score)
            if measure == "nats":
                loss = result.get("test_loss")
                text = number(loss) if isinstance(loss, float) else "?"
            cells.append((text, f"test {measure or 'score'}"))
        if best is not None:
            cells.append((number(best["validation_loss"]), "best validation loss"))
            cells.append((str(int(best["epoch"])), "best epoch"))
            cells.append((f"{sum(r['seconds'] for r in self.rows):.1f} s", "training"))
        big = "".join(f"<div><b>{escape(a)}</b><span>{escape(b)}</span></div>" for a, b in cells)
        stopped = result.get("stopped")
        note = f"<p>It ended: {escape(str(stopped))}.</p>" if stopped else ""
        if self.state != "finished":
            note += (
                f"<p>This run is {escape(self.state)}; go on with <code>chainrule train --resume "
                f"{escape(shlex.quote(str(self.folder)))}</code></p>"
            )
        return f'<div class="big">{big}</div>{note}' if big or note else None

    def curves(self) -> Made:
        if not self.rows:
            return None
        x = [r["epoch"] for r in self.rows]

        def series(*names: tuple[str, str]) -> list[Series]:
            return [Series(shown, x, [r[key] for r in self.rows]) for shown, key in names]

        losses = [v for r in self.rows for v in (r["loss"], r["validation_loss"]) if v > 0]
        wide = bool(losses) and max(losses) > 30 * min(losses)
        measure = "accuracy" if self.run.classes and not self._text else "R²"
        charts = [
            chart("Loss", series(("train", "loss"), ("validation", "validation_loss")), "epoch",
                  log=wide),
            chart("Accuracy" if self._text else measure.capitalize(), series(
                ("train", "score"), ("validation", "validation_score")), "epoch"),
            chart("Learning rate", series(("rate", "rate")), "epoch"),
        ]  # fmt: skip
        return f'<div class="charts">{"".join(charts)}</div>'

    @property
    def _text(self) -> bool:
        return bool(self.run.description["kind"] == "lstm")

    def found(self) -> Made:
        """What `diagnose` found at the start and at the end."""
        if not self.diagnosis:
            return None
        parts = []
        for when, title in (("start", "Before the first step"), ("end", "At the end")):
            seen = self.diagnosis.get(when)
            if seen is None:
                continue
            findings = [f for f in seen.get("findings", []) if isinstance(f, dict)]
            parts.append(f"<h3>{title}</h3>")
            parts += [_finding(f) for f in findings] or [
                '<p class="fine">Nothing is wrong that can be seen from one batch.</p>'
            ]
            parts.append(details("layer by layer", _layers(seen.get("layers", []))))
        return "".join(parts)

    def flows(self) -> Made:
        """Gradients, weights and activations over the epochs, a line a layer."""
        if not self.flow:
            return None
        rows: dict[str, list[Any]] = {}
        for r in self.flow:
            rows.setdefault(r["layer"], []).append(r)

        def series(column: str) -> list[Series]:
            return [
                Series(name, [r["epoch"] for r in of], [r[column] for r in of])
                for name, of in rows.items()
            ]

        charts = [
            chart("Gradient of the weights", series("gradient"), "epoch", log=True),
            chart("Gradient that reaches the layer", series("upstream"), "epoch", log=True),
            chart("Output of the layer", series("activation"), "epoch", log=True),
            chart("Size of the weights", series("weight"), "epoch", log=True),
        ]
        for column, title in (("dead", "Dead units"), ("saturated", "Saturated entries")):
            if any(math.isfinite(r[column]) for r in self.flow):
                charts.append(chart(f"{title} (share)", series(column), "epoch"))
        return (
            "<p>Root mean squares over a few training examples, after each epoch.</p>"
            f'<div class="charts">{"".join(charts)}</div>'
        )

    def settings(self) -> Made:
        run = self.run
        rows = []
        for part, values in (("model", run.description), ("data", run.data),
                             ("training", run.training)):  # fmt: skip
            rows += [
                (f"{part}.{name}", f"{value!s:.200}")
                for name, value in values.items()
                if value is not None and value != []
            ]
        command = _command(run)
        return (
            f"<pre>{escape(command)}</pre>"
            + details("all settings", table(("setting", "value"), rows, numbers=False))
        )  # fmt: skip

    # -- from model and data ------------------------------------------------------------------

    @cached_property
    def test(self) -> Any:
        """The test part, or its first examples."""
        key = str(self.run.data.get("fingerprint"))
        if key not in self.known:
            self.known[key] = load_again(self.run.data).test
        part = self.known[key]
        return part if self._text or len(part) <= SAMPLE else part.take(np.arange(SAMPLE))

    @cached_property
    def predictions(self) -> Any:
        return outputs(self.run, self._inputs(self.test.inputs))

    def _inputs(self, x: Any) -> Any:
        return np.divide(x, np.float32(255), dtype=np.float32) if x.dtype == np.uint8 else x

    def mistakes(self) -> Made:
        if not self.run.classes or self._text:
            return None
        found, targets = self.predictions, np.asarray(self.test.targets)
        right = float((found.argmax(1) == targets).mean()) if len(targets) else math.nan
        shown = f"<p>{len(targets):,} examples of the test part, {100 * right:.1f} % right.</p>"
        return (
            shown
            + confusion(self.run.classes, targets, found.argmax(1))
            + wrong(self.run.classes, self._inputs(self.test.inputs), targets, found,
                    self.run.training.get("loss") == "hinge")
        )  # fmt: skip

    def predicted(self) -> Made:
        if self.run.classes or self._text:
            return None
        found = self.predictions.reshape(self.test.targets.shape)
        true = self.test.targets
        if self.run.encoder is not None:
            found, true = self.run.encoder.unscale(found), self.run.encoder.unscale(true)
        flat, goal = np.ravel(found)[:500], np.ravel(true)[:500]
        return chart(
            "Each dot an example of the test part",
            [Series("predicted", [float(v) for v in goal], [float(v) for v in flat])],
            "true", "predicted", dots=True,
        )  # fmt: skip

    def sample(self) -> Made:
        if not self._text:
            return None
        from ..train.text import sample

        start = np.asarray(self.test.tokens[:40])
        tokens = [*start, *sample(self.run.model, start, WRITTEN, temperature=0.7)]
        lines = map(escape, str(self.run.alphabet.decode(tokens)).splitlines())
        written = "\n".join(lines)
        return f"<p>Temperature 0.7, after 40 of the test part:</p><pre>{written}</pre>"

    def plane(self) -> Made:
        inputs = self.test.inputs if not self._text else None
        if inputs is None or inputs.ndim != 2 or inputs.shape[1] != 2 or not self.run.classes:
            return None
        return boundary(self.run, inputs, np.asarray(self.test.targets))

    def first_layer(self) -> Made:
        return templates(self.run)

    def units(self) -> Made:
        """Layers of units with their weights, of networks of plain layers."""
        if self.run.description["kind"] not in ("mlp", "linear"):
            return None
        weights = [
            np.asarray(p) for _, p in self.run.model.named_parameters() if p.ndim == 2
        ]  # fmt: skip
        sizes = [w.shape[0] for w in weights] + [weights[-1].shape[1]]
        names = ["inputs", *[f"hidden {k + 1}" for k in range(len(sizes) - 2)], "outputs"]
        depth = len(weights)
        note = (
            f"<p>A {depth}-layer net: the inputs do not count, so it has {depth - 1} hidden "
            f"layer{'s' * (depth != 2)}. Orange connections are positive, blue ones negative.</p>"
        )
        drawn = network(list(zip(names, sizes, strict=True)), weights)
        return f'{note}<div class="net scroll">{drawn}</div>'

    def activation(self) -> Made:
        """Value and derivative of the activation, computed by the engine."""
        from ..autodiff.reverse import grad

        name = self.run.description.get("activation")
        if self.run.description["kind"] == "lstm" or not isinstance(name, str):
            return None
        if not self.run.description.get("hidden") and not self.run.description.get("channels"):
            return None
        f = ACTIVATIONS[name]
        x = np.linspace(-4, 4, 161)
        with no_grad():
            y = np.asarray(f(x))
        slope = np.asarray(grad(lambda z: f(z).sum())(x))
        xs = [float(v) for v in x]
        return chart(
            name,
            [Series("value", xs, [float(v) for v in y]),
             Series("derivative", xs, [float(v) for v in slope])],
            "input",
        )  # fmt: skip

    def graph(self) -> Made:
        """The graph of the loss on a few examples of the test part."""
        run = self.run
        loss = LOSSES.get(str(run.training.get("loss")))
        if loss is None:
            return None
        if self._text:
            tokens = np.asarray(self.test.tokens[: STEPS + 1])
            x, y = tokens[None, :-1], tokens[None, 1:]
        else:
            x, y = self._inputs(self.test.inputs[:GRAPH]), self.test.targets[:GRAPH]
            x = x.reshape(len(x), *example_shape(run.description))
        if not len(x):
            return None
        from ..train.measure import like_targets

        scores = run.model(x)
        value = loss(like_targets(scores, y), y)
        named = {"loss": value, "scores": scores, "x": np.asarray(x)}
        return explorer(examine(value, named)).fragment("walk")


def _finding(f: dict[str, Any]) -> str:
    kind = f.get("severity") if f.get("severity") in ("error", "warning") else "note"
    where = f" at {f.get('where')}" if f.get("where") else ""
    return (
        f'<div class="finding {kind}"><p><b>{escape(str(f.get("name")))}</b>{escape(where)} '
        f"({kind})<br>{escape(str(f.get('text')))}</p>"
        f'<p class="soft">{escape(str(f.get("advice")))}</p></div>'
    )


def _layers(layers: Any) -> str:
    """The layers of a diagnosis as a table."""
    head = ("layer", "output", "gradient", "weights", "their gradient", "update/weights", "dead",
            "saturated")  # fmt: skip
    keys = ("activation", "upstream", "weight", "gradient", "update", "dead", "saturated")

    def write(key: str, x: Any) -> str:
        if not isinstance(x, (int, float)):
            return ""
        return f"{100 * x:.0f} %" if key in ("dead", "saturated") else number(float(x), 3)

    rows = [
        [str(layer.get("name"))[:60], *(write(k, layer.get(k)) for k in keys)]
        for layer in (layers if isinstance(layers, list) else [])
        if isinstance(layer, dict)
    ]
    return table(head, rows)


def _command(run: Run) -> str:
    """A command line that trains the same again."""
    return " ".join(shlex.quote(part) for part in _words(run))


def _words(run: Run) -> Iterator[str]:
    data, training = run.data, run.training
    yield from ("chainrule", "train")
    yield str(data.get("path") or data.get("kind"))
    if isinstance(data.get("paths"), list):
        yield from map(str, data["paths"])
    for name, default in OPTIONS.get(str(data.get("kind")), {}).items():
        value = data.get(name)
        if value in (None, default) or name == "files" or (value == [] and not default):
            continue
        if isinstance(value, bool):
            yield f"--{name}"
        elif name == "ignore" and isinstance(value, list):
            yield from (part for column in value for part in ("--ignore", str(column)))
        else:
            yield from (f"--{name}", _written(value))
    for name, value in training.items():
        if name == "compiled":
            yield from ("--eager",) if value is False else ()
        elif value is not None and (value != [] or name == "hidden"):
            yield from (f"--{name}", _written(value))


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
