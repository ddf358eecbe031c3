"""What all checks share: call the student's function with care, compare its answer, and name the mistake in it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from normlib._utils.arguments import check_number, check_type
from normlib._utils.tensors import float64_of

NOT_ANSWERED = "not answered yet: replace the ... by your own code"


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether an answer is right, and one sentence that says why; shown as that sentence, true when right.

    >>> Verdict(False, "the norm is squared")
    ✗ the norm is squared
    >>> bool(_)
    False
    """

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.message}"


def outcome(answer: Callable, *arguments: Any) -> Any:
    """What a student's function returns, or the verdict that says why nothing came back.

    Tensors, arrays and lists are passed as copies. A function that changes them in place, raises, or returns None is
    told so.

    >>> outcome(lambda z: z.nrm(), torch.ones(2, 3))
    ✗ your function raised AttributeError: 'Tensor' object has no attribute 'nrm' (called with shape (2, 3))
    """
    if answer is ... or answer is None:
        return Verdict(False, NOT_ANSWERED)
    if not callable(answer):
        return Verdict(False, f"expected a function, got {type(answer).__name__}")
    copies = [_copied(argument) for argument in arguments]
    given = ", ".join(f"shape {tuple(a.shape)}" if isinstance(a, Tensor) else repr(a) for a in arguments)
    try:
        found = answer(*copies)
    except Exception as error:  # whatever a student's code raises is an answer to be judged
        return Verdict(False, f"your function raised {type(error).__name__}: {error} (called with {given})")
    if not all(map(_unchanged, arguments, copies)):
        return Verdict(False, "your function changed its argument in place: the caller still needs it")
    if found is ...:
        return Verdict(False, NOT_ANSWERED)
    if found is None:
        return Verdict(False, "your function returned None: is the ... still there, or the return missing?")
    return found


def judge(
    found: Any,
    right: Any,
    mistakes: Mapping[str, Any] | None = None,
    *,
    praise: str = "right",
    rtol: float = 1e-6,
    unknown: str = "",
) -> Verdict:
    """Compare an answer with the right one, and with the values that known mistakes lead to.

    Args:
        found: The answer: number, array, tensor or list; a ``Verdict``, as ``outcome`` may return, is handed on.
        right: The right answer, a number or tensor.
        mistakes: What to tell the student, and the value that this mistake leads to.
        praise: What to say when it is right.
        rtol: Largest error, relative to the largest entry of its row.
        unknown: What to say of a mistake that is not listed. Default: by which factor it is off, or in which row.

    Returns:
        The verdict.

    Raises:
        TypeError: ``right`` is no number or tensor, or ``mistakes`` no mapping.
        ValueError: ``right`` is not finite, or ``rtol`` negative or no number. A bad answer is a verdict, no error.

    >>> judge(2.0, 4.0, {"the square is missing": 2.0})
    ✗ the square is missing
    >>> judge(torch.tensor([2.0, 6.0]), torch.tensor([-1.0, -3.0]))
    ✗ off by the factor -2 everywhere
    """
    if isinstance(found, Verdict):
        return found
    check_number("rtol", rtol, at_least=0)
    right, mistakes = float64_of("right", right), {} if mistakes is None else mistakes
    check_type(Mapping, mistakes=mistakes)
    answer = _as_tensor(found, right)
    if isinstance(answer, Verdict):
        return answer
    if _close(answer, right, rtol):
        return Verdict(True, praise)
    for message, value in mistakes.items():
        value = torch.as_tensor(value, dtype=torch.float64)
        if _close(answer, value.expand_as(right) if value.ndim == 0 else value, rtol):
            return Verdict(False, message)
    return Verdict(False, unknown or _what_differs(answer, right, rtol))


def first_wrong(verdicts: Iterable[Verdict]) -> Verdict:
    """The first verdict that is not right, else the last; verdicts after a wrong one are not computed.

    >>> first_wrong(Verdict(n < 2, f"{n}") for n in range(4))
    ✗ 2
    """
    verdict = Verdict(False, "nothing was checked")
    for verdict in verdicts:
        if not verdict:
            break
    return verdict


def rows(count: int, dim: int, seed: int) -> Tensor:
    """Random rows in float64 whose norms spread over an order of magnitude, shape ``(count, dim)``.

    >>> rows(3, 2, seed=0).shape
    torch.Size([3, 2])
    """
    like: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    directions = torch.nn.functional.normalize(torch.randn(count, dim, **like), dim=1)
    return directions * torch.exp(0.5 * torch.randn(count, 1, **like))


def _copied(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.clone()
    return argument.copy() if isinstance(argument, np.ndarray | list) else argument


def _unchanged(argument: Any, copy: Any) -> bool:
    if isinstance(argument, Tensor):
        return torch.equal(argument, copy)
    if isinstance(argument, np.ndarray):
        return np.array_equal(argument, copy)
    if isinstance(argument, list):  # by identity: NaN does not equal itself
        return len(argument) == len(copy) and all(map(operator.is_, argument, copy))
    return True


def _as_tensor(found: Any, right: Tensor) -> Tensor | Verdict:
    if found is ...:
        return Verdict(False, NOT_ANSWERED)
    try:
        answer = torch.as_tensor(found).detach().to_dense()
        if answer.is_complex():
            raise TypeError
        answer = answer.to("cpu", torch.float64)
    except Exception:  # an object of any class may be an answer
        return Verdict(False, f"expected {_kind(right)}, got {type(found).__name__}")
    if answer.shape != right.shape:
        return Verdict(False, f"expected {_kind(right)}, got {_kind(answer)}: over which dimension do you sum?")
    if not answer.isfinite().all():
        return Verdict(False, "there is NaN or infinity in it: where do you divide by zero?")
    return answer


def _kind(value: Tensor) -> str:
    return "a number" if value.ndim == 0 else f"shape {tuple(value.shape)}"


def _close(found: Tensor, right: Tensor, rtol: float) -> bool:
    if found.shape != right.shape:
        return False
    scale = right.abs().amax(dim=-1, keepdim=True) if right.ndim else right.abs()
    return bool(((found - right).abs() <= rtol * scale + 1e-12).all())


def _what_differs(found: Tensor, right: Tensor, rtol: float) -> str:
    factor = (found * right).sum() / (right * right).sum()
    if right.numel() > 1 and factor != 0 and _close(found, factor * right, rtol):
        return f"off by the factor {factor:.4g} everywhere"
    error = (found - right).abs()
    if right.numel() == 1:
        return f"not right, and no mistake that we know: got {found.item():.6g}"
    rows = error.amax(dim=-1) if error.ndim > 1 else error
    worst = [int(place) for place in torch.unravel_index(rows.argmax(), rows.shape)]
    return f"not right, and no mistake that we know: first look at row {worst[0] if len(worst) == 1 else worst}"
