"""The cache of executed notebooks, filled before the book is built."""

from types import SimpleNamespace

import nbformat
import pytest

execution_cache = pytest.importorskip("execution_cache", reason="the book's packages are not installed")

GOOD = "print('6 * 7', end='', flush=True)\nprint('\\n42')"


def notebook(code):
    """A notebook of one cell."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata=kernel)


@pytest.fixture
def app(tmp_path):
    """What Sphinx tells of a book with two notebooks, one of which fails."""
    (tmp_path / "notebooks").mkdir()
    for name, code in (("good", GOOD), ("bad", "1 / 0")):
        nbformat.write(notebook(code), tmp_path / "notebooks" / f"{name}.ipynb")
    config = SimpleNamespace(nb_execution_mode="cache", nb_execution_timeout=60)
    return SimpleNamespace(srcdir=str(tmp_path), outdir=str(tmp_path / "_build" / "html"), config=config)


def test_what_is_missing_is_executed_once_and_a_failure_is_left_to_its_page(app, monkeypatch):
    execution_cache.forget_outdated(app)
    execution_cache.execute_missing(app)
    cache = execution_cache.get_cache(execution_cache.cache_folder(app))
    assert execution_cache.is_cached(cache, notebook(GOOD))
    assert not execution_cache.is_cached(cache, notebook("1 / 0"))
    (record,) = cache.list_cache_records()
    assert record.data["execution_seconds"] > 0
    (cell,) = cache.get_cache_bundle(record.pk).nb.cells
    assert [output.text for output in cell.outputs] == ["6 * 7\n42\n"]  # though it came in two pieces

    again = []
    run = execution_cache.single_nb_execution
    monkeypatch.setattr(
        execution_cache, "single_nb_execution", lambda nb, *given: again.append(nb.cells[0].source) or run(nb, *given)
    )
    execution_cache.execute_missing(app)
    assert again == ["1 / 0"]


@pytest.mark.parametrize("name", ["normlib/losses/a.py", "normcourse/widgets/a.mjs", "results/digits-simclr/a.parquet"])
def test_a_change_of_either_package_or_of_a_record_empties_the_cache(app, tmp_path, name):
    path, old = tmp_path / name, tmp_path / "_build" / ".jupyter_cache" / "old"
    path.parent.mkdir(parents=True)
    path.write_text("1")
    execution_cache.forget_outdated(app)
    old.touch()
    execution_cache.forget_outdated(app)
    assert old.exists()
    path.write_text("2")
    execution_cache.forget_outdated(app)
    assert not old.exists()


def test_what_an_installation_or_an_import_leaves_behind_changes_nothing(app, tmp_path):
    (tmp_path / "normcourse").mkdir()
    before = execution_cache.fingerprint(tmp_path)
    for name in ("normcourse/__pycache__/cli.pyc", "normcourse/embedding_norms_course.egg-info/PKG-INFO"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert execution_cache.fingerprint(tmp_path) == before
