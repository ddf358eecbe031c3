"""Methods beside SimCLR: what they put out, and that the one loop trains each of them as a loop by hand would."""

import math
from functools import partial

import pytest
import torch
from lightly.models.utils import update_momentum
from torch import nn

from normlib import data, evaluation, losses, models
from normlib.training import TrainConfig, fit

SINGLE = 1e-5
IMAGES = data.digits("train").subset(torch.arange(128))


class FixedViews:
    """Views that draw nothing: every step can be repeated by hand, and every process can make its share."""

    def __call__(self, images, generator=None):
        x = images.double() / 255
        return x, x.flip(3)


def network(name, *, head=models.batch_norm_head, seed=0, **options):
    heads = [head(16, 12, 8, seed=seed)]
    if name in models.WITH_PREDICTOR:
        heads.append(head(8, 6, 8, seed=seed + 1))
    return models.METHODS[name](models.digits_encoder(8, 16, seed=seed), *heads, **options).double()


def train(model, **options):
    settings = {"epochs": 2, "batch_size": 64, "lr": 0.1, "warmup_epochs": 0, "precision": "64-true"}
    extra = {name: options.pop(name) for name in ("on_epoch", "checkpoints") if name in options}
    return fit(
        model, IMAGES, TrainConfig(**settings | options), augment=FixedViews(), accelerator="cpu", progress=False,
        checkpoint_minutes=0, **extra,
    ).steps  # fmt: skip


def by_hand(model, target=None, ema=None, steps=4, lr=0.1, momentum=0.9):
    """The papers' pseudocode: a symmetric loss, a stop-gradient, one step; the average of weights and statistics.

    Fabric hands on the outputs of a network in float64 as float32, so agreement with it ends there.
    """
    trained = [p for name, p in model.named_parameters() if not name.startswith("target")]
    optimizer = torch.optim.SGD(trained, lr=lr, momentum=momentum)
    generator, found = torch.Generator().manual_seed(0), []
    order = [torch.randperm(128, generator=generator) for _ in range(2)]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        batch = order[step // 2][step % 2 * 64 :][:64]
        x = torch.cat(FixedViews()(IMAGES.images[batch]))
        z = model.projector(model.backbone(x))
        p1, p2 = model.predictor(z).chunk(2)
        constants = z.detach() if target is None else target(x).detach()
        z1, z2 = constants.chunk(2)
        cosine = nn.functional.cosine_similarity
        loss = -(cosine(p1, z2).mean() + cosine(p2, z1).mean()) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
        if target is not None:
            online = nn.Sequential(model.backbone, model.projector)
            update_momentum(online, target, ema)
            for slow, fast in zip(target.buffers(), online.buffers(), strict=True):
                slow.copy_(ema * slow + (1 - ema) * fast if slow.is_floating_point() else slow)
    return found


def same_weights(one, other, tolerance=1e-9):
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_simsiam_equals_its_pseudocode():
    model, other = network("simsiam"), network("simsiam")
    history = train(model, weight_decay=0.0)
    assert history["loss"].tolist() == pytest.approx(by_hand(other), rel=SINGLE)
    same_weights(model, other, SINGLE)


def test_byol_equals_its_pseudocode_with_lightlys_average_of_weights():
    model, other = network("byol", ema=0.9), network("byol", ema=0.9)
    target = nn.Sequential(*other.target.module)
    history = train(model, weight_decay=0.0)
    assert history["loss"].tolist() == pytest.approx(by_hand(other, target, ema=0.9), rel=SINGLE)
    same_weights(nn.Sequential(model.backbone, model.projector), nn.Sequential(other.backbone, other.projector), SINGLE)
    same_weights(model.target.module, target, SINGLE)
    means = [
        m.running_mean for net in (model.target.module, target) for m in net.modules() if hasattr(m, "running_mean")
    ]
    torch.testing.assert_close(*means, rtol=SINGLE, atol=SINGLE)
    assert not torch.equal(means[0], model.projector[1].running_mean)


def test_the_slow_copy_starts_equal_follows_and_takes_no_gradient():
    model = network("byol", ema=0.5)
    before = model.target.module[0][0].weight.clone()
    assert torch.equal(before, model.backbone[0].weight)
    with torch.no_grad():
        model.backbone[0].weight += 2.0
    model.after_step()
    torch.testing.assert_close(model.target.module[0][0].weight, before + 1.0)
    p, z = model(torch.rand(4, 1, 8, 8, dtype=torch.float64))
    model.loss(*p.chunk(2), *z.chunk(2)).backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())
    assert model.backbone[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["siglip", "barlow-twins", "vicreg"])
def test_joint_embeddings_are_trained_under_their_loss(name):
    model = network(name)
    x1, x2 = FixedViews()(IMAGES.images[torch.randperm(128, generator=torch.Generator().manual_seed(0))[:64]])
    z1, z2 = network(name)(torch.cat([x1, x2])).chunk(2)
    loss = {"siglip": losses.sigmoid_loss, "barlow-twins": losses.barlow_twins, "vicreg": losses.vicreg}[name]
    history = train(model, lr=0.003)
    assert history["loss"][0] == pytest.approx(loss(z1, z2).item(), rel=SINGLE)
    assert history["norm"][0] == pytest.approx(torch.cat([z1, z2]).norm(dim=1).mean().item(), rel=1e-6)
    assert history["loss"].iloc[-1] < history["loss"][0]


@pytest.mark.parametrize("name", ["siglip", "barlow-twins", "vicreg", "simsiam", "byol"])
@pytest.mark.parametrize("micro", [8, 64])
def test_micro_batches_equal_the_whole_batch(name, micro):
    """Without BatchNorm, which sees one micro-batch at a time."""
    make = partial(network, name, head=models.projection_head)
    whole, pieces = make(), make()
    one, other = train(whole, lr=0.01), train(pieces, lr=0.01, micro_batch_size=micro)
    assert one["loss"].tolist() == pytest.approx(other["loss"].tolist(), rel=1e-9)
    same_weights(whole, pieces)


def test_a_stopped_run_goes_on_with_the_slow_copy_it_had(tmp_path):
    def stop(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    whole, parts = network("byol"), network("byol")
    expected = train(whole, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        train(parts, epochs=4, on_epoch=stop, checkpoints=tmp_path)
    again = network("byol", seed=3)  # all of it must come from the checkpoint
    history = train(again, epochs=4, checkpoints=tmp_path)
    assert history["loss"].tolist() == expected["loss"].tolist()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (partial(network, "byol", ema=0.9), partial(network, "byol", ema=0.99), r"BYOL\(ema=0.9,.*BYOL\(ema=0.99,"),
        (partial(network, "vicreg"), partial(network, "barlow-twins"), r"loss=vicreg\(.*loss=barlow_twins\("),
        (
            partial(network, "simclr"),
            partial(network, "simclr", temperature=0.2),
            r"info_nce\(temperature=0\.5.* in the run directory, .*info_nce\(temperature=0\.2",
        ),
    ],
)
def test_a_checkpoint_of_another_loss_is_refused(tmp_path, before, after, words):
    train(before(), lr=0.001, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=words):
        train(after(), lr=0.001, checkpoints=tmp_path)


@pytest.mark.parametrize("name", models.METHODS)
def test_printed_models_say_that_their_loss_does_not_look_for_nan(name):
    assert "check_finite=False" in str(network(name)).splitlines()[1]


@pytest.mark.parametrize("name", ["simclr", "simsiam", "byol"])
def test_a_loss_that_shall_look_for_nan_does(name):
    broken = torch.full((4, 8), math.nan), *torch.eye(4, 8).expand(3, 4, 8)
    views = broken[:2] if name == "simclr" else broken
    assert network(name).loss(*views).isnan()
    with pytest.raises(ValueError, match="holds NaN or infinity in 4 of 4 rows"):
        network(name, check_finite=True).loss(*views)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"denominator": "ntxent"}, "denominator must be one of 'nt-xent', 'decoupled', 'cross-view', got 'ntxent'"),
        ({"check_finite": "no"}, "check_finite must be True or False, got 'no'"),
    ],
)
def test_settings_of_simclr_that_are_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        network("simclr", **options)


@pytest.mark.parametrize("denominator", ["nt-xent", "decoupled", "cross-view"])
def test_simclr_is_the_joint_embedding_under_info_nce(denominator):
    z1, z2 = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    model = network("simclr", temperature=0.2, denominator=denominator)
    assert model.loss(z1, z2) == losses.info_nce(z1, z2, 0.2, denominator=denominator)


def test_a_loss_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="loss must be a function, got float"):
        models.JointEmbedding(models.digits_encoder(8, 16), models.projection_head(16, 12, 8), 0.5)


def test_evaluation_takes_the_prediction_for_the_embedding():
    model = network("simsiam").float().eval()
    h, p = evaluation.embed(model, IMAGES)
    x = IMAGES.images.float() / 255
    torch.testing.assert_close(h, model.features(x))
    torch.testing.assert_close(p, model.predictor(model.projector(model.features(x))))


def test_grad_scale_acts_on_what_the_loss_turns():
    plain, scaled = network("simsiam"), network("simsiam", grad_scale_power=1.0)
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    for model in (plain, scaled):
        p, z = model(x)
        p.retain_grad()
        kept = model.predictor[3].register_full_backward_hook(
            lambda module, inputs, outputs, model=model: setattr(model, "pull", outputs[0])
        )
        p, z = model(x)
        model.loss(*p.chunk(2), *z.chunk(2)).backward()
        kept.remove()
    torch.testing.assert_close(scaled.pull, plain.pull * p.detach().norm(dim=1, keepdim=True))


@pytest.mark.parametrize(
    ("ema", "words"), [(1.0, "ema must be a number ≥ 0 and < 1, got 1.0"), (-0.1, "ema must be a number ≥ 0")]
)
def test_a_rate_that_is_none_is_refused(ema, words):
    with pytest.raises(ValueError, match=words):
        network("byol", ema=ema)


def test_methods_on_shared_parts_start_from_the_same_weights():
    nets = {name: network(name) for name in models.METHODS}
    first = nets["simclr"].projector[3].weight
    assert all(torch.equal(net.projector[3].weight, first) for net in nets.values())
