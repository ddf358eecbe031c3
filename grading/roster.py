"""The class: who is in it, under which pseudonym, what was handed in when, and what a person gave for it."""

import csv
import hashlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


class ClassError(ValueError):
    """A list of the class that does not hold together."""


@dataclass(frozen=True)
class Student:
    """A row of the roster: id, name, number in the learning platform (may be empty), pseudonym."""

    student_id: str
    name: str
    lms_id: str
    pseudonym: str


@dataclass(frozen=True)
class Mark:
    """Points that a person gave for a question, and a comment."""

    points: float
    comment: str = ""


def read_roster(path: Path, key: bytes) -> list[Student]:
    """Students from a CSV file with the columns student_id, name and lms_id, the last of which may be missing.

    Raises:
        ClassError: A column is missing, an id is empty or there twice.
    """
    students = [
        Student(row["student_id"], row["name"], row.get("lms_id", ""), pseudonym(row["student_id"], key))
        for row in _rows(path, ["student_id", "name"])
    ]
    for what in ("student_id", "lms_id", "pseudonym"):
        values = [getattr(student, what) for student in students if getattr(student, what) or what != "lms_id"]
        if "" in values or len(set(values)) < len(values):
            twice = sorted({value for value in values if values.count(value) > 1})
            raise ClassError(f"{path}: {what} is empty or there twice: {twice or 'empty'}")
    return students


def pseudonym(student_id: str, key: bytes) -> str:
    """Eight characters that stand for a student wherever a name must not; the same in every run with the same key."""
    return hmac.new(key, student_id.encode(), hashlib.sha256).hexdigest()[:8]


def pseudonym_key(folder: Path) -> bytes:
    """The folder's key, made where there is none.

    Raises:
        ClassError: What should be the key is none.
    """
    path = folder / "pseudonym.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_hex(32).encode())
        except BaseException:
            path.unlink()
            raise
    if len(key := path.read_bytes()) < 64:
        raise ClassError(f"{path} holds no key: put the right one there, or remove it, and pseudonyms will be others")
    return key


def check_known(where: str, ids: Iterable[str], students: Iterable[Student]) -> None:
    """Refuse ids of students who are not on the roster.

    Raises:
        ClassError: There are some; they are named, and where they stand.
    """
    if unknown := sorted(set(ids) - {student.student_id for student in students}):
        raise ClassError(f"{where}: {unknown} are not on the roster")


def read_times(path: Path, students: Iterable[Student]) -> dict[str, datetime]:
    """When each student handed in, from a CSV file with the columns student_id and submitted (with offset).

    Raises:
        ClassError: A column is missing, a student is not on the roster or there twice, a time is none.
    """

    def time(row: Mapping[str, str]) -> datetime:
        given = datetime.fromisoformat(row["submitted"])
        if given.tzinfo is None:
            raise ValueError("no offset from UTC")
        return given

    rows = _rows(path, ["student_id", "submitted"])
    _check_rows(path, rows, students, ["student_id"])
    return {row["student_id"]: _value(path, row, time) for row in rows}


def read_rubric(path: Path, students: Iterable[Student], most: Mapping[str, float]) -> dict[str, dict[str, Mark]]:
    """Marks by student id and question, from a CSV file with the columns student_id, question, points and comment.

    Args:
        most: The points of each question that a person marks.

    Raises:
        ClassError: A column is missing, a student is not on the roster, a question of a student is there twice or is
            none that a person marks, or points are none or too many.
    """

    def mark(row: Mapping[str, str]) -> Mark:
        question, points = row["question"], float(row["points"])
        if question not in most or not 0 <= points <= most[question]:
            raise ValueError(f"expected one of {dict(most)}, with at most these points")
        return Mark(points, row.get("comment", ""))

    rows = _rows(path, ["student_id", "question", "points"])
    _check_rows(path, rows, students, ["student_id", "question"])
    marks: dict[str, dict[str, Mark]] = {}
    for row in rows:
        marks.setdefault(row["student_id"], {})[row["question"]] = _value(path, row, mark)
    return marks


def _rows(path: Path, needed: list[str]) -> list[dict[str, str]]:
    """Rows of a CSV file, with or without a byte order mark; cells without the spaces around them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names, rows = list(reader.fieldnames or []), list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ClassError(f"{path} is no CSV file in UTF-8: {error}") from error
    if missing := [name for name in needed if name not in names]:
        raise ClassError(f"{path} has no column {missing}, its first line is {names}")
    return [{name: (value or "").strip() for name, value in row.items() if isinstance(name, str)} for row in rows]


def _check_rows(path: Path, rows: list[dict[str, str]], students: Iterable[Student], key: list[str]) -> None:
    """Refuse rows of students who are not on the roster, and two rows with the same key."""
    check_known(str(path), {row["student_id"] for row in rows}, students)
    counts = Counter(" ".join(row[name] for name in key) for row in rows)
    if twice := [each for each, count in counts.items() if count > 1]:
        raise ClassError(f"{path}: {' and '.join(key)} are there twice: {twice}")


def _value(path: Path, row: dict[str, str], read: Callable[[Mapping[str, str]], Any]) -> Any:
    try:
        return read(row)
    except ValueError as error:
        raise ClassError(f"{path}: {row}: {error}") from error
