// A formula that is too wide for a narrow screen is set smaller, down to six tenths. What is still too wide, and other
// boxes that scroll sideways, can be scrolled with the keyboard: they take the focus while they are too wide.
const FORMULAS = "mjx-container"
const BOXES = "pre, figure, .cell_output, mjx-container[display='true'], .pst-scrollable-table-container"

// The part of a formula that there is room for; 1 where it is not shown.
function share(formula) {
  const shown = formula.getAttribute("display") ? formula.scrollWidth : formula.getBoundingClientRect().width
  const room = formula.getAttribute("display") ? formula : formula.closest("p, li, td, dd, div")
  return shown ? Math.min(1, room.clientWidth / shown) : 1
}

function fitFormulas() {
  const formulas = [...document.querySelectorAll(FORMULAS)]
  for (const formula of formulas) formula.style.removeProperty("--fit")
  const shares = formulas.map(share)
  formulas.forEach((formula, i) => {
    if (shares[i] < 1) formula.style.setProperty("--fit", Math.max(0.6, 0.99 * shares[i]))
  })
}

function markScrollable() {
  fitFormulas()
  for (const box of document.querySelectorAll(BOXES)) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0
    } else {
      box.removeAttribute("tabindex")
    }
  }
}

// The article changes its size when formulas are set, when boxes unfold and when the window changes.
new ResizeObserver(markScrollable).observe(document.querySelector("article, main"))
