"""Losses on logits (T, N, K): cross-entropy of the logits reduced over time, and TET.

Cross-entropy is -log softmax(z)[label], averaged over the N samples, with z the mean (default), sum or last of the
logits over T. TET (Deng et al., ICLR 2022, temporal efficient training) takes the cross-entropy at every timestep,
mixed with a mean-squared pull of all logits to one target.
"""

from typing import NamedTuple

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL, Conventions


class CrossEntropyCache(NamedTuple):
    """softmax minus one-hot, divided by N: the gradient with respect to the reduced logits (N, K)."""

    dz: np.ndarray
    T: int
    conventions: Conventions


class TETCache(NamedTuple):
    """The gradient (T, N, K) itself: the loss is a plain sum over timesteps."""

    dlogits: np.ndarray


def reduce_logits(logits, conventions=MPD_AGL):
    """Logits (T, N, K) to (N, K): mean over time, sum, or the last timestep, as `conventions.readout` says."""
    if conventions.readout == "mean":
        return logits.mean(axis=0)
    return logits.sum(axis=0) if conventions.readout == "sum" else logits[-1].copy()


def _log_softmax(z):
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _check_logits(logits, labels, finite):
    validate.float_array("logits", logits, min_ndim=3, finite=finite)
    if logits.ndim != 3:
        raise ValueError(f"logits: expected shape (T, N, K), received {logits.shape}; reshape them")
    return validate.labels(labels, logits.shape[1], logits.shape[2])


def cross_entropy_forward(logits, labels, conventions=MPD_AGL):
    """Mean over samples of -log softmax(reduced logits)[label].

    Parameters
    ----------
    logits : ndarray (T, N, K), float32 or float64
    labels : integer array (N,), 0..K-1
    conventions : Conventions
        Reads `readout`.

    Returns
    -------
    loss : float
    cache : CrossEntropyCache

    Raises
    ------
    ValueError, TypeError
        For a wrong rank or dtype, values that are not finite, or labels outside the classes.

    Examples
    --------
    >>> import numpy as np
    >>> loss, _ = cross_entropy_forward(np.zeros((2, 1, 4)), np.array([3]))
    >>> round(loss, 6)  # log 4
    1.386294
    """
    validate.conventions(conventions)
    return _cross_entropy(logits, _check_logits(logits, labels, finite=True), conventions)


def _cross_entropy(logits, labels, conventions):
    """`cross_entropy_forward` without validation."""
    N = len(labels)
    log_p = _log_softmax(reduce_logits(logits, conventions))
    dz = np.exp(log_p)
    dz[np.arange(N), labels] -= 1
    return float(-log_p[np.arange(N), labels].mean()), CrossEntropyCache(dz / N, len(logits), conventions)


def cross_entropy_backward(cache):
    """dlogits (T, N, K): (softmax - onehot) / N at each t, over T for the mean, at the last t alone for the last."""
    validate.cache_of(cache, CrossEntropyCache, "cross_entropy_forward")
    dz, T, conventions = cache
    if conventions.readout == "last":
        dlogits = np.zeros((T, *dz.shape), dz.dtype)
        dlogits[-1] = dz
        return dlogits
    share = dz / T if conventions.readout == "mean" else dz
    return np.repeat(share[None], T, axis=0)


def tet_forward(logits, labels, lam=1e-3, target=1.0):
    """(1 - lam) mean_t CE(logits_t, labels) + lam mean((logits - target)^2).

    Parameters
    ----------
    logits, labels
        As for `cross_entropy_forward`.
    lam : float
        Share of the regulariser, in [0, 1].
    target : float
        Where the regulariser pulls the logits.

    Returns loss (float) and TETCache; errors as for `cross_entropy_forward`.
    """
    labels = _check_logits(logits, labels, finite=True)
    lam = validate.number("lam", lam, low=0, high=1)
    return _tet(logits, labels, lam, validate.number("target", target))


def _tet(logits, labels, lam=1e-3, target=1.0):
    """`tet_forward` without validation."""
    T, N, _ = logits.shape
    log_p = _log_softmax(logits)
    rows = np.arange(N)
    off = logits - logits.dtype.type(target)
    loss = (1 - lam) * -log_p[:, rows, labels].mean() + lam * (off * off).mean()
    dlogits = np.exp(log_p)
    dlogits[:, rows, labels] -= 1
    dlogits *= logits.dtype.type((1 - lam) / (T * N))
    dlogits += logits.dtype.type(2 * lam / logits.size) * off
    return float(loss), TETCache(dlogits)


def tet_backward(cache):
    """dlogits (T, N, K) of `tet_forward`."""
    validate.cache_of(cache, TETCache, "tet_forward")
    return cache.dlogits.copy()


def of_network(logits, labels, loss, conventions):
    """(loss, cache, backward) by name, "ce" or "tet". Logits need not be finite: it is the trainer that finds out why."""
    labels = _check_logits(logits, labels, finite=False)
    if loss == "ce":
        return *_cross_entropy(logits, labels, conventions), cross_entropy_backward
    return *_tet(logits, labels), tet_backward
