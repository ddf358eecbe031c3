"""NT-Xent forward and backward against its peers: CPU or GPU time, and memory.

Peers: plain masked cross-entropy over the 2N x 2N matrix, lightly, pytorch-metric-learning. D = 128, float32, τ = 0.5.
Each round runs every implementation once, in a new random order; a ratio compares two runs of the same round. Memory is
the rise of a fresh process's peak; it is measured where the full matrix would not fit as well.

    python benchmarks/losses.py            # all sizes, about 15 minutes on two cores
    python benchmarks/losses.py --quick    # N = 256 only
"""

import argparse
import random
import subprocess
import sys
import time
from importlib.metadata import version

import torch
import torch.nn.functional as F

from normlib.losses import info_nce

TEMPERATURE, DIM = 0.5, 128
ROUNDS = {256: 200, 1024: 60, 4096: 30}
PEERS_UP_TO = {"plain": 4096, "lightly": 4096, "pytorch-metric-learning": 256}  # beyond: over 8 GiB
FEWER_ROUNDS = {"pytorch-metric-learning": 30}  # seconds a call at N = 256
MEMORY_AT = 16_384


def plain(z1, z2):
    n = len(z1)
    u = F.normalize(torch.cat([z1, z2]), dim=1)
    similarities = (u @ u.T / TEMPERATURE).masked_fill(torch.eye(2 * n, dtype=torch.bool, device=u.device), -torch.inf)
    return F.cross_entropy(similarities, torch.arange(2 * n, device=u.device).roll(n))


def lightly_loss():
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TEMPERATURE)


def metric_learning_loss():
    from pytorch_metric_learning.losses import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE)
    return lambda z1, z2: loss(torch.cat([z1, z2]), torch.arange(len(z1), device=z1.device).repeat(2))


IMPLEMENTATIONS = {
    "plain": lambda: plain,
    "normlib": lambda: lambda z1, z2: info_nce(z1, z2, TEMPERATURE),
    "lightly": lightly_loss,
    "pytorch-metric-learning": metric_learning_loss,
}


def views(n, device):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, DIM, generator=generator).to(device).requires_grad_() for _ in range(2)]


def seconds(loss, z):
    """Time of one forward and backward pass: CPU time of all threads, or the GPU's own clock."""
    for view in z:
        view.grad = None
    if z[0].is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        loss(*z).backward()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    start = time.process_time()
    loss(*z).backward()
    return time.process_time() - start


def compare(n, device, rounds):
    z = views(n, device)
    names = [name for name in IMPLEMENTATIONS if n <= PEERS_UP_TO.get(name, n)]
    losses = {name: IMPLEMENTATIONS[name]() for name in names}
    for loss in losses.values():
        seconds(loss, z)
    times = {name: [] for name in names}
    for done in range(rounds):
        for name in random.Random(done).sample(names, len(names)):
            if done < FEWER_ROUNDS.get(name, rounds):
                times[name].append(seconds(losses[name], z))
    reference = torch.tensor(times["plain"])
    for name in names:
        ratios = torch.tensor(times[name]) / reference[: len(times[name])]
        low, median, high = ratios.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        milliseconds = 1000 * torch.tensor(times[name]).median().item()
        print(f"{n:>7} {name:<24} {milliseconds:>10.2f} ms {median:>7.2f} x plain (quartiles {low:.2f}-{high:.2f})")


def extra_mebibytes(name, n, device):
    """Peak memory of one pass above what stood before it, in MiB; run in a process of its own."""
    loss, z = IMPLEMENTATIONS[name](), views(n, device)
    seconds(loss, views(64, device))  # libraries and thread pools are in memory now
    if z[0].is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds(loss, z)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    import resource
    from pathlib import Path

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in memory now
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    seconds(loss, z)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 2**10 - before / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory", nargs=2, metavar=("NAME", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(f"{extra_mebibytes(options.memory[0], int(options.memory[1]), options.device):.0f}")
        return
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightly", "pytorch-metric-learning"))
    print(f"NT-Xent forward + backward, D = {DIM}, float32; {device}; {versions}")
    compare(32, options.device, 60)
    for n, rounds in ROUNDS.items():
        if n == 256 or not options.quick:
            compare(n, options.device, rounds)
    if options.quick:
        return
    for name, n in [("plain", 4096), ("lightly", 4096), ("normlib", 4096), ("normlib", MEMORY_AT)]:
        command = [sys.executable, __file__, "--device", options.device, "--memory", name, str(n)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"{n:>7} {name:<24} {int(result.stdout):>10} MiB extra")
    matrix = (2 * MEMORY_AT) ** 2 * 4 / 2**30
    print(f"{MEMORY_AT:>7} plain, lightly: one matrix of similarities alone is {matrix:.0f} GiB, and two exist at once")


if __name__ == "__main__":
    main()
