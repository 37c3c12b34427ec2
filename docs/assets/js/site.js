// The language switch keeps the section: anchors are the same in both languages.
document.addEventListener("click", (event) => {
  const link = event.target.closest(".language-switch");
  if (link) link.hash = location.hash;
});
