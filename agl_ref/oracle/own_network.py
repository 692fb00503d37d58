"""`Oracle`: the reference and the comparison for one network of your own."""

from .bounds.reference import reference
from .judge.compare import compare


class Oracle:
    """`reference` and `compare` for one network; for PyTorch's parameters load its state dict into `net` first.

    Parameters
    ----------
    net : Network
    loss, training, dtype
        As for `reference`.
    """

    def __init__(self, net, loss="ce", training=True, dtype="float32"):
        self.net, self.loss, self.training, self.dtype = net, loss, training, dtype

    def reference(self, x, labels=None, dlogits=None):
        """See `agl_ref.oracle.reference`."""
        return reference(self.net, x, labels, self.loss, self.training, self.dtype, dlogits=dlogits)

    def compare(self, reference, theirs, dtype=None, force=()):
        """See `agl_ref.oracle.compare`; the dtype is the oracle's own by default."""
        return compare(reference, theirs, dtype=dtype or self.dtype, force=force)
