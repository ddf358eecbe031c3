"""A toy assignment and a class that hands it in: what the tests of grading share."""

from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The toy assignment, made: (bundle, folder of made assignments, folder of hidden tests)."""
    pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")
    from grading.bundles import make_bundle

    built = tmp_path_factory.mktemp("built")
    return make_bundle(TOY / "T1_toy.ipynb", TOY / "hidden", built), built, TOY / "hidden"


@pytest.fixture(scope="session")
def isolation():
    """How submissions are isolated here."""
    pytest.importorskip("otter", reason="otter-grader is not there: install the extra 'grade'")
    from grading.isolation import RefusedError, find_isolation

    try:
        return find_isolation()
    except RefusedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def notebook_of():
    """Writes a notebook of these code cells."""
    import nbformat

    def write(path, *sources, **metadata):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
        return path

    return write
