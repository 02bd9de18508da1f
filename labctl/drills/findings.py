"""What a checker may look at, and what it may find. A verdict needs evidence: every finding says what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from labctl.drills.contract import Bound
from labctl.drills.history import History
from labctl.drills.measures import Measures
from labctl.drills.records import Scene


class Result(StrEnum):
    """How an invariant fared."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not-applicable"


class Finding(msgspec.Struct, frozen=True):
    """One invariant's result and what it rests on."""

    title: str
    result: Result
    evidence: str


@dataclass(frozen=True, slots=True)
class Case:
    """All that a checker may look at."""

    history: History
    scene: Scene
    measures: Measures
    bounds: Mapping[str, Bound]  # by measure


Said = tuple[Result, str]


Checker = Callable[[Case], Said]


def some(items: list[str], most: int = 3) -> str:
    """The first of them, and how many more there are."""
    more = f"; and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more
