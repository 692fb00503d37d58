"""Predictions: a place to type each, no answer in sight before it, and a teacher's list of what was typed."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from agl_ref import cli
from agl_ref.course import predict, predictions
from agl_ref.course.exercises import load
from agl_ref.course.grading.report import read_submission

NOTEBOOKS = sorted((Path(__file__).parents[2] / "tutorials" / "solutions").glob("*.ipynb"))
PLACE = re.compile(r'predict\("([a-z0-9-]+)", "\.\.\."\)')
QUESTION = re.compile(r"Before you (?:run|move)|\*\*Predict")
ANSWER = "<details><summary>Answer</summary>\n\n"
FOLD = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}


def code(source, **metadata):
    return {"cell_type": "code", "source": source, "metadata": metadata}


def text(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def names(cells):
    return [match[1] for cell in cells if (match := PLACE.fullmatch("".join(cell["source"])))]


def broken_rules(cells):
    """What in a notebook's cells spoils a prediction, or leaves it without a place to type."""
    broken, open_question, places, ended = [], None, 0, False
    for before, cell in zip([None, *cells], cells, strict=False):
        source, is_code = "".join(cell["source"]), cell["cell_type"] == "code"
        if before and QUESTION.search("".join(before["source"])) and not (is_code and PLACE.fullmatch(source)):
            broken.append(f"no place to type after {''.join(before['source'])[-60:]!r}")
        if is_code and source.startswith("predict("):
            if open_question:
                broken.append(f"{open_question} has no folded answer")
            open_question, places = source, places + 1
            if not (before and before["cell_type"] == "markdown" and QUESTION.search("".join(before["source"]))):
                broken.append(f"{source} comes after no question")
        elif is_code and "assert " in source:
            if open_question:
                broken.append(f"{open_question} is spoiled by {source[-60:]!r}")
            if places and {key: cell["metadata"].get(key) for key in FOLD} != FOLD:
                broken.append(f"not folded: {source[-60:]!r}")
        elif is_code and source == "predictions()":
            ended = not open_question
        elif not is_code:
            if QUESTION.search(source) and len(QUESTION.findall(source)) > 1:
                broken.append(f"two questions, one place: {source[-60:]!r}")
            if source.count(ANSWER) != source.count("\n\n</details>"):
                broken.append(f"a fold that does not end: {source[:60]!r}")
            if ANSWER in source:
                if not open_question:
                    broken.append(f"an answer without a place to type: {source[:90]!r}")
                open_question = None
    if open_question:
        broken.append(f"{open_question} has no folded answer")
    return broken + ["predictions() does not come after the last of them"] * (not ended)


ASK, TYPE, RUN, FOLDED, END = (text("Before you run the next cell: how many?"), code('predict("a", "...")'), code("print(2)"),
                               text(ANSWER + "Two.\n\n</details>\n\nOn."), code("predictions()"))  # fmt: skip
HOLDS = code("assert 2 == 2", **FOLD)


@pytest.mark.parametrize(("cells", "said"), [
    ([ASK, TYPE, RUN, FOLDED, HOLDS, END], None),
    ([ASK, RUN, FOLDED, END], "no place to type"),
    ([ASK, TYPE, RUN, text("Two."), END], "no folded answer"),
    ([ASK, TYPE, RUN, HOLDS, FOLDED, END], "is spoiled by"),
    ([ASK, TYPE, RUN, FOLDED, code("assert 2 == 2"), END], "not folded"),
    ([ASK, code('predict("a", "...")\nassert 2 == 2'), RUN, FOLDED, END], "no place to type"),
    ([ASK, TYPE, RUN, FOLDED, ASK, TYPE, END], "no folded answer"),
    ([FOLDED, END], "an answer without a place"),
    ([TYPE, RUN, FOLDED, END], "comes after no question"),
    ([text(ASK["source"] * 2), TYPE, RUN, FOLDED, END], "two questions"),
    ([ASK, TYPE, RUN, text(ANSWER + "Two."), END], "does not end"),
    ([ASK, TYPE, RUN, FOLDED], "does not come after"),
])  # fmt: skip
def test_a_spoiled_prediction_is_found(cells, said):
    broken = broken_rules(cells)
    assert broken == [] if said is None else any(said in rule for rule in broken), broken


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks in tutorials/solutions")
def test_no_prediction_is_spoiled():
    every = {path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"] for path in NOTEBOOKS}
    assert {stem: broken for stem, cells in every.items() if (broken := broken_rules(cells))} == {}
    found = [name for cells in every.values() for name in names(cells)]
    assert len(found) == len(set(found)) and not set(found) & set(load())
    assert all(len(names(cells)) >= 8 for cells in every.values())


def test_guesses_are_shown_again(capsys):
    predict("test-a", "it fires")
    predict("test-b", "...")
    predict("test-a", "it does not fire")
    assert capsys.readouterr().out == ""
    predictions()
    assert capsys.readouterr().out.endswith("test-a: it does not fire\ntest-b: nothing typed\n")


def test_the_teacher_s_list_has_what_was_typed_and_costs_no_points(tmp_path, capsys):
    """From the cells alone: nothing is executed, and a formula for a spreadsheet becomes text."""
    cells = [code('predict("one", "=1+1")\n'), code("def leak(v, x, decay):\n    return decay * v + x"),
             code('predict("two", "a, b")'), code('predict("three", "...")'), code('predict("four", 2 + 2)'),
             code('raise SystemExit\npredict("five")')]  # fmt: skip
    (tmp_path / "ada.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "bob.ipynb").write_text(json.dumps({"cells": cells[1:2]}))
    typed = {"one": "=1+1", "two": "a, b", "four": "2 + 2"}
    assert read_submission("ada", [tmp_path / "ada.ipynb"]).predictions == typed
    arguments = ["course", "report", str(tmp_path / "ada.ipynb"), str(tmp_path / "bob.ipynb"), "--jobs", "1"]
    assert cli.main([*arguments, "--predictions", str(tmp_path / "out" / "guesses.csv")]) == 0
    rows = list(csv.reader((tmp_path / "out" / "guesses.csv").read_text().splitlines()))
    assert rows == [["student", "prediction", "guess"], ["ada", "one", " =1+1"], ["ada", "two", "a, b"],
                    ["ada", "four", "2 + 2"]]  # fmt: skip
    points = {row["student"]: row["total"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert points == {"ada": "1", "bob": "1"}
