"""Hidden tests of the toy assignment."""

import os


def doubles_negative_numbers(env):
    """Doubles negative numbers."""
    assert env["double"](-4) == -8


def own_number(env):
    """The length of the id, squared."""
    student = os.environ.get("ASSIGNMENT_STUDENT_ID") or env["STUDENT_ID"]
    assert env["squared"] == len(student) ** 2, "the hidden message"


TESTS = {"q1": [(doubles_negative_numbers, 2)], "q2": [(own_number, 3)]}
