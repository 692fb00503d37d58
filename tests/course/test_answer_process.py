"""What the process that runs answers does, tried in this one: messages, definitions, calls. Its fence: test_cheating.py."""

import json

import numpy as np
import pytest

from agl_ref.course.grading import answer_process
from agl_ref.course.grading.answer_process import decode, define, encode, parameters_of
from agl_ref.course.grading.diagnose import Stopped
from agl_ref.course.grading.isolated import AnswerProcess


def through_json(value):
    return decode(json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "uint64", "bool", "complex128", ">f8"])
def test_arrays_arrive_bit_by_bit(dtype):
    array = np.array([[0, 1, 3], [7, 100, 2]]).astype(dtype)
    for sent in (array, array.T, array[:0], array[:1, 1]):
        received = through_json(sent)
        assert received.dtype == sent.dtype and received.shape == sent.shape and (received == sent).all()
    assert through_json(np.float32(0.1)).dtype == np.float32 and through_json(np.float64(0.1)) == 0.1
    special = through_json(np.array([np.nan, -0.0, np.inf, 5e-324]))
    assert special.tobytes() == np.array([np.nan, -0.0, np.inf, 5e-324]).tobytes()


def test_other_values_keep_their_type():
    for value in (None, True, 3, 0.1, "text", (1, [2.5, None]), [()]):
        received = through_json(value)
        assert received == value and type(received) is type(value)
    assert np.isnan(through_json(float("nan")))
    assert through_json(np.array([None, "a"])).dtype == object and through_json(np.array([None, "a"])).shape == (2,)
    assert type(through_json({1: 2})).__name__ == "dict" and type(through_json(...)).__name__ == "ellipsis"
    assert decode(encode(len, [abs, len]), "f{}".format) == "f1"


def test_a_definition_takes_the_chosen_statements_and_does_without_what_fails():
    cells = [
        ("<a>", "from nowhere_at_all import x\nONE = 1\nboom()", [0, 1]),
        ("<b>", "def f(a, b=2, *, c):\n    return a + ONE", [0]),
    ]
    answer, failed = define("f", cells)
    assert answer(1, c=0) == 2 and isinstance(failed, ModuleNotFoundError)
    assert parameters_of(answer) == [("a", 1, False), ("b", 1, True), ("c", 3, False)] and parameters_of(int) is None
    with pytest.raises(ModuleNotFoundError):
        define("g", cells)
    with pytest.raises(NameError, match="'g' is not defined"):
        define("g", cells[1:])


def test_libraries_are_those_of_a_checkout_of_any_name(monkeypatch):
    monkeypatch.setattr(answer_process, "LIBRARIES", ("/home/me/agl_ref/.venv/lib",))
    assert answer_process.is_library("/home/me/agl_ref/.venv/lib/numpy/linalg.py")
    for path in ("/home/me/agl_ref/.venv/lib/agl_ref/course/exercises/neuron.py", "/home/me/agl_ref/course.py", "/etc/passwd",
                 "/home/me/agl_ref/.venv/lib/numpy/../agl_ref/reference.py", answer_process.__file__):  # fmt: skip
        assert not answer_process.is_library(path), path


def test_a_process_that_ended_is_started_anew_for_the_next_exercise():
    cells = [("<a>", "def f(x):\n    return 2 * x", [0])]
    with AnswerProcess() as process:
        answer = process.answer("f", cells)
        assert answer(np.ones(2)).tolist() == [2, 2]
        process.process.kill()
        process.process.wait()
        for _ in range(2):
            with pytest.raises(Stopped, match="end of its process"):
                answer(np.ones(2))
        again = process.answer("f", cells)
        process.process.kill()
        process.process.wait()
        assert process.answer("f", cells)(np.ones(1)).tolist() == [2]
        with pytest.raises(Stopped, match="end of its process"):
            process.answer("f", [("<a>", "f = 10 ** 5000", [0])])  # more digits than Python writes out
    assert again is not None and process.process is None


def test_a_call_tells_which_arguments_it_changed():
    def answer(a, b):
        a[0] = 9
        return b

    reply = answer_process._result(answer, (np.zeros(2), np.ones(1)), None)
    assert (
        list(reply["changed"]) == [0] and decode(reply["changed"][0]).tolist() == [9, 0] and decode(reply["value"]) == 1
    )
    with pytest.raises(ImportError):  # the reason for which a name is missing
        answer_process._result(lambda a: missing, (np.ones(1),), ImportError("missing"))  # noqa: F821
