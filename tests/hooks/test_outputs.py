import xml.etree.ElementTree as ET

import pytest

from outputs import render_result, render_text
from runner.worker import Result

TABLE = "| layer | size |\n| :--- | ---: |\n| conv | 6×28×28 |\n| pool | 6 |\n"


def tree(html):
    return ET.fromstring(f"<div>{html}</div>")


def tables(html):
    """Give each table as rows of what stands in the cells."""
    return [
        [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        for table in tree(html).iter("table")
    ]


def printed(html):
    return ["".join(e.itertext()) for e in tree(html).iter("pre")]


def test_text_is_shown_as_it_was_printed():
    html = render_text("  one\n\n    two  \n三\n")
    assert printed(html) == ["  one\n\n    two  \n三"]
    assert tables(html) == []


def test_html_is_shown_and_not_obeyed():
    text = "<script>alert(1)</script> & <b> &lt; \"'"
    html = render_text(text)
    assert printed(html) == [text]
    assert tree(html).find(".//script") is None


def test_a_printed_table_is_a_table():
    assert tables(render_text(TABLE)) == [
        [["layer", "size"], ["conv", "6×28×28"], ["pool", "6"]]
    ]
    assert printed(render_text(TABLE)) == []


def test_a_table_without_a_last_line_end_is_one_too():
    assert tables(render_text(TABLE.rstrip("\n")))[0][-1] == ["pool", "6"]


def test_a_table_may_have_no_rows():
    [[head, *_]] = tables(render_text("| a |\n| --- |\n"))
    assert head == ["a"]


def test_columns_are_aligned_as_asked():
    cells = list(tree(render_text(TABLE)).iter("td"))
    assert [cell.get("style") for cell in cells[:2]] == [
        "text-align: left;",
        "text-align: right;",
    ]


def test_text_and_tables_keep_their_order():
    html = render_text(f"first\n{TABLE}between\n\n{TABLE}last\n")
    kinds = [
        element.tag
        for element in tree(html).iter()
        if element.tag in ("pre", "table")
    ]
    assert kinds == ["pre", "table", "pre", "table", "pre"]
    assert printed(html) == ["first", "between", "last"]


def test_two_tables_that_touch_at_a_blank_line_are_two():
    assert len(tables(render_text(f"{TABLE}\n{TABLE}"))) == 2


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "| a | b |",
        "| a | b |\n| 1 | 2 |",
        "x = a | b\n----------\n",
        "|x| = 3\n|y| = 4",
        "a | b\n--- | ---\n1 | 2",
        "| a |\n\n| --- |",
        "| --- |",
        " | a |\n | --- |",
    ],
)
def test_pipes_in_ordinary_text_are_no_table(text):
    assert tables(render_text(text)) == []
    assert printed(render_text(text)) == [text.rstrip("\n")]


@pytest.mark.parametrize(
    "cell",
    [
        "<lambda>",
        "<b>x</b>",
        "<script>alert(1)</script>",
        "a < b > c",
        "<!-- x",
    ],
)
def test_html_in_a_table_is_shown_and_not_obeyed(cell):
    html = render_text(f"| a |\n| --- |\n| {cell} |\n")
    assert tables(html) == [[["a"], [cell]]]


def test_code_in_a_table_is_code():
    html = render_text("| `a<b` |\n| --- |\n| `x|y` `&` |\n")
    assert [c.text for c in tree(html).iter("code")] == ["a<b", "x|y", "&"]


def test_a_wide_table_scrolls_in_the_themes_own_frame():
    inner = tree(render_text(TABLE)).find("./div/div")
    assert inner.get("class") == "md-typeset__table"
    assert inner.find("table") is not None


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_nothing_printed_is_nothing_shown(text):
    assert render_text(text) == ""


def test_a_result_shows_text_then_figures_then_the_failure():
    figures = ("<svg id='a'></svg>", "<svg id='b'></svg>")
    html = render_result(Result("text\n", figures, "Error: a < b"))
    output = tree(html).find("div")
    assert output.get("class") == "output"
    assert [child.get("class") for child in output] == [
        "printed",
        "drawing",
        "drawing",
        "failure",
    ]
    assert [svg.get("id") for svg in output.iter("svg")] == ["a", "b"]
    assert output[-1].text == "Error: a < b"


def test_an_empty_result_shows_nothing():
    assert render_result(Result()) == ""
    assert render_result(Result(stdout=" \n\n")) == ""


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(3)",
        "JavaScript:alert(3)",
        "java&#x09;script:alert(3)",
        "&#106;avascript:alert(3)",
        "data:text/html,x",
        "vbscript:x",
        "//elsewhere.example/x",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("sign", ["", "!"])
def test_a_printed_link_leads_nowhere_dangerous(address, sign):
    html = render_text(f"| a |\n| --- |\n| {sign}[x]({address}) |\n")
    for element in tree(html).iter():
        assert not {"href", "src"} & set(element.attrib), html


@pytest.mark.parametrize(
    "address",
    ["https://example.org/a?b=c#d", "http://example.org", "#here", "../a/b.md"],
)
def test_a_printed_link_to_a_page_stays(address):
    html = render_text(f"| a |\n| --- |\n| [x]({address}) |\n")
    (link,) = tree(html).iter("a")
    assert link.get("href") == address
