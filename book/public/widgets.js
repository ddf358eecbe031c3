// Lets the explorables of a page move without a kernel: the state that the notebook saved holds their module's text.

class Model {
  #listeners = []
  constructor(state) {
    this.state = { ...state }
  }
  get(name) {
    return this.state[name]
  }
  set(name, value) {
    const changes = typeof name === "object" ? name : { [name]: value }
    Object.assign(this.state, changes)
    for (const event of [...Object.keys(changes).map((key) => `change:${key}`), "change"])
      for (const listener of this.#listeners) if (listener.event === event) listener.call()
  }
  on(event, call) {
    this.#listeners.push({ event, call })
  }
  off(event, call) {
    this.#listeners = this.#listeners.filter((listener) => listener.event !== event || (call && listener.call !== call))
  }
  save_changes() {} // nothing is kept: no kernel listens
}

const kind = (name) => `script[type="application/vnd.jupyter.widget-${name}+json"]`
const states = Object.assign({}, ...[...document.querySelectorAll(kind("state"))].map((saved) => JSON.parse(saved.textContent).state))
for (const view of document.querySelectorAll(kind("view"))) {
  const { state } = states[JSON.parse(view.textContent).model_id]
  const address = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" })) // works from file:// as well
  import(address).then((module) => {
    const [style, el] = [document.createElement("style"), document.createElement("div")]
    style.textContent = state._css
    view.before(style, el)
    module.default.render({ model: new Model(state), el })
    el.className = "explorable-live"
    view.parentElement.querySelector(".explorable-still")?.classList.add("replaced")
  })
}
