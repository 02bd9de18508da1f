"""Invariant A: what was acknowledged is kept, in the API and on the disks of a StatefulSet's machines. Pure."""

from __future__ import annotations

from labctl.drills import linear, lives
from labctl.drills.findings import Case, Result, Said, some
from labctl.drills.history import History
from labctl.drills.records import ReadBack, ReadOnce, Wrote


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
        return (Result.UNKNOWN, why) if why else (Result.FAIL, f"of the StatefulSet's records: {some(list(lost))}")
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
            return Result.FAIL, some(broken)
        return Result.UNKNOWN, f"the records were not read back: {read[1].error if read else 'the drill ended early'}"
    if not acknowledged:
        return Result.UNKNOWN, f"none of {len(wrote)} writes was acknowledged: {wrote[-1][1].error}"
    began_s = read[0] if read[1].began_s is None else read[1].began_s
    lost = sorted({key for at_s, key in acknowledged if at_s <= began_s} - set(read[1].keys))
    strange = sorted(set(read[1].keys) - {record.key for _, record in wrote})
    if lost:
        return Result.FAIL, f"{len(lost)} of {len(acknowledged)} acknowledged writes are lost: {some(lost)}"
    if broken or strange:
        return Result.FAIL, some([*broken, *(f"{key} was read back, and nobody wrote it" for key in strange)])
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
