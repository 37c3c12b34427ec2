import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from fontTools.ttLib import TTFont
from markdown import markdown

import mathml
from mathml import FormulaError, characters, convert, convert_page, font


def parsed(tex, *, display=True):
    return ET.fromstring(as_xml(convert(tex, display=display)))


def as_xml(formula):
    """Spell out the one sign that HTML has a name for and XML has none."""
    return formula.replace("&ApplyFunction;", "\u2061")


def text(element):
    return "".join("".join(element.itertext()).split())


def page(source):
    return markdown(
        source,
        extensions=["pymdownx.arithmatex"],
        extension_configs={
            "pymdownx.arithmatex": {"generic": True, "smart_dollar": True}
        },
    )


# Formulas


def test_a_sum_has_its_limits_above_and_below():
    tree = parsed(r"\sum_{i=0}^{k-1} w_i x_i")
    limits = tree.find(".//munderover")
    assert [text(child) for child in limits] == ["∑", "i=0", "k−1"]


def test_lines_of_aligned_are_rows_with_a_column_for_each_mark():
    tree = parsed(r"\begin{aligned} y &= w x \\ dx &= w\,dy \end{aligned}")
    rows = [[text(cell) for cell in row] for row in tree.iter("mtr")]
    assert rows == [["y", "=wx"], ["dx", "=wdy"]]


def test_arg_max_is_upright_and_what_follows_stays():
    tree = parsed(r"\hat{y} = \arg\max_k z_k")
    assert text(tree).replace("\u2061", "") == "yˆ=argmaxkzk"
    under = tree.find(".//munder")
    assert [text(part) for part in under] == ["max", "k"]


def test_chinese_in_text_stays_text():
    tree = parsed(r"H_{\text{输出}} = H")
    assert [e.text for e in tree.iter("mtext")] == ["输出"]


def test_floor_brackets_stand_around_their_fraction():
    tree = parsed(r"\left\lfloor \frac{h + 2p - k}{s} \right\rfloor + 1")
    assert text(tree).startswith("⌊")
    assert "⌋" in text(tree)
    assert [text(part) for part in tree.find(".//mfrac")] == ["h+2p−k", "s"]


def test_a_displayed_formula_is_a_block_and_one_in_a_line_is_not():
    assert parsed("x", display=True).get("display") == "block"
    assert parsed("x", display=False).get("display") != "block"


def test_definitions_of_one_formula_are_not_in_the_next():
    assert text(parsed(r"\def\own{b} \own")) == "b"
    with pytest.raises(FormulaError):
        convert(r"\own", display=True)


@pytest.mark.parametrize(
    "tex", [r"\frac{1}{", r"\nosuchcommand", r"{", r"\left( x", "x^1^2", "&"]
)
def test_a_bad_formula_is_reported_with_its_tex(tex):
    with pytest.raises(FormulaError) as caught:
        convert(tex, display=False)
    assert caught.value.tex == tex
    assert str(caught.value).startswith(f"formula `{tex}`: ")
    assert "\n" not in str(caught.value)


# Pages


def test_formulas_of_a_page_are_converted_and_its_words_stay():
    html, errors = convert_page(page("A $x^2$ and\n\n$$\ny_i\n$$\n\nB.\n"))
    assert errors == []
    assert html.count("<math") == 2
    assert '<span class="formula"' in html
    assert '<div class="formula"' in html
    assert "<p>A " in html
    assert "<p>B.</p>" in html
    assert "arithmatex" not in html
    assert r"\(" not in html


def test_a_page_without_formulas_is_left_alone():
    html = page("It costs $5, or 5 $.\n\n`$x$`\n")
    assert convert_page(html) == (html, [])


@pytest.mark.parametrize(
    ("tex", "drawn"), [("a < b", "a<b"), ("a > b", "a>b"), (r"a \& b", "a&b")]
)
def test_signs_that_html_escapes_are_drawn(tex, drawn):
    source = page(f"${tex}$")
    assert "&" in source
    html, errors = convert_page(source)
    assert errors == []
    formula = re.search("<math.*</math>", html)[0]
    assert text(ET.fromstring(formula)) == drawn


def test_ampersands_of_aligned_survive_the_page():
    html, errors = convert_page(
        page("$$\n\\begin{aligned} a &< b \\\\ c &= d \\end{aligned}\n$$\n")
    )
    assert errors == []
    assert html.count("<mtr>") == 2


def test_formulas_that_fail_are_listed_and_stay_visible():
    html, errors = convert_page(
        page("$a$ $\\bad < 1$ $b$\n\n$$\n\\worse\n$$\n")
    )
    assert [error.tex for error in errors] == [r"\bad < 1", r"\worse"]
    assert r'<span class="formula failed">\bad &lt; 1</span>' in html
    assert r'<div class="formula failed">' in html
    assert r"\worse" in html
    assert html.count("<math") == 2


def test_the_search_index_leaves_formulas_out():
    html, _ = convert_page(page("$x$"))
    assert "data-search-exclude" in html


def test_every_formula_of_the_notes_can_be_drawn(repository):
    found = 0
    for path in sorted((repository / "docs").glob("*/**/*.md")):
        html, errors = convert_page(page(path.read_text("utf-8")))
        assert errors == [], path
        found += html.count("<math")
    assert found > 10


# Characters and font


def test_the_characters_of_formulas_are_collected_with_italic_twins():
    html, _ = convert_page(page(r"卷 $x \le \alpha h$ 积"))
    found = characters(html)
    assert {"x", "𝑥", "≤", "α", "𝛼", "h", "ℎ"} <= found
    assert "卷" not in found


def test_escaped_signs_are_collected_as_what_they_are():
    html, _ = convert_page(page("$a < b$"))
    assert "<" in characters(html)
    assert "&" not in characters(html)


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """Give a font cut to some characters, and the folder it is kept in."""
    folder = tmp_path_factory.mktemp("fonts")
    return font({"𝑥", "ⅇ", "卷"}, folder), folder


@pytest.fixture(scope="module")
def opened(cut):
    return TTFont(io.BytesIO(cut[0]))


@pytest.mark.parametrize("character", "∑⌊⌋𝑥≤ℝ∂0+ⅇ")
def test_the_cut_font_has_what_is_used_and_what_is_usual(opened, character):
    assert ord(character) in opened.getBestCmap()


@pytest.mark.parametrize("character", "卷⅍𝕬")
def test_the_cut_font_has_nothing_else(opened, character):
    assert ord(character) not in opened.getBestCmap()


def test_the_cut_font_is_a_font_for_mathematics_in_woff2(cut, opened):
    assert cut[0][:4] == b"wOF2"
    assert opened.flavor == "woff2"
    assert "MATH" in opened
    assert opened["MATH"].table.MathVariants.VertGlyphConstruction


def test_the_cut_font_is_small(cut):
    assert 5_000 < len(cut[0]) < 100_000


def test_the_font_of_the_notes_is_small_and_has_every_sign(
    repository, tmp_path
):
    used = set()
    for path in sorted((repository / "docs").glob("*/**/*.md")):
        html, _ = convert_page(page(path.read_text("utf-8")))
        used |= characters(html)
    data = font(used, tmp_path)
    assert len(data) < 100_000
    signs = TTFont(io.BytesIO(data)).getBestCmap()
    chinese = re.compile(r"[\u3000-\u9fff\uff00-\uffef]")
    invisible = {"\u2061", "\ufe00", "\ufe01", "\n"}
    missing = {c for c in used - invisible if ord(c) not in signs}
    assert [c for c in missing if not chinese.match(c)] == []


def test_the_same_font_is_cut_once(tmp_path, monkeypatch):
    cuts = []

    def count(text, path, cut=mathml._cut):
        cuts.append(text)
        cut(text, path)

    monkeypatch.setattr(mathml, "_cut", count)
    first = font({"𝑥"}, tmp_path)
    assert font({"𝑥"}, tmp_path) == first
    assert font({"𝑥", "+"}, tmp_path) == first  # a usual sign adds nothing
    assert len(cuts) == 1
    font({"𝑥", "ⅇ"}, tmp_path)
    assert len(cuts) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_two_processes_cut_the_same_bytes(cut, tmp_path, hooks_environment):
    code = (
        "import sys; from pathlib import Path; from mathml import font; "
        "sys.stdout.buffer.write("
        "font({'𝑥', 'ⅇ', '卷'}, Path(sys.argv[1])))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=hooks_environment | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
    )
    assert other.stdout == cut[0]
