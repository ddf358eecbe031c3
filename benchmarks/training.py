"""Pairs of views per second of whole SimCLR steps: ``normlib.training.fit`` against the loops that people write.

- normlib: ``fit`` itself, on a recipe's network, batch size, precision and memory format.
- torchvision: the usual loop. Views are made on PIL images, image by image, in a ``DataLoader`` with as many workers as
  cores; float32, one forward pass for both views, plain masked cross-entropy.
- lightly: its documented loop, with ``SimCLRTransform`` and ``NTXentLoss``, as many workers, float32, one forward pass
  for each view.

All train the same network with the same SGD on the same uint8 images; with a recipe of mixed precision, the peers run a
second time with their networks under autocast. A step is all of it: views, forward, backward, optimiser. A turn makes
``--steps`` steps to warm up, then as many by the clock; workers are busy for all of them and have ended before the next
turn. Each round gives all contenders a turn, in a new random order; a ratio compares turns of the same round. Linux or
macOS. OMP_WAIT_POLICY=passive takes a third of our speed on idle cores: threads then sleep between short operations.

    python benchmarks/training.py              # 10 rounds
    python benchmarks/training.py --quick      # 3 short rounds
    python benchmarks/training.py --profile    # where the time of our step goes
"""

import argparse
import multiprocessing
import os
import random
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import torch
import torch.nn.functional as F

from normlib.data import ImageSet
from normlib.training import fit
from normlib.training.recipes import RECIPES

SIZE = 32
TEMPERATURE = 0.5  # of the recipes' loss
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
# Dense 16-bit TFLOP/s by the name that the driver gives, as in NVIDIA's data sheets; a T4 has no bfloat16 units.
PEAKS = {
    "NVIDIA H200": {"bf16-mixed": 989, "16-mixed": 989},
    "NVIDIA H100 80GB HBM3": {"bf16-mixed": 989, "16-mixed": 989},
    "NVIDIA A100-SXM4-40GB": {"bf16-mixed": 312, "16-mixed": 312},
    "NVIDIA A100-SXM4-80GB": {"bf16-mixed": 312, "16-mixed": 312},
    "Tesla T4": {"16-mixed": 65},
}


def image_set(n):
    """Smooth random colours: neither flat nor noise."""
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    pixels = (fine * 255).to(torch.uint8)
    return ImageSet(pixels, torch.zeros(n, dtype=torch.int64), torch.arange(n), ("colours",), "colours")


class PilPairs(torch.utils.data.Dataset):
    """Two views of each image, which is a PIL image first, as in torchvision's CIFAR-10."""

    def __init__(self, images, two_views):
        self.pixels = images.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.two_views = two_views

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        from PIL import Image

        return self.two_views(Image.fromarray(self.pixels[index]))


def twice(transform, image):
    return transform(image), transform(image)


def torchvision_loop():
    from torchvision import transforms as T

    jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    steps = [T.RandomResizedCrop(SIZE, (0.2, 1.0)), T.RandomHorizontalFlip(), jitter, T.RandomGrayscale(0.2)]

    def loss(model, x1, x2):
        n = len(x1)
        u = F.normalize(model(torch.cat([x1, x2])), dim=1)
        similarities = u @ u.T / TEMPERATURE
        similarities = similarities.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=u.device), -torch.inf)
        return F.cross_entropy(similarities, torch.arange(2 * n, device=u.device).roll(n))

    return partial(twice, T.Compose([*steps, T.ToTensor()])), loss


def lightly_loop():
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform

    criterion = NTXentLoss(TEMPERATURE)

    def loss(model, x1, x2):
        return criterion(model(x1), model(x2))

    return SimCLRTransform(input_size=SIZE, cj_strength=0.5, gaussian_blur=0.0), loss  # its settings for CIFAR


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def now(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peer_turn(two_views, loss, model, images, config, steps, device, dtype):
    """Pairs per second of a peer's loop, its network under autocast if ``dtype`` is not None."""
    model.to(device).train()
    settings = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
    optimizer = torch.optim.SGD(model.parameters(), **settings)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    batches = 2 * steps + 2 * cores()  # more than are used, for workers without work would leave their cores to us
    dataset = PilPairs(images, two_views)
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=batches * config.batch_size)
    loader = iter(
        torch.utils.data.DataLoader(
            dataset, config.batch_size, sampler=sampler, num_workers=cores(), persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
    )  # fmt: skip
    for step in range(2 * steps):
        if step == steps:
            start = now(device)
        x1, x2 = (x.to(device, non_blocking=True) for x in next(loader))
        with nullcontext() if dtype is None else torch.autocast(device.type, dtype):
            value = loss(model, x1, x2)
        optimizer.zero_grad()
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
    return steps * config.batch_size / (now(device) - start)


def own_turn(model, images, config, views, device):
    """Pairs per second in the second of two epochs of ``fit``, which reads the losses, so waits, at their ends."""
    at = {}
    fit(
        model, images, config, augment=views, accelerator=device.type, progress=False,
        on_epoch=lambda epoch: at.update({epoch: now(device)}),
    )  # fmt: skip
    return config.batch_size * (len(images) // config.batch_size) / (at[2] - at[1])


def contenders(recipe, config, images, steps, device):
    """What gives each contender a turn, by name."""
    turns = {"normlib": partial(own_turn, recipe.build_model(), images, config, recipe.augmentation(), device)}
    dtypes = {"float32": None}
    if config.precision in AUTOCAST:
        dtypes[config.precision] = AUTOCAST[config.precision]
    for precision, dtype in dtypes.items():
        for name, loop in {"torchvision": torchvision_loop, "lightly": lightly_loop}.items():
            arguments = (*loop(), recipe.build_model(), images, config, steps, device, dtype)
            turns[f"{name}, {precision}"] = partial(peer_turn, *arguments)
    return turns


def compare(turns, rounds):
    """Pairs per second of each contender in each round."""
    from tqdm import tqdm

    order = random.Random(0)
    speeds = {name: [] for name in turns}
    with tqdm(total=rounds * len(turns), unit="turn", leave=False) as bar:
        for _ in range(rounds):
            for name in order.sample(list(turns), len(turns)):
                bar.set_description(name)
                speeds[name].append(turns[name]())
                if left := multiprocessing.active_children():
                    raise RuntimeError(f"workers of {name} still run and would slow the next turn down: {left}")
                bar.update()
    return speeds


def middle_half(values, form):
    low, median, high = torch.tensor(values).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


def print_speeds(speeds):
    rounds = len(speeds["normlib"])
    print(f"{f'{rounds} rounds: median (quartiles)':34}{'pairs/s':>26}{'normlib : this':>26}")
    for name, values in speeds.items():
        ratios = [own / value for own, value in zip(speeds["normlib"], values, strict=True)]
        print(f"{name:34}{middle_half(values, ',.0f'):>26}{middle_half(ratios, '.2f'):>26}")


def flops_of_a_pair(recipe):
    """Floating-point operations of the network, forward and backward, for two views of an image."""
    from torch.utils.flop_counter import FlopCounterMode

    pairs, model = 2, recipe.build_model()
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(2 * pairs, 3, SIZE, SIZE)).sum().backward()
    return counter.get_total_flops() / pairs


def print_use_of_gpu(recipe, config, pairs_per_second):
    flops = flops_of_a_pair(recipe)
    achieved = flops * pairs_per_second / 1e12
    peak = PEAKS.get(torch.cuda.get_device_name(), {}).get(config.precision)
    share = "peak not known" if peak is None else f"{achieved / peak:.0%} of the chip's {peak} (dense, 16 bits)"
    print(f"normlib: {flops / 1e9:.2f} GFLOP a pair, {achieved:.1f} TFLOP/s; {share}")


def labelled(name, function):
    def call(*args, **options):
        with torch.profiler.record_function(name):
            return function(*args, **options)

    return call


def lineage(event):
    while event is not None:
        yield event
        event = event.cpu_parent


def part_of(event, loss_nodes):
    """Which part of the step an operation belongs to, by the names of what called it."""
    names = " ".join(each.name for each in lineage(event))
    for part, marks in {"augmentation": ["augmentation"], "optimiser": ["Optimizer."], "loss": ["info_nce"]}.items():
        if any(mark in names for mark in marks):
            return part
    if any(each.scope == 1 and each.sequence_nr in loss_nodes for each in lineage(event)):  # scope 1: backward
        return "loss"
    if "convolution" in names:
        return "convolutions"
    return "BatchNorm, ReLU" if any(mark in names for mark in ("batch_norm", "relu", "threshold_backward")) else "rest"


def print_profile(recipe, config, images, device):
    """Share of each part in our step: time of the main thread, or of a GPU's kernels."""
    from torch.profiler import ProfilerActivity

    gpu = device.type == "cuda"
    profiler = torch.profiler.profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu)
    at = {}

    def on_epoch(epoch):
        if epoch == 1:
            profiler.start()
        at[epoch] = now(device)
        if epoch == 2:
            profiler.stop()

    model = recipe.build_model()
    fit(
        model, images, config, augment=labelled("augmentation", recipe.augmentation()), accelerator=device.type,
        loss=labelled("info_nce", model.loss), progress=False, on_epoch=on_epoch,
    )  # fmt: skip
    events = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CPU]
    in_loss = (event for event in events if any(each.name == "info_nce" for each in lineage(event)))
    loss_nodes = {event.sequence_nr for event in in_loss if event.sequence_nr >= 0}
    seconds = dict.fromkeys(("convolutions", "BatchNorm, ReLU", "loss", "augmentation", "optimiser", "rest"), 0.0)
    for event in events:
        own = event.self_device_time_total if gpu else event.self_cpu_time_total
        seconds[part_of(event, loss_nodes)] += own / 1e6
    whole, steps = at[2] - at[1], len(images) // config.batch_size
    seconds["no kernel runs" if gpu else "between operations"] = whole - sum(seconds.values())
    print(f"\nOur step under the profiler, which slows it down: {1e3 * whole / steps:.1f} ms")
    for part, value in seconds.items():
        print(f"{part:34}{1e3 * value / steps:>10.1f} ms{value / whole:>8.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    recipes = ("cpu", "paper", "colab_t4") if gpu else ("cpu", "paper")  # float16 is for GPUs
    parser.add_argument("--recipe", choices=recipes, default="paper" if gpu else "cpu", help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="of a turn, by the clock; as many before them (GPU: 100, CPU: 20)")
    parser.add_argument("--rounds", type=int, help="turns of each contender (10)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of a quarter of the steps")
    parser.add_argument("--profile", action="store_true", help="where the time of our step goes, instead of rounds")
    parser.add_argument("--compile", action="store_true", help="normlib's network with torch.compile")
    options = parser.parse_args()
    if options.profile and options.compile:
        parser.error("--profile tells operations apart by name, which --compile fuses: leave one of them out")
    steps = (100 if gpu else 20) // (4 if options.quick else 1) if options.steps is None else options.steps
    rounds = (3 if options.quick else 10) if options.rounds is None else options.rounds
    if min(steps, rounds) < 1:
        parser.error("--steps and --rounds must be at least 1")

    device, recipe = torch.device("cuda" if gpu else "cpu"), RECIPES[options.recipe]
    # Neither the course nor the size of the rate costs time; a small one cannot diverge.
    config = replace(recipe.train, epochs=2, warmup_epochs=0, lr=0.01, compile=options.compile)
    images = image_set(steps * config.batch_size)
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "lightly"))
    chip = torch.cuda.get_device_name() if gpu else "CPU"
    layout = ", channels last" * config.channels_last + ", compiled" * config.compile
    print(f"{chip}; {cores()} cores, {torch.get_num_threads()} threads; {names}")
    print(f"Recipe {options.recipe}: {recipe.network}, {config.batch_size} pairs a step, {config.precision}{layout}")
    if options.profile:
        print_profile(recipe, config, images, device)
        return
    before = os.getloadavg()[0]
    speeds = compare(contenders(recipe, config, images, steps, device), rounds)
    print(f"Load average of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after (our own work is in it)")
    print_speeds(speeds)
    if gpu:
        print_use_of_gpu(recipe, config, torch.tensor(speeds["normlib"]).median().item())


if __name__ == "__main__":
    main()
