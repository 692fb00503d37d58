"""The students' notebooks from the solved ones: solutions become stubs, outputs go.

python -m agl_ref.course.release tutorials/solutions tutorials            # write them
python -m agl_ref.course.release tutorials/solutions tutorials --check    # exit code 1 if they are not up to date
"""

import argparse
import sys
from pathlib import Path

from agl_ref import files

FAILED, BAD_INPUT = 1, 3


def student_version(notebook):
    """The text of a student's notebook, from a solved one (nbformat.NotebookNode, changed in place).

    nbgrader's ClearSolutions puts a stub in place of what is between BEGIN SOLUTION and END SOLUTION, nbconvert's
    ClearOutputPreprocessor takes away outputs and execution counts. ValueError for a solution that is not marked as
    nbgrader wants it.
    """
    import nbformat  # optional packages
    from nbconvert.preprocessors import ClearOutputPreprocessor
    from nbgrader.preprocessors import ClearSolutions

    clear = ClearSolutions()
    clear.log.disabled = True  # it repeats the whole cell; the error says which rule it breaks
    try:
        notebook, _ = clear.preprocess(notebook, {})
    except RuntimeError as error:
        raise ValueError(f"expected solutions that nbgrader accepts, received: {error}") from None
    finally:
        clear.log.disabled = False
    notebook, _ = ClearOutputPreprocessor().preprocess(notebook, {})
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
    return nbformat.writes(notebook) + "\n"


def release(solutions, tutorials, check=False):
    """Write every student's notebook, or with `check` only say which differ.

    solutions and tutorials are folders of NAME.ipynb, solved and for students. Returns the names of the notebooks that
    were written, or that differ, are missing, or have no solved one. ValueError for a folder without notebooks, a file
    that is no notebook, or what `student_version` refuses.
    """
    solutions, tutorials = Path(solutions), Path(tutorials)
    sources = sorted(solutions.glob("*.ipynb"))
    if not sources:
        raise ValueError(f"{solutions}: expected a folder of solved notebooks, found none; name another folder")
    made, changed = {}, []
    for path in sources:
        notebook = read_notebook(path)
        try:
            made[path.name] = student_version(notebook)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    for name, text in made.items():
        target = tutorials / name
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            continue
        changed.append(name)
        if not check:
            files.write_atomically(target, text.encode())
    if check:
        changed += sorted(path.name for path in tutorials.glob("*.ipynb") if path.name not in made)
    return changed


def read_notebook(path):
    """A notebook from a file; ValueError if it is none."""
    import nbformat  # an optional package

    try:
        return nbformat.reads(files.read_text(path), as_version=4)
    except Exception as error:  # nbformat raises several kinds
        text = " ".join(str(error).split()).removeprefix(f"{path}: ")[:120]
        raise ValueError(f"{path}: expected a notebook, received something else ({text}); name another file") from None


def main(argv=None):
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m agl_ref.course.release", description=__doc__.partition("\n")[0])
    parser.add_argument("solutions", metavar="SOLUTIONS", help="folder of the solved notebooks")
    parser.add_argument("tutorials", metavar="TUTORIALS", help="folder of the students' notebooks")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a notebook differs")
    args = parser.parse_args(argv)
    try:
        changed = release(args.solutions, args.tutorials, args.check)
    except ModuleNotFoundError as error:
        print(f"release: expected Jupyter and nbgrader, found no module {error.name!r}; pip install 'agl-ref[course]'",
              file=sys.stderr)  # fmt: skip
        return BAD_INPUT
    except ValueError as error:
        print(f"release: {error}", file=sys.stderr)
        return BAD_INPUT
    for name in changed:
        print(f"{Path(args.tutorials) / name} {'is not what its solution gives' if args.check else 'written'}")
    return FAILED if args.check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
