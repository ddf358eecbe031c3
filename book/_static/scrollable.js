// What scrolls sideways on a narrow screen can be scrolled with the keyboard: it takes the focus while it is too wide.
const BOXES = "pre, figure, .cell_output, mjx-container[display='true'], .pst-scrollable-table-container";

function markScrollable() {
  for (const box of document.querySelectorAll(BOXES)) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
    } else {
      box.removeAttribute("tabindex");
    }
  }
}

// The article changes its size when formulas are set, when boxes unfold and when the window changes.
new ResizeObserver(markScrollable).observe(document.querySelector("article, main"));
