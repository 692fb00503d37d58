"""The method of METHOD.md, fast, from the loops with the equations to networks that are ready to train.

surrogate.py, neuron.py, tdbn.py, conv.py, linear.py, loss.py, width.py   the equations, a file for each layer
ops/                                       the public pairs of forward and backward, which validate what they take
parts.py, blocks.py, network.py, models.py   layers with parameters, networks of them
optim.py, update.py                     optimisers, and their kernels
caches.py, jit.py, parallel.py, memory.py  what layers hand to each other; how kernels are compiled, shared out and fed
fast/                                      what only speed needs
"""

import ctypes


def _refuse_sub_interpreters():
    current = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyInterpreterState_Get", ctypes.pythonapi))
    number = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(("PyInterpreterState_GetID", ctypes.pythonapi))
    if number(current()) != 0:
        raise ImportError(
            "agl_ref.engine: expected Python's main interpreter, received a sub-interpreter, in which NumPy and Numba "
            "do not work; use a thread or a process"
        )


_refuse_sub_interpreters()
