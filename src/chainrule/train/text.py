"""Models of text: what they write, and how well they predict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core.context import no_grad
from ..errors import RunError
from ..nn import softmax_cross_entropy
from ..ops import random
from .models import TextModel
from .progress import tracked

CHUNK = 256
"""Characters that the model reads in one go while a text is measured."""


def nats(model: Any, tokens: Any) -> tuple[float, float]:
    """-1/n Σ_t log p(token t+1 | tokens 1 … t) in nats, and the share that was guessed right.

    The state is carried from the first token (1-d) to the last.
    """
    total, right, state = 0.0, 0, None
    with no_grad():
        for start in tracked(range(0, len(tokens) - 1, CHUNK), "reading"):
            piece = tokens[start : start + CHUNK + 1]
            scores, state = model.carry(piece[None, :-1], state)
            total += float(softmax_cross_entropy(scores[0], piece[1:], reduction="sum"))
            right += int((np.asarray(scores)[0].argmax(-1) == piece[1:]).sum())
    return total / (len(tokens) - 1), right / (len(tokens) - 1)


def sample(
    model: Any, prompt: Any, length: int, *, temperature: float = 1.0, seed: int = 0
) -> Iterator[int]:
    """`length` tokens after `prompt` (1-d), each drawn from softmax(scores/temperature).

    Temperature 0 takes the likeliest. The same seed gives the same tokens.
    """
    if not isinstance(model, TextModel):
        raise RunError("only a model of text can be sampled: chainrule train text FILE")
    if not len(prompt):
        raise RunError("the prompt is empty: give at least one character")
    if not 0 <= temperature < math.inf:
        raise RunError(f"temperature must be 0 or more and finite, received {temperature}")
    if length < 0:
        raise RunError(f"length must be 0 or more, received {length}")
    key, state, given = random.key(seed), None, np.asarray(prompt)
    for number in range(length):
        with no_grad():
            scores, state = model.carry(given[None], state)
            last = np.asarray(scores)[0, -1].astype(np.float64)
            token = int(last.argmax())
            if temperature:
                weights = np.exp((last - last.max()) / temperature)
                place = float(random.uniform(random.fold_in(key, number), dtype=np.float64))
                ends = weights.cumsum()
                token = int(np.searchsorted(ends, place * ends[-1], side="right"))
        yield token
        given = np.array([token])
