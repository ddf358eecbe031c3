"""Several processes, and micro-batches, train as one process with the whole batch does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.ops import StochasticDepth

from normlib import data, losses, models
from normlib.models import SimCLR, digits_encoder, projection_head
from normlib.tracking import NormTracker
from normlib.training import TrainConfig, fit

IMAGES = data.digits("train").subset(torch.arange(192))


class TwoFixedViews:
    """Views that draw nothing: every process can make its share alone."""

    def __init__(self, dtype=torch.float64):
        self.dtype = dtype

    def __call__(self, images, generator=None):
        x = images.to(self.dtype) / 255
        return x, x.flip(3)


class LearnedScale(torch.nn.Module):
    """A softmax over the other view, at a temperature that is learned, as in CLIP."""

    def __init__(self):
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def forward(self, z1, z2):
        similarities = losses.unit(z1) @ losses.unit(z2).T * self.log_scale.exp()
        return torch.nn.functional.cross_entropy(similarities, torch.arange(len(z1)))


def network(method, **options):
    if method == "learned scale":
        return models.JointEmbedding(digits_encoder(8, 16), projection_head(16, 16, 8), LearnedScale()).double()
    heads = [projection_head(16, 16, 8), projection_head(8, 8, 8, seed=1)][: 1 + (method in models.WITH_PREDICTOR)]
    return models.METHODS[method](digits_encoder(8, 16), *heads, **options).double()


def run(micro_batch_size=None, epochs=2, checkpoints=None, method="simclr", **options):
    """Six steps of plain SGD in float64 on a network without BatchNorm: loss, weights and norms by step."""
    model = network(method, **options)
    lr = 0.3 if method == "simclr" else 0.03
    config = TrainConfig(
        epochs=epochs, batch_size=64, lr=lr, warmup_epochs=0, momentum=0, precision="64-true",
        micro_batch_size=micro_batch_size,
    )  # fmt: skip
    tracker = NormTracker(model, ["backbone.5", "projector.2"], per_class=True, gradients=True, num_classes=10)
    history = fit(
        model, IMAGES, config, augment=TwoFixedViews(), tracker=tracker, accelerator="cpu", progress=False,
        checkpoints=checkpoints, checkpoint_minutes=0,
    )  # fmt: skip
    frame = tracker.to_frame()
    frame = frame[~frame["statistic"].str.contains("q")].reset_index(drop=True)
    return {"steps": history.steps, "norms": frame, "weights": [p.detach().clone() for p in model.parameters()]}


def torchrun(processes, folder, *arguments):
    """Run this file in several processes; returns what the first saved."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    root = str(Path(__file__).resolve().parents[3])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [*command, __file__, str(folder), *arguments], capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "result.pt", weights_only=False)


def assert_same_run(one, other, tolerance=1e-9):
    for column in ("lr", "loss", "norm"):
        assert one["steps"][column].tolist() == pytest.approx(other["steps"][column].tolist(), rel=tolerance)
    for a, b in zip(one["weights"], other["weights"], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    keys = ["step", "layer", "class", "statistic"]
    assert one["norms"][keys].equals(other["norms"][keys])
    assert one["norms"]["value"].tolist() == pytest.approx(other["norms"]["value"].tolist(), rel=1e-6, abs=1e-9)


@pytest.fixture(scope="module")
def alone():
    return run()


def test_two_processes_equal_one(alone, tmp_path):
    """Loss, gradients (through the weights after each step) and norm statistics."""
    assert_same_run(torchrun(2, tmp_path), alone)


def test_two_processes_with_micro_batches_and_checkpoints_equal_one(alone, tmp_path):
    together = torchrun(2, tmp_path, "8", str(tmp_path / "checkpoints"))
    assert_same_run(together, alone)
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == ["step-00000006.pt"]


@pytest.mark.parametrize(
    ("method", "micro"), [("byol", "None"), ("barlow-twins", "None"), ("learned scale", "None"), ("learned scale", "8")]
)
def test_two_processes_equal_one_for_other_methods(method, micro, tmp_path):
    """Statistics of the whole batch, constants, the slow copy, a loss's parameters; Fabric hands on float32."""
    together = torchrun(2, tmp_path, micro, "None", "2", method)
    assert_same_run(together, run(method=method), tolerance=1e-5)


@pytest.mark.parametrize("micro", [1, 16, 32, 64])
def test_micro_batches_equal_the_whole_batch(alone, micro):
    assert_same_run(run(micro_batch_size=micro), alone)


def test_micro_batches_with_grad_scale_equal_the_whole_batch():
    assert_same_run(run(micro_batch_size=16, grad_scale_power=1.0), run(grad_scale_power=1.0))


def test_small_batches_alone_are_another_loss(alone):
    """What micro-batches would give if their losses were simply added: too few negatives."""
    first = alone["steps"]["loss"][0]
    assert first > torch.log(torch.tensor(2.0 * 64 - 1)) - 0.5
    config = TrainConfig(epochs=1, batch_size=16, warmup_epochs=0, lr=1e-9, precision="64-true")
    model = SimCLR(digits_encoder(8, 16), projection_head(16, 16, 8)).double()
    small = fit(model, IMAGES, config, augment=TwoFixedViews(), accelerator="cpu", progress=False).steps["loss"]
    assert small.max() < first - 1


def test_machines_that_do_not_share_the_folder_are_refused(tmp_path):
    """Each process with a folder of its own: only the first has checkpoints to go on from."""
    torchrun(2, tmp_path, "None", str(tmp_path / "rank-RANK"), "1")
    with pytest.raises(AssertionError, match=r"process 0 goes on from step 3, process 1 from step 0.*share"):
        torchrun(2, tmp_path, "None", str(tmp_path / "rank-RANK"), "1")


def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path):
    run(checkpoints=tmp_path)
    with pytest.raises(AssertionError, match=r"processes: 1 in the run directory, 2 now"):
        torchrun(2, tmp_path, "None", str(tmp_path))


def test_shares_that_do_not_come_out_even_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size = 64 cannot be shared out evenly among 3 processes"):
        run()
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    with pytest.raises(ValueError, match="micro_batch_size = 24 must divide the 64 images"):
        run(micro_batch_size=24)


@pytest.mark.parametrize("drop", [torch.nn.Dropout(0.3), StochasticDepth(0.5, "row")])
def test_micro_batches_drop_the_same_in_both_passes(drop):
    """One micro-batch of the whole batch draws what a plain step draws, and leaves the generator where that does."""

    def weights_and_next(micro_batch_size):
        model = SimCLR(torch.nn.Sequential(digits_encoder(8, 16), drop), projection_head(16, 16, 8))
        config = TrainConfig(epochs=2, batch_size=64, warmup_epochs=0, micro_batch_size=micro_batch_size)
        torch.manual_seed(7)
        fit(model, IMAGES, config, augment=TwoFixedViews(torch.float32), accelerator="cpu", progress=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()]), torch.rand(1)

    (plain, after_plain), (pieces, after_pieces) = weights_and_next(None), weights_and_next(64)
    torch.testing.assert_close(pieces, plain)
    assert after_pieces == after_plain


def test_micro_batches_leave_running_statistics_as_one_pass_would():
    """Momentum None averages over passes: a second count of the same pass would show."""
    norm = torch.nn.BatchNorm1d(16, momentum=None)
    model = SimCLR(torch.nn.Sequential(digits_encoder(8, 16), norm), projection_head(16, 16, 8))
    config = TrainConfig(epochs=1, batch_size=64, warmup_epochs=0, micro_batch_size=32)
    fit(model, IMAGES, config, augment=TwoFixedViews(torch.float32), accelerator="cpu", progress=False)
    assert norm.num_batches_tracked == 3 * 2


if __name__ == "__main__":
    defaults = ["None", "None", "2", "simclr"]
    target, (micro, checkpoints, epochs, method) = Path(sys.argv[1]), sys.argv[2:] + defaults[len(sys.argv) - 2 :]
    outcome = run(
        micro_batch_size=None if micro == "None" else int(micro),
        checkpoints=None if checkpoints == "None" else checkpoints.replace("RANK", os.environ["RANK"]),
        epochs=int(epochs),
        method=method,
    )
    if torch.distributed.get_rank() == 0:
        torch.save(outcome, target / "result.pt")
