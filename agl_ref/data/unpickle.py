"""Restricted unpickler for CIFAR-10's "python" batches: arrays, bytes, lists and dicts, and nothing else.

`pickle.load` runs whatever the file asks for. Here a first pass over the file refuses every opcode that a batch does not
need, and the names that remain are never looked up: each of them stands for one of the classes below, which imitate the
four calls that NumPy and Python write for an array and for bytes, and check their arguments.
"""

import io
import math
import pickle
import pickletools
import sys
import warnings

import numpy as np

ADMITTED_DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")  # whole numbers only, hence never objects
ADMITTED_OPCODES = frozenset(
    "PROTO FRAME STOP MARK REDUCE BUILD GLOBAL STACK_GLOBAL NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINSTRING "
    "SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE "
    "TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE BINGET "
    "LONG_BINGET".split()
)
MAX_OPCODES = 1_000_000  # a batch of 10,000 images has 60,000; each takes time to look at
MAX_TUPLES = 100  # a batch has about ten; hashing some 100,000 nested ones would overflow the C stack


class _Admitted:
    """What an admitted name stands for. Nothing can set an attribute of it: the pickle's BUILD finds this method."""

    __slots__ = ()

    def __setstate__(self, state):
        raise ValueError("it sets the state of something that is not an array")


class _Dtype(_Admitted):
    """What `numpy.dtype` was called with; its state adds the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code, align=False, copy=True):
        code = code.decode("latin-1") if isinstance(code, bytes) else code
        if code not in ADMITTED_DTYPES:
            shown = repr(code[:20]) if isinstance(code, str) else "that is not text"
            raise ValueError(f"expected an array of integers, received dtype {shown}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        if not (isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)):
            raise ValueError("expected a plain integer dtype, received one with fields or sub-arrays")
        order = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("expected a byte order, one of < > | =, received another one")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(_Admitted):
    """An array that `_reconstruct` has announced; its state brings shape, dtype and bytes."""

    __slots__ = ("array",)

    def __init__(self):
        self.array = None

    def __setstate__(self, state):
        if not (isinstance(state, tuple) and len(state) == 5):
            raise ValueError("expected an array's state of five parts, received something else")
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data, dtype, shape, order):
        order = order.decode("latin-1") if isinstance(order, bytes) else order
        if not (isinstance(dtype, _Dtype) and isinstance(data, (bytes, bytearray)) and order in ("C", "F")):
            raise ValueError("expected an array's dtype, bytes and order, received something else")
        if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 4):
            raise ValueError("expected an array's shape of at most four sizes >= 0, received something else")
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise ValueError(f"expected an array of shape {shape} and {dtype.dtype}, received {len(data)} bytes for it")
        self.array = np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order=order)


class _Reconstruct(_Admitted):
    """NumPy's `_reconstruct`: an array whose content follows."""

    def __new__(cls, kind, shape, code):
        if kind is not _Array:
            raise ValueError("expected _reconstruct to be called for an array, received something else")
        return _Array()


class _FromBuffer(_Admitted):
    """NumPy's `_frombuffer`: a whole array."""

    def __new__(cls, data, dtype, shape, order):
        result = _Array()
        result.fill(data, dtype, shape, order)
        return result


class _Encode(_Admitted):
    """`codecs.encode`: bytes that were written as text."""

    def __new__(cls, text, encoding):
        if type(text) is not str or encoding != "latin1":
            raise ValueError("expected bytes written as latin1, received another encoding")
        return text.encode("latin-1")


ADMITTED_NAMES = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _Reconstruct,  # NumPy 1, and all that Python 2 wrote
    "numpy._core.multiarray._reconstruct": _Reconstruct,  # NumPy 2
    "numpy.core.numeric._frombuffer": _FromBuffer,  # pickle protocol 5
    "numpy._core.numeric._frombuffer": _FromBuffer,
    "_codecs.encode": _Encode,  # how Python 3 writes bytes in protocol 2
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        name = f"{module}.{name}"
        if name not in ADMITTED_NAMES:
            raise ValueError(f"it asks for {name[:80]!r}, which is not admitted and was not run")
        return ADMITTED_NAMES[name]


def _require_admitted(data):
    """Refuse other opcodes, and what would make the unpickler itself run out of memory or stack."""
    tuples = 0
    for i, (opcode, argument, position) in enumerate(pickletools.genops(data)):
        if i == MAX_OPCODES:
            raise ValueError(f"expected at most {MAX_OPCODES} opcodes, received more")
        if opcode.name not in ADMITTED_OPCODES:
            raise ValueError(f"opcode {opcode.name} at byte {position} is not admitted")
        if opcode.name == "LONG_BINPUT" and argument > len(data):  # the memo is an array up to the largest index
            raise ValueError("damaged pickle: it numbers more objects than it can hold")
        if opcode.name == "LONG1" and abs(argument) >= sys.hash_info.modulus:  # such keys could all have one hash
            raise ValueError("expected integers of at most 61 bits, received a larger one")
        tuples += opcode.name.startswith("TUPLE")
        if tuples > MAX_TUPLES:
            raise ValueError(f"expected at most {MAX_TUPLES} tuples, received more")
    if position + 1 != len(data):
        raise ValueError("bytes follow the end of the pickle")


def read_pickled_dict(data):
    """The dict that a CIFAR-10 "python" batch holds, without running anything that the file names.

    Parameters
    ----------
    data : bytes
        The file's content: pickle protocol 2 to 5. Python 2's strings become bytes.

    Returns
    -------
    dict
        Keys are bytes. Values are arrays of integers, bytes, text, integers, lists or dicts.

    Raises
    ------
    ValueError
        For anything else: another name or opcode, arrays of objects, damage, truncation, trailing bytes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickletools warns of escapes in text opcodes, which are refused anyway
            _require_admitted(data)
        result = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, MemoryError) as error:
        raise ValueError(f"damaged pickle: {' '.join(str(error).split()) or type(error).__name__}") from None
    if type(result) is not dict:
        raise ValueError(f"expected a pickled dict, received a pickled {type(result).__name__.strip('_')}")
    values = {}
    for key, value in result.items():
        if type(key) not in (bytes, str):
            raise ValueError("it uses a dict key that is neither bytes nor text")
        key = key.encode() if isinstance(key, str) else key
        value = value.array if isinstance(value, _Array) else value
        if type(value) not in (np.ndarray, bytes, str, int, list, dict):
            raise ValueError(f"the value of {key[:40]!r} is neither array, bytes, list nor dict")
        values[key] = value
    return values
