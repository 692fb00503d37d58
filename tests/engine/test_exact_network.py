"""A whole small spiking network, forward and backward, against exact rational arithmetic, bit for bit."""

import helpers
import numpy as np
import pytest
from twins import exact

import agl_ref as agl

T, N, SIDE, C_IN, C_1, C_2, K = 3, 2, 4, 1, 2, 2, 3
WIDTH = (1.0, 0.5, 1.0)
V_TH, DECAY = 0.5, 0.5

VARIANTS = {
    "mpd-agl": {},
    "spike_test >": {"spike_test": ">"},
    "soft": {"reset": "soft"},
    "none": {"reset": "none"},
    "detached": {"reset_gradient": "detached"},
    "edge <=": {"window_edge": "<="},
    "scale 1/2k": {"surrogate_scale": "1/(2 kappa)"},
}
each_convention = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)


def drawn(seed, dtype):
    """{name: array}: input, parameters and dlogits, all multiples of 1/2 but the input's 1/4."""
    rng = np.random.default_rng(seed)
    flat = (SIDE // 2) ** 2 * C_2
    shapes = {
        "x": (T, N, SIDE, SIDE, C_IN),
        "conv1": (3, 3, C_IN, C_1),
        "conv2": (3, 3, C_1, C_2),
        "fc": (flat, K),
        "bias": (K,),
        "dlogits": (T, N, K),
    }
    arrays = {name: helpers.dyadic(rng, shape, -1, 1, 2) for name, shape in shapes.items()}
    arrays["x"] = helpers.dyadic(rng, shapes["x"], -0.5, 1, 4)
    return {name: a.astype(dtype) for name, a in arrays.items()}


def network_forward(lib, a, c):
    """{name: value} of every intermediate, and the caches."""
    v, caches = {}, {}
    v["y1"], caches["conv1"] = lib.conv2d_forward(a["x"], a["conv1"], padding=1)
    v["s1"], caches["lif1"] = lib.lif_forward(v["y1"], DECAY, V_TH, c)
    v["pooled"], caches["pool"] = lib.avg_pool_forward(v["s1"])
    v["y2"], caches["conv2"] = lib.conv2d_forward(v["pooled"], a["conv2"], padding=1)
    v["s2"], caches["lif2"] = lib.lif_forward(v["y2"], DECAY, V_TH, c)
    v["flat"] = v["s2"].reshape(T, N, -1)
    v["logits"], caches["fc"] = lib.linear_forward(v["flat"], a["fc"], a["bias"])
    v["u1"], v["u2"] = caches["lif1"].u, caches["lif2"].u
    return v, caches


def network_backward(lib, dlogits, caches, width):
    """{name: gradient} of every parameter, of the input and of both decays."""
    d = {}
    dflat, d["fc"], d["bias"] = lib.linear_backward(dlogits, caches["fc"])
    ds2 = dflat.reshape(caches["lif2"].s.shape)
    dy2, d["decay2"] = lib.lif_backward(ds2, caches["lif2"], width)
    dpooled, d["conv2"], _ = lib.conv2d_backward(dy2, caches["conv2"])
    ds1 = lib.avg_pool_backward(dpooled, caches["pool"])
    dy1, d["decay1"] = lib.lif_backward(ds1, caches["lif1"], width)
    d["x"], d["conv1"], _ = lib.conv2d_backward(dy1, caches["conv1"])
    return d


@each_convention
@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_network_has_the_bits_of_exact_rationals(lib, fields, dtype):
    c, ledger = agl.Conventions(**fields), exact.Ledger()
    arrays, width = drawn(1, dtype), np.array(WIDTH, dtype)
    p = {name: exact.fractions(a) for name, a in arrays.items()}
    p["decay"], p["v_th"] = exact.Fraction(DECAY), exact.Fraction(V_TH)
    values = exact.network_forward(p["x"], p, c, ledger)
    grads = exact.network_backward(p["dlogits"], values, p, exact.fractions(width), c, ledger)
    assert ledger.fits(dtype), f"the case needs {ledger.bits} bits"
    for layer in ("u1", "u2"):
        helpers.assert_case_is_telling(values[layer].astype(float), width, V_TH)
    assert all(np.any(grad != 0) for grad in grads.values())

    received, caches = network_forward(lib, arrays, c)
    for name, value in received.items():
        helpers.assert_equal(value, exact.floats(values[name], dtype), name)
    for name, value in network_backward(lib, arrays["dlogits"], caches, width).items():
        helpers.assert_equal(value, exact.floats(np.array(grads[name]), dtype), f"d{name}")


def test_the_conventions_differ_on_this_network(lib):
    # or else the test above could not tell them apart
    seen = set()
    for fields in VARIANTS.values():
        _, caches = network_forward(lib, drawn(1, np.float64), agl.Conventions(**fields))
        grads = network_backward(lib, drawn(1, np.float64)["dlogits"], caches, np.array(WIDTH))
        seen.add(grads["conv1"].tobytes())
    assert len(seen) == len(VARIANTS)
