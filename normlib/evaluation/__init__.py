"""What a representation is good for: nearest neighbours, few labels, a linear probe, the distance from what is known.

All scores take features as given and train no network, so nothing here can change the model that is judged.
"""

from normlib.evaluation.collapse import Collapse, detect_collapse, spread
from normlib.evaluation.features import embed
from normlib.evaluation.neighbours import NeighbourScores, few_shot_accuracy, few_shot_correct, knn, neighbour_scores
from normlib.evaluation.probes import linear_probe, mahalanobis, probe_logits
from normlib.evaluation.samples import sample_table

__all__ = [
    "Collapse",
    "NeighbourScores",
    "detect_collapse",
    "embed",
    "few_shot_accuracy",
    "few_shot_correct",
    "knn",
    "linear_probe",
    "mahalanobis",
    "neighbour_scores",
    "probe_logits",
    "sample_table",
    "spread",
]
