"""Histories made by hand: a drill that went well under the `fast` profile, and ways for it to go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from labctl.drills.history import History
from labctl.drills.records import (
    Container,
    Counted,
    EndpointSeen,
    Entry,
    FaultBegan,
    FaultEnded,
    HealBegan,
    HealEnded,
    Inspected,
    LeaseSeen,
    NodeSeen,
    PhaseBegan,
    PodSeen,
    Probed,
    ReadBack,
    ReadOnce,
    Record,
    Replayed,
    Sampled,
    Scene,
    SetSeen,
    SliceSeen,
    Started,
    StreamOpened,
    Wrote,
    key_of,
    stream_of,
)

ZERO = 100.0
LABELS = {"app": "web"}
UNREACHABLE = "node.kubernetes.io/unreachable"
SCENE = Scene(
    nodes=("worker1", "worker2"),
    victims=("worker1",),
    namespace="default",
    deployment="web",
    service="web",
    selector=LABELS,
    node_port=30080,
    replicas=3,
    on_victims=2,
)
STARTED = Started(drill="worker-power-loss", lab="lab", provider="lxc", profile="fast", version="0.1.0", pid=1)
TOLERATES = {UNREACHABLE: 1, "node.kubernetes.io/not-ready": 1}


@dataclass
class Tale:
    """When what happened, in seconds from the power cut; a test bends one figure and tells it again."""

    last_lease: float = -0.4
    detected: float = 4.2
    endpoint_removed: float = 4.3
    tainted: float = 4.25
    evicted: float = 5.3
    rescheduled: float = 6.8
    serving: float = 6.9
    last_failure: float = 4.4
    heal: float = 11.0
    healed: float = 13.0
    ready_again: float = 15.0
    end: float = 20.0
    cut_took: float = 0.1
    took: bool = True
    heal_ok: bool = True
    converged: bool = True
    written: tuple[str, ...] = ("n000000", "n000001", "n000002")
    read: tuple[str, ...] = ("n000000", "n000001", "n000002")
    more: list[tuple[float, Record]] = field(default_factory=list)
    without: tuple[type, ...] = ()
    stateful: bool = False  # a StatefulSet's pod runs on worker1, and on worker2 from `rescheduled` on
    _told: list[tuple[float, Record]] = field(default_factory=list)

    def tell(self) -> History:
        """The history."""
        self._told = []
        self._before()
        self._during()
        self._after()
        self._load()
        records = [*self._told, *self.more]
        records.sort(key=lambda pair: pair[0])
        records = [
            (at, _revised(what, 1_001 + number))
            for number, (at, what) in enumerate(records)
            if not isinstance(what, self.without)
        ]
        events = [what for _, what in records if isinstance(what, NodeSeen | PodSeen | SliceSeen | LeaseSeen)]
        for stream in ("nodes", "pods", "endpointslices", "leases"):
            told = tuple(
                f"{e.rv} {e.event} {key_of(e)}" for e in events if stream_of(e) == stream and e.event != "LISTED"
            )
            records.append((self.end, Replayed(stream=stream, from_rv="1000", to_rv="999999", events=told)))
        return History([Entry(ZERO + at, "2026-01-31T08:00:00.000000Z", what) for at, what in records])

    def _at(self, at: float, what: Record) -> None:
        self._told.append((at, what))

    def _before(self) -> None:
        self._at(-9, STARTED)
        self._at(-9, PhaseBegan(name="steady"))
        self._at(-8, SCENE)
        for stream in ("nodes", "pods", "endpointslices", "leases"):
            self._at(-8, StreamOpened(stream=stream, rv="1000", count=2))
        for name in SCENE.nodes:
            self._at(-8, NodeSeen(event="LISTED", rv="900", name=name, ready="True"))
            self._at(-8, LeaseSeen(event="LISTED", rv="901", name=name))
        for name, node in (("web-a", "worker1"), ("web-b", "worker1"), ("web-c", "worker2")):
            self._at(-8, pod(name, node, event="LISTED", rv="902", ready=True))
        self._at(-8, slices("903", "LISTED", ("web-a", "worker1"), ("web-b", "worker1"), ("web-c", "worker2")))
        self._at(self.last_lease, LeaseSeen(event="MODIFIED", rv="", name="worker1"))
        self._at(-1, inspected("steady", "worker1", "worker1", "worker2"))
        for number, key in enumerate(self.written):
            began_s, after = ZERO - 2.01 + number, self.written[number - 1] if number else ""
            self._at(-2 + number, Wrote(key=key, acknowledged=True, began_s=began_s, after=after))
            self._at(-1.5 + number, ReadOnce(began_s=ZERO - 1.51 + number, last=key, count=number + 1))

    def _during(self) -> None:
        self._at(0, FaultBegan(fault="cut the power of worker1", nodes=("worker1",)))
        evidence = "worker1 is off and silent" if self.took else "worker1 still answers"
        self._at(self.cut_took, FaultEnded(fault="cut the power of worker1", took=self.took, evidence=evidence))
        unknown = NodeSeen(event="MODIFIED", rv="", name="worker1", ready="Unknown", reason="NodeStatusUnknown")
        self._at(self.detected, unknown)
        self._at(self.tainted, node_tainted(""))
        self._at(self.endpoint_removed, slices("", "MODIFIED", ("web-c", "worker2")))
        for name in ("web-a", "web-b"):
            self._at(self.evicted, pod(name, "worker1", rv="", deleting=True))
        for name in ("web-d", "web-e"):
            self._at(self.evicted + 0.05, pod(name, "", event="ADDED", rv=""))
            self._at(self.evicted + 0.1, pod(name, "worker2", rv=""))
        for name in ("web-d", "web-e"):
            self._at(self.rescheduled, pod(name, "worker2", rv="", ready=True))
        full = (("web-c", "worker2"), ("web-d", "worker2"), ("web-e", "worker2"))
        self._at(self.serving, slices("", "MODIFIED", *full))

    def _after(self) -> None:
        self._at(self.heal, HealBegan(by="runner", why="the drill is through"))
        evidence = "worker1 is powered on and answers" if self.heal_ok else "power worker1 on: failed: no such machine"
        self._at(self.healed, HealEnded(ok=self.heal_ok, evidence=evidence))
        if self.converged:
            self._at(self.ready_again, NodeSeen(event="MODIFIED", rv="", name="worker1", ready="True"))
            for name in ("web-a", "web-b"):
                self._at(self.ready_again + 0.5, pod(name, "worker1", event="DELETED", rv="", deleting=True))
            self._at(self.ready_again + 1, Sampled(machines=(Counted(node="worker1"), Counted(node="worker2"))))
            self._at(self.ready_again + 2, inspected("healed", "worker2", "worker2", "worker2"))
        self._at(self.end - 0.1, ReadBack(keys=self.read, began_s=ZERO + self.end - 0.11))
        if self.stateful:
            self._identity()

    def _identity(self) -> None:
        owned = pod("db-0", "worker1", event="LISTED", rv="904", ready=True, owner="StatefulSet/db")
        self._at(-8, msgspec.structs.replace(owned, labels={}))
        for at, node, id in ((-4, "worker1", "old"), (-2, "worker1", "old"), (self.rescheduled, "worker2", "new")):
            self._at(at, Sampled(machines=(Counted(node=node, containers=(container("db-0", id=id),)),)))

    def _load(self) -> None:
        """20 requests a second; while the dead endpoints are listed every third one fails after a second."""
        for number in range(round((self.end - 0.5 + 3) * 20)):
            intended = -3 + number / 20
            failed = number % 3 == 0 and 0 <= intended <= self.last_failure - 1.0
            latency = 1.0 if failed else 0.004
            self._at(
                intended + latency,
                Probed(
                    number=number,
                    intended_s=ZERO + intended,
                    latency_s=latency,
                    via="10.0.0.21",
                    ok=not failed,
                    status=0 if failed else 200,
                    error="timeout" if failed else "",
                ),
            )


def _revised(what: Record, rv: int) -> Record:
    """Sightings without a revision get one that follows the order of time."""
    if isinstance(what, NodeSeen | PodSeen | SliceSeen | LeaseSeen) and not what.rv:
        return msgspec.structs.replace(what, rv=str(rv))
    return what


def node_tainted(rv: str) -> NodeSeen:
    """worker1, Unknown and tainted."""
    taints = (f"{UNREACHABLE}:NoSchedule", f"{UNREACHABLE}:NoExecute")
    return NodeSeen(event="MODIFIED", rv=rv, name="worker1", ready="Unknown", taints=taints)


def pod(
    name: str,
    node: str,
    *,
    event: str = "MODIFIED",
    rv: str = "1",
    ready: bool = False,
    deleting: bool = False,
    owner: str = "",
) -> PodSeen:
    """A pod of the workload."""
    return PodSeen(
        event=event,
        rv=rv,
        namespace="default",
        name=name,
        uid=f"uid-{name}",
        node=node,
        phase="Running" if ready else "Pending",
        ready=ready,
        deleting=deleting,
        owner=owner or "ReplicaSet/web-1",
        address=f"10.244.0.{ord(name[-1])}",
        labels=LABELS,
        tolerates_s=dict(TOLERATES),
    )


def slices(rv: str, event: str, *endpoints: tuple[str, str]) -> SliceSeen:
    """The service's slice, with these (pod, node) ready."""
    ready = tuple(
        EndpointSeen(address=f"10.244.0.{ord(name[-1])}", node=node, pod=name, ready=True) for name, node in endpoints
    )
    return SliceSeen(event=event, rv=rv, namespace="default", name="web-1", service="web", endpoints=ready)


def container(name: str, *, running: bool = True, id: str = "") -> Container:
    """The one container of a pod of that name."""
    return Container(
        id=id or f"id-{name}", namespace="default", pod=name, uid=f"uid-{name}", name="web", running=running
    )


def inspected(moment: str, *nodes: str) -> Inspected:
    """A lab in order: the three pods of the workload on these nodes."""
    pods = [pod(f"web-{letter}", node, event="NOW", ready=True) for letter, node in zip("cde", nodes, strict=True)]
    return Inspected(
        moment=moment,
        nodes=tuple(
            NodeSeen(event="NOW", rv="1", name=name, ready="True", pod_cidr=f"10.244.{number}.0/24")
            for number, name in enumerate(SCENE.nodes)
        ),
        pods=tuple(pods),
        sets=(SetSeen(kind="Deployment", namespace="default", name="web", desired=3, updated=3, ready=3, available=3),),
        slices=(slices("1", "NOW", *((one.name, one.node) for one in pods)),),
        machines=tuple(
            Counted(node=name, containers=tuple(container(one.name) for one in pods if one.node == name))
            for name in SCENE.nodes
        ),
    )
