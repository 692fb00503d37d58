"""Folders of notebooks for the tests of release and report."""

import pytest


@pytest.fixture
def folders(tmp_path):
    """(folder of solutions with one notebook, folder of tutorials)."""
    pytest.importorskip("nbgrader")
    nbformat = pytest.importorskip("nbformat")
    from notebooks_made_here import solved_notebook

    (tmp_path / "solutions").mkdir()
    nbformat.write(solved_notebook(), tmp_path / "solutions" / "small.ipynb")
    return tmp_path / "solutions", tmp_path / "tutorials"
