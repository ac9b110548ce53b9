// The playground's page: it sends what is asked for and draws what comes back. Everything is
// computed in Python (session.py).
const COLOURS = [[0, 114, 178], [213, 94, 0], [0, 158, 115]];
const $ = (id) => document.getElementById(id);
const text = (s) => String(s).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const bytes = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
let data = null, view = null, running = false, waiting = false, stale = false, drawn = [];
let hidden = [4], shown = null;

const token = new URLSearchParams(location.search).get("token");
const socket = new WebSocket(`ws://${location.host}/socket?token=${encodeURIComponent(token)}`);

function send(message) {
  if (socket.readyState !== 1) return;
  waiting = true;
  socket.send(JSON.stringify(message));
}

socket.onmessage = (event) => {
  waiting = false;
  const answer = JSON.parse(event.data);
  const problem = document.querySelector(".problem");
  problem.hidden = !answer.error;
  if (answer.error) {
    problem.textContent = answer.error;
    play(false);
    return;
  }
  if (answer.data) { data = answer.data; drawn = []; }
  if (answer.walk) walked(answer.walk);
  // what was changed meanwhile is not in the answer: it is sent next, and this one is not drawn
  if (answer.network && !stale) { view = answer; hidden = answer.network.hidden; draw(); }
  if (stale) { stale = false; build(); } else if (running) next();
};
socket.onclose = () => {
  say("The connection has ended: close other pages of the playground and reload this one, or start "
    + "chainrule play again and open its address.");
  play(false);
};

function next() {
  if (!waiting) send({ do: "step", steps: Number($("speed").value) });
}

function ready() {
  if (data.x.length) return true;
  say("There are no points: draw some, or choose some.");
  return false;
}

function say(text) {
  const problem = document.querySelector(".problem");
  problem.textContent = text;
  problem.hidden = false;
}

function play(on) {
  if (on && !ready()) return;
  running = on;
  $("run").textContent = on ? "❚❚ Pause" : "▶ Train";
  if (on) next();
}

function build() {
  if (waiting) { stale = true; return; }
  send({
    do: "network", hidden, activation: $("activation").value, optimizer: $("optimizer").value,
    rate: Number($("rate").value), penalty: Number($("penalty").value),
    seed: Math.max(0, Math.round(Number($("seed").value)) || 0),
  });
}

// -- drawing ----------------------------------------------------------------------------------

function draw() {
  plane();
  network();
  losses();
  gradients();
  $("status").textContent = `step ${view.steps}   loss ${view.losses.length
    ? view.losses[view.losses.length - 1].toFixed(4) : "–"}   right ${(100 * view.accuracy).toFixed(1)} %`;
  $("point").max = data.x.length - 1;
}

function place(x, y, side) {
  return [(x / data.reach + 1) / 2 * side, (1 - y / data.reach) / 2 * side];
}

function plane() {
  const canvas = $("plane"), side = canvas.width, c = canvas.getContext("2d");
  const p = bytes(view.plane), classes = data.names.length, n = Math.round(Math.sqrt(p.length / classes));
  const image = new ImageData(n, n);
  for (let k = 0; k < n * n; k++) {
    for (let j = 0; j < 3; j++) {
      let mixed = 0;
      for (let i = 0; i < classes; i++) mixed += p[i * n * n + k] / 255 * (255 - COLOURS[i][j]);
      image.data[4 * k + j] = 255 - 0.55 * mixed;
    }
    image.data[4 * k + 3] = 255;
  }
  const small = new OffscreenCanvas(n, n);
  small.getContext("2d").putImageData(image, 0, 0);
  c.imageSmoothingEnabled = true;
  c.drawImage(small, 0, 0, side, side);
  const dot = (x, y, k) => {
    const [a, b] = place(x, y, side);
    c.beginPath();
    c.arc(a, b, 4.5, 0, 7);
    c.fillStyle = `rgb(${COLOURS[k]})`;
    c.fill();
    c.strokeStyle = "#fff";
    c.lineWidth = 1.2;
    c.stroke();
  };
  data.x.forEach(([x, y], i) => dot(x, y, data.y[i]));
  drawn.forEach(([x, y, k]) => dot(x, y, k));
}

function unit(picture) {
  const values = bytes(picture), n = Math.round(Math.sqrt(values.length));
  const image = new ImageData(n, n);
  values.forEach((v, k) => {
    const share = (v - 128) / 127, end = share > 0 ? COLOURS[1] : COLOURS[0];
    for (let j = 0; j < 3; j++) image.data[4 * k + j] = 247 + Math.abs(share) * (end[j] - 247);
    image.data[4 * k + 3] = 255;
  });
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = n;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.toDataURL();
}

function network() {
  const layers = [["x", "y"], ...hidden.map((n) => Array(n).fill("")), data.names];
  const wide = 118, size = 34, gap = 44;
  const most = Math.max(...layers.map((l) => l.length));
  const height = Math.max(320, gap * most + 70), width = wide * (layers.length - 1) + 150;
  const at = (k, i) => [60 + wide * k, (height - 40) / 2 + gap * (i - (layers[k].length - 1) / 2) + 14];
  let html = "";
  view.weights.forEach((w, k) => {
    const limit = Math.max(1e-9, ...w.flat().map(Math.abs));
    w.forEach((row, i) => row.forEach((v, j) => {
      const [x1, y1] = at(k, i), [x2, y2] = at(k + 1, j), share = Math.abs(v) / limit;
      html += `<path d="M${x1 + 17} ${y1}C${x1 + 60} ${y1} ${x2 - 60} ${y2} ${x2 - 17} ${y2}"
        style="stroke:rgb(${COLOURS[v > 0 ? 1 : 0]})" stroke-opacity="${(0.12 + 0.88 * share).toFixed(2)}"
        stroke-width="${(0.6 + 4 * share).toFixed(1)}"><title>weight ${v.toFixed(3)}</title></path>`;
    }));
  });
  layers.forEach((names, k) => names.forEach((name, i) => {
    const [x, y] = at(k, i), picture = view.units[k - 1]?.[i];
    if (picture) html += `<image x="${x - 17}" y="${y - 17}" width="${size}" height="${size}"
      href="${unit(picture)}"><title>what unit ${i} of layer ${k} gives over the plane</title></image>`;
    html += `<rect class="frame" x="${x - 17}" y="${y - 17}" width="${size}" height="${size}" rx="5"
      ${picture ? "" : 'style="fill:var(--card)"'}/>`;
    if (!picture) html += `<text x="${x}" y="${y + 4}" text-anchor="middle">${text(
      k ? name.slice(0, 5) : data.axes[i].slice(0, 5))}</text>`;
  }));
  hidden.forEach((n, k) => {
    const [x] = at(k + 1, 0);
    for (const [step, label, dx] of [[-1, "−", -22], [1, "+", 4]])
      html += `<g class="plus" data-layer="${k}" data-step="${step}" tabindex="0" role="button"
        aria-label="One unit ${step > 0 ? "more" : "less"} in hidden layer ${k + 1}">
        <rect x="${x + dx}" y="6" width="18" height="18" rx="4"/>
        <text x="${x + dx + 9}" y="19" text-anchor="middle">${label}</text></g>`;
    html += `<text x="${x}" y="${height - 8}" text-anchor="middle">${n} unit${n > 1 ? "s" : ""}</text>`;
  });
  $("net").innerHTML = `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"
    role="group" aria-label="The network, with what each unit gives over the plane">${html}</svg>`;
  const linear = !hidden.length || $("activation").value === "none";
  $("hint").textContent = linear ? "Without a hidden layer with an activation it is one linear map: its "
    + "boundary is a line." : "";
}

function losses() {
  const l = view.losses, W = 420, H = 130;
  if (!l.length) { $("loss").innerHTML = '<p class="soft">no step yet</p>'; return; }
  const low = Math.min(...l), high = Math.max(...l, low + 1e-9);
  const x = (k) => 44 + k / Math.max(1, l.length - 1) * (W - 54);
  const y = (v) => 10 + (high - v) / (high - low) * (H - 30);
  const path = l.map((v, k) => `${x(k).toFixed(1)} ${y(v).toFixed(1)}`).join("L");
  $("loss").innerHTML = `<svg viewBox="0 0 ${W} ${H}" role="img"><title>Loss by step, now
    ${l[l.length - 1].toFixed(4)}</title>${[high, low].map((v) => `<path class="grid"
    d="M44 ${y(v)}H${W - 10}"/><text x="38" y="${y(v) + 4}" text-anchor="end">${v < 0.001 ? v.toExponential(0) : v.toPrecision(3)}</text>`)
    .join("")}<path d="M${path}"/><text x="${W - 10}" y="${H - 4}" text-anchor="end">step ${view.steps}
    </text></svg>`;
}

function gradients() {
  const rows = view.gradients, top = Math.max(1e-30, ...rows.map((r) => r.gradient || 0));
  $("gradients").innerHTML = rows.map((r) => `<span>${text(r.layer)}</span>
    <span class="bar" style="width:${(100 * (r.gradient || 0) / top).toFixed(1)}%"></span>
    <span>${(r.gradient ?? 0).toExponential(1)}${r.dead ? `, ${Math.round(100 * r.dead)} % dead` : ""}${
    r.saturated ? `, ${Math.round(100 * r.saturated)} % saturated` : ""}</span>`).join("");
  $("findings").innerHTML = view.findings.map((f) => `<div class="finding warning"><p>${text(f)}</p></div>`)
    .join("");
}

function walked(walk) {
  const host = $("walking");
  shown?.remove();
  host.className = "cr-explorer";
  shown = explorer.open(host, walk);
}

// -- what people do -----------------------------------------------------------------------------

$("run").onclick = () => play(!running);
$("one").onclick = () => { play(false); if (!waiting && ready()) send({ do: "step", steps: 1 }); };
$("reset").onclick = () => { play(false); build(); };
$("fewer").onclick = () => { hidden = hidden.slice(0, -1); build(); };
$("more").onclick = () => { if (hidden.length < {{LAYERS}}) { hidden = [...hidden, hidden.at(-1) || 4]; build(); } };
for (const id of ["activation", "optimizer", "rate", "penalty", "seed"]) $(id).onchange = build;
for (const id of ["kind", "noise"])
  $(id).onchange = () => send({ do: "data", kind: $("kind").value, noise: Number($("noise").value) });
$("walk").onclick = () => {
  play(false);
  if (!waiting && ready()) send({ do: "walk", point: Math.min(data.x.length - 1, Math.max(0, Number($("point").value))) });
};
$("clear").onclick = () => { data.x = []; data.y = []; drawn = []; plane(); };
$("file").onchange = async () => {
  const file = $("file").files[0];
  $("file").value = ""; // so that the same file, mended, can be chosen again
  if (file && file.size > {{BYTES}}) say("A table has at most {{BYTES}} bytes here.");
  else if (file) send({ do: "csv", text: await file.text() });
};

function units(event) {
  const button = event.target.closest(".plus");
  if (!button || (event.type === "keydown" && event.key !== "Enter" && event.key !== " ")) return;
  event.preventDefault();
  const k = Number(button.dataset.layer);
  const n = Math.max(1, Math.min({{UNITS}}, hidden[k] + Number(button.dataset.step)));
  if (n !== hidden[k]) { hidden = hidden.with(k, n); build(); }
}
$("net").addEventListener("click", units);
$("net").addEventListener("keydown", units);

const canvas = $("plane");
let dragging = false, last = null;
function add(event) {
  const box = canvas.getBoundingClientRect();
  const x = ((event.clientX - box.x) / box.width * 2 - 1) * data.reach;
  const y = (1 - (event.clientY - box.y) / box.height * 2) * data.reach;
  if (last && Math.hypot(x - last[0], y - last[1]) < 0.09) return;
  last = [x, y];
  drawn.push([x, y, Number(document.querySelector("[name=class]:checked").value)]);
  plane();
}
canvas.onpointerdown = (event) => { dragging = true; last = null; play(false); add(event); };
canvas.onpointermove = (event) => { if (dragging) add(event); };
window.addEventListener("pointerup", () => {
  if (!dragging) return;
  dragging = false;
  const points = [...data.x.map(([x, y], i) => [x, y, data.y[i]]), ...drawn];
  if (points.length) send({ do: "points", points });
});
