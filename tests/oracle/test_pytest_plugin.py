"""The pytest plugin, run on small projects of its own."""

from fnmatch import fnmatch
from importlib.metadata import entry_points

import numpy as np
import pytest

from agl_ref.oracle import cases, load_case
from agl_ref.oracle.cases import vectors
from agl_ref.oracle.pytest_plugin import VectorCase, expected_failures

pytest_plugins = ["pytester"]

# an installed package registers the plugin by itself; a second registration would be an error
LOADED = any(point.value == "agl_ref.oracle.pytest_plugin" for point in entry_points(group="pytest11"))
LOAD = () if LOADED else ("-p", "agl_ref.oracle.pytest_plugin")

# an implementation that has no part in agl_ref: one neuron layer with a hard reset and an attached, open window
KERNEL = """
import numpy as np
import pytest

def lif(x, ds, width, decay, v_th, fires=np.greater_equal, **ignored):
    T = len(x)
    u, s, v, du = (np.zeros_like(x) for _ in range(4))
    before = np.zeros_like(x[0])
    for t in range(T):
        u[t] = x.dtype.type(decay) * before + x[t]
        s[t] = fires(u[t], x.dtype.type(v_th))
        before = v[t] = u[t] * (1 - s[t])
    dv = np.zeros_like(x[0])
    for t in reversed(range(T)):
        window = (abs(u[t] - x.dtype.type(v_th)) < width[t] / 2) / width[t]
        du[t] = dv * (1 - s[t]) + (ds[t] - u[t] * dv) * window
        dv = x.dtype.type(decay) * du[t]
    return dict(u=u, s=s, v=v, du=du, grad_x=du)
"""


def run(pytester, source, *args, ini="", expected=None):
    pytester.makepyfile(test_kernel=KERNEL + source)
    if expected is not None:
        pytester.path.joinpath("expected.txt").write_text(expected, encoding="utf-8")
        ini += "agl_expected_failures = expected.txt\n"
    pytester.makeini(f"[pytest]\naddopts = -p no:cacheprovider --strict-markers\n{ini}")
    return pytester.runpytest_inprocess(*LOAD, "-v", *args)


RIGHT = """
@pytest.mark.agl_vectors(ids=("lif-hard-attached", "lif-on-threshold", "lif-grid"), dtype=("float32", "float64"))
def test_lif(agl_case):
    agl_case.check(**lif(**agl_case.inputs, **agl_case.meta))
"""

STRICT = """
@pytest.mark.agl_vectors(ids=("lif-hard-attached", "lif-on-threshold"))
def test_lif(agl_case):
    agl_case.check(**lif(**agl_case.inputs, **agl_case.meta, fires=np.greater))
"""


def test_a_right_kernel_passes_every_case_and_dtype(pytester):
    result = run(pytester, RIGHT)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["*test_lif?lif-grid-float64? PASSED*"])


def test_a_wrong_kernel_fails_with_the_report_and_without_our_frames(pytester):
    result = run(pytester, STRICT)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*FAIL*lif-on-threshold*"])
    result.stdout.no_fnmatch_line("*compare.py*")


def test_an_expected_failure_has_its_reason(pytester):
    result = run(pytester, STRICT, "-rx", expected="# ours\nlif-on-threshold: our kernel fires at u > V_th\n")
    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*our kernel fires at u > V_th*"])


def test_one_that_passes_fails_the_run(pytester):
    result = run(pytester, RIGHT, expected="test_lif/lif-grid: was wrong once\n")
    result.assert_outcomes(passed=4, failed=2)
    assert result.ret == 1


def test_another_tests_expected_failure_excuses_nothing(pytester):
    run(pytester, STRICT, expected="test_other/lif-on-threshold: theirs\n").assert_outcomes(passed=1, failed=1)


def test_bad_input_is_no_expected_failure(pytester):
    source = """
@pytest.mark.agl_vectors(ids="lif-grid")
def test_lif(agl_case):
    agl_case.check(u=np.full_like(agl_case.inputs["x"], np.nan))
"""
    run(pytester, source, expected="lif-grid: NaN\n").assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("", "*expected the marker*"),
        ("@pytest.mark.agl_vectors(op='lif', flags='dead_channel')", "*at least one golden case*"),
        ("@pytest.mark.agl_vectors(ids='lif-grid', op='tdbn')", "*'lif-grid'*"),
        ("@pytest.mark.agl_vectors(ids='lif-nope')", "*agl-ref vectors list*"),
        (
            "@pytest.mark.agl_vectors(convention={'reset': 'hard'})",
            "*agl_vectors() got an unexpected*pytest --markers*",
        ),
    ],
)
def test_a_marker_that_selects_nothing_is_an_error(pytester, marker, words):
    result = run(pytester, f"{marker}\ndef test_lif(agl_case):\n    pass\n")
    assert result.ret != 0
    assert not result.parseoutcomes().get("passed")
    assert fnmatch(result.stdout.str() + result.stderr.str(), words)
    assert "_hookexec" not in result.stdout.str(), "pytest's own frames say nothing to who wrote the marker"


def test_conventions_choose_the_cases(pytester):
    source = """
@pytest.mark.agl_vectors(op="lif", flags="on_threshold", conventions={"spike_test": ">="})
def test_lif(agl_case):
    assert agl_case.conventions["spike_test"] == ">="
"""
    chosen = cases("lif", "on_threshold", "float32", conventions={"spike_test": ">="})
    assert 1 <= len(chosen) < len(cases("lif", "on_threshold", "float32"))
    run(pytester, source).assert_outcomes(passed=len(chosen))


def test_a_case_by_size_is_chosen_by_its_name(pytester):
    source = """
@pytest.mark.agl_vectors(ids=["size-linear-outputs-33", "linear-realistic"])
def test_linear(agl_case):
    inputs = agl_case.inputs
    agl_case.check(y=inputs["x"] @ inputs["weight"] + inputs.get("bias", 0))
"""
    run(pytester, source).assert_outcomes(passed=2)


def test_flags_choose_the_cases(pytester):
    source = """
@pytest.mark.agl_vectors(op="lif", flags=("on_threshold", "on_window_edge"))
def test_lif(agl_case):
    assert {"on_threshold", "on_window_edge"} <= set(agl_case.meta["flags"])
"""
    chosen = [id for id in cases("lif", ("on_threshold", "on_window_edge"), "float32")]
    assert len(chosen) >= 1
    run(pytester, source).assert_outcomes(passed=len(chosen))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lif-grid\n", "expected 'case: reason'"),
        ("lif-grid:\n", "say why it fails"),
        ("lif-nope: typo\n", "received 'lif-nope'"),
        ("lif-grid: a\nlif-grid: b\n", "expected.txt:2: expected 'lif-grid' once"),
    ],
)
def test_bad_files_of_expected_failures(tmp_path, text, words):
    path = tmp_path / "expected.txt"
    path.write_text(text)
    with pytest.raises(pytest.UsageError) as error:
        expected_failures(path)
    assert words in str(error.value)


def test_a_missing_file_of_expected_failures(tmp_path):
    with pytest.raises(pytest.UsageError, match="create it or drop the setting"):
        expected_failures(tmp_path / "none.txt")


def test_golden_files_that_change_fail_the_run(pytester, monkeypatch):
    folder = pytester.path / "golden"
    folder.mkdir()
    for path in vectors.FOLDER.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(vectors, "FOLDER", folder)
    source = """
@pytest.mark.agl_vectors(ids="lif-grid")
def test_lif(agl_case):
    from agl_ref.oracle.cases import vectors
    (vectors.FOLDER / "lif-grid.npz").write_bytes(b"better numbers")
"""
    result = run(pytester, source)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*golden files changed during the test run*"])


def test_no_option_writes_golden_data(pytester):
    text = run(pytester, RIGHT, "--help").stdout.str()
    ours = [line for line in text.splitlines() if "agl" in line]
    assert ours and not any(word in line for line in ours for word in ("--", "update", "regenerate"))


class TestVectorCase:
    def test_inputs_are_new_in_the_dtype_and_keep_their_strides(self):
        case = VectorCase("lif-strided-gradient", "float32")
        inputs = case.inputs
        assert inputs["ds"].dtype == np.float32 and not inputs["ds"].flags.c_contiguous
        inputs["x"][:] = 0
        assert (case.inputs["x"] == load_case(case.id).inputs["x"]).all()

    def test_labels_stay_integers(self):
        assert VectorCase("loss-mean", "float64").inputs["labels"].dtype.kind == "i"

    def test_conventions_and_meta_are_copies(self):
        case = VectorCase("lif-soft-attached", "float32")
        case.conventions["reset"] = "none"
        case.meta.clear()
        assert case.conventions["reset"] == "soft" and case.meta["v_th"] == 0.5
