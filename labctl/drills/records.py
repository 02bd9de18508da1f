"""What a drill writes down: one typed record for everything that was done or seen. Data only.

Every record travels in an `Entry`, which carries this host's monotonic clock (the one axis of the whole drill,
shared by all processes of one boot) and a wall-clock stamp for people. Timestamps made by nodes are kept as text
and never subtracted from ours.
"""

from __future__ import annotations

import msgspec

LEADERS = "kube-system"  # the namespace of the leases by which schedulers and controller managers lead
LISTED = "LISTED"  # an object that was there when the stream opened; the other events are the watch's own


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Base: tagged, frozen, defaults left out on disk."""


class Scene(_Record, tag="scene", frozen=True):
    """The lab and the workload under test, as chosen before the fault."""

    nodes: tuple[str, ...]  # Node objects, by name
    victims: tuple[str, ...]
    namespace: str
    deployment: str
    service: str
    selector: dict[str, str]  # of the service: which pods are the workload's
    node_port: int
    replicas: int
    on_victims: int  # of the replicas, how many run on the victims
    machines: dict[str, str] = {}  # every machine's address, by name
    masters: tuple[str, ...] = ()  # those of them that run the control plane
    virtual_address: str = ""  # that one of several masters holds at a time
    pod_networks: dict[str, str] = {}  # a node's own, by its name
    answering: tuple[str, ...] = ()  # nodes that are reached all along: requests go by them
    identity: str = ""  # the StatefulSet's pod that takes sequenced records, namespace/name; "": this drill has none
    fencing: str = ""  # how that pod is released from a silent node (labctl/kube/fencing.py)
    log_on_disk: bool = True  # every machine can be asked for the records that the StatefulSet took there
    slowness: float = 1.0  # multiplies allowances for work (never the timers): 1 on hardware, more under emulation

    @property
    def survivors(self) -> tuple[str, ...]:
        """The nodes that the drill leaves alone."""
        return tuple(name for name in self.nodes if name not in self.victims)

    def covers(self, pod: PodSeen) -> bool:
        """Whether the pod belongs to the workload under test."""
        return pod.namespace == self.namespace and self.selector.items() <= pod.labels.items()

    def covers_slice(self, found: SliceSeen) -> bool:
        """Whether the slice belongs to the service under test."""
        return found.namespace == self.namespace and found.service == self.service


class Started(_Record, tag="started", frozen=True):
    """The first record of a history."""

    drill: str
    lab: str
    provider: str
    profile: str
    version: str
    pid: int


class PhaseBegan(_Record, tag="phase", frozen=True):
    """The runner enters prepare, steady, arm, fault, observe, heal, converge, judge or clean-up."""

    name: str


class Said(_Record, tag="said", frozen=True):
    """A remark for the reader of the timeline."""

    text: str


class FaultBegan(_Record, tag="fault-began", frozen=True):
    """The runner starts to inject; times of the report count from the first of these."""

    fault: str
    nodes: tuple[str, ...]


class FaultEnded(_Record, tag="fault-ended", frozen=True):
    """The injection returned; `took` says whether the fault was then confirmed."""

    fault: str
    took: bool
    evidence: str


class HealBegan(_Record, tag="heal-began", frozen=True):
    """Somebody (`runner` or `dead-man`) starts to undo; `why` in a few words."""

    by: str
    why: str


class HealEnded(_Record, tag="heal-ended", frozen=True):
    """The undo actions are through; convergence is judged separately."""

    ok: bool
    evidence: str


class Interrupted(_Record, tag="interrupted", frozen=True):
    """The drill did not run to its end: Ctrl-C, or the runner died."""

    why: str


class NodeSeen(_Record, tag="node", frozen=True):
    """A Node as the API showed it."""

    event: str
    rv: str
    name: str
    ready: str  # True, False, Unknown, or "" where there is no such condition
    reason: str = ""
    taints: tuple[str, ...] = ()  # key:effect
    pod_cidr: str = ""
    address: str = ""
    fenced: bool = False  # its machine was powered off, so that nothing may run there any more


class PodSeen(_Record, tag="pod", frozen=True):
    """A Pod as the API showed it."""

    event: str
    rv: str
    namespace: str
    name: str
    uid: str
    node: str = ""
    phase: str = ""
    ready: bool = False
    deleting: bool = False
    disruption: str = ""  # reason of the DisruptionTarget condition
    reason: str = ""  # of its phase, e.g. Evicted
    owner: str = ""  # Kind/name of the controller
    address: str = ""
    labels: dict[str, str] = {}
    tolerates_s: dict[str, int | None] = {}  # NoExecute taint key -> tolerationSeconds (None: for ever); "" is any key


class EndpointSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """One endpoint of a slice."""

    address: str
    node: str
    pod: str
    ready: bool
    serving: bool = False
    terminating: bool = False


class SliceSeen(_Record, tag="slice", frozen=True):
    """An EndpointSlice as the API showed it."""

    event: str
    rv: str
    namespace: str
    name: str
    service: str
    endpoints: tuple[EndpointSeen, ...] = ()


class LeaseSeen(_Record, tag="lease", frozen=True):
    """A node's Lease, or that of a leader, as the API showed it; `renewed` is its holder's stamp, kept as text."""

    event: str
    rv: str
    name: str
    renewed: str = ""
    namespace: str = "kube-node-lease"
    holder: str = ""


class StreamOpened(_Record, tag="stream-opened", frozen=True):
    """A list was taken (its objects follow as LISTED) and a watch starts at `rv`."""

    stream: str
    rv: str
    count: int


class StreamResumed(_Record, tag="stream-resumed", frozen=True):
    """The watch ended or broke and goes on from `rv`."""

    stream: str
    rv: str
    why: str = ""


class StreamLost(_Record, tag="stream-lost", frozen=True):
    """The server no longer knew the revision: events may be missing from here to the next StreamOpened."""

    stream: str
    why: str


class Replayed(_Record, tag="replayed", frozen=True):
    """The server's own account of a stream afterwards, read by a second watch from `from_rv`, up to `to_rv`."""

    stream: str
    from_rv: str
    to_rv: str
    events: tuple[str, ...] = ()  # "rv type key"
    error: str = ""


class Probed(_Record, tag="probe", frozen=True):
    """One request of the open-loop load; the entry's time is its end, `latency_s` counts from `intended_s`."""

    number: int
    intended_s: float
    latency_s: float
    via: str
    ok: bool
    status: int = 0
    error: str = ""


class Wrote(_Record, tag="wrote", frozen=True):
    """One write of the sequenced records; without an acknowledgement its effect is unknown, unless it was refused.

    The entry's time is its end. `after` is the record that it was to follow ("": none yet): the write is a
    compare-and-swap, so it may have taken effect only where that record was the newest.
    """

    key: str
    acknowledged: bool
    error: str = ""
    began_s: float | None = None
    after: str | None = None
    refused: bool = False  # the server said that it did nothing: a Conflict


class ReadOnce(_Record, tag="read", frozen=True):
    """One read of the sequenced records while they are written; the entry's time is its end."""

    began_s: float
    last: str = ""  # the newest record found; "": none
    count: int = 0
    error: str = ""


class ReadBack(_Record, tag="read-back", frozen=True):
    """The sequenced records found at the end."""

    keys: tuple[str, ...] = ()
    error: str = ""
    began_s: float | None = None


class Logged(_Record, tag="logged", frozen=True):
    """One sequenced record sent to the StatefulSet, one after the other; the entry's time is its end.

    `life` is the uid of the pod that acknowledged it: it lies on the disk of the pod's machine. "": no answer.
    """

    key: str
    began_s: float
    life: str = ""
    error: str = ""


class LogKept(_Record, tag="log-kept", frozen=True):
    """The StatefulSet's records as one machine's disk holds them at the end, by the uid of the pod that took them."""

    node: str
    keys: dict[str, tuple[str, ...]] = {}
    error: str = ""


class Container(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container of a pod, as its machine's runtime knows it."""

    id: str
    namespace: str
    pod: str
    uid: str
    name: str
    running: bool


class Counted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one machine really runs, asked inside it; `error` where it could not be asked."""

    node: str
    containers: tuple[Container, ...] = ()
    rule_addresses: tuple[str, ...] = ()  # IPv4 addresses that its packet rules name
    error: str = ""


class Sampled(_Record, tag="sampled", frozen=True):
    """One look into several machines at once; what one look shows running counts as running at the same time."""

    machines: tuple[Counted, ...]


class SetSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Deployment or StatefulSet: what is asked and what is reported."""

    kind: str
    namespace: str
    name: str
    desired: int
    updated: int = 0
    ready: int = 0
    available: int = 0
    observed: bool = True  # status.observedGeneration has reached metadata.generation


class Inspected(_Record, tag="inspected", frozen=True):
    """The whole lab at one moment, spec and status and machines side by side."""

    moment: str  # steady, or healed
    nodes: tuple[NodeSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()
    sets: tuple[SetSeen, ...] = ()
    slices: tuple[SliceSeen, ...] = ()
    machines: tuple[Counted, ...] = ()
    error: str = ""


Seen = NodeSeen | PodSeen | SliceSeen | LeaseSeen
Record = (
    Started | Scene | PhaseBegan | Said | FaultBegan | FaultEnded | HealBegan | HealEnded | Interrupted
    | NodeSeen | PodSeen | SliceSeen | LeaseSeen | StreamOpened | StreamResumed | StreamLost | Replayed
    | Probed | Wrote | ReadOnce | ReadBack | Logged | LogKept | Sampled | Inspected
)  # fmt: skip


class Entry(msgspec.Struct, frozen=True):
    """A record and when this host wrote it: monotonic seconds, and RFC 3339 for people."""

    t_s: float
    wall: str
    what: Record


def stream_of(seen: Seen) -> str:
    """The stream a sighting came from, named by its plural."""
    if isinstance(seen, LeaseSeen) and seen.namespace == LEADERS:
        return "leaders"
    names: dict[type, str] = {NodeSeen: "nodes", PodSeen: "pods", SliceSeen: "endpointslices", LeaseSeen: "leases"}
    return names[type(seen)]


def key_of(seen: Seen) -> str:
    """`namespace/name`, or the bare name of a Node."""
    return seen.name if isinstance(seen, NodeSeen) else f"{seen.namespace}/{seen.name}"
