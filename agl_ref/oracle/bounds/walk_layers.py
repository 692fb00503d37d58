"""The walk through a network's layers, forwards and backwards, for whatever is carried through them.

Layers are the descriptions of `agl_ref.oracle.descriptions`. A visitor has `forward(layer, x)`, `backward(layer, d, x)` for
every kind but residual blocks, whose two branches are walked here, and `add(a, b)`, by which these meet.
"""


def forward(visitor, layers, x):
    """(what comes out of the layers, what went into each of them)."""
    entered = []
    for layer in layers:
        if layer["kind"] != "residual":
            entered.append(x)
            x = visitor.forward(layer, x)
            continue
        body, in_body = forward(visitor, layer["body"], x)
        side, in_shortcut = forward(visitor, [layer["shortcut"]], x) if layer["shortcut"] else (x, None)
        entered.append((in_body, in_shortcut))
        x = visitor.add(body, side)  # (R1)
    return x, entered


def backward(visitor, layers, d, entered):
    """The gradient of what went into the layers, of d behind them; `entered` is from `forward`."""
    for layer, x in zip(reversed(layers), reversed(entered), strict=True):
        if layer["kind"] != "residual":
            d = visitor.backward(layer, d, x)
            continue
        in_body, in_shortcut = x
        body = backward(visitor, layer["body"], d, in_body)
        side = backward(visitor, [layer["shortcut"]], d, in_shortcut) if layer["shortcut"] else d
        d = visitor.add(body, side)  # (R2)
    return d
