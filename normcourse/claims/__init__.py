"""The claims ledger: each claim of the paper and of the course, with the verdict that recorded numbers give it.

``book/claims.yml`` says for each claim which recorded numbers speak about it and what they would have to be. Verdicts
are computed from the files in ``results/``; ``book/verdicts.json`` keeps the ones that the book states, and a
difference between the two is an error. Nothing here needs torch.
"""

from normcourse.claims.evidence import Effect, Part
from normcourse.claims.ledger import (
    VERDICTS,
    Claim,
    Verdict,
    accept,
    as_json,
    differences,
    jobs,
    judge,
    judge_all,
    ledger,
    stated,
)

__all__ = [
    "VERDICTS",
    "Claim",
    "Effect",
    "Part",
    "Verdict",
    "accept",
    "as_json",
    "differences",
    "jobs",
    "judge",
    "judge_all",
    "ledger",
    "stated",
]
