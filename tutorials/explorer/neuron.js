// The neuron's arithmetic: agl_ref/reference.py in plain JavaScript, for one neuron, in float64.
//
// A time series is an array with one number for each timestep; index 0 is t = 1. Each line that is an equation of
// agl_ref/METHOD.md ends in its number. The operations and their order are those of reference.py, so that the bits are the
// same; tests/test_explorer.py has the oracle judge this file on its golden cases. It draws nothing and knows no page:
// a browser loads it as a script, Node with require().
"use strict";

// Every convention that this file follows, the values it knows, MPD-AGL's first.
const CHOICES = {
  spike_test: [">=", ">"],
  reset: ["hard", "soft", "soft late", "none"],
  reset_gradient: ["attached", "detached"],
  window_edge: ["<", "<="],
  surrogate: ["rectangular", "triangular", "sigmoid", "arctan", "gaussian", "fast_sigmoid", "straight_through", "leaky_relu"],
  surrogate_scale: ["1/kappa", "1", "1/(2 kappa)"],
  width: ["adaptive", "first", "later", "geometric", "2 V_th", "fixed"],
  input_scale: ["1", "1 - tau"],
  plif: ["tau", "1 - tau"],
};
const MPD_AGL = Object.fromEntries(Object.entries(CHOICES).map(([name, values]) => [name, values[0]]));

// ds/du at z = u - V_th: a height, times a shape that is 1 at the threshold.
function derivative(z, kappa, c) {
  if (!(kappa > 0)) return 0; // a closed window lets nothing through
  const scale = { "1/kappa": kappa, 1: kappa / kappa, "1/(2 kappa)": kappa + kappa }[c.surrogate_scale];
  const h = 1 / scale; // (S1)
  const r = z / kappa;
  const e = Math.exp(-4 * Math.abs(r));
  const inside = c.window_edge === "<=" ? Math.abs(z) <= kappa / 2 : Math.abs(z) < kappa / 2;
  switch (c.surrogate) {
    case "rectangular": return h * (inside ? 1 : 0); // (S2)
    case "triangular": return h * Math.max(0, 1 - Math.abs(z) / kappa); // (S3)
    case "sigmoid": return h * ((4 * e) / ((1 + e) * (1 + e))); // (S4)
    case "arctan": return h / (1 + (Math.PI * r) * (Math.PI * r)); // (S5)
    case "gaussian": return h * Math.exp(-Math.PI * r * r); // (S6)
    case "fast_sigmoid": return h / ((1 + 2 * Math.abs(r)) * (1 + 2 * Math.abs(r))); // (S12)
    case "straight_through": return h; // (S13)
    case "leaky_relu": return inside ? h : h / 50; // (S14)
  }
}

// Standard deviation of u_t over that of the current.
function spread(rule, tau, T) {
  const result = [];
  let sum = 0;
  for (let t = 0; t < T; t++) {
    sum += tau ** (2 * t);
    const adaptive = t === 0 ? rule === "later" : rule !== "first";
    result.push(rule === "geometric" ? Math.sqrt(sum) : adaptive ? Math.sqrt(1 + tau * tau) : 1); // (W3), (W2)
  }
  return result;
}

// kappa_t for every timestep. gamma is the list of the channels' scales, or null for a neuron with no tdBN before it.
function widthOfLayer(gamma, vTh, tau, T, c, fixedWidth = 1, alpha = 1) {
  if (c.width === "fixed") return Array(T).fill(fixedWidth);
  if (c.width === "2 V_th") return Array(T).fill(2 * vTh); // (W6)
  if (gamma === null) return Array(T).fill(1);
  const gammaBar = Math.max(gamma.reduce((a, b) => a + b, 0) / gamma.length, 0);
  return spread(c.width, tau, T).map((std) => 2 * std * gammaBar * alpha * vTh); // (W1)
}

// v_t. Without a reset it is u_t; "soft late" subtracts one timestep later, in F5.
function reset(u, s, vTh, c) {
  if (c.reset === "hard") return u * (1 - s); // (F3)
  if (c.reset === "soft") return u - vTh * s; // (F4)
  return u;
}

// u, s and v of the currents x, from v_0 = 0.
function lifForward(x, tau, vTh, c) {
  const gain = c.input_scale === "1 - tau" ? 1 - tau : 1;
  const [u, s, v] = [[], [], []];
  for (let t = 0; t < x.length; t++) {
    const before = t > 0 ? v[t - 1] : 0;
    u[t] = tau * before + gain * x[t]; // (F1)
    if (c.reset === "soft late" && t > 0) u[t] = u[t] - vTh * s[t - 1]; // (F5)
    s[t] = (c.spike_test === ">=" ? u[t] >= vTh : u[t] > vTh) ? 1 : 0; // (F2)
    v[t] = reset(u[t], s[t], vTh, c);
  }
  return { x, u, s, v, tau, vTh };
}

// Backpropagation through time, t = T..1, of ds from the layer above. Everything on the way is kept, for the page to show:
// dv[t] is what arrives at v_t, dtau[t] the sum so far.
function lifBackward(ds, { x, u, s, v, tau, vTh }, width, c) {
  const T = ds.length;
  const gain = c.input_scale === "1 - tau" ? 1 - tau : 1;
  const [h, dsTotal, du, dx, dtau, dv] = Array.from({ length: 6 }, () => Array(T).fill(0));
  let sum = 0;
  for (let t = T - 1; t >= 0; t--) {
    h[t] = derivative(u[t] - vTh, width[t], c);
    const duNext = t + 1 < T ? du[t + 1] : 0;
    const through = { hard: u[t] * dv[t], soft: vTh * dv[t], "soft late": vTh * duNext, none: 0 }[c.reset];
    dsTotal[t] = ds[t] - (c.reset_gradient === "attached" ? through : 0); // (B1)
    const kept = c.reset === "hard" ? dv[t] * (1 - s[t]) : dv[t];
    du[t] = kept + dsTotal[t] * h[t]; // (B2)
    dx[t] = gain * du[t]; // (B3)
    const before = t > 0 ? v[t - 1] : 0;
    sum += du[t] * (c.input_scale === "1 - tau" ? before - x[t] : before); // (B4)
    dtau[t] = sum;
    if (t > 0) dv[t - 1] = tau * du[t]; // (B5)
  }
  return { h, dsTotal, du, dx, dtau, dv };
}

// PLIF learns its leak: tau = sigmoid(w), or 1 - tau where the convention says so.
function tauFromW(w, c) {
  const e = Math.exp(-Math.abs(w));
  const sigmoid = w >= 0 ? 1 / (1 + e) : e / (1 + e); // (F6)
  return c.plif === "tau" ? sigmoid : 1 - sigmoid;
}

function dwFromDtau(dtau, tau, c) {
  return (c.plif === "tau" ? 1 : -1) * dtau * tau * (1 - tau); // (B6)
}

if (typeof module !== "undefined") {
  module.exports = {
    CHOICES, MPD_AGL, derivative, spread, widthOfLayer, lifForward, lifBackward, tauFromW, dwFromDtau,
  };
}
