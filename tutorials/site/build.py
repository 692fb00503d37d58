"""Builds the site: the pages, the notebooks with their outputs, the explorer, and three pages made of code.

    make site       # builds .venv with the extra "site", fetches MathJax from npm, writes build/site/index.html

What is built opens from the disk, without a server or a network. The pages are copied into build/site-source, in the folders
that they have here, so that their links lead where they lead here, and Sphinx makes HTML of them there; a warning is an
error. Beside the pages stand:

- the students' notebooks, whose cells show what the executed solutions show: the figures and numbers, not the answers;
- reference.py, each line beside the equation of METHOD.md whose number it bears;
- the public names with their docstrings.
"""

import html
import inspect
import json
import re
import shutil
import sys
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.cmd.build import main as sphinx

import agl_ref
from agl_ref.course import figures

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
MATHJAX = ROOT / "build" / "node_modules" / "mathjax" / "es5" / "tex-svg.js"
FOLDERS = (".", "agl_ref", "tutorials", "tests")  # the second and later ones with all that is in them
LINK = re.compile(r"\]\(([^()\s#:]+)(#[^()\s]*)?\)")
MOVED = {
    "README.md": "index.md",
    "agl_ref/reference.py": "reference.md",
    "tutorials/explorer/index.html": "explorer.md",
    "tutorials/cheat_sheet/index.html": "cheat_sheet.md",
}
OWN = {  # pages that are HTML already: title, what the link says
    "explorer": ("A neuron to play with", "One neuron, or two in a row: drag, step, change a rule."),
    "cheat_sheet": ("Cheat sheet", "Symbols, equations, mistakes and their symptoms, on one page."),
}
MODULES = (
    "agl_ref",
    "theory",
    "data",
    "models",
    "optim",
    "train",
    "diagnostics",
    "ablation",
    "plots",
    "interop",
    "oracle",
)
CONTENTS = {  # caption of the sidebar: pages
    "The method": ("agl_ref/METHOD", "reference", "agl_ref/engine/README"),
    "Learn": ("tutorials/README", "tutorials/[01]*", "explorer", "cheat_sheet", "tutorials/TEACHING"),
    "Judge your kernel": ("agl_ref/oracle/README", "agl_ref/oracle/FRAMEWORKS", "tutorials/gpu/README"),
    "Train": (
        "tutorials/TRAINING",
        "tutorials/results/README",
        "tutorials/results/ablation/*",
        "tests/benchmarks/README",
    ),
    "The project": ("api", "CONTRIBUTING", "CHANGELOG"),
}


def pages():
    """The pages of the repository, as paths."""
    return [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))]


def copy_page(page):
    """Copy a page and the files that it links to. What has a page of its own here is linked there."""
    text = page.read_text(encoding="utf-8")
    up = "../" * len(page.relative_to(ROOT).parent.parts)

    def link(match):
        name = match[1]
        target = (page.parent / name).resolve()
        if str(target.relative_to(ROOT)) in MOVED:
            name = up + MOVED[str(target.relative_to(ROOT))]
        elif target.suffix not in (".md", ".ipynb") and target.is_file():
            copy = SOURCE / target.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
        return f"]({name}{match[2] or ''})"

    path = page.relative_to(ROOT)
    write(MOVED.get(str(path), path), LINK.sub(link, text))


def write(path, text):
    """Write a page of the site's source."""
    path = SOURCE / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def contents():
    """The directives that make the sidebar, for the end of the first page."""
    blocks = []
    for caption, names in CONTENTS.items():
        blocks.append(f":::{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n" + "\n".join(names) + "\n:::\n")
    return "\n" + "\n".join(blocks)


def notebook(path):
    """A student's notebook with its solution's outputs; each figure with its docstring as the text that stands for it.

    What a cell shows after a place to type a guess is folded, like the answer.
    """
    exercise = json.loads(path.read_text(encoding="utf-8"))
    solution = json.loads((path.parent / "solutions" / path.name).read_text(encoding="utf-8"))
    guessed = False
    for cell, solved in zip(exercise["cells"], solution["cells"], strict=True):
        if cell["cell_type"] != "code":
            guessed = False
            continue
        if guessed:
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", ()), "hide-output"]
        guessed = guessed or "".join(cell["source"]).startswith("predict(")
        cell["outputs"], cell["execution_count"] = solved["outputs"], solved["execution_count"]
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            name = re.findall(r"figures\.(\w+)\b", "".join(cell["source"]))[-1]
            cell["metadata"]["mystnb"] = {"image": {"alt": described(name)}}
    return json.dumps(exercise)


def described(figure):
    """What a figure shows: the first paragraph of its docstring."""
    return " ".join(inspect.getdoc(getattr(figures, figure)).partition("\n\n")[0].split())


def reference_page():
    """reference.py, each line beside the equation of METHOD.md whose number it bears."""
    package = Path(agl_ref.__file__).parent
    method = (package / "METHOD.md").read_text(encoding="utf-8")
    found = re.findall(r"(?m)^    (.*?)\(([A-Z]\d+)\)$", method)
    equations = {number: re.sub(" {2,}", "    ", line.strip()) for line, number in found}
    code = (package / "reference.py").read_text(encoding="utf-8")
    coloured = highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).splitlines()
    rows = []
    for line, shown in zip(code.splitlines(), coloured, strict=True):
        numbers = re.findall(r"\(([A-Z]\d+)\)", line.partition("#")[2])
        beside = "".join(f"<span>({n}) {html.escape(equations[n])}</span>" for n in numbers)
        rows.append(f'<div class="row"><code>{shown or " "}</code><div>{beside}</div></div>')
    return (
        "# The method in plain NumPy\n\n`agl_ref/reference.py` from top to bottom, and beside each line the "
        "equation of [METHOD.md](agl_ref/METHOD.md) that it computes.\n\n```{raw} html\n"
        f'<div class="beside highlight" tabindex="0">{chr(10).join(rows)}</div>\n```\n'
    )


def api_page():
    """The public names with their docstrings, module by module."""
    blocks = [
        "# Public names\n\nFrom `import agl_ref as agl`; errors say what was expected, what came, and what to do.\n"
    ]
    listed = set()
    for module in MODULES:
        path = module if module == "agl_ref" else f"agl_ref.{module}"
        found = agl_ref if module == "agl_ref" else getattr(agl_ref, module)
        blocks.append(f"## {path}\n\n```{{eval-rst}}\n")
        own = [name for name, value in vars(found).items() if getattr(value, "__module__", "") == found.__name__]
        for name in sorted(getattr(found, "__all__", own), key=str.lower):
            value = getattr(found, name)
            if name.startswith("_") or id(value) in listed:
                continue
            listed.add(id(value))
            if inspect.isclass(value):
                blocks.append(f".. autoclass:: {path}.{name}\n   :members:\n")
            elif inspect.isroutine(value):
                blocks.append(f".. autofunction:: {path}.{name}\n")
        blocks.append("```\n")
    return "\n".join(blocks)


def main():
    """Build the site; the exit code is Sphinx's."""
    if not MATHJAX.is_file():
        raise SystemExit(f"{MATHJAX}: expected MathJax, received nothing; npm install --prefix build mathjax@3.2.2")
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    for page in pages():
        copy_page(page)
    with open(SOURCE / "index.md", "a", encoding="utf-8") as first:
        first.write(contents())
    for path in sorted((ROOT / "tutorials").glob("*.ipynb")):
        write(path.relative_to(ROOT), notebook(path))
    write("reference.md", reference_page())
    write("api.md", api_page())
    for name, (title, text) in OWN.items():
        link = f'<p><a href="tutorials/{name}/index.html">{text}</a></p>'
        write(f"{name}.md", f"# {title}\n\n```{{raw}} html\n{link}\n```\n")
    code = sphinx(["-W", "--keep-going", "-q", "-j", "auto", "-c", str(HERE), str(SOURCE), str(SITE)])
    for name in OWN:
        page = shutil.copytree(ROOT / "tutorials" / name, SITE / "tutorials" / name) / "index.html"
        text = (
            page.read_text(encoding="utf-8").replace('.md"', '.html"').replace("agl_ref/reference.py", "reference.html")
        )
        page.write_text(text, encoding="utf-8")
    shutil.copy(MATHJAX, SITE / "_static")
    return code


if __name__ == "__main__":
    sys.exit(main())
