// The language switch keeps the section: anchors are the same in both languages.
function section() {
  const linked = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const box = linked?.getBoundingClientRect();
  if (box && box.bottom > 0 && box.top < innerHeight) return location.hash;
  const passed = [...document.querySelectorAll("article :is(h1, h2, h3, h4)[id]")].filter(
    (heading) =>
      heading.getClientRects().length && heading.getBoundingClientRect().top < innerHeight / 3,
  );
  const last = passed.at(-1);
  return last && last.tagName !== "H1" ? `#${last.id}` : "";
}

for (const kind of ["pointerdown", "click"]) {
  document.addEventListener(kind, (event) => {
    const link = event.target.closest(".language-switch");
    if (link) link.hash = section();
  });
}

// A host has one page for whatever is missing; the address tells who asks.
const missing = document.querySelector(".not-found");
if (missing && location.pathname.startsWith(`${__md_scope.pathname}en/`)) {
  missing.prepend(missing.querySelector('[lang="en"]'));
}

// Each listing has a button; the theme does what its attributes say.
const copy = document.documentElement.lang === "zh" ? "复制代码" : "Copy this code";
document.querySelectorAll("pre > span > code").forEach((code, n) => {
  const button = document.createElement("button");
  code.parentElement.id = `listing-${n}`;
  button.className = "md-code__button";
  button.title = copy;
  button.dataset.mdType = "copy";
  button.dataset.clipboardTarget = `#listing-${n}`;
  code.closest("pre").prepend(button);
});

// What scrolls sideways takes the focus, so that arrow keys can scroll it.
function admit(box) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  else if (box !== document.activeElement) box.removeAttribute("tabindex");
}

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) admit(target);
});
const later = (work) =>
  window.requestIdleCallback
    ? requestIdleCallback(work, { timeout: 200 })
    : setTimeout(work);

// By now the theme has put its own boxes around tables.
addEventListener("load", () => {
  const boxes = "pre, pre code, .formula, table, .md-typeset__scrollwrap";
  for (const box of document.querySelectorAll(`article :is(${boxes})`))
    resized.observe(box);
  // The page answers by now: what the style sheet left for later is drawn, a
  // piece a frame, so that nothing grows under a reader's hand.
  const pieces = [...document.querySelectorAll(".md-content__inner > *")].filter(
    (piece) => getComputedStyle(piece).contentVisibility === "auto",
  );
  const next = () => {
    const piece = pieces.shift();
    if (!piece) return;
    piece.style.contentVisibility = "visible";
    requestAnimationFrame(() => later(next));
  };
  later(next);
});
