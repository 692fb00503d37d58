"""Losses on logits (T, N, K), L1 to L6: cross-entropy of the logits reduced over time, TET, and the squared error.

Cross-entropy is -log softmax(z)[label], averaged over the N samples, with z the mean (default), sum or last of the
logits over T. TET (Deng et al., ICLR 2022, temporal efficient training) takes the cross-entropy at every timestep,
mixed with a mean-squared pull of all logits to one target. The squared error is that of z and the one-hot label.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL, Conventions

LOSSES = ("ce", "tet", "mse")


@dataclass(frozen=True)
class Loss:
    """A loss of a network's logits, for `Network.loss_and_grads`; "ce" stands for Loss("ce").

    Parameters
    ----------
    name : {"ce", "tet", "mse"}
        Cross-entropy of the logits reduced over time; TET; the mean of (z - target)^2 over samples and classes, with z the
        logits reduced over time.
    class_weights : sequence of K positive numbers, optional
        What a sample of each class counts. As in PyTorch the loss is divided by the weights of its samples' labels, and
        with label smoothing each class's share of the cross-entropy has that class's weight.
    label_smoothing : float in [0, 1)
        eps of the target (1 - eps) onehot + eps / K. With weights and smoothing, for w the class weights:

            loss = -sum_{n,k} w_k target_{n,k} log p_{n,k} / sum_n w[label_n]
            dz_{n,k} = (p_{n,k} sum_j w_j target_{n,j} - w_k target_{n,k}) / sum_n w[label_n]
    lam, pull : float
        Of TET: the pull's share in [0, 1], and where it pulls the logits. With lam = 0 TET is the cross-entropy of every
        timestep, averaged over time.

    Raises ValueError or TypeError for other values.
    """

    name: str = "ce"
    class_weights: tuple | None = None
    label_smoothing: float = 0.0
    lam: float = 1e-3
    pull: float = 1.0

    def __post_init__(self):
        validate.one_of("loss", self.name, LOSSES)
        if self.class_weights is not None:
            weights = validate.sequence("class_weights", self.class_weights)
            if not weights:
                raise ValueError("class_weights: expected a number for each class, received none; leave them out")
            object.__setattr__(self, "class_weights", tuple(
                validate.number("class_weights", w, low=0, low_open=True, dtype=np.float32) for w in weights
            ))  # fmt: skip
        smoothing = validate.number("label_smoothing", self.label_smoothing, low=0, high=1, high_open=True)
        object.__setattr__(self, "label_smoothing", smoothing)
        object.__setattr__(self, "lam", validate.number("lam", self.lam, low=0, high=1))
        object.__setattr__(self, "pull", validate.number("pull", self.pull))

    @property
    def plain(self):
        """Whether the target is the one-hot label, and every sample counts alike."""
        return self.class_weights is None and self.label_smoothing == 0

    def targets(self, labels, K, dtype):
        """(1 - eps) onehot + eps / K (N, K), and the weights (K,)."""
        weights = np.ones(K, dtype) if self.class_weights is None else np.array(self.class_weights, dtype)
        target = np.full((len(labels), K), self.label_smoothing / K, dtype)
        target[np.arange(len(labels)), labels] += 1 - self.label_smoothing
        return target, weights

    def require_classes(self, K):
        """Refuse class weights of another number of classes. Raises ValueError."""
        if self.class_weights is not None and len(self.class_weights) != K:
            raise ValueError(
                f"class_weights: expected {K} numbers, one for each class, received {len(self.class_weights)}; change them"
            )


def named(loss):
    """The `Loss` itself, or the one of that name."""
    return loss if isinstance(loss, Loss) else Loss(loss)


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


def check_logits(logits, labels, finite):
    validate.float_array("logits", logits, min_ndim=3, finite=finite)
    if logits.ndim != 3:
        raise ValueError(f"logits: expected shape (T, N, K), received {logits.shape}; reshape them")
    return validate.labels(labels, logits.shape[1], logits.shape[2], len(logits))


def entropies(z, labels, loss):
    """-sum_k q_k log p_k of each sample (..., N), its gradient by z (..., N, K), and what their sums are divided by."""
    shifted, rows = z - z.max(axis=-1, keepdims=True), np.arange(len(labels))
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # (L2)
    if loss.plain:
        dz = np.exp(log_p)
        dz[..., rows, labels] -= 1
        return -log_p[..., rows, labels], dz, len(labels)
    target, weights = loss.targets(labels, z.shape[-1], z.dtype)
    q = weights * target
    return -(q * log_p).sum(axis=-1), np.exp(log_p) * q.sum(axis=-1, keepdims=True) - q, float(weights[labels].sum())


def cross_entropy(logits, labels, conventions, loss=Loss("ce")):
    """`cross_entropy_forward` without validation."""
    each, dz, count = entropies(reduce_logits(logits, conventions), labels, loss)
    return float(each.sum() / count), CrossEntropyCache(dz / count, len(logits), conventions)  # (L3)


def squared_error(logits, labels, conventions, loss):
    """(loss, cache) of the mean of (z - target)^2; the cache is the one of cross-entropy, for the same logits z."""
    z = reduce_logits(logits, conventions)
    target, weights = loss.targets(labels, z.shape[1], z.dtype)
    off, w = z - target, weights[labels][:, None]
    count = float(w.sum()) * z.shape[1]
    return float((w * off * off).sum() / count), CrossEntropyCache(2 * w * off / count, len(logits), conventions)


def cross_entropy_gradient(cache):
    """dlogits (T, N, K): (softmax - onehot) / N at each t, over T for the mean, at the last t alone for the last."""
    dz, T, conventions = cache
    if conventions.readout == "last":
        dlogits = np.zeros((T, *dz.shape), dz.dtype)
        dlogits[-1] = dz
        return dlogits
    share = dz / T if conventions.readout == "mean" else dz  # (L4)
    return np.repeat(share[None], T, axis=0)


def tet(logits, labels, loss):
    """`tet_forward` without validation."""
    logits, lam = np.ascontiguousarray(logits), loss.lam
    each, dlogits, count = entropies(logits, labels, loss)
    count, off = len(logits) * count, logits - logits.dtype.type(loss.pull)
    value = (1 - lam) * (each.sum() / count) + lam * (off * off).mean()  # (L5)
    dlogits *= logits.dtype.type((1 - lam) / count)
    dlogits += logits.dtype.type(2 * lam / logits.size) * off  # (L6)
    return float(value), TETCache(dlogits)


def of_network(logits, labels, loss, conventions):
    """(loss, dlogits) of a `Loss` or its name. Logits need not be finite: it is the trainer that finds out why."""
    loss = named(loss)
    validate.conventions(conventions)
    labels = check_logits(logits, labels, finite=False)
    loss.require_classes(logits.shape[2])
    if loss.name == "tet":
        value, cache = tet(logits, labels, loss)
        return value, cache.dlogits
    value, cache = (cross_entropy if loss.name == "ce" else squared_error)(logits, labels, conventions, loss)
    return value, cross_entropy_gradient(cache)
