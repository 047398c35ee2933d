// Mends for keyboards and screen readers of what Sphinx and pandas write.
// A table that scrolls sideways, as most do on a phone, has to be reached by keyboard: the arrow keys then scroll it.
const reachable = new ResizeObserver((seen) => {
  for (const { target: table } of seen) {
    if (table.scrollWidth > table.clientWidth) table.tabIndex = 0;
    else table.removeAttribute("tabindex");
  }
});
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-article table").forEach((table) => reachable.observe(table));
  // docutils calls the references of a docstring a list, and says of none of them that it is an item of it.
  document.querySelectorAll(".citation-list[role=list]").forEach((list) => list.removeAttribute("role"));
});
