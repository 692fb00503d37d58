"""The course's package, its figures' registry and shared look, the command that writes them, sliders."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

import agl_ref.course
from agl_ref import cli
from agl_ref.course import NOTEBOOKS, explore, figures, sliders
from agl_ref.course.figures.registry import COLOURS, FIGURES, FONT_SIZE, PALETTE, figure, style


@pytest.fixture
def line():
    """A registered figure."""

    @figure
    def test_line(slope=1.0, label="u"):
        drawn = Figure(figsize=(4, 3), layout="constrained")
        drawn.subplots().plot([0, slope], label=label)
        return drawn

    yield test_line
    del FIGURES["test_line"]


# --- the package ----------------------------------------------------------------------------------


def test_the_package_is_lazy_and_lists_its_names():
    names = "check check_network exercises explore figures hint my_functions predict predictions"
    assert set(dir(agl_ref.course)) == set(names.split())
    for name in agl_ref.course.__all__:
        assert getattr(agl_ref.course, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        agl_ref.course.nonsense  # noqa: B018
    code = ("import sys, agl_ref.course; from agl_ref.course import figures, explore; "
            "print(*[m for m in ('numpy', 'matplotlib', 'ipywidgets', 'nbgrader') if m in sys.modules])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


# --- figures --------------------------------------------------------------------------------------


def test_a_figure_is_found_by_its_name(line):
    assert figures.test_line is line and "test_line" in figures.names() and "test_line" in dir(figures)
    assert isinstance(figures.test_line(slope=2.0), Figure)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        figures.nonsense  # noqa: B018
    for module in NOTEBOOKS:
        assert isinstance(getattr(figures, module), types.ModuleType)


def test_figures_are_drawn_in_the_shared_look(line):
    outside = matplotlib.rcParams["font.size"]
    axes = line().axes[0]
    assert FONT_SIZE >= 12 and axes.title.get_fontsize() == FONT_SIZE
    assert axes.get_xticklabels()[0].get_fontsize() == FONT_SIZE - 1 >= 12
    assert axes.lines[0].get_color() == PALETTE[0] and not axes.spines["top"].get_visible()
    assert matplotlib.rcParams["font.size"] == outside
    assert set(COLOURS) >= {"u", "s", "v", "V_th", "window"} and len(set(PALETTE)) == len(PALETTE)
    with style():
        assert matplotlib.rcParams["font.size"] == FONT_SIZE


def test_a_pyplot_figure_is_closed_so_that_a_notebook_shows_it_once():
    import matplotlib.pyplot as plt

    try:

        @figure
        def test_pyplot():
            return plt.subplots()[0]

        before = plt.get_fignums()
        assert isinstance(test_pyplot(), Figure) and plt.get_fignums() == before
    finally:
        del FIGURES["test_pyplot"]


def test_what_is_no_complete_figure_is_refused(line):
    with pytest.raises(ValueError, match="expected a default for u"):
        figure(lambda u: None)

    def test_line():
        return None

    test_line.__module__ = "elsewhere"
    with pytest.raises(ValueError, match=f"test_line: expected a new name, received one that {__name__} has"):
        figure(test_line)
    test_line.__module__ = __name__  # a module that is loaded again may register again
    with pytest.raises(TypeError, match="expected to return a Figure, received NoneType"):
        figure(test_line)()


def test_a_notebook_learns_to_show_figures(line, monkeypatch):
    class Formatter(dict):
        def for_type(self, kind, function):
            self[kind] = function

    formatter = Formatter()
    shell = types.SimpleNamespace(display_formatter=types.SimpleNamespace(formatters={"image/png": formatter}))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    drawn = line()
    assert formatter[Figure](drawn).startswith(b"\x89PNG")
    kept = formatter[Figure]
    line()
    assert formatter[Figure] is kept
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    line()


def test_the_command_writes_png_and_svg_that_are_the_same_on_every_run(line, tmp_path, capsys):
    for folder in ("a", "b"):
        assert cli.main(["figures", str(tmp_path / folder), "--only", "test_line"]) == 0
    written = capsys.readouterr().out.split()
    assert [Path(p).name for p in written[:2]] == ["test_line.png", "test_line.svg"]
    for suffix in ("png", "svg"):
        first, second = (tmp_path / folder / f"test_line.{suffix}" for folder in "ab")
        assert first.read_bytes() == second.read_bytes() and first.stat().st_size > 1000
    assert cli.main(["figures", str(tmp_path / "c"), "--only", "test_line", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0].endswith("test_line.png")


def test_the_command_refuses_an_unknown_figure(line, tmp_path, capsys):
    assert cli.main(["figures", str(tmp_path / "x"), "--only", "nonsense"]) == 3
    error = capsys.readouterr().err
    assert "--only: expected one of" in error and "received 'nonsense'" in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="some figures train networks")
def test_every_figure_is_complete_by_itself_and_readable():
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    for name in figures.names():
        drawn = getattr(figures, name)()
        texts = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= 12, name
        drawn_as_shapes = [line for line in drawn.findobj(Line2D) if not line.get_rasterized()]
        markers = sum(len(line.get_xdata()) for line in drawn_as_shapes if line.get_marker() not in (None, "None", ""))
        assert markers < 8000, f"{name}: an SVG of so many shapes is over a megabyte; rasterize the dense points"


# --- sliders --------------------------------------------------------------------------------------


def test_without_a_front_end_the_figure_itself_is_shown(line, monkeypatch):
    assert isinstance(explore(line, slope=(0, 2, 0.5)), Figure)
    with pytest.raises(TypeError, match="expected ranges of slope, label, received width"):
        explore(line, width=(0, 1, 0.1))
    kernel = types.SimpleNamespace(_allow_stdin=False)  # what executes a notebook without showing it
    shell = types.SimpleNamespace(kernel=kernel)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert not sliders._has_front_end()
    kernel._allow_stdin = True
    assert sliders._has_front_end()


def test_without_ipywidgets_the_figure_itself_is_shown(line, monkeypatch):
    monkeypatch.setattr(sliders, "_has_front_end", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert isinstance(explore(line, slope=(0, 2, 0.5)), Figure)


@pytest.mark.filterwarnings("ignore")
def test_with_a_front_end_there_is_a_slider_that_starts_at_the_default(line, monkeypatch):
    pytest.importorskip("ipywidgets")
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    monkeypatch.setattr(sliders, "_has_front_end", lambda: True)
    panel = explore(line, slope=(0, 2, 0.5), label=["u", "v"])
    slider, choice = panel.children[:2]
    assert (slider.value, slider.min, slider.max, slider.step) == (1.0, 0, 2, 0.5) and not slider.continuous_update
    assert choice.options == ("u", "v") and choice.value == "u"
    panel.update()
    assert isinstance(shown[-1], Figure)
