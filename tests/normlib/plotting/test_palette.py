import numpy as np

from normlib import plotting


def test_palette_can_be_told_apart_in_common_colour_blindness():
    """Simulated after Machado et al. 2009, severity 1: all colours stay 0.15 apart in the unit cube of sRGB."""
    simulations = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    }
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in plotting.PALETTE.values()])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for matrix in simulations.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.4)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(seen)) * 9
        assert distance.min() > 0.15
