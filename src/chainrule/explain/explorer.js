// Walks through the graph of a page (or a widget). All numbers, texts and pictures come from
// explorer.py as data; nothing is computed, fetched or evaluated here.

const KEYS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
const PACE = 900; // milliseconds a step when it plays

const escaped = (text) =>
  String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

async function unpack(script) {
  if (script.type === "application/json") return JSON.parse(script.textContent);
  const bytes = Uint8Array.from(atob(script.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// When the value of a node is there, and when its gradient is complete, as positions of the walk:
// 0 is the start, n the end of the forward pass, 2n that of the backward pass.
function timetable(data) {
  const n = data.gates.length;
  const value = {}, gradient = {};
  for (const v of data.variables) [value[v.id], gradient[v.id]] = [0, 2 * n];
  data.gates.forEach((g, k) => ([value[g.id], gradient[g.id]] = [k + 1, 2 * n]));
  const first = {};
  data.gates.forEach((g, k) =>
    g.inputs.forEach((x) => { if (x.id && !(x.id in first)) first[x.id] = k; }));
  for (const id in first) gradient[id] = 2 * n - first[id];
  if (n) gradient[`g${n - 1}`] = n;
  return { value, gradient };
}

class Explorer {
  constructor(el, data) {
    this.el = el;
    el.explorer = this;
    this.data = data;
    this.n = data.gates.length;
    this.position = 2 * this.n;
    this.key = "";
    this.selected = null;
    this.timer = null;
    this.times = timetable(data);
    this.things = Object.fromEntries([...data.gates, ...data.variables].map((x) => [x.id, x]));
    this.build();
    this.open("");
    this.show();
  }

  build() {
    this.el.classList.add("cr-ready");
    this.el.querySelector(".cr-still")?.remove();
    const bar = document.createElement("div");
    bar.className = "cr-frame";
    bar.tabIndex = 0;
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", `Walk through the graph of ${this.data.name}`);
    bar.innerHTML = `
      <div class="cr-bar">
        <button type="button" data-go="Home" aria-label="To the start">|◀</button>
        <button type="button" data-go="ArrowLeft" aria-label="One step back">◀</button>
        <button type="button" data-go="play" aria-label="Play" class="cr-play">▶ Play</button>
        <button type="button" data-go="ArrowRight" aria-label="One step on">▶</button>
        <button type="button" data-go="End" aria-label="To the end">▶|</button>
        <input type="range" min="0" max="${2 * this.n}" value="${this.position}"
          aria-label="Step of the walk">
        <output class="cr-where"></output>
      </div>
      <nav class="cr-way" aria-label="Open boxes"></nav>
      <div class="cr-pane" tabindex="-1"></div>
      <div class="cr-panel" aria-live="polite"></div>
      ${this.data.formulas ? `<details class="cr-formulas"><summary>Formulas</summary>
        ${this.data.formulas}</details>` : ""}`;
    this.el.append(bar);
    const find = (name) => bar.querySelector(name);
    [this.slider, this.where, this.way, this.pane, this.panel] =
      ["input", ".cr-where", ".cr-way", ".cr-pane", ".cr-panel"].map(find);
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    bar.addEventListener("click", (event) => this.clicked(event));
    bar.addEventListener("keydown", (event) => this.pressed(event));
    this.printed = [
      ["beforeprint", () => this.list(true)],
      ["afterprint", () => this.list(false)],
    ];
    for (const [name, f] of this.printed) window.addEventListener(name, f);
  }

  remove() {
    this.stop();
    for (const [name, f] of this.printed) window.removeEventListener(name, f);
    this.el.replaceChildren();
  }

  // -- moving --------------------------------------------------------------------------------

  go(position) {
    this.position = Math.max(0, Math.min(2 * this.n, position));
    const gate = this.current();
    this.selected = gate ? gate.id : null;
    if (gate && gate.view !== this.key) this.open(gate.view);
    this.show();
  }

  // The gate that is computed (forward) or pulled through (backward) at this position.
  current() {
    const p = this.position;
    if (!p) return null;
    return p <= this.n ? this.data.gates[p - 1] : this.data.gates[2 * this.n - p];
  }

  play() {
    if (this.timer) return this.stop();
    if (this.position === 2 * this.n) this.go(0);
    this.timer = setInterval(() => {
      if (this.position === 2 * this.n) this.stop();
      else this.go(this.position + 1);
    }, PACE);
    this.playing(true);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    if (this.el.isConnected) this.playing(false);
  }

  playing(on) {
    const button = this.el.querySelector(".cr-play");
    button.textContent = on ? "❚❚ Pause" : "▶ Play";
    button.setAttribute("aria-label", on ? "Pause" : "Play");
  }

  clicked(event) {
    const target = event.target.closest("[data-go],[data-box],[data-open],[data-node]");
    if (!target) return;
    const { go, box, open, node } = target.dataset;
    if (go === "play") return this.play();
    this.stop();
    if (go) this.go(this.position + KEYS[go]);
    else if (box !== undefined) this.open(box, true);
    else if (open !== undefined) this.open(open, true);
    else this.select(node);
  }

  pressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const thing = event.target.closest("g[data-box],g[data-node]");
    if (thing && (event.key === "Enter" || event.key === " ")) this.clicked(event);
    else if (event.key === "Escape" && this.key) this.open(this.up(), true);
    else if (event.target === this.slider || event.target.closest("button")) return;
    else if (event.key === " ") this.play();
    else if (event.key in KEYS) {
      this.stop();
      this.go(this.position + KEYS[event.key]);
    } else return;
    event.preventDefault();
  }

  up() {
    const way = this.data.views[this.key].way;
    return way[way.length - 2].key;
  }

  select(id) {
    const thing = this.things[id];
    if (!thing) return;
    this.selected = id;
    if (thing.view !== this.key && !this.pane.querySelector(`[data-node="${id}"]`))
      this.open(thing.view);
    this.show();
  }

  open(key, focus = false) {
    this.key = key;
    const view = this.data.views[key];
    this.pane.innerHTML = view.svg;
    const svg = this.pane.firstElementChild;
    this.pane.classList.toggle("cr-wide", svg.width.baseVal.value > 1.8 * this.pane.clientWidth);
    for (const g of svg.querySelectorAll("g[data-node],g[data-box]")) {
      g.tabIndex = 0;
      g.setAttribute("role", "button");
    }
    this.way.innerHTML = view.way.length < 2 ? "" : view.way.map((box, k) =>
      k === view.way.length - 1 ? `<span aria-current="page">${escaped(box.name)}</span>`
        : `<button type="button" data-open="${box.key}">${escaped(box.name)}</button>`).join(" / ");
    if (focus) {
      this.show();
      (svg.querySelector("g[tabindex]") || this.pane).focus({ preventScroll: true });
    }
  }

  // -- showing -------------------------------------------------------------------------------

  show() {
    const { position: p, n } = this;
    this.slider.value = p;
    this.where.textContent = p === 0 ? "start" : p <= n ? `forward, gate ${p} of ${n}`
      : `backward, gate ${2 * n - p + 1} of ${n}`;
    this.slider.setAttribute("aria-valuetext", this.where.textContent);
    for (const g of this.pane.querySelectorAll("g[data-node],g[data-box]")) {
      const id = g.dataset.node, k = id && id[0] === "g" ? Number(id.slice(1)) : -1;
      g.classList.toggle("cr-later", id !== undefined && p < this.times.value[id]);
      g.classList.toggle("cr-unknown", id !== undefined && p < this.times.gradient[id]);
      g.classList.toggle("cr-unpulled", k >= 0 && p < 2 * n - k);
      const on = id !== undefined && id === this.selected;
      g.classList.toggle("cr-on", on);
      g.classList.toggle("cr-back", on && p > n);
      if (on && this.pane.scrollWidth > this.pane.clientWidth) {
        const box = g.getBoundingClientRect(), pane = this.pane.getBoundingClientRect();
        this.pane.scrollLeft += box.x + box.width / 2 - pane.x - pane.width / 2;
      }
    }
    const thing = this.things[this.selected];
    if (!thing) this.panel.innerHTML = this.overview();
    else if (thing.id[0] === "v") this.panel.innerHTML = this.variable(thing);
    else this.panel.innerHTML = this.gate(thing);
  }

  overview() {
    const many = `${this.n} gate${this.n === 1 ? "" : "s"}`;
    const note = this.data.note ? `<p>${escaped(this.data.note)}</p>` : "";
    return `${note}<p>${many}. <b>→</b> and <b>←</b> walk through the forward pass and then the
      backward pass, <b>space</b> plays; a click on a gate or a name shows its numbers, on a box
      opens it, <b>Esc</b> closes it.</p>`;
  }

  link(name, id) {
    return id ? `<button type="button" class="cr-link" data-node="${id}">${escaped(name)}</button>`
      : escaped(name);
  }

  sum(thing) {
    if (!thing.branches.length) return "";
    const parts = thing.branches.map(([name, g]) => `<span class="cr-grad">${escaped(g)}</span>
      from ${escaped(name)}`);
    return `<p class="cr-sum">It feeds ${parts.length} gates, so its gradient is the sum of
      ${parts.join(", ")}.</p>`;
  }

  variable(v) {
    return `<h3>${escaped(v.name)}</h3>
      <dl><dt>value</dt><dd class="cr-value">${escaped(v.value)}</dd>
      <dt>gradient</dt><dd class="cr-grad">${escaped(v.gradient)}</dd></dl>
      ${this.sum(v)}${this.paths(v)}`;
  }

  paths(thing) {
    if (!thing.paths) return "";
    const rows = thing.paths.rows.map(([way, amount]) =>
      `<tr><td>${escaped(way)}</td><td class="cr-grad">${escaped(amount)}</td></tr>`).join("");
    return `<h4>Why: the paths of ${escaped(thing.paths.entry)}</h4>
      <table class="cr-paths"><thead><tr><th scope="col">path to ${escaped(this.data.name)}</th>
      <th scope="col">contribution</th></tr></thead><tbody>${rows}</tbody>
      <tfoot><tr><th scope="row">sum</th><td class="cr-grad">${escaped(thing.paths.total)}</td></tr>
      </tfoot></table>${thing.paths.why ? `<p class="cr-why">${escaped(thing.paths.why)}</p>` : ""}`;
  }

  gate(g) {
    const back = this.position > this.n;
    const f = escaped(this.data.name), name = escaped(g.name);
    const line = g.line ? `<p class="cr-line"><code>${escaped(g.line)}</code>
      ${g.source ? `<code>${escaped(g.source)}</code>` : ""}</p>` : "";
    const known = g.inputs.some((x) => x.structure);
    const rows = g.inputs.map((x) => {
      const own = `<td>${this.link(x.name, x.id)}</td><td class="cr-value">${escaped(x.value)}</td>`;
      if (!back) return `<tr>${own}</tr>`;
      if (!x.id) return `<tr>${own}<td colspan="${2 + known}">constant</td></tr>`;
      const words = [x.structure, x.formula].filter(Boolean).map(escaped).join("<br>");
      return `<tr>${own}<td>${escaped(x.local)}</td>${known ? `<td class="cr-note">${words}</td>`
        : ""}<td class="cr-grad">${escaped(x.downstream)}</td></tr>`;
    }).join("");
    const head = `<th scope="col">input</th><th scope="col">value</th>` + (back
      ? `<th scope="col">local ∂${name}/∂input</th>${known ? '<th scope="col">its structure</th>' : ""}
         <th scope="col">downstream = upstream × local</th>` : "");
    const upstream = back ? `<dt>upstream ∂${f}/∂${name}</dt>
      <dd class="cr-grad">${escaped(g.gradient)}</dd>` : "";
    return `<h3>${name} = ${escaped(g.expression)}</h3>
      <p class="cr-does">${back ? `<b>${escaped(g.word)}</b>: ${escaped(g.says)}` : "forward"}
      ${g.module ? ` · module ${escaped(g.module)}` : ""}
      ${g.kernel ? ` · ${escaped(g.kernel)}` : ""}</p>${line}
      <dl><dt>value</dt><dd class="cr-value">${escaped(g.value)}</dd>${upstream}</dl>
      ${back ? this.sum(g) : ""}
      <div class="cr-scroll"><table><thead><tr>${head}</tr></thead><tbody>${rows}</tbody></table></div>
      ${back ? this.paths(g) : ""}`;
  }

  // On paper there is no walking: all gates in a table.
  list(on) {
    this.el.querySelector(".cr-list")?.remove();
    if (!on || this.n > 200) return;
    const rows = this.data.gates.map((g) => `<tr><td>${escaped(g.name)} = ${escaped(g.expression)}
      </td><td>${escaped(g.value)}</td><td>${escaped(g.gradient)}</td><td>${escaped(g.word)}</td>
      </tr>`).join("");
    const table = document.createElement("table");
    table.className = "cr-list";
    table.innerHTML = `<thead><tr><th>gate</th><th>value</th><th>gradient</th><th>does</th></tr>
      </thead><tbody>${rows}</tbody>`;
    this.el.append(table);
  }
}

async function start(root) {
  for (const el of root.querySelectorAll(".cr-explorer:not(.cr-ready)"))
    new Explorer(el, await unpack(el.querySelector(".cr-data")));
}

// An explorer in an element, for pages that get their data later; `remove()` ends it.
const open = (el, data) => new Explorer(el, data);

// The interface of anywidget.
function render({ model, el }) {
  const host = document.createElement("div");
  host.className = "cr-explorer";
  el.append(host);
  let shown = new Explorer(host, model.get("data"));
  model.on("change:data", () => {
    shown.remove();
    shown = new Explorer(host, model.get("data"));
  });
  return () => shown.remove();
}

export default { render, start, open };
