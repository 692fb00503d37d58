"""Which equations of METHOD.md an array comes from, so that a report can name the rule behind the first wrong number."""

from dataclasses import asdict

from agl_ref.conventions import MPD_AGL

CONVENTION_NAMES = {
    "spike_test": "spike test",
    "reset": "reset",
    "reset_gradient": "gradient through the reset",
    "window_edge": "edge of the window",
    "surrogate_scale": "scale of the surrogate",
    "width": "width of the window",
    "width_gradient": "gradient through the width",
    "input_scale": "scale of the input",
    "plif": "meaning of PLIF's w",
    "norm_variance": "tdBN's variance",
    "norm_scale": "tdBN's scale",
    "norm_shift": "tdBN's shift",
    "readout": "logits over time",
    "axis_order": "axis order",
}

EQUATION_NAMES = {
    "F1": "leak and input",
    "F2": "spike test",
    "F3": "reset",
    "F4": "soft reset",
    "F5": "soft reset, a step late",
    "F6": "PLIF's leak",
    "W1": "width",
    "W2": "spread, adaptive",
    "W3": "spread, geometric",
    "W4": "gradient of gamma through the width",
    "W5": "gradient of tau through the width",
    "W6": "width relative to the threshold",
    "S1": "height of the surrogate",
    "S2": "rectangular surrogate",
    "S3": "triangular surrogate",
    "S4": "sigmoid surrogate",
    "S5": "arctan surrogate",
    "S6": "gaussian surrogate",
    "S12": "fast sigmoid surrogate",
    "S13": "straight-through surrogate",
    "S14": "leaky ReLU surrogate",
    "B1": "gradient through the reset",
    "B2": "gradient of the potential",
    "B3": "gradient of the current",
    "B4": "gradient of tau",
    "B5": "carry to the timestep before",
    "B6": "gradient of PLIF's w",
    "B7": "gradient of the width",
    "N1": "tdBN's mean",
    "N2": "tdBN's variance",
    "N3": "tdBN's normalisation",
    "N4": "tdBN's scale and shift",
    "N5": "gradients of gamma and beta",
    "N6": "gradient of tdBN's input",
    "C1": "convolution",
    "C2": "gradient of the weight",
    "C3": "gradient of the convolution's input",
    "C4": "gradient of the bias",
    "C5": "average pool",
    "C6": "gradient of the pool's input",
    "R1": "residual sum",
    "R2": "gradient of the residual sum",
    "L1": "logits over time",
    "L2": "log-softmax",
    "L3": "cross-entropy",
    "L4": "gradient of the cross-entropy",
    "L5": "TET",
    "L6": "gradient of TET",
}

SURROGATES = {"rectangular": "S2", "triangular": "S3", "sigmoid": "S4", "arctan": "S5", "gaussian": "S6",
               "fast_sigmoid": "S12", "straight_through": "S13", "leaky_relu": "S14"}  # fmt: skip
_RESETS = {"hard": ("F3",), "soft": ("F4",), "soft late": ("F5",), "none": ("F3",)}
_SYNAPSE = {"y": ("C1",), "grad_x": ("C3",)}
_POOL = {"y": ("C5",), "grad_x": ("C6",)}
_BY_OP = {  # {op: {array: the equations it comes from directly, the likeliest first}}, beside those of _of_anything
    "lif": {"grad_x": ("B3",), "grad_gamma": ("W4", "B7")},
    "plif": {"grad_x": ("B3",), "grad_gamma": ("W4", "B7")},
    "tdbn": {"y": ("N4", "N3", "N2", "N1"), "grad_x": ("N6",)},
    "conv2d": _SYNAPSE,
    "linear": _SYNAPSE,
    "avg_pool": _POOL,
    "global_avg_pool": _POOL,
    "add": {"y": ("R1",), "grad_x": ("R2",), "grad_side": ("R2",)},
    "network": {
        "x": ("N4", "N3", "N2", "N1", "C1", "C5", "R1"),
        "logits": ("C1", "C5", "R1"),
        "ds": ("C3", "N6", "C6", "R2"),
        "grad_x": ("C3", "N6", "C6"),
        "grad_weight": ("C2", "N6"),
        "grad_bias": ("C4", "N6"),
    },
}


def _of_anything(conventions, surrogate, loss):
    """{last part of an array's name: the equations it comes from directly, the likeliest first}."""
    late, flows = conventions["reset"] == "soft late", conventions["width_gradient"] == "flows"
    spread = {"geometric": ("W1", "W3"), "2 V_th": ("W6",)}.get(conventions["width"], ("W1", "W2"))
    bump = ("S1", SURROGATES[surrogate])
    return {
        "u": ("F1", "F5") if late else ("F1",),
        "s": ("F2",),
        "v": _RESETS[conventions["reset"]],
        "width": spread,
        "y": bump,
        "du": ("B2", "B1", *bump, "B5"),
        "dx": ("B3",),
        "grad_decay": ("B4", "W5") if flows else ("B4",),
        "grad_w": ("B6", "B4", "F6"),
        "grad_gamma": ("N5", "W4", "B7") if flows else ("N5",),
        "grad_beta": ("N5",),
        "grad_weight": ("C2",),
        "grad_bias": ("C4",),
        "loss": ("L5", "L2") if loss == "tet" else ("L3", "L2", "L1"),
        "dlogits": {"tet": ("L6",), "given": ()}.get(loss, ("L4",)),
    }


def equations_of(reference, name):
    """The numbers of the equations that an array of a Reference comes from directly, the likeliest first.

    Directly: from the arrays before it in the order of computation, so that the first wrong array points to them. Of a
    network's gradient of a weight or bias, tdBN's own (N6) is among them, because it is no array of its own, where the
    layer has a tdBN: a readout has none.
    """
    meta, op = reference.meta, reference.meta.get("op")
    loss = op if op in ("cross_entropy", "tet") else meta.get("loss")
    known = _of_anything(
        asdict(MPD_AGL) | reference.conventions, meta.get("surrogate", "rectangular"), loss
    ) | _BY_OP.get(op, {})
    short = name
    if op == "network":
        short = name.rpartition(".")[2] if "." in name else name
        short = f"grad_{short}" if name.startswith("grad_") and "." in name else short
    kinds = {layer["kind"] for layer in meta.get("layers", ())}
    absent = {"C5", "C6"} if op == "network" and not kinds & {"pool", "sum_pool", "global_pool"} else set()
    absent |= {"R1", "R2"} if op == "network" and "residual" not in kinds else set()
    named = [layer for layer in meta.get("layers", ()) if "name" in layer]
    gives = zip(
        named, named[1:] if short == "ds" else named, strict=False
    )  # its layer, and the one that the gradient leaves
    block = name.removeprefix("grad_").rpartition(".")[0]
    if any(own["name"] == block and "body" not in giver and not giver.get("norm") for own, giver in gives):
        absent.add("N6")
    return tuple(number for number in known.get(short, ()) if number not in absent)


def rule_of(reference, name):
    """The same as words: "equation F3 (reset)", or "" where nothing is known."""
    return in_words(equations_of(reference, name))


def in_words(numbers):
    """Numbers of equations with their names: "equation F3 (reset)", or "" for none."""
    listed = ", ".join(f"{number} ({EQUATION_NAMES[number]})" for number in numbers)
    return f"equation{'s' if len(numbers) > 1 else ''} {listed}" if numbers else ""
