// Runs the explorer's arithmetic on golden cases: node run_cases.js NEURON_JS < cases.json > dumps.json
//
// A case is {op, conventions, meta, inputs: {name: {shape, data}}} with flat data; a dump is {name: {shape, base64}}, the bits of
// its float64 values, since JSON would lose the sign of a zero.
"use strict";
const fs = require("fs");
const path = require("path");
const agl = require(path.resolve(process.argv[2]));

function pack(shape, values) {
  return { shape, base64: Buffer.from(Float64Array.from(values).buffer).toString("base64") };
}

function neuron({ op, conventions: c, meta, inputs }) {
  const tau = op === "plif" ? agl.tauFromW(inputs.w.data[0], c) : meta.decay;
  const shape = inputs.x.shape;
  const T = shape[0];
  const n = inputs.x.data.length / T;
  const gamma = inputs.gamma ? inputs.gamma.data : null;
  const width = inputs.width
    ? inputs.width.data
    : agl.widthOfLayer(gamma, meta.v_th, tau, T, c, c.fixed_width, meta.alpha ?? 1);
  const made = Object.fromEntries(["u", "s", "v", "du", "grad_x"].map((name) => [name, Array(T * n)]));
  let dtau = 0;
  for (let i = 0; i < n; i++) {
    const series = (name) => Array.from({ length: T }, (_, t) => inputs[name].data[t * n + i]);
    const forward = agl.lifForward(series("x"), tau, meta.v_th, c);
    const backward = agl.lifBackward(series("ds"), forward, width, c);
    for (let t = 0; t < T; t++) {
      for (const name of ["u", "s", "v"]) made[name][t * n + i] = forward[name][t];
      made.du[t * n + i] = backward.du[t];
      made.grad_x[t * n + i] = backward.dx[t];
    }
    dtau += backward.dtau[0];
  }
  const dump = Object.fromEntries(Object.entries(made).map(([name, values]) => [name, pack(shape, values)]));
  dump.width = pack([T], width);
  if (op === "plif") dump.grad_w = pack([], [agl.dwFromDtau(dtau, tau, c)]);
  else dump.grad_decay = pack([], [dtau]);
  return dump;
}

function surrogate({ conventions: c, meta, inputs: { u, width } }) {
  const n = u.data.length / width.data.length;
  return { y: pack(u.shape, u.data.map((value, i) => agl.derivative(value - meta.v_th, width.data[Math.floor(i / n)], c))) };
}

function width({ conventions: c, meta, inputs: { gamma } }) {
  return { width: pack([meta.T], agl.widthOfLayer(gamma.data, meta.v_th, meta.decay, meta.T, c, c.fixed_width, meta.alpha)) };
}

const run = { lif: neuron, plif: neuron, surrogate, width };
const cases = JSON.parse(fs.readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify({ choices: agl.CHOICES, dumps: cases.map((one) => run[one.op](one)) }));
