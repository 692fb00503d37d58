"""Losses on logits (T, N, K), L1 to L6: cross-entropy of the logits reduced over time, and TET.

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
    validate.float_array("logits", logits, min_ndim=3, finite=False)
    validate.conventions(conventions)
    logits = np.ascontiguousarray(logits)  # the order of a sum, and so its bits, follow the memory layout
    if conventions.readout == "mean":
        return logits.mean(axis=0)  # (L1)
    return logits.sum(axis=0) if conventions.readout == "sum" else logits[-1].copy()


def log_softmax(z):
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # (L2)


def check_logits(logits, labels, finite):
    validate.float_array("logits", logits, min_ndim=3, finite=finite)
    if logits.ndim != 3:
        raise ValueError(f"logits: expected shape (T, N, K), received {logits.shape}; reshape them")
    return validate.labels(labels, logits.shape[1], logits.shape[2])


def cross_entropy(logits, labels, conventions):
    """`cross_entropy_forward` without validation."""
    N = len(labels)
    log_p = log_softmax(reduce_logits(logits, conventions))
    dz = np.exp(log_p)
    dz[np.arange(N), labels] -= 1
    loss = float(-log_p[np.arange(N), labels].mean())  # (L3)
    return loss, CrossEntropyCache(dz / N, len(logits), conventions)


def cross_entropy_gradient(cache):
    """dlogits (T, N, K): (softmax - onehot) / N at each t, over T for the mean, at the last t alone for the last."""
    dz, T, conventions = cache
    if conventions.readout == "last":
        dlogits = np.zeros((T, *dz.shape), dz.dtype)
        dlogits[-1] = dz
        return dlogits
    share = dz / T if conventions.readout == "mean" else dz  # (L4)
    return np.repeat(share[None], T, axis=0)


def tet(logits, labels, lam=1e-3, target=1.0):
    """`tet_forward` without validation."""
    T, N, _ = logits.shape
    logits = np.ascontiguousarray(logits)
    log_p = log_softmax(logits)
    rows = np.arange(N)
    off = logits - logits.dtype.type(target)
    loss = (1 - lam) * -log_p[:, rows, labels].mean() + lam * (off * off).mean()  # (L5)
    dlogits = np.exp(log_p)
    dlogits[:, rows, labels] -= 1
    dlogits *= logits.dtype.type((1 - lam) / (T * N))
    dlogits += logits.dtype.type(2 * lam / logits.size) * off  # (L6)
    return float(loss), TETCache(dlogits)


def of_network(logits, labels, loss, conventions):
    """(loss, dlogits) by name, "ce" or "tet". Logits need not be finite: it is the trainer that finds out why."""
    validate.one_of("loss", loss, ("ce", "tet"))
    validate.conventions(conventions)
    labels = check_logits(logits, labels, finite=False)
    if loss == "ce":
        value, cache = cross_entropy(logits, labels, conventions)
        return value, cross_entropy_gradient(cache)
    value, cache = tet(logits, labels)
    return value, cache.dlogits
