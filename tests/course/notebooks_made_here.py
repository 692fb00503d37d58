"""Notebooks built in the tests: a solved one, and the same as students hand it in."""

SOLUTIONS = {
    "leak": "def leak(v, x, decay):\n    ### BEGIN SOLUTION\n    return decay * v + x\n    ### END SOLUTION",
    "fires": "def fires(u, v_th):\n    ### BEGIN SOLUTION\n    return (u >= v_th).astype(float)\n    ### END SOLUTION",
    "rectangular": 'def rectangular(z, width):\n    """The window."""\n    ### BEGIN SOLUTION\n'
    "    return (np.abs(z) < width / 2) / width\n    ### END SOLUTION",
    "soft_reset": "def soft_reset(u, s, v_th):\n    ### BEGIN SOLUTION\n    return u - v_th * s\n    ### END SOLUTION",
}
POINTS = {"leak": 1, "fires": 1, "rectangular": 2, "soft_reset": 1}


def solved_notebook():
    """A notebook with four exercises, as an author writes it."""
    import nbformat

    new = nbformat.v4
    cells = [
        new.new_markdown_cell("# A small notebook", id="c00-title"),
        new.new_code_cell("import numpy as np\n\nfrom agl_ref.course import check", id="c00-imports"),
    ]
    for name, source in SOLUTIONS.items():
        cells += graded(name, source, POINTS[name])
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = new.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    for k, cell in enumerate(cell for cell in cells if cell.cell_type == "code"):
        cell.execution_count = k + 1
        cell.metadata["execution"] = {"iopub.execute_input": "2020-01-01T00:00:00Z"}
        cell.outputs = [new.new_output("stream", text="something\n")]
    return notebook


def graded(name, source, points):
    """The two cells of an exercise."""
    import nbformat

    new, common = nbformat.v4, {"schema_version": 3, "task": False}
    return [
        new.new_code_cell(source, id=f"c00-{name.replace('_', '-')}", metadata={"nbgrader": {
            "grade": False, "solution": True, "locked": False, "grade_id": name, **common}}),
        new.new_code_cell(f'check("{name}", {name})', id=f"c00-check-{name.replace('_', '-')}", metadata={"nbgrader": {
            "grade": True, "solution": False, "locked": True, "points": points, "grade_id": f"check-{name}", **common}}),
    ]  # fmt: skip


def hand_in(notebook, answers):
    """Put answers {exercise: source} into a student's notebook."""
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            cell.source = answers[name]
    return notebook


MIXED = {  # right, half right, crashing, not answered: 1 + 0.5 + 0 + 0 points
    "leak": "def leak(v, x, decay):\n    return x + decay * v",
    "fires": "def fires(u, v_th):\n    return (u > v_th).astype(float)",
    "rectangular": "def rectangular(z, width):\n    return 1 / undefined",
}
MIXED_POINTS = {"leak": 1, "fires": 0.5, "rectangular": 0, "soft_reset": 0}
