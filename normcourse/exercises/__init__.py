"""Checks that a student runs beside an answer, in Colab as anywhere: at once, and naming the mistake.

Each check takes an answer, a function or a number, and returns a :class:`Verdict`: true when right, and otherwise a
sentence on what went wrong, found by comparing the answer with what typical mistakes lead to. Nothing is printed and
nothing raised: make a check the last line of a cell. ``judge`` and ``outcome`` make checks for questions of your own.

>>> from normcourse import exercises
>>> exercises.tangent(lambda z, v: (z * v).sum(dim=1, keepdim=True) / z.pow(2).sum(dim=1, keepdim=True) * z)
✗ that is the part along z: subtract it from v
"""

from normcourse.exercises._confidence import auroc, interval, selective_accuracy, within_class_auroc
from normcourse.exercises._failure_modes import failure_modes
from normcourse.exercises._gradients import (
    autograd_gradient,
    colleagues,
    cosine_gradient,
    diagnosis,
    hand_gradient,
    nt_xent_gradient,
    tangent,
)
from normcourse.exercises._interventions import cut, grad_scale, matched_rates, measure_cut
from normcourse.exercises._steps import count_steps, doubling_steps, hand_step, noisy_step, predicted_steps, sgd_step
from normcourse.exercises._tracking import collapsed_loss, first_alarm, mean_cosine, norm_log
from normcourse.exercises._variants import Numbers, variant
from normcourse.exercises._verdicts import Verdict, first_wrong, judge, outcome

__all__ = [
    "Numbers",
    "Verdict",
    "auroc",
    "autograd_gradient",
    "collapsed_loss",
    "colleagues",
    "cosine_gradient",
    "count_steps",
    "cut",
    "diagnosis",
    "doubling_steps",
    "failure_modes",
    "first_alarm",
    "first_wrong",
    "grad_scale",
    "hand_gradient",
    "hand_step",
    "interval",
    "judge",
    "matched_rates",
    "mean_cosine",
    "measure_cut",
    "noisy_step",
    "norm_log",
    "nt_xent_gradient",
    "outcome",
    "predicted_steps",
    "selective_accuracy",
    "sgd_step",
    "tangent",
    "variant",
    "within_class_auroc",
]
