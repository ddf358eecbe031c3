"""``NormTracker``: watches the length of embeddings, and of their gradients, while any PyTorch model trains."""

from normlib.tracking.tracker import NormTracker

__all__ = ["NormTracker"]
