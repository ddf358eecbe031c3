// Cut and scale: recorded first steps of networks that were cut, and of uncut ones with a larger step size.

// The mathematics. Of each run the record holds loss, half the width of its interval, logarithm of the norm, and half of
// its interval's, all by step; then the logarithm of the spread at the start. Runs lie one after the other, by depth,
// biases, BatchNorm and cut; first the network that was cut, then the uncut one at c² times the step size.
export function law(cut, depth) {
  return cut ** depth
}
export function place({ depths, cuts }, { depth, biases, batch_norm, cut }, uncut) {
  const network = (depths.indexOf(depth) * 2 + biases) * 2 + batch_norm
  return (network * cuts.length + cuts.indexOf(cut)) * 2 + uncut
}
export function run(curves, record, network, uncut) {
  const n = record.steps.length
  const start = (4 * n + 1) * place(record, network, uncut)
  const numbers = Array.from(unpack(curves, Int16Array).subarray(start, start + 4 * n + 1), (whole) => whole / record.scale)
  const [loss, lossHalf, norm, normHalf] = [0, 1, 2, 3].map((i) => numbers.slice(i * n, (i + 1) * n))
  return { loss, lossHalf, norm, normHalf, spread: 10 ** numbers[4 * n] }
}

const CUTS = { 0.5: "½" } // written so
const LINES = ["grey", "orange", "blue"] // from back to front

// Two digits, or three from a hundred on; small ones as a power of ten.
function short(value) {
  if (value >= 100) return Math.round(value).toLocaleString("en")
  if (value >= 0.01) return fixed(value, value >= 10 ? 0 : value >= 1 ? 1 : value >= 0.1 ? 2 : 3)
  const power = Math.floor(Math.log10(value))
  return `${fixed(value / 10 ** power, 0)}·10${`−${-power}`.replace(/./g, (sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789−".indexOf(sign)])}`
}

function render({ model, el }) {
  const { region, say } = announcer()
  const [record, curves] = [model.get("record"), model.get("curves")]
  const last = record.steps.at(-1)
  const network = () => Object.fromEntries(["depth", "biases", "batch_norm", "cut"].map((name) => [name, model.get(name)]))

  const steps = { label: "step", least: 0, most: last, ticks: [0, last / 2, last].map((step) => [step, step]) }
  const powers = [-6, -4, -2, 0].map((power) => [power, ["10⁻⁶", "10⁻⁴", "10⁻²", "1"][power / 2 + 3]])
  const charts = [
    ["loss", chart("Loss by step", steps, { label: "loss", least: 4, most: 5.7, ticks: [4, 4.5, 5, 5.5].map((loss) => [loss, fixed(loss, 1)]) })],
    ["norm", chart("Mean norm by step", steps, { label: "mean ‖z‖", least: -6.2, most: 1.2, ticks: powers })],
  ].map(([name, { element, curves, points }]) => {
    const own = (kind) => LINES.map((colour) => svg(kind, { class: kind === "polygon" ? "range" : "run", style: `--own: var(--${colour})` }))
    const [ranges, lines] = [own("polygon"), own("polyline")]
    lines[1].setAttribute("stroke-dasharray", "4 3") // may lie on the blue one
    curves.append(...ranges, lines[0], lines[2], lines[1])
    const draw = (run, i) => {
      const [middle, half] = [run[name], run[`${name}Half`]]
      const edges = [-1, 1].map((side) => points(record.steps, middle.map((value, k) => value + side * half[k])))
      ranges[i].setAttribute("points", [...edges[0], ...edges[1].reverse()].join(" "))
      lines[i].setAttribute("points", points(record.steps, middle).join(" "))
    }
    return { element, draw }
  })

  const body = html("tbody")
  const rows = LINES.map((colour) => {
    const [name, ...cells] = [html("th", { scope: "row", style: `--own: var(--${colour})` }), html("td"), html("td"), html("td")]
    body.append(html("tr", {}, name, ...cells))
    return { name, cells }
  })
  body.append(body.children[1]) // the cut one above the one that it is compared with
  const heads = ["", "‖z‖", "1 − cos", "loss"].map((head) => (head ? html("th", { scope: "col" }, head) : html("td")))
  const table = html("table", {}, html("thead", {}, html("tr", {}, ...heads)), body)
  const verdict = html("p")

  const choices = [
    { name: "depth", label: "layers L", options: record.depths.map((depth) => [depth, String(depth)]) },
    { name: "cut", label: "cut c", options: record.cuts.map((cut) => [cut, CUTS[cut] ?? String(cut)]) },
    { name: "biases", label: "biases", options: [[false, "without"], [true, "with"]] },
    { name: "batch_norm", label: "BatchNorm", options: [[false, "without"], [true, "with"]] },
  ].map((options) => choice(model, options))

  const draw = () => {
    const { depth, cut } = network()
    const rate = (value) => `η ${Number(value.toPrecision(3))}`
    const titles = [`uncut, ${rate(record.lr)}`, `uncut, ${rate(record.lr * cut ** 2)}`, `cut ${CUTS[cut] ?? cut}, ${rate(record.lr)}`]
    const runs = [run(curves, record, { ...network(), cut: 1 }, 0), run(curves, record, network(), 1), run(curves, record, network(), 0)]
    runs.forEach((each, i) => {
      for (const { draw } of charts) draw(each, i)
      rows[i].name.textContent = titles[i]
      const texts = [short(10 ** each.norm[0]), short(each.spread), fixed(each.loss.at(-1), 2)]
      rows[i].cells.forEach((cell, k) => (cell.textContent = texts[k]))
    })
    const times = 10 ** (runs[0].norm[0] - runs[2].norm[0])
    const word = times < 1 ? "longer" : "shorter"
    const [shorter, expected] = [times, law(cut, depth)].map((factor) => short(factor < 1 ? 1 / factor : factor))
    verdict.replaceChildren(`At step 0 the cut made z ${shorter} times ${word}; the law c`, html("sup", {}, "L"), ` says ${expected}.`)
    for (const each of choices) each.draw()
    return `${shorter} times ${word}, the law says ${expected}. Loss after ${last} steps: ${titles.map((title, i) => `${title}: ${fixed(runs[i].loss.at(-1), 2)}`).join("; ")}`
  }

  const left = html("div", { class: "charts" }, ...charts.map(({ element }) => element))
  const side = html("div", { class: "side" }, ...choices.map(({ element }) => element), table, verdict)
  const hint = `‖z‖, the mean norm, and 1 − cos, the mean over different images, at step 0; the loss at step ${last}. Bands: 95 % intervals.`
  box(el, "Cut and scale", html("div", { class: "stage" }, left, side), html("p", { class: "hint" }, hint), region)
  const changed = () => say(draw())
  model.on("change", changed)
  draw()
  return () => model.off("change", changed)
}

export default { render }
