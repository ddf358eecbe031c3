"""Runs one submission, inside its sandbox: cells first, tests after them; started by sandbox.py, with a job on stdin.

The job is JSON: `notebook` (path), `assignment`, `student_id`, `tests` (question to source of its otter test file),
`seconds` (for a cell, and for a test) and `limits` (names of the resource module). The result is JSON on stdout.

Tests never lie on the sandbox's disk. They are held here, in memory that the kernel may not read, and sent to the
kernel question by question. A test that must fail is sent before them: where it passes, results are being forged.
"""

import contextlib
import ctypes
import json
import os
import resource
import secrets
import sys
from pathlib import Path

KERNEL_CODE = Path(__file__).with_name("in_kernel") / "run_tests.py"
RESULT = "application/x-grading+json"
MUST_FAIL = {
    "must fail": """\
from otter.test_files import test_case


@test_case(points=0)
def must_fail(env):
    assert 0 == 1
"""
}
MAX_EXECUTED = 16 * 2**20  # characters
PR_SET_DUMPABLE = 4
OUT_OF_MEMORY = ("MemoryError", "can't allocate memory", "not enough memory", "bad_alloc")


def main() -> None:
    """Take a job from stdin, leave its result on stdout, which the kernel does not get."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    for name, value in job["limits"].items():
        _limit(getattr(resource, name), value)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no /proc/PID/mem, no ptrace
    json.dump(run(job), answer)
    answer.flush()


def _limit(kind: int, value: int) -> None:
    """Lower a limit; where the system's own is lower still, or has none of the kind, it stays."""
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses an address space below its own
        resource.setrlimit(kind, (value, value))


def run(job: dict) -> dict:
    """The job's result: `status`, `detail`, `results` (a dictionary per test), `errors` of cells, `claimed_id`."""
    import nbformat

    try:
        submitted = nbformat.read(job["notebook"], as_version=4)
        sources = [str(cell.source) for cell in submitted.cells if cell.cell_type == "code"]
        otter = submitted.metadata.get("otter")
        named = otter.get("assignment_name") if isinstance(otter, dict) else None
    except Exception as error:  # whatever a broken file does to the parser
        return {"status": "malformed", "detail": f"no notebook: {type(error).__name__}: {str(error)[:200]}"}
    if not any(source.strip() for source in sources):
        return {"status": "malformed", "detail": "a notebook without code"}
    result = execute(sources, job)
    if named not in (None, job["assignment"]) and result["status"] == "ok":
        result |= {"status": "wrong assignment", "detail": f"the notebook says it is {str(named)[:40]!r}"}
    return result


def execute(sources: list[str], job: dict) -> dict:
    """Run cells and tests in a fresh kernel, as far as it lives."""
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError
    from nbformat.v4 import new_code_cell, new_notebook
    from traitlets.config import Config

    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    client = NotebookClient(
        notebook,
        timeout=job["seconds"]["cell"],
        interrupt_on_timeout=True,
        allow_errors=True,
        kernel_name="python3",
        shutdown_kernel="immediate",
        # Works where there is no network, not even a local one; a short name, since those of sockets are limited.
        config=Config(KernelManager={"transport": "ipc", "connection_file": "kernel.json"}),
    )
    client.reset_execution_trackers()
    result = {"status": "ok", "detail": "", "results": [], "errors": [], "claimed_id": None}
    at = "its start"
    with client.setup_kernel():
        try:
            for index, cell in enumerate(notebook.cells):
                at = f"code cell {index + 1} of {len(sources)}"
                client.execute_cell(cell, index)
            mark = secrets.token_hex(16)
            for question, source in (MUST_FAIL | job["tests"]).items():
                code = test_cell(question, source, job["student_id"], mark, job["seconds"]["test"])
                cell, at = new_code_cell(code), f"the tests of {question}"
                notebook.cells.append(cell)
                client.execute_cell(cell, len(notebook.cells) - 1, store_history=False)
                notebook.cells.pop()
                collect(cell, mark, result)
        except DeadKernelError:
            result |= {"status": "crashed", "detail": f"the kernel died in {at}"}
    result["errors"] = [error for cell in notebook.cells for error in _errors(cell)]
    name_causes(result, set(job["tests"]))
    executed = json.dumps(notebook)
    return result | {"executed": executed if len(executed) < MAX_EXECUTED else ""}


def test_cell(question: str, source: str, student_id: str, mark: str, seconds: float) -> str:
    """Code that runs a question's tests on the submission's names, in a namespace of its own."""
    job = {"question": question, "source": source, "student_id": student_id, "mark": mark, "seconds": seconds}
    code = KERNEL_CODE.read_text(encoding="utf-8") + "\nrun_tests(job, env)\n"
    return f"exec(compile({code!r}, 'run_tests.py', 'exec'), {{'job': {job!r}, 'env': globals()}})"


def collect(cell: dict, mark: str, result: dict) -> None:
    """Add what a cell of tests reported to the result."""
    for output in cell.outputs:
        report = output.get("data", {}).get(RESULT)
        if isinstance(report, dict) and report.get("mark") == mark:
            result["results"] += report["results"]
            result["claimed_id"] = report["claimed_id"]


def name_causes(result: dict, questions: set[str]) -> None:
    """Take the test that must fail out of the results, and name what went wrong in the kernel."""
    must_fail = [entry for entry in result["results"] if entry["question"] in MUST_FAIL]
    result["results"] = [entry for entry in result["results"] if entry["question"] in questions]
    if result["status"] != "ok":
        return
    untested = sorted(questions - {entry["question"] for entry in result["results"]})
    if any(entry["passed"] for entry in must_fail):
        result |= {"status": "forged", "detail": "a test that must fail has passed"}
    elif not must_fail or untested:
        result |= {"status": "crashed", "detail": f"no results came from {', '.join(untested) or 'the tests'}"}
    elif any(cause in error for error in result["errors"] for cause in OUT_OF_MEMORY):
        result |= {"status": "out of memory", "detail": "in a cell; the others were run"}
    elif any("Resource temporarily unavailable" in error for error in result["errors"]):
        result |= {"status": "too many processes", "detail": "in a cell; the others were run"}
    elif any(error.startswith("KeyboardInterrupt") for error in result["errors"]):
        result |= {"status": "timed out", "detail": "in a cell, which was interrupted; the others were run"}


def _errors(cell: dict) -> list[str]:
    outputs = [output for output in cell.get("outputs", []) if output["output_type"] == "error"]
    return [f"{output['ename']}: {output['evalue']}"[:200] for output in outputs]


if __name__ == "__main__":
    main()
