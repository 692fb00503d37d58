"""Notebook 8: which mistake is it, and the mended pieces of the five kernels."""

import numpy as np

from agl_ref.course import mutant_kernels

from .definition import Edge, choice, exercise
from .neuron import bptt, lif, previous, v_before
from .why_a_surrogate import rectangular

# --- the suspects: what each mistake would look like, said to whoever accuses it wrongly

SUSPECTS = {
    "one block": "Then all would be right up to 1024 neurons, and beyond them only the sum for the decay too short.",
    "before reset": "Then du would be right everywhere, and grad_decay wrong as soon as a neuron fired before the last "
    "timestep, with one block of neurons as with many.",
    "same step": "Then du would be right everywhere, and grad_decay wrong even for neurons that never fire.",
    "wide window": "Then du would be wrong at the last timestep already, for neurons between kappa/2 and kappa from the "
    "threshold, and for no others.",
    "spike test": "Then s would be the first wrong array, for neurons exactly on the threshold.",
    "detached": "Then du would be wrong where ds_total is used: only inside the window, whether the neuron fired or not.",
    "no cut": "Then du would be wrong only for neurons that fired at that very timestep, whatever they did at the next.",
    "late cut": "Then du would be right at the last timestep, and wrong before it where a neuron fired in one of two "
    "neighbouring timesteps but not in both.",
    "stale buffer": "Then the first call would be right, and the same call made again would give another result.",
    "last step lost": "Then du would be 0 at the last timestep.",
}


def _bug(kernel, suspect, why, *hints):
    choice(f"bug_of_kernel_{kernel}", 1, suspect, {**SUSPECTS, suspect: f"Right. {why}"}, hints)


_bug("a", "one block", "The second stage adds up the threads of one block; the other blocks' sums are dropped.",
     "All is right but one sum over neurons. From which number of neurons on does it stop growing?",
     "A thread is a neuron, and 1024 threads work together. What becomes of the others?",
     "The sum forgets the threads beyond the first 1024. Which row of the table says so?")  # fmt: skip
_bug("b", "before reset", "It kept u and s, and took u of the timestep before where v = u (1 - s) belongs.",
     "One neuron that fires gives 0.75 where 0 is right. Which of its numbers is 0.75?",
     "It is u_1. Which potential belongs into B4?",
     "B4 has the potential that leaks, the one after firing. The kernel takes the other one.")  # fmt: skip
_bug("c", "wide window", "|z| / kappa < 1 reaches kappa to each side; the window is kappa wide, kappa/2 to each side.",
     "At the last timestep only ds and the surrogate count. Where do the wrong elements lie?",
     "Farther from the threshold than kappa / 2, nearer than kappa. Do they get a gradient, or do they lack one?",
     "They get one and should get none: the kernel reaches too far.")  # fmt: skip
_bug("d", "stale buffer", "The carry starts from what the last call of that shape left behind, not from 0.",
     "The first call is right and the next are not. What does one call leave to the next?",
     "The memory of the carry is made once for each shape, so that nothing is allocated later.",
     "Memory that is used again must be set to 0 again. Which row forgets that?")  # fmt: skip
_bug("e", "late cut", "The spikes are loaded one timestep ahead in a loop that runs backwards: s of t + 1 cuts the carry.",
     "Use both experiments: the four pairs of spikes, and the neuron by hand.",
     "Which pairs (s_t, s_{t+1}) have wrong gradients? Compare with the two rows of your own table.",
     "Right where both spikes are equal, wrong where they differ: the carry meets the wrong one of the two.")  # fmt: skip


# --- mending a: a sum over blocks


def _draw_blocks(rng):
    for n, threads in ((16, 4), (9, 3)):
        yield rng.normal(0.5, 1, n), threads
    yield Edge("the last block is not full", (rng.normal(0.5, 1, 11), 4))
    yield Edge("fewer neurons than threads in a block", (rng.normal(0.5, 1, 3), 8))


def _in_blocks(terms, threads):
    blocks = -(-len(terms) // threads)
    return np.pad(terms, (0, blocks * threads - len(terms))).reshape(blocks, threads)


@exercise(points=2, draw=_draw_blocks, outputs="partial total", mistakes={
    "the total is the first block's alone": {"total": lambda partial: partial[0]},
    "the total is the last block's alone: each block overwrites the one before": {"total": lambda partial: partial[-1]},
    "the sums run over the blocks for each thread, not over the threads of each block": {"axis": 0},
    "the total is the mean over the blocks": {"total": np.mean},
}, hints=(
    "The blocks begin at 0, threads, 2 threads, and so on: range takes a step.",
    "A slice that runs over the end is shorter by itself, which is what the last block needs.",
    "Collect the sums of the slices terms[start : start + threads] in an array; the total is the sum of that array.",
))  # fmt: skip
def sum_over_blocks(terms, threads, *, axis=1, total=np.sum):
    partial = _in_blocks(terms, threads).sum(axis=axis)
    return partial, total(partial)


# --- mending b: the potential that leaked


def _draw_previous(rng):
    for T, N in ((5, 6), (4, 7)):
        u = rng.normal(0.5, 0.8, (T, N))
        yield u, (u >= 0.5) * 1.0
    u = rng.normal(0.5, 0.8, (1, 4))
    yield Edge("T = 1: nothing has leaked yet", (u, (u >= 0.5) * 1.0))


@exercise(points=2, draw=_draw_previous, outputs="v_before", time="v_before", mistakes={
    "it is the potential before the reset: the factor 1 - s is missing": lambda u, s: previous(u),
    "it is the potential after the reset of the same timestep, not of the one before": lambda u, s: u * (1 - s),
    "the last timestep comes round to the first: before the first timestep the potential is 0":
        lambda u, s: np.roll(u * (1 - s), 1, axis=0),
    "it is the potential of the timestep after": lambda u, s: previous((u * (1 - s))[::-1])[::-1],
    "the spike of the timestep itself is taken with the potential of the one before": lambda u, s: previous(u) * (1 - s),
    "the neurons that fired keep their potential and the others lose it": lambda u, s: previous(u * s),
}, hints=(
    "Row t of the result is v of row t - 1, and row 0 is 0.",
    "v is u (1 - s), of all rows but the last.",
    "Begin with zeros of u's shape; the rows from index 1 on are v of the rows before.",
))  # fmt: skip
def previous_potential(u, s):
    return v_before(u, s)


# --- mending c: the window


def _draw_window(rng):
    for T, N in ((4, 30), (3, 40)):
        yield rng.normal(0.5, 0.6, (T, N)), 0.5, rng.uniform(0.5, 1.5, T)
    yield Edge("|u - V_th| exactly kappa / 2 is outside", (
        np.array([[0.0, 0.25, 1.0, 0.5], [0.25, 0.0, 0.75, 0.5]]), 0.5, np.array([1.0, 0.5])))  # fmt: skip


@exercise(points=2, draw=_draw_window, outputs="derivative", time="derivative", mistakes={
    "the window reaches kappa to each side of the threshold": {"half": 1.0},
    "the window reaches kappa / 4 to each side of the threshold": {"half": 0.25},
    "the window's edge is inside": {"inside": np.less_equal},
    "the height is 1: divide by kappa, so that the area is 1": {"height": lambda k: 1.0},
    "the height is 1 / (2 kappa)": {"height": lambda k: 0.5 / k},
    "the window has no lower edge: take |u - V_th|": {"distance": lambda z: z},
    "the first timestep's kappa is used at all timesteps": lambda u, v_th, width: window(u, v_th, 0 * width + width[0]),
}, hints=(
    "width has an entry for each timestep and u has a row. How do you put one beside the other?",
    "With a second axis, width has the shape (T, 1): index it with None. The edge itself is outside.",
    "Then as in notebook 2: |u - v_th| compared with half the width, and the comparison divided by the width.",
))  # fmt: skip
def window(u, v_th, width, **parts):
    return rectangular(u - v_th, width[:, None], **parts)


# --- the whole kernel


def _draw_kernel(rng):
    for T, N in ((5, 9), (4, 12)):
        yield rng.normal(0.3, 0.7, (T, N)), rng.normal(0, 1, (T, N)), 0.5, 0.5, rng.uniform(0.5, 1.5, T)
    x = rng.integers(-8, 13, (4, 40)) / 8.0
    yield Edge("potentials exactly on the threshold and on the window's edge", (
        x, rng.integers(-4, 5, x.shape) / 4.0, 0.5, 0.5, np.array([1.0, 0.5, 1.0, 2.0])))  # fmt: skip
    x = rng.normal(0.3, 0.7, (2, 1500))
    yield Edge(
        "1500 neurons: two blocks of 1024 threads", (x, rng.normal(0, 1, x.shape), 0.5, 0.5, np.array([1.0, 1.2]))
    )
    x = rng.normal(0.3, 0.7, (1, 5))
    yield Edge("T = 1", (x, rng.normal(0, 1, x.shape), 0.5, 0.5, np.array([1.0])))


def _as_tuple(kernel):
    def answer(x, ds, decay, v_th, width):
        arrays = kernel(x, ds, decay, v_th, width)
        return tuple(arrays[name] for name in ("u", "s", "du", "grad_decay"))

    return answer


@exercise(points=5, draw=_draw_kernel, outputs="u s du ddecay", time="u s du", mistakes={
    "your kernel makes kernel a's mistake": _as_tuple(mutant_kernels.kernel_a),
    "your kernel makes kernel b's mistake": _as_tuple(mutant_kernels.kernel_b),
    "your kernel makes kernel c's mistake": _as_tuple(mutant_kernels.kernel_c),
    "your kernel makes kernel e's mistake": _as_tuple(mutant_kernels.kernel_e),
    "a neuron whose potential is exactly V_th does not fire": {"fires": np.greater},
    "the window's edge is inside": {"inside": np.less_equal},
    "no gradient flows through the reset": {"through": lambda u, s: 0.0},
    "the carry is not cut where the neuron fired": {"keep": lambda s: 1.0},
    "the decay's gradient pairs du with v of the same timestep": {"leaked": lambda u, s: u * (1 - s)},
}, hints=(
    "Two loops, notebook 1's forwards and notebook 3's backwards; u and s are kept in between.",
    "v and dv are zeros, made anew in each call. For t > 0 ddecay gets du[t] times v_{t-1}, over all neurons.",
    "The five: the sum over all neurons; v, not u; half a width to each side; zeros at the start; 1 - s of this very t.",
))  # fmt: skip
def mended_kernel(x, ds, decay, v_th, width, *, fires=np.greater_equal, **parts):
    u, s = lif(x, decay, v_th, fires=fires)
    return u, s, *bptt(ds, u, s, decay, v_th, width, **parts)
