"""What is wrong with the page of an executed notebook: errors, warnings, and claims that came out differently."""

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

SANITIZE = Path(__file__).resolve().parents[1] / "tests" / "notebooks" / "sanitize.cfg"
TIMES_OF_TQDM = re.compile(r"\[\d+:\d\d(:\d\d)?[<,]")  # [00:03<00:09, or without an end in sight [00:03,


def page_errors(executed: list[dict], committed: list[dict], *, claims: bool = True) -> Iterator[str]:
    """One sentence for each fault, given the code cells of the executed notebook and of the committed one."""
    for number, (cell, before) in enumerate(zip(executed, committed, strict=True), start=1):
        if not cell["execution_count"] and "".join(cell["source"]).strip():
            yield f"code cell {number} did not run"
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"code cell {number} raises {output['ename']}: {output['evalue']}"
            if output.get("name") == "stderr" and (text := _without_progress("".join(output["text"]))):
                yield f"code cell {number} warns: {text}"
        claiming = claims and "NBVAL_CHECK_OUTPUT" in "".join(cell["source"])
        if claiming and (now := _printed(cell)) != (then := _printed(before)):
            yield f"code cell {number} claims {now!r}, committed is {then!r}"


def _without_progress(text: str) -> str:
    """The lines of an error stream that are no progress bar."""
    return "\n".join(line for line in re.split(r"[\r\n]+", text) if line.strip() and not TIMES_OF_TQDM.search(line))


def _printed(cell: dict) -> str:
    """What a cell printed or returned as text; what may differ is made equal as in the tests of the notebooks."""
    wanted = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in wanted]
    text = "".join("".join(part) for part in texts)
    rules = configparser.RawConfigParser()
    rules.read(SANITIZE, "utf-8")
    for rule in rules.sections():
        text = re.sub(rules[rule]["regex"], rules[rule]["replace"], text)
    return text.strip()
