"""Any right history, spoiled in any of these ways, is no pass; and it is the checker concerned that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.findings import Result
from labctl.drills.history import History
from labctl.drills.judge import judge
from labctl.drills.model import Report, Verdict
from labctl.drills.records import (
    Counted,
    Entry,
    HealBegan,
    HealEnded,
    Inspected,
    LeaseSeen,
    NodeSeen,
    PodSeen,
    Probed,
    ReadBack,
    ReadOnce,
    Record,
    Sampled,
    SliceSeen,
    Wrote,
)
from labctl.kube.timing import FAST
from tests.unit.labctl.drills.drill_tales import ZERO, Tale, container, slices

Spoiler = Callable[[list[Entry], st.DataObject], list[Entry]]
FEW = settings(
    max_examples=20, deadline=None, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@st.composite
def tales(draw: st.DrawFn) -> Tale:
    """Drills that go by the contract, each with its own timing, number of writes and load."""
    part = st.floats(0.0, 1.0)
    detected = 4.0 + 1.2 * draw(part)
    tainted = detected + 0.3 * draw(part)
    evicted = tainted + 1.01 + 0.2 * draw(part)
    rescheduled = evicted + 0.2 + 2.0 * draw(part)
    serving = rescheduled + 0.01 + 0.2 * draw(part)
    keys = tuple(f"n{number:06}" for number in range(draw(st.integers(2, 8))))
    return Tale(
        last_lease=-0.9 * draw(part) - 0.01,
        detected=detected,
        endpoint_removed=detected + 0.01 + 0.2 * draw(part),
        tainted=tainted,
        evicted=evicted,
        rescheduled=rescheduled,
        serving=serving,
        last_failure=detected,
        heal=serving + 3,
        healed=serving + 3.5 + draw(part),
        ready_again=serving + 5,
        end=serving + 9,
        written=keys,
        read=keys,
        stateful=True,
    )


def put(entries: list[Entry], at_s: float, what: Record) -> list[Entry]:
    """With one entry more, in its place."""
    return sorted([*entries, Entry(at_s, "2026-01-31T08:00:00.000000Z", what)], key=lambda entry: entry.t_s)


def only(entries: list[Entry], *kinds: type) -> list[Entry]:
    return [entry for entry in entries if isinstance(entry.what, kinds)]


def changed(entries: list[Entry], old: Entry, **fields: object) -> list[Entry]:
    new = msgspec.structs.replace(old, what=msgspec.structs.replace(old.what, **fields))
    return [new if entry is old else entry for entry in entries]


def lose_a_write(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    back = only(entries, ReadBack)[0]
    assert isinstance(back.what, ReadBack)
    lost = data.draw(st.sampled_from(back.what.keys))
    return changed(entries, back, keys=tuple(key for key in back.what.keys if key != lost))


def read_back_what_nobody_wrote(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    back = only(entries, ReadBack)[0]
    assert isinstance(back.what, ReadBack)
    return changed(entries, back, keys=(*back.what.keys, f"x{data.draw(st.integers(0, 9))}"))


def read_an_older_list(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    read = data.draw(st.sampled_from(only(entries, ReadOnce)))
    assert isinstance(read.what, ReadOnce)
    keys = [
        one.what.key for one in only(entries, Wrote) if isinstance(one.what, Wrote) and one.what.key < read.what.last
    ]
    older = data.draw(st.integers(0, len(keys)))  # one of the earlier states; none at all is the first
    return changed(entries, read, last=keys[older - 1] if older else "", count=older)


def take_one_place_twice(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    wrote = only(entries, Wrote)
    number = data.draw(st.integers(1, len(wrote) - 1))
    earlier = wrote[number - 1].what
    assert isinstance(earlier, Wrote)
    return changed(entries, wrote[number], after=earlier.after)


def do_what_was_refused(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    return changed(entries, data.draw(st.sampled_from(only(entries, Wrote))), acknowledged=False, refused=True)


def double_an_identity(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    at_s = ZERO + data.draw(st.floats(-3.9, -2.1))  # while the old one is known to run
    return put(entries, at_s, _runs("worker2", "db-0", "another"))


def copy_a_machine(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    """The very same container, by its id, on a second machine."""
    at_s = ZERO + data.draw(st.floats(-3.9, -2.1))
    return put(entries, at_s, _runs("worker2", "db-0", "old"))


def restart_the_old_identity(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    began_s = next(entry.t_s for entry in only(entries, Sampled) if "new" in str(entry.what))
    return put(entries, began_s + data.draw(st.floats(0.0, 3.0)), _runs("worker1", "db-0", "old"))


def run_on_after_the_end(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    heal_s = only(entries, HealBegan)[0].t_s
    return put(entries, heal_s + data.draw(st.floats(0.01, 5.0)), _runs("worker1", data.draw(_VICTIMS), ""))


def keep_failing(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    at_s = ZERO + data.draw(st.floats(8.0, 15.0))
    failed = Probed(number=9_999, intended_s=at_s, latency_s=0.5, via="10.0.0.21", ok=False, error="timeout")
    return put(entries, at_s + 0.5, failed)


def skip_an_event(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    told = [one for one in only(entries, NodeSeen, PodSeen, SliceSeen, LeaseSeen) if _event(one) != "LISTED"]
    skipped = data.draw(st.sampled_from(told))
    return [entry for entry in entries if entry is not skipped]


def tell_an_event_twice(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    told = [one for one in only(entries, NodeSeen, PodSeen, SliceSeen, LeaseSeen) if _event(one) != "LISTED"]
    again = data.draw(st.sampled_from(told))
    return put(entries, again.t_s + data.draw(st.floats(0.0, 2.0)), again.what)


def leave_an_endpoint(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    """The victim's endpoint is in every slice after the fault, and in the last look at the lab."""
    stale = data.draw(_VICTIMS)
    added = slices("1", "NOW", (stale, "worker1")).endpoints
    for entry in list(entries):
        match entry.what:
            case SliceSeen(event="MODIFIED", endpoints=endpoints):
                entries = changed(entries, entry, endpoints=(*endpoints, *added))
            case Inspected(moment="healed", slices=(one,)):
                more = msgspec.structs.replace(one, endpoints=(*one.endpoints, *added))
                entries = changed(entries, entry, slices=(more,))
    return entries


def leave_a_container(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    return _left(entries, Counted(node="worker1", containers=(container("ghost", running=data.draw(st.booleans())),)))


def leave_a_rule(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    return _left(entries, Counted(node="worker1", rule_addresses=(f"10.244.1.{data.draw(st.integers(200, 250))}",)))


def never_heal(entries: list[Entry], data: st.DataObject) -> list[Entry]:
    kinds = data.draw(st.sampled_from([(HealEnded,), (HealBegan, HealEnded)]))
    return [entry for entry in entries if not isinstance(entry.what, kinds)]


_VICTIMS = st.sampled_from(["web-a", "web-b"])


def _event(entry: Entry) -> str:
    return str(getattr(entry.what, "event", ""))


def _runs(node: str, name: str, id: str) -> Sampled:
    return Sampled(machines=(Counted(node=node, containers=(container(name, id=id),)),))


def _left(entries: list[Entry], more: Counted) -> list[Entry]:
    look = next(one for one in only(entries, Inspected) if getattr(one.what, "moment", "") == "healed")
    assert isinstance(look.what, Inspected)
    machines = tuple(one if one.node != more.node else more for one in look.what.machines)
    return changed(entries, look, machines=machines)


@dataclass(frozen=True)
class Wrong:
    """A way to spoil a history, and what must not pass then: invariants by letter, bounds by measure."""

    spoil: Spoiler
    concerned: str


WRONGS = [
    Wrong(lose_a_write, "A"),
    Wrong(read_back_what_nobody_wrote, "A"),
    Wrong(read_an_older_list, "A"),
    Wrong(take_one_place_twice, "A"),
    Wrong(do_what_was_refused, "A"),
    Wrong(double_an_identity, "B"),
    Wrong(copy_a_machine, "B"),
    Wrong(restart_the_old_identity, "B"),
    Wrong(keep_failing, "C"),
    Wrong(run_on_after_the_end, "D"),
    Wrong(leave_an_endpoint, "E"),
    Wrong(leave_an_endpoint, "endpoint_removed_s"),
    Wrong(leave_a_container, "E"),
    Wrong(leave_a_rule, "E"),
    Wrong(skip_an_event, "F"),
    Wrong(tell_an_event_twice, "F"),
    Wrong(never_heal, ""),
]


def judged(entries: list[Entry]) -> Report:
    return judge(History(entries), DRILL, FAST)


@FEW
@given(tales())
def test_a_drill_that_keeps_every_promise_passes_whatever_its_timing(tale: Tale) -> None:
    report = judged(list(tale.tell()))
    assert report.verdict is Verdict.PASS, report.reasons
    assert {one.result for one in report.invariants.values()} == {Result.PASS}


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: f"{wrong.spoil.__name__}-{wrong.concerned}")
@FEW
@given(tale=tales(), data=st.data())
def test_a_spoiled_history_is_caught_by_the_checker_concerned(wrong: Wrong, tale: Tale, data: st.DataObject) -> None:
    report = judged(wrong.spoil(list(tale.tell()), data))
    assert report.verdict is not Verdict.PASS
    failed = {letter for letter, one in report.invariants.items() if one.result is Result.FAIL}
    failed |= {one.measure for one in report.contract if one.result == "fail"}
    assert not wrong.concerned or wrong.concerned in failed, report.invariants
