"""Untrained networks on CIFAR-10 are scored as trained ones are."""

from normcourse import experiments


def test_untrained_networks_are_scored_as_trained_ones_are(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    samples = experiments.smoke("cifar10-untrained-cpu")["samples"]
    assert samples.groupby("split").size().to_dict() == {"blur 3": 50, "test": 450, "train": 1347}
    assert samples[["condition", "lr", "seed"]].drop_duplicates().to_numpy().tolist() == [["untrained", 0.0, 0]]
