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
