"""NormTracker against brute force: NumPy statistics of raw rows that an independent recorder kept."""

import copy
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
import torch._dynamo.testing
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from normlib.interventions import GradScale
from normlib.tracking import NormTracker
from normlib.tracking.statistics import FLUSH_STEPS, group_statistics

mpl.use("agg")
LEVELS = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def brute_force(norms, prefix="", levels=LEVELS):
    norms = np.asarray(norms, dtype=np.float64)
    moments = {"count": len(norms), "mean": norms.mean(), "std": norms.std(), "min": norms.min(), "max": norms.max()}
    quantiles = {name: np.quantile(norms, level) for name, level in levels.items()}
    return {prefix + name: value for name, value in (moments | quantiles).items()}


def expected(step, layer, norms, labels=None, prefix="", levels=LEVELS):
    """{(step, layer, class, statistic): value} of one step's norms."""
    norms = np.asarray(norms)
    table = {(step, layer, -1, name): value for name, value in brute_force(norms, prefix, levels).items()}
    for label in () if labels is None else np.unique(labels):
        of_class = brute_force(norms[np.asarray(labels) == label], prefix, levels)
        table |= {(step, layer, int(label), name): value for name, value in of_class.items()}
    return table


def measured(tracker, **options):
    frame = tracker.to_frame(**options)
    keys = frame[["step", "layer", "class", "statistic"]].itertuples(index=False, name=None)
    table = dict(zip(keys, frame["value"], strict=True))
    assert len(table) == len(frame)
    return table


def assert_same(table, reference, rtol=1e-12):
    assert table.keys() == reference.keys()
    keys = list(reference)
    scale = np.array([reference[(*key[:3], ("grad_" if key[3].startswith("grad_") else "") + "mean")] for key in keys])
    ours, theirs = (np.array([t[key] for key in keys]) for t in (table, reference))
    np.testing.assert_array_less(np.abs(ours - theirs), rtol * np.maximum(np.abs(theirs), scale) + 1e-300)


def values(tracker, statistic, **where):
    frame = tracker.to_frame()
    frame = frame[(frame["statistic"] == statistic) & (frame["class"] == where.pop("label", -1))]
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame["value"].tolist()


def mlp(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)).to(dtype)


def batch(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def row_norms(x):
    return x.detach().double().norm(dim=1).numpy()


class Probe(nn.Module):
    """Returns what it was made with, whatever comes in: for output shapes and structures."""

    def __init__(self, output):
        super().__init__()
        self.inner = nn.Identity()
        self.inner.forward = lambda x: output

    def forward(self, x):
        return self.inner(x)


# --- statistics -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_group_statistics_equal_numpy(data):
    M, n, C = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 30), st.integers(1, 6)))
    ties = st.sampled_from([0.0, 1.0, 2.5])
    number = st.one_of(ties, *(st.floats(0, top, allow_subnormal=False) for top in (1e6, 1e-30)))
    rows = torch.tensor(data.draw(st.lists(number, min_size=M * n, max_size=M * n)), dtype=torch.float64).view(M, n)
    groups = torch.tensor(data.draw(st.lists(st.integers(0, C - 1), min_size=M * n, max_size=M * n))).view(M, n)
    levels = data.draw(st.lists(st.floats(0, 1), max_size=4))
    names = {f"level{i}": level for i, level in enumerate(levels)}
    for given_groups, count in ((None, 1), (groups, C)):
        ours = group_statistics(rows, levels, given_groups, count)
        assert ours.shape == (M, count, 5 + len(levels))
        for row in range(M):
            for group in range(count):
                mine = rows[row] if given_groups is None else rows[row][groups[row] == group]
                if len(mine) == 0:
                    assert ours[row, group, 0] == 0
                    assert ours[row, group, 1:].isnan().all()
                else:
                    theirs = list(brute_force(mine, levels=names).values())
                    np.testing.assert_allclose(ours[row, group], theirs, rtol=1e-12, atol=1e-12 * float(mine.max()))


def test_more_groups_than_a_short_integer_counts():
    statistics = group_statistics(torch.tensor([[1.0, 2.0, 3.0]]), [], torch.tensor([[39_999, 0, 39_999]]), 40_000)[0]
    assert statistics[[0, 39_999], :2].tolist() == [[1, 2], [2, 2]]
    assert statistics[:, 0].sum() == 3


def test_nan_makes_its_own_group_nan_and_inf_stays_inf():
    rows = torch.tensor([[1.0, torch.nan, 3.0, torch.inf, 5.0, torch.inf]])
    groups = torch.tensor([[0, 0, 1, 2, 2, 2]])
    nan, finite, infinite = group_statistics(rows, [0.0, 0.5, 0.75, 1.0], groups, 3)[0].tolist()
    assert nan[0] == 2
    assert np.isnan(nan[1:]).all()
    assert finite == [1, 3, 0, 3, 3, 3, 3, 3, 3]
    assert infinite[0:2] == [3, np.inf]
    assert np.isnan(infinite[2])  # as np.std
    assert infinite[3:] == [5, np.inf, 5, np.inf, np.inf, np.inf]


# --- steps, views, micro-batches, classes ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    views=st.integers(1, 3),
    concatenated=st.booleans(),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    steps=st.integers(1, 4),
    every=st.integers(1, 3),
    given_classes=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_row_counts_once_under_its_own_label(views, concatenated, sizes, steps, every, given_classes, seed):
    model, draw = mlp(seed), torch.Generator().manual_seed(seed)
    options = {"num_classes": 4} if given_classes else {}
    reference = {}
    with NormTracker(model, ["0", "2"], per_class=True, every=every, **options) as tracker:
        for step in range(steps):
            parts = [torch.randint(4, (n,), generator=draw) for n in sizes]
            rows = {"0": [], "2": []}
            for part in parts:
                x = [torch.randn(len(part), 6, generator=draw, dtype=torch.float64) for _ in range(views)]
                for images in [torch.cat(x)] if concatenated else x:
                    model(images)
                    with tracker.paused():
                        rows["0"].append(row_norms(model[0](images)))
                        rows["2"].append(row_norms(model(images)))
            tracker.step(parts if len(parts) > 1 else parts[0])
            labels = np.concatenate([part for part in parts for _ in range(views)])
            if step % every == 0:
                for layer in rows:
                    reference |= expected(step, layer, np.concatenate(rows[layer]), labels)
    assert_same(measured(tracker), reference)


def test_many_steps_of_changing_length_cross_the_buffer():
    model, reference = mlp(), {}
    with NormTracker(model, per_class=True) as tracker:
        for step in range(2 * FLUSH_STEPS + 5):
            x = batch(4 if step % 10 else 7, 6, seed=step)
            labels = torch.arange(len(x)) % (2 + step // 40)  # new classes appear later
            tracker_rows = row_norms(model(x))
            tracker.step(labels)
            reference |= expected(step, "2", tracker_rows, labels)
            assert len(tracker._statistics._buffer) < FLUSH_STEPS
    assert_same(measured(tracker), reference)


def test_memory_is_eighty_bytes_a_step_and_layer_and_class():
    model = mlp()
    with NormTracker(model, per_class=True, num_classes=10) as tracker:
        for _ in range(FLUSH_STEPS):
            model(batch(3, 6))
            tracker.step(torch.tensor([0, 1, 2]))
    kept = sum(block.statistics.untyped_storage().nbytes() for block in tracker._statistics.blocks)
    assert kept == FLUSH_STEPS * 80 * (2 + 10)


def test_frame_is_tidy_and_sorted():
    model = mlp()
    with NormTracker(model, ["2", "0"], per_class=True, quantiles=[0.975, 0.5]) as tracker:
        for _ in range(3):
            model(batch(4, 6))
            tracker.step(torch.tensor([1, 1, 3, 3]))
    frame = tracker.to_frame()
    assert frame.columns.tolist() == ["step", "layer", "class", "statistic", "value"]
    assert [frame[column].dtype.kind for column in ("step", "class", "value")] == ["i", "i", "f"]
    assert frame["statistic"].unique().tolist() == ["count", "mean", "std", "min", "max", "q50", "q97.5"]
    order = frame.assign(layer=frame["layer"].map({"2": 0, "0": 1}))[["step", "layer", "class"]]
    assert order.equals(order.sort_values(["step", "layer", "class"], kind="stable"))
    assert frame["class"].unique().tolist() == [-1, 1, 3]


def test_skipped_steps_take_nothing_and_need_no_labels():
    model = mlp()
    with NormTracker(model, every=3, per_class=True) as tracker:
        for step in range(7):
            model(batch(2, 6))
            assert bool(tracker._hooks[0].calls) == (step % 3 == 0)
            tracker.step(torch.tensor([0, 1]) if step % 3 == 0 else None)
    assert tracker.to_frame()["step"].unique().tolist() == [0, 3, 6]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_forwards_with_and_without_grad_count(context):
    model, x = mlp(), batch(5, 6)
    tracker = NormTracker(model).attach()
    with context():
        for _ in range(FLUSH_STEPS + 1):
            model(x)
            tracker.step()
    tracker.detach()
    assert values(tracker, "mean")[-1] == pytest.approx(row_norms(model(x)).mean(), rel=1e-12)


def test_paused_nests_and_the_outer_one_holds():
    model = mlp()
    with NormTracker(model) as tracker:
        with tracker.paused():
            with tracker.paused():
                model(batch(3, 6))
            model(batch(3, 6))
        model(batch(2, 6))
        tracker.step()
    assert values(tracker, "count") == [2]


def test_evaluation_left_unpaused_is_an_error_and_the_step_can_be_redone():
    model = mlp()
    with NormTracker(model) as tracker:
        model(batch(2, 6))
        model.eval()(batch(9, 6))
        with pytest.raises(RuntimeError, match=r"layer '2' ran in training and in eval mode.*tracker\.paused\(\)"):
            tracker.step()
        model.train()(batch(3, 6))
        tracker.step()
    assert values(tracker, "count") == [3]
    assert tracker.to_frame()["step"].unique().tolist() == [0]


def test_a_deep_copy_of_the_model_does_not_count():
    model = mlp()
    with NormTracker(model) as tracker:
        copy.deepcopy(model)(batch(9, 6))
        model(batch(2, 6))
        tracker.step()
    assert values(tracker, "count") == [2]


def test_attach_and_detach_are_idempotent_and_data_stays():
    model = mlp()
    tracker = NormTracker(model)
    with pytest.raises(RuntimeError, match="not attached"):
        tracker.step()
    assert tracker.attach() is tracker.attach()
    assert len(model[2]._forward_hooks) == 1
    with tracker:
        model(batch(2, 6))
        tracker.step()
        model(batch(2, 6))  # never closed
    assert not model[2]._forward_hooks
    tracker.detach()
    assert values(tracker, "count") == [2]
    with tracker:
        model(batch(4, 6))
        tracker.step()
    assert values(tracker, "count") == [2, 4]


def test_exit_detaches_when_training_fails():
    model = mlp()
    with pytest.raises(ZeroDivisionError), NormTracker(model):
        raise ZeroDivisionError
    assert not model[2]._forward_hooks


def test_a_layer_that_saw_nothing_is_named():
    model = mlp()
    with NormTracker(model, ["0", "2"]) as tracker:
        model[0](batch(2, 6))
        with pytest.raises(RuntimeError, match="layer '2' saw no rows since the last step"):
            tracker.step()
        model(batch(0, 6))
        with pytest.raises(RuntimeError, match="layer '0' saw no rows"):
            tracker.step()


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, r"needs the labels"),
        ([0, 1, 0, 1], TypeError, r"integer tensors, got int"),
        (torch.zeros(4), TypeError, r"got torch.float32 of shape \(4,\)"),
        (torch.zeros(2, 2, dtype=torch.long), TypeError, r"shape \(2, 2\)"),
        (torch.tensor([0, 1, 2]), ValueError, r"3 labels do not divide the 4 rows that layer '2' saw"),
        (torch.tensor([], dtype=torch.long), ValueError, r"0 labels do not divide"),
        (torch.tensor([0, 1, 2, -1]), ValueError, r"in 0..2, got -1..2"),
        (torch.tensor([0, 1, 2, 3]), ValueError, r"in 0..2, got 0..3"),
    ],
)
def test_bad_labels_are_refused_at_once(labels, error, message):
    model = mlp()
    with NormTracker(model, per_class=True, num_classes=3) as tracker:
        model(batch(4, 6))
        with pytest.raises(error, match=message):
            tracker.step(labels)
    assert tracker.to_frame().empty


def test_flat_labels_over_micro_batches_of_separate_views_are_refused():
    model = mlp()
    with NormTracker(model, per_class=True) as tracker:
        for _ in range(4):  # two views of two micro-batches
            model(batch(2, 6))
        with pytest.raises(ValueError, match=r"forwards of \[2, 2, 2, 2\] rows, which are no whole views of \[4\]"):
            tracker.step(torch.arange(4))


# --- layers and shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (5, 7, 3), (5, 3, 2, 4), (5, 3, 2, 2, 3)])
def test_rows_are_norms_of_the_mean_over_positions(shape):
    x = batch(*shape)
    pooled = {2: lambda: x, 3: lambda: x.mean(1)}.get(len(shape), lambda: x.flatten(2).mean(2))()
    with NormTracker(model := Probe(x), "inner") as tracker:
        model(None)
        tracker.step()
    assert_same(measured(tracker), expected(0, "inner", row_norms(pooled)))


def test_batch_second():
    x = batch(7, 5, 3)
    with NormTracker(model := Probe(x), "inner", batch_first=False) as tracker:
        model(None)
        tracker.step()
    assert_same(measured(tracker), expected(0, "inner", row_norms(x.mean(0))))


Pair = namedtuple("Pair", ["hidden", "pooled"])


@pytest.mark.parametrize(
    ("output", "layer"),
    [
        ((batch(4, 2), batch(4, 3)), "inner:1"),
        ([batch(4, 2), batch(4, 3)], "inner:1"),
        ({"hidden": batch(4, 2), "pooled": batch(4, 3)}, "inner:pooled"),
        (Pair(batch(4, 2), batch(4, 3)), "inner:pooled"),
        (Pair(batch(4, 2), batch(4, 3)), "inner:1"),
        ((None, {"z": (batch(4, 3),)}), "inner:1:z:0"),
    ],
)
def test_elements_of_tuples_and_dicts(output, layer):
    with NormTracker(model := Probe(output), layer) as tracker:
        model(None)
        tracker.step()
    assert_same(measured(tracker), expected(0, layer, row_norms(batch(4, 3))))


@pytest.mark.parametrize(
    ("output", "layer", "error", "message"),
    [
        ((1, 2), "inner", TypeError, r"layer 'inner' gives a tuple with keys 0\.\.1: choose .* 'inner:KEY'"),
        ({"a": 1, "b": 2}, "inner", TypeError, r"keys 'a', 'b'"),
        (Pair(1, 2), "inner:2", ValueError, r"key '2' is not in a Pair with keys 0\.\.1 or hidden, pooled"),
        ({"a": 1}, "inner:c", ValueError, r"key 'c' is not in a dict with keys 'a'"),
        (batch(4, 3), "inner:0", ValueError, r"key '0' is not in a Tensor, which has no keys"),
        (batch(4), "inner", TypeError, r"torch.float64 of shape \(4,\); expected"),
        (torch.zeros(4, 3, dtype=torch.long), "inner", TypeError, r"torch.int64 of shape \(4, 3\)"),
        (None, "inner", TypeError, r"a NoneType"),
    ],
)
def test_outputs_that_are_no_embeddings_are_refused(output, layer, error, message):
    with NormTracker(model := Probe(output), layer), pytest.raises(error, match=message):
        model(None)


def test_lstm_outputs_and_last_state():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True).double()
            self.last = nn.Identity()

        def forward(self, x):
            return self.last(self.lstm(x)[1][0][-1])

    model, x = Last(), batch(4, 3, 6)
    with NormTracker(model, ["lstm:0", "last"]) as tracker:
        last = model(x)
        tracker.step()
    reference = expected(0, "lstm:0", row_norms(model.lstm(x)[0].mean(1))) | expected(0, "last", row_norms(last))
    assert_same(measured(tracker), reference)


def test_unknown_layer_lists_close_names_first_and_all():
    model = nn.ModuleDict({"backbone": mlp(), "projector": mlp()})
    with pytest.raises(ValueError, match=r"'projecter' is not in the model; did you mean 'projector'") as error:
        NormTracker(model, "projecter")
    assert all(repr(name) in str(error.value) for name, _ in model.named_modules())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nn.ReLU(),), ValueError, "no nn.Linear"),
        (("model",), TypeError, "model must be a Module, got str"),
        ((mlp(), []), ValueError, "one or more different names"),
        ((mlp(), ["0", "0"]), ValueError, "different names"),
        ((mlp(), [nn.ReLU()]), TypeError, "names of submodules, got ReLU"),
    ],
)
def test_bad_models_and_layers(arguments, error, message):
    with pytest.raises(error, match=message):
        NormTracker(*arguments)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("every", 0, ValueError),
        ("every", 1.5, ValueError),
        ("every", True, ValueError),
        ("every", np.float64(2), ValueError),
        ("num_classes", 0, ValueError),
        ("num_classes", np.True_, ValueError),
        ("quantiles", [1.1], ValueError),
        ("loss_reduction", "none", ValueError),
        ("grad_scaler", 1024.0, TypeError),
    ],
)
def test_bad_options_are_named(option, value, error):
    with pytest.raises(error, match=option):
        NormTracker(mlp(), **{option: value})


def test_numpy_options_are_as_good_as_pythons(tmp_path):
    options = [
        {"every": 2, "num_classes": 3, "quantiles": [0.05, 0.975]},
        {"every": np.int64(2), "num_classes": np.int32(3), "quantiles": np.array([0.975, 0.05])},
        {"every": np.uint8(2), "num_classes": np.int64(3), "quantiles": torch.tensor([0.975, 0.05])},
    ]
    tables = []
    for number, chosen in enumerate(options):
        model = mlp()
        with NormTracker(model, per_class=True, **chosen) as tracker:
            for step in range(3):
                model(batch(4, 6, seed=step))
                tracker.step(torch.tensor([0, 1, 1, 0]))
        torch.save(tracker.state_dict(), tmp_path / f"{number}.pt")
        tracker.load_state_dict(torch.load(tmp_path / f"{number}.pt", weights_only=True))
        tables.append(measured(tracker))
    assert_same(tables[1], tables[0])
    assert_same(tables[2], tables[0], rtol=1e-6)  # levels in float32


def test_default_is_the_last_linear_that_is_called():
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert NormTracker(encoder).layers == ("linear2",)
    assert NormTracker(nn.MultiheadAttention(8, 2, bias=False), "").layers == ("",)
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        NormTracker(nn.MultiheadAttention(8, 2))  # its Linear's weight is read, never called


@pytest.mark.parametrize("training", [True, False])
def test_transformer_encoder(training):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    model, x = nn.TransformerEncoder(layer, 2).train(training), batch(3, 5, 8)
    out = model(x)
    inner = model.layers[1].linear2
    with NormTracker(model, ["", "layers.1.linear2"]) as tracker:
        seen = []
        inner.register_forward_hook(lambda module, args, output: seen.append(output))
        with torch.set_grad_enabled(training):
            model(x)  # the fused inference path must not skip the hooks
        tracker.step()
    reference = expected(0, "", row_norms(out.mean(1))) | expected(0, "layers.1.linear2", row_norms(seen[0].mean(1)))
    assert_same(measured(tracker), reference, rtol=1e-9)


def test_resnet18_feature_maps_and_inplace_relu():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=7)
    kept = {}
    names = ["layer1.0.bn1", "layer4", "avgpool", "fc"]  # an in-place ReLU follows bn1
    for name in names:
        module = model.get_submodule(name)
        module.register_forward_hook(lambda m, a, output, name=name: kept.update({name: output.detach().clone()}))
    with NormTracker(model, names) as tracker:
        model(batch(4, 3, 32, 32, dtype=torch.float32))
        tracker.step()
    reference = {}
    for name, output in kept.items():
        pooled = output.double().mean((2, 3)) if output.ndim == 4 else output
        reference |= expected(0, name, row_norms(pooled))
    assert_same(measured(tracker), reference, rtol=2e-6)


def test_shared_module_counts_under_each_name():
    shared = nn.Linear(6, 6).double()
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert NormTracker(model).layers == ("2",)
    with NormTracker(model, ["0", "2"]) as tracker:
        model(batch(4, 6))
        tracker.step()
    assert values(tracker, "count") == [8, 8]


# --- gradients ------------------------------------------------------------------------------------------------------


def pair_loss(z):
    return (z.sin() * torch.arange(1.0, z.shape[1] + 1, dtype=z.dtype, device=z.device)).sum(dim=1).mean()


def gradient_of_rows(model, images):
    """Norms of each row's own term's gradient, by autograd on the output."""
    z = model(images).detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(len(z) * pair_loss(z), z)
    return row_norms(gradient)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_are_those_of_each_rows_term(reduction):
    model, images, labels = mlp(), batch(6, 6), torch.tensor([0, 1, 2, 2, 1, 0])
    reference = expected(0, "2", row_norms(model(images)), labels)
    reference |= expected(0, "2", gradient_of_rows(model, images), labels, "grad_")
    with NormTracker(model, gradients=True, per_class=True, loss_reduction=reduction) as tracker:
        (pair_loss(model(images)) * (6 if reduction == "sum" else 1)).backward()
        tracker.step(labels)
    assert_same(measured(tracker), reference)


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), views=st.integers(1, 2), seed=st.integers(0, 99))
def test_gradients_of_accumulated_views_keep_their_rows(sizes, views, seed):
    model, rows, total = mlp(seed), [], sum(sizes) * views
    labels = [torch.arange(n) % 3 for n in sizes]
    with NormTracker(model, gradients=True, per_class=True) as tracker:
        for number, n in enumerate(sizes):
            images = [batch(n, 6, seed=10 * number + view) for view in range(views)]
            z = [model(x) for x in images]  # backward reaches the views last first
            (pair_loss(torch.cat(z)) * n * views / total).backward()
            rows += [gradient_of_rows(copy.deepcopy(model), x) for x in images]
        tracker.step(labels)
    truth = np.concatenate([part for part in labels for _ in range(views)])
    reference = expected(0, "2", np.concatenate(rows), truth, "grad_")
    assert_same({key: value for key, value in measured(tracker).items() if key[3].startswith("grad_")}, reference)


def test_rows_behind_a_stop_gradient_are_left_out():
    model, images = mlp(), [batch(2, 6), batch(3, 6, seed=1), batch(1, 6, seed=2)]
    labels = [torch.tensor([0, 1]), torch.tensor([1, 2, 3]), torch.tensor([4])]
    with NormTracker(model, gradients=True, per_class=True) as tracker:
        model(images[0]).detach()
        z = model(images[1])
        with torch.no_grad():
            model(images[2])
        pair_loss(z).backward()
        tracker.step(labels)
    ours = measured(tracker)
    assert ours[0, "2", -1, "count"] == 6
    reference = expected(0, "2", gradient_of_rows(model, images[1]), labels[1], "grad_")
    assert_same({key: value for key, value in ours.items() if key[3].startswith("grad_")}, reference)


def test_unused_rows_of_a_reached_forward_count_with_zero_and_in_the_factor():
    model, images = mlp(), batch(6, 6)
    with NormTracker(model, gradients=True) as tracker:
        pair_loss(model(images)[:4]).backward()
        tracker.step()
    of_used = gradient_of_rows(model, images[:4])
    reference = expected(0, "2", np.concatenate([6 / 4 * of_used, [0, 0]]), prefix="grad_")
    assert_same({key: value for key, value in measured(tracker).items() if key[3].startswith("grad_")}, reference)


def test_gradscale_module_has_the_unscaled_gradient_and_the_layer_before_it_the_scaled():
    model, images = nn.Sequential(mlp(), GradScale(1.0)), batch(6, 6)
    z = row_norms(model(images))
    gradients = gradient_of_rows(model, images)
    with NormTracker(model, ["0", "1"], gradients=True) as tracker:
        pair_loss(model(images)).backward()
        tracker.step()
    reference = expected(0, "1", gradients, prefix="grad_") | expected(0, "0", z * gradients, prefix="grad_")
    assert_same({key: value for key, value in measured(tracker).items() if key[3].startswith("grad_")}, reference)


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 3, 2, 5)])
def test_gradient_of_pooled_outputs_is_that_of_the_mean(shape):
    x = batch(*shape).requires_grad_()
    pool = (lambda t: t.mean(1)) if len(shape) == 3 else (lambda t: t.mean((2, 3)))
    pooled = pool(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(4 * pair_loss(pooled), pooled)
    with NormTracker(model := Probe(x), "inner", gradients=True) as tracker:
        pair_loss(pool(model(None))).backward()
        tracker.step()
    reference = expected(0, "inner", row_norms(pool(x))) | expected(0, "inner", row_norms(gradient), prefix="grad_")
    assert_same(measured(tracker), reference)


def test_gradient_before_an_inplace_operation():
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True)).double()
    x = batch(4, 6)
    z = model[0](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(4 * pair_loss(z.relu()), z)
    with NormTracker(model, "0", gradients=True) as tracker:
        pair_loss(model(x)).backward()
        tracker.step()
    reference = expected(0, "0", row_norms(z)) | expected(0, "0", row_norms(gradient), prefix="grad_")
    assert_same(measured(tracker), reference)


def test_missing_and_double_backwards_are_errors():
    model = mlp()
    with NormTracker(model, gradients=True) as tracker:
        loss = pair_loss(model(batch(4, 6)))
        with pytest.raises(RuntimeError, match=r"layer '2': no gradient arrived.*after loss.backward\(\)"):
            tracker.step()
        loss.backward()  # too late: belongs to no step
        loss = pair_loss(model(batch(4, 6)))
        loss.backward(retain_graph=True)
        loss.backward()
        with pytest.raises(RuntimeError, match="more than one backward"):
            tracker.step()
    assert tracker.to_frame().empty


def test_tracking_changes_no_gradient_and_no_output():
    model, x = mlp(), batch(4, 6)
    plain = copy.deepcopy(model)
    with NormTracker(model, ["0", "1", "2"], gradients=True) as tracker:
        loss = pair_loss(model(x))
        loss.backward()
        tracker.step()
    other = pair_loss(plain(x))
    other.backward()
    assert loss.equal(other)
    assert all(a.grad.equal(b.grad) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


# --- mixed precision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_outputs_are_measured_in_float32(dtype):
    model, x = mlp(dtype=torch.float32), 1e4 * batch(4, 6, dtype=torch.float32)  # squares overflow float16
    with NormTracker(model, gradients=True) as tracker, torch.autocast("cpu", dtype):
        z = model(x)
        z.float().pow(2).sum(1).sqrt().mean().backward()
        tracker.step()
    assert z.dtype == dtype
    ours = measured(tracker)
    reference = expected(0, "2", row_norms(z))
    assert_same({key: value for key, value in ours.items() if not key[3].startswith("grad_")}, reference, rtol=1e-6)
    assert ours[0, "2", -1, "grad_mean"] == pytest.approx(1, rel=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_model_with_pooling(dtype):
    x = (300 * batch(4, 16, 3, dtype=torch.float32)).to(dtype)
    with NormTracker(model := Probe(x), "inner") as tracker:
        model(None)
        tracker.step()
    assert_same(measured(tracker), expected(0, "inner", row_norms(x.double().mean(1))), rtol=1e-6)


def test_loss_scale_is_divided_out_at_the_scale_of_its_own_backward():
    model, x = mlp(dtype=torch.float32), batch(5, 6, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with NormTracker(model, gradients=True, grad_scaler=scaler) as tracker:
        for _ in range(3):
            scaler.scale(pair_loss(model(x))).backward()
            scaler.step(optimizer)
            scaler.update()  # doubles the scale
            tracker.step()
    assert scaler.get_scale() == 2.0**13
    assert values(tracker, "grad_mean") == pytest.approx([gradient_of_rows(model, x).mean()] * 3, rel=1e-6)


def test_grad_scaler_can_be_set_after_construction():
    model, x = mlp(), batch(5, 6)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    tracker = NormTracker(model, ["0", "2"], gradients=True)
    assert tracker.grad_scaler is None
    with pytest.raises(TypeError, match="grad_scaler must be a GradScaler, got float"):
        tracker.grad_scaler = 1024.0
    with tracker:
        for given in (scaler, None):
            tracker.grad_scaler = given
            assert tracker.grad_scaler is given
            loss = pair_loss(model(x))
            (loss if given is None else scaler.scale(loss)).backward()
            tracker.step()
    for layer in ("0", "2"):
        assert len(set(values(tracker, "grad_mean", layer=layer))) == 1
    assert values(tracker, "grad_mean", layer="2")[0] == pytest.approx(gradient_of_rows(model, x).mean(), rel=1e-12)


def test_overflown_gradients_are_recorded_as_they_are_or_refused():
    model, x = mlp(), batch(4, 6)
    for check in (False, True):
        with NormTracker(model, gradients=True, check_finite=check) as tracker:
            (pair_loss(model(x)) * torch.inf).backward()
            if check:
                with pytest.raises(ValueError, match="layer '2': a grad_norm is NaN or infinite in step 0"):
                    tracker.step()
            else:
                tracker.step()
                assert values(tracker, "grad_max") == [torch.inf]


def test_nan_rows_are_recorded_in_their_class_or_refused():
    model, x = mlp(), batch(4, 6)
    x[1] = torch.nan
    for check in (False, True):
        with NormTracker(model, per_class=True, check_finite=check) as tracker:
            model(x)
            if check:
                with pytest.raises(ValueError, match="layer '2': a norm is NaN or infinite"):
                    tracker.step(torch.tensor([0, 0, 1, 1]))
            else:
                tracker.step(torch.tensor([0, 0, 1, 1]))
                assert np.isnan([*values(tracker, "min"), *values(tracker, "q95", label=0)]).all()
                assert np.isfinite(values(tracker, "std", label=1)).all()


# --- checkpointing, compile, wrappers -------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, reentrant, calls=1):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 8).double()
        self.block = nn.Linear(8, 8).double()
        self.reentrant = reentrant
        self.calls = calls

    def segment(self, x):
        for _ in range(self.calls):
            x = self.block(x).tanh()
        return x

    def forward(self, x):
        x = self.first(x)
        return self.segment(x) if self.reentrant is None else checkpoint(self.segment, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_checkpointed_forwards_count_once_with_their_own_gradients(reentrant, calls, micro_batches):
    tables = []
    labels = [torch.tensor([0, 1, 2]).repeat(calls) + 3 * number for number in range(2 * micro_batches)]
    for mode in (None, reentrant):
        model = Checkpointed(mode, calls)
        with NormTracker(model, "block", gradients=True, per_class=True) as tracker:
            for step in range(2):
                for number in range(micro_batches):
                    views = [model(batch(3, 6, seed=10 * step + 2 * number + view)) for view in range(2)]
                    (pair_loss(views[0]) + 3 * pair_loss(views[1])).backward()
                tracker.step(labels)
        tables.append(measured(tracker))
    assert_same(tables[1], tables[0])
    assert tables[0][0, "block", -1, "grad_count"] == 6 * calls * micro_batches


class Calls(nn.Module):
    """Calls one layer as ``plan`` says: None plainly, True and False under that kind of checkpointing, lists within."""

    def __init__(self, plan):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 6).double()
        self.block = nn.Linear(6, 6).double()
        self.plan = plan

    def run(self, plan, x):
        for kind, *inner in plan:
            segment = (lambda x, inner=inner: self.run(inner, x)) if inner else (lambda x: self.block(x).tanh())
            x = segment(x) if kind is None else checkpoint(segment, x, use_reentrant=kind)
        return x

    def forward(self, x):
        return self.run(self.plan, self.first(x))


R, N, P = True, False, None
MIXED = [
    [[R], [N]],
    [[N], [R]],
    [[R], [R], [N], [N]],
    [[N], [R], [P], [N], [R]],
    [[R, [P], [N]], [R]],
    [[R], [N, [P], [R], [P]]],
    [[R, [P], [R], [P]], [N, [P], [N], [P]]],
]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("plan", MIXED)
@pytest.mark.parametrize("views", [1, 2])
def test_both_kinds_of_checkpointing_mix_on_one_layer(plan, views):
    tables = []
    for model in (Calls(plain(plan)), Calls(plan)):
        with NormTracker(model, "block", gradients=True, per_class=True) as tracker:
            for number in range(2):
                views_of = [model(batch(3, 6, seed=2 * number + view)) for view in range(views)]
                sum((1 + view) * pair_loss(z) for view, z in enumerate(views_of)).backward()
            calls = len(tracker._hooks[0].calls)
            tracker.step([torch.full((3,), call) for call in range(calls)])  # each forward is a class of its own
        tables.append(measured(tracker))
    assert_same(tables[1], tables[0])
    assert tables[0][0, "block", -1, "grad_count"] == 3 * calls


def plain(plan):
    return [[None, *plain(inner)] for _, *inner in plan]


def test_replayed_forwards_without_a_counted_original_are_ignored():
    model = Checkpointed(True)
    with NormTracker(model, "block", gradients=True) as tracker:
        with tracker.paused():
            loss = pair_loss(model(batch(3, 6)))
        loss.backward()
        pair_loss(model(batch(2, 6))).backward()
        tracker.step()
    assert values(tracker, "grad_count") == [2]


def test_compile_after_attaching_gives_the_eager_values():
    tables = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = mlp()
        with NormTracker(model, ["0", "2"], gradients=True, every=2) as tracker:
            run = torch.compile(model, backend="aot_eager") if compiled else model
            for step in range(5):
                pair_loss(run(batch(4, 6, seed=step))).backward()
                tracker.step()
        run(batch(4, 6))  # the compiled code still calls the removed hook
        assert not any(hook.calls for hook in tracker._hooks)
        tables.append(measured(tracker))
    assert_same(tables[1], tables[0])
    assert {key[0] for key in tables[1]} == {0, 2, 4}


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8).double()
        self.last = nn.Linear(8, 5).double()

    def forward(self, x):
        return self.last(self.first(x).relu()).sin()


def test_skipped_and_paused_steps_do_not_recompile():
    torch._dynamo.reset()
    model, counter = TwoLayers(), torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    graphs = []
    with NormTracker(model, ["first", "last"], every=2) as tracker:
        run = torch.compile(model, backend=counter)
        for step in range(4):
            with tracker.paused():
                run(batch(4, 6, seed=step))
            graphs.append(counter.frame_count)
            run(batch(4, 6, seed=step))
            graphs.append(counter.frame_count)
            tracker.step()
    assert graphs == graphs[:1] * 8
    assert values(tracker, "count", layer="last") == [4, 4]


@pytest.mark.parametrize(("layers", "graphs"), [([], 1), (["first"], 2), (["first", "last"], 4)])
def test_hooks_break_the_graph_only_there(layers, graphs):
    torch._dynamo.reset()
    model, counter = TwoLayers(), torch._dynamo.testing.CompileCounterWithBackend("eager")
    tracker = NormTracker(model, layers or None)
    if layers:
        tracker.attach()
    torch.compile(model, backend=counter)(batch(4, 6))
    assert 1 <= counter.frame_count <= graphs  # up to each hook, and behind it; older versions join some
    assert counter.op_count >= 4 - len(layers)  # linear, relu, linear, sin: only hooked layers fall back
    torch._dynamo.reset()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    if layers:
        with pytest.raises(torch._dynamo.exc.Unsupported):
            whole(batch(4, 6))
    else:
        whole(batch(4, 6))


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


@pytest.mark.parametrize(
    ("wrap", "reason"),
    [
        (lambda model: torch.compile(model, backend="eager"), "attach first, then torch.compile"),
        (compiled_in_place, "attach first, then torch.compile"),
        (lambda model: nn.Sequential(nn.Identity(), torch.compile(model, backend="eager")), "attach first"),
        (nn.DataParallel, "use DistributedDataParallel"),
    ],
)
def test_models_that_skip_hooks_are_refused_with_the_reason(wrap, reason):
    with pytest.raises(ValueError, match=reason):
        NormTracker(wrap(mlp()))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_scripted_models_are_refused():
    scripted = torch.jit.trace(mlp(), batch(2, 6))
    with pytest.raises(ValueError, match=r"TorchScript.*attach to the eager module"):
        NormTracker(scripted, "2")


def test_a_compiled_part_elsewhere_is_no_obstacle_and_later_compilation_is():
    model = nn.ModuleDict({"backbone": torch.compile(mlp(), backend="eager"), "projector": mlp()})
    tracker = NormTracker(model, "projector.2")
    model["projector"].compile(backend="eager")
    with pytest.raises(ValueError, match="model: 'projector' is compiled"):
        tracker.attach()


# --- the device is never waited for ---------------------------------------------------------------------------------


class NoSync(TorchDispatchMode):
    """Fails on what waits for a device: reading values, copies to the CPU, blocking copies from it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        on_device = any(isinstance(a, torch.Tensor) and a.device.type == "meta" for a in args)
        assert not (
            on_device and name in ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique")
        ), name
        target = kwargs.get("device")
        if name == "_to_copy" and target is not None and torch.device(target) != args[0].device:
            assert torch.device(target).type == "meta", "copy to the CPU"
            assert kwargs.get("non_blocking"), "blocking copy to the device"
        if name == "copy_" and args[0].device != args[1].device:
            assert args[0].device.type == "meta", "copy to the CPU"
            assert (len(args) > 2 and args[2]) or kwargs.get("non_blocking"), "blocking copy to the device"
        return func(*args, **kwargs)


@pytest.mark.parametrize("labels_on", ["cpu", "meta"])
def test_nothing_waits_for_the_device_until_read(labels_on):
    model = mlp().to("meta")
    x, labels = torch.empty(8, 6, dtype=torch.float64, device="meta"), torch.arange(4).to(labels_on)
    scaler = torch.amp.GradScaler("meta")
    options = {"gradients": True, "per_class": True, "num_classes": 4, "grad_scaler": scaler}
    with NormTracker(model, ["0", "2"], **options) as tracker, NoSync():
        for _ in range(FLUSH_STEPS + 1):
            scaler.scale(pair_loss(model(x))).backward()
            tracker.step(labels)
        tracker.state_dict()
    assert sum(len(block.steps) for block in tracker._statistics.blocks) == 4 * (FLUSH_STEPS + 1)
    with NoSync(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        scaler.get_scale()
    with NoSync(), pytest.raises(AssertionError, match="copy to the CPU"):
        torch.empty(3, device="meta").to("cpu")
    with NoSync(), pytest.raises(AssertionError, match="blocking copy"):
        torch.ones(3).to("meta")


def test_labels_on_a_device_need_the_number_of_classes():
    model = mlp().to("meta")
    with NormTracker(model, per_class=True) as tracker:
        model(torch.empty(4, 6, dtype=torch.float64, device="meta"))
        with pytest.raises(ValueError, match=r"labels are on meta.*num_classes="):
            tracker.step(torch.arange(4, device="meta"))


def test_labels_out_of_range_that_were_not_checked_are_reported_when_read(monkeypatch):
    def unchecked(labels, num_classes):  # as a GPU's labels are
        return [labels], num_classes

    monkeypatch.setattr("normlib.tracking.tracker.check_labels", unchecked)
    model, x = mlp(), batch(4, 6)
    with NormTracker(model, per_class=True, num_classes=2) as tracker:
        for labels in ([0, 1, 1, 0], [0, 5, 1, -1]):
            model(x)
            tracker.step(torch.tensor(labels))
    with pytest.raises(ValueError, match=r"1 measurements, the first at step 1, had labels outside 0\.\.1"):
        tracker.to_frame()
    norms = row_norms(model(x))
    reference = expected(0, "2", norms, [0, 1, 1, 0]) | expected(1, "2", norms[[0, 2]], [0, 1])
    reference |= expected(1, "2", norms)
    assert_same(measured(tracker, drop_invalid=True), reference)


# --- checkpoints, plots, ranks --------------------------------------------------------------------------------------


def test_resumed_tracking_equals_uninterrupted(tmp_path):
    def track(tracker, model, steps):
        with tracker:
            for step in steps:
                model(batch(4, 6, seed=step))
                tracker.step(torch.tensor([0, 1, step, step]))

    model = mlp()
    whole, first, second = (NormTracker(model, per_class=True, every=2) for _ in range(3))
    track(whole, model, range(9))
    track(first, model, range(5))
    torch.save({"tracker": first.state_dict()}, tmp_path / "checkpoint.pt")
    second.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["tracker"])
    track(second, model, range(5, 9))
    assert second.to_frame().equals(whole.to_frame())


def test_state_loaded_onto_another_device_keeps_its_bookkeeping_on_the_cpu():
    model = mlp()
    with NormTracker(model) as tracker:
        model(batch(4, 6))
        tracker.step()
    state = tracker.state_dict()
    with FakeTensorMode(allow_non_fake_inputs=True):
        moved = tree_map_only(torch.Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"), state)
        tracker.load_state_dict(moved)  # as after torch.load(map_location="cuda")
    (block,) = tracker._statistics.blocks
    assert [t.device.type for t in block] == ["cpu", "cpu", "cpu", "cuda"]


def test_incomplete_state_is_refused_and_changes_nothing():
    tracker = NormTracker(mlp())
    with pytest.raises(ValueError, match=r"state lacks \['blocks', 'num_classes', 'quantiles', 'series', 'step'\]"):
        tracker.load_state_dict({})
    state = tracker.state_dict() | {"num_classes": 9}
    del state["step"]
    with pytest.raises(ValueError, match=r"state lacks \['step'\]"):
        tracker.load_state_dict(state)
    assert tracker.state_dict()["num_classes"] == 0


@pytest.mark.parametrize(("options", "message"), [({"layers": "0"}, "series"), ({"quantiles": []}, "quantiles")])
def test_state_of_another_tracker_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NormTracker(mlp(), **options).load_state_dict(NormTracker(mlp()).state_dict())


def test_plot_draws_the_frames_numbers():
    model = mlp()
    with NormTracker(model, ["0", "2"], per_class=True, gradients=True) as tracker:
        for step in range(4):
            pair_loss(model(batch(4, 6, seed=step))).backward()
            tracker.step(torch.tensor([0, 1, 1, 0]))
    ax = tracker.plot("grad_mean")
    assert [line.get_label() for line in ax.lines] == ["0", "2"]
    assert ax.lines[1].get_ydata().tolist() == values(tracker, "grad_mean", layer="2")
    band = ax.collections[1].get_paths()[0].vertices
    assert band[:, 1].max() == max(values(tracker, "grad_q95", layer="2"))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("optimiser step", "grad_mean of gradient norm ‖∂ℒ/∂z‖")
    by_class = tracker.plot("max", layers=["2"], per_class=True)
    assert [line.get_label() for line in by_class.lines] == ["2, class 0", "2, class 1"]
    assert by_class.lines[1].get_ydata().tolist() == values(tracker, "max", layer="2", label=1)
    assert tracker.plot(ax=ax) is ax
    with pytest.raises(ValueError, match=r"no 'median'.*statistics are \['count', 'mean'"):
        tracker.plot("median")
    with pytest.raises(ValueError, match=r"layers \['0', '2'\]"):
        tracker.plot(layers=["0", "1"])


RANK = """
import sys, torch
import torch.distributed as dist
from torch import nn
from normlib.tracking import NormTracker

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Linear(4, 3).double())
draw = torch.Generator().manual_seed(1 + rank)
rows = []
tracker = NormTracker(model, "module", per_class=True, gradients=True).attach()

def run(steps):
    for step in steps:
        n = 3 + 2 * rank
        x = torch.randn(n, 4, generator=draw, dtype=torch.float64)
        labels = torch.randint(2 + 3 * rank, (n,), generator=draw)
        z = model(x)
        z.retain_grad()
        z.pow(3).sum(1).mean().backward()
        tracker.step(labels)
        rows.append((step, z.detach().norm(dim=1), n * z.grad.norm(dim=1), labels))

run(range(3))
assert tracker.reduce() is tracker
once = tracker.to_frame()
assert tracker.reduce().to_frame().equals(once)
run(range(3, 5))
frame = tracker.reduce().to_frame()
assert frame[frame["step"] < 3].equals(once)
torch.save(rows, f"{folder}/rows{rank}.pt")
frame.to_pickle(f"{folder}/frame{rank}.pkl")
tracker.detach()
other = NormTracker(nn.Linear(4, 3).double(), "")
with other:
    for _ in range(1 + rank):
        other._model(torch.ones(2, 4, dtype=torch.float64))
        other.step()
try:
    other.reduce()
except ValueError as error:
    assert "measurements by rank: {0: 1, 1: 2}" in str(error), error
else:
    raise AssertionError("unequal steps were merged")
dist.destroy_process_group()
"""


def test_reduce_merges_the_ranks_exactly(tmp_path):
    pandas = pytest.importorskip("pandas")
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    command = [sys.executable, str(script)]
    root = Path(__file__).parents[3]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=root, stderr=subprocess.PIPE) for rank in (0, 1)
    ]
    errors = [rank.communicate(timeout=600)[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    frames = [pandas.read_pickle(tmp_path / f"frame{rank}.pkl") for rank in (0, 1)]
    assert frames[0].equals(frames[1])
    rows = [torch.load(tmp_path / f"rows{rank}.pt") for rank in (0, 1)]
    reference = {}
    for parts in zip(*rows, strict=True):
        norms, gradients, labels = (torch.cat([part[i] for part in parts]).numpy() for i in (1, 2, 3))
        step = parts[0][0]
        reference |= expected(step, "module", norms, labels, levels={})
        reference |= expected(step, "module", gradients, labels, "grad_", levels={})
    keys = frames[0][["step", "layer", "class", "statistic"]].itertuples(index=False, name=None)
    assert_same(dict(zip(keys, frames[0]["value"], strict=True)), reference)
