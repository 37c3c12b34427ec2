"""What every page owes, read from its source in both languages."""

import ast
import csv
import re
from pathlib import Path

import pytest

from .conftest import ROOT

ZH, EN = ROOT / "docs" / "zh", ROOT / "docs" / "en"
PAGES = sorted(path.relative_to(ZH).as_posix() for path in ZH.rglob("*.md"))
TOPICS = [
    p for p in PAGES if p.split("/")[0] in ("concepts", "modules", "networks")
]
HEADING = re.compile(r"^(#+) .*\{#([\w-]+)\}$", re.MULTILINE)
FENCE = re.compile(
    r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2$", re.MULTILINE | re.DOTALL
)
FORMULA = re.compile(
    r"\$\$(.+?)\$\$|(?<![\\$])\$(?!\s)([^$\n]+?)(?<!\s)\$", re.DOTALL
)
SECTIONS = [
    "idea",
    "from-the-notes",
    "code",
    "use",
    "numbers",
    "pitfalls",
    "questions",
    "references",
]


CAPTION = re.compile(r"\n\n? *(/{3,}) caption\n(.*?)^ *\1$", re.M | re.S)
OPEN_BLOCKS, OPEN_LINES, PITFALLS = 10, 15, 4


def read(page: str) -> tuple[str, str]:
    return (ZH / page).read_text("utf-8"), (EN / page).read_text("utf-8")


def fences(text: str, info: str = "") -> list[tuple[str, str]]:
    """List info string and code of the fences, or of one kind of them."""
    found = []
    for indent, _, kind, code in FENCE.findall(text):
        lines = [line.removeprefix(indent) for line in code.splitlines()]
        if info in ("", kind.strip()):
            found.append((kind.strip(), "\n".join(lines)))
    return found


def open_blocks(text: str) -> list[str]:
    """List the code that a page teaches: blocks without a caption."""
    return [
        match[4]
        for match in FENCE.finditer(text)
        if match[3] == "python" and not CAPTION.match(text, match.end())
    ]


def section(text: str, name: str) -> str:
    """Return a section of a page, its heading left out."""
    body = text.split(f"{{#{name}}}\n", 1)[1]
    return re.split(r"^## ", body, maxsplit=1, flags=re.M)[0]


def prose(text: str) -> str:
    """Drop front matter, code and formulas."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", text))
    return FORMULA.sub("", text)


class _WithoutWords(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            return ast.Constant("")
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        kept = [v for v in node.values if isinstance(v, ast.FormattedValue)]
        return ast.JoinedStr([self.visit(value) for value in kept])


def tree(code: str) -> str:
    return ast.dump(_WithoutWords().visit(ast.parse(code)))


def test_both_languages_have_the_same_files() -> None:
    assert PAGES
    english = sorted(p.relative_to(EN).as_posix() for p in EN.rglob("*.md"))
    assert english == PAGES


@pytest.mark.parametrize("page", PAGES)
class TestLanguagesAgree:
    def test_on_headings_and_anchors(self, page: str) -> None:
        zh, en = (
            [(len(h), a) for h, a in HEADING.findall(t)] for t in read(page)
        )
        assert zh == en
        for text in read(page):
            bare = [
                line
                for line in FENCE.sub("", text).splitlines()
                if re.match(r"#+ ", line) and not HEADING.match(line)
            ]
            assert bare == [], (
                "each heading needs an anchor of its own: {#name}"
            )

    def test_on_the_blocks_that_run(self, page: str) -> None:
        zh, en = (fences(text, "python") for text in read(page))
        assert [tree(code) for _, code in zh] == [tree(code) for _, code in en]

    def test_on_what_is_included_and_shown(self, page: str) -> None:
        zh, en = (
            [f for f in fences(t) if f[0] != "python"] for t in read(page)
        )
        assert zh == en

    def test_on_formulas(self, page: str) -> None:
        def formulas(text: str) -> list[str]:
            text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", text))
            found = ["".join(pair).strip() for pair in FORMULA.findall(text)]
            worded = [re.sub(r"\\text\{[^}]*\}", r"\\text{}", f) for f in found]
            return sorted(worded)  # a sentence may need another order

        zh, en = map(formulas, read(page))
        assert zh == en

    def test_on_links(self, page: str) -> None:
        def links(text: str) -> list[str]:
            found = re.findall(r"\]\(([^)\s]+)\)", prose(text))
            return sorted({link for link in found if "d2l.ai" not in link})

        zh, en = map(links, read(page))
        assert zh == en

    def test_on_terms(self, page: str) -> None:
        """A term in one language has its one translation in the other."""
        zh, en = (prose(text) for text in read(page))
        with (ROOT / "docs" / "terms.csv").open(encoding="utf-8") as file:
            terms = list(csv.DictReader(file))
        missing = []
        for term in terms:
            name = re.sub(r" \(.*\)", "", term["en"])
            if (
                re.search(rf"\b{re.escape(name)}", en, re.I)
                and term["zh"] not in zh
            ):
                missing.append((term["en"], term["zh"]))
        assert missing == []


def test_no_page_uses_a_translation_that_was_ruled_out() -> None:
    """`not X` in the notes of the glossary is meant."""
    with (ROOT / "docs" / "terms.csv").open(encoding="utf-8") as file:
        ruled_out = [
            word
            for term in csv.DictReader(file)
            for word in re.findall(r"not ([\u4e00-\u9fff]+)", term["note"])
        ]
    assert ruled_out
    labs = (ROOT / "docs" / "labs").glob("*.py")
    texts = {p: p.read_text("utf-8") for p in [*ZH.rglob("*.md"), *labs]}
    texts[ROOT / "README.zh.md"] = (ROOT / "README.zh.md").read_text("utf-8")
    found = [
        (p.name, w) for p, text in texts.items() for w in ruled_out if w in text
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES)
def test_chinese_is_set_as_chinese(page: str) -> None:
    """Full-width punctuation, and a space between Chinese and Latin."""
    text = re.sub(
        r"<[^>]+>|\]\([^)]*\)|\[\^\w+\]|\{[^}]*\}", "", prose(read(page)[0])
    )
    text = re.sub(r"[*_|]", "", text)
    han = r"[\u4e00-\u9fff]"
    assert re.findall(rf"{han}[A-Za-z0-9]|[A-Za-z0-9]{han}", text) == []
    assert re.findall(rf"{han}[,;:?!](?!\S*://)", text) == []


@pytest.mark.parametrize("page", PAGES)
def test_an_implementation_is_included_and_never_pasted(page: str) -> None:
    for text in read(page):
        for info, code in fences(text):
            if info.startswith("python title="):
                file = info.split('"')[1]
                assert re.fullmatch(rf'--8<-- "{file}:[\w-]+"', code), code


@pytest.mark.parametrize("page", TOPICS)
def test_a_topic_has_every_part_in_order(page: str) -> None:
    anchors = [
        anchor
        for level, anchor in HEADING.findall(read(page)[0])
        if level == "##"
    ]
    assert anchors == SECTIONS


@pytest.mark.parametrize("page", TOPICS)
@pytest.mark.parametrize("language", [0, 1], ids=["zh", "en"])
class TestATopicIsSeenBeforeItIsRead:
    def test_a_figure_stands_before_the_first_section(
        self, page: str, language: int
    ) -> None:
        opening = read(page)[language].split("\n## ")[0]
        (block,) = FENCE.finditer(opening)
        assert block[3] == "python"
        assert CAPTION.match(opening, block.end())

    def test_what_is_taught_is_short(self, page: str, language: int) -> None:
        blocks = open_blocks(read(page)[language])
        assert 1 <= len(blocks) <= OPEN_BLOCKS
        long = [b for b in blocks if len(b.splitlines()) > OPEN_LINES]
        assert long == []

    def test_pitfalls_are_few(self, page: str, language: int) -> None:
        pitfalls = section(read(page)[language], "pitfalls")
        names = re.findall(r"^### |^- \*\*", pitfalls, flags=re.M)
        assert 1 <= len(names) <= PITFALLS

    def test_an_exercise_is_left_open(self, page: str, language: int) -> None:
        questions = section(read(page)[language], "questions")
        (exercise,) = re.findall(
            r'^!!! example "[^"]+"\n(.*?)(?=^\S|\Z)', questions, re.M | re.S
        )
        ((_, check),) = fences(exercise, "python")
        assert "assert " in check


@pytest.mark.parametrize("page", TOPICS)
@pytest.mark.parametrize("language", [0, 1], ids=["zh", "en"])
def test_an_answer_is_proven(page: str, language: int) -> None:
    answers = re.split(
        r'^\?\?\? question "', read(page)[language], flags=re.MULTILINE
    )
    assert 2 <= len(answers) - 1 <= 3
    for answer in answers[1:]:
        blocks = fences(answer, "python")
        assert blocks, answer[:40]
        assert any("assert " in code for _, code in blocks), answer[:40]


@pytest.mark.parametrize("page", TOPICS)
@pytest.mark.parametrize("language", [0, 1], ids=["zh", "en"])
def test_each_footnote_is_used_and_defined(page: str, language: int) -> None:
    text = read(page)[language]
    defined = re.findall(r"^\[\^(\w+)\]:", text, flags=re.MULTILINE)
    used = re.findall(r"\[\^(\w+)\](?!:)", text)
    assert defined
    assert set(defined) == set(used)


def test_code_fits_the_page() -> None:
    """Lines of a block are at most 80 columns; Chinese takes two each."""

    def width(line: str) -> int:
        return sum(2 if "\u2e80" <= c <= "\uffef" else 1 for c in line)

    wide = [
        (page, line)
        for page in PAGES
        for text in read(page)
        for _, code in fences(text, "python")
        for line in code.splitlines()
        if width(line) > 80
    ]
    assert wide == []


class TestClaims:
    """Every statement of the notes that a page takes up has its verdict."""

    @staticmethod
    def on_pages(language: Path) -> dict[str, tuple[str, str]]:
        """Give page and verdict of each claim, by its id."""
        found = {}
        for page in TOPICS:
            text = (language / page).read_text("utf-8")
            rows = re.findall(
                r'^\| <span id="([\w-]+)">\1</span> .*$', text, re.M
            )
            for name in rows:
                row = re.search(rf'^\| <span id="{name}">.*$', text, re.M)
                assert row is not None
                verdict = re.search(r"\{ \.verdict \.(\w+) \}", row[0])
                assert verdict is not None, f"{page}: {name} has no verdict"
                found[name] = (page, verdict[1])
        return found

    @pytest.mark.parametrize("language", [ZH, EN], ids=["zh", "en"])
    def test_the_table_lists_each_claim_with_its_verdict(
        self, language: Path
    ) -> None:
        claims = self.on_pages(language)
        assert {"conv-1", "conv-2", "lenet-1"} <= set(claims)
        table = (language / "claims.md").read_text("utf-8")
        rows = {
            name: (page, verdict)
            for name, page, anchor, verdict in re.findall(
                r"^\| \[([\w-]+)\]\((\S+?)#([\w-]+)\) .*\.verdict \.(\w+) \} \|$",
                table,
                re.M,
            )
            if name == anchor
        }
        assert rows == claims

    def test_both_languages_judge_alike(self) -> None:
        assert self.on_pages(ZH) == self.on_pages(EN)
