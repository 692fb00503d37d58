"""The registry of the tutorials' figures and their shared look.

    from agl_ref.course.figures.registry import INK, PALETTE, figure, panels

    @figure
    def spike_train(decay=0.2):
        fig, ax = panels(8, 4)
        ...
        return fig

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers. One quantity keeps one colour in every
figure: `COLOURS["u"]`. Text is at least 12 points on a figure 8 inches wide.
"""

import functools
import inspect
import io
import sys

import matplotlib
from cycler import cycler
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from agl_ref import validate

FIGURES = {}  # name: function

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, INK, GREY = "#0072B2", "#D55E00", "#CC79A7", "#000000", "#999999"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)  # yellow is too pale for lines on white
COLOURS = {
    "u": BLUE,
    "s": INK,
    "v": SKY,
    "x": GREY,
    "V_th": VERMILION,
    "window": ORANGE,  # kappa, the surrogate
    "gradient": GREEN,
    "adaptive": VERMILION,  # as in agl_ref.train.plots
    "fixed": BLUE,
}

MAP = {"cmap": ListedColormap(["#E4E4E4", VERMILION]), "vmin": 0, "vmax": 1, "edgecolors": "white", "linewidth": 0.5}

FONT_SIZE = 13
_LOOK = {
    "figure.figsize": (8.0, 4.0),
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "legend.fontsize": FONT_SIZE - 1,
    "legend.frameon": False,
    "figure.titlesize": FONT_SIZE + 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "lines.linewidth": 2.0,
    "svg.fonttype": "path",  # the same on every machine
    "svg.hashsalt": "agl_ref",  # the same ids, so that the same figure gives the same file
}


def style():
    """Context manager: matplotlib's settings for the tutorials' figures."""
    return matplotlib.rc_context({**_LOOK, "axes.prop_cycle": cycler(color=PALETTE)})


def panels(width, height, rows=1, columns=1, grid=None, **options):
    """(Figure, its axes) of a size in inches; grid: "both", "x" or "y"; options: those of matplotlib's Figure.subplots."""
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(rows, columns, **options)
    for ax in fig.axes if grid else ():
        ax.grid(alpha=0.3, axis=grid)
    return fig, axes


def beside(ax, text, at, offset, **look):
    """Write a text beside a point of the data, `offset` in points."""
    ax.annotate(text, at, offset, textcoords="offset points", **look)


def figure(function):
    """Register a figure by its function's name, and draw it in the shared look.

    Arguments that hold a NaN or an infinity are refused. The function returns a matplotlib Figure (TypeError when called,
    otherwise); every parameter has a default, so that the figure is complete by itself, and no other module has a figure of
    that name (else ValueError).
    """
    name = function.__name__
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_KEYWORD,):
            raise ValueError(f"{name}: expected a default for {parameter.name}, received none; add one")
    taken = FIGURES.get(name)
    if taken is not None and taken.__module__ != function.__module__:
        raise ValueError(f"{name}: expected a new name, received one that {taken.__module__} has; rename the figure")

    @functools.wraps(function)
    def draw(*args, **kwargs):
        for argument, value in inspect.signature(function).bind(*args, **kwargs).arguments.items():
            validate.finite(argument, value)
        with style():
            result = function(*args, **kwargs)
            if not isinstance(result, Figure):
                raise TypeError(f"{name}: expected to return a Figure, received {type(result).__name__}; return it")
            result.draw_without_rendering()  # ticks take their size from the settings when they are first drawn
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close(result)  # else a notebook shows it twice
        _enable_display()
        return result

    FIGURES[name] = draw
    return draw


def _enable_display():
    """Let a notebook show a Figure that pyplot did not make."""
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        return
    formatter = ipython.get_ipython().display_formatter.formatters["image/png"]
    if Figure not in formatter:
        formatter.for_type(Figure, _png)


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    return buffer.getvalue()
