"""The membrane potential's law: Theorem 1, the closed form without reset, and exactly with the reset.

    x_t independent N(mu, sigma^2);   u_t = tau v_{t-1} + x_t;   v_0 = 0;   f_t the density of u_t

For a layer with tdBN, mu = beta_bar and sigma = gamma_bar alpha V_th. Each law here is a mixture of Gaussians, so that
one class, `Law`, gives the mean, standard deviation, firing probability and window coverage of all of them:

    theorem1     N(mu D(tau, k), sigma^2 D(tau^2, k)) with k = min(t, 2)           the paper's approximation
    no_reset     the same with k = t, where D(a, t) = 1 + a + ... + a^(t-1)        exact if nothing resets v
    hard_reset   METHOD.md's recursion for v_t = u_t (1 - s_t)                     exact
    soft_reset   the same for v_t = u_t - V_th s_t                                 exact

After a hard reset a neuron forgets everything, so f_t is a sum over its age j, the number of timesteps since the last
reset (or since the start). With g_j the density of u at age j of those neurons that did not fire on the way, and h_j
the probability to fire first at age j,

    g_1 = N(mu, sigma^2);   g_{j+1}(z) = integral_{w < V_th} g_j(w) N(z; mu + tau w, sigma^2) dw        (1)
    h_j = integral_{w >= V_th} g_j(w) dw                                                                (2)
    r_1 = 1;   r_{t+1} = r_t h_1 + ... + r_1 h_t                                                        (3)
    f_t = r_t g_1 + r_{t-1} g_2 + ... + r_1 g_t                                                         (4)

which is the recursion f_{t+1} = P(u_t >= V_th) N(mu, sigma^2) + integral_{w < V_th} f_t(w) N(mu + tau w, sigma^2) dw
sorted by age; r_{t+1} is the firing probability at t. The integral (1) is a Gauss-Legendre sum whose panels end at V_th,
where alone the integrand is not smooth; everything else is an error function.

Equivariance. Multiply V_th, mu and sigma by a > 0: each law is the same but for the unit, so that coverage by a kappa that
is multiplied by a stays. For a whole network with tdBN before every neuron, hard or soft reset, LIF or PLIF, whose kappa is
in units of V_th (adaptive, first, later, geometric, exact, empirical, "2 V_th"), METHOD.md proves by which power of a what
is multiplied:

    a^1      x, u, v, kappa
    a^0      spikes, windows, ds, logits, loss, gradients of weights, gamma and w
    a^-1     the surrogate, du, dx; beta's gradient, which under norm_shift "beta V_th" is a^0 too

With that convention training by SGD or Adam is the same at every threshold, and for a = 2^k the same bits. A fixed kappa, the
peak-1 surrogate, plain batch norm and neurons without a norm break it.
"""

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.special import ndtr

from . import validate
from .conventions import MPD_AGL

NODES = 16  # Gauss-Legendre nodes per panel
PANEL = 4.0  # length of a panel, in sigma
REACH = 8.5  # standard deviations that the panels cover to each side: 2e-17 of a Gaussian lies beyond
MAX_NODES = 2048  # of all panels together, at one age
MAX_WORK = 2e9  # exponentials in all: about a minute
SHARPEST = 1e-6  # sigma over the largest potential, below which rounding of u spoils (u - mu) / sigma


@dataclass(frozen=True)
class Law:
    """The law of u_t for t = 1..T, as a mixture of Gaussians.

    u_t has the density sum_j mixing[t, j] g_j(z), and part j is g_j(z) = sum_i weights[i] N(z; centres[i], std^2).

    Attributes
    ----------
    mean, std, firing_probability : ndarray (T,)
        Of u_t; the firing probability is P(u_t >= V_th).

    Examples
    --------
    >>> law = hard_reset(mu=0.0, sigma=0.5, decay=0.5, v_th=0.5, T=3)
    >>> law.std.round(6), law.firing_probability.round(6)
    (array([0.5     , 0.53273 , 0.539262]), array([0.158655, 0.146066, 0.137887]))
    >>> law.coverage(2 * law.std).round(3)                       # windows of one standard deviation to each side
    array([0.477, 0.462, 0.451])
    """

    v_th: float
    parts: tuple  # (weights (n,), centres (n,), std) of each part
    mixing: np.ndarray  # (T, parts)

    @cached_property
    def _moments(self):
        """(mass, mean, variance) of each part, each normalised by its mass: three arrays (parts,)."""
        mass = np.array([weights.sum() for weights, _, _ in self.parts])
        mean, variance = np.zeros((2, len(mass)))
        for j, (weights, centres, std) in enumerate(self.parts):
            if mass[j] > 0:
                mean[j] = weights @ centres / mass[j]
                variance[j] = weights @ (centres - mean[j]) ** 2 / mass[j] + std * std
        return mass, mean, variance

    @cached_property
    def mean(self):
        mass, mean, _ = self._moments
        return self.mixing @ (mass * mean)

    @cached_property
    def std(self):
        mass, mean, variance = self._moments
        between = (mean - self.mean[:, None]) ** 2  # (T, parts)
        return np.sqrt((self.mixing * mass * (variance + between)).sum(axis=1))

    @cached_property
    def firing_probability(self):
        return self.mixing @ np.array(
            [weights @ _above(self.v_th, centres, std) for weights, centres, std in self.parts]
        )

    def coverage(self, width):
        """Probability of |u_t - V_th| < kappa_t / 2: (T,).

        Parameters
        ----------
        width : float or ndarray (T,)
            kappa_t >= 0.

        Raises
        ------
        ValueError, TypeError
            For a negative width, or one that is neither a number nor of shape (T,).
        """
        T = len(self.mixing)
        if not isinstance(width, np.ndarray) or width.ndim == 0:
            width = np.full(T, validate.number("width", width, low=0))
        validate.float_array("width", width)
        validate.same_shape("width", width, (T,), "the timesteps")
        if (width < 0).any():
            raise ValueError(f"width: expected kappa >= 0 at each t, received {width.min()}; 0 closes the window")
        half = width.astype(np.float64)[:, None] / 2
        inside = [_within(self.v_th, half, centres, std) @ weights for weights, centres, std in self.parts]
        return (self.mixing * np.stack(inside, axis=1)).sum(axis=1)

    def density(self, z):
        """f_t(z) for each of the potentials z (n,): ndarray (T, n). ValueError where sigma = 0: there is no density."""
        validate.same_shape("z", validate.float_array("z", z), (np.size(z),), "a list of potentials")
        if any(std == 0 for _, _, std in self.parts):
            raise ValueError(
                "sigma: expected a number > 0 for a density, received 0; the potential is no random number"
            )
        z = z.astype(np.float64)
        return self.mixing @ np.stack([_mixture(z, weights, centres, std) for weights, centres, std in self.parts])


def _above(z, centres, std):
    """P(N(centre, std^2) >= z) for each centre."""
    if std == 0:
        return (centres >= z).astype(np.float64)
    return ndtr((centres - z) / std)


def _within(v_th, half, centres, std):
    """P(|N(centre, std^2) - V_th| < half) for each centre; the open interval matters only where std = 0."""
    if std == 0:
        return (np.abs(centres - v_th) < half).astype(np.float64)
    return ndtr((v_th + half - centres) / std) - ndtr((v_th - half - centres) / std)


def _mixture(z, weights, centres, std):
    """sum_i weights[i] N(z; centres[i], std^2) at each z (n,)."""
    r = (z[:, None] - centres) / std
    return np.exp(-0.5 * r * r) @ (weights / (std * math.sqrt(2 * math.pi)))


# --- closed forms -----------------------------------------------------------------------------------------------------


def _checked(mu, sigma, decay, v_th, T):
    return (
        validate.number("mu", mu),
        validate.number("sigma", sigma, low=0),
        validate.decay(decay),
        validate.number("v_th", v_th, low=0, low_open=True),
        validate.integer("T", T),
    )


def _geometric(a, T):
    """D(a, t) = 1 + a + ... + a^(t-1) for t = 1..T."""
    return np.cumsum(a ** np.arange(T))


def _gaussian(mu, sigma, v_th, growth, growth_of_variance):
    """The Law of N(mu D, sigma^2 D2) with these D, D2 (T,)."""
    one = np.ones(1)
    stds = sigma * np.sqrt(growth_of_variance)
    parts = tuple((one, mu * one * d, float(std)) for d, std in zip(growth, stds, strict=True))
    return Law(v_th, parts, np.eye(len(growth)))


def theorem1(mu, sigma, decay, v_th, T):
    """The law that Theorem 1 of the paper gives: Gaussian, of standard deviation sigma at t = 1 and
    sqrt(1 + tau^2) sigma for t >= 2.

    It is exact at t = 1, and at t = 2 if nothing resets v. Beyond that it is an approximation twice over: it leaves out
    the reset, which makes the law no Gaussian and (for mu <= 0) narrower, and it stops the geometric sum of the leak
    after two terms. The mean is taken to stop there too: mu at t = 1, (1 + tau) mu for t >= 2.

    Parameters
    ----------
    mu, sigma : float
        Mean and standard deviation of the input current, sigma >= 0. With tdBN: beta_bar and gamma_bar alpha V_th.
    decay : float
        Leak factor tau in [0, 1]; 1 is the neuron that integrates without a leak (IF).
    v_th : float
        Threshold, > 0.
    T : int
        Timesteps, >= 1.

    Returns
    -------
    Law

    Raises
    ------
    ValueError, TypeError
        For values outside these ranges.

    Source: Jiang et al., IJCAI 2025, Theorem 1.
    """
    mu, sigma, decay, v_th, T = _checked(mu, sigma, decay, v_th, T)
    first_two = np.minimum(np.arange(T), 1)
    return _gaussian(mu, sigma, v_th, _geometric(decay, 2)[first_two], _geometric(decay * decay, 2)[first_two])


def no_reset(mu, sigma, decay, v_th, T):
    """The exact law if a spike does not reset v: N(mu D(tau, t), sigma^2 D(tau^2, t)).

    Parameters, result and errors as for `theorem1`, which is this at t = min(t, 2).
    """
    mu, sigma, decay, v_th, T = _checked(mu, sigma, decay, v_th, T)
    return _gaussian(mu, sigma, v_th, _geometric(decay, T), _geometric(decay * decay, T))


# --- exact laws with a reset ------------------------------------------------------------------------------------------


def hard_reset(mu, sigma, decay, v_th, T, nodes=NODES):
    """The exact law with the hard reset, equations (1) to (4) above.

    With the default nodes the error of probabilities is below 1e-10, that of mean and standard deviation below 1e-10 of
    the largest potential. sigma = 0 is the deterministic neuron.

    Parameters
    ----------
    mu, sigma, decay, v_th, T
        As for `theorem1`.
    nodes : int
        Gauss-Legendre nodes in each panel of 4 sigma; fewer are faster and less exact.

    Returns
    -------
    Law
        Part j is g_j, the neurons of age j.

    Raises
    ------
    ValueError, TypeError
        For values outside these ranges; for 0 < sigma < 1e-6 max(|mu| D(tau, T), V_th), where rounding spoils the
        result, and for a tau so close to 1 and a T so large (0.9999 and 5000, say) that it would take minutes: unless the
        mean potential keeps 8.5 standard deviations away from V_th. Then the law is Gaussian but for 2e-17 of the neurons,
        and is given as that.

    Source: METHOD.md, "Theory beyond the paper".
    """
    mu, sigma, decay, v_th, T = _checked(mu, sigma, decay, v_th, T)
    low, high, largest = _bounds(mu, sigma, decay, v_th, T)
    high = np.minimum(high, v_th)
    problem = _problem(low, high, largest, sigma, nodes)
    if problem:
        return _narrow(mu, sigma, decay, v_th, T, False, problem)
    weights, centres = np.ones(1), np.full(1, mu)
    parts, fires = [], np.zeros(T)
    for j in range(T):
        parts.append((weights, centres, sigma))
        fires[j] = weights @ _above(v_th, centres, sigma)  # (2)
        if low[j] >= high[j]:
            break  # every neuron has fired by this age
        w, q = _panels(low[j], high[j], sigma, nodes)
        weights, centres = q * _mixture(w, weights, centres, sigma), mu + decay * w  # (1)
    return Law(v_th, tuple(parts), _by_age(fires)[:, : len(parts)])


def _by_age(fires):
    """mixing[t, j] = r_{t-j+1}, the share of neurons that at t are of age j, from h_j: (T, T)."""
    T = len(fires)
    renewed = np.ones(T)  # r_1..r_T
    mixing = np.zeros((T, T))
    for t in range(T):
        mixing[t, : t + 1] = renewed[t::-1]  # (4)
        if t + 1 < T:
            renewed[t + 1] = mixing[t] @ fires  # (3)
    return mixing


def soft_reset(mu, sigma, decay, v_th, T, nodes=NODES):
    """The exact law with the soft reset, v_t = u_t - V_th s_t. No neuron forgets, so the recursion is over t itself:

        f_{t+1}(z) = integral f_t(w) N(z; mu + tau (w - V_th [w >= V_th]), sigma^2) dw

    Parameters, result and errors as for `hard_reset`; part t is f_t. Panels cover all potentials that occur, so a sigma
    below V_th / 1000 or so may need too many nodes and is refused.
    """
    mu, sigma, decay, v_th, T = _checked(mu, sigma, decay, v_th, T)
    low, high, largest = _bounds(mu, sigma, decay, v_th, T)
    low = np.minimum.accumulate(low)  # v >= 0 after a spike, so no path goes below one that starts at age 1
    problem = _problem(low, high, largest, sigma, nodes)
    if problem:
        return _narrow(mu, sigma, decay, v_th, T, True, problem)
    parts = [(np.ones(1), np.full(1, mu), sigma)]
    for t in range(T - 1):
        below, q_below = _panels(low[t], min(v_th, high[t]), sigma, nodes)
        above, q_above = _panels(max(v_th, low[t]), high[t], sigma, nodes)
        w, q = np.concatenate([below, above]), np.concatenate([q_below, q_above])
        v = np.concatenate([below, above - v_th])
        parts.append((q * _mixture(w, *parts[-1]), mu + decay * v, sigma))
    return Law(v_th, tuple(parts), np.eye(T))


def _narrow(mu, sigma, decay, v_th, T, soft, problem):
    """The law of a potential that keeps clear of V_th: Gaussian around the path of sigma = 0, wider with each timestep since
    a hard reset. ValueError with the problem that no quadrature solves if it comes close.
    """
    path, growth, v, carried = [], [], 0.0, 0.0
    for _ in range(T):
        path.append(decay * v + mu)
        growth.append(1.0 + decay * decay * carried)
        fires = path[-1] >= v_th
        v = path[-1] - v_th * fires if soft else path[-1] * (not fires)
        carried = growth[-1] if soft or not fires else 0.0
    stds = sigma * np.sqrt(growth)
    near = (np.abs(np.array(path) - v_th) < REACH * stds)[:-1]  # whether it fires at T, no later potential tells
    if near.any():
        raise ValueError(
            f"{problem}. There is a closed form where the mean potential is {REACH} standard deviations from V_th, which it "
            f"is not at t = {np.argmax(near) + 1}; use width 'adaptive' or 'geometric', or move beta"
        )
    parts = tuple((np.ones(1), np.full(1, u), float(std)) for u, std in zip(path, stds, strict=True))
    return Law(v_th, parts, np.eye(T))


def _bounds(mu, sigma, decay, v_th, T):
    """Where u lies at age j = 1..T, but for 2e-17 of the neurons: (low, high), each (T,), and the largest potential.

    g_j is nowhere larger than the density without reset, so the latter's tails bound it.
    """
    middle, reach = mu * _geometric(decay, T), REACH * sigma * np.sqrt(_geometric(decay * decay, T))
    return middle - reach, middle + reach, max(np.abs(middle).max(), v_th)


def _problem(low, high, largest, sigma, nodes):
    """Why the quadrature over these intervals (T,) is not possible; None if it is."""
    nodes = validate.integer("nodes", nodes)
    if sigma < SHARPEST * largest:
        return f"sigma: expected 0 or at least {SHARPEST:g} of the largest potential, {largest:.6g}, received {sigma}"
    needed = nodes * np.ceil(np.maximum(high - low, 0) / (PANEL * sigma))
    if needed.max() > MAX_NODES or (needed * needed).sum() > MAX_WORK:
        return (
            f"sigma, decay, T: expected a law of at most {MAX_NODES} quadrature nodes and {MAX_WORK:g} exponentials, "
            f"received one of {needed.max():.0f} and {(needed * needed).sum():.3g}; raise sigma, lower decay or T"
        )
    return None


@cache
def _legendre(nodes):
    return np.polynomial.legendre.leggauss(nodes)


def _panels(low, high, sigma, nodes):
    """Nodes and weights of Gauss-Legendre panels over [low, high]: two arrays, empty where low >= high."""
    x, q = _legendre(nodes)
    panels = max(0, math.ceil((high - low) / (PANEL * sigma)))
    half = (high - low) / max(panels, 1) / 2
    middles = low + half * (2 * np.arange(panels) + 1)
    return (middles[:, None] + half * x).ravel(), np.tile(half * q, panels)


# --- the law of a layer -----------------------------------------------------------------------------------------------


def law_of_layer(gamma, beta, v_th, decay, T, conventions=MPD_AGL, alpha=1.0, law="exact"):
    """The law of a layer's u_t as its tdBN predicts it: mu = beta_bar, sigma = |gamma_bar| alpha V_th.

    gamma_bar and beta_bar are means over channels. So the prediction leaves out that channels differ in gamma and beta,
    that the norm's eps makes sigma a little smaller, and that inputs of consecutive timesteps are not independent (an
    image repeated at every timestep makes them equal in the first layer).

    Parameters
    ----------
    gamma, beta : ndarray (C,), float32 or float64
    v_th, decay, T
        As for `theorem1`.
    conventions : Conventions
        Reads `reset` (which exact law; "soft late" has none), `input_scale` (mu and sigma are times 1 - tau),
        `norm_scale` (under "1", sigma = |gamma_bar|) and `norm_shift` (under "beta V_th", mu = V_th beta_bar).
    alpha : float
    law : {"exact", "theorem1"}

    Returns
    -------
    Law

    Raises
    ------
    ValueError, TypeError
        As for `hard_reset`.
    """
    for name, array in (("gamma", gamma), ("beta", beta)):
        validate.float_array(name, array)
    validate.same_shape("beta", beta, gamma.shape, "gamma")
    v_th = validate.number("v_th", v_th, low=0, low_open=True)
    validate.conventions(conventions)
    validate.one_of("law", law, ("exact", "theorem1"))
    decay = validate.decay(decay, conventions)
    scale = 1.0 if conventions.norm_scale == "1" else validate.number("alpha", alpha, low=0, low_open=True) * v_th
    gain = 1.0 if conventions.input_scale == "1" else 1.0 - decay
    shift = v_th if conventions.norm_shift == "beta V_th" else 1.0
    mu = gain * shift * float(np.mean(beta, dtype=np.float64))
    sigma = gain * scale * abs(float(np.mean(gamma, dtype=np.float64)))
    laws = {"hard": hard_reset, "soft": soft_reset, "none": no_reset}
    if law == "exact" and conventions.reset not in laws:
        raise ValueError(
            f"conventions.reset: expected one of {', '.join(map(repr, laws))} for the exact law, received "
            f"{conventions.reset!r}; use law='theorem1' or another width rule"
        )
    exact = laws.get(conventions.reset)
    return (exact if law == "exact" else theorem1)(mu, sigma, decay, v_th, T)
