"""What ``NormTracker`` costs: CPU time of training steps with it over the same steps without it.

Steps with and without the tracker alternate; a run of them gives one ratio, and the median of the ratios is the answer.
Each run ends with ``state_dict()``, which summarises the buffered norms, so that cost is inside. Use:
``python benchmarks/tracker.py``.
"""

import argparse
import statistics
import time
from itertools import pairwise

import torch
import torchvision
from torch import Tensor, nn

from normlib.losses import info_nce
from normlib.tracking import NormTracker


def mlp() -> nn.Sequential:
    """Encoder and projector for 8x8 digits."""
    layers = [layer for a, b in pairwise([64, 128, 128, 128, 128, 128]) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def resnet18() -> nn.Sequential:
    """ResNet-18 with the CIFAR stem and a projector."""
    backbone = torchvision.models.resnet18(num_classes=128)
    backbone.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    backbone.maxpool = nn.Identity()
    return nn.Sequential(backbone, nn.ReLU(), nn.Linear(128, 128))


def ratio(model: nn.Module, images: Tensor, steps: int, tracker: NormTracker, turn: int = 0) -> tuple[float, float]:
    """Overhead of ``steps`` tracked steps over as many plain ones, in per cent, and milliseconds of a plain step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    views = torch.cat([images, images])
    labels = torch.arange(len(images)) % 10
    seconds = {True: 0.0, False: 0.0}
    for pair in range(turn, turn + steps):
        for tracked in (True, False) if pair % 2 else (False, True):
            tracker.attach()
            if not tracked:
                tracker.detach()
            start = time.process_time()
            optimizer.zero_grad()
            info_nce(*model(views).chunk(2)).backward()
            optimizer.step()
            if tracked:
                tracker.step(labels)
            seconds[tracked] += time.process_time() - start
    start = time.process_time()
    tracker.state_dict()
    seconds[True] += time.process_time() - start
    return 100 * (seconds[True] / seconds[False] - 1), seconds[False] / steps * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratios", type=int, default=31, help="ratios to take the median of (>= 30)")
    parser.add_argument("--only", choices=["mlp", "resnet18"], help="one model instead of both")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    models = {
        "mlp": ("MLP on 8x8, 256 pairs", mlp(), torch.rand(256, 1, 8, 8, generator=generator), 64),
        "resnet18": ("ResNet-18 on 32x32, 64 pairs", resnet18(), torch.rand(64, 3, 32, 32, generator=generator), 1),
    }
    variants = {
        "default": {},
        "per_class": {"per_class": True},
        "per_class, gradients": {"per_class": True, "gradients": True},
        "per_class, gradients, every=10": {"every": 10, "per_class": True, "gradients": True},
    }
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; median of {arguments.ratios} ratios [quartiles]"
    )
    print(f"{'step':30} {'tracker':32} {'overhead':>26} {'plain step':>12}")
    for key, (name, model, images, steps) in models.items():
        for variant, options in variants.items():
            if arguments.only not in (None, key):
                continue
            tracker = NormTracker(model, **options)
            ratio(model, images, 1, tracker)  # warm up
            runs = (ratio(model, images, steps, tracker, turn) for turn in range(arguments.ratios))
            ratios, plain = zip(*runs, strict=True)
            low, median, high = statistics.quantiles(ratios, n=4)
            spread = f"{median:.2f} % [{low:.2f}, {high:.2f}]"
            print(f"{name:30} {variant:32} {spread:>26} {statistics.median(plain):9.2f} ms", flush=True)


if __name__ == "__main__":
    main()
