"""The method of METHOD.md, fast: one file a layer, and the blocks, networks, models and optimisers made of them.

fast/ holds what only speed needs.
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
