"""The walk over layers, by hand: the order of its visits, and where the branches of residual blocks meet."""

import pytest

from agl_ref.oracle.bounds import walk_layers

FACTORS = {"a": 2, "b": 3, "c": 5, "d": 7}


class Multiply:
    """Each block multiplies by its factor; what is visited is noted."""

    def __init__(self):
        self.seen = []

    def forward(self, layer, x):
        self.seen.append((layer["name"], x))
        return FACTORS[layer["name"]] * x

    def backward(self, layer, d, x):
        self.seen.append((layer["name"], d, x))
        return FACTORS[layer["name"]] * d

    def add(self, a, b):
        return a + b


@pytest.mark.parametrize(("shortcut", "factor"), [(None, 2 * (15 + 1)), ("d", 2 * (15 + 7))])
def test_both_directions_by_hand(shortcut, factor):
    a, b, c, d = ({"kind": "block", "name": name} for name in FACTORS)
    layers = [a, {"kind": "residual", "name": "r", "body": [b, c], "shortcut": shortcut and d}]
    visitor = Multiply()
    y, entered = walk_layers.forward(visitor, layers, 1)
    assert y == factor
    assert visitor.seen == [("a", 1), ("b", 2), ("c", 6)] + ([("d", 2)] if shortcut else [])
    visitor.seen.clear()
    assert walk_layers.backward(visitor, layers, 10, entered) == 10 * factor
    beside = [("d", 10, 2)] if shortcut else []
    assert visitor.seen == [("c", 10, 6), ("b", 50, 2), *beside, ("a", 10 * factor // 2, 1)]
