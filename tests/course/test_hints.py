"""Hints: three for each exercise, each once, and none is the solution."""

import json
import re
from pathlib import Path

import pytest

from agl_ref.course import hint
from agl_ref.course.exercises import load
from agl_ref.course.exercises.definition import Choice

NOTEBOOKS = sorted((Path(__file__).parents[2] / "tutorials" / "solutions").glob("*.ipynb"))


def solution_lines():
    """{exercise: the lines of its solution, without `return` and without what they are assigned to}."""
    lines = {}
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            found = re.search(r"(?s)### BEGIN SOLUTION\n(.*)### END SOLUTION", "".join(cell["source"]))
            if found:
                lines[cell["metadata"]["nbgrader"]["grade_id"]] = [
                    plain(re.sub(r"^\s*(return |[\w, \[\]]+ [-+/]?= )", "", line)) for line in found[1].splitlines()
                ]
    return lines


def plain(text):
    return re.sub(r"[\s`]", "", text)


def gives_away(text, lines):
    """The lines of a solution that a hint contains; one of a few letters is a word of the language."""
    return [line for line in lines if len(line) > 8 and line in plain(text)]


def test_a_hint_that_holds_the_line_is_found():
    assert gives_away("Write `decay * v + x`.", [plain("decay * v + x")])
    assert not gives_away("v times decay, and x added", [plain("decay * v + x")])


def test_each_exercise_has_three_hints_of_growing_help():
    for name, item in load().items():
        assert len(item.hints) == len(set(item.hints)) == 3, (
            f"{name}: give it hints=(nudge, where to look, nearly the line)"
        )
        assert all(isinstance(text, str) and 20 < len(text) < 130 and text[-1] in ".?)" for text in item.hints), name
        if isinstance(item, Choice):
            assert not any(item.answer in text for text in item.hints), name


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks in tutorials/solutions")
def test_no_hint_is_the_solution():
    exercises, lines = load(), solution_lines()
    assert set(exercises) <= set(lines)
    given = {
        name: found for name, item in exercises.items() if (found := gives_away(" ".join(item.hints), lines[name]))
    }
    assert given == {}


def test_a_clearer_hint_with_each_call(capsys):
    hints = load()["leak"].hints
    for k in (1, 2, 3, 3):
        hint("leak")
        assert capsys.readouterr().out == f"leak, hint {k} of 3: {hints[k - 1]}\n"
    hint("fires")
    assert "fires, hint 1 of 3: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="perhaps leak"):
        hint("leek")
