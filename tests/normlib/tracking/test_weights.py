"""The weights that a tracker follows, against norms and angles computed one step at a time with NumPy."""

import itertools
import math

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normlib import losses
from normlib.tracking import NormTracker

mpl.use("agg")


def trained(tracker, model, steps, *, lr=0.3, momentum=0.0, seed=0):
    """Train on random data; returns the first weight matrix before each step and after the last."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    matrices = [model[0].weight.detach().clone().numpy()]
    for _ in range(steps):
        x = torch.randn(8, 3, generator=generator, dtype=torch.float64).to(model[0].weight.dtype)
        optimizer.zero_grad()
        losses.info_nce(model(x), model(x + 0.1)).backward()
        optimizer.step()
        tracker.step()
        matrices.append(model[0].weight.detach().clone().numpy())
    return matrices


def network(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False)).to(dtype)


def of(frame, statistic, layer="0.weight"):
    rows = frame[(frame["layer"] == layer) & (frame["statistic"] == statistic)]
    return rows.set_index("step")["value"].to_dict()


def brute_force(matrices):
    """Norm, angle turned, and squared radial and tangential parts, summed up to each step."""
    sums, rows = np.zeros(3), []
    for now, after in itertools.pairwise(matrices):
        w, move = now.ravel(), (after - now).ravel()
        rows.append([np.linalg.norm(w), *sums])
        radial = move @ w / np.linalg.norm(w)
        cosine = w @ after.ravel() / (np.linalg.norm(w) * np.linalg.norm(after))
        sums += [math.acos(min(1, cosine)), radial**2, move @ move - radial**2]
    return np.array(rows)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.01, 3), st.sampled_from([0.0, 0.9]), st.integers(0, 1000))
def test_norms_and_paths_are_those_of_a_plain_loop(lr, momentum, seed):
    model = network()
    with NormTracker(model, weights=True) as tracker:
        matrices = trained(tracker, model, 6, lr=lr, momentum=momentum, seed=seed)
    frame, expected = tracker.to_frame(), brute_force(matrices)
    for column, statistic in enumerate(("weight_norm", "weight_turned", "weight_radial", "weight_tangential")):
        found = of(frame, statistic)
        assert [*found] == [*range(6)]
        # The arc cosine of the plain loop loses half of the digits of a small angle.
        np.testing.assert_allclose([*found.values()], expected[:, column], rtol=1e-6, atol=1e-6)


def test_steps_between_two_measurements_count_too():
    every, model = {}, network()
    for n in (1, 3):
        with NormTracker(model := network(), weights=True, every=n) as tracker:
            trained(tracker, model, 7)
        every[n] = of(tracker.to_frame(), "weight_turned")
    assert every[3] == {step: every[1][step] for step in (0, 3, 6)}


def test_small_angles_keep_their_digits_in_single_precision():
    model, exact = network(torch.float32), network()
    with NormTracker(model, weights=True) as tracker, NormTracker(exact, weights=True) as reference:
        trained(tracker, model, 4, lr=1e-4)
        trained(reference, exact, 4, lr=1e-4)
    turned, expected = (of(one.to_frame(), "weight_turned")[3] for one in (tracker, reference))
    assert 0 < expected < 1e-3
    assert turned == pytest.approx(expected, rel=1e-2)


def test_each_matrix_has_its_rows_and_biases_have_none():
    with NormTracker(model := network(), weights=True) as tracker:
        trained(tracker, model, 2)
    frame = tracker.to_frame()
    weights = frame[frame["statistic"].str.startswith("weight_")]
    assert set(weights["layer"]) == {"0.weight", "1.weight"}
    assert set(weights["class"]) == {-1}
    assert frame["step"].is_monotonic_increasing
    assert set(frame.loc[~frame.index.isin(weights.index), "layer"]) == {"1"}


def test_a_matrix_of_zeros_turns_by_nothing():
    model = network()
    nn.init.zeros_(model[0].weight)
    with NormTracker(model, weights=True) as tracker:
        trained(tracker, model, 3)
    assert of(tracker.to_frame(), "weight_turned")[1] == 0
    assert np.isfinite(tracker.to_frame()["value"]).all()


def test_what_was_measured_is_the_same_after_a_stop():
    model = network()
    with NormTracker(model, weights=True) as whole:
        trained(whole, model, 3)
        state, weights = whole.state_dict(), {name: value.clone() for name, value in model.state_dict().items()}
        trained(whole, model, 3, seed=1)
    again = network()
    again.load_state_dict(weights)
    with NormTracker(again, weights=True) as tracker:
        tracker.load_state_dict(state)
        trained(tracker, again, 3, seed=1)
    assert tracker.to_frame().equals(whole.to_frame())


def test_a_state_of_other_weights_is_refused():
    state = NormTracker(network(), weights=True).state_dict()
    other = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"weights are \['0.weight', '1.weight'\], this tracker's are \['0.weight'\]"):
        NormTracker(other, "0", weights=True).load_state_dict(state | {"series": [["0", ""]]})
    with pytest.raises(ValueError, match=r"state lacks \['weight_path', 'weights'\]"):
        NormTracker(network(), weights=True).load_state_dict(NormTracker(network()).state_dict())


def test_weights_are_drawn_by_name():
    with NormTracker(model := network(), weights=True) as tracker:
        trained(tracker, model, 3)
    ax = tracker.plot("weight_turned")
    assert [line.get_label() for line in ax.lines] == ["0.weight", "1.weight"]
    assert "radians" in ax.get_ylabel()
    assert [line.get_label() for line in tracker.plot("weight_norm", layers=["1.weight"]).lines] == ["1.weight"]
