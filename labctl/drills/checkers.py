"""The invariants A to F, each a pure function of the history. A checker that crashes has found nothing: unknown.

A verdict needs evidence, so every finding says in words what it rests on; without evidence it is unknown, never pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import msgspec

from labctl.drills import linear, lives
from labctl.drills.contract import Bound
from labctl.drills.history import History
from labctl.drills.inspection import differences, unasked
from labctl.drills.measures import Measures, condemned, ended_s, load
from labctl.drills.records import (
    LISTED,
    Counted,
    HealBegan,
    HealEnded,
    Inspected,
    LeaseSeen,
    NodeSeen,
    PodSeen,
    Probed,
    ReadBack,
    ReadOnce,
    Replayed,
    Sampled,
    Scene,
    SliceSeen,
    StreamLost,
    StreamOpened,
    Wrote,
    key_of,
    stream_of,
)


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


def writes_kept(case: Case) -> Said:
    """A: no acknowledged write lost, and every read in its place: the sequenced records are linearizable."""
    result, words = _api_writes_kept(case)
    sent = lives.taken(case.history)
    if not case.scene.identity or result is Result.FAIL:
        return result, words
    if not case.scene.log_on_disk:
        return result, f"{words}; the StatefulSet acknowledged {len(sent)} records: no disk can be asked for them"
    if lost := lives.lost(case.history):
        why = lives.unread(case.history)
        return (Result.UNKNOWN, why) if why else (Result.FAIL, f"of the StatefulSet's records: {_some(list(lost))}")
    if result is Result.PASS and not sent:
        return Result.UNKNOWN, f"{words}; the StatefulSet took none of its records"
    return (
        result,
        f"{words}; and {len(sent)} records that the StatefulSet acknowledged are on the disks of its machines",
    )


def _api_writes_kept(case: Case) -> Said:
    wrote = list(case.history.of(Wrote))
    if not wrote:
        return Result.NOT_APPLICABLE, "this drill writes no sequenced records"
    acknowledged = [(at_s, record.key) for at_s, record in wrote if record.acknowledged]
    broken = linear.violations(*_operations(case.history))
    read = case.history.last(ReadBack)
    if read is None or read[1].error:
        if broken:
            return Result.FAIL, _some(broken)
        return Result.UNKNOWN, f"the records were not read back: {read[1].error if read else 'the drill ended early'}"
    if not acknowledged:
        return Result.UNKNOWN, f"none of {len(wrote)} writes was acknowledged: {wrote[-1][1].error}"
    began_s = read[0] if read[1].began_s is None else read[1].began_s
    lost = sorted({key for at_s, key in acknowledged if at_s <= began_s} - set(read[1].keys))
    strange = sorted(set(read[1].keys) - {record.key for _, record in wrote})
    if lost:
        return Result.FAIL, f"{len(lost)} of {len(acknowledged)} acknowledged writes are lost: {_some(lost)}"
    if broken or strange:
        return Result.FAIL, _some([*broken, *(f"{key} was read back, and nobody wrote it" for key in strange)])
    unanswered = len(wrote) - len(acknowledged)
    reads = sum(not record.error for _, record in case.history.of(ReadOnce))
    return Result.PASS, (
        f"all {len(acknowledged)} acknowledged writes were read back; {unanswered} got no answer"
        + (f"; {reads} reads along the way were linearizable" if reads else "")
    )


def _operations(history: History) -> tuple[list[linear.Write], list[linear.Read]]:
    """The sequenced records as operations with a beginning and an end; those of older histories say too little."""
    writes = [
        linear.Write(one.key, one.after, one.began_s, at_s, acknowledged=one.acknowledged, refused=one.refused)
        for at_s, one in history.of(Wrote)
        if one.after is not None and one.began_s is not None
    ]
    if not writes:
        return [], []
    reads = [linear.Read(one.last, one.count, one.began_s, at_s) for at_s, one in history.of(ReadOnce) if not one.error]
    reads += [
        linear.Read(max(one.keys, default=""), len(one.keys), one.began_s, at_s)
        for at_s, one in history.of(ReadBack)
        if not one.error and one.began_s is not None
    ]
    return writes, reads


def one_per_identity(case: Case) -> Said:
    """B: at most one live container per StatefulSet identity, counted inside the machines."""
    owned = {
        (pod.namespace, pod.name)
        for _, pod in case.history.of(PodSeen)
        if pod.owner.startswith("StatefulSet/")
    }  # fmt: skip
    if not owned:
        return Result.NOT_APPLICABLE, "the lab runs no StatefulSet"
    looks = list(_looks(case.history))
    if not looks and not lives.turned_back(case.history):
        return Result.UNKNOWN, "no machine could be asked what it runs"
    spans: dict[tuple[str, str, str], dict[tuple[str, str], tuple[str, float, float]]] = {}
    for at_s, look in looks:
        for machine in look:
            for entry in machine.containers:
                if entry.running and (entry.namespace, entry.pod) in owned:
                    seen = spans.setdefault((entry.namespace, entry.pod, entry.name), {})
                    life = (machine.node, entry.id)  # a copied machine has the same ids
                    seen[life] = (machine.node, seen[life][1] if life in seen else at_s, at_s)
    doubled = [text for identity, seen in spans.items() for text in _overlaps(identity, seen)]
    doubled += lives.turned_back(case.history)
    if doubled:
        return Result.FAIL, f"doubled: {_some(doubled)}"
    words = f"{len(spans)} identities in {len(looks)} looks into the machines, none live twice at a time"
    if case.scene.identity:
        sent = lives.taken(case.history)
        words += (
            f"; {len({record.life for _, record in sent})} pods took {len(sent)} records of it, one after the other"
        )
    return Result.PASS, words


def error_window(case: Case) -> Said:
    """C: the service's error window."""
    sent, failed, window_s = case.measures.requests_sent, case.measures.requests_failed, case.measures.error_window_s
    bound = case.bounds.get("error_window_s")
    if not sent:
        return Result.UNKNOWN, "no request was sent"
    words = f"{failed} of {sent} requests failed, over {window_s:.2f} s"
    if bound is None or bound.upper_s is None:
        return Result.NOT_APPLICABLE, f"{words}; this drill sets no bound"
    if window_s > bound.upper_s:
        errors = sorted({probe.error for probe in load(case.history) if not probe.ok})
        return Result.FAIL, f"{words}; the contract allows {bound.upper_s:.2f} s ({_some(errors)})"
    last_s = max(ended_s(probe) for _, probe in case.history.of(Probed))
    healed = case.history.last(HealEnded)
    if healed is not None and last_s < healed[0]:
        return Result.UNKNOWN, f"{words}, but the requests stopped before the heal was through"
    return Result.PASS, f"{words}; the contract allows {bound.upper_s:.2f} s"


def no_overlap(case: Case) -> Said:
    """D: seconds in which a pod that had been given up still ran."""
    gone = {uid: (at_s, pod) for uid, (at_s, pod) in condemned(case.history, case.scene).items() if at_s is not None}
    if not gone:
        return Result.NOT_APPLICABLE, "no pod was given up"
    heal = case.history.first(HealBegan)
    looks = [(at_s, look) for at_s, look in _looks(case.history) if heal and at_s >= heal[0]]
    asked = {machine.node for _, look in looks for machine in look if not machine.error}
    if missing := sorted({pod.node for _, pod in gone.values()} - asked):
        return Result.UNKNOWN, f"{', '.join(missing)} could not be asked after the heal"
    ran: dict[str, list[float]] = {}
    for at_s, look in looks:
        for machine in look:
            for entry in machine.containers:
                if entry.running and entry.uid in gone and at_s > gone[entry.uid][0]:
                    ran.setdefault(entry.uid, []).append(at_s)
    if ran:
        worst_s = max(times[-1] - times[0] for times in ran.values())
        names = sorted(f"{gone[uid][1].name} on {gone[uid][1].node}" for uid in ran)
        return Result.FAIL, f"given up, yet running after the heal, for at least {worst_s:.1f} s: {_some(names)}"
    return Result.PASS, f"0 s: none of {len(gone)} given-up pods was seen running in {len(looks)} looks after the heal"


def spec_is_status(case: Case) -> Said:
    """E: after the heal spec equals status, with no orphan container and no leftover rule."""
    looks = [record for _, record in case.history.of(Inspected)]
    healed = [look for look in looks if look.moment == "healed"]
    if not healed:
        return Result.UNKNOWN, "the lab was not inspected after the heal"
    before = {text for look in looks if look.moment == "steady" for text in differences(look)}
    left = [text for text in differences(healed[-1]) if text not in before]
    if healed[-1].error:
        return Result.UNKNOWN, left[0] if left else healed[-1].error
    if left:
        return Result.FAIL, _some(left, 6)
    if silent := unasked(healed[-1]):
        return Result.UNKNOWN, _some(list(silent))
    containers = sum(len(machine.containers) for machine in healed[-1].machines)
    return Result.PASS, (
        f"{len(healed[-1].pods)} pods and {containers} containers on {len(healed[-1].machines)} machines agree; "
        "no orphan, no leftover rule"
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
        return Result.FAIL, _some(gaps)
    if unknown:
        return Result.UNKNOWN, _some(unknown)
    return Result.PASS, f"{checked} events on {len(streams)} watches, all received once and in order"


CHECKERS: Mapping[str, tuple[str, Checker]] = {
    "A": ("No acknowledged write lost", writes_kept),
    "B": ("At most one live container per StatefulSet identity", one_per_identity),
    "C": ("The service's error window is within its bound", error_window),
    "D": ("No pod runs on after it was given up", no_overlap),
    "E": ("After the heal, spec equals status; no orphans", spec_is_status),
    "F": ("Watches have no gap", watches_whole),
}


def check_all(case: Case, checkers: Mapping[str, tuple[str, Checker]] = CHECKERS) -> dict[str, Finding]:
    """Every invariant's finding, by its letter."""
    return {letter: _guarded(title, checker, case) for letter, (title, checker) in checkers.items()}


def _guarded(title: str, checker: Checker, case: Case) -> Finding:
    try:
        return Finding(title, *checker(case))
    except Exception as error:  # whatever it is, it must not become a pass
        return Finding(title, Result.UNKNOWN, f"the checker failed: {type(error).__name__}: {error}")


def _looks(history: History) -> Iterator[tuple[float, tuple[Counted, ...]]]:
    """Every look into machines, those of the inspections included."""
    for entry in history:
        if isinstance(entry.what, Sampled | Inspected) and any(not one.error for one in entry.what.machines):
            yield entry.t_s, entry.what.machines


def _overlaps(
    identity: tuple[str, str, str], lives: Mapping[tuple[str, str], tuple[str, float, float]]
) -> Iterator[str]:
    """Two containers of one identity, each seen running while the other was."""
    ordered = sorted(lives.values(), key=lambda life: life[1])
    for earlier, later in pairwise(ordered):
        if later[1] <= earlier[2]:
            yield f"{'/'.join(identity)} on {earlier[0]} and {later[0]}"


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


def _some(items: list[str], most: int = 3) -> str:
    more = f"; and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more
