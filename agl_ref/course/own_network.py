"""Notebook 10: a student's functions from all notebooks in one file, and which of them is wrong in a network made of them.

my_functions(folder)                 collects them into my_snn.py; where one is not written yet, the course's stands in
check_network(loss_and_grads, my)    tries each function alone and in the network
"""

import ast
import copy
from types import SimpleNamespace

import numpy as np

from agl_ref import files, reference, validate
from agl_ref.course import NOTEBOOKS

from .exercises import find
from .exercises.definition import NOTEBOOK_OF
from .grading.answer_process import quietly, what_stopped
from .grading.check_answer import mark
from .grading.relations import close
from .grading.submission import find_answer, read_statements

PARTS = ("lif_forward", "rectangular", "lif_backward", "central_difference", "tdbn_forward", "tdbn_backward",
         "adaptive_width", "conv2d_forward", "conv2d_backward_weight", "conv2d_backward_input", "cross_entropy_of_mean",
         "cross_entropy_gradient", "sgd_momentum_step", "stride_backward", "linear_backward")  # fmt: skip
FILE = "my_snn.py"
TOLERANCE = 1e-5  # of a gradient's largest entry: who computes in float32 passes
_HEAD = '"""My spiking network: my functions from the notebooks, as agl_ref.course.my_functions found them there."""'
_MARKS = ("### BEGIN SOLUTION", "### END SOLUTION", "# YOUR CODE HERE")


def borrowed(name):
    """The course's own function in place of a student's."""
    return find(validate.one_of("name", name, PARTS)).reference


def my_functions(folder=".", borrow=()):
    """Collect the functions of the notebooks in a folder; they are written there, readable, as my_snn.py.

    A printed line says which are not written yet, and in which notebook to write them.

    Parameters
    ----------
    folder : path
        Where the notebooks are, as they were last saved.
    borrow : sequence of str
        Names of functions to take from the course although they are written.

    Returns
    -------
    types.SimpleNamespace
        A function for each name in `PARTS`, the course's where there is no other. ValueError for two unlike definitions of
        one name, which do not fit into one file, and for statements that do not run.
    """
    folder = validate.path("folder", folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of notebooks, received something else; name another")
    for name in validate.sequence("borrow", borrow, kind=str):
        validate.one_of("borrow", name, PARTS)
    sections, defined, missing = [_HEAD], {}, {}
    for module in NOTEBOOKS:
        wanted = [name for name in PARTS if find(name) and NOTEBOOK_OF[name].endswith(f".{module}")]
        path = next(iter(sorted(folder.glob(f"*_{module}.ipynb"))), None)
        statements, _, notes = _read(path) if wanted and path else ([], [], [])
        answers = {name: find_answer(name, find(name), statements) for name in wanted if name not in borrow}
        print(*notes, sep="\n", end="\n" * bool(notes))
        missing |= {name: path.name if path else f"*_{module}.ipynb" for name in wanted if not answers.get(name)}
        chosen = {
            (label, k) for answer in answers.values() if answer for label, _, numbers in answer.cells for k in numbers
        }
        if used := [s for s in statements if (s.label, s.place[1]) in chosen]:
            sections.append(_section(path.name, used, defined))
    if missing:
        stands_in = [f"{name} = borrowed({name!r})  # write it in {home}" for name, home in missing.items()]
        sections.append("\n".join(["from agl_ref.course.own_network import borrowed\n", *stands_in]))
    code = "\n\n\n".join(sections) + "\n"
    files.write_atomically(folder / FILE, code.encode())
    namespace = {"__name__": FILE.removesuffix(".py")}
    try:
        exec(compile(code, folder / FILE, "exec"), namespace)
    except Exception as error:
        raise ValueError(f"{folder / FILE}: expected statements that run, received {what_stopped(error)}; correct its "
                         "notebook, save it, and collect again") from error  # fmt: skip
    _say_what_is_missing(missing, borrow)
    return SimpleNamespace(**{name: namespace[name] for name in PARTS})


def _read(path):
    """As `read_statements`; a file that is no notebook is one without statements, with a note."""
    try:
        return read_statements(path)
    except ValueError as error:
        return [], [], [str(error)]


def _section(notebook, statements, defined):
    """Statements of a notebook as text. `defined` {name: (code, notebook)} has what notebooks before it define, and grows."""
    text = f"# --- {notebook}\n"
    for statement in statements:
        code, homes = ast.unparse(statement.node), set()
        imports = isinstance(statement.node, ast.Import | ast.ImportFrom)
        for name in [code] if imports else statement.bound:
            other, home = defined.setdefault(name, (code, notebook))
            homes.add(home)
            if home != notebook and other != code:
                raise ValueError(f"{notebook}: expected {name} as in {home}, received another definition; rename one of the "
                                 "two in its notebook, save it, and collect again")  # fmt: skip
        if notebook in homes:
            function = isinstance(statement.node, ast.FunctionDef)
            text += ("\n\n\n" if function else "\n") + _text(statement)
    return text


def _text(statement):
    """A statement as it stands in its notebook, without the marks of the exercises."""
    node = statement.node
    first = min(part.lineno for part in (node, *getattr(node, "decorator_list", ())))
    lines = statement.source.split("\n")[first - 1 : node.end_lineno]
    return "\n".join(line for line in lines if line.strip() not in _MARKS)


def _say_what_is_missing(missing, borrow):
    """Print how many functions are the student's, and where to write the others."""
    lent = "; the course lends the others." if missing else "."
    print(f"{FILE}: {len(PARTS) - len(missing)} of {len(PARTS)} functions are yours{lent}")
    for home in dict.fromkeys(missing.values()):
        names = ", ".join(name for name in missing if missing[name] == home and name not in borrow)
        if names:
            print(f"  not written yet: {names}. Write in {home}, save it, and collect again.")


def check_network(loss_and_grads, my):
    """Try a network and the functions that it is made of, and print what is wrong with which.

    The gradients of a small network are compared with those of `agl_ref.reference`: with the course's functions alone, with
    each one of `my` among the course's, and with all of `my`. Each function of `my` is also tried alone, as by `check`.

    Parameters
    ----------
    loss_and_grads : callable
        loss_and_grads(my, params, x, labels) -> (loss, {name: gradient}) of a network with the layers conv1, conv2 and fc.
    my : types.SimpleNamespace
        The functions, as `my_functions` returns them.

    Returns
    -------
    tuple of str
        What is wrong: names of functions, or "loss_and_grads", the network itself.
    """
    if not callable(loss_and_grads):
        raise TypeError(
            f"loss_and_grads: expected a function, received {type(loss_and_grads).__name__}; pass your network"
        )
    if not all(callable(getattr(my, name, None)) for name in PARTS):
        raise TypeError(
            f"my: expected what my_functions returned, received {type(my).__name__}; collect the functions first"
        )
    problem = small_network()
    courses = SimpleNamespace(**{name: borrowed(name) for name in PARTS})
    own = {name: getattr(my, name) for name in PARTS if getattr(my, name) is not getattr(courses, name)}
    if fault := _fault(loss_and_grads, courses, problem):
        print(f"The network itself is wrong, whichever functions it is made of: with the course's own {fault}.")
        return ("loss_and_grads",)
    wrong = []
    for name, function in own.items():
        points, text = mark(find(name), function, "")
        fault = _fault(loss_and_grads, SimpleNamespace(**vars(courses) | {name: function}), problem)
        if fault or points < find(name).points:
            wrong.append(name)
            print(f"{name} is wrong. {text} In the network {fault or 'it does not show'}.")
    if not wrong and (fault := _fault(loss_and_grads, my, problem)):
        wrong = list(own)
        print(
            f"Each function is right among the course's, but not all together: {fault}. Do two share a global variable?"
        )
    if not wrong:
        whose = f"{len(own)} functions of yours, each alone. Their" if own else "but nothing of yours is in it yet. The"
        print(f"Right: {whose} network has the loss and the gradients of agl_ref.reference.")
    return tuple(wrong)


def small_network():
    """(params, x, labels, {name: loss or gradient as agl_ref.reference has it}) of two spiking layers and a readout."""
    rng, (T, N, H, W, K), channels = np.random.default_rng(0), (3, 4, 7, 6, 3), (1, 3, 4)
    params, layers = {}, []
    block = {"kind": "block", "stride": 2, "padding": 1, "neuron": "lif", "decay": 0.2, "v_th": 0.5}
    for name, c_in, c_out in zip(("conv1", "conv2"), channels, channels[1:], strict=False):
        layers.append({**block, "name": name, "norm": {"alpha": 1.0, "eps": 1e-5}})
        params[f"{name}.weight"] = rng.normal(0, 1, (3, 3, c_in, c_out))
        params[f"{name}.gamma"], params[f"{name}.beta"] = rng.uniform(0.6, 1.8, c_out), rng.normal(0.2, 0.2, c_out)
    params["conv1.gamma"][-1] *= -1
    params["fc.weight"] = rng.normal(0, 1, (2 * 2 * channels[-1], K))
    x, labels = rng.normal(0, 1, (T, N, H, W, 1)), rng.integers(0, K, N)
    network = reference.Network([*layers, {"kind": "flatten"}, {"kind": "readout", "name": "fc"}], params)
    loss, grads, _, _ = reference.loss_and_grads(network, x, labels)
    return params, x, labels, {"loss": loss, **grads}


def _fault(loss_and_grads, functions, problem):
    """What is wrong with a network's loss and gradients, in words; None if nothing is."""
    *arguments, expected = problem
    try:
        loss, grads = quietly(loss_and_grads, (functions, *copy.deepcopy(arguments)))
        got = {name: np.asarray(value, float) for name, value in {"loss": loss, **grads}.items()}
    except Exception as error:
        return f"it stops with {what_stopped(error)}"
    off = [name for name, right in expected.items()
           if name not in got or not close(got[name], np.asarray(right), TOLERANCE).all()]  # fmt: skip
    return f"these are off: {', '.join(off)}" if off else None
