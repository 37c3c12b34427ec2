"""Turn TeX into MathML, and cut the font that draws it."""

from __future__ import annotations

import hashlib
import html
import re
from importlib.metadata import distribution
from pathlib import Path

from math_core import LatexError, LatexToMathML

_CONVERTER = LatexToMathML(fancy_error=False)

# What arithmatex leaves in the page: TeX in a span or, displayed, in a div.
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">'
    r"\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>",
    re.DOTALL,
)

# Letters that formulas are written with, whether used yet or not: adding a
# formula seldom changes the font, and so seldom cuts it anew.
_USUAL = (
    "0123456789+-=<>()[]{}|/.,:;!'′″∞∂∇∑∏∫√±×÷·∗≤≥≠≈≡∼∝∈∉⊂⊆∪∩∀∃→←↔⇒⇔↦"
    "…⋯⋮⋱⌈⌉⌊⌋⟨⟩‖−ℓℝℤℕ𝔼⊙⊕⊗⋆∘"
)


class FormulaError(ValueError):
    """A formula that cannot be converted; `tex` is its source."""

    def __init__(self, tex: str, reason: str) -> None:
        super().__init__(f"formula `{tex}`: {reason}")
        self.tex = tex


def convert(tex: str, *, display: bool) -> str:
    """Return a formula as a `<math>` element.

    Raises FormulaError when it is not TeX that can be converted.
    """
    try:
        return _CONVERTER.convert_with_local_state(tex, displaystyle=display)
    except LatexError as error:
        raise FormulaError(tex, " ".join(str(error).split())) from error


def convert_page(content: str) -> tuple[str, list[FormulaError]]:
    """Replace the TeX of a page's HTML; list what could not be converted.

    A formula that fails stays as TeX, marked, so that a preview can show it.
    """
    errors: list[FormulaError] = []

    def replaced(match: re.Match[str]) -> str:
        tag = match["tag"]
        tex = html.unescape(match["tex"]).strip()
        try:
            formula = convert(tex, display=tag == "div")
        except FormulaError as error:
            errors.append(error)
            return f'<{tag} class="formula failed">{match["tex"]}</{tag}>'
        return f'<{tag} class="formula" data-search-exclude>{formula}</{tag}>'

    return _FORMULA.sub(replaced, content), errors


def characters(content: str) -> set[str]:
    """Collect the characters that the formulas of a page are drawn with."""
    found: set[str] = set()
    for formula in re.findall(r"<math.*?</math>", content, flags=re.DOTALL):
        text = html.unescape(re.sub(r"<[^>]*>", "", formula))
        found.update(text)
        # A single letter in <mi> is drawn as its italic twin.
        found.update(filter(None, map(_italic, text)))
    return found


def font(used: set[str], cache: Path) -> bytes:
    """Return STIX Two Math as WOFF2, cut to the characters given.

    The cut takes a second, so it is kept in `cache` under a name that tells
    what is in it.
    """
    wanted = used | set(_USUAL)
    text = "".join(sorted(wanted))
    kept = cache / f"{hashlib.sha256(text.encode()).hexdigest()}.woff2"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        _cut(text, part)
        part.replace(kept)
    return kept.read_bytes()


def _cut(text: str, path: Path) -> None:
    from fontTools import subset

    options = subset.Options()
    options.flavor = "woff2"
    options.layout_features = ["ssty", "dtls", "kern", "mark", "mkmk"]
    options.hinting = False
    options.recalc_timestamp = False
    source = distribution("ziamath").locate_file(
        "ziamath/fonts/STIXTwoMath-Regular.ttf"
    )
    with subset.load_font(str(source), options) as full:
        subsetter = subset.Subsetter(options)
        subsetter.populate(text=text)
        subsetter.subset(full)
        subset.save_font(full, str(path), options)


def _italic(character: str) -> str:
    """Return the mathematical italic form of a letter, if it has one."""
    if character == "h":
        return "ℎ"
    for first, last, italic in (
        ("A", "Z", 0x1D434),
        ("a", "z", 0x1D44E),
        ("Α", "Ω", 0x1D6E2),
        ("α", "ω", 0x1D6FC),
    ):
        if first <= character <= last:
            return chr(italic + ord(character) - ord(first))
    return ""
