"""Two random 32x32 views of each image of a batch of 512, against torchvision on PIL images and against kornia.

- torchvision: the paper's chain on PIL images, image by image, in a ``DataLoader`` with 2 workers. The CPU time of the
  workers counts; that of starting and stopping them (measured by an epoch of two images) is taken off.
- kornia: one batch on the same single thread, ``same_on_batch=False``, with one ``ColorJitter`` of four strengths and
  one coin: less work than the recipe's four coins.

All start from uint8. Each round runs all of them once, in a new random order; a ratio compares runs of the same round.
With a GPU, a second table compares GPU time with kornia's. Linux or macOS: the workers are forked.

    python benchmarks/augment.py            # 40 rounds, about 3 minutes on two cores
    python benchmarks/augment.py --quick    # 8 rounds
"""

import argparse
import multiprocessing
import os
import platform
import random
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version

import torch

from normlib.augment import TwoViews

BATCH, SIZE = 512, 32
PIL_IMAGES = 1024  # an epoch for torchvision: seconds, where a batch of the others takes some hundredths


class PilPairs(torch.utils.data.Dataset):
    """Two views of each image by the chain that the paper's code builds."""

    def __init__(self, images):
        from torchvision import transforms as T

        strengths = [(0.4, 0, 0, 0), (0, 0.4, 0, 0), (0, 0, 0.4, 0), (0, 0, 0, 0.1)]
        jitter = [T.RandomApply([T.ColorJitter(*strength)], p=0.8) for strength in strengths]
        crop = T.RandomResizedCrop(SIZE, (0.2, 1.0))
        self.transform = T.Compose([crop, T.RandomHorizontalFlip(), *jitter, T.RandomGrayscale(0.2), T.ToTensor()])
        self.pixels = images.permute(0, 2, 3, 1).contiguous().numpy()

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        from PIL import Image

        image = Image.fromarray(self.pixels[index])
        return self.transform(image), self.transform(image)


def kornia_views():
    import kornia.augmentation as K

    view = torch.nn.Sequential(
        K.RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), same_on_batch=False),
        K.RandomHorizontalFlip(p=0.5, same_on_batch=False),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8, same_on_batch=False),
        K.RandomGrayscale(p=0.2, same_on_batch=False),
    )

    def two_views(images):
        images = images.float() / 255
        return view(images), view(images)

    return two_views


def batch_of(device):
    """Smooth random colours: neither flat nor noise."""
    coarse = torch.rand(BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    return (fine * 255).to(torch.uint8).to(device)


def cpu_seconds():
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in (0, -1))


def epoch(dataset):
    """CPU seconds of one epoch, workers included: they count once they have ended."""
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=2, multiprocessing_context="fork")
    start = cpu_seconds()
    for _ in loader:
        pass
    return cpu_seconds() - start


def torchvision_microseconds(images):
    repeated = images.repeat(PIL_IMAGES // BATCH, 1, 1, 1)
    return (epoch(PilPairs(repeated)) - epoch(PilPairs(images[:2]))) / PIL_IMAGES * 1e6


def batch_microseconds(two_views, images, repetitions):
    """Time per image: of the CPU, or the GPU's own."""
    if images.is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repetitions):
            two_views(images)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) * 1e3 / repetitions / BATCH
    start = cpu_seconds()
    for _ in range(repetitions):
        two_views(images)
    return (cpu_seconds() - start) / repetitions / BATCH * 1e6


def compare(images, rounds):
    generator = torch.Generator(images.device).manual_seed(0)
    runs = {
        "normlib": partial(batch_microseconds, partial(TwoViews.natural(SIZE), generator=generator), images, 10),
        "kornia": partial(batch_microseconds, kornia_views(), images, 3),
    }
    if not images.is_cuda:
        # from a process of its own: forking the workers would make this one copy its memory, page by page
        apart = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        runs["torchvision"] = lambda: apart.submit(torchvision_microseconds, images).result()
    for run in runs.values():
        run()
    order = random.Random(0)
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name in order.sample(list(runs), len(runs)):
            times[name].append(runs[name]())
    print(f"{'':14}{'µs/image':>10}{'times normlib':>16}  (middle half of {rounds} rounds)")
    for name, values in times.items():
        ratios = [value / own for value, own in zip(values, times["normlib"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name:14}{statistics.median(values):10.1f}{middle:16.1f}  ({low:.1f} to {high:.1f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 rounds only")
    rounds = 8 if parser.parse_args().quick else 40
    torch.set_num_threads(1)
    names = ("torch", "torchvision", "kornia", "pillow")
    print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names))
    print(f"CPU time, one thread ({os.cpu_count()} cores), two views of {BATCH} images of {SIZE}x{SIZE}x3")
    compare(batch_of("cpu"), rounds)
    if torch.cuda.is_available():
        print(f"\nGPU time, {torch.cuda.get_device_name()}")
        compare(batch_of("cuda"), rounds)


if __name__ == "__main__":
    main()
