"""`Oracle`: the reference and the comparison for one network of your own."""

from agl_ref import validate
from agl_ref.engine.network import Network

from .bounds.reference import reference
from .judge.compare import compare
from .types import dtype_name


class Oracle:
    """`reference` and `compare` for one network; for PyTorch's parameters load its state dict into `net` first.

    Parameters
    ----------
    net : Network
    loss, training, dtype
        As for `reference`.
    """

    def __init__(self, net, loss="ce", training=True, dtype="float32"):
        validate.instance("net", net, Network, "build one with agl_ref.models")
        validate.one_of("loss", loss, ("ce", "tet"))
        validate.boolean("training", training)
        dtype_name(dtype)
        self.net, self.loss, self.training, self.dtype = net, loss, training, dtype

    def reference(self, x, labels=None, dlogits=None):
        """See `agl_ref.oracle.reference`."""
        return reference(self.net, x, labels, self.loss, self.training, self.dtype, dlogits=dlogits)

    def compare(self, reference, theirs, dtype=None, force=()):
        """See `agl_ref.oracle.compare`; the dtype is the oracle's own by default."""
        return compare(reference, theirs, dtype=self.dtype if dtype is None else dtype, force=force)
