"""Two checks for kernels: outputs that were never written, and results that change from run to run. NumPy alone.

    out = poison(np.empty((T, n), np.float32))     # every element NaN, or a value that no kernel writes
    my_kernel(x, out)
    assert_written(out=out)                        # names the first element that the kernel left out

    assert_repeatable(lambda: my_op(x), runs=20)   # the same bits each time

Both take anything that `agl_ref.oracle` compares: NumPy arrays, PyTorch tensors on any device, JAX, CuPy.
"""

import numpy as np

from agl_ref.oracle.judge.dump import as_numpy

UNWRITTEN = 0x5A  # the byte that poisoned integers are made of


def _poison_of(dtype):
    """NaN for floating-point numbers, 0x5A5A... for integers, True for booleans."""
    if dtype.kind == "f":
        return np.array(np.nan, dtype)[()]
    if dtype.kind in "iu":
        return np.frombuffer(bytes([UNWRITTEN] * dtype.itemsize), dtype)[0]
    raise TypeError(f"buffer: expected floating-point numbers or integers, received {dtype}; poison it yourself")


def poison(buffer):
    """Fill an output buffer with what no kernel should leave: NaN, or bytes 0x5A in integers.

    Parameters
    ----------
    buffer : ndarray, torch.Tensor or cupy.ndarray
        Changed in place, on its device, whatever its strides. Subnormals and infinities are not used: a kernel may make
        those itself.

    Returns
    -------
    the same buffer

    Raises
    ------
    TypeError
        For what cannot be filled in place, or holds neither floating-point numbers nor integers.

    Examples
    --------
    >>> import numpy as np
    >>> poison(np.zeros(2))
    array([nan, nan])
    """
    if isinstance(buffer, np.ndarray):
        buffer[...] = _poison_of(buffer.dtype)
    elif hasattr(buffer, "is_floating_point"):  # PyTorch
        if buffer.is_floating_point():
            buffer.detach().fill_(float("nan"))
        else:
            buffer.fill_(int(_poison_of(np.dtype(str(buffer.dtype).removeprefix("torch.")))))
    elif hasattr(buffer, "__cuda_array_interface__") and hasattr(buffer, "fill"):  # CuPy
        buffer.fill(_poison_of(np.dtype(str(buffer.dtype))))
    else:
        raise TypeError(
            f"buffer: expected a NumPy or CuPy array or a PyTorch tensor, received {type(buffer).__name__}; an array that "
            "cannot be changed in place has nothing to poison"
        )
    return buffer


def assert_written(**buffers):
    """Raise AssertionError unless every element of every poisoned buffer was written.

    Parameters
    ----------
    **buffers : arrays
        By the names that the message should use.
    """
    __tracebackhide__ = True
    if not buffers:
        raise ValueError("assert_written: expected at least one buffer, received none; pass them by name")
    for name, buffer in buffers.items():
        array = buffer if isinstance(buffer, np.ndarray) else as_numpy(name, buffer)[0]  # bits of uint16 stay bits
        left = np.isnan(array) if array.dtype.kind == "f" else array == _poison_of(array.dtype)
        if left.any():
            index = tuple(int(i) for i in np.argwhere(left)[0])
            raise AssertionError(
                f"{name}: expected every element written, received {int(left.sum())} of {array.size} as they were "
                f"poisoned, the first at index {index}; look at the last, partial block of the kernel"
            )


def assert_repeatable(run, runs=10, before=None):
    """Raise AssertionError unless a kernel gives the same bits each time.

    Parameters
    ----------
    run : callable() -> array, sequence or {name: array}
    runs : int
        2 or more.
    before : callable(), optional
        Called before each run, e.g. to reset a seed or to poison a buffer.

    Returns
    -------
    {name: ndarray} of the first run

    Raises
    ------
    AssertionError
        With the array, index, run, and both values in hex; atomic additions in another order are the usual reason.
    """
    __tracebackhide__ = True
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 2:
        raise ValueError(f"runs: expected an integer >= 2, received {runs!r}; one run repeats nothing")
    first = None
    for number in range(1, runs + 1):
        if before is not None:
            before()
        arrays = _named(run())
        if first is None:
            first = {name: array.copy() for name, array in arrays.items()}
            continue
        if set(arrays) != set(first):
            raise AssertionError(f"run {number}: expected the arrays {sorted(first)}, received {sorted(arrays)}")
        for name, array in arrays.items():
            _same_bits(name, first[name], array, number)
    return first


def _named(result):
    if isinstance(result, dict):
        found = result
    elif isinstance(result, (tuple, list)):
        found = {f"output {i}": value for i, value in enumerate(result) if value is not None}
    else:
        found = {"output": result}
    if not found:
        raise ValueError("run: expected at least one array, received none; return what the kernel computed")
    return {name: np.ascontiguousarray(as_numpy(name, value)[0]) for name, value in found.items()}


def _same_bits(name, first, array, number):
    if (array.dtype, array.shape) != (first.dtype, first.shape):
        raise AssertionError(
            f"{name}: run {number} gave {array.dtype} {array.shape}, run 1 {first.dtype} {first.shape}"
        )
    if array.tobytes() == first.tobytes():
        return
    unsigned = f"u{array.dtype.itemsize}"
    differ = array.view(unsigned).ravel() != first.view(unsigned).ravel()
    at = int(np.argmax(differ))
    index = tuple(int(i) for i in np.unravel_index(at, array.shape))
    one, other = float(first.ravel()[at]), float(array.ravel()[at])
    raise AssertionError(
        f"{name}: run {number} differs from run 1 in {int(differ.sum())} of {array.size} elements, the first at index "
        f"{index}: {one!r} ({one.hex()}) and then {other!r} ({other.hex()}); look for atomic additions, or a race"
    )
