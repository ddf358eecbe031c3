"""What norms, and the scores beside them, tell of photographs: effects of each network, with all their controls.

Nothing is trained here. The per-sample tables of the recorded networks are read, and for each network, outcome and
score this gives one number with its interval over images. Human labels enter as such numbers alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from normcourse.experiments import cifar10, cifar10_simclr
from normcourse.experiments.base import Experiment, Settings, Work, no_configuration
from normcourse.experiments.store import Job, Store, Tables
from normcourse.paths import RESULTS
from normlib import confidence, data
from normlib.data import HumanVotes

if TYPE_CHECKING:
    import pandas as pd

PROPERTIES = ["brightness", "contrast", "saturation", "gradient_energy"]
NORMS = ("norm_backbone", "norm_projector")
HUMAN = {  # outcome: the split that it is about, its column, and whose labels
    "agreement": ("train", "human_agreement", data.cifar10n),
    "entropy": ("test", "human_entropy", data.cifar10h),
}
SUPERVISED = {"max_softmax": +1, "entropy": +1, "energy": +1}  # entropy is compared with people's entropy as it is


def jobs(settings: Settings, store: Store) -> list[Job]:
    """Only one: all tables are read at once."""
    return [{}]


def run(settings: Settings, job: Job, folder: Path) -> Tables:
    """Effects, and curves of each outcome in bins of the norm, of all recorded networks."""
    sources = Recorded(Store(RESULTS)) if settings["records"] else MadeUp()
    curves = {"bins": settings["bins"], "resamples": settings["resamples"]}
    effects, drawn = [], []
    for network, table in sources.networks():
        effects += list(of_single_set(network, table, sources))
        drawn += list(curves_of(network, table, sources, curves))
    for network, test, other in sources.others():
        effects += list(of_other_data(network, test, other))
    for network, table in sources.trajectories():
        effects += list(of_single_set(network, table, sources, last=False))
    effects += list(of_held_out(sources))
    effects += list(of_supervised(sources))
    return {"effects": _joined(effects), "curves": _joined(drawn)}


class Recorded:
    """The per-sample tables of the recorded networks, one network at a time, each with columns that name it."""

    def __init__(self, store: Store):
        self._store = store
        self._votes: dict[str, HumanVotes] = {}
        self._read: dict[tuple[str, str], pd.DataFrame] = {}

    def votes(self, outcome: str) -> HumanVotes:
        """What people saw in the images that an outcome is about."""
        if outcome not in self._votes:
            self._votes[outcome] = HUMAN[outcome][2]()
        return self._votes[outcome]

    def properties(self) -> pd.DataFrame:
        """Brightness and other properties of CIFAR-10's images."""
        return self._table("cifar10-pixels", "properties")

    def networks(self) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """Trained and untrained networks, and raw pixels, with their final tables of CIFAR-10's images."""
        for network, name in (("trained", "cifar10-simclr"), ("untrained", "cifar10-untrained")):
            for seed, rows in self._table(name, "samples").groupby("seed"):
                yield {"network": network, "seed": seed, "epoch": self._epochs(network), "last": True}, rows
        pixels = self._table("cifar10-pixels", "samples")
        yield {"network": "pixels", "seed": 0, "epoch": 0, "last": True}, pixels

    def trajectories(self) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """The trained networks as they were at earlier epochs, with their tables of the test images."""
        table = self._table("cifar10-simclr", "trajectory")
        labels = self._table("cifar10-pixels", "samples").set_index("index")["label"]
        table = table.assign(label=table["index"].map(labels))
        for (seed, epoch), rows in table[table["epoch"] < self._epochs("trained")].groupby(["seed", "epoch"]):
            yield {"network": "trained", "seed": seed, "epoch": epoch, "last": False}, rows

    def others(self) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
        """Test images and other data under each network."""
        for network, name in (("trained", "cifar10-simclr"), ("untrained", "cifar10-untrained")):
            other = self._table(name, "other")
            for seed, rows in self._table(name, "samples").groupby("seed"):
                about = {"network": network, "seed": seed, "epoch": self._epochs(network), "last": True}
                yield about, rows[rows["split"] == "test"], other[other["seed"] == seed]
        about = {"network": "pixels", "seed": 0, "epoch": 0, "last": True}
        yield about, self._table("cifar10-pixels", "samples"), self._table("cifar10-pixels", "other")
        samples, other = (self._table("cifar100-simclr", table) for table in ("samples", "other"))
        about = {"network": "trained on CIFAR-100", "seed": 0, "epoch": self._epochs("trained"), "last": True}
        yield about, samples[samples["split"] == "test"], other

    def held_out(self) -> pd.DataFrame:
        """The test images under the networks that lack two classes each."""
        return self._table("cifar10-held-out", "samples")

    def supervised(self) -> Iterator[tuple[list[int], pd.DataFrame]]:
        """The test images under networks trained with labels, and the classes that each lacks."""
        for classes, rows in self._table("cifar10-supervised", "samples").groupby("held_out"):
            yield [int(name) for name in str(classes).split()], rows

    def pairs(self) -> list[list[int]]:
        """The two classes that each network lacks, in the order of the seeds."""
        return cifar10_simclr.HELD_OUT

    def _table(self, name: str, table: str) -> pd.DataFrame:
        if (name, table) not in self._read:
            found = self._store.table(name, table)
            if found is None:
                raise FileNotFoundError(f"{name} is needed first; record it with: python -m normcourse record {name}")
            self._read[name, table] = found
        return self._read[name, table]

    def _epochs(self, network: str) -> int:
        settings = self._store.entries("cifar10-simclr")[0]["settings"]
        return settings["change"]["epochs"] if network == "trained" else 0


class MadeUp:
    """Tables of random numbers in place of photographs, for a run that only proves the code."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def votes(self, outcome: str) -> HumanVotes:
        """Fifty people for each image, who mostly choose the label, which is the index modulo ten."""
        shares = np.full((400, 10), 0.01)
        shares[np.arange(400), np.arange(400) % 10] = 0.91
        return HumanVotes(outcome, self._random.multinomial(50, shares))

    def properties(self) -> pd.DataFrame:
        """Random properties of both splits."""
        import pandas as pd

        frames = [
            pd.DataFrame(self._random.random((400, 4)), columns=PROPERTIES).assign(index=range(400), split=split)
            for split in ("train", "test")
        ]
        return pd.concat(frames, ignore_index=True)

    def _samples(self, splits: tuple[str, ...] = ("train", "test")) -> pd.DataFrame:
        import pandas as pd

        count = 400 * len(splits)
        frame = pd.DataFrame(
            {
                "split": np.repeat(splits, 400),
                "index": np.tile(np.arange(400), len(splits)),
                "knn_correct": self._random.random(count) < 0.6,
            }
        )
        for name in (*NORMS, "knn_margin", "kth_distance", "view_spread", "probe_max_softmax"):
            frame[name] = self._random.random(count)
        return frame.assign(label=frame["index"] % 10)

    def networks(self) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """One made-up network of each kind."""
        for network in ("trained", "untrained"):
            yield {"network": network, "seed": 0, "epoch": 2, "last": True}, self._samples()

    def trajectories(self) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """The trained one as it was before."""
        yield {"network": "trained", "seed": 0, "epoch": 0, "last": False}, self._samples(("test",))

    def others(self) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
        """One other data set."""
        about = {"network": "trained", "seed": 0, "epoch": 2, "last": True}
        yield about, self._samples(("test",)), self._samples(("uniform noise",))

    def held_out(self) -> pd.DataFrame:
        """Two networks without two classes each."""
        import pandas as pd

        return pd.concat([self._samples(("test",)).assign(seed=seed) for seed in range(2)], ignore_index=True)

    def supervised(self) -> Iterator[tuple[list[int], pd.DataFrame]]:
        """One network that saw all classes and one that did not."""
        for classes in ([], [0, 5]):
            table = self._samples(("test",)).rename(columns={"knn_margin": "max_softmax", "view_spread": "entropy"})
            held_out = table["label"].isin(classes)
            split = np.where(held_out, "held out", "test")
            yield classes, table.assign(split=split, correct=table["knn_correct"], energy=table["norm_projector"])

    def pairs(self) -> list[list[int]]:
        """The classes that the two networks lack."""
        return [[0, 5], [3, 8]]


def of_single_set(
    about: dict[str, Any], table: pd.DataFrame, sources: Recorded | MadeUp, *, last: bool = True
) -> Iterator[pd.DataFrame]:
    """Of CIFAR-10's own images: correctness, agreement, entropy; as they are, within classes, beyond properties."""
    test = _with_properties(table[table["split"] == "test"], sources)
    correct = "knn_correct"
    yield _effects(about, "correct", "", confidence.detection(test, correct).rename(columns={"auroc": "value"}))
    within = confidence.detection(test, correct, within="label").rename(columns={"auroc": "value"})
    yield _effects(about, "correct", "within class", within)
    yield from _correlations(about, "correct", correct, test)
    for outcome, (split, column, _) in HUMAN.items():
        if split in set(table["split"]):
            rows = _with_properties(table[table["split"] == split], sources)
            yield from _correlations(about, outcome, column, sources.votes(outcome).join(rows))


def _correlations(about: dict[str, Any], outcome: str, column: str, table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    measure = {"measure": "spearman"}
    yield _effects(about | measure, outcome, "", confidence.correlation(table, column))
    yield _effects(about | measure, outcome, "within class", confidence.correlation(table, column, within="label"))
    beyond = confidence.partial_correlation(table, column, PROPERTIES)
    yield _effects(about | measure, outcome, "beyond pixels", beyond)


def of_other_data(about: dict[str, Any], test: pd.DataFrame, other: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """How well each score tells the network's own test images from those of another data set, or from corrupted ones.

    Corrupted images are compared with the same images as they were.
    """
    for name, rows in other.groupby("split", sort=False):
        scores = [score for score in confidence.SCORES if score in test and score in rows]
        corrupted = str(name).rpartition(" ")[0] in cifar10.CORRUPTIONS["kinds"]
        clean = test[test["index"].isin(rows["index"])] if corrupted else test
        both = _joined([clean[scores], rows[scores]])
        own = np.arange(len(both)) < len(clean)
        yield _effects(about, str(name), "", confidence.detection(both, own).rename(columns={"auroc": "value"}))


def of_held_out(sources: Recorded | MadeUp) -> Iterator[pd.DataFrame]:
    """How well each score tells seen from held-out classes: in the network that lacks them, and in those that do not.

    A network that saw them is its control only on classes that both networks saw.
    """
    import pandas as pd

    table, pairs = sources.held_out(), sources.pairs()
    for seed, pair in enumerate(pairs):
        about = {"network": "trained", "seed": seed, "epoch": -1, "last": True}
        own = table[table["seed"] == seed]
        yield _effects(about, "held out", "", _seen_above(own, pair))
        others = []
        for other, lacking in enumerate(pairs):
            if other != seed:
                rows = table[(table["seed"] == other) & ~table["label"].isin(lacking)]
                others.append(_seen_above(rows, pair))
        mean = pd.concat(others).groupby("score", sort=False)["value"].mean().reset_index()
        yield _effects(about, "held out", "seen by the others", mean.assign(low=np.nan, high=np.nan))


def _seen_above(table: pd.DataFrame, pair: list[int]) -> pd.DataFrame:
    seen = ~table["label"].isin(pair)
    return confidence.detection(table, seen).rename(columns={"auroc": "value"})


def of_supervised(sources: Recorded | MadeUp) -> Iterator[pd.DataFrame]:
    """The positive controls: what networks trained with labels tell of the same images."""
    detecting = SUPERVISED | {"entropy": -1}
    for classes, table in sources.supervised():
        seed = sources.pairs().index(classes) if classes else 0
        about = {"network": "supervised", "seed": seed, "epoch": -1, "last": True}
        if classes:
            found = confidence.detection(table, table["split"] == "test", detecting)
            yield _effects(about, "held out", "", found.rename(columns={"auroc": "value"}))
            continue
        found = confidence.detection(table, "correct", detecting)
        yield _effects(about, "correct", "", found.rename(columns={"auroc": "value"}))
        rows, about = sources.votes("entropy").join(table), about | {"measure": "spearman"}
        yield _effects(about, "entropy", "", confidence.correlation(rows, "human_entropy", SUPERVISED))
        within = confidence.correlation(rows, "human_entropy", SUPERVISED, within="label")
        yield _effects(about, "entropy", "within class", within)


def curves_of(
    about: dict[str, Any], table: pd.DataFrame, sources: Recorded | MadeUp, options: dict[str, int]
) -> Iterator[pd.DataFrame]:
    """The mean outcome in bins of each norm."""
    outcomes = {"correct": ("test", "knn_correct")} | {name: each[:2] for name, each in HUMAN.items()}
    for outcome, (split, column) in outcomes.items():
        rows = table[table["split"] == split]
        if rows.empty:
            continue
        judged = rows if outcome == "correct" else sources.votes(outcome).join(rows)
        for norm in NORMS:
            if norm in judged:
                drawn = confidence.curve(judged, column, norm, **options)
                yield drawn.assign(**about, outcome=outcome)


def _with_properties(rows: pd.DataFrame, sources: Recorded | MadeUp) -> pd.DataFrame:
    known = sources.properties()
    mine = known.loc[known["split"] == rows["split"].iloc[0]].set_index("index")[PROPERTIES]
    return rows.reset_index(drop=True).join(mine, on="index")


def _effects(about: dict[str, Any], outcome: str, control: str, found: pd.DataFrame) -> pd.DataFrame:
    named = {"measure": "auroc"} | about | {"outcome": outcome, "control": control}
    return found[["score", "value", "low", "high"]].assign(**named)


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # of columns that are all NaN in one part
        return pd.concat(frames, ignore_index=True)


EXPERIMENTS = [
    Experiment(
        name="cifar10-confidence",
        question="Of CIFAR-10's images, which scores tell those that are hard, disputed or new, against all controls?",
        settings={"records": True, "bins": 10, "resamples": 1000, "change": {"data": "cifar10"}},
        smoke={"records": False, "resamples": 100, "change": {"data": "digits"}},
        jobs=jobs,
        run=run,
        images=cifar10.images,
        configuration=no_configuration,
        work=lambda settings: Work("two_cores", 1, 0),
    )
]
