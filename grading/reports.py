"""What a graded class leaves: a page for each student, a table of the class, a summary, changes since the last time."""

import csv
import io
import json
import statistics
from collections import Counter
from pathlib import Path

import jinja2

from grading.bundles import Bundle
from grading.results import MEANING, Result
from tools.atomic_write import write_whole

UNFINISHED = "-unfinished"  # ends the name of a folder that is being written, or was given up
TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    (Path(__file__).parent / "report.html.jinja").read_text(encoding="utf-8")
)


def write_all(
    folder: Path, bundle: Bundle, results: list[Result], isolation: list[str], unmatched: list[str], before: Path | None
) -> None:
    """Write everything that is read by people; `before` is the folder of the last time."""
    for result in results:
        write_whole(folder / "reports" / f"{result.student.pseudonym}.html", report(bundle.name, result))
    write_whole(folder / "grades.csv", grades(results))
    write_whole(folder / "summary.md", summary(bundle, results, isolation, unmatched))
    if before is not None:
        write_whole(folder / "changes.md", changes(folder, before, {each.student.pseudonym for each in results}))


def report(assignment: str, result: Result) -> str:
    """The student's page. Of hidden tests it says what they test, and no more."""
    tests: dict[str, list[dict]] = {name: [] for name in result.scores}
    for test in result.outcome.results:
        tests[test["question"]].append(test)
    return TEMPLATE.render(assignment=assignment, result=result, tests=tests, meaning=MEANING[result.status])


def grades(results: list[Result]) -> str:
    """The class as CSV, a row for everyone; without names, which learning platforms do not need."""
    questions = list(results[0].scores) if results else []
    head = ["student_id", "lms_id", "pseudonym", "status", "total", "most", "days_late", "lost", "unmarked"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*head, *questions, "detail", "notes"])
    for each in results:
        days = "unknown" if each.days_late is None else each.days_late
        row = [each.student.student_id, each.student.lms_id, each.student.pseudonym, each.status]
        row += [f"{each.total:g}", f"{each.most:g}", days, f"{each.lost:g}", " ".join(each.unmarked)]
        row += ["" if score.points is None else f"{score.points:g}" for score in each.scores.values()]
        table.writerow([*row, _as_text(each.detail), _as_text("; ".join(each.notes))])
    return text.getvalue()


def summary(bundle: Bundle, results: list[Result], isolation: list[str], unmatched: list[str]) -> str:
    """The class in numbers, what to look at, and how submissions were isolated."""
    handed_in = [each for each in results if each.status != "missing"]
    lines = [f"# {bundle.name}: {len(handed_in)} of {len(results)} handed in", ""]
    if handed_in:
        totals = [each.total for each in handed_in]
        lines += [
            f"Median {statistics.median(totals):g} of {bundle.points:g} points, {min(totals):g} to {max(totals):g}.",
            "",
        ]
    lines += ["| result | students |", "| --- | --- |"]
    lines += [f"| {status} | {count} |" for status, count in Counter(each.status for each in results).most_common()]
    lines += ["", "| question | points | mean share | without any |", "| --- | --- | --- | --- |"]
    for name, question in bundle.questions.items():
        marked = [each.scores[name].points for each in handed_in if each.scores[name].points is not None]
        share = f"{statistics.mean(marked) / question.points:.0%}" if marked and question.points else "not marked"
        lines.append(f"| {name} | {question.points:g} | {share} | {sum(points == 0 for points in marked)} |")
    look = [each for each in results if each.status not in ("ok", "missing") or each.notes or each.unmarked]
    if look:
        lines += ["", "## To look at", ""]
    for each in look:
        waiting = [f"to be marked: {', '.join(each.unmarked)}"] if each.unmarked else []
        said = [f"{each.status}: {each.detail}" if each.detail else each.status] if each.status != "ok" else []
        lines.append(f"- `{each.student.pseudonym}` {_line('; '.join([*said, *each.notes, *waiting]))}")
    if unmatched:
        lines += [
            "",
            "## Files that fit nobody on the roster, or several",
            "",
            *(f"- {_line(name)}" for name in unmatched),
        ]
    return "\n".join([*lines, "", "## Isolation", "", *(f"- {sentence}" for sentence in isolation), ""])


def latest(folder: Path) -> Path | None:
    """The last finished folder of an assignment.

    Raises:
        ValueError: A record in it is damaged, so that changes since then could not be told.
    """
    finished = [
        path for path in folder.glob("20*") if (path / "grades.csv").is_file() and not path.name.endswith(UNFINISHED)
    ]
    last = max(finished, default=None)
    if last is not None:
        _records(last)
    return last


def changes(folder: Path, before: Path, pseudonyms: set[str]) -> str:
    """What differs between two gradings, student by student."""
    old, new = _records(before), {name: each for name, each in _records(folder).items() if name in pseudonyms}
    lines = [f"# Changes since {before.name}", "", "| student | before | now | what |", "| --- | --- | --- | --- |"]
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            lines.append(
                f"| `{name}` | {_short(was)} | {_short(now)} | {'left' if now is None else 'new on'} the roster |"
            )
            continue
        what = [
            f"{question} {_points(was['scores'].get(question))} → {_points(now['scores'].get(question))}"
            for question in dict.fromkeys([*was["scores"], *now["scores"]])
            if was["scores"].get(question) != now["scores"].get(question)
        ]
        what += [f"lost {was['lost']:g} → {now['lost']:g}"] if was["lost"] != now["lost"] else []
        if what or was["status"] != now["status"]:
            lines.append(f"| `{name}` | {_short(was)} | {_short(now)} | {', '.join(what)} |")
    return "\n".join([*lines, ""]) if len(lines) > 4 else f"# Changes since {before.name}\n\nNone.\n"


def _records(folder: Path) -> dict[str, dict]:
    return {path.stem: _record(path) for path in (folder / "results").glob("*.json")}


def _record(path: Path) -> dict:
    try:
        record = json.loads(path.read_text("utf-8"))
        points = [earned for earned, _ in record["scores"].values() if earned is not None]
        if not all(isinstance(number, int | float) for number in (record["total"], record["lost"], *points)):
            raise TypeError("points are no numbers")
        if not isinstance(record["status"], str):
            raise TypeError("the status is no word")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not as it was written: {error}; move its folder away") from error
    return record


def _short(record: dict | None) -> str:
    return f"{record['total']:g}, {record['status']}" if record else "–"


def _points(score: list | None) -> str:
    return "–" if score is None or score[0] is None else f"{score[0]:g}"


def _as_text(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t")) else cell


def _line(text: str) -> str:
    """One line of Markdown in which nothing is markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|!&" else sign for sign in " ".join(text.split()))
