import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import repository

ROOT = Path(__file__).parents[2]
PYPROJECT = '[project]\nname = "x"\nversion = "0.1.0"  # é\n\n[tool.x]\ny = 1\n'
URL, OTHER = "https://github.com/some-owner/norms", "https://github.com/Fork3r/norms.course"


def notebook(*sources):
    """A notebook file's text: "# …" is a text cell, anything else code, "old = …" the set-up cell."""
    entries = []
    for index, source in enumerate(sources):
        metadata = {"tags": ["setup"]} if source.startswith("old") else {}
        lines = source.splitlines(keepends=True)
        entry = {"cell_type": "markdown", "id": f"cell-{index}", "metadata": metadata, "source": lines}
        if not source.startswith("# "):
            entry |= {"cell_type": "code", "execution_count": None, "outputs": []}
        entries.append(entry)
    document = {"cells": entries, "metadata": {"é": "‖z‖"}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


@pytest.fixture
def checkout(tmp_path):
    """A copy of the real places, with a README, one chapter that has a set-up cell and one that has none."""
    for name in ("_config.yml", "CITATION.cff", "book/setup_cell.py", "tools/repository.py", "tools/atomic_write.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, "utf-8")
    (tmp_path / "README.md").write_text("# Title\n\n<!-- repository -->\nold\n<!-- /repository -->\n\nText.\n", "utf-8")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/01-a.ipynb").write_text(notebook("# One", "old = 1", "1 + 1"), "utf-8")
    (tmp_path / "notebooks/02-b.ipynb").write_text(notebook("# Two", "2 + 2"), "utf-8")
    return tmp_path


def run(checkout, *arguments):
    command = [sys.executable, str(checkout / "tools/repository.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=checkout.parent)


def contents(checkout):
    return {path: path.read_bytes() for path in sorted(checkout.rglob("*")) if path.is_file()}


def setup_cells(checkout):
    found = []
    for path in sorted(checkout.glob("notebooks/*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        found += ["".join(cell["source"]) for cell in cells if "setup" in cell["metadata"].get("tags", [])]
    return found


def test_every_derived_place_agrees_with_pyproject():
    check = subprocess.run([sys.executable, ROOT / "tools/repository.py", "check"], capture_output=True, text=True)
    assert (check.returncode, check.stdout + check.stderr) == (0, "")


def test_set_rewrites_every_place(checkout):
    result = run(checkout, "set", URL)
    assert result.returncode == 0, result.stderr
    assert "git tag v0.1.0" in result.stdout

    project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["urls"] == {"Repository": URL}
    config = yaml.safe_load((checkout / "_config.yml").read_text("utf-8"))
    assert config["repository"] == {"url": URL, "branch": "v0.1.0"}
    assert config["html"]["baseurl"] == "https://some-owner.github.io/norms/"
    assert config["html"]["use_repository_button"] is True
    assert config["launch_buttons"]["colab_url"] == "https://colab.research.google.com"
    assert config["launch_buttons"]["binderhub_url"] == "https://mybinder.org"
    citation = yaml.safe_load((checkout / "CITATION.cff").read_text("utf-8"))
    assert (citation["repository-code"], citation["url"]) == (URL, "https://some-owner.github.io/norms/")
    readme = (checkout / "README.md").read_text("utf-8")
    assert f"{URL}/actions/workflows/tests.yml/badge.svg" in readme
    assert "https://colab.research.google.com/github/some-owner/norms/blob/v0.1.0/notebooks/01-a.ipynb" in readme
    assert "https://mybinder.org/v2/gh/some-owner/norms/v0.1.0" in readme
    assert readme.startswith("# Title\n")
    assert "old" not in readme
    assert readme.endswith("\n\nText.\n")
    cell = (checkout / "book/setup_cell.py").read_text("utf-8")
    assert f'REPOSITORY = "{URL}"\nTAG = "v0.1.0"\n' in cell
    assert setup_cells(checkout) == [cell.removesuffix("\n")] * 2
    assert run(checkout, "check").returncode == 0


def test_the_buttons_of_a_chapter_open_it_at_the_tag(checkout):
    pytest.importorskip("jupyter_book", reason="this environment was made without the book's packages")
    run(checkout, "set", URL)
    run(checkout, "pin", "v2026.1")
    config = yaml.safe_load((checkout / "_config.yml").read_text("utf-8"))
    kept = {key: config[key] for key in ("html", "launch_buttons", "repository")} | {"only_build_toc_files": True}
    kept["html"].pop("favicon")
    book = {"_config.yml": kept | {"execute": {"execute_notebooks": "off"}}, "_toc.yml": {"format": "jb-book"}}
    book["_toc.yml"]["root"] = "notebooks/01-a"
    for name, content in book.items():
        (checkout / name).write_text(yaml.safe_dump(content), "utf-8")
    build = [Path(sys.executable).with_name("jupyter-book"), "build", checkout]
    subprocess.run(build, check=True, capture_output=True)
    page = (checkout / "_build/html/notebooks/01-a.html").read_text("utf-8")
    assert 'href="https://colab.research.google.com/github/some-owner/norms/blob/v2026.1/notebooks/01-a.ipynb"' in page
    assert 'href="https://mybinder.org/v2/gh/some-owner/norms/v2026.1?urlpath=lab/tree/notebooks/01-a.ipynb"' in page


def test_set_changes_nothing_else(checkout):
    before = {path: text.decode().splitlines() for path, text in contents(checkout).items()}
    run(checkout, "set", URL)
    for path, text in contents(checkout).items():
        if path.suffix != ".ipynb":
            added = [line for line in text.decode().splitlines() if line not in before[path]]
            switches = ("use_repository_button", "use_issues_button", "colab_url", "binderhub_url", "[project.urls]")
            other = [line for line in added if "some-owner" not in line and "0.1.0" not in line]
            assert [line for line in other if not line.strip().startswith(switches)] == []
    parsed = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))
    assert parsed["project"].pop("urls") == {"Repository": URL}
    assert parsed == tomllib.loads(PYPROJECT)


def test_set_twice_changes_nothing_more(checkout):
    run(checkout, "set", URL)
    once = contents(checkout)
    again = run(checkout, "set", f"{URL}.git")
    assert again.returncode == 0
    assert "rewrote" not in again.stdout
    assert contents(checkout) == once


def test_a_fork_sets_another_address_and_the_first_one_can_be_set_again(checkout):
    run(checkout, "set", URL)
    first = contents(checkout)
    run(checkout, "set", OTHER)
    assert not [path for path, text in contents(checkout).items() if b"some-owner" in text]
    assert "https://fork3r.github.io/norms.course/" in (checkout / "_config.yml").read_text("utf-8")
    run(checkout, "set", URL)
    assert contents(checkout) == first


def test_the_tag_follows_the_version(checkout):
    path = checkout / "pyproject.toml"
    path.write_text(path.read_text("utf-8").replace('version = "0.1.0"', 'version = "0.2.0"'), "utf-8")
    assert run(checkout, "sync").returncode == 0
    assert 'TAG = "v0.2.0"' in setup_cells(checkout)[0]
    assert yaml.safe_load((checkout / "_config.yml").read_text("utf-8"))["repository"]["branch"] == "v0.2.0"


def test_a_pinned_tag_is_in_every_link_and_stays_when_the_version_changes(checkout):
    run(checkout, "set", URL)
    pinned = run(checkout, "pin", "v2026.1")
    assert pinned.returncode == 0, pinned.stderr
    assert "git tag v2026.1; git push origin HEAD v2026.1" in pinned.stdout
    path = checkout / "pyproject.toml"
    path.write_text(path.read_text("utf-8").replace('version = "0.1.0"', 'version = "0.2.0"'), "utf-8")
    assert run(checkout, "check").returncode == 0
    assert not [path for path, text in contents(checkout).items() if b"v0.1.0" in text and path.suffix != ".py"]
    assert 'TAG = "v2026.1"' in setup_cells(checkout)[0]
    assert yaml.safe_load((checkout / "_config.yml").read_text("utf-8"))["repository"]["branch"] == "v2026.1"
    assert (checkout / "README.md").read_text("utf-8").count("/v2026.1") == 2


def test_the_tag_of_the_version_is_not_pinned(checkout):
    run(checkout, "set", URL)
    before = contents(checkout)
    run(checkout, "pin", "v2026.1")
    assert run(checkout, "pin", "v0.1.0").returncode == 0
    after = contents(checkout)
    assert tomllib.loads(after.pop(checkout / "pyproject.toml").decode())["tool"]["embedding-norms"] == {}
    assert after.items() < before.items()


def test_a_tag_that_reads_as_a_number_stays_a_text(checkout):
    run(checkout, "pin", "2026.10")
    assert yaml.safe_load((checkout / "_config.yml").read_text("utf-8"))["repository"]["branch"] == "2026.10"
    assert 'TAG = "2026.10"' in setup_cells(checkout)[0]


@pytest.mark.parametrize(
    "tag",
    ["", " ", "-v1", ".v1", "v1.", "v1..2", "v1.lock", "v 1", "v1~2", "v1:2", "v1?", "a/b", "@", 'v1"', "v1\n"],
)
def test_a_tag_that_git_or_a_link_cannot_hold_is_refused_before_a_file_is_touched(checkout, tag):
    before = contents(checkout)
    result = run(checkout, "pin", "--", tag)
    assert result.returncode == 2
    assert result.stderr.startswith(f"Nothing was changed: the tag is {tag!r}, expected a word such as v2026.1")
    assert contents(checkout) == before


@pytest.mark.parametrize("tag", ["v0.1.0", "v2026.1", "2026-spring", "v1.0.0-rc.1", "tuebingen_2026"])
def test_git_takes_the_tags_that_are_admitted(tag):
    assert repository.checked_tag(tag) == tag
    assert subprocess.run(["git", "check-ref-format", f"refs/tags/{tag}"]).returncode == 0


@pytest.mark.parametrize("name", ["some-owner/norms", "Some-Owner/Norms"])
def test_verify_prints_the_tag_where_the_address_is_set(checkout, name):
    run(checkout, "set", URL)
    before = contents(checkout)
    result = run(checkout, "verify", name)
    assert (result.returncode, result.stdout, result.stderr) == (0, "v0.1.0\n", "")
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("address", "name", "status", "message"),
    [
        (
            URL,
            "fork3r/norms",
            1,
            f"to {URL}, but this is https://github.com/fork3r/norms: run make set-repository",
        ),
        (URL, "some-owner/norms2", 1, "run make set-repository URL=https://github.com/some-owner/norms2,"),
        (None, "fork3r/norms", 1, "No address is set: run make set-repository URL=https://github.com/fork3r/norms,"),
        (URL, "norms", 2, "expected https://github.com/OWNER/NAME"),
    ],
)
def test_verify_fails_in_another_repository_and_says_what_to_run(checkout, address, name, status, message):
    if address:
        run(checkout, "set", address)
    result = run(checkout, "verify", name)
    assert result.returncode == status
    assert message in result.stderr
    assert (len(result.stderr.splitlines()), result.stdout) == (1, "")


@pytest.mark.parametrize(
    "place", ["_config.yml", "CITATION.cff", "README.md", "book/setup_cell.py", "notebooks/01-a.ipynb"]
)
def test_check_names_the_place_that_differs(checkout, place):
    run(checkout, "set", URL)
    path = checkout / place
    path.write_text(path.read_text("utf-8").replace("some-owner", "someone-else"), "utf-8")
    check = run(checkout, "check")
    assert check.returncode == 1
    assert f"{place} differs from pyproject.toml" in check.stdout


def test_sync_gives_a_chapter_its_set_up_cell_below_the_title(checkout):
    assert run(checkout, "check").returncode == 1
    assert run(checkout, "sync").returncode == 0
    cells = json.loads((checkout / "notebooks/02-b.ipynb").read_text("utf-8"))["cells"]
    assert [cell["id"] for cell in cells] == ["cell-0", "setup", "cell-1"]
    assert cells[1]["metadata"] == {"tags": ["setup", "hide-input"]}
    assert "‖z‖" in (checkout / "notebooks/02-b.ipynb").read_text("utf-8")
    assert run(checkout, "check").returncode == 0


@pytest.mark.parametrize("url", [URL, f"{URL}/", f"{URL}.git", f"{URL}.git/"])
def test_endings_are_stripped(url):
    assert repository.normalise(url) == URL


@pytest.mark.parametrize(
    "url",
    [
        "",
        "norms",
        "some-owner/norms",
        "http://github.com/some-owner/norms",
        "git@github.com:some-owner/norms.git",
        "https://gitlab.com/some-owner/norms",
        "https://github.com.example.org/some-owner/norms",
        "https://user:secret@github.com/some-owner/norms",
        "https://github.com/some-owner",
        "https://github.com/some-owner/norms/tree/main",
        "https://github.com/some-owner/norms?tab=readme",
        "https://github.com/some-owner/norms#readme",
        "https://github.com/-owner/norms",
        "https://github.com/some owner/norms",
        "https://github.com/some-owner/..",
        "https://github.com/some-owner/.git",
        'https://github.com/some-owner/norms"',
        "https://github.com/some-owner/norms\n",
    ],
)
def test_another_address_is_refused_before_a_file_is_touched(checkout, url):
    before = contents(checkout)
    result = run(checkout, "set", url)
    assert result.returncode == 2
    assert result.stderr.startswith("Nothing was changed: the ")
    assert "expected https://github.com/OWNER/NAME" in result.stderr or "cannot be a GitHub" in result.stderr
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("place", "text", "message"),
    [
        ("README.md", "# No block\n", "README.md: expected one line '<!-- repository -->'"),
        ("book/setup_cell.py", 'TAG = ""\n', 'book/setup_cell.py: expected one line REPOSITORY = "..."'),
        ("notebooks/02-b.ipynb", "{", "notebooks/02-b.ipynb: "),
        ("notebooks/02-b.ipynb", notebook("old = 1", "old = 2"), "one cell with the tag 'setup', found 2"),
    ],
)
def test_a_place_in_another_shape_is_named_before_a_file_is_touched(checkout, place, text, message):
    (checkout / place).write_text(text, "utf-8")
    before = contents(checkout)
    result = run(checkout, "set", URL)
    assert result.returncode == 2
    assert message in result.stderr
    assert contents(checkout) == before


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "x"\nversion = "1"\n',
        '[project]\nname = "x"\nversion = "1"\n[tool.x]\ny = 1\n',
        '[project]\nname = "x"\nversion = "1"\n\n[project.urls]\nHomepage = "https://example.org"\n\n[tool.x]\ny = 1\n',
        '[project.urls]\nHomepage = "https://example.org"\nRepository = "old"\n[project]\nname = "x"\nversion = "1"\n',
    ],
)
def test_pyproject_gains_the_address_whatever_tables_it_has(text):
    changed = repository.write_address(text, URL)
    assert repository.read_address(changed) == repository.Address(URL, "v1")
    assert repository.write_address(repository.write_address(changed, OTHER), URL) == changed

    pinned = repository.write_tag(changed, "v2026.1")
    assert repository.read_address(pinned) == repository.Address(URL, "v2026.1")
    assert repository.write_tag(repository.write_tag(pinned, "v2027.1"), "v2026.1") == pinned


def test_pyproject_in_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"write Repository = .* there by hand"):
        repository.write_address('[project]\nversion = "1"\nurls = { Repository = "old" }\n', URL)
    with pytest.raises(ValueError, match=r"write tag = .* there by hand"):
        repository.write_tag('[project]\nversion = "1"\n[tool]\nembedding-norms = { tag = "v2" }\n', "v1")


def test_files_are_written_whole_or_not_at_all(checkout, monkeypatch):
    path = checkout / "README.md"
    path.chmod(0o640)
    before = contents(checkout)

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            repository.write({path: "new"})
    assert contents(checkout) == before
    assert repository.write({path: "new"}) == [path]
    assert path.read_text("utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_user_site_has_no_folder():
    assert repository.Address("https://github.com/Owner/owner.github.io", "v1").pages == "https://owner.github.io/"
