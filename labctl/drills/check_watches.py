"""Invariant F: each watch told every event once, in order, by the server's own account. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.drills.findings import Case, Result, Said, some
from labctl.drills.history import History
from labctl.drills.records import (
    LISTED,
    LeaseSeen,
    NodeSeen,
    PodSeen,
    Replayed,
    SliceSeen,
    StreamLost,
    StreamOpened,
    key_of,
    stream_of,
)


def watches_whole(case: Case) -> Said:
    """F: no watch lost, doubled or reordered an event, by the server's own account afterwards."""
    replays = [record for _, record in case.history.of(Replayed)]
    streams = sorted({record.stream for _, record in case.history.of(StreamOpened)})
    if not streams:
        return Result.UNKNOWN, "nothing was watched"
    gaps = [text for stream in streams for text in _disorder(case.history, stream)]
    unknown = [f"{record.stream}: {record.why}" for _, record in case.history.of(StreamLost)]
    unknown += [f"{stream}: no second account" for stream in sorted(set(streams) - {one.stream for one in replays})]
    checked = 0
    for replay in replays:
        if replay.error:
            unknown.append(f"{replay.stream}: {replay.error}")
            continue
        told, received = set(replay.events), set(_received(case.history, replay))
        gaps += [f"{replay.stream}: never received {event}" for event in sorted(told - received)]
        gaps += [f"{replay.stream}: the server does not know {event}" for event in sorted(received - told)]
        checked += len(told)
    if gaps:
        return Result.FAIL, some(gaps)
    if unknown:
        return Result.UNKNOWN, some(unknown)
    return Result.PASS, f"{checked} events on {len(streams)} watches, all received once and in order"


def _disorder(history: History, stream: str) -> Iterator[str]:
    """Events out of order or doubled, objects changed before they were added."""
    last_rv, known = 0, set[str]()
    for entry in history:
        what = entry.what
        if isinstance(what, StreamOpened) and what.stream == stream:
            last_rv, known = int(what.rv or 0), set()
        if not isinstance(what, NodeSeen | PodSeen | SliceSeen | LeaseSeen) or stream_of(what) != stream:
            continue
        key = key_of(what)
        if what.event == LISTED:
            known.add(key)
            continue
        if int(what.rv) <= last_rv:
            yield f"{stream}: {key} at {what.rv} came after {last_rv}"
        last_rv = int(what.rv)
        if (what.event == "ADDED") == (key in known):
            yield f"{stream}: {key} {what.event} at {what.rv}, {'known' if key in known else 'never added'} before"
        (known.discard if what.event == "DELETED" else known.add)(key)


def _received(history: History, replay: Replayed) -> Iterator[str]:
    low, high = int(replay.from_rv or 0), int(replay.to_rv or 0)
    for entry in history:
        what = entry.what
        if not isinstance(what, NodeSeen | PodSeen | SliceSeen | LeaseSeen) or stream_of(what) != replay.stream:
            continue
        if what.event != LISTED and low < int(what.rv) <= high:
            yield f"{what.rv} {what.event} {key_of(what)}"
