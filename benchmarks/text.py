"""The next character of a text: an LSTM against counting, on the same parts of the same text.

The text is the licences that Debian installs, each once, in alphabetical order (or other files),
cut as `chainrule train text` cuts it: both models learn from the first 90 %, the next 5 % decide
when the LSTM is best and fit the weights of the counts, and on the last 5 % both are measured, in
nats per character.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chainrule.errors import DataError
from chainrule.train import tasks
from chainrule.train.options import Options
from chainrule.train.sources import describe, load
from chainrule.train.text import nats as carried_nats
from chainrule.train.text import sample

LICENCES = Path("/usr/share/common-licenses")
LEAST_BYTES = 200_000
Tokens = NDArray[np.int64]


# -- counting ---------------------------------------------------------------------------------


class NGram:
    """P(w | h) = Σ_k λ_k(h)·P_k(w | last k - 1 tokens of h), P_0 = 1/V, for k = 0 … `order`.

    P_k is the share of w among what followed that context in the training tokens, and P_(k-1)
    where nothing did. The weights λ depend on how often all of h was seen (in powers of 2) and
    are fitted by expectation-maximisation on other tokens. Jelinek & Mercer 1980, with the buckets
    of Bahl, Jelinek & Mercer 1983. Of the usual ways to smooth (4-grams, nats per character) it is
    at hand with the best on the middle of every text, and far ahead on the end of the last:

    | | this one | one λ_k for all h | Witten-Bell | Kneser-Ney | modified Kneser-Ney |
    |---|---:|---:|---:|---:|---:|
    | middle of every text | 1.253 | 1.267 | 1.255 | 1.243 | 1.243 |
    | end of the joined texts | 1.463 | 1.543 | 1.727 | 1.616 | 1.594 |

    `train` and `held_out` are integers (n,) below `vocabulary`, more of them than `order`.

    >>> model = NGram(np.array([0, 1, 0, 1, 0]), np.array([0, 1, 0, 1]), vocabulary=2, order=2)
    >>> model.probabilities(np.array([[0, 0], [0, 1]])).round(2)  # of 0 and 1 after 0
    array([0.16, 0.84])
    """

    def __init__(self, train: Tokens, held_out: Tokens, vocabulary: int, order: int = 4) -> None:
        if order < 1 or order * np.log2(vocabulary) >= 63:
            raise DataError(
                f"order {order} with {vocabulary} tokens: an order is at least 1, and V to the "
                "power of it has to fit in 63 bits; choose another"
            )
        for tokens in (train, held_out):
            if len(tokens) <= order or tokens.min() < 0 or tokens.max() >= vocabulary:
                raise DataError(
                    f"an {order}-gram model takes more than {order} tokens, each from 0 to "
                    f"{vocabulary - 1}; received {len(tokens)} of them"
                )
        self.vocabulary, self.order = vocabulary, order
        # for each k: the k-grams as numbers, and how often each is there
        self.counts = [
            np.unique(self._codes(windows(train, k)), return_counts=True)
            for k in range(1, order + 1)
        ]
        self.weights = np.full((64, order + 1), 1 / (order + 1))
        self._fit(windows(held_out, order))

    def probabilities(self, grams: Tokens) -> NDArray[np.float64]:
        """P of the last token of each row after those before it: (n,) of (n, order)."""
        shares, buckets = self._shares(grams)
        found: NDArray[np.float64] = (self.weights[buckets] * shares).sum(axis=1)
        return found

    def _fit(self, grams: Tokens) -> None:
        """λ_k(b) ← the mean responsibility of P_k in bucket b, until nothing changes.

        Each bucket counts as if one more token had been seen, all P_k alike responsible for it:
        so no weight becomes 0, nor does the probability of what was never seen.
        """
        shares, buckets = self._shares(grams)
        prior = self.weights
        for _ in range(1000):
            before = self.weights
            joint = before[buckets] * shares
            totals = prior.copy()
            np.add.at(totals, buckets, joint / joint.sum(axis=1, keepdims=True))
            self.weights = totals / totals.sum(axis=1, keepdims=True)
            if np.abs(self.weights - before).max() < 1e-6:
                break

    def _shares(self, grams: Tokens) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """P_k of the last token of each row, k = 0 … order, and the bucket of its context."""
        shares = [np.full(len(grams), 1 / self.vocabulary)]
        for k, (codes, counts) in enumerate(self.counts, start=1):
            wanted = self._codes(grams[:, self.order - k :])
            # the k-grams of one context are neighbours, from context·V on
            ends = np.append(0, np.cumsum(counts))
            first = wanted - wanted % self.vocabulary
            low, high = np.searchsorted(codes, [first, first + self.vocabulary])
            context = ends[high] - ends[low]
            at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            count = np.where(codes[at] == wanted, counts[at], 0)
            shares.append(np.where(context > 0, count / np.maximum(context, 1), shares[-1]))
        return np.stack(shares, axis=1), np.log2(context + 1).astype(np.int64)

    def _codes(self, grams: Tokens) -> Tokens:
        """Each row as one number, its first token the highest digit."""
        digits = self.vocabulary ** np.arange(grams.shape[1], dtype=np.int64)[::-1]
        return np.asarray(grams @ digits, np.int64)


def windows(tokens: Tokens, size: int) -> Tokens:
    """Every run of `size` tokens: (n - size + 1, size)."""
    return np.lib.stride_tricks.sliding_window_view(tokens, size)


def ngram_nats(
    train: Tokens, validation: Tokens, test: Tokens, order: int = 4, vocabulary: int | None = None
) -> float:
    """-1/n Σ ln P of the test tokens under an interpolated n-gram model, nats per token.

    The first order - 1 tokens are context only. `vocabulary` is the number of tokens there are,
    by default the largest that occurs and those below it.
    """
    parts = [np.asarray(part, np.int64) for part in (train, validation, test)]
    size = vocabulary or 1 + max(int(part.max()) for part in parts)
    model = NGram(parts[0], parts[1], size, order)
    return -float(np.log(model.probabilities(windows(parts[2], order))).mean())


# -- the text ---------------------------------------------------------------------------------


def contents(folder: Path) -> list[Path]:
    """The files of a folder in alphabetical order, each content once; no links, nothing hidden."""
    files = [
        path for path in sorted(folder.glob("[!.]*")) if path.is_file() and not path.is_symlink()
    ]
    first = {path.read_bytes(): path for path in reversed(files)}
    if not first:
        raise DataError(f"{folder} holds no text; name files of at least {LEAST_BYTES:,} bytes")
    return sorted(first.values())


# -- both, side by side -----------------------------------------------------------------------


def run(files: Sequence[Path] = (), options: Options | None = None) -> list[str]:
    """A row a model: the LSTM with its default settings, and n-grams of orders 1 to 6."""
    if not files and not LICENCES.is_dir():
        return [f"The next character: left out, there is no {LICENCES}; name files"]
    files = list(files) or contents(LICENCES)
    size = sum(path.stat().st_size for path in files)
    if size < LEAST_BYTES:
        raise DataError(f"{size:,} bytes of text; at least {LEAST_BYTES:,} are wanted: add files")
    source = describe("text", 0, files=[str(path) for path in files])
    parts = load(source)
    outcome = tasks.train(source, options, progress=False)
    train, validation, test = (p.tokens for p in (parts.train, parts.validation, parts.test))
    count, history = len(parts.train.classes), outcome.history
    nats = carried_nats(outcome.run.model, test)[0]
    lines = [
        f"{len(files)} texts, {size:,} bytes, {count} different characters; {len(train):,} train, "
        f"{len(validation):,} validate, {len(test):,} test.",
        "",
        "| next character | nats per character | seconds | |",
        "|---|---:|---:|---|",
        f"| LSTM | {nats:.4f} | {history.seconds:.0f} | best of {len(history)} epochs: "
        f"{history.best} |",
    ]
    for order in range(1, 7):
        start = time.perf_counter()
        nats = ngram_nats(train, validation, test, order, count)
        lines.append(f"| {order}-gram | {nats:.4f} | {time.perf_counter() - start:.1f} | |")
    letters = parts.train.classes
    prompt = test[:40]
    drawn = [*prompt, *sample(outcome.run.model, prompt, 400, temperature=0.7)]
    written = "".join(letters[k] for k in drawn)
    return [
        *lines,
        "",
        "What the LSTM writes after 40 characters of the test part (temperature 0.7):",
        "",
        "```",
        written,
        "```",
    ]


if __name__ == "__main__":  # python -m benchmarks.text [FILE …]
    print("\n".join(run([Path(name) for name in sys.argv[1:]])))
