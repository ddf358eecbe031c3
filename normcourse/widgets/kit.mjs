// What the explorables share. The module of each is this file followed by its own.

const maker = (namespace) => (name, attributes = {}, ...children) => {
  const element = document.createElementNS(namespace, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  element.append(...children)
  return element
}
const html = maker("http://www.w3.org/1999/xhtml")
const svg = maker("http://www.w3.org/2000/svg")

const clamp = (value, least, most) => Math.min(Math.max(value, least), most)
const fixed = (value, digits) => value.toFixed(digits).replace("-", "−")
const degrees = (radians, digits = 0) => `${fixed((radians * 180) / Math.PI, digits)}°`
const prefersStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches

// The box that an explorable lives in. JupyterLab would take its arrow keys for moves between cells.
const box = (el, label, ...children) => {
  const root = html("div", { class: "explorable", role: "group", "aria-label": label, "data-lm-suppress-shortcuts": "true" })
  root.append(...children)
  el.append(root)
  return root
}

const button = (text, act, attributes = {}) => {
  const element = html("button", { type: "button", ...attributes }, text)
  element.addEventListener("click", act)
  return element
}

// A slider of the model's value `name`. It moves along `to(value)`, a logarithm for example; `show` writes the value.
const slider = (model, { name, label, min, max, step, show, to = Number, from = Number, moved = () => {} }) => {
  const [input, output] = [html("input", { type: "range", min: to(min), max: to(max), step }), html("output")]
  const draw = () => {
    input.value = to(model.get(name))
    output.textContent = show(model.get(name))
    input.setAttribute("aria-valuetext", output.textContent)
  }
  input.addEventListener("input", () => {
    model.set(name, from(input.value))
    moved()
    model.save_changes()
  })
  return { element: html("label", {}, html("span", {}, label), input, output), draw }
}

// Tells a screen reader the latest of what happened, at most once in a second and a half.
const announcer = () => {
  const region = html("p", { class: "explorable-aloud", "aria-live": "polite" })
  let waiting, latest
  const say = (text) => {
    latest = text
    waiting ??= setTimeout(() => {
      region.textContent = latest
      waiting = undefined
    }, 1500)
  }
  return { region, say }
}

// Calls `tick` with the steps that are due, `rate()` of them a second, until it returns false or stop() is called.
const clock = (rate, tick) => {
  let frame, last, due
  const advance = (now) => {
    due += (rate() * Math.min(now - last, 100)) / 1000
    last = now
    const steps = Math.floor(due)
    due -= steps
    frame = requestAnimationFrame(advance)
    if (steps && tick(steps) === false) stop()
  }
  const start = () => {
    if (frame) return
    ;[last, due] = [performance.now(), 1]
    frame = requestAnimationFrame(advance)
  }
  const stop = () => {
    cancelAnimationFrame(frame)
    frame = undefined
  }
  return { start, stop, running: () => frame !== undefined }
}

// Follows one pointer from press to release on an element; `place` turns an event into a point.
const follow = (element, place, { press, move, release }) => {
  let followed
  element.addEventListener("pointerdown", (event) => {
    if (followed !== undefined || event.button !== 0 || press(place(event)) === false) return
    followed = event.pointerId
    element.setPointerCapture(followed)
  })
  element.addEventListener("pointermove", (event) => event.pointerId === followed && move(place(event)))
  element.addEventListener("lostpointercapture", (event) => {
    if (event.pointerId !== followed) return
    followed = undefined
    release()
  })
}

// A choice among a few values of the model's value `name`; `options` are pairs of value and text.
const choice = (model, { name, label, options }) => {
  const buttons = options.map(([value, text]) =>
    button(text, () => {
      model.set(name, value)
      model.save_changes()
    }),
  )
  const draw = () => options.forEach(([value], i) => buttons[i].setAttribute("aria-pressed", value === model.get(name)))
  const group = html("div", { class: "buttons", role: "group", "aria-label": label }, ...buttons)
  return { element: html("div", { class: "choice" }, html("span", {}, label), group), draw }
}

// Numbers that came as base64, in a typed array of some kind.
const unpack = (text, kind) => new kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer)

// Axes for curves, 200 by 110: `x` and `y` have their ends, the name of the axis, and ticks as pairs of value and text.
const chart = (label, x, y) => {
  const [left, right, top, bottom] = [32, 191, 6, 88]
  const across = (value) => left + ((right - left) * (value - x.least)) / (x.most - x.least)
  const down = (value) => clamp(bottom - ((bottom - top) * (value - y.least)) / (y.most - y.least), top, bottom)
  const curves = svg("g", { class: "curves" })
  const element = svg("svg", { class: "chart", viewBox: "0 0 200 110", role: "img", "aria-label": label })
  for (const [value, text] of x.ticks) element.append(svg("text", { x: across(value), y: 97, "text-anchor": "middle" }, text))
  for (const [value, text] of y.ticks) {
    element.append(svg("line", { class: "tick", x1: left, x2: right, y1: down(value), y2: down(value) }))
    element.append(svg("text", { x: left - 3, y: down(value) + 2.5, "text-anchor": "end" }, text))
  }
  element.append(svg("text", { x: (left + right) / 2, y: 107, "text-anchor": "middle" }, x.label))
  element.append(svg("text", { x: 5, y: (top + bottom) / 2, class: "upright", "text-anchor": "middle" }, y.label), curves)
  const points = (xs, ys) => xs.map((value, i) => `${across(value).toFixed(1)},${down(ys[i]).toFixed(1)}`)
  return { element, curves, across, down, points }
}
