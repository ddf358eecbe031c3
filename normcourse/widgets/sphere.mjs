// Sphere: an encoder with three outputs trains on four classes. Every embedding stands where it is, at its true length.

// The mathematics. A film holds every coordinate of every point of a frame as a whole number from −127 to 127, in units
// of the frame's scale. `needles` are the mean directions of the classes, as long as the mean norm of each.
const norm = (z) => Math.hypot(...z)
export function points(films, { scales, points }, film, frame) {
  const start = 3 * points * (film * scales[0].length + frame)
  const whole = unpack(films, Int8Array).subarray(start, start + 3 * points)
  return Array.from({ length: points }, (_, i) => [0, 1, 2].map((axis) => (whole[3 * i + axis] * scales[film][frame]) / 127))
}
export function lengths(needles) {
  const all = needles.map(norm)
  const mean = all.reduce((sum, each) => sum + each) / all.length
  return all.map((each) => [each, each / mean])
}
// Right, up and towards the reader, after a turn about the vertical and a tilt about the horizontal axis.
export function rotate([x, y, z], turn, tilt) {
  const [right, back] = [x * Math.cos(turn) + z * Math.sin(turn), z * Math.cos(turn) - x * Math.sin(turn)]
  return [right, y * Math.cos(tilt) - back * Math.sin(tilt), y * Math.sin(tilt) + back * Math.cos(tilt)]
}

const CLASSES = [
  ["A", "blue"],
  ["B", "orange"],
  ["C", "green"],
  ["D", "purple"],
]
const RIM = 98 // of the drawing: radius of the longest embedding
const RATE = 3 // frames a second
const PULL = 0.01 // radians for a pixel of a drag

const line = (element, [x, y]) => {
  element.setAttribute("x2", x.toFixed(1))
  element.setAttribute("y2", (-y).toFixed(1))
}

function drawing({ longest, points: count }) {
  const unit = RIM / longest
  const rings = svg("g", { class: "rings" })
  for (let radius = 10; radius < longest; radius += 10)
    rings.append(svg("circle", { r: unit * radius }), svg("text", { x: 2, y: 2 - unit * radius }, String(radius)))
  const dots = Array.from({ length: count }, () => svg("circle", { class: "dot" }))
  const needles = CLASSES.map(([name, colour]) => {
    const [shaft, text] = [svg("line", { class: "needle" }), svg("text", { class: "needle-name" }, name)]
    return { shaft, text, group: svg("g", { style: `--own: var(--${colour})` }, shaft, text) }
  })
  const frame = { class: "globe", viewBox: "-104 -104 208 208", role: "img", "aria-label": "Embeddings in three dimensions" }
  const plane = svg("svg", frame, rings, ...dots, ...needles.map(({ group }) => group))

  function paint(at, ends, labels, byClass, view) {
    at.forEach((z, i) => {
      const [x, y, near] = rotate(z, ...view)
      const share = Math.min((1.5 * norm(z)) / longest, 1)
      const nearness = clamp(0.5 + (0.5 * near) / longest, 0, 1)
      const [dot, own] = [dots[i], `var(--${CLASSES[labels[i]][1]})`]
      dot.setAttribute("cx", (unit * x).toFixed(1))
      dot.setAttribute("cy", (-unit * y).toFixed(1))
      dot.setAttribute("r", (1.2 + 1.6 * nearness).toFixed(1))
      dot.style.opacity = (0.45 + 0.55 * nearness).toFixed(2)
      dot.style.fill = byClass ? own : `color-mix(in oklch, var(--sky), var(--orange) ${Math.round(100 * share)}%)`
    })
    ends.forEach((end, i) => {
      const at = rotate(end, ...view).map((part) => part * unit)
      line(needles[i].shaft, at)
      const far = 1 + 7 / Math.max(norm(at.slice(0, 2)), 1)
      needles[i].text.setAttribute("x", (far * at[0]).toFixed(1))
      needles[i].text.setAttribute("y", (2.5 - far * at[1]).toFixed(1))
    })
  }
  return { plane, paint }
}

function render({ model, el }) {
  const [record, films] = [JSON.parse(model.get("record")), model.get("films")]
  const { epochs, weights, labels, needles } = record
  const value = (name) => () => model.get(name)
  const [film, frame, turn, tilt, colour] = ["film", "frame", "turn", "tilt", "colour"].map(value)
  const { region, say } = announcer()
  const { plane, paint } = drawing(record)

  const body = html("tbody")
  const rows = CLASSES.map(([name, colour]) => {
    const cells = [html("td"), html("td"), html("td")]
    body.append(html("tr", {}, html("th", { scope: "row", style: `--own: var(--${colour})` }, name), ...cells))
    return cells
  })
  const heads = ["class", "weight", "mean ‖z‖", "÷ mean of classes"].map((head) => html("th", { scope: "col" }, head))
  const table = html("table", {}, html("thead", {}, html("tr", {}, ...heads)), body)

  const angle = { min: -Math.PI, max: Math.PI, step: 0.01, show: degrees }
  const controls = [
    choice(model, { name: "film", label: "weights", options: weights.map((each, i) => [i, each.join(":")]) }),
    choice(model, { name: "colour", label: "colour", options: ["norm", "class"].map((name) => [name, name]) }),
    slider(model, { name: "frame", label: "epoch", min: 0, max: epochs.length - 1, step: 1, show: (frame) => String(epochs[frame]), moved: () => playing.stop() }),
    slider(model, { name: "turn", label: "turn", ...angle }),
    slider(model, { name: "tilt", label: "tilt", ...angle, min: -Math.PI / 2, max: Math.PI / 2 }),
  ]

  const draw = () => {
    const ends = needles[film()][frame()]
    paint(points(films, record, film(), frame()), ends, labels[film()], colour() === "class", [turn(), tilt()])
    const texts = lengths(ends).map(([mean, relative], i) => [String(weights[film()][i]), fixed(mean, 1), fixed(relative, 2)])
    texts.forEach((each, i) => rows[i].forEach((cell, k) => (cell.textContent = each[k])))
    for (const each of controls) each.draw()
    run.textContent = playing.running() ? "Pause" : "Play"
    return `epoch ${epochs[frame()]}: ${texts.map(([, mean], i) => `${CLASSES[i][0]} ${mean}`).join(", ")}`
  }

  const last = epochs.length - 1
  const show = (next) => model.set("frame", next)
  const playing = clock(
    () => RATE,
    (steps) => {
      show(Math.min(frame() + steps, last))
      if (frame() < last) return true
      playing.stop()
      keep()
      return false
    },
  )
  const keep = () => {
    model.save_changes()
    draw()
  }
  const play = () => {
    if (playing.running()) playing.stop()
    else if (prefersStill()) show(last)
    else {
      if (frame() === last) show(0)
      playing.start()
    }
    keep()
  }
  const go = (next) => () => {
    playing.stop()
    show(clamp(next(), 0, last))
    keep()
  }
  const run = button("Play", play)
  const buttons = [run, button("Earlier", go(() => frame() - 1)), button("Later", go(() => frame() + 1))]

  let held
  follow(plane, ({ clientX, clientY }) => [clientX, clientY], {
    press(at) {
      held = { at, turn: turn(), tilt: tilt() }
    },
    move([x, y]) {
      const turned = held.turn + PULL * (x - held.at[0])
      const tilted = clamp(held.tilt + PULL * (y - held.at[1]), -Math.PI / 2, Math.PI / 2)
      model.set({ turn: Math.atan2(Math.sin(turned), Math.cos(turned)), tilt: tilted })
    },
    release: () => model.save_changes(),
  })

  const left = html("div", {}, plane, html("div", { class: "buttons" }, ...buttons))
  const side = html("div", { class: "side" }, table, ...controls.map(({ element }) => element))
  const hint = "Drag the picture to turn it, or use the sliders. Circles mark norms; each needle is a class, as long as its mean norm."
  box(el, "Embeddings of an encoder in training", html("div", { class: "stage" }, left, side), html("p", { class: "hint" }, hint), region)
  const changed = () => say(draw())
  model.on("change", changed)
  draw()
  return () => {
    playing.stop()
    model.off("change", changed)
  }
}

export default { render }
