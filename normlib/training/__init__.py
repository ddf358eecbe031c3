"""Training on two views: one loop for one device or many, with a tracker, interventions and checkpoints plugged in."""

from normlib.training.checkpoint_schedule import Stopped
from normlib.training.config import TrainConfig
from normlib.training.loop import architecture, fit
from normlib.training.optimizers import LARS
from normlib.training.trainer import DivergenceError, History

__all__ = ["LARS", "DivergenceError", "History", "Stopped", "TrainConfig", "architecture", "fit"]
