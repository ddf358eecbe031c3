"""The course of the learning rate: a linear warm-up, then a cosine to zero."""

import math


def learning_rate(step: int, *, peak: float, warmup_steps: float, total_steps: int) -> float:
    """Learning rate of a step: a linear warm-up, then half a cosine down to 0.

    Args:
        step: Steps finished before this one, in ``0 .. total_steps``.
        peak: Largest learning rate.
        warmup_steps: Length of the warm-up in steps, ≥ 0 and below ``total_steps``; it may be a fraction.
        total_steps: Length of the run in steps.

    Returns:
        The learning rate; 0 after the last step.

    Raises:
        ValueError: ``step`` or ``warmup_steps`` is outside its range.

    Source: Loshchilov & Hutter 2017 (SGDR), equation (5), without restarts; Goyal et al. 2017, Sec. 2.2, for the
    warm-up.

    >>> [learning_rate(step, peak=1.0, warmup_steps=2, total_steps=6) for step in (0, 1, 2, 4, 6)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps must be in [0, total_steps = {total_steps}), got {warmup_steps!r}")
    if not 0 <= step <= total_steps:
        raise ValueError(f"step must be in 0..total_steps = {total_steps}, got {step!r}")
    if step < warmup_steps:
        return peak * min(1.0, (step + 1) / warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))
