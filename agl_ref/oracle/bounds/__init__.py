"""The reference's values with derived error bounds, and the margins of its spikes and windows.

reference.py            a Reference of a network, an op or a golden case: values, bounds, margins
ops.py                  the table of ops: each by the engine, and replayed with rounding errors
replay_neurons.py       the functions of agl_ref.reference with rounding errors: surrogate, width and neuron
replay_layers.py        what lies between neurons; replay_network.py: whole networks
margins.py              how far each spike is from flipping; tolerance.py: how large rounding errors are
teacher_forcing.py      the backward pass from an implementation's own forward values
decide_windows.py       which neurons it then had inside their windows, where rounding alone decides
"""
