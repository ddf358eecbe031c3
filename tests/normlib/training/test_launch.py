"""The precision that a run calculates in, by what the device has in hardware."""

import warnings

import pytest
import torch

from normlib.training.launch import precision_on


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx2": True, "avx512_f": True}, "32-true"),  # torch runs bfloat16 there too, several times slower
        ({}, "32-true"),
    ],
)
def test_auto_asks_the_processor(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert precision_on("cpu", "auto") == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "16-mixed"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")]
)
def test_auto_asks_the_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: capability)
    assert precision_on("cuda", "auto") == expected


def test_a_precision_by_name_stays_and_a_slow_one_is_told(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.warns(UserWarning, match="imitates bfloat16.*precision='auto' chooses what is fast"):
        assert precision_on("cpu", "bf16-mixed") == "bf16-mixed"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision_on("cpu", "32-true") == "32-true"
