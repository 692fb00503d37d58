"""Cross-entropy and TET, validated. They are computed in `agl_ref.engine.loss`."""

from agl_ref import validate
from agl_ref.conventions import MPD_AGL
from agl_ref.engine import loss


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
    return loss.cross_entropy(logits, loss.check_logits(logits, labels, finite=True), conventions)


def cross_entropy_backward(cache):
    """dlogits (T, N, K): (softmax - onehot) / N at each t, over T for the mean, at the last t alone for the last."""
    validate.cache_of(cache, loss.CrossEntropyCache, "cross_entropy_forward")
    return loss.cross_entropy_gradient(cache)


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
    labels = loss.check_logits(logits, labels, finite=True)
    lam, target = validate.number("lam", lam, low=0, high=1), validate.number("target", target, dtype=logits.dtype)
    return loss.tet(logits, labels, loss.Loss("tet", lam=lam, pull=target))


def tet_backward(cache):
    """dlogits (T, N, K) of `tet_forward`."""
    validate.cache_of(cache, loss.TETCache, "tet_forward")
    return cache.dlogits.copy()
