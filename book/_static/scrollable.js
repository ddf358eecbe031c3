// A formula that is too wide for a narrow screen is set smaller, down to six tenths. What is still too wide, and other
// boxes that scroll sideways, can be scrolled with the keyboard: they take the focus while they are too wide.
const BOXES = "pre, figure, .cell_output, mjx-container[display='true'], .pst-scrollable-table-container"
const article = document.querySelector("article, main")
let fitted = new WeakMap() // the width that each formula was fitted to

// Whether a box is in a section near the screen: only these are laid out.
const near = (box) => box.checkVisibility({ contentVisibilityAuto: true })

const isDisplay = (formula) => formula.hasAttribute("display")
const room = (formula) => (isDisplay(formula) ? formula : formula.closest("p, li, td, dd, div")).clientWidth
const size = (formula) => (isDisplay(formula) ? formula.scrollWidth : formula.getBoundingClientRect().width)

// Fit the formulas that are new near the screen, or have more or less room than before.
function fitFormulas() {
  const formulas = [...article.querySelectorAll("mjx-container")].filter(near)
  const rooms = new Map(formulas.map((formula) => [formula, room(formula)]))
  const changed = formulas.filter((formula) => fitted.get(formula) !== rooms.get(formula))
  for (const formula of changed) formula.style.removeProperty("--fit")
  const shares = changed.map((formula) => rooms.get(formula) / size(formula))
  changed.forEach((formula, i) => {
    fitted.set(formula, rooms.get(formula))
    if (shares[i] < 1) formula.style.setProperty("--fit", Math.max(0.6, 0.99 * shares[i]))
  })
}

function markScrollable() {
  fitFormulas()
  const boxes = [...article.querySelectorAll(BOXES)].filter(near)
  const wide = boxes.map((box) => box.scrollWidth > box.clientWidth)
  boxes.forEach((box, i) => {
    if (wide[i] === box.hasAttribute("tabindex")) return
    if (wide[i]) box.setAttribute("tabindex", 0)
    else box.removeAttribute("tabindex")
  })
}

// The article changes its size when formulas are set, when boxes unfold and when the window changes. Sections come near
// the screen. Formulas change their widths when their fonts arrive.
new ResizeObserver(markScrollable).observe(article)
article.addEventListener("contentvisibilityautostatechange", markScrollable, true)
document.fonts.addEventListener("loadingdone", () => {
  fitted = new WeakMap()
  markScrollable()
})
