"""The numbers of a student: drawn from lists by a hash of the student's id, so that anybody can draw them again."""

from __future__ import annotations

import hashlib
from itertools import combinations, permutations
from types import SimpleNamespace
from typing import Any

from normlib._utils.arguments import check_choice

# What a colleague of assignment 1 did to the gradient, and what is wrong with each failing run of assignment 4.
FAILURE_MODES = (
    "healthy",
    "no negatives",
    "learning rate too large",
    "initial weights too large",
    "weight decay too strong",
    "dead units",
)
COLLEAGUES = ("right", "norm held constant", "sum, not mean", "norm of the other view")

CHOICES: dict[str, dict[str, Any]] = {
    "A1": {
        "z": ((3.0, 4.0), (6.0, 8.0), (1.5, 2.0), (4.0, 3.0), (5.0, 12.0), (2.5, 6.0), (12.0, 5.0), (8.0, 15.0)),
        "z_plus": ((0.0, 2.0), (3.0, 0.0), (0.0, -4.0), (-6.0, 0.0), (0.0, 7.0)),
        "longer": (2.0, 3.0, 4.0, 5.0, 6.0),
        "colleagues": tuple(permutations(COLLEAGUES)),
    },
    "A2": {
        "norm": (2.0, 3.0, 4.0, 5.0),
        "grad": (3.0, 5.0, 8.0, 10.0),
        "lr": (0.4, 0.5, 0.8),
        "degrees": (60.0, 80.0, 100.0, 140.0),
        "lr_pair": (0.02, 0.05, 0.1, 0.2),
        "lr_noise": (0.05, 0.1, 0.2),
        "G": (0.5, 2.0, 3.0),
        "momentum": (0.6, 0.8, 0.9),
    },
    "A3": {
        "c": (2.0, 3.0, 4.0, 5.0),
        "layers": (3, 4, 5),
        "lr": (0.001, 0.002, 0.005),
        "decay": (1e-4, 5e-4, 1e-3),
        "power": (0.5, 1.0, 1.5),
        "short": (0.5, 0.8, 2.0),
        "long": (4.0, 5.0, 8.0),
    },
    "A4": {
        "pairs": (64, 96, 128),
        "seed": tuple(range(0, 1000, 10)),
        "failure_modes": tuple(permutations(FAILURE_MODES)),
    },
    "A5": {
        "lr": (0.03, 0.1, 0.3, 1.0),
        "seeds": tuple(combinations(range(8), 6)),
    },
}


class Numbers(SimpleNamespace):
    """The numbers of one student, an attribute each.

    >>> Numbers(lr=0.1).lr
    0.1
    """


def variant(student_id: str, assignment: str) -> Numbers:
    """The numbers of a student in an assignment: the same for the same id, whatever its case and outer blanks.

    Number ``name`` is the entry of its list of choices at position SHA-256 of ``"id/assignment/name"``, modulo the
    length of the list.

    Args:
        student_id: The id on the class list.
        assignment: ``"A1"`` to ``"A5"``.

    Returns:
        One attribute per number.

    Raises:
        ValueError: The id is no text or empty, or there is no such assignment.

    >>> variant("Ada.Lovelace ", "A1") == variant("ada.lovelace", "A1")
    True
    >>> variant("ada.lovelace", "A1").z
    (12.0, 5.0)
    """
    if not isinstance(student_id, str) or not student_id.strip():
        raise ValueError(f"STUDENT_ID must be your id on the class list, in quotes; got {student_id!r}")
    check_choice("assignment", assignment, CHOICES)
    return Numbers(
        **{
            name: choices[_draw(student_id, assignment, name, len(choices))]
            for name, choices in CHOICES[assignment].items()
        }
    )


def _draw(student_id: str, assignment: str, name: str, choices: int) -> int:
    text = f"{student_id.strip().casefold()}/{assignment}/{name}"
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % choices
