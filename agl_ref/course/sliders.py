"""Sliders for a figure, where a front end can show them."""

import inspect
import sys


def explore(figure, **ranges):
    """Show a figure with a slider per parameter; without a front end, or without ipywidgets, the figure itself.

    Parameters
    ----------
    figure : callable
        A figure function, `figures.NAME`. Its defaults are where the sliders start.
    **ranges
        Parameter of the figure: (low, high, step), or a list of choices, or an ipywidgets widget.

    Returns
    -------
    ipywidgets.interactive, or matplotlib Figure
        As a cell's last line either is shown.

    Raises
    ------
    TypeError
        For a range of something that is no parameter of the figure.
    """
    if not callable(figure):
        raise TypeError(f"figure: expected a function, received {type(figure).__name__}; pass figures.NAME")
    parameters = inspect.signature(figure).parameters
    unknown = sorted(set(ranges) - set(parameters))
    if unknown:
        raise TypeError(f"explore: expected ranges of {', '.join(parameters)}, received {unknown[0]}; correct the name")
    if not _has_front_end():
        return figure()
    try:
        import ipywidgets  # optional
        from IPython.display import display
    except ModuleNotFoundError:
        return figure()

    def draw(**values):
        display(figure(**values))

    # ipywidgets makes a widget per parameter and starts it at its default
    draw.__signature__ = inspect.Signature([parameters[name].replace(kind=inspect.Parameter.KEYWORD_ONLY)
                                            for name in ranges])  # fmt: skip
    panel = ipywidgets.interactive(draw, **ranges)
    for child in panel.children:
        if hasattr(child, "continuous_update"):
            child.continuous_update = False  # draw when the slider is let go, not on its way
    return panel


def _has_front_end():
    """Whether someone looks at this kernel: a program that only executes notebooks takes no input either."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))
