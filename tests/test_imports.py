"""What import-linter does not hold (the floors are its part, in `make lint`): private names and circles of modules."""

import ast
from pathlib import Path

import pytest

import agl_ref

PACKAGE = Path(agl_ref.__file__).parent

# Circles that are left, each by one of its modules: an import inside a function closes it.
CIRCLES_LEFT = {
    "agl_ref.oracle.judge.compare",  # a failed comparison asks the mutants for a guess, and they are judged by it
}

# Private names that another module of the same folder still imports.
PRIVATE_LEFT = set()


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
    assert not found - PRIVATE_LEFT


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
    assert not [sorted(circle) for circle in circles if not circle & CIRCLES_LEFT]
