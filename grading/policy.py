"""The rules of a class, from a TOML file: the deadline, extensions, what late work loses, limits."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from grading.limits import Limits

DAY = timedelta(days=1)
LARGEST = 10**9  # of any number in a policy; more minutes than a time can hold would be some 10¹²


class PolicyError(ValueError):
    """A policy that cannot be followed as it is written."""


@dataclass(frozen=True)
class Late:
    """What late work loses.

    Args:
        grace_minutes: Nothing is lost within these.
        lost_per_day: Share of the assignment's points, for each day begun.
        days: Work that is later than this gets no points.
    """

    grace_minutes: float = 0
    lost_per_day: float = 0.1
    days: int = 7


@dataclass(frozen=True)
class Policy:
    """The rules for one assignment.

    Args:
        assignment: Its name, such as A1.
        due: The deadline, with its offset from UTC; None: there is none.
        extensions: Other deadlines, by student id.
        late: What late work loses.
        times: A CSV file with `student_id,submitted`; without it, only Canvas's own mark tells late work.
        rubric: A CSV file with `student_id,question,points` and, if you like, `comment`.
        max_megabytes: Larger notebooks are not opened.
        parallel: Submissions run at a time; 0: one on each core.
        limits: For each of them.
    """

    assignment: str
    due: datetime | None = None
    extensions: Mapping[str, datetime] = field(default_factory=dict)
    late: Late = Late()
    times: Path | None = None
    rubric: Path | None = None
    max_megabytes: float = 20
    parallel: int = 0
    limits: Limits = field(default_factory=Limits)

    def days_late(self, student_id: str, submitted: datetime) -> int:
        """Days begun after the student's own deadline and the minutes of grace."""
        due = self.extensions.get(student_id, self.due)
        if due is None:
            return 0
        over = submitted - due - timedelta(minutes=self.late.grace_minutes)
        return max(0, -(-over // DAY))

    def lost(self, days_late: int, points: float) -> float:
        """Points that late work loses, of an assignment of so many."""
        return points if days_late > self.late.days else points * min(1.0, self.late.lost_per_day * days_late)


def read_policy(path: Path) -> Policy:
    """The policy in a TOML file; paths in it are relative to it.

    Raises:
        PolicyError: It is no TOML file, a key is not known, a value is of another kind, a time has no offset from UTC.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: {error}") from error
    try:
        for name, kind in (("late", Late), ("limits", Limits)):
            given[name] = _record(kind, given.get(name, {}), f"[{name}]")
        for name in ("times", "rubric"):
            given[name] = _file(path.parent, given.get(name), name)
        policy = _record(Policy, given, "the policy")
        if not re.fullmatch(r"\w+", policy.assignment):
            raise PolicyError(f"assignment is {policy.assignment!r}, expected a word such as A1")
        if not isinstance(policy.extensions, Mapping):
            raise PolicyError(f"extensions is {policy.extensions!r}, expected a table of deadlines by student id")
        for whose, time in [("due", policy.due), *policy.extensions.items()]:
            if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
                raise PolicyError(
                    f"{whose} is {time}, expected a time with its offset, such as 2026-11-20T23:59:00+01:00"
                )
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error
    return policy


def _record(kind: type, given: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a table of TOML."""
    if not isinstance(given, Mapping):
        raise PolicyError(f"{where} is {given!r}, expected a table")
    known = {each.name: each for each in fields(kind)}
    if unknown := sorted(set(given) - set(known)):
        raise PolicyError(f"{where} has {unknown}, known are {sorted(known)}")
    for name, value in given.items():
        expected = known[name].type
        kinds = (int, float) if expected is float else expected
        if expected in (int, float, str) and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise PolicyError(f"{name} is {value!r}, expected {expected.__name__}")
        if expected in (int, float) and not 0 <= value <= LARGEST:
            raise PolicyError(f"{name} is {value}, expected 0 to {LARGEST:,}")
    try:
        return kind(**given)
    except TypeError as error:
        raise PolicyError(f"{where} lacks {str(error).split(': ')[-1]}") from error


def _file(folder: Path, name: str | None, key: str) -> Path | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise PolicyError(f"{key} is {name!r}, expected the name of a file")
    if not (folder / name).is_file():
        raise PolicyError(f"{key} is {name!r}, but {folder / name} is no file")
    return folder / name
