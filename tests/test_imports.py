"""What import-linter (`make lint` holds the floors) leaves: private names, circles of modules, imports inside functions."""

import ast
import itertools
import re
from pathlib import Path

import pytest

import agl_ref

PACKAGE = Path(agl_ref.__file__).parent


def modules():
    """{dotted name: file}."""
    files = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(("agl_ref", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in files]
    return {name.removesuffix(".__init__"): file for name, file in zip(names, files, strict=True)}


def imports(name, file):
    """(module, imported name) of every `from module import name`, relative ones made absolute, also inside functions."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


@pytest.fixture(scope="module")
def graph():
    """{module: the modules of the package that it imports}."""
    files = modules()
    edges = {}
    for name, file in files.items():
        imported = ((f"{module}.{what}", module) for module, what in imports(name, file))
        edges[name] = {inner if inner in files else module for inner, module in imported if module in files} - {name}
    assert len(edges) > 100 and "agl_ref.engine.surrogate" in edges["agl_ref.engine.neuron"]
    return edges


def test_no_module_imports_a_private_name():
    found = {
        f"{module}.{what}"
        for name, file in modules().items()
        for module, what in imports(name, file)
        if module.startswith("agl_ref") and what and what.startswith("_") and not what.startswith("__")
    }
    assert not found


def test_an_import_inside_a_function_says_why():
    """In a comment on one of its lines or above them: an optional package, or a quick start."""
    silent, groups = [], 0
    for name, file in modules().items():
        lines = file.read_text("utf-8").splitlines()
        functions = (node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef))
        found = {node.lineno for function in functions for node in ast.walk(function)
                 if isinstance(node, (ast.Import, ast.ImportFrom))}  # fmt: skip
        for first in found - {number + 1 for number in found}:
            last = next(number for number in itertools.count(first) if number + 1 not in found)
            group = "\n".join(lines[first - 2 : last])
            comments = [re.sub(r"noqa: \w+", "", line) for line in re.findall("#(.*)", group)]
            groups += 1
            if not "".join(comments).strip():
                silent.append(f"{name}:{first}")
    assert not silent and groups > 10


def test_no_modules_import_each_other_in_a_circle(graph):
    def reached(start):
        seen, ahead = set(), [start]
        while ahead:
            new = graph[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reach = {name: reached(name) for name in graph}
    circles = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]
    }
    assert not [sorted(circle) for circle in circles]
