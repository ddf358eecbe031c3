import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="session")
def made():
    """Makes tables to score."""

    def table(n=400, seed=0, noise=1.0, digits=1):
        """A table in which the norm goes with being right, with ties; distances are turned the other way."""
        random = np.random.default_rng(seed)
        familiar = random.normal(size=n)
        return pd.DataFrame(
            {
                "label": random.integers(0, 4, n),
                "norm": np.round(familiar + noise * random.normal(size=n), digits) + 10,
                "kth_distance": np.round(noise * random.normal(size=n) - familiar, digits),
                "knn_correct": random.random(n) < 1 / (1 + np.exp(-familiar)),
                "entropy": np.round(np.exp(-familiar), 2),
            }
        )

    return table
