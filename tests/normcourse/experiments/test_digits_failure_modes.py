"""The recorded failing runs: each failure mode does what its name says, in a few steps on digits."""

import pytest
import torch

from normcourse import experiments
from normcourse.experiments import digits_failure_modes

SETTINGS = {"width": 8, "batch_size": 64, "steps": 41, "track_every": 10}


def run(name, **changes):
    mode = digits_failure_modes.HEALTHY | digits_failure_modes.FAILURE_MODES[name] | changes
    model = digits_failure_modes.network(SETTINGS["width"], 0, mode)
    steps, tracker = digits_failure_modes.train(model, mode, SETTINGS, seed=0)
    norms = tracker.to_frame().pivot_table(index="step", columns=["layer", "statistic"], values="value")
    return steps.set_index("step"), norms


def test_a_run_is_tracked_every_few_steps():
    steps, norms = run("healthy")
    assert steps.index.tolist() == norms.index.tolist() == [0, 10, 20, 30, 40]
    assert steps.notna().all(axis=None)
    assert steps.loc[0, "dead"] < 1


def test_without_negatives_all_directions_become_one():
    steps, norms = run("no negatives", lr=0.3)
    assert steps["loss"].iloc[-1] < -0.999
    assert steps["spread"].iloc[-1] < steps["spread"].iloc[0] / 2
    assert norms["projector.2", "grad_mean"].iloc[-1] < norms["projector.2", "grad_mean"].iloc[0] / 2


def test_a_dead_projector_gives_every_image_the_same_embedding_and_no_gradient():
    steps, norms = run("dead projector")
    assert (steps["dead"] == 1).all()
    assert (norms["projector.2", "std"] < 1e-6).all()
    assert (norms["backbone.5", "grad_mean"] == 0).all()
    assert (norms["backbone.5", "std"] > 1e-3).all()  # the backbone itself still tells images apart


def test_weights_times_a_factor_lengthen_embeddings_and_shrink_their_gradients():
    healthy, large = run("healthy")[1], run("weights too large")[1]
    first = large.iloc[0] / healthy.iloc[0]
    assert first["projector.2", "mean"] > 1000
    assert first["projector.2", "grad_mean"] < 1 / 100


def test_too_strong_decay_takes_the_norms_to_nothing():
    _, norms = run("decay too strong", weight_decay=1.0)
    assert norms["projector.2", "mean"].iloc[-1] < norms["projector.2", "mean"].iloc[0] / 10


def test_too_large_steps_throw_embeddings_far_out():
    _, norms = run("steps too large", lr=10.0)
    assert norms["projector.2", "mean"].iloc[-1] > 100 * norms["projector.2", "mean"].iloc[0]


@pytest.mark.parametrize("name", digits_failure_modes.FAILURE_MODES)
def test_only_what_an_ill_names_differs_from_the_healthy_network(name):
    mode = digits_failure_modes.HEALTHY | digits_failure_modes.FAILURE_MODES[name]
    healthy = digits_failure_modes.network(8, 3, digits_failure_modes.HEALTHY)
    changed = {
        key
        for (key, value), before in zip(
            digits_failure_modes.network(8, 3, mode).state_dict().items(), healthy.state_dict().values(), strict=True
        )
        if not torch.equal(value, before)
    }
    weights = {key for key, value in healthy.state_dict().items() if value.ndim > 1}
    expected = {"weights too large": weights, "dead projector": {"projector.0.bias"}}.get(name, set())
    assert changed == expected


def test_smoke_settings_leave_their_tables(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    tables = experiments.smoke("digits-failure-modes")
    assert set(tables["steps"]["run"]) == set(digits_failure_modes.FAILURE_MODES)
    assert set(tables["norms"]["layer"]) == set(digits_failure_modes.LAYERS)
