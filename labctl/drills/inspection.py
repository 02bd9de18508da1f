"""The whole lab at one moment, and what is wrong with it: spec against status against what the machines really run.

`take` asks, `differences` judges. The same judgement says whether a lab is steady enough to begin and, after the
heal, whether everything is as it should be (invariant E).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network

import msgspec

from labctl.drills import inside, views
from labctl.drills.history import History
from labctl.drills.records import Counted, Inspected, PodSeen, SetSeen
from labctl.drills.target import Target
from labctl.drills.workload import Workload
from labctl.kube.errors import ApiError
from labctl.kube.resources import DEPLOYMENTS, ENDPOINT_SLICES, NODES, PODS, STATEFUL_SETS

_ENDED = frozenset({"Succeeded", "Failed"})
_SILENT = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")


def take(target: Target, moment: str, *, machines: bool = True) -> Inspected:
    """Ask the API and, with `machines`, every node's runtime and packet rules; `error` where the API did not answer."""
    api, now = target.client, "NOW"
    try:
        nodes = tuple(views.node(now, raw) for raw in api.list(NODES).items)
        counted = inside.count_all(target, [node.name for node in nodes]) if machines else ()
        sets = [views.set_like("Deployment", raw) for raw in api.list(DEPLOYMENTS).items]
        sets += [views.set_like("StatefulSet", raw) for raw in api.list(STATEFUL_SETS).items]
        return Inspected(
            moment=moment,
            nodes=nodes,
            pods=tuple(views.pod(now, raw) for raw in api.list(PODS).items),
            sets=tuple(sets),
            slices=tuple(views.endpoint_slice(now, raw) for raw in api.list(ENDPOINT_SLICES).items),
            machines=counted,
        )
    except (ApiError, msgspec.MsgspecError) as error:
        return Inspected(moment=moment, error=str(error))


def differences(found: Inspected) -> tuple[str, ...]:
    """Everything that is not as it should be, a sentence each; empty when spec equals status. Pure."""
    if found.error:
        return (f"the API could not be asked: {found.error}",)
    return (
        *_nodes(found),
        *(_set(entry) for entry in found.sets if not settled(entry)),
        *_pods(found),
        *_endpoints(found),
        *_containers(found),
        *_rules(found),
    )


def steady_looks(history: History) -> Iterator[Inspected]:
    """How the lab was before the fault."""
    return (record for _, record in history.of(Inspected) if record.moment == "steady")


def unasked(found: Inspected) -> tuple[str, ...]:
    """The machines that could not be asked, a sentence each; what they run is unknown."""
    return tuple(f"{machine.node} could not be asked: {machine.error}" for machine in found.machines if machine.error)


def settled(entry: SetSeen) -> bool:
    """Whether a Deployment or StatefulSet reports what is asked of it."""
    return entry.observed and {entry.updated, entry.ready, entry.available} == {entry.desired}


def _nodes(found: Inspected) -> Iterator[str]:
    for node in found.nodes:
        if node.ready != "True":
            yield f"node {node.name} is not Ready ({node.ready or 'no condition'})"
        for taint in node.taints:
            if taint.startswith(_SILENT):
                yield f"node {node.name} is tainted {taint}"


def _set(entry: SetSeen) -> str:
    name = f"{entry.kind} {entry.namespace}/{entry.name}"
    if not entry.observed:
        return f"{name}: its controller has not seen the latest spec"
    return (
        f"{name}: {entry.desired} replicas asked, {entry.updated} updated, {entry.ready} ready, "
        f"{entry.available} available"
    )


def _pods(found: Inspected) -> Iterator[str]:
    nodes = {node.name for node in found.nodes}
    for pod in found.pods:
        if pod.node and pod.node not in nodes:
            yield f"pod {pod.namespace}/{pod.name} is bound to {pod.node}, which is not a node"
    yield from (text for _, text in _terminating(found))


def _terminating(found: Inspected) -> Iterator[tuple[PodSeen, str]]:
    for pod in found.pods:
        if pod.deleting:
            yield pod, f"pod {pod.namespace}/{pod.name} on {pod.node or 'no node'} is still terminating"


def _endpoints(found: Inspected) -> Iterator[str]:
    ready = {(pod.namespace, pod.name): pod.address for pod in found.pods if pod.ready and not pod.deleting}
    for entry in found.slices:
        for endpoint in entry.endpoints:
            if endpoint.pod and endpoint.ready and ready.get((entry.namespace, endpoint.pod)) != endpoint.address:
                yield f"slice {entry.namespace}/{entry.name}: {endpoint.address} is ready, but no ready pod has it"


def _containers(found: Inspected) -> Iterator[str]:
    """Containers without their pod, pods without their containers, and one container run twice."""
    pods = {pod.uid: pod for pod in found.pods}
    for machine in found.machines:
        if machine.error:
            continue
        running = Counter((entry.uid, entry.name) for entry in machine.containers if entry.running)
        for entry in machine.containers:
            pod = pods.get(entry.uid)
            if pod is None or pod.node != machine.node:
                state = "running" if entry.running else "dead"
                yield f"{machine.node}: orphan container {entry.id[:12]} ({state}) of pod {entry.namespace}/{entry.pod}"
        for (uid, name), number in running.items():
            if number > 1 and uid in pods:
                yield f"{machine.node}: container {name} of pod {pods[uid].name} runs {number} times"
        yield from _missing(machine, found.pods, {uid for uid, _ in running})


def _missing(machine: Counted, pods: Sequence[PodSeen], running: set[str]) -> Iterator[str]:
    for pod in pods:
        if pod.node == machine.node and pod.ready and not pod.deleting and pod.uid not in running:
            yield f"{machine.node}: pod {pod.namespace}/{pod.name} is Ready, but none of its containers runs"


def _rules(found: Inspected) -> Iterator[str]:
    """Packet rules that name an address of the pod network which no pod has."""
    networks = [IPv4Network(node.pod_cidr) for node in found.nodes if node.pod_cidr]
    # The first two addresses of a node's network are the network itself and its bridge.
    own = {str(network[number]) for network in networks for number in (0, 1)}
    held = {pod.address for pod in found.pods if pod.phase not in _ENDED} | own
    for machine in found.machines:
        for address in machine.rule_addresses:
            if address not in held and _within(address, networks):
                yield f"{machine.node}: a packet rule still names {address}, which no pod has"


def _within(address: str, networks: Sequence[IPv4Network]) -> bool:
    try:
        return any(IPv4Address(address) in network for network in networks)
    except ValueError:  # four numbers with dots that are no address
        return False


def unready(found: Inspected) -> tuple[str, ...]:
    """The nodes that are not as they should be, where no workload is there yet. Pure."""
    return (f"the API could not be asked: {found.error}",) if found.error else tuple(_nodes(found))


def blocking(found: Inspected, workload: Workload) -> tuple[str, ...]:
    """What forbids to begin a drill: a node or the workload under test is not as it should be. Pure."""
    if found.error:
        return (f"the API could not be asked: {found.error}",)
    name = (workload.namespace, workload.deployment)
    mine = [entry for entry in found.sets if entry.kind == "Deployment" and (entry.namespace, entry.name) == name]
    ready = sum(
        endpoint.ready
        for entry in found.slices
        if (entry.namespace, entry.service) == (workload.namespace, workload.service)
        for endpoint in entry.endpoints
    )
    wrong = [*_nodes(found), *(_set(entry) for entry in mine if not settled(entry))]
    if not mine:
        wrong.append(f"there is no Deployment {'/'.join(name)}")
    if ready != workload.replicas:
        wrong.append(f"service {workload.namespace}/{workload.service} has {ready} of {workload.replicas} endpoints")
    wrong += [text for pod, text in _terminating(found) if workload.covers(pod)]
    return tuple(wrong)
