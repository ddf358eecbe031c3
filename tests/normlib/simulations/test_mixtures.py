"""Batched encoders on mixtures of directions against one network trained by autograd."""

import pytest
import torch
from torch import nn

from normlib import losses, simulations
from normlib.simulations import mixtures


def network_of(encoders, seed_index):
    """The same weights as a torch module in float64."""
    network = nn.Sequential(nn.Linear(*encoders.w1.shape[1:]), nn.ReLU(), nn.Linear(*encoders.w2.shape[1:]))
    parts = (encoders.w1, encoders.b1, encoders.w2, encoders.b2)
    with torch.no_grad():
        for parameter, part in zip(network.parameters(), parts, strict=True):
            parameter.copy_(part[seed_index].mT.reshape(parameter.shape))
    return network.double()


def loss_of_anchors(z, positive, temperature):
    """Every row an anchor, all others in the denominator: a loop, as the formula reads."""
    u = z / z.norm(dim=1, keepdim=True)
    terms = []
    for a in range(len(u)):
        scores = torch.stack([u[a] @ u[b] / temperature for b in range(len(u)) if b != a])
        terms.append(scores.logsumexp(0) - u[a] @ u[positive[a]] / temperature)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_gradient_of_the_batched_loss_is_autograds(temperature):
    z = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = z * torch.logspace(-2, 2, 12, dtype=torch.float64)[:, None]
    positive = torch.tensor([[1, 0, 3, 4, 2, 6, 5, 8, 9, 7, 11, 10], [11, *range(11)]])
    grad = mixtures._embedding_grad(z, positive, temperature)
    for s in range(2):
        leaf = z[s].clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss_of_anchors(leaf, positive[s], temperature), leaf)
        error = (grad[s] - expected).norm(dim=1) / expected.norm(dim=1)
        assert error.max() < 1e-10


def test_one_step_is_that_of_a_torch_module():
    mixture = simulations.spherical_mixture(n=64, seeds=[5, 9])
    encoders = simulations.train_encoder(mixture, epochs=0, batch_size=16)
    networks = [network_of(encoders, s) for s in range(2)]
    positive = torch.stack([torch.arange(16).roll(1), torch.arange(16).roll(5)])
    mixtures._sgd_step(encoders, mixture.x[:, :16], positive, lr=0.5, temperature=0.7)
    for s, network in enumerate(networks):
        loss_of_anchors(network(mixture.x[s, :16].double()), positive[s], 0.7).backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.5 * parameter.grad
            expected = network(mixture.x[s].double())
        torch.testing.assert_close(encoders(mixture.x)[s].double(), expected, rtol=1e-4, atol=1e-4)


def test_a_seed_does_not_depend_on_the_others():
    together = simulations.spherical_mixture(n=300, seeds=[4, 7, 1])
    alone = simulations.spherical_mixture(n=300, seeds=[7])
    for name in ("x", "latent", "labels", "centres"):
        assert torch.equal(getattr(together, name)[1], getattr(alone, name)[0])
    z = [simulations.train_encoder(m, epochs=3, progress=False)(m.x) for m in (together, alone)]
    torch.testing.assert_close(z[0][1], z[1][0], rtol=1e-3, atol=1e-3)


def test_encoders_can_be_watched_in_training():
    mixture, seen = simulations.spherical_mixture(n=64, seeds=range(2)), {}
    setting = {"batch_size": 16, "lr": 0.5, "progress": False}
    simulations.train_encoder(mixture, epochs=3, on_epoch=lambda e, now: seen.update({e: now(mixture.x)}), **setting)
    assert list(seen) == [0, 1, 2, 3]
    for epochs, z in seen.items():
        assert torch.equal(z, simulations.train_encoder(mixture, epochs=epochs, **setting)(mixture.x))


def test_mixture_has_the_settings_asked_for():
    mixture = simulations.spherical_mixture((1, 3), n=20_000, dim=5, noise=(0.1, 0.8), observed=7, scale=2.0, seeds=[0])
    assert mixture.x.shape == (1, 20_000, 7)
    torch.testing.assert_close(mixture.latent.norm(dim=2), torch.ones(1, 20_000))
    torch.testing.assert_close(mixture.centres.norm(dim=2), torch.ones(1, 2))
    assert mixture.labels.float().mean().item() == pytest.approx(0.75, abs=0.02)
    closeness = (mixture.latent[0] * mixture.centres[0][mixture.labels[0]]).sum(1)
    means = [closeness[mixture.labels[0] == label].mean().item() for label in (0, 1)]
    assert means[0] > 0.95
    assert 0.4 < means[1] < 0.7
    mapping = torch.linalg.lstsq(mixture.latent[0].double(), mixture.x[0].double()).solution
    assert mapping.std().item() == pytest.approx(2.0, rel=0.4)


def test_positives_are_random_class_mates():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[0, 1, 1, 2, 1, 2], [3, 3, 3, 3, 3, 3]])
    counts = torch.zeros(2, 6, 6)
    for _ in range(3000):
        positive = mixtures._class_mates(labels, torch.rand(2, 6, generator=generator))
        assert torch.equal(labels.gather(1, positive), labels)
        assert all(row.sort().values.tolist() == list(range(6)) for row in positive)  # each is once a positive
        counts += nn.functional.one_hot(positive, 6)
    assert counts[0, 0].tolist() == [3000, 0, 0, 0, 0, 0]  # alone with its class
    assert counts[0, 3].tolist() == [0, 0, 0, 0, 0, 3000]
    torch.testing.assert_close(counts[0, 1] / 3000, torch.tensor([0, 0, 0.5, 0, 0.5, 0]), rtol=0, atol=0.05)
    torch.testing.assert_close(counts[1, 0] / 3000, torch.tensor([0, 0.2, 0.2, 0.2, 0.2, 0.2]), rtol=0, atol=0.05)


def test_untrained_control_has_the_weights_that_training_starts_from():
    mixture = simulations.spherical_mixture(n=256, seeds=range(2))
    untrained = simulations.train_encoder(mixture, epochs=0)
    barely = simulations.train_encoder(mixture, epochs=1, lr=1e-12, progress=False)
    assert torch.equal(untrained.w1, barely.w1)
    assert untrained.w1.abs().max() <= 1 / 8
    assert not torch.equal(untrained.w1[0], untrained.w1[1])


def test_training_brings_classes_together():
    mixture = simulations.spherical_mixture((1, 1, 1), n=600, noise=0.4, seeds=range(3))
    untrained = simulations.train_encoder(mixture, epochs=0)
    trained = simulations.train_encoder(mixture, epochs=20, lr=1.0, progress=False)

    def contrast(encoders):
        u = losses.unit(encoders(mixture.x))
        same = mixture.labels[:, :, None] == mixture.labels[:, None]
        cosine = u @ u.mT
        return cosine[same].mean() - cosine[~same].mean()

    assert contrast(trained) > contrast(untrained) + 0.3


def test_norm_table_is_tidy_and_holds_the_norms():
    mixture = simulations.spherical_mixture(n=128, seeds=[3, 8])
    encoders = simulations.train_encoder(mixture, epochs=0)
    table = simulations.norm_table(mixture, untrained=encoders)
    assert table["seed"].tolist() == [3] * 128 + [8] * 128
    row = table[(table["seed"] == 8) & (table["index"] == 5)].iloc[0]
    assert row["label"] == mixture.labels[1, 5]
    assert row["untrained"] == pytest.approx(encoders(mixture.x)[1, 5].norm().item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"one has the seeds \(3, 8\), the mixture has \(3,\)"):
        simulations.norm_table(simulations.spherical_mixture(n=128, seeds=[3]), one=encoders)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": (1, 0)}, "weights must be a number > 0, got 0"),
        ({"weights": ()}, "weights is empty"),
        ({"noise": (1.0, 2.0)}, "noise must be one number or 4"),
        ({"noise": -1.0}, "noise must be a number ≥ 0"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"seeds": []}, "one or more"),
        ({"dim": 1}, "dim must be an integer ≥ 2"),
    ],
)
def test_bad_mixtures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulations.spherical_mixture(**arguments)


def test_bad_training_is_refused():
    mixture = simulations.spherical_mixture(n=64, seeds=[0])
    with pytest.raises(ValueError, match="64 inputs per seed, fewer than batch_size = 128"):
        simulations.train_encoder(mixture)
    with pytest.raises(ValueError, match="lr must be a number > 0"):
        simulations.train_encoder(mixture, batch_size=32, lr=0)
    with pytest.raises(ValueError, match="temperature must be a number > 0"):
        simulations.train_encoder(mixture, batch_size=32, temperature=0)
    with pytest.raises(FloatingPointError, match="lower lr"):
        simulations.train_encoder(mixture, batch_size=32, lr=1e38, epochs=3, progress=False)
