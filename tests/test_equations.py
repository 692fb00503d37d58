"""Every equation of METHOD.md stands on one line of reference.py and on at least one of the engine; no other is named."""

import re
from collections import Counter
from pathlib import Path

import agl_ref

PACKAGE = Path(agl_ref.__file__).parent
TAG = re.compile(r"#.*?\(([A-Z]\d+)\)")
PAIR = re.compile(r"\(([A-Z]\d+)\)")


def defined(method):
    """The numbers that METHOD.md gives to equations: those that end a line of one of its blocks of equations."""
    return re.findall(r"^    .*\(([A-Z]\d+)\)$", method, re.M)


def tags(source):
    """The numbers in the comments of code: `# (F1) (F5)` has two."""
    comments = [line.partition("#")[2] for line in source.splitlines() if TAG.search(line)]
    return Counter(tag for comment in comments for tag in PAIR.findall(comment))


def engine_tags():
    return sum((tags(path.read_text()) for path in (PACKAGE / "engine").rglob("*.py")), Counter())


METHOD = (PACKAGE / "METHOD.md").read_text()
EQUATIONS = defined(METHOD)


def test_every_number_is_given_once_and_none_is_left_out():
    assert len(EQUATIONS) == len(set(EQUATIONS)) > 40
    for letter in {name[0] for name in EQUATIONS}:
        numbers = [int(name[1:]) for name in EQUATIONS if name[0] == letter]
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), letter


def test_every_equation_stands_once_in_the_reference():
    found = tags((PACKAGE / "reference.py").read_text())
    assert found == Counter(EQUATIONS)


def test_every_equation_stands_in_the_engine():
    found = engine_tags()
    assert set(found) == set(EQUATIONS)


def test_no_text_names_an_equation_that_does_not_exist():
    for path in [*PACKAGE.rglob("*.md"), *PACKAGE.rglob("*.py")]:
        unknown = set(PAIR.findall(path.read_text())) - set(EQUATIONS)
        assert not unknown, (path.name, unknown)


def test_the_scanner_sees_a_missing_a_doubled_and_an_unknown_tag():
    assert defined("    u = v   (F1)\n\n(F2)\n    s = u   (F3)\n") == ["F1", "F3"]
    assert tags("a = b  # (F1) (F2)\nc = d  # why\n# (F1)\n'(F9)'\n") == Counter({"F1": 2, "F2": 1})
