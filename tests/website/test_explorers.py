"""The explorers in a real Chromium, against the NumPy core and PyTorch."""

import csv
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from snippets.core.conv import conv2d, conv2d_backward

from .conftest import ROOT

pytestmark = pytest.mark.xdist_group("site")

PAGE = "concepts/convolution/"
WIDE, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}
ARGUMENTS = {
    "height": "height",
    "width": "width",
    "kernel": "kernel_size",
    "padding": "padding",
    "stride": "stride",
    "dilation": "dilation",
}
LARGEST = 1024  # what the explorer works out

# Everything that the explorer shows, read off the page. `picks` are outputs
# to click on, each as two fractions of the output's height and width.
READ = """
(picks) => {
  const explorer = document.querySelector("conv-explorer");
  const find = (selector) => explorer.querySelector(selector);
  const shown = (element) => element && element.checkVisibility();
  const number = (text) => {
    if (!/^[−-]?\\d+$/.test(text)) throw new Error(`no number: ${text}`);
    return Number(text.replace("−", "-"));
  };
  const rows = (selector) =>
    [...explorer.querySelectorAll(`${selector} tr`)].map((r) => [...r.cells]);
  const problem = find(".explorer-problem");
  if (shown(problem)) {
    const others = [".conv-stage", ".conv-sum", ".conv-facts"].map(find);
    return { problem: problem.innerText, others: others.some(shown) };
  }
  const facts = {
    call: find(".explorer-call").textContent,
    sizes: [...explorer.querySelectorAll(".conv-size math")].slice(1).map((m) => [
      m.querySelector("mfrac").children[0].textContent,
      m.querySelector("mfrac").children[1].textContent,
      m.lastElementChild.textContent,
    ]),
    seen: find(".conv-seen").textContent,
    drawn: shown(find(".conv-grid")) ?? false,
  };
  if (!facts.drawn) return facts;
  const input = () => rows(".conv-panel-input");
  const output = rows(".conv-panel-output");
  const pick = ([a, b]) => {
    const i = Math.floor(a * output.length);
    const j = Math.floor(b * output[0].length);
    output[i][j].click();
    const taps = [];
    input().forEach((cells, r) => cells.forEach((cell, c) => {
      if (cell.classList.contains("conv-tap")) taps.push([r, c]);
    }));
    const box = find(".conv-frame").getBoundingClientRect();
    const corner = input()[0][0].getBoundingClientRect();
    return {
      at: [i, j],
      name: find(".conv-name").textContent,
      now: [...explorer.querySelectorAll(".conv-now")].map((c) => c.dataset.at),
      frame: [
        getComputedStyle(find(".conv-frame")).getPropertyValue("--row"),
        getComputedStyle(find(".conv-frame")).getPropertyValue("--column"),
        Math.round((100 * box.height) / corner.height) / 100,
        Math.round((100 * box.width) / corner.width) / 100,
      ].map(Number),
      taps,
      terms: [...explorer.querySelectorAll(".conv-term")].map((term) => [
        number(term.children[0].textContent),
        number(term.children[1].textContent.replace(/[()]/g, "")),
      ]),
      sum: find(".conv-sum").textContent,
      total: number(find(".conv-sum strong").textContent),
      said: find("[role=status]").textContent,
      corner: find(".conv-start").textContent,
    };
  };
  const toggle = find("[aria-pressed]");
  const cells = (kind) => input().map((row) =>
    row.filter((cell) => cell.classList.contains(kind)).map((cell) => cell.textContent)
  ).filter((row) => row.length);
  if (toggle.ariaPressed === "true") toggle.click();
  const values = {
    padded: [input().length, input()[0].length],
    input: cells("conv-pixel").map((row) => row.map(number)),
    ring: cells("conv-padding").flat(),
    unseen: input().map((row) => row.map((c) => c.classList.contains("conv-unseen"))),
    kernel: rows(".conv-panel-kernel").map((row) => row.map((c) => number(c.textContent))),
    output: output.map((row) => row.map((c) => number(c.textContent))),
    labels: output.flat().map((cell) => cell.ariaLabel),
    picked: picks.map(pick),
  };
  find("[aria-pressed]").click();
  const seen = cells("conv-pixel").map((row) => row.map(number));
  find("[aria-pressed]").click();
  return { ...facts, ...values, times: seen };
}
"""


# What is far from the window is laid out when it nears: a click must not meet
# a control that is about to move.
SETTLE = """() => new Promise((done) => {
  const explorer = document.querySelector("conv-explorer");
  let last = "", still = 0;
  const look = () => {
    explorer.scrollIntoView({block: "center", behavior: "instant"});
    const box = JSON.stringify(explorer.getBoundingClientRect());
    still = box === last ? still + 1 : 0;
    last = box;
    if (still > 10) done(); else requestAnimationFrame(look);
  };
  look();
})"""


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page with the explorer; it must report no error."""
    contexts = []
    troubles: list[str] = []

    def start(
        prefix: str = "",
        query: str = "",
        *,
        viewport: dict[str, int] = WIDE,
        clock: bool = False,
        **options: Any,
    ) -> Any:
        context = browser.new_context(
            viewport=viewport,
            permissions=["clipboard-read", "clipboard-write"],
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        if clock:
            page.clock.install()
        page.on("pageerror", lambda e: troubles.append(f"error: {e}"))
        page.on(
            "console",
            lambda m: (
                troubles.append(f"console: {m.text}")
                if m.type in ("error", "warning")
                else None
            ),
        )
        page.goto(address + prefix + PAGE + query)
        page.wait_for_selector("conv-explorer[live]", state="attached")
        if not clock:
            page.evaluate(SETTLE)
        return page

    yield start
    for context in contexts:
        context.close()
    assert troubles == []


def settings(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        "document.querySelector('conv-explorer').settings"
    )
    return found


def show(page: Any, given: dict[str, Any], kind: str = "edges") -> None:
    page.evaluate(
        """([given, kind]) => {
          const explorer = document.querySelector("conv-explorer");
          explorer.settings = given;
          const select = explorer.querySelector("select");
          select.value = kind;
          select.dispatchEvent(new Event("change"));
        }""",
        [given, kind],
    )


def draw(chance: random.Random) -> dict[str, Any]:
    """Draw settings: most can be, some are too large to draw or cannot be."""
    large = chance.random() < 0.1
    given: dict[str, Any] = {
        "height": chance.randint(1, 90 if large else 12),
        "width": chance.randint(1, 90 if large else 12),
        "kernel": chance.choice([1, 2, 3, 3, 4, 5, 7, 9]),
        "padding": chance.choice([0, 0, 1, 1, 2, 3]),
        "stride": chance.randint(1, 5),
        "dilation": chance.choice([1, 1, 1, 2, 2, 3, 4]),
    }
    if chance.random() < 0.15:
        name = chance.choice(list(given))
        given[name] = chance.choice([0, -1, -3, 2.5, "", "abc", LARGEST + 1])
    return given


def options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("padding", "stride", "dilation")}


def refused(given: dict[str, Any]) -> str | None:
    """Say what the NumPy core has against settings; None if it takes them."""
    sizes = [given[name] for name in ("height", "width", "kernel")]
    if not all(isinstance(size, int) and size >= 1 for size in sizes):
        return "a size"  # no array has it
    height, width, kernel = sizes
    x, w = np.ones((1, 1, height, width)), np.ones((1, 1, kernel, kernel))
    try:
        conv2d(x, w, **options(given))
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def evaluate(formula: str) -> int:
    assert re.fullmatch(r"[\d+−·()]+", formula), formula
    return int(eval(formula.replace("−", "-").replace("·", "*")))


def check_problem(given: dict[str, Any], shown: dict[str, Any]) -> str:
    """Hold what is said against settings to what the core says."""
    assert not shown["others"]
    text = shown["problem"]
    against = refused(given)
    for name, argument in ARGUMENTS.items():
        value, least = given[name], 0 if name == "padding" else 1
        if value == "":
            assert argument in text
            assert str(least) in text
            return "empty"
        if not isinstance(value, int):
            assert against
            assert f"{argument}={value}" in text
            return "whole"
        if value < least:
            assert against
            assert f"{argument}={value}" in text
            assert re.search(rf"{least}(。|\.)", text)
            return "least"
        if value > LARGEST:
            assert f"{argument}={value}" in text
            assert str(LARGEST) in text
            return "most"
    assert against is not None
    assert f"kernel_size={given['kernel']}" in text
    assert f"dilation={given['dilation']}" in text
    sizes = re.findall(r"\d+×\d+", against)
    assert re.findall(r"\d+×\d+", text) == sizes
    assert len(sizes) == 2
    kernel, padding = map(int, re.findall(r"\d+", text.rsplit("×", 1)[1])[1:])
    for name, last, step in (("kernel", kernel, 1), ("padding", padding, -1)):
        assert refused(given | {name: last}) is None
        assert refused(given | {name: last + step}) is not None
    layer = torch.nn.Conv2d(1, 1, given["kernel"], **options(given))
    with pytest.raises(RuntimeError):
        layer(torch.ones(1, 1, given["height"], given["width"]))
    return "fit"


def check_numbers(given: dict[str, Any], shown: dict[str, Any]) -> None:
    """Hold every number shown to the NumPy core, and the call to PyTorch."""
    assert refused(given) is None
    height, width, k = given["height"], given["width"], given["kernel"]
    ones = np.ones((1, 1, height, width)), np.ones((1, 1, k, k))
    y = conv2d(*ones, **options(given))
    times = conv2d_backward(np.ones_like(y), *ones, **options(given))[0][0, 0]

    # PyTorch's shape knows nothing of the formula shown.
    layer = eval(shown["call"], {"torch": torch})
    assert isinstance(layer, torch.nn.Conv2d)
    shape = layer(torch.ones(1, 1, height, width)).shape[2:]
    expected = list(shape) if height != width else [shape[0]]
    for (above, below, result), side in zip(
        shown["sizes"], expected, strict=True
    ):
        assert evaluate(above) // int(below) + 1 == int(result) == side

    numbers = [int(n) for n in re.findall(r"\d+", shown["seen"])]
    none = int((times == 0).sum())
    if none:
        assert sorted(numbers) == sorted([height * width, none])
    elif "once" in shown["seen"]:
        assert times.min() == times.max() == 1
    else:
        assert numbers == sorted({int(times.min()), int(times.max())})
    most = 2 * given["padding"] + max(height, width)
    assert shown["drawn"] == (most <= 14 and k <= 7)
    if shown["drawn"]:
        check_drawing(given, shown, times)


def check_drawing(
    given: dict[str, Any], shown: dict[str, Any], times: Any
) -> None:
    p, k, d, s = (
        given[name] for name in ("padding", "kernel", "dilation", "stride")
    )
    x = np.array(shown["input"], float)[None, None]
    w = np.array(shown["kernel"], float)[None, None]
    assert x.shape[2:] == (given["height"], given["width"])
    assert w.shape[2:] == (k, k)
    assert shown["padded"] == [size + 2 * p for size in x.shape[2:]]
    assert shown["ring"] == ["0"] * (np.prod(shown["padded"]) - x.size)
    y = conv2d(x, w, **options(given))
    assert np.array_equal(shown["output"], y[0, 0])
    assert shown["labels"] == [
        f"y[{i}, {j}] = {int(y[0, 0, i, j])}"
        for i, j in np.ndindex(y.shape[2:])
    ]
    layer = eval(shown["call"], {"torch": torch}).double()
    layer.weight.data = torch.tensor(w)
    assert np.array_equal(layer(torch.tensor(x)).detach().numpy(), y)

    assert np.array_equal(shown["times"], times)
    unseen = np.array(shown["unseen"])
    inside = unseen[p : p + x.shape[2], p : p + x.shape[3]]
    assert np.array_equal(inside, times == 0)
    assert unseen.sum() == inside.sum()

    for pick in shown["picked"]:
        i, j = pick["at"]
        dy = np.zeros_like(y)
        dy[0, 0, i, j] = 1
        # The gradient of one output: the window, and where the kernel lies.
        dx, dw, _ = conv2d_backward(dy, x, w, **options(given))
        where = conv2d_backward(dy, x, np.ones_like(w), **options(given))[0]
        assert pick["now"] == [f"{i},{j}"]
        assert pick["name"].startswith(f"y[{i}, {j}]")
        pixels, weights = np.array(pick["terms"]).T.reshape(2, k, k)
        assert np.array_equal(pixels, dw[0, 0])
        assert np.array_equal(weights, w[0, 0])
        taps = np.zeros(shown["padded"])
        taps[tuple(np.array(pick["taps"]).T)] = 1
        assert taps.sum() == k * k
        seen = taps[p : p + x.shape[2], p : p + x.shape[3]]
        assert np.array_equal(seen, where[0, 0])
        assert seen.sum() or not dx.any()
        total = int(y[0, 0, i, j])
        assert pick["total"] == total == (pixels * weights).sum()
        assert pick["sum"].count("+") == k * k - 1
        assert pick["said"] == pick["sum"]
        assert pick["frame"][:2] == [s * i, s * j]
        assert pick["frame"][2:] == pytest.approx([d * (k - 1) + 1] * 2, 0.01)
        corner = re.findall(r"= (−?\d+)", pick["corner"])
        first = [int(text.replace("−", "-")) for text in corner]
        assert first == [pick["taps"][0][0] - p, pick["taps"][0][1] - p]


def test_every_number_is_that_of_the_core_over_random_settings(
    open_page: Any,
) -> None:
    page = open_page()
    chance = random.Random(0)
    kinds = page.eval_on_selector_all(
        "conv-explorer option", "options => options.map(o => o.value)"
    )
    seen: dict[str, int] = {}
    for _ in range(340):
        given = draw(chance)
        show(page, given, chance.choice(kinds))
        picks = [[chance.random(), chance.random()] for _ in range(2)]
        shown = page.evaluate(READ, picks)
        if "problem" in shown:
            what = check_problem(given, shown)
        else:
            check_numbers(given, shown)
            what = "drawn" if shown["drawn"] else "worked out"
        seen[what] = seen.get(what, 0) + 1
    for what, least in {
        "drawn": 100,
        "worked out": 15,
        "fit": 30,
        "empty": 2,
        "whole": 2,
        "least": 5,
        "most": 2,
    }.items():
        assert seen[what] >= least, seen


def test_each_output_of_one_setting_shows_what_it_saw(open_page: Any) -> None:
    page = open_page()
    given = {
        "height": 8,
        "width": 7,
        "kernel": 3,
        "padding": 2,
        "stride": 2,
        "dilation": 2,
    }
    show(page, given, "mixed")
    picks = [[i / 4 + 0.1, j / 4 + 0.1] for i in range(4) for j in range(4)]
    shown = page.evaluate(READ, picks)
    check_numbers(given, shown)
    assert len({tuple(pick["at"]) for pick in shown["picked"]}) == 16


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
def test_both_languages_show_the_same_numbers_in_their_own_words(
    open_page: Any, prefix: str
) -> None:
    page = open_page(prefix)
    text = ""
    for given in (
        {"padding": 1, "dilation": 2},
        {"height": 900},
        {"kernel": 99},
        {"height": 5000},
        {"stride": 0},
        {"stride": ""},
        {"stride": "1.5"},
        {"stride": 3, "height": 8, "width": 8, "kernel": 2},
    ):
        initial = page.evaluate(
            "document.querySelector('conv-explorer').initial"
        )
        show(page, initial | given)
        text += page.inner_text("conv-explorer .explorer")
    chinese = re.findall(r"[\u4e00-\u9fff]", text)
    if prefix:
        assert chinese == []
        return
    assert len(chinese) > 300
    with (ROOT / "docs" / "terms.csv").open(encoding="utf-8") as file:
        terms = {term["en"]: term["zh"] for term in csv.DictReader(file)}
    for term in ("kernel", "padding", "stride", "dilation"):
        assert terms[term] in text
    assert re.findall(r"[\u4e00-\u9fff][A-Za-z0-9]", text) == []
    assert re.findall(r"[A-Za-z0-9][\u4e00-\u9fff]", text) == []


class TestControls:
    """What a reader's hands do."""

    @staticmethod
    def field(page: Any, name: str) -> Any:
        return page.locator(f"conv-explorer .explorer-stepper-{name} input")

    def test_random_walk_over_the_real_controls(self, open_page: Any) -> None:
        page = open_page("en/")
        chance = random.Random(5)
        square = page.locator("conv-explorer .conv-square input")
        square.uncheck()
        expected = dict(settings(page))
        for _ in range(40):
            name = chance.choice(list(expected))
            least = 0 if name == "padding" else 1
            stepper = page.locator(f"conv-explorer .explorer-stepper-{name}")
            act = chance.choice(["more", "less", "type", "up", "down"])
            if act == "type":
                expected[name] = chance.randint(0, 8)
                stepper.locator("input").fill(str(expected[name]))
            else:
                up = act in ("more", "up")
                if act in ("more", "less"):
                    stepper.locator("button").nth(int(up)).click()
                else:
                    key = "ArrowUp" if up else "ArrowDown"
                    stepper.locator("input").press(key)
                old = expected[name]
                expected[name] = max(old + (1 if up else -1), min(least, old))
                if old < least:  # up or down, a step leads to what is allowed
                    expected[name] = settings(page)[name]
                    assert least <= expected[name] or not up
            assert settings(page) == expected
            shown = page.evaluate(READ, [[0.5, 0.5]])
            if "problem" in shown:
                check_problem(expected, shown)
            else:
                check_numbers(expected, shown)

    def test_width_follows_height_while_they_are_tied(
        self, open_page: Any
    ) -> None:
        page = open_page()
        self.field(page, "height").fill("9")
        assert settings(page)["width"] == 9
        self.field(page, "width").fill("5")
        assert settings(page)["height"] == 5
        page.locator("conv-explorer .conv-square input").uncheck()
        self.field(page, "width").fill("6")
        assert (settings(page)["height"], settings(page)["width"]) == (5, 6)
        page.locator("conv-explorer .conv-square input").check()
        assert settings(page)["width"] == 5

    def test_arrow_keys_move_the_window(self, open_page: Any) -> None:
        page = open_page()
        chosen = page.locator("conv-explorer [aria-selected=true]")
        chosen.focus()
        at = [0, 0]
        for key, to in (
            ("ArrowRight", [0, 1]),
            ("ArrowDown", [1, 1]),
            ("ArrowLeft", [1, 0]),
            ("ArrowLeft", [1, 0]),
            ("End", [1, 4]),
            ("ArrowRight", [1, 4]),
            ("Home", [1, 0]),
            ("ArrowUp", [0, 0]),
            ("Control+End", [4, 4]),
            ("ArrowDown", [4, 4]),
            ("Control+Home", [0, 0]),
        ):
            page.keyboard.press(key)
            at = to
            focused = page.evaluate("document.activeElement.dataset.at")
            assert focused == ",".join(map(str, at)), key
            assert chosen.get_attribute("data-at") == focused
            said = page.inner_text("conv-explorer [role=status]")
            assert said.startswith(f"y[{at[0]}, {at[1]}] = ")
        outline = page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle"
        )
        assert outline == "solid"

    def test_hovering_shows_a_window_and_leaving_returns(
        self, open_page: Any
    ) -> None:
        page = open_page()
        now = page.locator("conv-explorer .conv-now")
        page.locator("conv-explorer [data-at='1,2']").hover()
        assert now.get_attribute("data-at") == "1,2"
        name = page.inner_text("conv-explorer .conv-name")
        assert name.startswith("y[1, 2]")
        page.locator("conv-explorer .explorer-title").hover()
        assert now.get_attribute("data-at") == "0,0"

    def test_a_tap_chooses_an_output_on_a_phone(self, open_page: Any) -> None:
        page = open_page(viewport=PHONE, has_touch=True)
        page.locator("conv-explorer [data-at='2,3']").tap()
        now = page.locator("conv-explorer .conv-now")
        assert now.get_attribute("data-at") == "2,3"
        page.locator("conv-explorer .explorer-stepper-kernel button").last.tap()
        assert settings(page)["kernel"] == 4

    def test_playing_walks_over_all_outputs_and_ends(
        self, open_page: Any
    ) -> None:
        page = open_page("en/", "?conv.height=4&conv.width=5", clock=True)
        now = page.locator("conv-explorer .conv-now")
        page.get_by_role("button", name="Play").click()
        walked = [now.get_attribute("data-at")]
        for _ in range(8):
            page.clock.run_for(700)
            walked.append(now.get_attribute("data-at"))
        rows = [f"{i},{j}" for i in range(2) for j in range(3)]
        assert walked == [*rows, *["1,2"] * 3]
        page.get_by_role("button", name="Play").click()
        page.clock.run_for(1400)
        page.get_by_role("button", name="Pause").click()
        page.clock.run_for(5000)
        assert now.get_attribute("data-at") == "0,2"
        page.get_by_role("button", name="Step", exact=True).click()
        assert now.get_attribute("data-at") == "1,0"
        page.get_by_role("button", name="Step back").click()
        page.get_by_role("button", name="Step back").click()
        assert now.get_attribute("data-at") == "0,1"

    def test_changing_a_setting_ends_playing(self, open_page: Any) -> None:
        page = open_page("en/", clock=True)
        page.get_by_role("button", name="Play").click()
        self.field(page, "kernel").fill("9")
        assert page.locator("conv-explorer .explorer-problem").is_visible()
        page.clock.run_for(3000)
        self.field(page, "kernel").fill("2")
        assert page.get_by_role("button", name="Play").is_visible()
        now = page.locator("conv-explorer .conv-now")
        assert now.get_attribute("data-at") == "0,0"

    def test_what_changes_is_read_out(self, open_page: Any) -> None:
        page = open_page("en/")
        said = page.locator("conv-explorer [role=status]")
        self.field(page, "kernel").fill("4")
        assert "Output 4×4." in said.inner_text()
        self.field(page, "kernel").fill("8")
        assert "covers 8×8 cells" in said.inner_text()
        assert self.field(page, "stride").get_attribute("aria-invalid") == (
            "false"
        )
        self.field(page, "stride").fill("0")
        assert "stride=0 must be at least 1." in said.inner_text()
        assert self.field(page, "stride").get_attribute("aria-invalid") == (
            "true"
        )

    def test_the_call_and_the_link_are_copied(
        self, open_page: Any, address: str
    ) -> None:
        page = open_page("en/", "#settings")
        self.field(page, "stride").fill("3")
        explorer = page.locator("conv-explorer")
        explorer.get_by_role("button", name="Copy", exact=True).click()
        page.get_by_text("Copied").first.wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.inner_text("conv-explorer .explorer-call")
        assert "stride=3" in copied
        page.get_by_role("button", name="Copy link to this setting").click()
        page.wait_for_function(
            "navigator.clipboard.readText().then(t => t.startsWith('http'))"
        )
        link = page.evaluate("navigator.clipboard.readText()")
        assert link == f"{address}en/{PAGE}?conv.stride=3#settings"


class TestAddress:
    def test_random_settings_come_back_from_the_address(
        self, open_page: Any, address: str
    ) -> None:
        page = open_page("", "?h=1&x=a+b#numbers")
        chance = random.Random(8)
        for round_ in range(7):
            given = draw(chance)
            show(page, given, chance.choice(["edges", "mixed"]))
            before = page.evaluate(READ, [[0.6, 0.7]])
            page.wait_for_timeout(350)
            url = page.evaluate("location.href")
            assert url.startswith(f"{address}{PAGE}?h=1&x=a+b")
            assert url.endswith("#numbers")
            page.goto("about:blank")
            page.goto(url)
            page.wait_for_selector("conv-explorer[live]", state="attached")
            assert settings(page) == given, round_
            chosen = page.locator("conv-explorer .conv-now")
            if before.get("drawn"):
                at = ",".join(map(str, before["picked"][0]["at"]))
                assert chosen.get_attribute("data-at") == at
                assert page.evaluate(READ, [[0.6, 0.7]]) == before
            else:
                assert page.evaluate(READ, []) == before

    def test_what_was_not_changed_is_not_in_the_address(
        self, open_page: Any, address: str
    ) -> None:
        page = open_page("", "#settings")
        page.wait_for_timeout(400)
        assert page.url == f"{address}{PAGE}#settings"
        show(page, {"kernel": 5})
        page.wait_for_function("location.search === '?conv.kernel=5'")
        show(page, {"kernel": 3})
        page.wait_for_function("location.search === ''")

    def test_the_language_switch_keeps_the_setting(
        self, open_page: Any, address: str
    ) -> None:
        page = open_page("", "?conv.stride=2#use")
        show(page, {"padding": 1})
        page.locator("conv-explorer [data-at='1,1']").click()
        page.locator("a.language-switch").click()
        page.wait_for_url(
            f"{address}en/{PAGE}?conv.padding=1&conv.stride=2&conv.at=1-1"
            "#settings"
        )
        assert settings(page)["padding"] == 1
        assert settings(page)["stride"] == 2

    def test_an_anchor_of_the_page_keeps_the_setting(
        self, open_page: Any
    ) -> None:
        page = open_page("", "?conv.stride=2")
        page.evaluate("location.hash = '#use'")
        show(page, {"padding": 1})
        page.wait_for_function(
            "location.search === '?conv.padding=1&conv.stride=2'"
        )
        assert page.evaluate("location.hash") == "#use"

    @pytest.mark.parametrize(
        "query",
        [
            "?conv.at=99-99",
            "?conv.at=x&conv.kind=none&conv.seen=yes",
            "?conv.kind=constructor&conv.other=3",
        ],
    )
    def test_nonsense_does_no_harm(self, open_page: Any, query: str) -> None:
        page = open_page("", query)
        shown = page.evaluate(READ, [[0, 0]])
        check_numbers(settings(page), shown)


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
def test_without_script_the_figure_stands(
    browser: Any, address: str, prefix: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + prefix + PAGE)
    assert page.locator("conv-explorer svg.figure").first.is_visible()
    assert page.locator(".explorer").count() == 0
    context.close()


def test_print_shows_the_figure_or_a_still_of_what_was_set(
    open_page: Any,
) -> None:
    page = open_page()
    figure = page.locator("conv-explorer svg.figure").first
    panel = page.locator("conv-explorer .explorer")
    assert (figure.is_visible(), panel.is_visible()) == (False, True)
    page.emulate_media(media="print")
    assert (figure.is_visible(), panel.is_visible()) == (True, False)
    show(page, {"stride": 2})
    assert (figure.is_visible(), panel.is_visible()) == (False, True)
    controls = page.locator("conv-explorer :is(button, input, select)").all()
    assert controls
    assert not any(control.is_visible() for control in controls)
    assert page.locator("conv-explorer .conv-grid").first.is_visible()


@pytest.mark.parametrize("prefix", ["", "en/"], ids=["zh", "en"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_everything_fits_and_can_be_read(
    open_page: Any, prefix: str, scheme: str, viewport: dict[str, int]
) -> None:
    """No sideways scrolling, text of 12 px or more, numbers in their cells."""
    page = open_page(prefix, viewport=viewport, color_scheme=scheme)
    largest = {
        "height": 14,
        "width": 14,
        "kernel": 1,
        "padding": 0,
        "stride": 1,
        "dilation": 1,
    }
    for change in (
        {},
        {"kernel": 7},
        {"height": 8, "width": 8, "padding": 3, "kernel": 7},
        {"height": 8, "width": 8, "padding": 3, "kernel": 3, "dilation": 4},
        {"height": 7, "width": 7, "kernel": 3, "stride": 2},
        {"height": 1, "width": 14, "padding": 0, "kernel": 1},
        {"height": 1000, "width": 900, "padding": 100, "kernel": 300},
        {"kernel": 99},
        {"stride": ""},
    ):
        for kind in ("mixed", "ones"):
            show(page, largest | change, kind)
            found = page.evaluate(
                """() => {
                  const panel = document.querySelector("conv-explorer .explorer");
                  const inside = panel.getBoundingClientRect();
                  const small = [], outside = [];
                  const texts = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
                  while (texts.nextNode()) {
                    const parent = texts.currentNode.parentElement;
                    const text = texts.currentNode.data.trim();
                    if (!text || !parent.checkVisibility() || parent.closest("option, [role=status]")) continue;
                    const size = parseFloat(getComputedStyle(parent).fontSize);
                    const scripted = parent.closest("msup > :last-child");
                    if (size < 12 && !scripted) small.push([text, size]);
                    const range = document.createRange();
                    range.selectNodeContents(texts.currentNode);
                    const box = range.getBoundingClientRect();
                    const room = (parent.closest("td") ?? panel).getBoundingClientRect();
                    if (box.left < room.left - 1 || box.right > room.right + 1 || box.right > inside.right) outside.push([text, box.width, room.width]);
                  }
                  return [small, outside, document.documentElement.scrollWidth];
                }"""
            )
            # On a phone this label is only read out.
            hidden = page.locator("conv-explorer .conv-kind > span")
            assert found[0] == []
            outside = [
                entry
                for entry in found[1]
                if entry[0] != hidden.inner_text().strip()
            ]
            assert outside == [], change
            assert found[2] <= viewport["width"]


def test_the_window_glides_only_where_motion_is_welcome(
    open_page: Any,
) -> None:
    for motion, glides in (("reduce", False), ("no-preference", True)):
        page = open_page(reduced_motion=motion)
        duration = page.evaluate(
            "parseFloat(getComputedStyle("
            "document.querySelector('.conv-frame')).transitionDuration)"
        )
        assert (duration > 0) == glides


def test_it_runs_under_the_strictest_policy(browser: Any, address: str) -> None:
    """No inline style, no inline script, no eval."""
    context = browser.new_context()
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.route(
        address + "bare/",
        lambda route: route.fulfill(
            headers={
                "Content-Security-Policy": "default-src 'none'; "
                "script-src 'self'; style-src 'self'; "
                "require-trusted-types-for 'script'",
                "Content-Type": "text/html",
            },
            body="<!doctype html><html lang=en><title>bare</title>"
            "<link rel=icon href='data:,'>"
            "<link rel=stylesheet href=../assets/css/explorers.css>"
            "<script type=module "
            "src=../assets/js/explorers/conv-explorer.js></script>"
            "<conv-explorer></conv-explorer>",
        ),
    )
    page.goto(address + "bare/")
    page.wait_for_selector("conv-explorer[live]")
    show(page, {"padding": 1, "stride": 2}, "mixed")
    check_numbers(settings(page), page.evaluate(READ, [[0.5, 0.5]]))
    icons = ("img-src", "data:,")
    assert [t for t in troubles if not any(i in t for i in icons)] == []
    context.close()


def test_only_its_page_loads_an_explorer(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for prefix in ("", "en/"):
        for path, there in (("networks/lenet/", False), (PAGE, True)):
            asked.clear()
            page.goto(address + prefix + path)
            page.wait_for_load_state("networkidle")
            found = [url for url in asked if "explorer" in url]
            assert bool(found) == there
            assert len(found) == len(set(found))
    context.close()


def test_initial_settings_are_attributes(open_page: Any) -> None:
    page = open_page()
    page.evaluate(
        """() => {
          const made = document.createElement("conv-explorer");
          made.setAttribute("stride", "3");
          document.querySelector("conv-explorer").replaceWith(made);
        }"""
    )
    assert settings(page)["stride"] == 3
    assert settings(page)["kernel"] == 3
    page.wait_for_timeout(400)
    assert "conv." not in page.url


def test_an_unknown_setting_is_refused_by_name(open_page: Any) -> None:
    page = open_page()
    message = page.evaluate(
        """() => {
          try {
            document.querySelector("conv-explorer").settings = { size: 3 };
          } catch (error) {
            return error.message;
          }
        }"""
    )
    assert "size" in message
    assert "height, width, kernel, padding, stride, dilation" in message
