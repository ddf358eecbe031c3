"""From the files of a learning platform to students: Canvas's and Moodle's names, and plain ones."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grading.roster import Student

# Canvas:  doejane_LATE_4711_90210_A1_gradients-1.ipynb      name, mark, user, submission, file; -1 from the second try
CANVAS = re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<number>\d+)_(?P<submission>\d+)_(?P<file>.+)")
# Moodle:  Jane Doe_1234567_assignsubmission_file_[/]A1.ipynb     name, participant, kind; a folder or a file for each
MOODLE = re.compile(r"(?P<name>.+)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)_(?P<file>.*)")


@dataclass(frozen=True)
class Submission:
    """A file that was handed in.

    Args:
        path: Where it lies.
        who: What its name says of the student: Canvas's or Moodle's number, a name, or a student id.
        late: Whether Canvas marks it as late.
        order: The later of two has the larger one.
    """

    path: Path
    who: frozenset[str]
    late: bool
    order: tuple[int, int]


def read_submissions(folder: Path) -> list[Submission]:
    """Every file in the folder and in the folders in it, but hidden ones; links are not followed."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder: unpack what the learning platform gives")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [parse(path, folder) for path in files if not _hidden(path.relative_to(folder))]


def parse(path: Path, folder: Path) -> Submission:
    """What a file's name, or that of its folder, says."""
    relative = path.relative_to(folder)
    if match := MOODLE.fullmatch(relative.parts[0]):
        return Submission(path, frozenset({match["number"], _plain(match["name"])}), False, (0, 0))
    if match := CANVAS.fullmatch(path.name):
        attempt = re.search(r"-(\d+)$", Path(match["file"]).stem)
        order = (int(match["submission"]), int(attempt[1]) if attempt else 0)
        return Submission(path, frozenset({match["number"], _letters(match["name"])}), bool(match["late"]), order)
    stem = relative.parts[0] if len(relative.parts) > 1 else path.stem
    return Submission(path, frozenset({_plain(stem), _plain(stem.split("_")[0])}), False, (0, 0))


@dataclass(frozen=True)
class Matched:
    """Who handed in what: a submission by student id, those set aside for it, and those that fit nobody."""

    chosen: dict[str, Submission]
    set_aside: dict[str, list[Submission]]
    unmatched: list[Submission]


def match(submissions: Iterable[Submission], students: Iterable[Student]) -> Matched:
    """Find each submission's student.

    Where number and name lead to different students, the submission is nobody's. A notebook goes before other files.
    """
    numbers: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    for student in students:
        own_names = {_plain(student.name), *_canvas_names(student.name)}
        for known, own in ((numbers, {student.lms_id, _plain(student.student_id)}), (names, own_names)):
            for key in own - {""}:
                known.setdefault(key, set()).add(student.student_id)
    found = Matched({}, {}, [])
    for submission in sorted(submissions, key=lambda each: (each.path.suffix == ".ipynb", each.order)):
        by_number, by_name = _owners(submission, numbers), _owners(submission, names)
        owners = by_number & by_name if by_number and by_name else by_number | by_name
        if len(owners) != 1:
            found.unmatched.append(submission)
            continue
        owner = next(iter(owners))
        if owner in found.chosen:
            found.set_aside.setdefault(owner, []).append(found.chosen[owner])
        found.chosen[owner] = submission
    return found


def _owners(submission: Submission, keys: dict[str, set[str]]) -> set[str]:
    return set().union(*(keys.get(key, set()) for key in submission.who))


def _plain(name: str) -> str:
    """A name without accents, signs and capitals: "Müller, José" and "muller jose" are one."""
    letters = unicodedata.normalize("NFKD", name)
    letters = "".join(each for each in letters if not unicodedata.combining(each)).casefold()
    return " ".join(re.findall(r"\w+", letters.replace("_", " ")))


def _letters(name: str) -> str:
    return _plain(name).replace(" ", "")


def _canvas_names(name: str) -> set[str]:
    """As Canvas writes it: the family name first, nothing between; the family name is the last word, or the first."""
    words = _plain(name).split()
    return {"".join([*words[-1:], *words[:-1]]), "".join(words)} if words else set()


def _hidden(relative: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in relative.parts)
