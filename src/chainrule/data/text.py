"""Text as tokens: an alphabet, and windows whose targets are the characters that follow."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from .batching import check_fractions, generator, whole
from .dataset import Dataset
from .files import read_bytes

Level = Literal["character", "byte"]
Tokens = NDArray[np.int64]
UNKNOWN = "\ufffd"
"""Unicode's replacement character stands for every character that is not in the alphabet."""
BYTES = tuple(map(chr, range(256)))


@dataclass(frozen=True)
class Alphabet:
    """Token k is `characters[k]`; with level "byte", token k is the byte k.

    >>> letters = Alphabet(("a", "b"))
    >>> letters.encode("abba"), letters.decode([1, 0])
    (array([0, 1, 1, 0]), 'ba')
    """

    characters: tuple[str, ...]
    level: Level = "character"

    def __post_init__(self) -> None:
        if self.level not in ("character", "byte"):
            raise DataError(f"level must be 'character' or 'byte', got {self.level!r}")
        # Written so that whatever a file holds in place of characters is refused, too.
        single = {c for c in self.characters if isinstance(c, str) and len(c) == 1}
        expected = BYTES if self.level == "byte" else tuple(sorted(single))
        if not expected or self.characters != expected:
            raise DataError(
                f"an alphabet of {self.level}s is a tuple of single characters in the order of "
                f"their code points, each once, {'all 256' if expected is BYTES else 'at least 1'};"
                f" got {str(self.characters)[:80]}"
            )

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str | bytes) -> Tokens:
        """The token of each character (or byte) of a text: int64 of shape (length,).

        A character outside the alphabet becomes U+FFFD if the alphabet has that, else DataError.
        """
        if self.level == "byte":
            content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
            return np.frombuffer(content, np.uint8).astype(np.int64)
        points, known = code_points(_decode("the text", text)), code_points(self.characters)
        tokens = np.minimum(np.searchsorted(known, points), len(known) - 1)
        strange = known[tokens] != points
        if strange.any():
            if UNKNOWN not in self.characters:
                at = int(np.argmax(strange))
                raise DataError(
                    f"character {at} of the text, {chr(points[at])!r}, is not in the alphabet of "
                    f"{len(self)} characters {''.join(self.characters)[:80]!r}; leave it out"
                )
            tokens[strange] = self.characters.index(UNKNOWN)
        return tokens.astype(np.int64)

    def decode(self, tokens: ArrayLike) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD. DataError for other tokens."""
        values = np.asarray(tokens)
        if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
            raise DataError(f"decode wants 1-d integers, got {values.dtype} of {values.shape}")
        if values.size and not 0 <= values.min() <= values.max() < len(self):
            raise DataError(
                f"tokens from {values.min()} to {values.max()} for an alphabet of {len(self)}, "
                f"which go from 0 to {len(self) - 1}"
            )
        if self.level == "byte":
            return values.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return "".join(self.characters[k] for k in values)


@dataclass(frozen=True, eq=False, repr=False)
class TextPart(Dataset):
    """A run of text as n windows: inputs (n, length), targets the same one character later.

    Both are views of `tokens`, the whole part (1-d), which evaluation with a carried state reads.
    A Dataset with task "language"; `classes` is the vocabulary.
    """

    tokens: Tokens = field(kw_only=True)

    def epoch(self, seed: int, number: int) -> "TextPart":
        """The windows moved by an offset below their length, drawn from (seed, number).

        Their number stays: at every offset a few characters at the ends are left out.
        """
        count, length = self.inputs.shape
        room = len(self.tokens) - count * length
        offset = int(generator(seed, number, 2).integers(min(room, length)))
        return windows(self.tokens, length, self.name, self.classes, offset)

    def take(self, indices: ArrayLike) -> Dataset:
        """The windows at `indices` as a plain Dataset, which stays as it is in every epoch."""
        return Dataset(self.inputs, self.targets, self.name, self.classes).take(indices)


def windows(
    tokens: Tokens, length: int, name: str, classes: tuple[str, ...], offset: int = 0
) -> TextPart:
    """`tokens` from `offset` cut into as many windows as there are at every offset below length."""
    count = max(1, len(tokens) // length - 1)
    stop = offset + count * length
    inputs, targets = tokens[offset:stop], tokens[offset + 1 : stop + 1]
    shape = (count, length)
    return TextPart(inputs.reshape(shape), targets.reshape(shape), name, classes, tokens=tokens)


@dataclass(frozen=True, eq=False)
class TextData:
    """A text in three parts, one after the other, and the alphabet that made them tokens."""

    alphabet: Alphabet
    train: TextPart
    validation: TextPart
    test: TextPart

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The character of each token, in the order of their code points."""
        return self.alphabet.characters

    def encode(self, text: str | bytes) -> Tokens:
        """`Alphabet.encode`."""
        return self.alphabet.encode(text)

    def decode(self, tokens: ArrayLike) -> str:
        """`Alphabet.decode`."""
        return self.alphabet.decode(tokens)


def text_data(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    level: Level = "character",
    fractions: Sequence[float] = (0.9, 0.05, 0.05),
    length: int = 64,
) -> TextData:
    """Text files, joined as they are, cut into contiguous parts for predicting the next character.

    The vocabulary is the characters of the training part, so that nothing is learned from the
    others; where those have further characters, U+FFFD is added and stands for them all. With
    level "byte" it is the 256 bytes, for text in any encoding. Line ends are kept.

    Raises DataError for a file that cannot be read or is not UTF-8 (with the offset of the byte),
    and for a part shorter than a window and the character after it.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "sea.txt")
    ...     _ = path.write_text("the sea, the sea " * 30)
    ...     text = text_data(path, length=8)
    >>> text.vocabulary
    (' ', ',', 'a', 'e', 'h', 's', 't')
    >>> text.decode(text.train.inputs[0]), text.decode(text.train.targets[0])
    ('the sea,', 'he sea, ')
    """
    if whole("length", length) < 1:
        raise DataError(f"length must be at least 1, got {length}")
    shares = check_fractions(fractions)
    files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not files:
        raise DataError("text_data wants the paths of one or more text files, got none")
    contents = [(os.fspath(path), read_bytes(path)) for path in files]
    name = os.path.basename(contents[0][0]) if len(contents) == 1 else f"{len(contents)} texts"
    if level == "byte":
        text: str | bytes = b"".join(content for _, content in contents)
    else:
        text = "".join(_decode(*each).removeprefix("\ufeff") for each in contents)
    if not text:
        raise DataError(f"{name}: the file is empty; there is nothing to learn from")
    cuts = [int(np.floor(len(text) * share + 1e-6)) for share in np.cumsum(shares)[:2]]
    alphabet = Alphabet(BYTES if level == "byte" else _characters(text, cuts[0]), level)
    tokens = np.split(alphabet.encode(text), cuts)
    parts = []
    for what, part in zip(("train", "validation", "test"), tokens, strict=True):
        if len(part) <= length:
            raise DataError(
                f"{name}: the {what} part of {len(text)} {level}s by fractions "
                f"{tuple(fractions)} has {len(part)}; a window of length {length} takes "
                f"{length + 1}. Give more text, a shorter length or other fractions"
            )
        part.flags.writeable = False
        parts.append(windows(part, length, f"{name} ({what})", alphabet.characters))
    return TextData(alphabet, *parts)


def code_points(text: Iterable[str]) -> NDArray[np.uint32]:
    """The code point of each character: uint32 of shape (length,)."""
    return np.frombuffer("".join(text).encode("utf-32-le", "surrogatepass"), "<u4")


def _characters(text: str | bytes, cut: int) -> tuple[str, ...]:
    assert isinstance(text, str)
    known = set(text[:cut])
    return tuple(sorted(known | {UNKNOWN} if set(text[cut:]) - known else known))


def _decode(source: str, content: str | bytes) -> str:
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source}: not UTF-8 text: byte 0x{content[error.start]:02x} at offset "
            f"{error.start}; save it as UTF-8, or use level='byte'"
        ) from error
