"""`chainrule sample`: text from a run on text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    run: Annotated[Path, typer.Argument(help="The run folder of `chainrule train text`.")],
    length: Annotated[int, typer.Option(help="How many characters (or bytes).")] = 400,
    temperature: Annotated[
        float, typer.Option(help="Below 1 likelier text, above 1 wilder; 0 the likeliest.")
    ] = 0.8,
    prompt: Annotated[str | None, typer.Option(help="The text to go on from.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = 0,
) -> None:
    """Write text with a model of text, a character at a time.

    Example: chainrule sample runs/book-seed-0 --prompt "The licence" --temperature 0.5
    """
    from ..train import load_run
    from ..train.text import sample as draw

    found = load_run(run)
    alphabet = found.alphabet
    first = alphabet.encode(_start(alphabet.characters) if prompt is None else prompt)
    tokens = draw(found.model, first, length, temperature=temperature, seed=seed)
    typer.echo(prompt or "", nl=False)
    if alphabet.level == "byte":  # a character may be several bytes
        typer.echo(alphabet.decode(list(tokens)))
        return
    for token in tokens:
        typer.echo(alphabet.decode([token]), nl=False)
    typer.echo()


def _start(characters: tuple[str, ...]) -> str:
    """What a text goes on from without a prompt: a new line, if the text has lines."""
    return "\n" if "\n" in characters else characters[0]
