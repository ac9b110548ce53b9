"""How formulas are spelled: text, LaTeX, MathML; and Python, which tests evaluate.

A writer gives each part with how tightly it binds; what binds less than its place asks for comes in
parentheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

SUM, PRODUCT, TOTAL, CHAIN, UNARY, POWER, ATOM = 0, 1, 1.2, 1.5, 2, 3, 4
BESIDE, NUMBERED = CHAIN + 0.2, CHAIN + 0.3
"""How tightly things bind. From CHAIN to below UNARY: products of one kind, without parentheses
inside of another of that kind; BESIDE are those that stand side by side, NUMBERED a number and one
thing."""
GREEK = {"δ": r"\delta"}
Part = tuple[str, float]
"""A piece of a formula, and how tightly it binds."""


def numbered(name: str) -> tuple[str, str]:
    """A name and the number at its end, which is written below: W1 as W₁."""
    base = name.rstrip("0123456789")
    return (base, name[len(base) :]) if base and not base.endswith((".", "_", "#")) else (name, "")


class Text:
    """Unicode text, as in `2 q xᵀ`."""

    python = False
    times, hadamard, juxtapose = "·", " ∘ ", " "
    ones = "𝟏"
    """A column of ones."""

    def name(self, name: str, letters: Sequence[str] = ()) -> Part:
        return (f"{name}_{self.indices(letters)}" if letters else name), ATOM

    def indices(self, letters: Sequence[str]) -> str:
        plain = all(len(c) == 1 for c in letters)
        return "".join(letters) if plain else f"[{','.join(letters)}]"

    def looked_up(self, name: str, letters: Sequence[str]) -> str:
        """An index that an array of indices gives."""
        return f"{name}_{self.indices(letters)}"

    def number(self, text: str) -> Part:
        return text, UNARY if text.startswith("-") else ATOM

    def letter(self, letter: str) -> Part:
        """An index as a number in a formula."""
        return letter, ATOM

    def inside(self, index: str, n: int) -> Part:
        """1 where an index lies on its axis, else 0."""
        return f"[0 ≤ {index} < {n}]", ATOM

    def group(self, part: Part, least: float) -> str:
        return part[0] if part[1] >= least else f"({part[0]})"

    def sum(self, first: Part, sign: str, second: Part) -> Part:
        return f"{self.group(first, SUM)} {sign} {self.group(second, PRODUCT)}", SUM

    def product(self, parts: Sequence[Part], between: str, numbers: int = 0) -> Part:
        """A product, its sign in front; behind `numbers` alone, a product needs no parentheses."""
        plain = [self.positive(p) for p in parts]
        signs = sum(p is not None for p in plain)
        joined = self.joined([q or p for p, q in zip(parts, plain, strict=True)], between, numbers)
        return self.negate(joined) if signs % 2 else joined

    def joined(self, parts: Sequence[Part], between: str, numbers: int) -> Part:
        """A product of parts without signs."""
        levels = {self.hadamard: CHAIN, self.times: CHAIN + 0.1, self.juxtapose: BESIDE}
        own = levels[between]
        written = []
        for k, part in enumerate(parts):
            last = 0 < numbers == k == len(parts) - 1
            same = part[1] == own or (own == BESIDE and part[1] == NUMBERED)
            chained = same if k == 0 else last and part[1] >= TOTAL
            plain = chained and part[1] < UNARY
            written.append(part[0] if plain else self.group(part, POWER if k else UNARY))
        loose = 0 < numbers == len(parts) - 1 and parts[-1][1] < UNARY and parts[-1][1] >= TOTAL
        numbered = 0 < numbers == len(parts) - 1 and own == BESIDE
        return between.join(written), parts[-1][1] if loose else NUMBERED if numbered else own

    def divide(self, over: Part, under: Part) -> Part:
        least = CHAIN
        if under[0].replace(".", "").isdigit():  # Σ x/4, but (Σ x)/q
            least = TOTAL
        elif over[1] == BESIDE:  # xᵀ x/4, but (xᵀ x)/q
            least = UNARY
        return f"{self.group(over, least)}/{self.group(under, POWER)}", PRODUCT

    def negate(self, part: Part) -> Part:
        return self.positive(part) or (f"-{self.group(part, PRODUCT)}", UNARY)

    def positive(self, part: Part) -> Part | None:
        """What is negated, if that is all that the part does."""
        return (part[0][1:], PRODUCT) if part[0][0] == "-" and part[1] == UNARY else None

    def power(self, base: Part, exponent: Part) -> Part:
        digits = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
        plain = exponent[0].lstrip("-").isdigit()
        raised = exponent[0].translate(digits) if plain else f"^{self.group(exponent, ATOM)}"
        return self.group(base, ATOM) + raised, POWER

    def transpose(self, part: Part) -> Part:
        return f"{self.group(part, ATOM)}ᵀ", ATOM

    def call(self, name: str, parts: Sequence[Part]) -> Part:
        return f"{name}({', '.join(p[0] for p in parts)})", ATOM

    def bracket(self, first: Part, sign: str, second: Part) -> Part:
        return f"[{first[0]} {sign} {second[0]}]", ATOM

    def total(
        self, letters: Sequence[str], part: Part, sizes: Sequence[int], ranged: bool = False
    ) -> Part:
        """A sum over letters; `ranged` says from where to where each goes."""
        both = zip(letters, sizes, strict=True)
        below = ",".join(f"{c}=0..{n - 1}" for c, n in both) if ranged else self.indices(letters)
        return f"Σ_{below} {self.group(part, PRODUCT)}", TOTAL

    def everything(self, part: Part) -> Part:
        """The sum of all entries."""
        return f"Σ {self.group(part, UNARY)}", TOTAL

    def index(self, offset: int, terms: Sequence[tuple[str, int]]) -> str:
        text = ""
        offset += sum(int(letter) * stride for letter, stride in terms if letter.isdigit())
        for letter, stride in (t for t in terms if not t[0].isdigit()):
            sign = "-" if stride < 0 else "+" if text else ""
            whole = letter.isalnum() or (stride == 1 and letter[0] != "-")
            text += sign + ("" if abs(stride) == 1 else f"{abs(stride)}")
            text += letter if whole else f"({letter})"
        return text + (f"{offset:+d}" if offset and text else "" if text else str(offset))

    def derivative(self, of: str, by: Part) -> Part:
        return f"∂{of}/∂{by[0]}", ATOM

    def equals(self, left: Part, right: Part) -> str:
        return f"{left[0]} = {right[0]}"

    def both(self, left: Part, right: Part) -> str:
        """An equation that stands in another one."""
        return f"{left[0]} = {right[0]}"


class Latex(Text):
    """LaTeX, without the dollars."""

    def number(self, text: str) -> Part:
        head, e, exponent = text.partition("e")
        if e:
            return rf"{head} \cdot 10^{{{int(exponent)}}}", UNARY if head[0] == "-" else PRODUCT
        return super().number(text.replace("inf", r"\infty"))

    times, hadamard, juxtapose = r" \cdot ", r" \circ ", r" \, "
    ones = r"\mathbf{1}"

    def name(self, name: str, letters: Sequence[str] = ()) -> Part:
        base, digits = numbered(name)
        head = GREEK.get(base, base if len(base) == 1 else rf"\mathrm{{{_plain(base)}}}")
        below = ",".join(filter(None, (digits, self.indices(letters))))
        return (f"{head}_{{{below}}}" if below else head), ATOM

    def looked_up(self, name: str, letters: Sequence[str]) -> str:
        return self.name(name, letters)[0]

    def group(self, part: Part, least: float) -> str:
        return part[0] if part[1] >= least else rf"\left({part[0]}\right)"

    def divide(self, over: Part, under: Part) -> Part:
        return rf"\frac{{{over[0]}}}{{{under[0]}}}", POWER

    def power(self, base: Part, exponent: Part) -> Part:
        return f"{self.group(base, ATOM)}^{{{exponent[0]}}}", POWER

    def transpose(self, part: Part) -> Part:
        return rf"{self.group(part, ATOM)}^{{\top}}", POWER

    def call(self, name: str, parts: Sequence[Part]) -> Part:
        inner = ", ".join(p[0] for p in parts)
        return rf"\operatorname{{{_plain(name)}}}\left({inner}\right)", ATOM

    def bracket(self, first: Part, sign: str, second: Part) -> Part:
        signs = {"≠": r"\neq", "=": "=", ">": ">", "<": "<", "≥": r"\geq", "≤": r"\leq"}
        return rf"\left[{first[0]} {signs[sign]} {second[0]}\right]", ATOM

    def sum(self, first: Part, sign: str, second: Part) -> Part:
        sign = sign.replace("−", "-")
        return super().sum(first, sign, second)

    def inside(self, index: str, n: int) -> Part:
        return rf"\left[0 \leq {index} < {n}\right]", ATOM

    def total(
        self, letters: Sequence[str], part: Part, sizes: Sequence[int], ranged: bool = False
    ) -> Part:
        sums = rf"\sum_{{{self.indices(letters)}}}"
        if ranged:
            sums = "".join(
                rf"\sum_{{{c}=0}}^{{{n - 1}}}" for c, n in zip(letters, sizes, strict=True)
            )
        return rf"{sums} {self.group(part, PRODUCT)}", TOTAL

    def everything(self, part: Part) -> Part:
        return rf"\sum {self.group(part, UNARY)}", TOTAL

    def derivative(self, of: str, by: Part) -> Part:
        return rf"\frac{{\partial {self.name(of)[0]}}}{{\partial {by[0]}}}", ATOM


SPECIAL = {c: "\\" + c for c in "_#%&{}$"} | {
    "\\": r"\backslash{}", "^": r"\hat{}", "~": r"\sim{}",
}  # fmt: skip


def _plain(name: str) -> str:
    """A name as LaTeX shows it: nothing in it is a command."""
    return "".join(SPECIAL.get(c, c) for c in name)


class MathML(Text):
    """MathML Core, which browsers show by themselves; parts are elements."""

    times, hadamard, juxtapose = "<mo>·</mo>", "<mo>∘</mo>", '<mspace width="0.2em"/>'

    def name(self, name: str, letters: Sequence[str] = ()) -> Part:
        base, digits = numbered(name)
        below = [f"<mn>{digits}</mn>"] if digits else []
        below += [f"<mi>{escape(self.indices(letters))}</mi>"] if letters else []
        if not below:
            return f"<mi>{escape(base)}</mi>", ATOM
        inner = below[0] if len(below) == 1 else f"<mrow>{'<mo>,</mo>'.join(below)}</mrow>"
        return f"<msub><mi>{escape(base)}</mi>{inner}</msub>", ATOM

    def number(self, text: str) -> Part:
        if text.startswith("-"):
            return f"<mrow><mo>−</mo>{self.number(text[1:])[0]}</mrow>", UNARY
        head, e, exponent = text.partition("e")
        if e:
            ten = f"<msup><mn>10</mn><mn>{int(exponent)}</mn></msup>"
            return f"<mrow><mn>{head}</mn><mo>·</mo>{ten}</mrow>", PRODUCT
        return f"<mn>{text.replace('inf', '∞')}</mn>", ATOM

    def letter(self, letter: str) -> Part:
        return f"<mi>{escape(letter)}</mi>", ATOM

    def inside(self, index: str, n: int) -> Part:
        return f"<mrow><mo>[</mo><mi>{escape(f'0 ≤ {index} < {n}')}</mi><mo>]</mo></mrow>", ATOM

    def group(self, part: Part, least: float) -> str:
        if part[1] >= least:
            return part[0]
        return f"<mrow><mo>(</mo>{part[0]}<mo>)</mo></mrow>"

    def sum(self, first: Part, sign: str, second: Part) -> Part:
        left, right = self.group(first, SUM), self.group(second, PRODUCT)
        return f"<mrow>{left}<mo>{sign}</mo>{right}</mrow>", SUM

    def joined(self, parts: Sequence[Part], between: str, numbers: int) -> Part:
        text, level = super().joined(parts, between, numbers)
        return f"<mrow>{text}</mrow>", level

    def divide(self, over: Part, under: Part) -> Part:
        return f"<mfrac>{_row(over)}{_row(under)}</mfrac>", POWER

    def negate(self, part: Part) -> Part:
        made = f"<mrow><mo>−</mo>{self.group(part, PRODUCT)}</mrow>"
        return self.positive(part) or (made, UNARY)

    def positive(self, part: Part) -> Part | None:
        minus, end = "<mrow><mo>−</mo>", "</mrow>"
        if part[1] != UNARY or not part[0].startswith(minus):
            return None
        return part[0][len(minus) : -len(end)], PRODUCT

    def power(self, base: Part, exponent: Part) -> Part:
        return f"<msup>{_row((self.group(base, ATOM), ATOM))}{_row(exponent)}</msup>", POWER

    def transpose(self, part: Part) -> Part:
        return f"<msup>{_row((self.group(part, ATOM), ATOM))}<mi>T</mi></msup>", POWER

    def call(self, name: str, parts: Sequence[Part]) -> Part:
        inner = "<mo>,</mo>".join(p[0] for p in parts)
        return f"<mrow><mi>{escape(name)}</mi><mo>(</mo>{inner}<mo>)</mo></mrow>", ATOM

    def bracket(self, first: Part, sign: str, second: Part) -> Part:
        inner = f"{first[0]}<mo>{escape(sign)}</mo>{second[0]}"
        return f"<mrow><mo>[</mo>{inner}<mo>]</mo></mrow>", ATOM

    def total(
        self, letters: Sequence[str], part: Part, sizes: Sequence[int], ranged: bool = False
    ) -> Part:
        below = f"<munder><mo>Σ</mo><mi>{escape(self.indices(letters))}</mi></munder>"
        if ranged:
            below = "".join(
                f"<munderover><mo>Σ</mo><mrow><mi>{c}</mi><mo>=</mo><mn>0</mn></mrow>"
                f"<mn>{n - 1}</mn></munderover>"
                for c, n in zip(letters, sizes, strict=True)
            )
        return f"<mrow>{below}{self.group(part, PRODUCT)}</mrow>", TOTAL

    def everything(self, part: Part) -> Part:
        return f"<mrow><mo>Σ</mo>{self.group(part, UNARY)}</mrow>", TOTAL

    def derivative(self, of: str, by: Part) -> Part:
        over = f"<mrow><mo>∂</mo>{self.name(of)[0]}</mrow>"
        return f"<mfrac>{over}<mrow><mo>∂</mo>{by[0]}</mrow></mfrac>", ATOM

    def both(self, left: Part, right: Part) -> str:
        return f"{left[0]}<mo>=</mo>{right[0]}"

    def equals(self, left: Part, right: Part) -> str:
        return f'<math displaystyle="true"><mrow>{left[0]}<mo>=</mo>{right[0]}</mrow></math>'


def _row(part: Part) -> str:
    return part[0] if part[0].startswith("<mrow>") else f"<mrow>{part[0]}</mrow>"


class Python(Text):
    """Expressions that Python evaluates: matrices with columns for vectors, or single entries.

    What stands inside of something comes in parentheses, whatever it is.
    """

    python = True
    times, hadamard, juxtapose = " * ", " * ", " * "

    def name(self, name: str, letters: Sequence[str] = ()) -> Part:
        return f"N[{name!r}]" + (f"[{','.join(letters)}]" if letters else ""), ATOM

    def looked_up(self, name: str, letters: Sequence[str]) -> str:
        return f"int(N[{name!r}][{','.join(letters)}])"

    def joined(self, parts: Sequence[Part], between: str, numbers: int) -> Part:
        first = parts[0][0] if parts[0][1] == CHAIN else self.group(parts[0], ATOM)
        return between.join([first, *(self.group(p, ATOM) for p in parts[1:])]), CHAIN

    def sum(self, first: Part, sign: str, second: Part) -> Part:
        return super().sum(first, sign.replace("−", "-"), second)

    def divide(self, over: Part, under: Part) -> Part:
        return f"(({over[0]}) / ({under[0]}))", ATOM

    def power(self, base: Part, exponent: Part) -> Part:
        return f"(({base[0]}) ** ({exponent[0]}))", ATOM

    def negate(self, part: Part) -> Part:
        return self.positive(part) or (f"-({part[0]})", UNARY)

    def positive(self, part: Part) -> Part | None:
        return (part[0][1:], ATOM) if part[0][0] == "-" and part[1] == UNARY else None

    def transpose(self, part: Part) -> Part:
        return f"({part[0]}).T", ATOM

    def inside(self, index: str, n: int) -> Part:
        return f"(0 <= {index} < {n})", ATOM

    def call(self, name: str, parts: Sequence[Part]) -> Part:
        return f"F[{name!r}]({', '.join(p[0] for p in parts)})", ATOM

    def bracket(self, first: Part, sign: str, second: Part) -> Part:
        signs = {"≠": "!=", "=": "==", "≥": ">=", "≤": "<="}
        return f"(1.0 * (({first[0]}) {signs.get(sign, sign)} ({second[0]})))", ATOM

    def total(
        self, letters: Sequence[str], part: Part, sizes: Sequence[int], ranged: bool = False
    ) -> Part:
        loops = " ".join(f"for {c} in range({n})" for c, n in zip(letters, sizes, strict=True))
        return f"sum(({part[0]}) {loops})", ATOM

    def index(self, offset: int, terms: Sequence[tuple[str, int]]) -> str:
        return " + ".join([*(f"{a} * ({c})" for c, a in terms), str(offset)])

    def everything(self, part: Part) -> Part:
        return f"F['sum']({part[0]})", ATOM
