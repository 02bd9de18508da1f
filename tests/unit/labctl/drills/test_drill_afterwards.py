"""After the heal: the load goes on until every way has come back for good, and no longer than that can be told."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from labctl.drills.afterwards import not_back
from labctl.drills.history import History
from labctl.drills.measures import measure
from labctl.drills.records import Entry, FaultBegan, HealEnded, NodeSeen, Probed, Record, Wrote
from tests.unit.labctl.drills.drill_tales import SCENE, ZERO, node_tainted

FIRST, SECOND = "10.0.0.20", "10.0.0.21"
WAYS = (FIRST, SECOND)
STAGED = msgspec.structs.replace(SCENE, machines={"worker1": FIRST, "worker2": SECOND})
HEALED_S, TIMEOUT_S, QUIET_S = 8.0, 1.0, 3.0
Told = list[tuple[float, Record]]


def asked(until_s: float, *, lost: range = range(0)) -> Iterator[tuple[float, Record]]:
    """Ten requests a second from the fault on, by each way in turn; those `lost` (by number) by the first way fail."""
    for number in range(round(until_s * 10)):
        via, sent_s = WAYS[number % 2], number / 10
        ok = not (via == FIRST and number in lost)
        latency_s = 0.01 if ok else TIMEOUT_S
        at_s = sent_s + latency_s
        yield at_s, Probed(number=number, intended_s=ZERO + sent_s, latency_s=latency_s, via=via, ok=ok)


def known(records: Told, now_s: float) -> History:
    """What the runner knows by then: a request that is under way is not in its history."""
    told: Told = [(-8.0, STAGED), (0.0, FaultBegan(fault="stop it", nodes=("worker1",))), *records]
    told.append((HEALED_S, HealEnded(ok=True, evidence="")))
    return History([Entry(ZERO + at, "", what) for at, what in sorted(told, key=lambda pair: pair[0]) if at <= now_s])


def left(records: Told, now_s: float) -> tuple[str, ...]:
    return not_back(known(records, now_s), WAYS, ZERO + now_s, QUIET_S)


def back_s(records: Told) -> float:
    """When the drill would go on, looking ten times a second."""
    return next(tenths / 10 for tenths in range(round(HEALED_S * 10), 400) if not left(records, tenths / 10))


def test_where_nothing_failed_lately_one_answer_by_every_way_is_enough() -> None:
    assert left(list(asked(20, lost=range(10, 30))), HEALED_S) == (f"answers by {FIRST}", f"answers by {SECOND}")
    assert back_s(list(asked(20, lost=range(10, 30)))) == pytest.approx(HEALED_S + 0.2)


def test_a_proxy_that_still_syncs_is_waited_for_and_its_whole_window_is_measured() -> None:
    synced_s = HEALED_S + 2.5
    records = list(asked(30, lost=range(10, round(synced_s * 10))))
    assert back_s(records) == pytest.approx(synced_s - 0.1 + TIMEOUT_S + QUIET_S, abs=0.2)
    assert measure(known(records, back_s(records)), STAGED).fresh_again_s == pytest.approx(3.4)


def test_an_answer_between_failures_is_no_return() -> None:
    """Of three endpoints one is stale: every third request by that way fails, and only a timeout later is it known."""
    lost = range(10, round((HEALED_S + 2.5) * 10), 6)
    records = list(asked(30, lost=lost))
    early = known(records, HEALED_S + 0.9)
    assert any(probe.ok and probe.via == FIRST and probe.intended_s > ZERO + HEALED_S for _, probe in early.of(Probed))
    assert measure(known(records, HEALED_S + 2.0), STAGED).fresh_again_s == pytest.approx(1.8)  # judged too early
    assert measure(known(records, back_s(records)), STAGED).fresh_again_s == pytest.approx(3.0)


def test_a_way_that_never_answers_is_missing_to_the_end_and_it_alone() -> None:
    records = list(asked(60, lost=range(10, 600)))
    assert left(records, 59.0) == (f"answers by {FIRST}",)
    assert measure(known(records, 59.0), STAGED).fresh_again_s is None


def test_a_node_that_was_powered_off_for_good_is_not_waited_for() -> None:
    taken = msgspec.structs.replace(node_tainted("9"), fenced=True)
    fenced: Told = [(4.0, node_tainted("8")), (5.0, taken)]
    assert left([*asked(60, lost=range(10, 600)), *fenced], 20.0) == ()
    tainted: Told = [(4.0, NodeSeen(event="MODIFIED", rv="9", name="worker1", ready="Unknown", taints=taken.taints))]
    assert left([*asked(60, lost=range(10, 600)), *tainted], 20.0) == (f"answers by {FIRST}",)


def test_writes_are_waited_for_where_any_was_kept_before() -> None:
    def wrote(at_s: float, *, kept: bool) -> tuple[float, Record]:
        return at_s, Wrote(key=f"n{at_s}", acknowledged=kept)

    asks = list(asked(20))
    assert left([*asks, wrote(2.0, kept=False), wrote(9.0, kept=False)], 10.0) == ()
    assert left([*asks, wrote(2.0, kept=True), wrote(9.0, kept=False)], 10.0) == ("a write",)
    assert left([*asks, wrote(2.0, kept=True), wrote(9.0, kept=True)], 10.0) == ()


def test_before_the_heal_and_without_a_way_nothing_is_waited_for() -> None:
    assert left(list(asked(5)), 7.0) == ()
    assert not_back(known([], 10.0), (), ZERO + 10.0, QUIET_S) == ()
