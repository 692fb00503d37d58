// The page: state, controls, drawing. What is computed is in neuron.js, what a step says in steps.js.
"use strict";

const MOST = 8; // timesteps
const START = {
  neurons: 1, T: 4, tau: 0.75, v_th: 0.5, gamma: 1, kappa: 1, W: 0.75, scale: 0, at: "ds/0/3",
  x: [0.75, 0.25, -0.5, 0.75, 0.25, 0.5, 0.25, 0.75], ds: [1, -0.5, 0.5, 1, -0.5, 0.5, 1, -1], ...MPD_AGL,
};
const SLIDERS = [
  // name, label, lowest, highest, step
  ["neurons", "neurons in a row", 1, 2, 1],
  ["T", "timesteps T", 1, MOST, 1],
  ["tau", "leak τ", 0, 0.95, 0.05],
  ["v_th", "threshold V_th", 0.125, 2, 0.0625],
  ["gamma", "tdBN's scale γ (for κ)", -0.25, 3, 0.0625],
  ["kappa", "fixed width κ", 0.125, 10, 0.125],
  ["W", "synapse W, neuron 1 to 2", -2, 2, 0.125],
];
const SCALE = ["scale", "k", -4, 4, 1];
const BARS = { x: [-1.5, 1.5, 0.0625], ds: [-1, 1, 0.125] };
const LABELS = {
  spike_test: "spike test", reset: "reset", reset_gradient: "gradient through it", window_edge: "window's edge", surrogate: "surrogate",
  surrogate_scale: "its height", width: "width rule", input_scale: "input counts times", plif: "sigmoid(w) is",
};
const $ = (id) => document.getElementById(id);
let state = { ...structuredClone(START) };
let view = null; // what the last draw() computed

// --- the link: the state after the #, only what differs from the start ---------------------------------------------------
function toHash() {
  const parts = Object.keys(START).filter((name) => String(state[name]) !== String(START[name]));
  return parts.map((name) => `${name}=${encodeURIComponent(String(state[name]))}`).join("&");
}

// Anybody may have written a link: what is not a value that a control can have is left as it was.
function fromHash(hash) {
  const found = structuredClone(START);
  const within = (value, low, high) => Number.isFinite(value) && value >= low && value <= high;
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const slider = [...SLIDERS, SCALE].find((one) => one[0] === name);
    if (slider && text !== "" && within(Number(text), slider[2], slider[3]) && (slider[4] < 1 || Number.isInteger(Number(text)))) found[name] = Number(text);
    if (name in CHOICES && CHOICES[name].includes(text)) found[name] = text;
    if (name in BARS) {
      text.split(",").slice(0, MOST).forEach((part, t) => {
        if (part !== "" && within(Number(part), BARS[name][0], BARS[name][1])) found[name][t] = Number(part);
      });
    }
    if (name === "at") found.at = text;
  }
  return found;
}

let saving = 0;
function save() {
  clearTimeout(saving); // browsers stop a page that writes its address at every move of a pointer
  saving = setTimeout(() => history.replaceState(null, "", `#${toHash()}`), 150);
}

function change(values) {
  Object.assign(state, values);
  draw();
  save();
}

// --- small helpers -------------------------------------------------------------------------------------------------------
function element(name, attributes = {}, parent = null, text = null) {
  const svg = ["svg", "g", "rect", "line", "path", "circle", "text", "polygon", "clipPath"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// An empty drawing of this size in pixels, as wide as its place unless a width is given.
function canvas(svg, height, width = null) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const wide = width ?? Math.max(svg.parentElement.clientWidth - padding(svg.parentElement), 200);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${wide} ${height}`);
  svg.style.width = `${wide}px`;
  svg.style.height = `${height}px`;
  return { rem, wide };
}
function padding(box) {
  const style = getComputedStyle(box);
  return parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
}

// "du_t = dv_{t−1}" with real subscripts, as HTML. The texts are our own, of steps.js: no reader's input gets here.
function mathematics(formula) {
  return formula.replaceAll("<", "&lt;").replace(/([A-Za-zκτγ]+)_(?:\{([^}]*)\}|(th|total|t))/g, (_, name, long, short) => `<i>${name}</i><sub>${long ?? short}</sub>`);
}

// Text that a screen reader reads out when it changes, and only then.
function say(node, html) {
  if (node.said !== html) node.innerHTML = node.said = html;
}

// --- controls, made once -------------------------------------------------------------------------------------------------
function makeSlider([name, label, low, high, step], place) {
  const row = element("div", { class: "row", id: `row-${name}` }, place);
  element("label", { for: name }, row).innerHTML = mathematics(label);
  element("output", { for: name, id: `${name}-value` }, row);
  const input = element("input", { type: "range", id: name, min: low, max: high, step }, row);
  input.addEventListener("input", () => change({ [name]: Number(input.value) }));
}

function makeChoice(name, place) {
  const row = element("div", { class: "choice", id: `row-${name}` }, place);
  element("label", { for: name }, row, LABELS[name]);
  const select = element("select", { id: name }, row);
  for (const value of CHOICES[name]) element("option", { value }, select, value);
  select.addEventListener("change", () => change({ [name]: select.value }));
}

// Bars that are dragged, or moved with the arrow keys: each is a slider to a screen reader. They are made once, so that
// dragging and the focus survive a redraw.
function makeBars(name) {
  const svg = $(`bars-${name}`);
  const [low, high, step] = BARS[name];
  if (name === "ds") svg.classList.add("gradient");
  const set = (t, value) => {
    const values = [...state[name]];
    values[t] = Math.min(high, Math.max(low, Math.round(value / step) * step));
    change({ [name]: values });
  };
  element("line", { class: "axis", x1: 0 }, svg);
  for (let t = 0; t < MOST; t++) {
    const bar = element("g", { class: "bar", id: `${name}-${t + 1}`, tabindex: 0, role: "slider", "aria-orientation": "vertical", "aria-valuemin": low, "aria-valuemax": high, "aria-label": `${name} at t = ${t + 1}` }, svg);
    for (const part of ["ring", "body", "grip"]) element("rect", { class: part }, bar);
    element("text", { "text-anchor": "middle", class: "halo" }, bar);
    element("text", { "text-anchor": "middle", class: "soft" }, bar, `t=${t + 1}`);
    const drag = (event) => {
      const box = svg.getBoundingClientRect();
      const { top, bottom } = barHeights(box.height);
      set(t, high - ((event.clientY - box.top - top) / (bottom - top)) * (high - low));
    };
    bar.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      bar.focus();
      bar.setPointerCapture(event.pointerId);
      drag(event);
    });
    bar.addEventListener("pointermove", (event) => bar.hasPointerCapture(event.pointerId) && drag(event));
    bar.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: step, ArrowDown: -step, PageUp: 4 * step, PageDown: -4 * step };
      if (event.key in moves) set(t, state[name][t] + moves[event.key]);
      else if (event.key === "Home" || event.key === "End") set(t, event.key === "Home" ? low : high);
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") $(`${name}-${t + 1 + (event.key === "ArrowLeft" ? -1 : 1)}`)?.focus();
      else return;
      event.preventDefault();
    });
  }
}
function barHeights(height) {
  return { top: height * 0.14, bottom: height * 0.73 };
}

// --- drawing -------------------------------------------------------------------------------------------------------------
function drawBars(name) {
  const svg = $(`bars-${name}`);
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const [wide, height] = [Math.max(svg.parentElement.clientWidth, 150), 7.6 * rem];
  const [low, high] = BARS[name];
  const { top, bottom } = barHeights(height);
  const y = (value) => top + ((high - value) / (high - low)) * (bottom - top);
  svg.setAttribute("viewBox", `0 0 ${wide} ${height}`);
  svg.style.height = `${height}px`;
  const column = wide / state.T;
  const set = (node, attributes) => Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  set(svg.querySelector(".axis"), { x2: wide, y1: y(0), y2: y(0) });
  [...svg.querySelectorAll(".bar")].forEach((bar, t) => {
    bar.style.display = t < state.T ? "" : "none";
    const value = state[name][t];
    const shown = show(name === "x" ? value * 2 ** state.scale : value, 4);
    const middle = column * (t + 0.5);
    const half = Math.min(column * 0.3, 1.6 * rem);
    const [ring, body, grip, number, label] = bar.children;
    set(ring, { x: column * t + 1, y: 1, width: column - 2, height: height - 2 });
    set(body, { x: middle - half, width: 2 * half, y: Math.min(y(0), y(value)), height: Math.max(Math.abs(y(value) - y(0)), 1.5) });
    set(grip, { x: middle - half, width: 2 * half, y: y(value) - 0.22 * rem, height: 0.44 * rem, rx: 0.2 * rem });
    set(number, { x: middle, y: value >= 0 ? y(value) - 0.45 * rem : y(value) + 1.1 * rem });
    number.textContent = shown;
    set(label, { x: middle, y: height - 0.35 * rem });
    set(bar, { "aria-valuenow": value, "aria-valuetext": shown });
  });
}

// Potential, threshold and window over time; on the right, on the same axis, the potential's density and the window on it.
function drawPotential(i) {
  const svg = $(`potential-${i}`);
  const { run, step } = view;
  const n = run.neurons[i];
  const { rem, wide } = canvas(svg, 12.5 * parseFloat(getComputedStyle(document.documentElement).fontSize));
  const height = 12.5 * rem;
  const [left, top, bottom] = [3 * rem, 1.6 * rem, height - 1.4 * rem];
  const densityWidth = Math.max(wide * 0.24, 6.5 * rem);
  const right = wide - densityWidth - 0.6 * rem;
  const column = (right - left) / run.T;
  const now = Math.min(step.t, run.T - 1);
  const ends = [...n.u, ...n.v, -0.75 * run.a, run.vTh + 0.75 * run.a];
  n.width.forEach((kappa) => ends.push(run.vTh + Math.min(kappa / 2, 1.25 * run.a), run.vTh - Math.min(kappa / 2, 1.25 * run.a)));
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const margin = (high - low) * 0.06;
  const y = (value) => top + ((high + margin - value) / (high - low + 2 * margin)) * (bottom - top);
  const clip = (value) => Math.min(bottom, Math.max(top, y(value)));
  const x = (t) => left + column * (t + 0.5);
  const text = (px, py, words, attributes = {}) => element("text", { x: px, y: py, ...attributes }, svg, words);

  element("line", { class: "axis", x1: left, x2: left, y1: top, y2: bottom }, svg);
  element("line", { class: "axis", x1: left, x2: right, y1: clip(0), y2: clip(0) }, svg);
  text(left - 0.3 * rem, clip(0) + 0.3 * rem, "0", { "text-anchor": "end" });
  text(left - 0.3 * rem, y(run.vTh) + 0.3 * rem, show(run.vTh, 3), { "text-anchor": "end" });
  text(left - 0.3 * rem, y(run.vTh) - 0.8 * rem, "Vth", { "text-anchor": "end" });
  for (let t = 0; t < run.T; t++) {
    const half = n.width[t] / 2;
    const box = { x: left + column * t + 2, width: column - 4, y: clip(run.vTh + half), height: Math.max(clip(run.vTh - half) - clip(run.vTh + half), 0) };
    element("rect", { class: `window${t === now && i === step.i ? " now" : ""}`, ...box }, svg);
    text(x(t), height - 0.3 * rem, column > 2.4 * rem ? `t=${t + 1}` : t + 1, { "text-anchor": "middle", class: t === now && i === step.i ? "" : "soft" });
    if (column > 4 * rem) text(left + column * t + 0.4 * rem, top - 0.4 * rem, `κ${sub(t + 1)} = ${show(n.width[t], 4)}`, { class: "soft" });
  }
  element("line", { class: "threshold", x1: left, x2: wide - 0.2 * rem, y1: y(run.vTh), y2: y(run.vTh) }, svg);
  // From each v_{t-1} the potential goes to u_t, and by the reset to v_t.
  let path = "";
  for (let t = 0; t < run.T; t++) path += `${t ? "L" : "M"}${t ? x(t) : left} ${t ? y(n.u[t]) : y(0)}${t ? "" : `L${x(0)} ${y(n.u[0])}`}L${x(t)} ${y(n.v[t])}`;
  element("path", { class: "path", d: path }, svg);
  for (let t = 0; t < run.T; t++) {
    const size = 0.36 * rem;
    const [px, py, pv] = [x(t), y(n.u[t]), y(n.v[t])];
    element("polygon", { class: "point-v", points: `${px},${pv - size} ${px + size},${pv} ${px},${pv + size} ${px - size},${pv}` }, svg);
    element("circle", { class: "point-u", cx: px, cy: py, r: size }, svg);
    if (n.s[t]) element("polygon", { class: "spike", points: `${px - size},${py - 1.2 * size} ${px + size},${py - 1.2 * size} ${px},${py - 3.4 * size}` }, svg);
    if (column > 3.6 * rem) text(px + 1.5 * size, py + 0.3 * rem, show(n.u[t], 4), { class: "halo" });
  }

  // Theorem 1: N(0, (spread_t gamma V_th)^2), turned on its side; the part of it inside the window gets a gradient.
  const std = spread(run.c.width === "geometric" ? "geometric" : "adaptive", run.tau, run.T)[now] * Math.abs(run.gamma) * run.vTh;
  const base = right + 0.9 * rem;
  const reach = wide - base - 0.4 * rem;
  const half = n.width[now] / 2;
  const curve = (f, from, to) => {
    const points = Array.from({ length: 81 }, (_, k) => from + ((to - from) * k) / 80);
    return points.map((value) => `${base + reach * f(value)},${y(value)}`).join(" ");
  };
  const [seenLow, seenHigh] = [low - margin, high + margin];
  element("line", { class: "axis", x1: base, x2: base, y1: top, y2: bottom }, svg);
  if (std > 0) {
    const bell = (value) => 0.8 * Math.exp(-((value / std) ** 2) / 2);
    element("polygon", { class: "density", points: `${base},${y(seenLow)} ${curve(bell, seenLow, seenHigh)} ${base},${y(seenHigh)}` }, svg);
    const [from, to] = [Math.max(run.vTh - half, seenLow), Math.min(run.vTh + half, seenHigh)];
    if (to > from) element("polygon", { class: "inside", points: `${base},${y(from)} ${curve(bell, from, to)} ${base},${y(to)}` }, svg);
    let share = 0; // the integral of the density over the window, by the midpoint rule over six standard deviations
    for (let k = 0; k < 2400; k++) {
      const value = std * (-6 + (12 * (k + 0.5)) / 2400);
      if (Math.abs(value - run.vTh) < half) share += (Math.exp(-((value / std) ** 2) / 2) / Math.sqrt(2 * Math.PI)) * (12 / 2400);
    }
    text(wide, height - 0.3 * rem, `${Math.round(100 * share)} % inside`, { "text-anchor": "end" });
  }
  const tallest = derivative(0, n.width[now], run.c) || 1;
  if (n.width[now] > 0) element("path", { class: "shape", d: `M${curve((value) => (0.95 * derivative(value - run.vTh, n.width[now], run.c)) / tallest, seenLow, seenHigh).replaceAll(" ", "L")}` }, svg);
  text(wide, top - 0.4 * rem, `density of u${sub(now + 1)}`, { "text-anchor": "end", class: "soft" });
  const spoken = n.u.map((value, t) => `t ${t + 1}: u ${show(value)}, ${n.s[t] ? "spike" : "no spike"}, v ${show(n.v[t])}, window ${show(n.width[t])}`);
  svg.setAttribute("aria-label", `Neuron ${i + 1}, threshold ${show(run.vTh)}. ${spoken.join(". ")}.`);
}

// A number for a box: three decimals at most.
const brief = (value) => show(Math.round(value * 1000) / 1000, 5);

// The graph over time, one lane for each neuron, neuron 2 above neuron 1.
function drawGraph() {
  const svg = $("graph");
  const { run, steps, step, index, differs } = view;
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const room = svg.parentElement.clientWidth - 4;
  const column = Math.min(Math.max(10.6 * rem, (room - 2 * rem) / run.T), 15 * rem);
  const lane = 14.3 * rem;
  const height = lane * run.neurons.length + 1.2 * rem;
  canvas(svg, height, Math.max(column * run.T + 2 * rem, 100));
  const [w, h] = [4.4 * rem, 3.15 * rem];
  const at = (name, i, t) => {
    const origin = [rem + column * t, 2 * rem + lane * (run.neurons.length - 1 - i)];
    const [fx, fy] = { s: [0.5, 1.9 * rem], u: [0.24, 6.9 * rem], v: [0.76, 6.9 * rem], x: [0.24, 11.7 * rem] }[name];
    return [origin[0] + fx * column, origin[1] + fy];
  };
  const detached = run.c.reset_gradient === "detached";
  const edges = [];
  run.neurons.forEach((n, i) => {
    for (let t = 0; t < run.T; t++) {
      edges.push(["xu", i, t, at("x", i, t), at("u", i, t)], ["us", i, t, at("u", i, t), at("s", i, t)], ["uv", i, t, at("u", i, t), at("v", i, t)]);
      if (run.c.reset === "hard" || run.c.reset === "soft") edges.push(["sv", i, t, at("s", i, t), at("v", i, t), detached]);
      if (t + 1 < run.T) edges.push(["vu", i, t, at("v", i, t), at("u", i, t + 1)]);
      if (t + 1 < run.T && run.c.reset === "soft late") edges.push(["su", i, t, at("s", i, t), at("u", i, t + 1), detached]);
      if (i > 0) edges.push(["wx", i, t, at("s", i - 1, t), at("x", i, t)]);
      if (i === run.neurons.length - 1) edges.push(["loss", i, t, at("s", i, t), [at("s", i, t)[0], 0.9 * rem]]);
    }
  });
  const backward = step.pass === "backward";
  const colour = backward ? " gradient" : "";
  for (const [name, i, t, from, to, cut] of edges) {
    const active = step.edges.some((edge) => edge[0] === name && edge[1] === i && edge[2] === t);
    element("line", { class: `edge${cut ? " cut" : ""}${active ? ` active${colour}` : ""}`, x1: from[0], y1: from[1], x2: to[0], y2: to[1] }, svg);
    if (!active) continue;
    // An arrow head half-way, towards the input in the backward pass.
    const [p, q] = backward ? [to, from] : [from, to];
    const angle = Math.atan2(q[1] - p[1], q[0] - p[0]);
    const [mx, my] = [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
    const corner = (turn, size) => `${mx + size * Math.cos(angle + turn)},${my + size * Math.sin(angle + turn)}`;
    element("polygon", { class: `head${colour}`, points: [corner(0, 0.75 * rem), corner(2.3, 0.75 * rem), corner(-2.3, 0.75 * rem)].join(" ") }, svg);
  }
  element("text", { x: 0.2 * rem, y: 0.8 * rem, class: "soft" }, svg, "loss");
  if (run.neurons.length > 1) {
    for (let i = 0; i < 2; i++) element("text", { x: 0.2 * rem, y: at("s", i, 0)[1] - 1.9 * rem + (i ? 1.2 * rem : 0), class: "soft" }, svg, `neuron ${i + 1}`);
  }

  // A box shows its value once its forward step was made, and its gradient once the backward pass has been there.
  const made = new Map(steps.slice(0, index + 1).map((one) => [one.id, one]));
  const note = (id, name, x, y, anchor) => {
    if (!made.has(id)) return;
    const changed = differs(id);
    element("text", { x, y, "text-anchor": anchor, class: `halo ${changed ? "changed" : "d"}` }, svg, `${name} ${changed ? "≠ " : ""}${brief(made.get(id).value)}`);
  };
  const gradients = { s: ["dsTotal", "ds"], u: ["du"], v: ["dv"], x: ["dx"] };
  run.neurons.forEach((n, i) => {
    for (let t = 0; t < run.T; t++) {
      for (const name of ["s", "u", "v", "x"]) {
        const [cx, cy] = at(name, i, t);
        const active = step.node[0] === name && step.node[1] === i && step.node[2] === t;
        const value = made.has(`${name}/${i}/${t}`) || (name === "x" && i === 0) ? brief(n[name][t]) : "·";
        const found = gradients[name].map((g) => `${g}/${i}/${t}`).find((id) => made.has(id));
        const own = [`${name}/${i}/${t}`].filter((id) => made.has(id) && differs(id)).length;
        const group = element("g", { class: `node${active ? ` active${colour}` : ""}` }, svg);
        element("rect", { x: cx - w / 2, y: cy - h / 2, width: w, height: h, rx: 0.4 * rem }, group);
        const line = (dy, words, kind) => element("text", { x: cx, y: cy + dy * rem, "text-anchor": "middle", class: kind }, group, words);
        line(-0.62, `${name}${sub(t + 1)}`, "name");
        line(0.3, `${own ? "≠ " : ""}${value}`, own ? "changed" : "");
        const late = found && differs(found);
        if (found) line(1.22, `${late ? "≠ " : "d "}${brief(made.get(found).value)}`, late ? "changed" : "d");
        // A click goes to the box's last step that was made, or to its first to come.
        group.addEventListener("click", () => {
          const mine = steps.filter((one) => one.node[0] === name && one.node[1] === i && one.node[2] === t);
          const pick = mine.filter((one) => one.pass === step.pass).pop() ?? mine.pop();
          if (pick) change({ at: pick.id });
        });
        if (active) scrollIntoSight($("graph-scroll"), cx);
      }
      const [[ux, uy], [sx, sy]] = [at("u", i, t), at("s", i, t)];
      note(`h/${i}/${t}`, "h", (ux + sx) / 2 - 0.8 * rem, (uy + sy) / 2, "end");
    }
    // The sums so far stand at the right: their last step that was made.
    const [cx, cy] = [at("v", i, run.T - 1)[0], at("x", i, 0)[1]];
    const latest = (name) => steps.slice(0, index + 1).findLast((one) => one.name === name && one.i === i)?.id;
    note(latest("dtau"), "dτ", cx, cy, "middle");
    note(latest("dW"), "dW", cx, cy + 1.2 * rem, "middle");
  });
}
function scrollIntoSight(box, x) {
  if (x - 80 < box.scrollLeft || x + 80 > box.scrollLeft + box.clientWidth) box.scrollLeft = x - box.clientWidth / 2;
}

function drawCard() {
  const { step, index, steps, base, differs } = view;
  const card = $("card");
  card.className = step.pass === "backward" ? "gradient" : "";
  const other = base.get(step.id);
  const filled = step.filled ? ` = ${mathematics(step.filled)}` : "";
  say(card,
    `<span class="number">${step.eq}</span><h3>${step.pass === "backward" ? "◀ backward" : "▶ forward"}, ${step.where}: ${step.title}</h3>` +
    `<p class="formula">${mathematics(step.formula)}${filled} = <b>${show(step.value)}</b></p><p>${step.words}</p>` +
    (differs(step.id) ? `<p class="changed">≠ With MPD-AGL's conventions: ${show(other)}</p>` : ""));
  $("step").max = steps.length - 1;
  $("step").value = index;
  $("step").setAttribute("aria-valuetext", `${index + 1} of ${steps.length}, ${step.pass}, ${step.where}, ${step.title}`);
  $("back").disabled = index === 0;
  $("next").disabled = index === steps.length - 1;
}

function drawTable() {
  const { run, differs } = view;
  const table = $("table");
  table.replaceChildren();
  const names = { x: "x", u: "u", s: "s", v: "v", h: "ds/du", ds: "ds", dsTotal: "ds_total", du: "du", dx: "dx", dv: "dv" };
  const head = element("tr", {}, element("thead", {}, table));
  for (const title of ["neuron", "t", "κ", ...Object.values(names)]) element("th", { scope: "col" }, head).innerHTML = mathematics(title);
  const body = element("tbody", {}, table);
  run.neurons.forEach((n, i) => {
    for (let t = 0; t < run.T; t++) {
      const row = element("tr", {}, body);
      for (const value of [i + 1, t + 1, show(n.width[t])]) element("td", {}, row, value);
      for (const name of Object.keys(names)) {
        const changed = differs(`${name}/${i}/${t}`);
        element("td", { class: changed ? "changed" : "" }, row, `${changed ? "≠ " : ""}${show(n[name][t])}`);
      }
    }
  });
}

function drawChanged() {
  const { steps, differs, base } = view;
  const differing = steps.filter((step) => differs(step.id));
  const chosen = Object.keys(CHOICES).filter((name) => state[name] !== MPD_AGL[name]);
  for (const name of Object.keys(CHOICES)) {
    $(name).value = state[name];
    $(`row-${name}`).classList.toggle("differs", chosen.includes(name));
  }
  const first = differing[0];
  say($("changed"), !chosen.length
    ? "All as in MPD-AGL. Change one and see which numbers change."
    : !first
      ? "No number changes with these currents: they do not tell the two apart."
      : `<b class="mark">≠</b> ${differing.length} of ${steps.length} numbers change. The first: ${first.where}, ${first.title} (${first.eq}), ${show(first.value)} in place of ${show(base.get(first.id))}.`);
}

// All gradients that reach parameters, at V_th 2^k for each k, by the adaptive width and by kappa = 1.
function drawScale() {
  const svg = $("scale-chart");
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const [, , lowest, highest] = SCALE;
  const height = 10 * rem;
  const { wide } = canvas(svg, height, Math.min(svg.parentElement.clientWidth - padding(svg.parentElement), 50 * rem));
  const ks = Array.from({ length: highest - lowest + 1 }, (_, index) => lowest + index);
  const gradients = (rule, k) => {
    const run = compute({ ...state, scale: k, kappa: 1 }, { ...view.run.c, width: rule });
    return run.neurons.flatMap((n) => [...n.dx.map((dx) => run.a * dx), n.dtau[0], ...(n.dW ? [run.a * n.dW[0]] : [])]);
  };
  const all = Object.fromEntries(["adaptive", "fixed"].map((rule) => [rule, ks.map((k) => gradients(rule, k))]));
  const size = (numbers) => numbers.reduce((sum, value) => sum + Math.abs(value), 0);
  const sizes = Object.values(all).flat().map(size).filter((one) => one > 0);
  const [least, most] = [Math.min(...sizes, 1), Math.max(...sizes, 1)].map(Math.log2); // a logarithmic axis; 0 stands at its foot
  const x = (k) => 2.5 * rem + ((k - lowest) / (highest - lowest)) * (wide - 5 * rem);
  const foot = height - 1.7 * rem;
  const y = (value) => foot - 0.5 * rem - (value > 0 ? (Math.log2(value) - least) / Math.max(most - least, 1) : 0) * (foot - 2.4 * rem);
  element("line", { class: "axis", x1: x(lowest), x2: x(highest), y1: foot, y2: foot }, svg);
  element("line", { class: "cursor", x1: x(state.scale), x2: x(state.scale), y1: 1.4 * rem, y2: foot }, svg);
  for (const k of ks) element("text", { x: x(k), y: height - 0.6 * rem, "text-anchor": "middle", class: k === state.scale ? "" : "soft" }, svg, k < 0 ? `1/${2 ** -k}` : `${2 ** k}`);
  const same = {};
  for (const [rule, numbers] of Object.entries(all)) {
    element("path", { class: `line-${rule}`, d: numbers.map((one, index) => `${index ? "L" : "M"}${x(ks[index])} ${y(size(one))}`).join("") }, svg);
    numbers.forEach((one, index) => {
      const [cx, cy, r] = [x(ks[index]), y(size(one)), 0.3 * rem];
      if (rule === "adaptive") element("circle", { class: "dot-adaptive", cx, cy, r }, svg);
      else element("rect", { class: "dot-fixed", x: cx - r, y: cy - r, width: 2 * r, height: 2 * r }, svg);
    });
    const atOne = numbers[ks.indexOf(0)];
    same[rule] = numbers[0].map((_, j) => numbers.every((one) => one[j] === atOne[j])).filter(Boolean).length;
  }
  element("text", { x: x(lowest), y: 0.8 * rem, class: "soft" }, svg, "size of the gradients (log):  ● adaptive   ■ κ = 1");
  const count = all.fixed[0].length;
  const says = (rule) => (same[rule] === count ? `all ${count} gradients have the same bits at every scale` : `${count - same[rule]} of ${count} gradients change with the scale`);
  $("scale-text").textContent = `Adaptive width: ${says("adaptive")}. Fixed κ = 1: ${says("fixed")}.`;
}

function draw() {
  const conventions = Object.fromEntries(Object.keys(CHOICES).map((name) => [name, state[name]]));
  const run = compute(state, conventions);
  const steps = stepsOf(run);
  const base = new Map(stepsOf(compute(state, MPD_AGL)).map((step) => [step.id, step.value]));
  const values = new Map(steps.map((step) => [step.id, step.value]));
  let index = steps.findIndex((step) => step.id === state.at);
  if (index < 0) index = steps.findIndex((step) => step.pass === "backward");
  const differs = (id) => base.has(id) && values.has(id) && base.get(id) !== values.get(id);
  view = { run, steps, step: steps[index], index, base, differs };
  state.at = steps[index].id;

  for (const [name] of [...SLIDERS, SCALE]) {
    $(name).value = state[name];
    $(`${name}-value`).textContent = name === "scale" ? `a = ${state.scale < 0 ? `1/${2 ** -state.scale}` : 2 ** state.scale}` : show(state[name], 4);
  }
  $("v_th-value").textContent = show(run.vTh, 4);
  $("row-kappa").classList.toggle("off", state.width !== "fixed");
  $("row-gamma").classList.toggle("off", state.width === "fixed" || state.width === "2 V_th");
  $("row-W").style.display = state.neurons > 1 ? "" : "none";
  drawBars("x");
  drawBars("ds");
  const place = $("potentials");
  if (place.children.length !== state.neurons) {
    place.replaceChildren();
    for (let i = state.neurons - 1; i >= 0; i--) {
      const figure = element("figure", {}, place);
      if (state.neurons > 1) element("figcaption", {}, figure, `neuron ${i + 1}`);
      element("svg", { id: `potential-${i}`, role: "img" }, figure);
    }
  }
  for (let i = 0; i < state.neurons; i++) drawPotential(i);
  drawCard();
  drawGraph();
  drawTable();
  drawChanged();
  drawScale();
}

function start() {
  SLIDERS.forEach((slider) => makeSlider(slider, $("sliders")));
  makeSlider(SCALE, $("scale-slider"));
  Object.keys(CHOICES).forEach((name) => makeChoice(name, $("conventions")));
  Object.keys(BARS).forEach(makeBars);
  const go = (index) => view.steps[index] && change({ at: view.steps[index].id });
  $("step").addEventListener("input", (event) => go(Number(event.target.value)));
  $("back").addEventListener("click", () => go(view.index - 1));
  $("next").addEventListener("click", () => go(view.index + 1));
  $("start").addEventListener("click", () => change(structuredClone(START)));
  $("copy").addEventListener("click", async () => {
    history.replaceState(null, "", `#${toHash()}`);
    try {
      await navigator.clipboard.writeText(location.href);
      $("said").textContent = "Copied.";
    } catch {
      $("said").textContent = "The link is in the address bar.";
    }
  });
  addEventListener("hashchange", () => { state = fromHash(location.hash); draw(); });
  addEventListener("resize", draw);
  state = fromHash(location.hash);
  draw();
}
start();
