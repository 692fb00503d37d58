"""Pages: every relative link leads to a file and to a heading of it, and every file or module that a page names exists."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "tutorials").is_dir():
    pytest.skip("the pages lead to the tutorials, which are not installed", allow_module_level=True)
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FOLDERS = ("agl_ref", "tests", "tutorials")
PAGES = [ROOT / name for name in TOP] + [page for folder in FOLDERS for page in sorted((ROOT / folder).rglob("*.md"))]
OTHERS = {"nbgrader_config.py", "my_snn.py"}  # files that a page names and that are nobody's here
HISTORY = ROOT / "CHANGELOG.md"  # says what files were called at the time: its links count, the names in it do not

LINK = re.compile(r"\]\(([^()\s]+)\)")
PATH = re.compile(r"(?<![\w/.])(?:agl_ref|tests|tutorials|\.ci)/[\w./*?\[\]-]*[\w*]/?")
BARE = re.compile(r"(?<![\w/.*])\w[\w-]*\.(?:py|md)\b(?![\w/(.])")
MODULE = re.compile(r"(?<![\w./])(?:agl_ref|agl)(?:\.\w+)+(?!/)")  # pages import agl_ref as agl


def anchors(text):
    """The fragments that GitHub gives a page's headings: lower case, words joined by hyphens, no punctuation."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", text))
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page):
    """The targets of a page's links and images that are no file beside it, or no heading of that file."""
    broken = []
    for target in LINK.findall(re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = page.parent / name if name else page
        known = anchors(file.read_text(encoding="utf-8")) if file.suffix == ".md" and file.is_file() else set()
        if not file.exists() or (fragment and fragment not in known):
            broken.append(target)
    return broken


def resolves(name):
    """Whether a dotted name is a module of the package, or can be reached from one."""
    parts = ["agl_ref", *name.split(".")[1:]]
    for n in range(len(parts), 0, -1):
        module = ".".join(parts[:n])
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            continue
        if found:
            if n == len(parts):
                return True
            value = importlib.import_module(module)
            for part in parts[n:]:
                value = getattr(value, part, None)
            return value is not None
    return False


def missing_names(text):
    """Paths, file names and modules of this repository that a text names and that are not there.

    A path begins with one of the repository's folders and may be a pattern, as tutorials/solutions/0[1-3]*.ipynb; a file
    name without a folder must be the name of some Python file or page.
    """
    ours = {path.name for folder in FOLDERS for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind)}
    missing = [path for path in PATH.findall(text) if not any(ROOT.glob(path.rstrip("/")))]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    bare = {name for span in spans for name in BARE.findall(span)}
    missing += sorted(bare - ours - OTHERS - set(TOP))
    return missing + [name for name in MODULE.findall(text) if not resolves(name)]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=name_of)
def test_what_a_page_names_is_there(page):
    assert missing_names(page.read_text(encoding="utf-8")) == []


def test_pages_have_links_and_names():
    """The tests above would pass on pages in which they find nothing."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(LINK.findall(text)) > 10 and len(PATH.findall(text)) > 5 and "agl_ref.reference" in MODULE.findall(text)
    assert len(PAGES) > 10


def test_broken_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# A heading, with `code`\n")
    page = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#a-heading-with-code) [c](#here) [d](https://example.org/x) `[no](link)`\n\n## Here\n"
    page.write_text(good)
    assert broken_links(page) == []
    page.write_text(good + "[e](none.md) ![f](figures/none.png) [g](other.md#gone) [h](#nowhere)\n")
    assert broken_links(page) == ["none.md", "figures/none.png", "other.md#gone", "#nowhere"]


def test_missing_names_are_found():
    good = "`agl_ref/reference.py`, tests/, `tutorials/0*.ipynb`, `conventions.py`, agl_ref.theory, agl.oracle.compare(a, b)"
    assert missing_names(good) == []
    bad = "`agl_ref/none.py` tutorials/9*.ipynb `nothing.py` python -m agl_ref.nothing and agl.theory.nothing(x)"
    names = ["agl_ref/none.py", "tutorials/9*.ipynb", "nothing.py", "agl_ref.nothing", "agl.theory.nothing"]
    assert missing_names(bad) == names
