"""What a short embedding means: the norm, and its rivals, as scores of confidence.

Every function takes a table with one row for each sample, such as the recorded runs on CIFAR-10 hold
(``experiments.load("cifar10-interventions-cpu")["samples"]``), and returns a small table. Scores are columns;
``SCORES`` says which way each points, and ``oriented_scores`` turns them all the same way. Outcomes are columns too, or
values row by row: whether the neighbours' vote was right, whether a sample is of a known class, how far people
disagree.

Functions take *one run*: an image that stands in a table once for each seed is no independent sample, so a table of
several runs is refused. ``per_run`` goes through them, ``mean_over_seeds`` gives the interval over repeated trainings.
"""

from normlib.confidence.aggregate import mean_over_seeds, per_run
from normlib.confidence.agreement import compare, correlation, detection, partial_correlation
from normlib.confidence.calibration import Calibration, calibrate
from normlib.confidence.curves import curve, trend
from normlib.confidence.scores import SCORES, Score, oriented_scores
from normlib.confidence.selective_prediction import risk_coverage, risk_coverage_area

__all__ = [
    "SCORES",
    "Calibration",
    "Score",
    "calibrate",
    "compare",
    "correlation",
    "curve",
    "detection",
    "mean_over_seeds",
    "oriented_scores",
    "partial_correlation",
    "per_run",
    "risk_coverage",
    "risk_coverage_area",
    "trend",
]
