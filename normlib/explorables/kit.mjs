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
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || press(place(event)) === false) return
    element.setPointerCapture(event.pointerId)
    const moved = (next) => move(place(next))
    const released = () => {
      element.removeEventListener("pointermove", moved)
      release()
    }
    element.addEventListener("pointermove", moved)
    element.addEventListener("lostpointercapture", released, { once: true })
  })
}
