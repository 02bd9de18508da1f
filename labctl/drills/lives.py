"""What the records sent to a StatefulSet say of its identity's lives, and of what was lost. Pure."""

from __future__ import annotations

import re

from labctl.drills.history import History
from labctl.drills.records import Logged, LogKept

_WHOLE = re.compile(r"s\d{6,}")  # a power cut may tear the last line; what is torn was not acknowledged


def taken(history: History) -> list[tuple[float, Logged]]:
    """The acknowledged records, each with the time at which its acknowledgement was in, in order."""
    return [(at_s, record) for at_s, record in history.of(Logged) if record.life]


def turned_back(history: History) -> tuple[str, ...]:
    """Records that an earlier pod of the identity took after a later one had, a sentence each: both lived then.

    The writer sends one record at a time, so acknowledgements have an order, and a life that is over cannot answer.
    """
    found, over, life = [], set[str](), ""
    for _, record in taken(history):
        if record.life in over:
            found.append(f"{record.key} was taken by pod {record.life}, though pod {life} had taken records before")
        elif record.life != life:
            over.add(life)
            life = record.life
    return tuple(found)


def lost(history: History) -> tuple[str, ...]:
    """Acknowledged records that no machine's disk holds, and records on a disk that nobody sent, a sentence each."""
    kept: dict[str, set[str]] = {}
    for _, look in history.of(LogKept):
        for life, keys in look.keys.items():
            kept.setdefault(life, set()).update(keys)
    sent = {record.key for _, record in history.of(Logged)}
    lives = {record.life for _, record in taken(history)}
    missing = [
        f"{record.key} was acknowledged by pod {record.life} and is on no disk"
        for _, record in taken(history)
        if record.key not in kept.get(record.life, ())
    ]
    found = {key for life in lives for key in kept.get(life, ()) if _WHOLE.fullmatch(key)}
    return (*missing, *(f"{key} is on a disk, and nobody sent it" for key in sorted(found - sent)))


def unread(history: History) -> str:
    """Why it cannot be told whether a record is lost; "" where it can."""
    looks = [look for _, look in history.of(LogKept)]
    if not looks:
        return "no machine was asked for the StatefulSet's records"
    return next((f"{look.node} was not asked for its records: {look.error}" for look in looks if look.error), "")
