"""A pytest plugin: golden cases as parameters of a test. It comes with the package and needs no import.

    @pytest.mark.agl_vectors(op="lif", flags="on_threshold", dtype="float32")
    def test_my_kernel(agl_case):
        u, s, dx = my_kernel(agl_case.inputs["x"], agl_case.inputs["ds"], **agl_case.meta)
        agl_case.check(u=u, s=s, grad_x=dx)

Expected failures are listed in a file that `agl_expected_failures` in pytest's configuration names, each with a reason:

    lif-on-threshold: our kernel fires at u > V_th
    test_my_kernel/lif-long: known to lose the carry after 32 timesteps

A listed test must fail with an AssertionError: one that passes fails the run, so that the file cannot go stale, and one that
stops with bad input is not excused. There is no option that writes golden data, and a run during which they changed fails.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from agl_ref import oracle

MARKER = "agl_vectors"
_USED = pytest.StashKey()
_EXPECTED = pytest.StashKey()


def vectors():
    """The module of the golden files."""
    from agl_ref.oracle.cases import vectors  # here: pytest loads this plugin in every run of any project

    return vectors


@dataclass(frozen=True)
class VectorCase:
    """What the fixture `agl_case` gives: one golden case in one dtype.

    Attributes
    ----------
    id, dtype : str
    """

    id: str
    dtype: str

    @cached_property
    def reference(self):
        """The `agl_ref.oracle.Reference`."""
        return vectors().load_case(self.id)

    @property
    def inputs(self):
        """{name: ndarray} in the case's dtype, new at each access; narrower dtypes come as float32, which holds them."""
        kind = "float64" if self.dtype == "float64" else "float32"
        inputs = self.reference.inputs.items()
        return {name: a.astype(a.dtype if a.dtype.kind in "iu" else kind) for name, a in inputs}  # in its own order

    @property
    def meta(self):
        """The scalars, or the network's layers."""
        return dict(self.reference.meta)

    @property
    def conventions(self):
        """Every convention of the case, as a dict."""
        return dict(self.reference.conventions)

    def check(self, force=(), layout="TN..C", **arrays):
        """Raise AssertionError with the report unless the arrays match; see `agl_ref.oracle.assert_matches`."""
        __tracebackhide__ = True
        return oracle.assert_matches(self.reference, self.dtype, force, layout, **arrays)


def pytest_addoption(parser):
    """The one setting: the file that lists the expected failures."""
    parser.addini(
        "agl_expected_failures", "file of golden cases that are expected to fail, with a reason each", default=""
    )


def pytest_configure(config):
    """Register the marker; read the expected failures, so that a bad file stops the run."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(ids=None, op=None, flags=(), dtype='float32', tier=None, conventions=None): run the test on these golden "
        "cases of agl_ref, which it gets as the fixture agl_case",
    )
    name = config.getini("agl_expected_failures")
    config.stash[_EXPECTED] = expected_failures(config.rootpath / name) if name else {}


def expected_failures(path):
    """{"case" or "test/case": reason} of a file; pytest.UsageError for a line without a reason, or an unknown case."""
    path = Path(path)
    if not path.is_file():
        raise pytest.UsageError(
            f"agl_expected_failures: expected a file, received {path}; create it or drop the setting"
        )
    known, found = set(vectors().cases()), {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, reason = (part.strip() for part in line.partition(":"))
        if not colon or not reason:
            raise pytest.UsageError(f"{path}:{number}: expected 'case: reason', received {line!r}; say why it fails")
        if name.rpartition("/")[2] not in known:
            raise pytest.UsageError(
                f"{path}:{number}: expected a case of agl-ref vectors list, received {name!r}; correct it"
            )
        if name in found:
            raise pytest.UsageError(f"{path}:{number}: expected {name!r} once, received it twice; drop a line")
        found[name] = reason
    return found


def pytest_generate_tests(metafunc):
    """One test per golden case and dtype that the marker names."""
    if "agl_case" not in metafunc.fixturenames:
        return
    marker, test = metafunc.definition.get_closest_marker(MARKER), metafunc.definition.nodeid
    if marker is None:
        pytest.fail(f"{test}: expected the marker @pytest.mark.{MARKER}(...) beside the fixture agl_case, received none; "
                    "without arguments it takes every case", pytrace=False)  # fmt: skip
    _remember(metafunc.config)
    expected = metafunc.config.stash[_EXPECTED]
    chosen, params, refused = (), [], ""
    try:
        chosen = _selected(*marker.args, **marker.kwargs)
    except (TypeError, ValueError) as error:
        refused = str(error).replace(_selected.__name__, MARKER)
    if refused:  # here, where no other exception is being handled that would be shown too
        pytest.fail(f"{test}: {refused}; pytest --markers says what {MARKER} takes", pytrace=False)
    for id, dtype in chosen:
        reason = expected.get(f"{metafunc.definition.originalname}/{id}", expected.get(id))
        marks = pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError) if reason else ()
        params.append(pytest.param((id, dtype), marks=marks, id=f"{id}-{dtype}"))
    metafunc.parametrize("agl_case", params, indirect=True)


def _selected(ids=None, op=None, flags=(), dtype="float32", tier=None, conventions=None):
    """(id, dtype) of the marker's cases; a marker that selects nothing would be a test that cannot fail."""
    golden, found = vectors(), []
    ids = (ids,) if isinstance(ids, str) else ids
    by_size = [id for id in ids or () if golden.is_by_size(id)]  # these are in no list
    for one in (dtype,) if isinstance(dtype, str) else dtype:
        chosen = [*golden.cases(op, flags, one, tier, conventions=conventions), *by_size]
        for id in ids or ():
            golden.entry_of(id)  # says which ids there are
            if id not in chosen:
                raise ValueError(f"expected {id!r} to have these flags, op, tier and {one}; drop it")
        found += [(id, one) for id in chosen if ids is None or id in ids]
    if not found:
        raise ValueError("expected at least one golden case, received none for this marker; widen it")
    return found


@pytest.fixture
def agl_case(request):
    """A golden case of agl_ref (`VectorCase`); choose which with the marker agl_vectors."""
    return VectorCase(*request.param)


def _fingerprint():
    """What the golden files hold now."""
    mixed = hashlib.sha256()
    for path in sorted(Path(vectors().FOLDER).iterdir()):
        if path.is_file():
            mixed.update(path.name.encode() + path.read_bytes())
    return mixed.hexdigest()


def _remember(config):
    if _USED not in config.stash:
        config.stash[_USED] = _fingerprint()


def pytest_sessionfinish(session, exitstatus):
    """Golden files that changed while the tests ran prove nothing: the run fails."""
    config = session.config
    if _USED in config.stash and config.stash[_USED] != _fingerprint():
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("agl_ref: golden files changed during the test run; reinstall agl-ref", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
