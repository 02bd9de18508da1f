"""Sequenced records to a StatefulSet: what they say of its lives and its losses, and of nodes that were fenced."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from labctl.drills import identity, lives, views
from labctl.drills.catalog.kubelet_freeze import DRILL as FREEZE
from labctl.drills.catalog.worker_power_loss import DRILL
from labctl.drills.contract import identity_moves
from labctl.drills.findings import Result
from labctl.drills.history import History, Recorder
from labctl.drills.judge import judge
from labctl.drills.measures import measure
from labctl.drills.model import Report, Verdict
from labctl.drills.records import Entry, Logged, LogKept, NodeSeen, Probed, Scene
from labctl.kube.errors import AlreadyExists
from labctl.kube.fencing import CONDITION
from labctl.kube.resources import Resource
from labctl.kube.timing import FAST
from labctl.runtime.clock import SystemClock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop, wait_for
from labctl.runtime.shell import Output
from tests.unit.labctl.drills.drill_tales import SCENE, ZERO, Tale, node_tainted

CLOCK = SystemClock()
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


# -- the writer -------------------------------------------------------------------------------------------------------


class Pod(http.server.BaseHTTPRequestHandler):
    """Takes records as the StatefulSet's pod does, and names itself; at times it does not answer as it should."""

    kept: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        key = self.path.removeprefix("/cgi-bin/add?")
        broken = key.endswith("1")
        self.send_response(500 if broken else 200)
        self.end_headers()
        if not broken:
            self.kept.append(key)
            self.wfile.write(b"uid-1")

    def log_message(self, format: str, *args: object) -> None: ...


@dataclass
class Cluster:
    """Gives a Service its node port; what an earlier drill left is in the way once. Machines tell their files."""

    port: int
    left: bool = False
    made: list[tuple[str, Any]] = field(default_factory=list)
    slowness = 1.0

    @property
    def client(self) -> Cluster:
        return self

    def create(self, resource: Resource, body: Any, namespace: str = "") -> Any:
        if self.left:
            raise AlreadyExists("left by a drill that died")
        self.made.append((resource.plural, body))
        if resource.plural == "services" and self.port:
            body["spec"]["ports"][0]["nodePort"] = self.port
        return body

    def delete(self, resource: Resource, name: str, namespace: str = "", *, grace_s: int | None = None) -> None:
        self.left = False

    def within_reach(self, names: Sequence[str]) -> Sequence[str]:
        return names

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        if name == "worker2":
            raise LabError("no route to host")
        return Output(0, "".join(f"uid-1 {key}\n" for key in Pod.kept), "")


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pod)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Pod.kept.clear()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


NEAR = msgspec.structs.replace(STAGED, machines={"worker2": "127.0.0.1"})


def test_records_are_sent_one_by_one_and_each_answer_is_written_down(port: int, tmp_path: Path) -> None:
    recorder, stop, cluster = Recorder(tmp_path / "h", CLOCK), Stop(), Cluster(port, left=True)
    log = identity.Identity(cluster, NEAR, recorder, CLOCK, period_s=0.01)  # type: ignore[arg-type]
    log.deploy()
    assert [plural for plural, _ in cluster.made] == ["services", "statefulsets"]
    pod = cluster.made[1][1]["spec"]["template"]
    assert pod["metadata"]["annotations"] == {"labctl.dev/fencing": "power"}
    log.start(stop, 5.0)
    wait_for(lambda: len(Pod.kept) >= 5, what="five records", deadline_s=30.0, clock=CLOCK)
    stop.set()
    log.read_back()
    sent = [record for _, record in recorder.history().of(Logged)]
    assert [record.key for record in sent] == [f"s{number:06}" for number in range(len(sent))]
    assert [record.key for record in sent if record.life] == Pod.kept
    assert "HTTP 500" in sent[1].error
    kept = {look.node: look for _, look in recorder.history().of(LogKept)}
    assert kept["worker1"].keys == {"uid-1": tuple(Pod.kept)}
    assert kept["worker2"].error == "no route to host"


def test_a_service_without_a_node_port_is_no_load(tmp_path: Path) -> None:
    log = identity.Identity(Cluster(0), NEAR, Recorder(tmp_path / "h", CLOCK), CLOCK, period_s=1.0)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="no node port"):
        log.deploy()


def test_what_was_made_is_removed_and_so_are_the_records_of_every_machine() -> None:
    log = identity.Identity(Cluster(1), NEAR, None, CLOCK, period_s=1.0)  # type: ignore[arg-type]
    assert [action.text for action in reversed(log.cleanups)] == [
        f"delete statefulsets/{identity.NAME} in default", f"delete services/{identity.NAME} in default",
        "remove the drill's records from worker2", "remove the drill's records from worker1",
    ]  # fmt: skip


def test_drills_that_watch_pods_run_on_ask_for_an_identity_that_leaves_their_machine_powered() -> None:
    assert (DRILL.demand.stateful, FREEZE.demand.stateful) == ("power", "self")
