// Confidence dial: images whose embedding is shorter than a threshold are dropped. Are those that stay more often right?

// The mathematics. Of each network the record holds, image by image: the norm, in units of the largest one over 65,535;
// the norm before training, in the same way; and whether the neighbours were right, 0 or 1.
export function network(table, { images, scales }, index) {
  const whole = unpack(table, Uint16Array)
  const column = (which) => Array.from(whole.subarray((3 * index + which) * images, (3 * index + which + 1) * images))
  const norms = (which) => column(which).map((part) => (part * scales[index][which]) / 65535)
  return { norm: norms(0), untrained: norms(1), correct: column(2) }
}
// Images from the shortest to the longest.
export function order(norms) {
  return norms.map((_, i) => i).sort((i, j) => norms[i] - norms[j])
}
// How many of the images are dropped below a threshold.
export function dropped(norms, threshold) {
  return norms.filter((norm) => norm < threshold).length
}
// Share of right answers among those that stay, by the number of the shortest that are dropped, from none to all but one.
export function curve(norms, correct) {
  let right = 0
  const longestFirst = order(norms).reverse()
  return longestFirst.map((i, kept) => (right += correct[i]) / (kept + 1)).reverse()
}

const COLUMNS = 25
const CELL = 20 // pixels of a cell of the picture
const WAYS = [
  ["norm", "blue"],
  ["untrained norm", "orange"],
  ["chance", "grey"],
]
const percent = (share) => `${fixed(100 * share, 1)} %`
const mean = (values) => values.reduce((sum, value) => sum + value) / values.length

function render({ model, el }) {
  const [record, table] = [model.get("record"), model.get("table")]
  const { images, networks, side } = record
  const { region, say } = announcer()
  const tables = networks.map((_, index) => network(table, record, index))
  const random = ({ correct }) => correct.map(() => mean(correct)) // what to expect
  const curves = tables.map((each) => [curve(each.norm, each.correct), curve(each.untrained, each.correct), random(each)])
  const orders = tables.map(({ norm }) => order(norm))
  const most = Math.max(...tables.flatMap(({ norm }) => norm))
  const index = () => model.get("network")
  const own = () => tables[index()]
  const count = () => Math.min(dropped(own().norm, model.get("threshold")), images - 1)

  // The digits, the shortest embedding first; those that are dropped fade, those that are wrong have a frame.
  const lines = Math.ceil(images / COLUMNS)
  const picture = html("canvas", { class: "digits", width: COLUMNS * CELL, height: lines * CELL, role: "img" })
  const sprite = new Image()
  sprite.src = `data:image/png;base64,${model.get("sprite")}`
  const paint = () => {
    const [pen, drop] = [picture.getContext("2d"), count()]
    pen.clearRect(0, 0, picture.width, picture.height)
    pen.imageSmoothingEnabled = false
    pen.strokeStyle = getComputedStyle(picture).getPropertyValue("--orange")
    pen.lineWidth = 3
    orders[index()].forEach((image, i) => {
      const [x, y] = [(i % COLUMNS) * CELL, Math.floor(i / COLUMNS) * CELL]
      const [from, to] = [(image % COLUMNS) * side, Math.floor(image / COLUMNS) * side]
      pen.globalAlpha = i < drop ? 0.25 : 1
      pen.drawImage(sprite, from, to, side, side, x + 1, y + 1, CELL - 2, CELL - 2)
      if (!own().correct[image]) pen.strokeRect(x + 1.5, y + 1.5, CELL - 3, CELL - 3)
    })
  }

  const ticks = [0, 25, 50, 75, 100].map((share) => [share / 100, String(share)])
  const least = Math.floor(100 * Math.min(...tables.map(({ correct }) => mean(correct))) - 1) / 100
  const scale = [least, (least + 1) / 2, 1].map((share) => [share, String(Number((100 * share).toFixed(1)))])
  const coverage = { label: "coverage: images kept (%)", least: 1, most: 0, ticks }
  const { element, curves: plot, points, across } = chart("Accuracy against coverage", coverage, { label: "right (%)", least, most: 1, ticks: scale })
  const marker = svg("line", { class: "goal", y1: 6, y2: 88 })
  const runs = WAYS.map(([, colour]) => svg("polyline", { class: "run", style: `--own: var(--${colour})` }))
  plot.append(marker, ...runs.toReversed())
  const shares = Array.from({ length: images }, (_, count) => 1 - count / images)

  const body = html("tbody")
  const rows = WAYS.map(([way, colour]) => {
    const cells = [html("td"), html("td")]
    body.append(html("tr", {}, html("th", { scope: "row", style: `--own: var(--${colour})` }, way), ...cells))
    return cells
  })
  const heads = ["dropped by", "right", `mean of ${networks.length}`].map((head) => html("th", { scope: "col" }, head))
  const results = html("table", {}, html("thead", {}, html("tr", {}, ...heads)), body)
  const verdict = html("p")

  const controls = [
    slider(model, { name: "threshold", label: "least norm", min: 0, max: most, step: most / 500, show: (norm) => fixed(norm, 2) }),
    choice(model, { name: "network", label: "network", options: networks.map((_, i) => [i, String(i + 1)]) }),
  ]

  const draw = () => {
    const drop = count()
    const wrong = own().correct.filter((right) => !right).length
    const left = orders[index()].slice(drop).filter((image) => !own().correct[image]).length
    verdict.textContent = `${images - drop} of ${images} kept, coverage ${percent(1 - drop / images)}; ${left} of ${wrong} errors left.`
    const texts = WAYS.map((_, way) => [percent(curves[index()][way][drop]), percent(mean(curves.map((each) => each[way][drop])))])
    texts.forEach((each, way) => rows[way].forEach((cell, i) => (cell.textContent = each[i])))
    runs.forEach((run, way) => run.setAttribute("points", points(shares, curves[index()][way]).join(" ")))
    for (const end of ["x1", "x2"]) marker.setAttribute(end, across(1 - drop / images))
    picture.setAttribute("aria-label", `Test digits, shortest embedding first. ${verdict.textContent}`)
    for (const each of controls) each.draw()
    paint()
    return `${verdict.textContent} Right: ${WAYS.map(([way], i) => `dropped by ${way} ${texts[i][0]}`).join(", ")}`
  }

  // Everything before the digit under the pointer is dropped.
  const digit = ({ clientX, clientY }) => {
    const { left, top, width, height } = picture.getBoundingClientRect()
    const [column, line] = [((clientX - left) / width) * COLUMNS, ((clientY - top) / height) * lines].map(Math.floor)
    return clamp(line, 0, lines - 1) * COLUMNS + clamp(column, 0, COLUMNS - 1)
  }
  const turn = (place) => model.set("threshold", own().norm[orders[index()][Math.min(place, images - 1)]])
  follow(picture, digit, { press: turn, move: turn, release: () => model.save_changes() })
  const act = (change) => () => {
    turn(change())
    model.save_changes()
  }
  const some = Math.round(images / 20)
  const buttons = [
    button("Drop 5 % more", act(() => count() + some)),
    button("Drop 5 % less", act(() => Math.max(count() - some, 0))),
    button("Keep all", act(() => 0)),
  ]

  const left = html("div", {}, picture, html("div", { class: "buttons" }, ...buttons))
  const beside = html("div", { class: "side" }, ...controls.map(({ element }) => element), verdict, results, element)
  const hint = "Shortest embeddings first; orange frames: the neighbours give the wrong label. Press a digit to drop all that come before it."
  box(el, "Confidence dial", html("div", { class: "stage" }, left, beside), html("p", { class: "hint" }, hint), region)
  const changed = () => say(draw())
  model.on("change", changed)
  draw()
  sprite.decode().then(paint)
  return () => model.off("change", changed)
}

export default { render }
