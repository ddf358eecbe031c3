"""The ledger: reads the claims, computes their verdicts, and compares them with what the book states."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normcourse.claims import evidence
from normcourse.claims.evidence import (
    CONTRADICTED,
    INCONCLUSIVE,
    MISSING,
    NO_EFFECT,
    REPRODUCED,
    Effect,
    Part,
    RecordedTables,
)
from normcourse.paths import BOOK, RESULTS
from normlib._utils.arguments import check_type, listed, path_of
from normlib._utils.files import UNREADABLE, read_json, replace_file

LEDGER = BOOK / "claims.yml"
STATED = BOOK / "verdicts.json"

SOURCES = ("paper", "predecessor", "course")  # who makes a claim
PARTLY, NOT_TRIED = "partly", "not tried"
VERDICTS = (REPRODUCED, PARTLY, CONTRADICTED, NO_EFFECT, INCONCLUSIVE, NOT_TRIED)


@dataclass(frozen=True)
class Claim:
    """One claim, and the recorded numbers that decide about it.

    Args:
        id: Short name, unique, for links and commands.
        group: Heading under which it stands.
        statement: The claim, one sentence or two.
        source: Who makes it: ``"paper"`` (Draganov et al. 2025), ``"predecessor"`` (Draganov et al. 2024), or
            ``"course"``.
        chapter: Name of the chapter that shows it, without number, as in ``normcourse.paths.notebook("norm-growth")``;
            empty if none does.
        cell: Id of the cell that shows it; empty for the whole chapter.
        parts: What would have to hold, each about a recorded number. Empty for a claim that was not tried.
        control: Positive controls, on the same images: scores that are known to work. Where one of them does not, in
            these networks, the claim cannot be tested, and is inconclusive.
        accuracy: The accuracy of the networks behind the claim, a number that only describes.
        holm: Whether the parts are comparisons that are looked at together, with intervals as Holm's procedure asks.
        needs: What it would take to try it, or to try it fully.
        note: What a reader should know about the verdict.
    """

    id: str
    group: str
    statement: str
    source: str
    chapter: str = ""
    cell: str = ""
    parts: tuple[Part, ...] = ()
    control: tuple[Part, ...] = ()
    accuracy: tuple[Part, ...] = ()
    holm: bool = False
    needs: str = ""
    note: str = ""

    @property
    def records(self) -> tuple[str, ...]:
        """Names of the recorded experiments that it rests on."""
        return tuple(dict.fromkeys(part.record for part in (*self.parts, *self.control, *self.accuracy)))


@dataclass(frozen=True)
class Verdict:
    """A claim and what its parts came to.

    Args:
        claim: The claim.
        effects: One for each of its parts.
        controls: One for each of its positive controls.
        accuracies: One for each of its accuracies.
    """

    claim: Claim
    effects: tuple[Effect, ...] = field(default=())
    controls: tuple[Effect, ...] = field(default=())
    accuracies: tuple[Effect, ...] = field(default=())

    @property
    def word(self) -> str:
        """The first that applies.

        ``"not tried"`` if there is no recorded number for any part; ``"inconclusive"`` if a positive control does not
        pass; ``"reproduced"`` if every part is, ``"partly"`` if some are; ``"contradicted"`` if a part is; ``"no
        effect"`` if there is none in any part; else ``"inconclusive"``.
        """
        outcomes = [effect.outcome for effect in self.effects]
        if all(outcome == MISSING for outcome in outcomes):
            return NOT_TRIED
        if any(control.outcome != REPRODUCED for control in self.controls):
            return INCONCLUSIVE
        if REPRODUCED in outcomes:
            return REPRODUCED if set(outcomes) == {REPRODUCED} else PARTLY
        if CONTRADICTED in outcomes:
            return CONTRADICTED
        return NO_EFFECT if set(outcomes) == {NO_EFFECT} else INCONCLUSIVE


def ledger(path: Path = LEDGER) -> tuple[Claim, ...]:
    """All claims, in the order of the file.

    Args:
        path: A file like ``book/claims.yml``.

    Raises:
        TypeError: ``path`` is no path.
        FileNotFoundError: It is not there.
        ValueError: It is not YAML, an entry has an unknown or a missing key, a value that it cannot have, or the id of
            another.

    >>> ledger()[0].source
    'paper'
    """
    import yaml

    path = path_of("path", path)
    try:
        groups = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, *UNREADABLE) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    lists = isinstance(groups, dict) and all(isinstance(entries, list) for entries in groups.values())
    if not lists or not all(isinstance(group, str) for group in groups):
        raise ValueError(f"{path} must hold lists of claims under headings")
    claims = [_claim(path, group, entry) for group, entries in groups.items() for entry in entries]
    ids = [claim.id for claim in claims]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise ValueError(f"{path} uses an id twice: {', '.join(twice)}")
    return tuple(claims)


def judge(claim: Claim, *, results: Path = RESULTS) -> Verdict:
    """Compute a claim's verdict from recorded numbers.

    Args:
        claim: An entry of :func:`ledger`.
        results: Folder of the recorded experiments.

    Raises:
        TypeError: ``claim`` is none, or ``results`` no path.
        FileNotFoundError: There is no folder ``results``.
        ValueError: A record lacks a table, a column or the rows that the claim asks for, or cannot be read.

    >>> judge(ledger()[0]).word
    'reproduced'
    """
    check_type(Claim, claim=claim)
    return _judge(claim, _tables(results))


def _tables(results: Path) -> RecordedTables:
    folder = path_of("results", results)
    if not folder.is_dir():
        raise FileNotFoundError(f"results must be a folder of recorded experiments, and there is none at {folder}")
    return RecordedTables(folder)


def _judge(claim: Claim, tables: RecordedTables) -> Verdict:
    with _named(claim):
        measured = [[evidence.measure(part, tables) for part in parts] for parts in (claim.control, claim.accuracy)]
        effects = [evidence.measure(part, tables) for part in claim.parts]
        if claim.holm:
            effects = evidence.measure_family(claim.parts, tables)
        return Verdict(claim, tuple(effects), *map(tuple, measured))


@contextmanager
def _named(claim: Claim) -> Iterator[None]:
    """Name the claim that asks of a record what it does not hold: a number in a column of words, say."""
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"claim {claim.id!r}: {error}") from None


def judge_all(*, path: Path = LEDGER, results: Path = RESULTS) -> list[Verdict]:
    """The verdicts of all claims, computed.

    Args:
        path: The ledger's file.
        results: Folder of the recorded experiments.

    Raises:
        FileNotFoundError: As :func:`ledger`.
        ValueError: As :func:`ledger` and :func:`judge`.
    """
    tables = _tables(results)
    return [_judge(claim, tables) for claim in ledger(path)]


def stated(path: Path = STATED) -> dict[str, dict[str, Any]]:
    """The verdicts and numbers that the book states, by claim.

    Args:
        path: A file that :func:`accept` wrote.

    Raises:
        TypeError: ``path`` is no path.
        FileNotFoundError: It is not there.
        ValueError: It is not such a file.
    """
    path = path_of("path", path)
    try:
        found = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}; write it anew: normcourse claims --accept") from None
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ValueError(
            f"{path} must hold an object with an entry for each claim; write it: normcourse claims --accept"
        )
    return found


def accept(verdicts: list[Verdict], path: Path = STATED) -> None:
    """Let the book state these verdicts; the file is replaced whole or not at all.

    Args:
        verdicts: What :func:`judge_all` returned.
        path: The file to write.

    Raises:
        TypeError: ``verdicts`` holds what is none, or ``path`` is no path.
    """
    _check_verdicts(verdicts)
    path = path_of("path", path)
    text = json.dumps({one.claim.id: as_stated(one) for one in verdicts}, indent=1, ensure_ascii=False)
    replace_file(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def differences(verdicts: list[Verdict], stated: dict[str, dict[str, Any]]) -> Iterator[str]:
    """One line for each claim whose computed verdict or numbers differ from what the book states.

    Args:
        verdicts: What :func:`judge_all` returned.
        stated: What :func:`stated` returned.

    Raises:
        TypeError: ``verdicts`` holds what is none, or ``stated`` is no mapping.
    """
    _check_verdicts(verdicts)
    check_type(dict, stated=stated)
    for one in verdicts:
        now, before = as_stated(one), stated.get(one.claim.id, {})
        if before.get("verdict") != now["verdict"]:
            yield f"{one.claim.id}: {now['verdict']}, and the book states {before.get('verdict', 'nothing')}"
        elif before != now:
            yield f"{one.claim.id}: as stated, but from {now['effects']} instead of {before.get('effects')}"
    for gone in sorted(stated.keys() - {one.claim.id for one in verdicts}):
        yield f"{gone}: the book states {stated[gone].get('verdict')} for a claim that is not in the ledger"


def jobs(claim: Claim, *, results: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """The recorded runs that a claim rests on, by experiment: what tells each from the others.

    Args:
        claim: An entry of :func:`ledger`.
        results: Folder of the recorded experiments.

    Raises:
        TypeError: ``claim`` is none, or ``results`` no path.
        FileNotFoundError: There is no folder ``results``.

    >>> list(jobs(ledger()[0]))
    ['theory-verification']
    """
    check_type(Claim, claim=claim)
    tables = _tables(results)
    found: dict[str, list[dict[str, Any]]] = {}
    with _named(claim):
        for part in claim.parts:
            for where in (part.where, part.where | (part.minus or {})):
                mine = found.setdefault(part.record, [])
                mine += [job for job in evidence.jobs(part, where, tables) if job not in mine]
    return {record: mine for record, mine in found.items() if mine}


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A claim, its verdict and its numbers as plain values, infinite and missing ones as None.

    Args:
        verdict: One of :func:`judge_all`.

    Raises:
        TypeError: ``verdict`` is none.
    """
    check_type(Verdict, verdict=verdict)
    claim = {name: value for name, value in vars(verdict.claim).items() if name not in _MEASURED}
    numbers = {name: [_effect_as_json(one) for one in effects] for name, effects in _measured(verdict).items()}
    return claim | {"verdict": verdict.word} | numbers


def _effect_as_json(effect: Effect) -> dict[str, Any]:
    return {
        "says": effect.part.says,
        "record": effect.part.record,
        **{name: value if math.isfinite(value) else None for name, value in effect.numbers().items()},
        "repetitions": effect.repetitions,
        "expect": {name: value for name, value in effect.part.expect.items() if math.isfinite(value)},
        "outcome": effect.outcome,
    }


_MEASURED = ("parts", "control", "accuracy")


def _measured(verdict: Verdict) -> dict[str, tuple[Effect, ...]]:
    named = {"effects": verdict.effects, "controls": verdict.controls, "accuracies": verdict.accuracies}
    return {name: effects for name, effects in named.items() if effects or name == "effects"}


def as_stated(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values: the word, and each number with its interval and outcome."""
    numbers = {name: [effect.as_words() for effect in effects] for name, effects in _measured(verdict).items()}
    return {"verdict": verdict.word} | numbers


def _check_verdicts(verdicts: list[Verdict]) -> None:
    check_type(Verdict, **{f"verdicts[{i}]": one for i, one in enumerate(listed("verdicts", verdicts))})


def _claim(path: Path, group: str, entry: Any) -> Claim:
    where = f"{path}, {group!r}"
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise ValueError(f"{where} has an entry without an id: {entry!r}")
    where = f"{path}, claim {entry['id']!r}"
    known = set(Claim.__dataclass_fields__) - {"group"}
    if unknown := sorted(map(str, set(entry) - known)):
        raise ValueError(f"{where} has unknown keys {unknown}; known are {sorted(known)}")
    if missing := sorted({"statement", "source"} - set(entry)):
        raise ValueError(f"{where} lacks {missing}")
    for name, value in entry.items():
        if not isinstance(value, list if name in _MEASURED else bool if name == "holm" else str):
            raise ValueError(f"{where}: {name} cannot be {value!r}")
    if entry["source"] not in SOURCES:
        raise ValueError(f"{where} must name a source among {', '.join(SOURCES)}, got {entry['source']!r}")
    parts = tuple(evidence.part(where, one) for one in entry.get("parts", []))
    control = tuple(evidence.part(f"{where}, control", one) for one in entry.get("control", []))
    accuracy = tuple(evidence.part(f"{where}, accuracy", one, expects=False) for one in entry.get("accuracy", []))
    if not parts and not entry.get("needs"):
        raise ValueError(f"{where} has neither parts nor what it needs to be tried")
    made = {"group": group, "parts": parts, "control": control, "accuracy": accuracy}
    return Claim(**(entry | made))
