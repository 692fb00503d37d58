"""How often the oracle settles gradients: `python -m tests.benchmarks.gradients_alone [NETWORKS [SEED]] [spikes] [right]`.

Random small networks, half of them with a neuron moved onto its threshold or its window's edge. Each is run rightly in
float32, in five orders of summation and with two formulas of the variance, and wrongly: with wrong implementations of the
oracle's own table, and with mistakes around a kernel that no list of the oracle has. Only parameters' gradients are compared,
with "spikes" beside all s; with "right" no wrong run is made.
"""

import collections
import itertools
import sys

import numpy as np

from agl_ref import MPD_AGL
from agl_ref.oracle import compare, reference
from agl_ref.oracle.mutants.summation import ORDERS
from agl_ref.oracle.mutants.table import mutants
from agl_ref.oracle.mutants.variants import ONE_PASS, variant
from agl_ref.oracle.problems import problem_of
from tests.helpers_oracle import LABELS, every_layer, flat_network

U32 = 2.0**-24
LISTED = 12  # wrong implementations of the table, drawn for each network
DERIVATIVE = "h = derivative(u[t] - v_th, width[t], surrogate, c)"
CARRY = "for t in reversed(range(len(ds))):"
HELD_OUT = {  # wrong lines, or what is done to the gradients (a name's gradient, its parameter) of a right run
    "straight-through": [(DERIVATIVE, "h = np.ones_like(u[t])")],
    "stale width": [(DERIVATIVE, "h = derivative(u[t] - v_th, width[t] * u.dtype.type(1.02), surrogate, c)")],
    "width of tau^2": [("later = math.sqrt(1 + decay * decay)", "later = math.sqrt(1 + decay)")],
    "window centred on rest": [(DERIVATIVE, "h = derivative(u[t], width[t], surrogate, c)")],
    "truncated after 2 steps": [(CARRY, CARRY + "\n        dv = dv * (t != len(ds) - 3)")],
    "twice": lambda g, p: 2 * g,
    "negated": lambda g, p: -g,
    "zero": lambda g, p: 0 * g,
    "loss scale": lambda g, p: 1024 * g,
    "per GPU": lambda g, p: g / 2,
    "weight decay": lambda g, p: g + g.dtype.type(1e-4) * p,
    "clipped": lambda g, p: np.clip(g, -np.abs(g).max() / 2, np.abs(g).max() / 2),
    "one element lost": lambda g, p: g * (np.arange(g.size).reshape(g.shape) != np.abs(g).argmax()),
    "noise": lambda g, p: np.random.default_rng(g.size).normal(0, g.std() + 1e-6, g.shape).astype(g.dtype),
    "a thousandth more": lambda g, p: g * g.dtype.type(1.001),
}


def draw(rng):
    """A Reference of a random network; and the same network's problem."""
    make = every_layer if rng.random() < 0.7 else flat_network
    net = make(surrogate="rectangular" if rng.random() < 0.8 else "gaussian")
    for name, value in net.parameters().items():
        value[...] = np.float32(value * rng.normal(1, 0.1, value.shape) if not name.endswith(".w") else value)
    T = int(rng.integers(2, 6))
    x = rng.normal(0, 1, (T, 3, 9, 9, 2)).astype(np.float32).astype(float)
    if rng.random() < 0.5:
        names = [name for name, block in net.blocks() if block.norm is not None]
        block, t, edge = str(rng.choice(names)), 0, rng.random() < 0.3
        beta, cache = net.parameters()[f"{block}.beta"], net.forward(x)[block]
        v_th, half = cache.neuron.v_th, cache.width[t] / 2 if edge else 0.0
        index = np.unravel_index(np.abs(np.abs(cache.u[t] - v_th) - half).argmin(), cache.u[t].shape)
        goal = v_th + np.sign(cache.u[t][index] - v_th) * half
        for _ in range(5):
            beta[index[-1]] = np.float32(beta[index[-1]] + goal - net.forward(x)[block].u[t][index])
    return reference(net, x, LABELS)


def gradients(arrays):
    spikes = (".s",) if "spikes" in sys.argv else ()
    return {
        name: a for name, a in arrays.items() if name.startswith("grad_") and name != "grad_x" or name.endswith(spikes)
    }


def wrong(problem, rng):
    """(name, gradients) of wrong runs."""
    right = gradients(problem.run(dtype=np.float32))
    for mutant in rng.choice(np.array(mutants(), object), LISTED, replace=False):
        arrays = gradients(mutant.dump(problem, MPD_AGL, np.float32) or {})
        if arrays and all(a.shape == right[n].shape and np.isfinite(a).all() for n, a in arrays.items()):
            yield f"listed: {mutant.id}", arrays
    for name, change in HELD_OUT.items():
        if callable(change):
            changed = {key: g for key, g in right.items() if key.startswith("grad_")}
            for key, g in changed.items():
                changed[key] = change(g, problem.inputs[key.removeprefix("grad_")].astype(g.dtype))
            yield name, right | changed
        else:
            yield name, gradients(problem.run(variant(change), dtype=np.float32))
    labels = problem.inputs["labels"]
    problem.inputs["labels"] = np.roll(labels, 1)
    yield "labels of the next sample", gradients(problem.run(dtype=np.float32))
    problem.inputs["labels"] = labels


def main(networks=20, seed=0):
    rng, seen, runs = np.random.default_rng(seed), collections.Counter(), collections.Counter()
    for number in range(networks):
        ref = draw(rng)
        problem = problem_of(ref)
        right = gradients(problem.run(dtype=np.float32))
        for order, lines in itertools.product(ORDERS, ((), ONE_PASS)):
            got = gradients(problem.run(variant(lines, order=order), dtype=np.float32))
            report, before = (
                compare(ref, got, "float32", guess=False),
                compare(ref, got, "float32", settle=False, guess=False),
            )
            seen["right", before.verdict, report.verdict] += 1
            runs[report.details.get("searched", {}).get("runs", 0)] += 1
            if report.verdict != "PASS":
                print(
                    "RIGHT",
                    number,
                    order,
                    bool(lines),
                    report.details.get("searched"),
                    report.details["worst"],
                    flush=True,
                )
        for name, got in wrong(problem, rng) if "right" not in sys.argv else ():
            if all(np.all(np.abs(array - right[key]) <= U32 * ref.bounds[key].max()) for key, array in got.items()):
                continue  # no difference in this network, but for rounding
            before = compare(ref, got, "float32", settle=False, guess=False)
            report = compare(ref, got, "float32", guess=False)
            kind = "listed" if name.startswith("listed") else "held out"
            seen[kind, before.verdict, report.verdict] += 1
            runs[report.details.get("searched", {}).get("runs", 0)] += 1
            if report.verdict != "FAIL":
                print(
                    kind,
                    number,
                    name,
                    report.verdict,
                    report.details.get("searched"),
                    before.details["worst"],
                    flush=True,
                )
        if number % 5 == 4:
            print(number + 1, dict(seen), flush=True)
    print("kind, before, verdict: number")
    for key, count in sorted(seen.items()):
        print(*key, count)
    print("runs of the reference a comparison: most", max(runs))


if __name__ == "__main__":
    main(*[int(word) for word in sys.argv[1:] if word.isdecimal()])
