"""The LIF neuron forwards and backwards, with a switch for each part: a student's mistake is a part that is another one."""

import numpy as np


def previous(a):
    """What was there one timestep before, of a's shape (T, N); 0 before the first."""
    return np.concatenate([np.zeros_like(a[:1]), a[:-1]])


def lif(x, decay, v_th, leak=lambda v, x, decay: decay * v + x, fires=np.greater_equal, reset="hard", late=False,
        start=0.0, returned="u"):  # fmt: skip
    """(u, s) of currents x (T, N): F1, F2, F3. late: the reset uses the spikes of the timestep before."""
    u, s, v, before = np.zeros(x.shape), np.zeros(x.shape), np.full(x.shape[1:], start), np.zeros(x.shape[1:])
    for t in range(len(x)):
        u[t] = leak(v, x[t], decay)
        s[t] = fires(u[t], v_th)
        spikes, before = before if late else s[t], s[t]
        v = {"hard": u[t] * (1 - spikes), "soft": u[t] - v_th * spikes, "none": u[t] + 0, "one": u[t] - spikes}[reset]
        if returned == "v":
            u[t] = v
    return u, s


def v_before(u, s):
    """v_{t-1} of the hard reset, (T, N)."""
    return previous(u * (1 - s))


def bptt(ds, u, s, decay, v_th, width, through=lambda u, s: u, keep=lambda s: 1 - s, half=0.5, inside=np.less, height=None,
         centre=None, forwards=False, carry="du", leak=None, widths=lambda width: width, leaked=v_before,
         again=False):  # fmt: skip
    """(du (T, N), ddecay) of the hard reset: B1 to B5.

    through(u, s) multiplies dv in ds_total and is 0 if detached; leaked(u, s) is what the decay's gradient pairs with du.
    """
    du, dv, width, s = np.zeros(u.shape), np.zeros(u.shape[1:]), widths(width), 1.0 * (u >= v_th) if again else s
    for t in range(len(u)) if forwards else reversed(range(len(u))):
        z = np.abs(u[t] - (v_th if centre is None else centre))
        slope = inside(z, half * width[t]) * (1 / width[t] if height is None else height)
        ds_total = ds[t] - through(u[t], s[t]) * dv
        du[t] = dv * keep(s[t]) + ds_total * slope
        carried = {"du": du[t], "ds": ds_total * slope, "none": 0 * dv}[carry]
        dv = (decay if leak is None else leak) * carried
    return du, (du * leaked(u, s)).sum()
