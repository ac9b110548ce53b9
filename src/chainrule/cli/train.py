"""`chainrule train`: a network on digits, pictures, a table or a text; also taken up again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import ChainruleError, GradientError, RunError
from .watch import watching

DATA = (
    "digits (1,797 handwritten digits that come along), fashion-mnist, mnist, text (with FILES), "
    "a table (.csv or .parquet, with --target), an .npz file with arrays x and y, or a folder of "
    "pictures with a folder for each class."
)
# Written down, so that help starts fast; a test holds them to the lists of the rooms below.
ACTIVATIONS = ("relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "softplus")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
SCHEDULES = ("constant", "linear", "cosine", "step", "warmup", "plateau")
AUGMENTS = ("shift", "crop", "flip", "noise")
OUT = (
    "The run folder (by default runs/NAME-seed-N, with --model runs/NAME-MODEL-seed-N). A run that "
    "is in it is replaced; a folder with other things is refused."
)
RESUME = "Go on with the run in this folder; its settings come from its run.json."
CONFIG = (
    "A TOML file with options by name, such as epochs = 5 (also data and files). The command line "
    "wins."
)
EXAMPLES = """Train a network, test it, and write a run folder (weights, settings, metrics).

Examples:

chainrule train digits --hidden 128,64

chainrule train fashion-mnist --model cnn --augment shift

chainrule train houses.csv --target price

chainrule train text book.txt --hidden 128

chainrule train --resume runs/digits-seed-0
"""
HERE, MODEL, STEPS, RUN = "Data", "Model", "Training", "Run"


def _option(help: str, panel: str, *, flag: str | None = None, **more: Any) -> Any:
    return typer.Option(*([flag] if flag else []), help=help, rich_help_panel=panel, **more)


def _list(option: str, kind: type) -> Callable[[str | None], Any]:
    """What turns "128,64" into a tuple; '' is the empty one."""

    def parse(text: str | None) -> Any:
        if text is None:
            return None
        try:
            return tuple(kind(part) for part in text.replace(" ", "").split(",") if part)
        except ValueError:
            raise RunError(
                f"--{option} takes sizes like 512 or 128,64; received {text!r}"
            ) from None

    return parse


def train(
    data: Annotated[str | None, typer.Argument(help=DATA)] = None,
    files: Annotated[
        list[str] | None, typer.Argument(help="The files of a text, read one after another.")
    ] = None,
    target: Annotated[
        str | None, _option("The column to predict, for a table.", HERE, metavar="COLUMN")
    ] = None,
    task: Annotated[
        str | None,
        _option("classification or regression; found from the column by default.", HERE),
    ] = None,
    ignore: Annotated[
        list[str] | None, _option("A column to leave out; may be given several times.", HERE)
    ] = None,
    level: Annotated[str | None, _option("Of a text: character (default) or byte.", HERE)] = None,
    length: Annotated[int | None, _option("Of a text: characters in a window (64).", HERE)] = None,
    size: Annotated[
        str | None, _option("Of a folder of pictures: resize to height,width.", HERE)
    ] = None,
    gray: Annotated[
        bool | None, _option("Of a folder of pictures: without colours.", HERE, flag="--gray")
    ] = None,
    folder: Annotated[
        str | None, _option("Where the files of mnist or fashion-mnist are.", HERE)
    ] = None,
    augment: Annotated[
        str | None,
        _option(
            f"{', '.join(AUGMENTS)}: pictures changed at random, as shift:2,flip; "
            "numbers are pixels, that of noise a deviation.",
            HERE,
        ),
    ] = None,
    model: Annotated[
        str | None,
        _option("mlp, linear, cnn or lstm; by default what suits the data.", MODEL),
    ] = None,
    hidden: Annotated[
        str | None,
        _option(
            "Sizes of the hidden layers, as 128,64; '' for none (512; cnn 128, lstm 256).", MODEL
        ),
    ] = None,
    channels: Annotated[
        str | None, _option("Of a cnn: channels of its convolutions (16,32).", MODEL)
    ] = None,
    layers: Annotated[int | None, _option("Of an lstm: how many on another (2).", MODEL)] = None,
    embedding: Annotated[
        int | None, _option("Of an lstm: numbers for each character (64).", MODEL)
    ] = None,
    dropout: Annotated[
        float | None, _option("Of an lstm: share left out around it (0.4).", MODEL)
    ] = None,
    activation: Annotated[str | None, _option(", ".join(ACTIVATIONS) + " (relu).", MODEL)] = None,
    loss: Annotated[
        str | None, _option("softmax or hinge for classes, squared for numbers.", STEPS)
    ] = None,
    optimizer: Annotated[str | None, _option(f"{', '.join(OPTIMIZERS)} (adam).", STEPS)] = None,
    rate: Annotated[
        float | None, _option("The learning rate at the start (1e-3 to 4e-3).", STEPS)
    ] = None,
    schedule: Annotated[
        str | None, _option(f"How it changes: {', '.join(SCHEDULES)} (cosine).", STEPS)
    ] = None,
    penalty: Annotated[float | None, _option("λ of the penalty λ·Σ W² (0).", STEPS)] = None,
    batch: Annotated[int | None, _option("Examples in a batch (32; 128 of many).", STEPS)] = None,
    accumulate: Annotated[int | None, _option("Batches for one update (1).", STEPS)] = None,
    epochs: Annotated[int | None, _option("Passes over the data (5 to 60).", STEPS)] = None,
    patience: Annotated[
        int | None,
        _option("Stop after so many epochs without a better validation loss.", STEPS),
    ] = None,
    clip: Annotated[
        float | None, _option("The largest norm of all gradients together (lstm 1).", STEPS)
    ] = None,
    average: Annotated[
        float | None, _option("Keep averaged weights: what stays a step, as 0.999.", STEPS)
    ] = None,
    seed: Annotated[
        int | None,
        _option("Decides split, weights and order; same seed, same run (0).", STEPS),
    ] = None,
    compiled: Annotated[
        bool | None,
        _option(
            "Compile the steps where that saves time (it is the default), or never.",
            STEPS,
            flag="--compiled/--eager",
        ),
    ] = None,
    config: Annotated[Path | None, _option(CONFIG, RUN, metavar="FILE.toml")] = None,
    resume: Annotated[Path | None, _option(RESUME, RUN, metavar="RUN")] = None,
    out: Annotated[str | None, _option(OUT, RUN)] = None,
    tensorboard: Annotated[
        bool | None,
        _option("Also write event files (extra: tensorboard).", RUN, flag="--tensorboard"),
    ] = None,
    watch: Annotated[
        bool | None,
        _option(
            "Also show the report while it grows, in the browser (extra: serve).",
            RUN,
            flag="--watch",
        ),
    ] = None,
    quiet: Annotated[bool | None, _option("No progress.", RUN, flag="--quiet")] = None,
) -> None:
    parsed = {
        "hidden": _list("hidden", int)(hidden), "channels": _list("channels", int)(channels),
        "size": _list("size", int)(size), "augment": _list("augment", str)(augment),
        "files": tuple(files or ()) or None, "ignore": tuple(ignore or ()) or None,
    }  # fmt: skip
    given = {**{k: v for k, v in locals().items() if k in NAMES}, **parsed}
    given = {k: v for k, v in given.items() if v is not None}
    _train(given, config, resume)


train.__doc__ = EXAMPLES
OF_RUN = ("out", "tensorboard", "watch", "quiet")
OF_DATA = ("files", "target", "task", "ignore", "level", "length", "size", "gray", "folder")
OF_TRAINING = (
    "model", "hidden", "channels", "layers", "embedding", "dropout", "activation", "loss",
    "optimizer", "rate", "schedule", "penalty", "batch", "accumulate", "epochs", "patience",
    "clip", "average", "augment", "seed", "compiled",
)  # fmt: skip
NAMES = ("data", *OF_DATA, *OF_TRAINING, *OF_RUN)


def _train(given: dict[str, Any], config: Path | None, resume: Path | None) -> None:
    """Train, or go on, with the options that were given."""
    from ..train import Options
    from ..train import resume as go_on
    from ..train import train as begin
    from ..train.sources import describe, name_of

    given = {**(_read_config(config) if config else {}), **given}
    options = {k: given[k] for k in OF_TRAINING if k in given}
    about = {k: given[k] for k in OF_DATA if k in given}
    told = {"progress": not given.get("quiet"), "tensorboard": bool(given.get("tensorboard"))}
    data, folder = given.get("data"), given.get("out")
    if resume is not None:
        if folder is not None and Path(folder) != resume:
            raise RunError(f"--resume goes on in {resume}: leave out --out {folder}")
        about = {"paths" if k == "files" else k: v for k, v in about.items()} | _place(data)
        folder = resume
        work: Callable[[], Any] = partial(go_on, resume, given=options, source=about, **told)
    else:
        if data is None:
            raise RunError(
                "name the data, for example: chainrule train digits; or --resume RUN; see "
                "chainrule train --help"
            )
        source = describe(data, options.get("seed", 0), **about)
        name = "-".join(filter(None, (name_of(source), options.get("model"))))
        folder = Path(folder or Path("runs") / f"{name}-seed-{options.get('seed', 0)}")
        if told["progress"] and (folder / "run.json").exists():
            typer.echo(f"replaces the earlier run in {folder} once a step is taken")
        work = partial(begin, source, Options(**options), out=folder, **told)
    with watching(folder) if given.get("watch") else nullcontext() as wait:
        try:
            done = work()
        except GradientError:  # that is when a report is needed most
            if (folder / "report.html").exists() or (folder / "run.json").exists():
                _report(folder, {}, Console(highlight=False, soft_wrap=True))
            raise
        _say(done, folder)
        if wait is not None:
            typer.echo("the page stays until Ctrl-C")
            with suppress(KeyboardInterrupt):  # what was asked for
                wait()


def _place(data: str | None) -> dict[str, Any]:
    """What the data given with --resume says of its source."""
    if data is None:
        return {}
    named = data in ("digits", "fashion-mnist", "mnist", "text")
    return {"kind": data} if named else {"path": data}


def _read_config(path: Path) -> dict[str, Any]:
    """The options in a TOML file, their names and types checked."""
    import tomllib
    import typing

    from ..data.files import read_bytes
    from ..train import Options
    from ..train.options import checked

    texts, word = (
        tuple[str, ...],
        dict.fromkeys(("data", "target", "task", "level", "folder", "out"), str),
    )
    kinds = {
        **typing.get_type_hints(Options), **word, "files": texts, "ignore": texts, "length": int,
        "size": tuple[int, ...], "gray": bool, "tensorboard": bool, "watch": bool,
        "quiet": bool,
    }  # fmt: skip
    try:
        found = tomllib.loads(read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path} is no TOML file: {error}") from error
    return checked(found, kinds, str(path))


def _say(done: Any, folder: Path) -> None:
    """Print how it ended; the exit status is 130 if it was interrupted."""
    console = Console(highlight=False, soft_wrap=True)
    if done is None:
        console.print(f"{folder} is finished: there is nothing to go on with")
        return
    history = done.history
    best = f", best epoch {history.best}" if history.best else ""
    console.print(f"{len(history)} epochs in {history.seconds:.1f} s ({history.stopped}{best})")
    if not history.interrupted:
        console.print(done.summary)
        for finding in done.diagnosis.serious if done.diagnosis is not None else ():
            console.print(f"{finding}", markup=False)
    console.print(f"run folder: {folder}")
    _report(folder, {str(done.run.data.get("fingerprint")): done.test}, console)
    if history.interrupted:
        console.print(f"go on with: chainrule train --resume {folder}")
        raise typer.Exit(130)


def _report(folder: Path, known: dict[str, Any], console: Console) -> None:
    """Write report.html into the run folder; that it cannot be made is no failure of the run."""
    from ..pages import report

    try:
        console.print(f"report: {report(folder, known)}")
    except ChainruleError as error:
        console.print(f"no report: {error}", markup=False)
