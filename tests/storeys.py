"""The two storeys under the same names and signatures: agl_ref's public operations, and reference.py behind them.

A test that takes the fixture `lib` runs on both. What only one of them promises (validation, memory layout, paths of the
convolution, the bits of several chunks) is tested on that one alone.
"""

from types import SimpleNamespace

import numba

import agl_ref as agl
from agl_ref import reference
from agl_ref.conventions import MPD_AGL
from agl_ref.engine import ops, optim
from agl_ref.engine import width as widths

PAIRS = ("lif", "plif", "tdbn", "conv2d", "linear", "avg_pool", "global_avg_pool", "cross_entropy", "tet")


class Storey(SimpleNamespace):
    """One storey's operations."""

    def __repr__(self):
        return self.name


ENGINE = Storey(
    name="engine",
    derivative=ops.derivative,
    primitive=ops.primitive,
    lif_backward_full=ops.lif_backward_full,
    update_running=ops.update_running,
    adaptive_width=agl.adaptive_width,
    geometric_width=widths.geometric_width,
    fixed_width=widths.fixed_width,
    width_of_layer=widths.width_of_layer,
    width_gradient=widths.width_gradient,
    SGD=optim.SGD,
    **{f"{pair}_{way}": getattr(agl, f"{pair}_{way}") for pair in PAIRS for way in ("forward", "backward")},
)


# --- reference.py's own functions, where their signatures are others ------------------------------


def derivative(z, width, name="rectangular", conventions=MPD_AGL):
    return reference.derivative(z, z.dtype.type(width), name, conventions)


def primitive(z, width, name="rectangular", conventions=MPD_AGL):
    return reference.primitive(z, z.dtype.type(width), name, conventions)


def lif_backward(ds, cache, width, conventions=None, surrogate=None):
    grads = reference.lif_backward(ds, cache, width, conventions, surrogate)
    return grads.dx, grads.ddecay


def adaptive_width(gamma, v_th, decay, T, alpha=1.0, dtype=None):
    return reference.width_of_layer(gamma, v_th, decay, T, dtype or gamma.dtype, MPD_AGL, alpha)


def geometric_width(gamma, v_th, decay, T, alpha=1.0, dtype=None):
    rule = agl.Conventions(width="geometric")
    return reference.width_of_layer(gamma, v_th, decay, T, dtype or gamma.dtype, rule, alpha)


def fixed_width(width, T, dtype=float):
    rule = agl.Conventions(width="fixed", fixed_width=width)
    return reference.width_of_layer(None, 1.0, 0.0, T, dtype, rule)


def conv2d_forward(x, weight, bias=None, stride=1, padding=0, path="only one"):
    return reference.conv2d_forward(x, weight, bias, stride, padding)


def avg_pool_forward(x):
    return reference.avg_pool_forward(x)


def global_avg_pool_forward(x):
    y, cache = reference.avg_pool_forward(x, x.shape[-3:-1])
    return y[..., 0, 0, :], cache


def global_avg_pool_backward(dy, cache):
    return reference.avg_pool_backward(dy[..., None, None, :], cache)


def cross_entropy_forward(logits, labels, conventions=MPD_AGL):
    loss, dlogits = reference.cross_entropy(logits, labels, conventions)
    return float(loss), dlogits


def tet_forward(logits, labels, lam=1e-3, target=1.0):
    loss, dlogits = reference.tet(logits, labels, lam, target)
    return float(loss), dlogits


def loss_backward(dlogits):
    return dlogits


class SGD:
    """`reference.sgd_step` behind the engine's class."""

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0):
        self.params, self.options, self.velocity = params, (lr, momentum, weight_decay), {}

    def step(self, grads):
        reference.sgd_step(self.params, grads, self.velocity, *self.options)


REFERENCE = Storey(
    name="reference",
    derivative=derivative,
    primitive=primitive,
    lif_forward=reference.lif_forward,
    lif_backward=lif_backward,
    lif_backward_full=reference.lif_backward,
    plif_forward=reference.plif_forward,
    plif_backward=reference.plif_backward,
    tdbn_forward=reference.tdbn_forward,
    tdbn_backward=reference.tdbn_backward,
    update_running=reference.update_running,
    adaptive_width=adaptive_width,
    geometric_width=geometric_width,
    fixed_width=fixed_width,
    width_of_layer=reference.width_of_layer,
    width_gradient=reference.width_gradient,
    conv2d_forward=conv2d_forward,
    conv2d_backward=reference.conv2d_backward,
    linear_forward=reference.conv2d_forward,  # a linear map is a convolution there
    linear_backward=reference.conv2d_backward,
    avg_pool_forward=avg_pool_forward,
    avg_pool_backward=reference.avg_pool_backward,
    global_avg_pool_forward=global_avg_pool_forward,
    global_avg_pool_backward=global_avg_pool_backward,
    cross_entropy_forward=cross_entropy_forward,
    cross_entropy_backward=loss_backward,
    tet_forward=tet_forward,
    tet_backward=loss_backward,
    SGD=SGD,
)

# Without the JIT the engine alone is another: reference.py has no kernels, and was tried with the JIT.
STOREYS = (ENGINE,) if numba.config.DISABLE_JIT else (REFERENCE, ENGINE)
