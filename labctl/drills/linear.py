"""Whether the sequenced records read as one list that grew in real time: linearizability, decided exactly. Pure.

Every write is a compare-and-swap that names the record it follows, so the order in which the writes took effect is no
guess: it is a chain. What is left to check is that the chain does not fork, and that no operation shows an older state
than one which had ended before it began. That is linear in the number of operations times its logarithm; for lists
without such names the question is NP-complete (Gibbons and Korach, "Testing shared memories", 1997).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Write:
    """An append after `after`; `ended_s`: when it was answered, infinite where it never was."""

    key: str
    after: str
    began_s: float
    ended_s: float = _NEVER
    acknowledged: bool = True
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """What one read found: the newest record and how many there were."""

    last: str
    count: int
    began_s: float
    ended_s: float


def violations(writes: Sequence[Write], reads: Sequence[Read]) -> list[str]:
    """Every way in which these cannot be the operations of one list, a sentence each; empty where they can."""
    by_key = {write.key: write for write in writes}
    seen = {write.key for write in writes if write.acknowledged} | {read.last for read in reads if read.last}
    found = [f"{key} was read, and nobody wrote it" for key in sorted(seen - set(by_key))]
    applied = _applied(by_key, seen & set(by_key))
    found += [f"{key} was refused, and yet it is there" for key in sorted(applied) if by_key[key].refused]
    places, forks = _places(applied)
    found += [
        f"{key} follows {write.after}, which was never there" for key, write in applied.items() if key not in places
    ]
    return found + forks + _counts(reads, places) + _disorder(applied, reads, places)


def _applied(by_key: Mapping[str, Write], seen: set[str]) -> dict[str, Write]:
    """Every write that must have taken effect: those seen, and whatever they followed."""
    applied: dict[str, Write] = {}
    for start in sorted(seen):
        key = start
        while key in by_key and key not in applied:
            applied[key] = by_key[key]
            key = by_key[key].after
    return applied


def _places(applied: Mapping[str, Write]) -> tuple[dict[str, int], list[str]]:
    """The place of each record in the list, counted from 1, and the places that were taken twice."""
    followers: dict[str, list[str]] = {}
    for write in applied.values():
        followers.setdefault(write.after, []).append(write.key)
    forks = [f"{' and '.join(sorted(keys))} both follow {after or 'nothing'}: one was lost or written over"
             for after, keys in sorted(followers.items()) if len(keys) > 1]  # fmt: skip
    places, edge, place = {"": 0}, [""], 0
    while edge:
        place += 1
        edge = [key for after in edge for key in followers.get(after, ()) if key not in places]
        places |= dict.fromkeys(edge, place)
    return places, forks


def _counts(reads: Sequence[Read], places: Mapping[str, int]) -> list[str]:
    return [
        f"a read found {read.count} records up to {read.last or 'nothing'}, where {places[read.last]} had been written"
        for read in reads
        if read.last in places and read.count != places[read.last]
    ]


def _disorder(applied: Mapping[str, Write], reads: Sequence[Read], places: Mapping[str, int]) -> list[str]:
    """Operations that show less than one that had ended before they began.

    A write's place is even, a read of the state after it is one more: so a read may not precede its own write either.
    """
    moves = [
        (write.began_s, write.ended_s if write.acknowledged else _NEVER, 2 * places[write.key], f"the write of {key}")
        for key, write in applied.items()
        if write.key in places
    ]
    moves += [
        (read.began_s, read.ended_s, 2 * places[read.last] + 1, f"a read of {read.last or 'nothing'}")
        for read in reads
        if read.last in places
    ]
    ended = sorted(moves, key=lambda move: move[1])
    found, done, highest, words = [], 0, -1, ""
    for began_s, _, place, what in sorted(moves):
        while ended[done][1] < began_s:
            if ended[done][2] > highest:
                highest, words = ended[done][2], ended[done][3]
            done += 1
        if place < highest:
            found.append(f"{what} began after {words} had ended, and shows an older list")
    return found
