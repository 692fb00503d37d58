"""Sums and matrix products in several orders: what two correct implementations may differ in.

    blas      NumPy's own: pairwise sums, the BLAS library's matrix products
    forward   one term after the other, first to last
    backward  one term after the other, last to first
    blocks    32 terms one after the other per block, then the blocks' sums in a tree, as a GPU reduces
    wide      in float64, rounded once

All orders of the same terms are equally right, so a tolerance that tells them apart is too tight.
"""

import numpy as np

ORDERS = ("blas", "forward", "backward", "blocks", "wide")
BLOCK = 32


def _tree(partial):
    """Sum over the first axis by halving it."""
    while len(partial) > 1:
        half = (len(partial) + 1) // 2
        low, high = partial[:half].copy(), partial[half:]
        low[: len(high)] += high
        partial = low
    return partial[0]


def _in_blocks(terms):
    """(blocks, BLOCK, ...) with zeros at the end; adding a zero is exact."""
    blocks = -(-len(terms) // BLOCK)
    padded = np.zeros((blocks * BLOCK, *terms.shape[1:]), terms.dtype)
    padded[: len(terms)] = terms
    return padded.reshape(blocks, BLOCK, *terms.shape[1:])


def total(a, order="blas", axes=None):
    """Sum of `a` over `axes` (all by default), in a's dtype.

    Parameters
    ----------
    a : ndarray, float32 or float64
    order : one of ORDERS
    axes : tuple of int, optional

    Returns
    -------
    ndarray of the axes that are left, C order
    """
    axes = tuple(range(a.ndim)) if axes is None else tuple(axis % a.ndim for axis in axes)
    left = [axis for axis in range(a.ndim) if axis not in axes]
    terms = np.ascontiguousarray(a.transpose(*axes, *left)).reshape(-1, *(a.shape[axis] for axis in left))
    if order == "wide":
        return np.asarray(terms.sum(axis=0, dtype=np.float64)).astype(a.dtype)
    if order == "blas":
        return np.asarray(terms.sum(axis=0))
    if order == "blocks":
        return np.asarray(_tree(np.add.accumulate(_in_blocks(terms), axis=1)[:, -1]))
    return np.asarray(np.add.accumulate(terms[::-1] if order == "backward" else terms, axis=0)[-1])


def product(a, b, order="blas"):
    """a (M, K) times b (K, N), each element's K terms summed in this order."""
    if order == "blas":
        return a @ b
    if order == "wide":
        return (a.astype(np.float64) @ b.astype(np.float64)).astype(a.dtype)
    K = a.shape[1]
    if order == "blocks":
        return _tree(np.stack([product(a[:, k : k + BLOCK], b[k : k + BLOCK], "forward") for k in range(0, K, BLOCK)]))
    y = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in reversed(range(K)) if order == "backward" else range(K):
        y += a[:, k : k + 1] * b[k]
    return y
