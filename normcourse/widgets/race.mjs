// Race: pairs of four norms are pulled together at once, each by steps of SGD on both of its embeddings.

// The mathematics. A pair of equal norms is its cosine, its sine and its norm.
export const GOAL = Math.acos(1 - 1e-3) // the angle at which a pair counts as aligned
export function pair(angle, norm) {
  return { cosine: Math.cos(angle), sine: Math.sin(angle), norm }
}
export function step({ cosine, sine, norm }, { lr, power, decay }) {
  const keep = 1 - lr * decay // what weight decay leaves of the norm; the step is then the larger beside it
  const tan = ((lr / keep) * sine) / norm ** (2 - power)
  const growth = Math.sqrt(1 + tan * tan)
  const [c, s] = [(1 - tan * tan) / (growth * growth), (2 * tan) / (growth * growth)]
  return { cosine: cosine * c + sine * s, sine: Math.abs(sine * c - cosine * s), norm: keep * norm * growth }
}
export function aligned({ cosine }) {
  return cosine >= 1 - 1e-3
}
// Steps to the goal by the law of small steps: without decay ln[tan(φ₀/2) / tan(φ/2)] / 2a with a = η‖z‖^(p-2);
// with decay the norm shrinks by e^(-ηλ) a step, so a grows by e^(kt), k = ηλ(2-p).
export function law(angle, norm, { lr, power, decay }) {
  if (angle <= GOAL) return 0
  const time = (Math.log(Math.tan(angle / 2) / Math.tan(GOAL / 2)) * norm ** (2 - power)) / (2 * lr)
  const k = lr * decay * (2 - power)
  return k ? Math.log1p(k * time) / k : time
}

const LANES = [
  [1, "blue"],
  [2, "orange"],
  [3, "green"],
  [4, "purple"],
]
const LONGEST_RACE = 20000 // steps after which it is given up
const SECONDS = 8 // a race lasts about so long

const whole = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",")

function render({ model, el }) {
  const { region, say } = announcer()
  const setting = (name) => model.get(name)
  const settings = () => ({ lr: setting("lr"), power: setting("power"), decay: setting("decay") })

  const track = svg("svg", { viewBox: "-101 -101 202 110", role: "img", "aria-label": "Pairs of four norms, closing" })
  track.append(svg("line", { class: "goal", x1: 0, x2: 0, y1: 0, y2: -100 }))
  const body = html("tbody")
  const lanes = LANES.map(([multiple, colour]) => {
    const shape = svg("polyline", { class: "pair", style: `--own: var(--${colour})` })
    const cells = Array.from({ length: 4 }, () => html("td"))
    const name = html("th", { scope: "row", style: `--own: var(--${colour})` })
    body.append(html("tr", {}, name, ...cells))
    track.firstChild.after(shape) // the shortest on top
    return { multiple, shape, name, cells }
  })
  const heads = ["norm", "now", "angle", "steps", "law"].map((head) => html("th", { scope: "col" }, head))
  const table = html("table", {}, html("thead", {}, html("tr", {}, ...heads)), body)

  // Where the race stands: `taken` steps from the start line.
  let taken
  const line = () => {
    taken = 0
    for (const lane of lanes) {
      lane.norm = setting("norm") * lane.multiple
      lane.pair = pair(setting("angle"), lane.norm)
      lane.done = aligned(lane.pair) ? 0 : undefined
    }
  }
  const over = () => taken >= LONGEST_RACE || lanes.every((lane) => lane.done !== undefined)
  const advance = (count) => {
    const how = settings()
    for (; count > 0 && !over(); count--) {
      taken++
      for (const lane of lanes) {
        if (lane.done !== undefined) continue
        lane.pair = step(lane.pair, how)
        if (!aligned(lane.pair)) continue
        lane.done = taken
        say(lanes.filter((other) => other.done).map((other) => `norm ${fixed(other.norm, 2)}: ${whole(other.done)} steps`).join(", "))
      }
    }
  }

  const draw = () => {
    const longest = Math.max(...lanes.map(({ pair }) => pair.norm))
    for (const { shape, name, cells, pair, norm, done } of lanes) {
      const angle = Math.atan2(pair.sine, pair.cosine)
      const length = (98 * pair.norm) / longest
      const [x, y] = [length * Math.sin(angle / 2), -length * Math.cos(angle / 2)].map((part) => part.toFixed(2))
      shape.setAttribute("points", `${-x},${y} 0,0 ${x},${y}`)
      const steps = done ?? (over() ? `over ${whole(taken)}` : whole(taken))
      const texts = [fixed(pair.norm, 2), degrees(angle, 1), done === undefined ? steps : whole(done), whole(law(setting("angle"), norm, settings()))]
      name.textContent = fixed(norm, 2)
      cells.forEach((cell, i) => (cell.textContent = texts[i]))
      cells[2].classList.toggle("done", done !== undefined)
    }
    run.textContent = racing.running() ? "Pause" : "Race"
    for (const each of sliders) each.draw()
  }

  const rate = () => {
    const expected = Math.max(...lanes.map(({ norm }) => law(setting("angle"), norm, settings())))
    return clamp(Math.min(expected, LONGEST_RACE) / SECONDS, 3, LONGEST_RACE)
  }
  const racing = clock(rate, (steps) => {
    advance(steps)
    if (over()) racing.stop()
    draw()
  })
  const toEnd = () => {
    racing.stop()
    advance(LONGEST_RACE)
    draw()
  }
  const start = () => {
    if (over()) line()
    if (prefersStill()) return toEnd()
    if (racing.running()) racing.stop()
    else racing.start()
    draw()
  }
  const act = (change) => () => {
    racing.stop()
    change()
    draw()
  }
  const run = button("Race", start)
  const buttons = [run, button("One step", act(() => advance(1))), button("To the end", toEnd), button("Back to the start", act(line))]

  const exponent = { to: Math.log10, from: (value) => 10 ** value, step: 0.01 }
  const sliders = [
    { name: "lr", label: "step size η", min: 0.005, max: 0.5, show: (value) => fixed(value, 3), ...exponent },
    { name: "norm", label: "shortest norm", min: 0.05, max: 1, show: (value) => fixed(value, 2), ...exponent },
    { name: "angle", label: "angle φ", min: Math.PI / 36, max: (179 * Math.PI) / 180, step: 0.01, show: degrees },
    { name: "power", label: "GradScale p", min: 0, max: 2, step: 0.1, show: (value) => fixed(value, 1) },
    { name: "decay", label: "weight decay λ", min: 0, max: 0.2, step: 0.005, show: (value) => fixed(value, 3) },
  ].map((options) => slider(model, options))

  const side = html("div", { class: "side" }, table, ...sliders.map(({ element }) => element))
  const left = html("div", {}, track, html("div", { class: "buttons" }, ...buttons))
  box(el, "Race of four norms", html("div", { class: "stage" }, left, side), region)

  // A race that is over is run anew at once, so that counts follow the sliders; any other goes back to its start.
  const changed = () => {
    const again = over()
    racing.stop()
    line()
    if (again) advance(LONGEST_RACE)
    draw()
  }
  model.on("change", changed)
  line()
  draw()
  return () => {
    racing.stop()
    model.off("change", changed)
  }
}

export default { render }
