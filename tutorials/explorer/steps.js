// One run of the network as a list of steps: forward, then backward in its order, each with its equation and the numbers in it.
// It computes nothing that neuron.js does not; it draws nothing. Neuron 1 gets the currents; neuron 2, if there is one, the spikes of
// neuron 1 times the synapse W.
"use strict";

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
const sub = (t) => (t < 0 ? "₋" : "") + SUBSCRIPTS[Math.abs(t)];

// A number as a reader wants it: at most `digits` significant ones, a true minus sign.
function show(value, digits = 6) {
  const text = String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}
const par = (value) => (value < 0 ? `(${show(value)})` : show(value));

// The values of a whole run: [neuron 1, neuron 2], each with u, s, v, width, h, dsTotal, du, dx, dtau, dv and its own ds; and dW.
function compute(state, conventions) {
  const a = 2 ** state.scale;
  const vTh = state.v_th * a;
  const W = state.W * a;
  const T = state.T;
  const width = widthOfLayer([state.gamma], vTh, state.tau, T, conventions, state.kappa);
  const neurons = [];
  let x = state.x.slice(0, T).map((value) => value * a);
  for (let i = 0; i < state.neurons; i++) {
    if (i > 0) x = neurons[i - 1].s.map((spike) => spike * W); // (C1)
    neurons.push({ ...lifForward(x, state.tau, vTh, conventions), width });
  }
  let ds = state.ds.slice(0, T);
  let dW = 0;
  for (let i = state.neurons - 1; i >= 0; i--) {
    Object.assign(neurons[i], { ds }, lifBackward(ds, neurons[i], width, conventions));
    if (i > 0) {
      neurons[i].dW = [];
      for (let t = T - 1; t >= 0; t--) neurons[i].dW[t] = dW += neurons[i - 1].s[t] * neurons[i].dx[t]; // (C2)
      ds = neurons[i].dx.map((value) => value * W); // (C3)
    }
  }
  return { neurons, vTh, W, a, T, tau: state.tau, c: conventions, gamma: state.gamma };
}

// The steps of a run. Each: id, pass, neuron and t (from 0), eq, title, formula, filled, value, words; `node` and `edges` of the graph.
function stepsOf(run) {
  const { neurons, vTh, W, T, tau, c } = run;
  const steps = [];
  const many = neurons.length > 1;
  const add = (pass, name, i, t, eq, parts) => {
    const where = many ? `neuron ${i + 1}, ` : "";
    steps.push({ id: `${name}/${i}/${t}`, pass, name, i, t, eq, edges: [], ...parts, where: `${where}t = ${t + 1 + (parts.shift ?? 0)}` });
  };
  const gain = c.input_scale === "1 - tau";
  const late = c.reset === "soft late";
  const scaled = gain ? "(1 − τ) x_t" : "x_t";

  neurons.forEach((n, i) => {
    for (let t = 0; t < T; t++) {
      const before = t > 0 ? n.v[t - 1] : 0;
      if (i > 0) {
        add("forward", "x", i, t, "C1", {
          title: "the synapse", formula: "x_t = W s_t (of neuron 1)", value: n.x[t], node: ["x", i, t], edges: [["wx", i, t]],
          filled: `${par(W)} · ${neurons[i - 1].s[t]}`, words: "The spike of the neuron below, times the weight, is this neuron's current.",
        });
      }
      const subtract = late && t > 0;
      add("forward", "u", i, t, subtract ? "F5" : "F1", {
        title: "leak and input", node: ["u", i, t], edges: [["vu", i, t - 1], ["xu", i, t], ...(subtract ? [["su", i, t - 1]] : [])],
        formula: `u_t = τ v_{t−1} + ${scaled}${subtract ? " − V_th s_{t−1}" : ""}`, value: n.u[t],
        filled: `${show(tau)} · ${par(before)} + ${gain ? `${show(1 - tau)} · ` : ""}${par(n.x[t])}${subtract ? ` − ${show(vTh)} · ${n.s[t - 1]}` : ""}`,
        words: t > 0 ? "What the leak left of the last potential, plus the current." : "Before the first timestep the potential is 0: there is only the current.",
      });
      add("forward", "s", i, t, "F2", {
        title: "fire", node: ["s", i, t], edges: [["us", i, t]], formula: `s_t = 1 if u_t ${c.spike_test === ">=" ? "≥" : ">"} V_th, else 0`, value: n.s[t],
        filled: `[${show(n.u[t])} ${c.spike_test === ">=" ? "≥" : ">"} ${show(vTh)}]`,
        words: n.u[t] === vTh ? "The potential is exactly the threshold: only the convention decides." : n.s[t] ? "The threshold is reached: a spike." : "The threshold is not reached: no spike.",
      });
      const forms = {
        hard: ["F3", "v_t = u_t (1 − s_t)", `${par(n.u[t])} · (1 − ${n.s[t]})`, n.s[t] ? "It fired, and the potential is set to 0." : "No spike, no reset."],
        soft: ["F4", "v_t = u_t − V_th s_t", `${par(n.u[t])} − ${show(vTh)} · ${n.s[t]}`, n.s[t] ? "It fired, and the threshold is subtracted." : "No spike, no reset."],
        "soft late": ["F5", "v_t = u_t", show(n.u[t]), "The threshold is subtracted one timestep later."],
        none: ["no reset", "v_t = u_t", show(n.u[t]), "Nothing is reset."],
      };
      const [eq, formula, filled, words] = forms[c.reset];
      const resets = c.reset === "hard" || c.reset === "soft";
      add("forward", "v", i, t, eq, { title: "reset", formula, filled, words, value: n.v[t], node: ["v", i, t], edges: [["uv", i, t], ...(resets ? [["sv", i, t]] : [])] });
    }
  });

  for (let i = neurons.length - 1; i >= 0; i--) {
    const n = neurons[i];
    for (let t = T - 1; t >= 0; t--) {
      const last = t === T - 1;
      const duNext = last ? 0 : n.du[t + 1];
      if (i === neurons.length - 1) {
        add("backward", "ds", i, t, "given", {
          title: "from the loss", formula: "ds_t", filled: "", value: n.ds[t], node: ["s", i, t], edges: [["loss", i, t]],
          words: "How the loss changes with this spike. Drag the green bars to change it.",
        });
      } else {
        const above = neurons[i + 1];
        add("backward", "dW", i + 1, t, "C2", {
          title: "the synapse's gradient", formula: "dW += s_t dx_t (s of neuron 1, dx of neuron 2)", value: above.dW[t], node: ["x", i + 1, t], edges: [["wx", i + 1, t]],
          filled: `${par(last ? 0 : above.dW[t + 1])} + ${n.s[t]} · ${par(above.dx[t])}`,
          words: n.s[t] ? "A spike went over the synapse: this timestep has its share." : "No spike went over the synapse: nothing is added.",
        });
        add("backward", "ds", i, t, "C3", {
          title: "down through space", formula: "ds_t = W dx_t (dx of neuron 2)", value: n.ds[t], node: ["s", i, t], edges: [["wx", i + 1, t]],
          filled: `${par(W)} · ${par(above.dx[t])}`, words: "What neuron 2 asks of its current at this timestep reaches the spike of neuron 1.",
        });
      }
      const z = n.u[t] - vTh;
      const kappa = n.width[t];
      const height = { "1/kappa": "1/κ_t", 1: "1", "1/(2 kappa)": "1/(2 κ_t)" }[c.surrogate_scale];
      const edge = c.window_edge === "<" ? "<" : "≤";
      const [number, shape, words] = {
        rectangular: ["S2", `[ |u_t − V_th| ${edge} κ_t/2 ]`, `Distance to the threshold ${show(Math.abs(z))}, half the window ${show(kappa / 2)}: the potential is ${n.h[t] ? "inside" : "outside"}.`],
        triangular: ["S3", "max(0, 1 − |u_t − V_th|/κ_t)", ""],
        sigmoid: ["S4", "4 σ(4r) (1 − σ(4r)),  r = (u_t − V_th)/κ_t", ""],
        arctan: ["S5", "1/(1 + (π r)²),  r = (u_t − V_th)/κ_t", ""],
        gaussian: ["S6", "exp(−π r²),  r = (u_t − V_th)/κ_t", ""],
        fast_sigmoid: ["S12", "1/(1 + 2 |r|)²,  r = (u_t − V_th)/κ_t", ""],
        straight_through: ["S13", "1", ""],
        leaky_relu: ["S14", `(1 where |u_t − V_th| ${edge} κ_t/2, else 1/50)`, ""],
      }[c.surrogate];
      const top = { "1/kappa": 1 / kappa, 1: 1, "1/(2 kappa)": 1 / (kappa + kappa) }[c.surrogate_scale];
      add("backward", "h", i, t, `S1, ${number}`, {
        title: "the window in place of the step's derivative", formula: `ds/du = ${height} · ${shape}`, value: n.h[t], node: ["u", i, t], edges: [["us", i, t]],
        filled: kappa > 0 ? (c.surrogate === "rectangular" ? `${show(top)} · [ ${show(Math.abs(z))} ${edge} ${show(kappa / 2)} ]` : `${show(top)} · ${show(n.h[t] / top)}`) : "0",
        words: kappa > 0 ? words || `u_t − V_th = ${show(z)}, κ_t = ${show(kappa)}.` : "γ is not positive: the window is closed, and nothing passes.",
      });
      const attached = c.reset_gradient === "attached";
      const route = {
        hard: ["u_t dv_t", `${par(n.u[t])} · ${par(n.dv[t])}`, "More of this spike would clear the potential that dv_t speaks of."],
        soft: ["V_th dv_t", `${show(vTh)} · ${par(n.dv[t])}`, "More of this spike would lower the potential that dv_t speaks of."],
        "soft late": ["V_th du_{t+1}", `${show(vTh)} · ${par(duNext)}`, "More of this spike would lower the next potential."],
        none: ["", "", "There is no reset for a gradient to go through."],
      }[c.reset];
      const open = attached && c.reset !== "none";
      add("backward", "dsTotal", i, t, "B1", {
        title: "through the reset", formula: `ds_total = ds_t${open ? ` − ${route[0]}` : ""}`, filled: `${show(n.ds[t])}${open ? ` − ${route[1]}` : ""}`, value: n.dsTotal[t], node: ["s", i, t],
        edges: open ? [late ? ["su", i, t] : ["sv", i, t]] : [],
        words: !attached && c.reset !== "none" ? "Detached: the path through the reset is cut." : last && open ? "Nothing comes after the last timestep, so nothing goes through the reset." : route[2],
      });
      const hard = c.reset === "hard";
      add("backward", "du", i, t, "B2", {
        title: "the potential", formula: `du_t = dv_t${hard ? " (1 − s_t)" : ""} + ds_total · ds/du`, value: n.du[t], node: ["u", i, t], edges: [["uv", i, t], ["us", i, t]],
        filled: `${par(n.dv[t])}${hard ? ` · (1 − ${n.s[t]})` : ""} + ${par(n.dsTotal[t])} · ${show(n.h[t])}`,
        words: hard && n.s[t] && !last ? "It was set to 0 and has forgotten u_t: the direct path is closed." : n.h[t] ? "Directly through the reset's output, and through the spike." : "Outside the window only the direct path counts.",
      });
      add("backward", "dx", i, t, "B3", {
        title: "the current", formula: `dx_t = ${gain ? "(1 − τ) du_t" : "du_t"}`, filled: gain ? `${show(1 - tau)} · ${par(n.du[t])}` : show(n.du[t]), value: n.dx[t], node: ["x", i, t], edges: [["xu", i, t]],
        words: "This goes on to the layer below.",
      });
      const before = t > 0 ? n.v[t - 1] : 0;
      add("backward", "dtau", i, t, "B4", {
        title: "the leak's gradient", formula: `dτ += du_t ${gain ? "(v_{t−1} − x_t)" : "v_{t−1}"}`, value: n.dtau[t], node: ["u", i, t], edges: [["vu", i, t - 1]],
        filled: `${par(last ? 0 : n.dtau[t + 1])} + ${par(n.du[t])} · ${gain ? `(${par(before)} − ${par(n.x[t])})` : par(before)}`,
        words: "One leak serves all timesteps, so its gradient is a sum over them.",
      });
      if (t > 0) {
        add("backward", "dv", i, t - 1, "B5", {
          title: "back through time", formula: "dv_{t−1} = τ du_t", filled: `${show(tau)} · ${par(n.du[t])}`, value: n.dv[t - 1], node: ["v", i, t - 1], edges: [["vu", i, t - 1]],
          words: "The leak carries the gradient to the timestep before.", shift: 1,
        });
      }
    }
    add("backward", "dw", i, 0, "B6", {
      title: "a leak that is learned (PLIF)", formula: `dw = ${c.plif === "tau" ? "" : "− "}dτ τ (1 − τ)`, value: dwFromDtau(n.dtau[0], tau, c), node: ["u", i, 0],
      filled: `${c.plif === "tau" ? "" : "− "}${par(n.dtau[0])} · ${show(tau)} · ${show(1 - tau)}`, words: "If τ is the sigmoid of a parameter w, this is w's gradient.",
    });
  }
  return steps;
}

if (typeof module !== "undefined") module.exports = { compute, stepsOf, show };
