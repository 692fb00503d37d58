"""HTML without a template: elements that escape whatever they hold, and the frame of a page that needs no other file."""

from pathlib import Path
from xml.etree import ElementTree

STYLE = Path(__file__).parent / "page.css"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # even a page that was changed loads nothing


def el(tag, *children, **attributes):
    """An element. Children are elements, lists of them, or text; `class_` is the attribute class, `aria_label` aria-label."""
    given = {name.strip("_").replace("_", "-"): str(value) for name, value in attributes.items() if value is not None}
    made = ElementTree.Element(tag, given)
    for child in children:
        for part in child if isinstance(child, (list, tuple)) else [child]:
            if isinstance(part, ElementTree.Element):
                made.append(part)
            elif part is not None and len(made):
                made[-1].tail = f"{made[-1].tail or ''}{part}"
            elif part is not None:
                made.text = f"{made.text or ''}{part}"
    return made


def table(label, head, rows):
    """A table that scrolls by itself where the screen is narrow; a row's first cell names it. Cells are text or elements."""
    body = [el("tr", el("th", row[0], scope="row"), [el("td", cell) for cell in row[1:]]) for row in rows]
    made = el("table", el("thead", el("tr", [el("th", text, scope="col") for text in head])), el("tbody", body))
    return el("div", made, class_="scroll", tabindex="0", role="region", aria_label=f"{label}; scrolls sideways")


def document(title, *body):
    """The page as text."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        el("title", title),
        el("link", rel="icon", href="data:,"),
        el("style", STYLE.read_text(encoding="utf-8")),
    )
    page = el("html", head, el("body", el("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{ElementTree.tostring(page, encoding='unicode', method='html')}\n"
