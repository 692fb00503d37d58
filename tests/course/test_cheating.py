"""What cheats try in a submitted notebook, and what it brings them in `agl-ref course report`."""

from pathlib import Path

import pytest

import agl_ref
from agl_ref.course.exercises import find
from agl_ref.course.grading.report import report

nbformat = pytest.importorskip("nbformat")
from notebooks_made_here import graded  # noqa: E402

REFERENCE = Path(agl_ref.__file__).parent / "course" / "exercises" / "one_neuron.py"
FORWARD = "def lif_forward(x, decay, v_th):\n    "
LEAK = "def leak(v, x, decay):\n    "

CHEATS = {  # exercise, source of the answer's cell
    "the judge is replaced": ("leak", (
        "from agl_ref.course.grading import check_answer, diagnose\n"
        "diagnose.judge = check_answer.judge = lambda *_: (1, 'Right.')\n\n" + LEAK + "return 0 * x")),
    "the judge is replaced when the answer is called": ("leak", (
        LEAK + "from agl_ref.course.grading import diagnose\n    diagnose._right = lambda *_: True\n    return 0 * x")),
    "check is shadowed": ("leak", "check = lambda *_: 1\n\n" + LEAK + "return 0 * x"),
    "the library's own function is called": ("lif_forward", (
        FORWARD + "import agl_ref as agl\n    s, cache = agl.lif_forward(x, decay, v_th)\n    return cache.u, s")),
    "the library's own function is called under its import's name": ("lif_forward", (
        "import agl_ref as agl\n\n" + FORWARD + "s, cache = agl.lif_forward(x, decay, v_th)\n    return cache.u, s")),
    "the hidden reference is imported": ("leak", "from agl_ref.course.exercises.one_neuron import leak"),
    "the hidden reference is an attribute": ("leak", (
        "import agl_ref.course.exercises.one_neuron as hidden\n\nleak = hidden.leak")),
    "the hidden reference is imported by its name in pieces": ("leak", (
        LEAK + "import importlib\n    name = 'agl' + '_ref.course.exercises.one_neuron'\n"
        "    return importlib.import_module(name).leak(v, x, decay)")),
    "the hidden reference is read as a file": ("leak", (
        LEAK + f"source = open({str(REFERENCE)!r}).read()\n    names = {{}}\n"
        "    exec(source[source.index('def leak'):].split('def _draw')[0], names)\n    return names['leak'](v, x, decay)")),
    "the hidden reference is loaded from its file": ("leak", (
        LEAK + "import importlib.util\n"
        f"    spec = importlib.util.spec_from_file_location('agl_hidden', {str(REFERENCE)!r})\n"
        "    module = importlib.util.module_from_spec(spec)\n    spec.loader.exec_module(module)\n"
        "    return module.leak(v, x, decay)")),
    "another Python is asked": ("leak", (
        LEAK + "import subprocess, sys\n    subprocess.run([sys.executable, '-c', 'import agl_ref'], check=True)\n"
        "    return decay * v + x")),
    "another Python is asked past subprocess": ("leak", LEAK + "import _posixsubprocess\n    return decay * v + x"),
    "another Python is asked past that": ("leak", LEAK + "import subprocess\n    subprocess._fork_exec()\n    return v"),
    "a shell is asked": ("leak", LEAK + "import os\n    os.system('true')\n    return decay * v + x"),
    "the memory is read": ("leak", LEAK + "import ctypes\n    ctypes.string_at(id(v), 8)\n    return decay * v + x"),
    "the network is asked": ("leak", LEAK + "import socket\n    socket.create_connection(('127.0.0.1', 9))\n    return v"),
    "whoever grades is killed": ("leak", LEAK + "import os\n    os.kill(os.getppid(), 9)\n    return decay * v + x"),
    "the grader's frames are searched": ("leak", (
        LEAK + "import sys\n    frame = sys._getframe()\n    while frame:\n"
        "        for name, value in frame.f_locals.items():\n"
        "            if 'expected' in name:\n                return value\n        frame = frame.f_back\n    return 0 * x")),
    "a verdict is written to every pipe": ("leak", (
        LEAK + "import os\n    for k in range(20):\n        try:\n"
        "            os.write(k, b'{\"points\": 1, \"value\": true}\\n')\n        except OSError:\n            pass\n"
        "    return 0 * x")),
    "the comparison is always true": ("leak", (
        "class Equal(np.ndarray):\n    def __eq__(self, other):\n        return True\n\n"
        "    def __array_ufunc__(self, *_, **__):\n        return np.zeros(())\n\n" + LEAK + "return (0 * x).view(Equal)")),
    "an object says that it is anything": ("leak", (
        "class Any:\n    shape = (6,)\n    dtype = np.dtype(float)\n\n    def __array__(self, *_, **__):\n"
        "        return np.zeros(6)\n\n    def __eq__(self, other):\n        return True\n\n" + LEAK + "return Any()")),
    "NumPy is replaced": ("leak", (
        LEAK + "np.abs = np.array_equal = np.isfinite = lambda *_, **__: np.ones(6, bool)\n    return 0 * x")),
    "the process ends well": ("leak", LEAK + "import os\n    os._exit(0)"),
    "the cell ends the process": ("leak", "import os\nos._exit(0)\n\n" + LEAK + "return 0 * x"),
    "the program ends well": ("leak", LEAK + "raise SystemExit(0)"),
    "a loop has no end": ("leak", LEAK + "while True:\n        pass"),
    "the memory is filled": ("leak", LEAK + "return np.zeros((1 << 20, 1 << 14))"),
    "too much is returned": ("leak", LEAK + "return np.ones(1 << 24)"),
    "another dtype crashes the reader": ("leak", LEAK + "return np.zeros(6, [('a', 'f8'), ('b', 'O')])"),
    "each option is tried": ("what_pass_proves", (
        "OPTIONS = ['that it tests u >= V_th', 'that it tests u > V_th',\n"
        "           'nothing: no potential of this case is exactly 0.5', 'nothing: the spikes were not compared']\n"
        "for option in OPTIONS:\n    if check('what_pass_proves', option):\n        break\n\n"
        "def what_pass_proves():\n    return OPTIONS[2]")),
    "each option is tried by whoever asks": ("what_pass_proves", (
        "def what_pass_proves():\n    import agl_ref.course.exercises as e\n"
        "    return e.find('what_pass_proves').answer")),
}  # fmt: skip
NOTED = ("agl_ref", "process", "seconds", "PermissionError", "ImportError", "options tried", "MemoryError")


def hand_in(folder, student, name, source):
    cells = graded(name, source, 1000)
    cells[1].source = "1000"  # which nbgrader's own grading puts back as well
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import numpy as np"), *cells])
    path = folder / f"{student}.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize("cheat", CHEATS)
def test_cheating_earns_nothing(cheat, tmp_path):
    name, source = CHEATS[cheat]
    compile(source, "cell", "exec")
    path = hand_in(tmp_path, "eve", name, source)
    _, rows = report([path], "a seed", timeout=2, assignment=[path])
    (row,) = rows
    assert row["total"] == 0 and row["maximum"] == find(name).points, row
    if any(word in source for word in ("agl_ref", "os.kill", "while True", "subprocess", "check(", "<< 20")):
        assert any(word in note for note in row["notes"] for word in NOTED), row


def test_an_honest_answer_beside_a_cheat_keeps_its_points(tmp_path):
    """The death of a process, or a loop, costs one exercise."""
    cells = []
    for name, source in (("fires", "def fires(u, v_th):\n    return 1.0 * (u >= v_th)"), ("leak", "import os\nos._exit(0)"),
                         ("soft_reset", "def soft_reset(u, s, v_th):\n    while True:\n        pass"),
                         ("hard_reset", "def hard_reset(u, s):\n    return np.where(s == 1, 0.0, u)")):  # fmt: skip
        cells += graded(name, source + ("\n\ndef leak(v, x, decay):\n    return os" if name == "leak" else ""), 1)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "eve.ipynb")
    _, rows = report([tmp_path / "eve.ipynb"], "a seed", timeout=5)
    (row,) = rows
    assert row["points"] == {"leak": 0, "fires": 1, "hard_reset": 1, "soft_reset": 0, "lif_forward": 0}
    assert len(row["notes"]) == 1 and "within 5 seconds" in row["notes"][0]


def test_results_learnt_by_heart_are_worth_nothing_with_another_seed(tmp_path):
    item = find("leak")
    heart = [(v.tolist(), item.reference(v, x, decay).tolist()) for _, (v, x, decay) in item.inputs("eve\nold seed")]
    source = f"HEART = {heart}\n\n{LEAK}return np.array(dict((str(a), b) for a, b in HEART)[str(v.tolist())])"
    path = hand_in(tmp_path, "eve", "leak", source)
    earned = []
    for seed in ("old seed", "new seed"):
        _, rows = report([path], seed, assignment=[path])
        earned.append(next(rows)["total"])
    assert earned == [1, 0]


def test_each_option_tried_after_the_first_costs_its_share(tmp_path):
    """Four options: two of them named leave half of the point, three nothing."""
    options = list(find("what_pass_proves").options)
    right = options.index(find("what_pass_proves").answer)
    others = [k for k in range(4) if k != right]
    for tried, points in ((0, 1), (1, 0.5), (2, 0), (3, 0)):
        trials = "\n".join(f"check('what_pass_proves', {options[k]!r})" for k in others[:tried])
        path = hand_in(tmp_path, "eve", "what_pass_proves", f"def what_pass_proves():\n    return {options[right]!r}")
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(trials))  # in a cell of her own
        nbformat.write(notebook, path)
        (row,) = report([path], "a seed", assignment=[path])[1]
        assert row["total"] == points and ("options tried" in str(row["notes"])) == (tried > 0), tried


def test_equal_answers_are_noted_and_short_ones_are_not(tmp_path):
    long = ("def lif_forward(x, decay, v_th):\n    {doc}u, s, v = np.zeros(x.shape), np.zeros(x.shape), 0 * x[0]\n"
            "    for t in range(len(x)):\n        u[t] = decay * v + x[t]{comment}\n        s[t] = u[t] >= v_th\n"
            "        v = u[t] * (1 - s[t])\n    return u, s")  # fmt: skip
    ada = hand_in(tmp_path, "ada", "lif_forward", long.format(doc="", comment=""))
    bob = hand_in(tmp_path, "bob", "lif_forward", long.format(doc='"""Mine."""\n    ', comment="  # my own work"))
    eva = hand_in(
        tmp_path, "eva", "lif_forward", long.format(doc="", comment="").replace("[t] >= v_th", "[t] >= 1 * v_th")
    )
    short = [hand_in(tmp_path, name, "leak", LEAK + "return decay * v + x") for name in ("max", "zoe")]
    rows = {row["student"]: row for row in report([ada, bob, eva, *short], "a seed")[1]}
    assert rows["ada"]["notes"] == ["ada: the same code as bob in lif_forward"]
    assert rows["bob"]["notes"] == ["bob: the same code as ada in lif_forward"]
    assert not any(rows[name]["notes"] for name in ("eva", "max", "zoe"))
    assert rows["ada"]["points"]["lif_forward"] == 3 and rows["zoe"]["points"]["leak"] == 1


def test_a_function_among_the_arguments_is_called_where_it_came_from(tmp_path):
    """central_difference gets f: the answer can call it, and see nothing but its values."""
    good = ("def central_difference(f, x, h):\n    g = np.zeros(x.shape)\n    for i in np.ndindex(x.shape):\n"
            "        e = np.zeros(x.shape)\n        e[i] = h\n        g[i] = (f(x + e) - f(x - e)) / (2 * h)\n"
            "    return g")  # fmt: skip
    bad = good.replace("f(x + e)", "f(x[0])")
    curious = good.replace("f(x + e)", "f.__closure__[0].cell_contents")
    for source, points, words in (
        (good, 3, "Right."),
        (bad, 0, "expected an array of shape"),
        (curious, 0, "gradient is wrong"),
    ):
        path = hand_in(tmp_path, "eve", "central_difference", source)
        (row,) = report([path], "a seed", assignment=[path])[1]
        assert row["total"] == points and words in row["diagnoses"]["central_difference"], row


def test_arguments_changed_in_place_are_seen_from_here(tmp_path):
    path = hand_in(tmp_path, "eve", "hard_reset", "def hard_reset(u, s):\n    u[s == 1] = 0\n    return u")
    (row,) = report([path], "a seed", assignment=[path])[1]
    assert row["points"] == {"hard_reset": 0.5} and "changes its argument u in place" in row["diagnoses"]["hard_reset"]
