// Formulas are set a few at a time, so that the page answers in between. A page without formulas has no MathJax.
async function typesetInPieces() {
  const formulas = [...document.querySelectorAll(".math")]
  while (formulas.length) {
    await MathJax.typesetPromise(formulas.splice(0, 4))
    await new Promise((next) => setTimeout(next))
  }
}
if (window.MathJax) MathJax.config.startup.pageReady = typesetInPieces
