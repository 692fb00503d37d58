"""Packaging: one list of packages and floors, lazy imports, bundled files, the README's claims about them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agl_ref as agl

ROOT = Path(__file__).parent.parent


def floors_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [
        line for extra in ("tutorials", "course", "test", "lint") for line in extras[extra]
    ]
    return {"python": project["requires-python"].removeprefix(">=")} | dict(line.split(">=") for line in lines)


def test_environment_yml_and_pyproject_name_the_same_packages_and_floors():
    text = (ROOT / "environment.yml").read_text()
    lines = re.findall(r"^  - ([a-z-]+)>=([0-9.]+) +# \w", text, re.M)  # each with a comment
    assert len(lines) == text.count(">=") and len(lines) > 8
    assert dict(lines) == floors_of_pyproject()
    assert "name: agl-ref" in text and "  - conda-forge" in text


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_loads_neither_numpy_nor_numba_nor_matplotlib():
    code = "import sys, agl_ref; print(*[m for m in ('numpy', 'numba', 'scipy', 'matplotlib') if m in sys.modules])"
    assert run_python(code) == []


def test_data_and_conventions_need_no_numba():
    code = "import sys, agl_ref as a; a.data, a.MPD_AGL, a.adaptive_width; print('numba' in sys.modules)"
    assert run_python(code) == ["False"]


def test_every_public_name_exists():
    for name in agl.__all__:
        assert getattr(agl, name) is not None
    assert set(dir(agl)) >= set(agl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        agl.nonsense  # noqa: B018


def test_the_bundled_data_is_small_and_carries_its_licence():
    folder = Path(agl.__file__).parent / "data" / "bundled"
    assert (folder / "fashion_mnist_subset.npz").stat().st_size <= 3_500_000
    assert "MIT" in (folder / "LICENSE-fashion-mnist.txt").read_text()


def test_no_public_function_is_without_a_docstring():
    for path in Path(agl.__file__).parent.rglob("*.py"):
        assert path.read_text().lstrip().startswith('"""'), path.name
    for name in agl.__all__[1:]:
        assert getattr(agl, name).__doc__ or isinstance(getattr(agl, name), dict), name


def test_a_submodule_does_not_hide_the_function_of_its_name():
    code = "import agl_ref as a, agl_ref.oracle.identify.search, agl_ref.oracle.cases.vectors, agl_ref.oracle.judge.compare\n"
    code += "print(*map(callable, (a.oracle.identify, a.oracle.cases, a.oracle.compare)), a.conv is a.ops)"
    assert run_python(code) == ["True"] * 4
