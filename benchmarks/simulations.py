"""Simulations against the plain way to run them: CPU time on one thread, ratios within interleaved rounds.

- Free points: ``steps_to_align`` on norms 1, 2 and 3 of the paper's experiment, against the same experiment as a loop
  of autograd and SGD in 20 dimensions. Both must count the same steps.
- Encoders: ``train_encoder`` on 20 seeds at once, against 20 runs of one seed each, and against torch modules.

    python benchmarks/simulations.py      # about 5 minutes
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from statistics import median

import torch
from torch import nn

from normlib import losses, simulations
from normlib.simulations import mixtures

NORMS, SEEDS, EPOCHS = (1.0, 2.0, 3.0), 20, 4


def points_by_the_law():
    return simulations.steps_to_align(NORMS)["steps"].tolist()


def points_by_autograd():
    """The experiment as it reads: one norm after the other, all coordinates, a loss, its gradient, a step."""
    found = []
    for norm in NORMS:
        angles = torch.from_numpy(simulations._random_angles(500, 20, seed=0))[:, None]
        generator = torch.Generator().manual_seed(0)
        u, v = torch.randn(2, 500, 20, generator=generator, dtype=torch.float64)
        u = losses.unit(u)
        v = losses.unit(v - (u * v).sum(dim=1, keepdim=True) * u)
        z = [nn.Parameter(norm * u), nn.Parameter(norm * (angles.cos() * u + angles.sin() * v))]
        optimizer = torch.optim.SGD(z, lr=10.0)
        steps = 0
        while -(loss := -torch.cosine_similarity(*z).mean()).item() < 1 - 1e-3:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        found.append(steps)
    return found


def encoders_at_once():
    mixture = simulations.spherical_mixture(seeds=range(SEEDS))
    simulations.train_encoder(mixture, epochs=EPOCHS, progress=False)


def encoders_one_by_one():
    for seed in range(SEEDS):
        mixture = simulations.spherical_mixture(seeds=[seed])
        simulations.train_encoder(mixture, epochs=EPOCHS, progress=False)


def encoders_as_modules():
    """One torch module after the other, with autograd and torch.optim."""
    for seed in range(SEEDS):
        mixture = simulations.spherical_mixture(seeds=[seed])
        network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        itself = torch.eye(128, dtype=torch.bool)
        for _ in range(EPOCHS):
            for batch in torch.randperm(2000).split(128)[:15]:
                labels = mixture.labels[:, batch]
                positive = mixtures._class_mates(labels, torch.rand(1, 128))[0]
                u = nn.functional.normalize(network(mixture.x[0, batch]), dim=1)
                loss = nn.functional.cross_entropy((u @ u.T).masked_fill(itself, -torch.inf), positive)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def cpu_seconds(run):
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def compare(name, peers, rounds):
    """Print, for each peer, the median and quartiles of its time over that of the first, round by round."""
    times = {label: [] for label in peers}
    for _ in range(rounds):
        results = set()
        for label, run in peers.items():
            seconds, result = cpu_seconds(run)
            times[label].append(seconds)
            results.add(str(result))
        assert len(results) == 1, f"the peers disagree: {results}"
    ours, *_ = times.values()
    for label, seconds in times.items():
        ratios = sorted(other / own for other, own in zip(seconds, ours, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
        print(
            f"{name:10} {label:28} {median(seconds):8.3f} s  {median(ratios):6.2f} x (quartiles {low:.2f}-{high:.2f})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    import pandas  # noqa: F401 - imported on first use: not in the first round's time

    points = {"normlib": points_by_the_law, "autograd loop": points_by_autograd}
    compare("points", points, rounds)
    encoders = {
        f"normlib, {SEEDS} seeds at once": encoders_at_once,
        f"normlib, {SEEDS} single runs": encoders_one_by_one,
        "torch modules, one by one": encoders_as_modules,
    }
    compare("encoders", encoders, rounds)


if __name__ == "__main__":
    main()
