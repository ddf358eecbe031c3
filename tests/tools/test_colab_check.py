import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import colab_check
from chapters import slug_of
from page_errors import page_errors

ROOT = Path(__file__).parents[2]
PINS = {
    line.split("==")[0]: line.split("==")[1].split()[0]
    for line in colab_check.REQUIREMENTS.read_text("utf-8").splitlines()
    if "==" in line
}


def code(source="1 + 1", *outputs, count=1):
    return {"cell_type": "code", "source": source.splitlines(True), "execution_count": count, "outputs": list(outputs)}


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text.splitlines(True)}


def result(text):
    return {"output_type": "execute_result", "data": {"text/plain": [text]}}


# The page


def test_a_page_without_faults():
    cells = [
        code("# NBVAL_CHECK_OUTPUT\nprint(1)", stream("1\n")),
        code("print(2)", stream("2\n")),
        code("", count=None),
    ]
    assert list(page_errors(cells, cells)) == []


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        (
            code("f()", {"output_type": "error", "ename": "NameError", "evalue": "no f"}),
            "code cell 1 raises NameError: no f",
        ),
        (
            code("f()", stream("a.py:1: FutureWarning: old\n", "stderr")),
            "code cell 1 warns: a.py:1: FutureWarning: old",
        ),
        (code("f()", count=None), "code cell 1 did not run"),
    ],
)
def test_errors_warnings_and_cells_that_did_not_run_are_faults(cell, fault):
    assert list(page_errors([cell], [code("f()")])) == [fault]


def test_progress_bars_are_no_warnings_but_a_warning_between_them_is():
    bars = "\r  0%|          | 0/3 [00:00<?, ?run/s]\r 33%|███▎      | 1/3 [00:02<00:04,  2.05s/run]"
    endless = "\r12epoch [00:01,  9.51epoch/s]\n"
    assert list(page_errors([code("f()", stream(bars + endless, "stderr"))], [code()])) == []
    (fault,) = page_errors([code("f()", stream(bars + "\nUserWarning: slow\n" + endless, "stderr"))], [code()])
    assert fault == "code cell 1 warns: UserWarning: slow"


@pytest.mark.parametrize("output", [stream, result])
def test_a_claim_that_differs_is_a_fault_and_what_may_differ_is_none(output):
    def faults(source, now, then, **options):
        return list(page_errors([code(source, output(now))], [code(source, output(then))], **options))

    claim = "# NBVAL_CHECK_OUTPUT\nf()"
    assert faults(claim, "0.12", "0.13") == ["code cell 1 claims '0.12', committed is '0.13'"]
    assert faults("f()", "0.12", "0.13") == []
    assert faults(claim, "0.12", "0.13", claims=False) == []
    assert faults(claim, "took 12 s at 0x7f10", "took 3.5 s at 0x8a") == []


def test_a_progress_bar_beside_a_claim_does_not_change_it():
    claim, bar = "# NBVAL_CHECK_OUTPUT\nf()", stream("\r  0%|   | 0/3 [00:00<?, ?it/s]", "stderr")
    assert list(page_errors([code(claim, bar, stream("1\n"))], [code(claim, stream("1\n"))])) == []


# The stand-in for Colab


@pytest.mark.parametrize("python", [sys.executable, "no-such-python"])
def test_another_python_is_refused_before_anything_is_installed(monkeypatch, python):
    monkeypatch.setattr(colab_check, "PYTHON", "2.7")
    monkeypatch.setattr(colab_check, "ENVIRONMENT", None)
    with pytest.raises(SystemExit, match=rf"Colab has Python 2.7, but {python} is .*: name one with --python PATH"):
        colab_check.make_environment(python)


def test_a_kernel_clones_this_checkout_under_the_address_of_the_course(tmp_path):
    content, published, course = tmp_path / "content", tmp_path / "published", tmp_path / "course"
    address = colab_check.publish(published, content, "smoke")
    cell = (published / "book" / "setup_cell.py").read_text("utf-8")
    assert address.url.startswith("https://github.com/")
    for line in (
        f'REPOSITORY = "{address.url}"',
        f'TAG = "{address.tag}"',
        'COLAB_MODE = "smoke"',
        f'checkout = "{content}/"',
    ):
        assert line in cell
    for path in published.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        assert cell.removesuffix("\n") in ["".join(entry["source"]) for entry in cells]
    variables = os.environ | colab_check.kernel_variables(tmp_path, published, address.url)
    clone = ["git", "clone", "--quiet", "--depth=1", f"--branch={address.tag}", address.url, str(course)]
    subprocess.run(clone, env=variables, check=True, capture_output=True)
    for name in ("normlib/losses/contrastive.py", "normcourse/runtime.py", "normcourse/pyproject.toml"):
        assert (course / name).read_bytes() == (ROOT / name).read_bytes()
    assert len(list(course.glob("results/*"))) == len(list(ROOT.glob("results/*")))


def test_a_layer_sees_the_packages_below_and_keeps_its_own(tmp_path):
    python = colab_check.layer(Path(sys.executable), tmp_path / "layer")
    found = subprocess.run(
        [python, "-c", "import numpy, sysconfig; print(numpy.__version__); print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert Path(found[1]).is_relative_to(tmp_path)
    assert found[0] == __import__("numpy").__version__


def test_what_pip_changed_and_what_stopped_a_notebook_are_faults(tmp_path, monkeypatch):
    notebook = tmp_path / "01.ipynb"
    notebook.write_text('{"cells": []}', "utf-8")
    listed = iter(
        [{"numpy": "2.1.3", "torch": "2.11.0"}, {"numpy": "2.5.5", "torch": "2.11.0", "lightning-fabric": "2.6"}]
    )
    monkeypatch.setattr(colab_check, "layer", lambda *_: Path("python"))
    monkeypatch.setattr(colab_check, "packages", lambda _: next(listed))
    monkeypatch.setattr(colab_check, "execute", lambda *_: "the kernel died")
    checked = colab_check.check(notebook, Path("base"), tmp_path / "content", {})
    assert checked.faults == ["pip changed numpy from 2.1.3 to 2.5.5", "the kernel died"]
    assert checked.installed == ["lightning-fabric 2.6"]


# What is known of Colab, and what the last check found


def test_colabs_versions_are_admitted():
    library, course = (
        tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        for folder in (ROOT, ROOT / "normcourse")
    )
    lines = library["dependencies"] + library["optional-dependencies"]["train"] + course["dependencies"]
    needed = [Requirement(line) for line in lines if not line.startswith("embedding-norms")]
    lacking = {each.name for each in needed if each.name not in PINS}
    # The set-up cell installs what is missing; safetensors is there too, with transformers.
    assert lacking == {"lightning-fabric", "safetensors"}
    assert [str(each) for each in needed if each.name in PINS and PINS[each.name] not in each.specifier] == []


def test_the_recorded_check_passed_with_these_versions():
    record = json.loads(colab_check.RECORD.read_text("utf-8"))
    again = "run make colab-check and commit book/colab-check.json"
    assert record["packages"] == PINS, again
    assert record["python"].startswith(colab_check.PYTHON)
    assert {name: found["faults"] for name, found in record["notebooks"].items() if found["faults"]} == {}
    assert record["notebooks"].keys() <= {slug_of(path.stem) for path in ROOT.glob("notebooks/*.ipynb")}, again
    assert len(record["notebooks"]) >= 10
