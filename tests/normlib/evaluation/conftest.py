import pytest

from normlib import data


@pytest.fixture(scope="module")
def raw_digits():
    """Train pixels and labels, test pixels and labels."""
    train, test = data.digits("train"), data.digits("test")
    return train.images.flatten(1).double(), train.labels, test.images.flatten(1).double(), test.labels
