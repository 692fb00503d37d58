"""Submitted notebooks, read and never executed: which statements make an answer, and what looks odd about it.

An answer is the last definition of an exercise's function in the notebook that is more than the stub, wherever its cell was
moved or copied to and whatever became of the cell's metadata. With it go the statements that define what it uses.
"""

import ast
import itertools
import json
import symtable
from typing import NamedTuple

from agl_ref import files
from agl_ref.course.exercises.definition import Choice, plain

PREFIX = "check-"  # of the grade ids of the cells that hold check(NAME, NAME)
LONG = 6  # statements, from which on two equal functions are hardly a coincidence


class Statement(NamedTuple):
    """A top-level statement of a notebook."""

    place: tuple  # numbers of its code cell and of the statement in it, both from 0
    label: str  # of its cell
    source: str  # of its cell
    grade_id: str  # nbgrader's, of its cell; "" if it has none
    node: ast.stmt
    bound: set  # the names that it defines or changes; "*" for those of a star import
    stub: bool  # a function that was not written


class Answer(NamedTuple):
    """What makes an answer: cells as `AnswerProcess.answer` wants them, the modules they import, and what is odd."""

    cells: list
    libraries: list
    code: str  # the function without comments, formatting and docstrings
    notes: list
    tried: int  # options of a question that the notebook names as an answer


def read_statements(path):
    """(statements of a notebook, grade ids of its code cells, notes). ValueError for a file that is no notebook."""
    data = files.read_bytes(path)
    try:
        found = [cell for cell in json.loads(data.decode("utf-8-sig"))["cells"] if cell["cell_type"] == "code"]
        sources = [cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"]) for cell in found]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError(f"{path}: expected a notebook, received something else; ask for another file") from None
    statements, ids, notes = [], [], []
    for i, (cell, source) in enumerate(zip(found, sources, strict=True)):
        label, grade_id = f"<code cell {i + 1} of {path.name}>", _grade_id(cell)
        ids.append(grade_id)
        source = "\n".join("#" + line if line.startswith(("%", "!", "?")) else line for line in source.splitlines())
        try:
            body = ast.parse(source).body
            statements += [Statement((i, k), label, source, grade_id, node, _bound(node), _is_stub(node))
                           for k, node in enumerate(body)]  # fmt: skip
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f", in its line {error.lineno}" if isinstance(error, SyntaxError) else ""
            notes.append(f"{path}: code cell {i + 1}{f' ({grade_id})' if grade_id else ''} is no Python{line}")
    return statements, ids, notes


def _grade_id(cell):
    try:
        return str(cell["metadata"]["nbgrader"]["grade_id"]).removeprefix(PREFIX)
    except (LookupError, TypeError):
        return ""


def find_answer(name, item, statements):
    """The `Answer` to an exercise among a notebook's statements; None if there is none but the stub."""
    named = [s for s in statements if name in s.bound and not s.stub]
    roots = [s for s in named if s.grade_id == name] or [s for s in named if isinstance(s.node, ast.FunctionDef)]
    if not roots:
        return None
    root = roots[-1]
    chosen, done, wanted = {root.place: root}, set(), {name, "*"}
    while wanted - done:
        done |= wanted
        chosen |= {s.place: s for s in statements if s.bound & done and not s.stub
                   and (name not in s.bound or s.place <= root.place)}  # fmt: skip
        wanted = set().union(*(_free_names(s.node) for s in chosen.values()))
    used = [chosen[place] for place in sorted(chosen)]
    notes = [f"{len(roots)} answers in the notebook, of which the last counts"] * (len(roots) > 1)
    if any(map(_names_the_package, [*used, *(s for s in statements if s.place[0] == root.place[0])])):
        notes.append("its cell imports agl_ref, or names it, which holds the answers")
    tried = 0
    if isinstance(item, Choice):
        asked = {s.place[0] for s in statements if name in _strings(s) or s in roots}
        named = set().union(*(map(plain, _strings(s)) for s in statements if s.place[0] in asked or s in used))
        tried = len(named & set(map(plain, item.options)))
    cells = [
        (*cell, [s.place[1] for s in group])
        for cell, group in itertools.groupby(used, key=lambda s: (s.label, s.source))
    ]
    modules = {module for s in used for module in _imports(s) if module.partition(".")[0] != "agl_ref"}
    return Answer(cells, sorted(modules), _plain_code(root.node), notes, tried)


def read_predictions(statements):
    """{name: guess} of a notebook's calls `predict(name, guess)`, as they stand there."""
    calls = [s.node.value for s in statements if isinstance(s.node, ast.Expr) and isinstance(s.node.value, ast.Call)]
    texts = [[str(a.value) if isinstance(a, ast.Constant) else ast.unparse(a) for a in call.args]
             for call in calls if getattr(call.func, "id", "") == "predict"]  # fmt: skip
    return dict(pair for pair in texts if len(pair) == 2)


def _bound(statement):
    """The names that a statement defines or changes at the top level."""
    bound, nodes = set(), [statement]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(getattr(node, "ctx", None), ast.Store):
            while isinstance(node, ast.Attribute | ast.Subscript):  # table[0] = 1 changes table
                node = node.value
            nodes += [] if isinstance(node, ast.Name) else ast.iter_child_nodes(node)
            bound |= {node.id} if isinstance(node, ast.Name) else set()
        elif not isinstance(node, ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return bound


def _is_stub(statement):
    """Whether it is a function of which only the docstring and NotImplementedError, `pass` or `...` are there."""
    return isinstance(statement, ast.FunctionDef) and all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.dump(node.exc))
        for node in statement.body
    )


def _free_names(statement):
    """The names that a statement, and the functions in it, take from the notebook."""
    tables, names = [symtable.symtable(ast.unparse(statement), "cell", "exec")], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return names


def _strings(statement):
    return {node.value for node in ast.walk(statement.node)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip


def _imports(statement):
    """The modules that a statement imports, with `from a import b` as a."""
    for node in ast.walk(statement.node):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _names_the_package(statement):
    return any("agl_ref" in text for text in (*_imports(statement), *_strings(statement)))


def _plain_code(node):
    """A function's code without docstrings, to compare with others; "" if it is too short to tell two students apart."""
    if len([part for part in ast.walk(node) if isinstance(part, ast.stmt)]) < LONG:
        return ""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef) and ast.get_docstring(part) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return ast.unparse(node)
