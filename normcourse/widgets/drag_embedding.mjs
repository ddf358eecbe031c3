// Drag an embedding: the gradient of −cos φ all over the plane, and what steps along it do to z.

// The mathematics, in the plane: vectors are [x, y], the target is a direction given by its angle.
const norm = ([x, y]) => Math.hypot(x, y)
export const direction = (angle) => [Math.cos(angle), Math.sin(angle)]
export function cosineLoss(z, target) {
  const [tx, ty] = direction(target)
  return -(z[0] * tx + z[1] * ty) / norm(z)
}
export function gradient(z, target) {
  const [tx, ty] = direction(target)
  const [length, loss] = [norm(z), cosineLoss(z, target)]
  return [-(tx + (loss * z[0]) / length) / length, -(ty + (loss * z[1]) / length) / length]
}
export function step(z, target, eta) {
  const [gx, gy] = gradient(z, target)
  return [z[0] - eta * gx, z[1] - eta * gy]
}
export function turn(z, target, eta) {
  return Math.atan((eta * norm(gradient(z, target))) / norm(z))
}

const [REACH, SHORTEST] = [3.2, 0.2] // norms in view at first; least norm
const [RIM, EDGE] = [92, 107] // of the drawing: radius of the plane, half the width
const RATE = 30 // steps a second while z follows the target
const START = { z: [-0.8, 0.6], target: 0 }
const CLOSE = 0.005 // radians: z has arrived
const TRAIL = 600 // dots, one for each of the last steps

const line = (points) => points.map(([x, y]) => `${x.toFixed(2)},${(-y).toFixed(2)}`).join(" ")
const place = (element, [x, y]) => element.setAttribute("transform", `translate(${x.toFixed(2)} ${(-y).toFixed(2)})`)

// One path of arrows along −∇ for a target to the right; among each other their lengths are the same in every view.
function field() {
  const parts = []
  const unit = RIM / REACH
  for (const [radius, count] of [[0.5, 12], [1, 20], [1.5, 24], [2, 28], [2.5, 32], [3, 36]]) {
    for (let i = 0; i < count; i++) {
      const angle = ((i + 0.5) * 2 * Math.PI) / count
      const z = direction(angle).map((part) => part * radius)
      const [dx, dy] = gradient(z, 0).map((part) => -0.36 * part)
      const [x, y] = [z[0] + dx, z[1] + dy]
      const wings = [0.2, -0.2].map((side) => [x - 0.35 * dx - side * dy, y - 0.35 * dy + side * dx])
      const [from, to, left, right] = [z, [x, y], ...wings].map((point) => line([point.map((part) => part * unit)]))
      parts.push(`M${from}L${to}M${left}L${to}L${right}`)
    }
  }
  return parts.join("")
}

const ends = (element, [x1, y1], [x2, y2]) => {
  for (const [key, value] of Object.entries({ x1, y1: -y1, x2, y2: -y2 })) element.setAttribute(key, value.toFixed(2))
}
const times = (factor) => (part) => part * factor

// The plane, with a handle for z and one for the target.
function drawing() {
  const knob = (kind, label, least, most) => {
    const [hit, dot] = [svg("circle", { r: 13, class: "hit" }), svg("circle", { r: 6 })]
    const range = { "aria-valuemin": least, "aria-valuemax": most, "aria-label": label }
    return svg("g", { class: `knob ${kind}`, tabindex: 0, role: "slider", ...range }, hit, dot)
  }
  const tip = knob("embedding", "Embedding z: left and right turn it, up and down change its length", 0, 100)
  const goal = knob("target", "Target: the arrows turn it, and z takes a step", -180, 180)
  const [rings, arrows, ray] = [svg("g", { class: "rings" }), svg("path", { class: "field", d: field() }), svg("line", { class: "ray" })]
  const dots = svg("path", { class: "trail" })
  const [aim, arm] = [svg("line", { class: "aim" }), svg("line", { class: "arm" })]
  const [shaft, head, corner] = [svg("line"), svg("path"), svg("polyline")]
  const pull = svg("g", { class: "pull" }, shaft, head, corner)
  const parts = [svg("circle", { r: RIM, class: "rim" }), rings, arrows, ray, dots, aim, pull, arm, goal, tip]
  const frame = { class: "plane", viewBox: `${-EDGE} ${-EDGE} ${2 * EDGE} ${2 * EDGE}`, role: "group", "aria-label": "Plane of embeddings" }
  const plane = svg("svg", frame, ...parts)
  let reach // norm at the rim

  // Shows norms up to `longest`.
  function widen(longest) {
    let wanted = REACH
    while (wanted < longest * 1.02) wanted *= 2
    if (wanted === reach) return
    reach = wanted
    rings.replaceChildren()
    for (const part of [1, 2, 3]) {
      const radius = (RIM * part) / REACH
      rings.append(svg("circle", { r: radius }), svg("text", { x: 2, y: radius - 2 }, fixed((part * reach) / REACH, 0)))
    }
  }

  function paint(trail, target) {
    widen(Math.max(...trail.map(norm)))
    const unit = RIM / reach
    const z = trail.at(-1)
    const length = norm(z)
    const [u, at, rim] = [z.map(times(1 / length)), z.map(times(unit)), direction(target).map(times(RIM))]
    arrows.setAttribute("transform", `rotate(${(-target * 180) / Math.PI})`)
    ends(ray, [0, 0], u.map(times(RIM)))
    ends(aim, [0, 0], rim)
    ends(arm, [0, 0], at)
    dots.setAttribute("d", trail.map((point) => `M${line([point.map(times(unit))])}h0`).join(""))
    place(tip, at)
    tip.lastChild.setAttribute("r", clamp(4 + 1.6 * length, 4, 12).toFixed(1)) // what is long looks heavy
    place(goal, rim)
    paintPull(at, u, gradient(z, target).map(times(-unit)))
  }

  function paintPull(at, u, descent) {
    const size = norm(descent)
    pull.setAttribute("visibility", size > 0.5 ? "visible" : "hidden")
    if (size <= 0.5) return
    const [f, end] = [descent.map(times(1 / size)), [at[0] + descent[0], at[1] + descent[1]]]
    const from = (origin, along, aside) => [origin[0] + along * f[0] - aside * f[1], origin[1] + along * f[1] + aside * f[0]]
    const back = Math.min(size, 5)
    ends(shaft, at, end)
    head.setAttribute("d", `M${line([from(end, -back, back / 2), end, from(end, -back, -back / 2)])}Z`)
    const inwards = u[0] * f[1] - u[1] * f[0] > 0 ? 5 : -5 // the right angle is marked on the side of the origin
    corner.setAttribute("points", line([from(at, 0, inwards), from(at, 5, inwards), from(at, 5, 0)]))
  }

  // Point of the plane under the pointer.
  function point({ clientX, clientY }) {
    const { left, top, width } = plane.getBoundingClientRect()
    const [x, y] = [clientX - left, top - clientY].map((offset) => (offset / width) * 2 * EDGE)
    return [x - EDGE, y + EDGE].map(times(reach / RIM))
  }
  return { plane, tip, goal, paint, point, reach: () => reach }
}

// The numbers beside the plane.
function readings() {
  const list = html("dl")
  const rows = [
    ["length ‖z‖"],
    ["angle φ to the target"],
    ["loss −cos φ", (z, target) => (1 + cosineLoss(z, target)) / 2],
    ["gradient sin φ / ‖z‖", (z, target) => norm(gradient(z, target)) / 2],
    ["turn of one step", (z, target, eta) => turn(z, target, eta) / (Math.PI / 2)],
    ["steps taken"],
  ].map(([name, fill]) => {
    const value = html("dd")
    const row = html("div", fill ? { class: "bar" } : {}, html("dt", {}, name), value)
    list.append(row)
    return { row, value, fill }
  })

  function show(texts, ...state) {
    rows.forEach(({ row, value, fill }, i) => {
      value.textContent = texts[i]
      if (fill) row.style.setProperty("--fill", `${(100 * Math.min(fill(...state), 1)).toFixed(1)}%`)
    })
  }
  return { list, show }
}

function render({ model, el }) {
  const [z, target, eta] = ["z", "target", "eta"].map((name) => () => model.get(name))
  const angle = () => Math.acos(clamp(-cosineLoss(z(), target()), -1, 1))
  const [{ plane, tip, goal, paint, point, reach }, { list, show }] = [drawing(), readings()]
  const { region, say } = announcer()
  let trail = [z()]

  function draw() {
    paint(trail, target())
    const state = [z(), target(), eta()]
    const [length, loss, size] = [norm(z()), cosineLoss(z(), target()), norm(gradient(z(), target()))].map((n) => fixed(n, 2))
    const [away, turned] = [degrees(angle()), degrees(turn(...state), 1)]
    show([length, away, loss, size, turned, model.get("steps")], ...state)
    tip.setAttribute("aria-valuenow", length)
    tip.setAttribute("aria-valuetext", `length ${length}, ${away} from the target`)
    goal.setAttribute("aria-valuenow", Math.round((target() * 180) / Math.PI))
    goal.setAttribute("aria-valuetext", `at ${degrees(target())}`)
    run.textContent = follower.running() ? "Pause" : "Run"
    speed.draw()
    return `length ${length}, angle ${away}, loss ${loss}, gradient ${size}, turn ${turned}`
  }

  // What may happen to the state.
  const put = (next, origin = {}) => {
    const length = norm(next)
    if (!length) return
    trail = [next.map(times(clamp(length, SHORTEST, reach()) / length))]
    model.set({ z: trail[0], steps: 0, ...origin })
  }
  const aimAt = (radians) => model.set("target", Math.atan2(Math.sin(radians), Math.cos(radians)))
  const advance = (count) => {
    let now = z()
    for (let i = 0; i < count; i++) trail.push((now = step(now, target(), eta())))
    trail = trail.slice(-TRAIL)
    model.set({ z: now, steps: model.get("steps") + count })
  }
  const bend = (radians, factor) => {
    const [[x, y], [c, s]] = [z(), direction(radians).map(times(factor))]
    put([c * x - s * y, s * x + c * y])
  }
  const sweep = (radians) => {
    aimAt(target() + radians)
    advance(1)
  }

  // z follows while the target is pulled, and after "Run" until it has arrived.
  let pulling = false
  const follower = clock(
    () => RATE,
    (steps) => {
      advance(steps)
      if (!pulling && angle() < CLOSE) halt()
    },
  )
  const halt = () => {
    follower.stop()
    model.save_changes()
    draw()
  }
  const runOrPause = () => {
    if (follower.running()) return halt()
    if (prefersStill()) return advance(RATE)
    follower.start()
    draw()
  }

  let held
  const near = (a, b) => (Math.hypot(a[0] - b[0], a[1] - b[1]) * RIM) / reach() < 14
  const move = (at) => {
    if (held === tip) return put(at)
    aimAt(Math.atan2(at[1], at[0]))
    if (prefersStill()) return advance(1)
    pulling = true
    follower.start()
  }
  follow(plane, point, {
    press(at) {
      const onRim = norm(at) > 0.9 * reach() || near(at, direction(target()).map(times(reach())))
      if (norm(at) > 1.1 * reach()) return false // a corner of the picture
      held = near(at, z()) || !onRim ? tip : goal
      follower.stop()
      if (held === tip) put(at)
      else aimAt(Math.atan2(at[1], at[0]))
    },
    move,
    release() {
      pulling = false
      held.focus({ preventScroll: true, focusVisible: false }) // the arrow keys go on from here
      halt()
    },
  })

  const act = (change) => () => {
    change()
    model.save_changes()
  }
  const keys = (element, moves) =>
    element.addEventListener("keydown", (event) => {
      if (!(event.key in moves)) return
      event.preventDefault()
      act(moves[event.key])()
    })
  const [TURN, STRETCH] = [Math.PI / 36, 1.1]
  const [left, right] = [() => sweep(TURN), () => sweep(-TURN)]
  keys(goal, { ArrowLeft: left, ArrowUp: left, ArrowRight: right, ArrowDown: right })
  keys(tip, {
    ArrowLeft: () => bend(TURN, 1),
    ArrowRight: () => bend(-TURN, 1),
    ArrowUp: () => bend(0, STRETCH),
    ArrowDown: () => bend(0, 1 / STRETCH),
  })

  const run = button("Run", act(runOrPause))
  const speed = slider(model, { name: "eta", label: "step size η", min: 0.05, max: 1, step: 0.05, show: (value) => fixed(value, 2) })
  const reset = () => {
    follower.stop()
    put(START.z, { target: START.target })
  }
  const buttons = [
    button("Step", act(() => advance(1))),
    run,
    button("‖z‖ × 2", act(() => bend(0, 2)), { "aria-label": "Double the length of z" }),
    button("‖z‖ ÷ 2", act(() => bend(0, 0.5)), { "aria-label": "Halve the length of z" }),
    button("Reset", act(reset)),
  ]
  const hint = "Put z (blue) anywhere. Pull the target (orange) round the rim: z follows, one step of SGD after another."
  const side = html("div", { class: "side" }, list, speed.element, html("div", { class: "buttons" }, ...buttons))
  box(el, "Drag an embedding", html("div", { class: "stage" }, plane, side), html("p", { class: "hint" }, hint), region)

  const changed = () => {
    const last = trail.at(-1)
    if (last[0] !== z()[0] || last[1] !== z()[1]) trail = [z()] // set from Python
    say(draw())
  }
  model.on("change", changed)
  draw()
  return () => {
    follower.stop()
    model.off("change", changed)
  }
}

export default { render }
