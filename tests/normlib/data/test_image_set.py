import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlib import data


def image_set(count=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return data.ImageSet(
        torch.randint(0, 256, (count, 3, 4, 5), generator=generator, dtype=torch.uint8),
        torch.arange(count) % classes,
        torch.arange(count) * 10,
        tuple("abcdefgh"[:classes]),
        "test",
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), max_size=8))
def test_subset_by_positions_takes_rows_in_the_order_asked_for(positions):
    whole = image_set()
    part = whole.subset(torch.tensor(positions, dtype=torch.int32))
    assert len(part) == len(positions)
    for row, position in enumerate(positions):
        assert torch.equal(part.images[row], whole.images[position])
        assert part.labels[row] == whole.labels[position]
        assert part.indices[row] == 10 * position
    assert (part.classes, part.name) == (whole.classes, whole.name)


def test_subset_by_mask_equals_subset_by_positions_and_indices_survive_a_chain():
    whole = image_set()
    by_mask = whole.subset(whole.labels == 1)
    assert by_mask.fingerprint() == whole.subset(torch.tensor([1, 4])).fingerprint()
    assert by_mask.subset(torch.tensor([1])).indices.tolist() == [40]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, 1], TypeError, "index must be a tensor of bool .* got list"),
        (torch.tensor([0.0]), TypeError, "torch.float32"),
        (torch.tensor([[0]]), ValueError, r"index must have shape \(1,\), got \(1, 1\)"),
        (torch.tensor([True]), ValueError, r"index must have shape \(6,\), got \(1,\)"),
        (torch.tensor([0, 6]), ValueError, r"index must be in 0\.\.5, got 0\.\.6"),
        (torch.tensor([-1]), ValueError, r"index must be in 0\.\.5, got -1\.\.-1"),
    ],
)
def test_subset_refuses(index, error, message):
    with pytest.raises(error, match=message):
        image_set().subset(index)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": torch.zeros(6, 3, 4, 5)}, TypeError, "images must be a tensor of torch.uint8, got torch.float32"),
        ({"labels": np.zeros(6, int)}, TypeError, "labels must be a tensor of torch.int64, got ndarray"),
        ({"images": torch.zeros(6, 4, 5, dtype=torch.uint8)}, ValueError, r"images must have shape \(N, C, H, W\)"),
        ({"indices": torch.arange(5)}, ValueError, r"indices must have shape \(6,\).* got \(5,\)"),
        ({"labels": torch.full((6,), 3)}, ValueError, r"labels must be in 0\.\.2, got 3\.\.3"),
        ({"labels": torch.full((6,), -1)}, ValueError, r"labels must be in 0\.\.2, got -1\.\.-1"),
    ],
)
def test_image_set_refuses(change, error, message):
    with pytest.raises(error, match=message):
        data.ImageSet(**(vars(image_set()) | change))


def test_fingerprint_sees_every_pixel_label_and_the_shape_but_not_the_memory_layout():
    original = image_set()
    same = vars(image_set()) | {"images": original.images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)}
    assert data.ImageSet(**same).fingerprint() == original.fingerprint()

    one_pixel = original.images.clone()
    one_pixel[5, 2, 3, 4] ^= 1
    one_label = original.labels.clone()
    one_label[0] = 2
    changes = [{"images": one_pixel}, {"labels": one_label}, {"images": original.images.reshape(6, 3, 5, 4)}]
    prints = {data.ImageSet(**(vars(original) | change)).fingerprint() for change in changes}
    assert len(prints | {original.fingerprint()}) == 4


def test_fingerprint_is_the_sha256_it_says():
    one = image_set()
    expected = hashlib.sha256(b"(6, 3, 4, 5)" + one.images.numpy().tobytes() + one.labels.numpy().tobytes())
    assert one.fingerprint() == "sha256:" + expected.hexdigest()
