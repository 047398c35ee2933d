// Copy buttons, wide tables that say so, and MNE's key that would hide all sections at once taken away.
(() => {
  document.querySelectorAll("[data-copy]").forEach((button) => {
    button.addEventListener("click", () => {
      const source = document.getElementById(button.dataset.copy), range = document.createRange();
      const done = () => { button.textContent = "Copied"; };
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      if (navigator.clipboard) navigator.clipboard.writeText(source.textContent).then(done, () => document.execCommand("copy") && done());
      else if (document.execCommand("copy")) done();
    });
  });
  const mark = () => document.querySelectorAll(".wide, .picture").forEach((it) => {
    it.classList.toggle("overflows", it.scrollWidth > it.clientWidth + 1);
  });
  addEventListener("resize", mark);
  addEventListener("load", () => { mark(); window.onkeydown = null; });
})();
