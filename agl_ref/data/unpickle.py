"""Restricted unpickler for CIFAR-10's "python" batches: arrays, bytes, lists and dicts, and nothing else.

`pickle.load` runs whatever the file asks for. Nothing here can run: `pickletools.genops` splits the file into
opcodes and the loop below interprets the few that a batch needs. A name such as `numpy.ndarray` is never
imported, it stays a string; the four calls that NumPy and Python write for an array and for bytes are
imitated with the arguments checked.
"""

import io
import math
import pickletools
import warnings

import numpy as np

ARRAY, DTYPE, RECONSTRUCT, FROMBUFFER, ENCODE = (
    "ndarray",
    "dtype",
    "_reconstruct",
    "_frombuffer",
    "_codecs.encode",
)
ADMITTED_NAMES = {
    "numpy ndarray": ARRAY,
    "numpy dtype": DTYPE,
    "numpy.core.multiarray _reconstruct": RECONSTRUCT,  # NumPy 1, and all that Python 2 wrote
    "numpy._core.multiarray _reconstruct": RECONSTRUCT,  # NumPy 2
    "numpy.core.numeric _frombuffer": FROMBUFFER,  # pickle protocol 5
    "numpy._core.numeric _frombuffer": FROMBUFFER,
    "_codecs encode": ENCODE,  # how Python 3 writes bytes in protocol 2
}
ADMITTED_DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")  # whole numbers only, hence never objects

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
PYTHON2_STRINGS = {"BINSTRING", "SHORT_BINSTRING"}  # genops decodes them as latin-1
BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS, GETS = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}


class _Name(str):
    """One of the admitted names, told apart from text that spells the same."""


class _Dtype:
    """What `numpy.dtype` was called with; its state adds the byte order."""

    def __init__(self, code, align=False, copy=True):
        code = code.decode("latin-1") if isinstance(code, bytes) else code
        if code not in ADMITTED_DTYPES:
            shown = repr(code[:20]) if isinstance(code, str) else "that is not text"
            raise ValueError(f"expected an array of integers, received dtype {shown}")
        self.dtype = np.dtype(code)

    def build(self, state):
        if not (isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)):
            raise ValueError("expected a plain integer dtype, received one with fields or sub-arrays")
        order = state[1].decode("latin-1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("expected a byte order, one of < > | =, received another one")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array that `_reconstruct` has announced; its state brings shape, dtype and bytes."""

    array = None

    def build(self, state):
        if not (isinstance(state, tuple) and len(state) == 5):
            raise ValueError("expected an array's state of five parts, received something else")
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")
        return self

    def fill(self, data, dtype, shape, order):
        order = order.decode("latin-1") if isinstance(order, bytes) else order
        if not (isinstance(dtype, _Dtype) and isinstance(data, (bytes, bytearray)) and order in ("C", "F")):
            raise ValueError("expected an array's dtype, bytes and order, received something else")
        if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 4):
            raise ValueError("expected an array's shape of at most four sizes >= 0, received something else")
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise ValueError(f"expected an array of shape {shape} and {dtype.dtype}, received {len(data)} bytes for it")
        self.array = np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order=order)


def _call(name, arguments):
    """Imitates the admitted calls; refuses every other one."""
    if type(name) is not _Name or type(arguments) is not tuple:
        raise ValueError("expected a call of an admitted name, received another object")
    if name == RECONSTRUCT and len(arguments) == 3 and arguments[0] == ARRAY and isinstance(arguments[0], _Name):
        return _Array()
    if name == DTYPE and 1 <= len(arguments) <= 3:
        return _Dtype(*arguments)
    if name == FROMBUFFER and len(arguments) == 4:
        result = _Array()
        result.fill(*arguments)
        return result
    if name == ENCODE and len(arguments) == 2 and type(arguments[0]) is type(arguments[1]) is str:
        if arguments[1] != "latin1":
            raise ValueError("expected bytes written as latin1, received another encoding")
        return arguments[0].encode("latin-1")
    raise ValueError(f"the call of {name} with these arguments is not admitted")


def _admit(name):
    if name not in ADMITTED_NAMES:
        raise ValueError(f"it asks for {name.replace(' ', '.')[:80]!r}, which is not admitted and was not run")
    return _Name(ADMITTED_NAMES[name])


def _interpret(data):
    stack, marks, memo = [], [], {}
    stream = io.BytesIO(data)

    def pop_to_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, position in pickletools.genops(stream):
        op = opcode.name
        if op in INTEGERS:
            stack.append(argument)
        elif op in PUTS:
            memo[argument] = stack[-1]
        elif op == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif op in GETS:
            stack.append(memo[argument])
        elif op in PYTHON2_STRINGS:
            stack.append(argument.encode("latin-1"))
        elif op in TEXTS or op in BYTES:
            stack.append(argument)
        elif op in CONSTANTS:
            stack.append(CONSTANTS[op])
        elif op == "MARK":
            marks.append(len(stack))
        elif op in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if op == "EMPTY_DICT" else [])
        elif op in TUPLES:
            count = TUPLES[op]
            if len(stack) < count:
                raise IndexError
            items = tuple(stack[len(stack) - count :])
            del stack[len(stack) - count :]
            stack.append(items)
        elif op == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif op in ("APPEND", "APPENDS"):
            items = [stack.pop()] if op == "APPEND" else pop_to_mark()
            if type(stack[-1]) is not list:
                raise ValueError("it appends to something that is not a list")
            stack[-1].extend(items)
        elif op in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if op == "SETITEM" else pop_to_mark()
            if type(stack[-1]) is not dict or len(items) % 2:
                raise ValueError("it sets items of something that is not a dict")
            if not all(type(key) in (bytes, str) for key in items[::2]):  # nothing else is ever hashed
                raise ValueError("it uses a dict key that is neither bytes nor text")
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif op == "GLOBAL":
            stack.append(_admit(argument))
        elif op == "STACK_GLOBAL":
            module, name = stack[-2:]
            if not (type(module) is str and type(name) is str):
                raise ValueError("it names an object by something that is not text")
            stack[-2:] = [_admit(f"{module} {name}")]
        elif op == "REDUCE":
            arguments = stack.pop()
            stack[-1] = _call(stack[-1], arguments)
        elif op == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], (_Array, _Dtype)):
                raise ValueError("it sets the state of something that is not an array")
            stack[-1].build(state)
        elif op == "STOP":
            break
        elif op not in ("PROTO", "FRAME"):
            raise ValueError(f"opcode {op} at byte {position} is not admitted")
    if len(stack) != 1:
        raise IndexError
    if stream.read(1):
        raise ValueError("bytes follow the end of the pickle")
    return stack[0]


def read_pickled_dict(data):
    """The dict that a CIFAR-10 "python" batch holds, without running anything that the file says.

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
            result = _interpret(data)
    except (IndexError, KeyError):
        raise ValueError("damaged pickle: an opcode refers to something that is not there") from None
    if type(result) is not dict:
        raise ValueError(f"expected a pickled dict, received a pickled {type(result).__name__.strip('_')}")
    values = {}
    for key, value in result.items():
        key = key.encode() if isinstance(key, str) else key
        value = value.array if isinstance(value, _Array) else value
        if type(value) not in (np.ndarray, bytes, str, int, list, dict):
            raise ValueError(f"the value of {key[:40]!r} is neither array, bytes, list nor dict")
        values[key] = value
    return values
