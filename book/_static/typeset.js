// Formulas are set one by one while the page has nothing else to do, those near the screen first. A page without
// formulas has no MathJax.
const idle = window.requestIdleCallback ?? setTimeout
const nearScreen = (formula) => formula.checkVisibility({ contentVisibilityAuto: true })

async function typesetInPieces() {
  const formulas = [...document.querySelectorAll(".math")]
  const first = formulas.filter(nearScreen)
  for (const formula of new Set([...first, ...formulas])) {
    await MathJax.typesetPromise([formula])
    await new Promise((next) => idle(next))
  }
}
if (window.MathJax) MathJax.config.startup.pageReady = typesetInPieces
