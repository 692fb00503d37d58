"""How Sphinx builds the site; build.py calls it."""

import re

project = "agl_ref"
author = copyright = "The agl_ref developers"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
root_doc = "index"
html_theme = "furo"
html_title = "agl_ref"
html_copy_source = False
html_css_files = ["site.css"]
html_static_path = ["static"]
mathjax_path = "tex-svg.js"  # from the disk: build.py puts it beside the theme's files
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the outputs are those of the solutions, which the tests execute
autodoc_typehints = "none"
napoleon_use_rtype = False  # what comes back is described in one sentence


def as_numpydoc(app, what, name, obj, options, lines):
    """Docstrings are plain text: |z| is an absolute value, *shape Python's star; what returns is one line, `what : how`."""
    text = re.sub(r"\||\*(?=\w)", r"\\\g<0>", "\n".join(lines))
    before, heading, after = text.partition("Returns\n-------\n")
    section, blank, rest = after.partition("\n\n")
    section = re.sub(r"(?m)^(\S.*?) : ", r"\1\n    ", section)
    lines[:] = (before + heading + section + blank + rest).split("\n")


def setup(app):
    app.connect("autodoc-process-docstring", as_numpydoc, priority=0)
