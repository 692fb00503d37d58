"""Every equation of METHOD.md stands on one line of reference.py and on at least one of the engine; no other is named.

In the engine a reader comes to it from a public function over at most one other function.
"""

import ast
import inspect
import re
import textwrap
from collections import Counter
from pathlib import Path

import pytest

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


def plain(value):
    """The Python function behind a kernel or a validated function; other values as they are."""
    return inspect.unwrap(getattr(value, "py_func", value))


def named_in(function, owner):
    """The functions of the engine that a function names: those of its module, `module.name`, and `self.name`."""
    known = function.__globals__
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        value = None
        if isinstance(node, ast.Name):
            value = known.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            value = getattr(owner if node.value.id == "self" else known.get(node.value.id), node.attr, None)
        value = plain(value)
        if inspect.isfunction(value) and value.__module__.startswith("agl_ref.engine"):
            yield value


def hops(function, owner, most):
    """How many calls each equation is away from a function, if not more than `most`."""
    found, reached = {}, {function}
    for distance in range(most + 1):
        for one in reached:
            for tag in tags(inspect.getsource(one)):
                found.setdefault(tag, distance)
        reached = {called for one in reached for called in named_in(one, owner)}
    return found


def public_functions():
    """(function, its class or None): agl_ref's functions, those of its modules of operations, and its classes' methods."""
    for module in (agl_ref.ops, agl_ref.width, agl_ref.optim, agl_ref.blocks, agl_ref.network):
        for name in dir(module):
            value = getattr(module, name)
            if name.startswith("_") or not (
                module is agl_ref.ops or getattr(value, "__module__", "") == module.__name__
            ):
                continue
            if inspect.isclass(value):
                methods = inspect.getmembers(value, inspect.isfunction)
                yield from ((method, value) for method_name, method in methods if not method_name.startswith("_"))
            elif inspect.isfunction(value):
                yield plain(value), None


def test_every_equation_is_two_hops_at_most_from_a_public_function():
    near = set()
    for function, owner in public_functions():
        near |= set(hops(function, owner, 2))
    assert near == set(EQUATIONS)


@pytest.mark.parametrize("name, letter", [
    ("lif_forward", "F"), ("lif_backward", "B"), ("tdbn_forward", "N"), ("tdbn_backward", "N"), ("conv2d_forward", "C"),
    ("conv2d_backward", "C"), ("linear_forward", "C"), ("linear_backward", "C"), ("cross_entropy_forward", "L"),
    ("tet_forward", "L"), ("derivative", "S"), ("primitive", "S"),
])  # fmt: skip
def test_all_equations_of_a_layer_are_two_hops_at_most_from_its_function(name, letter):
    function = plain(getattr(agl_ref.ops, name))
    near, all_of_it = ({tag for tag in hops(function, None, most) if tag[0] == letter} for most in (2, 9))
    assert near == all_of_it != set()


def test_hops_are_counted():
    one, two = (hops(plain(agl_ref.lif_backward), None, most) for most in (1, 2))
    assert "B2" not in one and two["B2"] == 2


def test_the_scanner_sees_a_missing_a_doubled_and_an_unknown_tag():
    assert defined("    u = v   (F1)\n\n(F2)\n    s = u   (F3)\n") == ["F1", "F3"]
    assert tags("a = b  # (F1) (F2)\nc = d  # why\n# (F1)\n'(F9)'\n") == Counter({"F1": 2, "F2": 1})
