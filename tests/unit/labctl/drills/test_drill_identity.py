"""Sequenced records to a StatefulSet: what they say of its lives and its losses, and of nodes that were fenced."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
import pytest

from labctl.drills import identity, lives, views
from labctl.drills.catalog.kubelet_freeze import DRILL as FREEZE
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.checkers import Result
from labctl.drills.contract import identity_moves
from labctl.drills.history import History
from labctl.drills.judge import judge
from labctl.drills.measures import measure
from labctl.drills.model import Report, Verdict
from labctl.drills.records import Entry, Logged, LogKept, NodeSeen, Probed, Scene
from labctl.kube.fencing import CONDITION
from labctl.kube.timing import FAST
from tests.unit.labctl.drills.drill_tales import SCENE, ZERO, Tale, node_tainted

STAGED = msgspec.structs.replace(
    SCENE,
    identity=f"default/{identity.POD}",
    fencing="power",
    machines={"worker1": "10.0.0.21", "worker2": "10.0.0.22"},
)
TAKEN = {-3.0: "old", -1.0: "old", 1.0: "", 3.0: "", 7.0: "new", 9.0: "new"}
KEPT = {"worker1": {"old": ("s000000", "s000001")}, "worker2": {"new": ("s000004", "s000005")}}


def told(taken: Mapping[float, str] = TAKEN, kept: Mapping[str, Mapping[str, tuple[str, ...]]] = KEPT) -> History:
    """A drill that went well, with these records: when answered, by whose life."""
    tale = Tale(stateful=True)
    for number, (at, life) in enumerate(taken.items()):
        record = Logged(key=f"s{number:06}", began_s=ZERO + at - 0.01, life=life, error="" if life else "timed out")
        tale.more.append((at, record))
    tale.more += [(tale.end - 0.05, LogKept(node=node, keys=dict(keys))) for node, keys in kept.items()]
    return History([msgspec.structs.replace(e, what=STAGED) if isinstance(e.what, Scene) else e for e in tale.tell()])


def judged(history: History) -> Report:
    return judge(history, DRILL, FAST)


def test_an_identity_that_moved_once_passes_and_is_measured() -> None:
    report = judged(told())
    assert report.verdict is Verdict.PASS, report.reasons
    assert report.measures.identity_again_s == 7.0
    assert "4 records that the StatefulSet acknowledged" in report.invariants["A"].evidence
    assert "2 pods took 4 records" in report.invariants["B"].evidence


def test_an_earlier_life_that_answers_again_is_a_doubled_identity() -> None:
    report = judged(told({**TAKEN, 10.0: "old"}, {**KEPT, "worker1": {"old": ("s000000", "s000001", "s000006")}}))
    assert report.invariants["B"].result is Result.FAIL
    assert "taken by pod old, though pod new" in report.invariants["B"].evidence


@pytest.mark.parametrize(
    "kept",
    [
        {**KEPT, "worker1": {"old": ("s000000",)}},  # the last one before the cut is gone
        {**KEPT, "worker1": {"new": ("s000000", "s000001")}},  # they are another pod's
        {**KEPT, "worker2": {"new": ("s000004", "s000005", "s000077")}},  # one that nobody sent
    ],
)
def test_a_record_that_is_lost_or_made_up_is_found(kept: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
    report = judged(told(kept=kept))
    assert report.invariants["A"].result is Result.FAIL, report.invariants["A"]


def test_what_a_machine_does_not_tell_is_unknown_and_a_torn_line_is_no_record() -> None:
    silent = [
        *told(kept={"worker2": KEPT["worker2"]}),
        Entry(ZERO + 19.9, "", LogKept(node="worker1", error="no route")),
    ]
    assert judged(History(silent)).invariants["A"].result is Result.UNKNOWN
    assert lives.lost(told(kept={**KEPT, "worker1": {"old": ("s000000", "s000001", "s00")}})) == ()


def test_an_identity_that_never_serves_again_breaks_the_contract() -> None:
    report = judged(told({at: life for at, life in TAKEN.items() if life != "new"}))
    assert [one.measure for one in report.contract if one.result == "fail"] == ["identity_again_s"]


def test_only_what_is_fenced_is_expected_to_move() -> None:
    assert identity_moves(FAST, SCENE) == ()
    assert identity_moves(FAST, msgspec.structs.replace(STAGED, fencing="none")) == ()
    [bound] = identity_moves(FAST, STAGED)
    assert bound.upper_s is not None
    assert bound.upper_s > FAST.node_monitor_grace_s + FAST.toleration_s


def test_requests_by_a_machine_that_the_cluster_powered_off_do_not_count() -> None:
    """Another StatefulSet of the lab had it fenced: from its taint on nobody is reached there."""
    tale = Tale(last_failure=4.2)
    fenced = msgspec.structs.replace(node_tainted(""), fenced=True)
    tale.more = [(5.6, fenced)]
    for number, at in enumerate((5.7, 7.0, 9.0)):
        lost = Probed(number=number, intended_s=ZERO + at, latency_s=0.01, via="10.0.0.99", ok=False, error="no route")
        tale.more.append((at + 0.01, lost))
    history = tale.tell()
    scene = msgspec.structs.replace(SCENE, machines={"worker1": "10.0.0.99"})
    staged = History([msgspec.structs.replace(e, what=scene) if isinstance(e.what, Scene) else e for e in history])
    assert measure(history, SCENE).requests_failed == measure(staged, scene).requests_failed + 3


def test_a_nodes_condition_says_that_it_was_fenced() -> None:
    def seen(status: str) -> NodeSeen:
        conditions = [{"type": "Ready", "status": "Unknown"}, {"type": CONDITION, "status": status}]
        raw = {"metadata": {"name": "worker1", "resourceVersion": "7"}, "status": {"conditions": conditions}}
        return views.node("MODIFIED", msgspec.Raw(json.dumps(raw).encode()))

    assert seen("True").fenced
    assert not seen("False").fenced


def test_drills_that_watch_pods_run_on_ask_for_an_identity_that_leaves_their_machine_powered() -> None:
    assert (DRILL.demand.stateful, FREEZE.demand.stateful) == ("power", "self")
